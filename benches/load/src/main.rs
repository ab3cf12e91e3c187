//! Load for a SIP presence server over UDP on loopback. Commands come on standard input, one JSON object a line; each
//! is answered by one line of figures:
//!
//! ```text
//! {"do":"subscribe","count":1000,"presentities":10}
//! {"do":"publish","count":10,"presentities":10}
//! {"do":"probe","rate":500}       asks with OPTIONS beside what follows, until
//! {"do":"probe","rate":0}
//! {"do":"listen","seconds":5}     only answers NOTIFYs
//! {"do":"mix","rate":1000,"seconds":5,"presentities":10}
//! ```
mod endpoint;
mod latency;
mod message;
mod mix;
mod probe;
mod work;

use endpoint::Endpoint;
use mix::Mix;
use probe::Probe;
use serde_json::{Value, json};
use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};
use work::Work;

fn carry_out(command: &Value, endpoint: &mut Endpoint, probe: &mut Option<Probe>, server: SocketAddr) -> Value {
    match command.get("do").and_then(Value::as_str) {
        Some("probe") => match command.get("rate").and_then(Value::as_u64) {
            Some(rate) if rate > 0 => {
                *probe = Some(Probe::start(server, rate as u32));
                json!({"do": "probe"})
            }
            _ => probe.take().map_or_else(|| json!({"error": "no probe is running"}), Probe::stop),
        },
        Some("listen") => {
            let seconds = command.get("seconds").and_then(Value::as_f64).unwrap_or(1.0);
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            while Instant::now() < until {
                endpoint.listen();
            }
            json!({"do": "listen"})
        }
        Some("mix") => match Mix::read(command) {
            Ok(mix) => endpoint.carry_out_mix(&mix),
            Err(error) => json!({"error": error}),
        },
        _ => match Work::read(command) {
            Ok(work) => endpoint.carry_out(&work),
            Err(error) => json!({"error": error}),
        },
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server: SocketAddr = std::env::args().nth(1).ok_or("usage: presence-load ADDRESS:PORT")?.parse()?;
    let mut endpoint = Endpoint::new(server, std::process::id())?;
    let mut probe = None;
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines();
        lines.map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    loop {
        match commands.try_recv() {
            Ok(line) => {
                let done = match serde_json::from_str(&line) {
                    Ok(command) => carry_out(&command, &mut endpoint, &mut probe, server),
                    Err(error) => json!({"error": error.to_string()}),
                };
                println!("{done}");
            }
            Err(TryRecvError::Empty) => endpoint.listen(),
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}
