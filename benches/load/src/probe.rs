//! Asks the server with OPTIONS at a steady rate, beside everything else: how long do other requests wait?
use crate::latency::Latencies;
use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an answer may take before it counts as lost; lost ones count with this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running probe.
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<(Latencies, usize)>>,
}

impl Probe {
    /// Starts to ask, `rate` times a second.
    pub fn start(server: SocketAddr, rate: u32) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        Probe { stop, thread: std::thread::spawn(move || ask(server, rate.max(1), &seen)) }
    }

    /// Stops asking and tells how long the answers took.
    pub fn stop(self) -> Value {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(Ok((mut latencies, lost))) => {
                let mut summary = latencies.summary();
                summary["lost"] = lost.into();
                summary
            }
            Ok(Err(error)) => serde_json::json!({"error": error.to_string()}),
            Err(_) => serde_json::json!({"error": "the probe panicked"}),
        }
    }
}

fn ask(server: SocketAddr, rate: u32, stop: &AtomicBool) -> std::io::Result<(Latencies, usize)> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(server)?;
    let (port, start) = (socket.local_addr()?.port(), Instant::now());
    let (mut asked, mut latencies, mut lost) = (Vec::<Option<Instant>>::new(), Latencies::default(), 0);
    let mut buffer = [0; 2048];
    loop {
        let due = start + Duration::from_secs_f64(asked.len() as f64 / f64::from(rate));
        let now = Instant::now();
        if stop.load(Ordering::Relaxed) && (asked.iter().all(Option::is_none) || now > due + PATIENCE) {
            break;
        }
        if now >= due && !stop.load(Ordering::Relaxed) {
            let n = asked.len();
            let _ = socket.send(options(server, port, n).as_bytes());
            // From the time it was due: a probe that is held up itself must not hide the wait.
            asked.push(Some(due));
            continue;
        }
        let wait = due.saturating_duration_since(now).clamp(Duration::from_micros(100), Duration::from_millis(50));
        socket.set_read_timeout(Some(wait))?;
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        if let Some(sent) = number(&buffer[..length]).and_then(|n| asked.get_mut(n)).and_then(Option::take) {
            latencies.add(sent.elapsed());
        }
    }
    for _ in asked.iter().flatten() {
        latencies.add(PATIENCE);
        lost += 1;
    }
    Ok((latencies, lost))
}

fn options(server: SocketAddr, port: u16, n: usize) -> String {
    format!(
        "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKprobe{n}-\r\n\
         From: <sip:probe@{server}>;tag=p\r\nTo: <sip:{server}>\r\nCall-ID: probe-{port}-{n}\r\nCSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn number(answer: &[u8]) -> Option<usize> {
    std::str::from_utf8(answer).ok()?.split_once("z9hG4bKprobe")?.1.split('-').next()?.parse().ok()
}
