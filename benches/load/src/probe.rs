//! Asks the server with OPTIONS at a steady rate, beside everything else: how long do other requests wait?
use crate::latency::Latencies;
use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an answer may take before it counts as lost; lost ones count with this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

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

    /// Stops asking, and returns how long the answers took.
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
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    // When each question was due, taken when it is answered.
    let asked = Mutex::new(Vec::<Option<Instant>>::new());
    let port = socket.local_addr()?.port();
    std::thread::scope(|scope| {
        let listener = scope.spawn(|| listen(&socket, &asked, stop));
        let start = Instant::now();
        for n in 0.. {
            let due = start + Duration::from_secs_f64(n as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Ok(mut asked) = asked.lock() {
                asked.push(Some(due));
            }
            let _ = socket.send(options(server, port, n).as_bytes());
        }
        let mut latencies = listener.join().unwrap_or_default();
        let lost = asked.lock().map_or(0, |asked| asked.iter().flatten().count());
        (0..lost).for_each(|_| latencies.add(ANSWER_TIMEOUT));
        Ok((latencies, lost))
    })
}

/// Takes in answers until the probe is stopped and nothing is awaited, or nothing comes any more.
fn listen(socket: &UdpSocket, asked: &Mutex<Vec<Option<Instant>>>, stop: &AtomicBool) -> Latencies {
    let (mut latencies, mut buffer) = (Latencies::default(), [0; 2048]);
    loop {
        let received = socket.recv(&mut buffer);
        let Ok(mut asked) = asked.lock() else { return latencies };
        let length = match received {
            Ok(length) => length,
            Err(_) if stop.load(Ordering::Relaxed) => return latencies,
            Err(_) => continue,
        };
        if let Some(due) = number(&buffer[..length]).and_then(|n| asked.get_mut(n)).and_then(Option::take) {
            latencies.add(due.elapsed());
        }
        if stop.load(Ordering::Relaxed) && asked.iter().all(Option::is_none) {
            return latencies;
        }
    }
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
