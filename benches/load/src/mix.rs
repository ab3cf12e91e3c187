//! A mix of requests at a steady rate, as a busy server sees it: refreshes, changes, and watchers that come and go.
use crate::message::Package;
use crate::work::Kind;
use serde_json::Value;
use std::time::Duration;

/// What a server of desk phones is sent, in percent: most of it are refreshes and changes.
const SHARES: [(Kind, u32); 4] =
    [(Kind::Refresh, 50), (Kind::Modify, 40), (Kind::Subscribe, 5), (Kind::Unsubscribe, 5)];

/// How many requests may wait for an answer before the mix ends early, as its server does not keep up: those of this
/// time.
const MOST_WAITING: Duration = Duration::from_secs(2);

/// A mix: presentities `0..presentities` are published already, and watchers are subscribed to them.
pub struct Mix {
    /// Requests a second.
    pub rate: f64,
    /// How long.
    pub duration: Duration,
    /// Watcher n watches presentity n modulo this.
    pub presentities: usize,
    /// How long to wait in the end for what has not been answered, and for watchers that do not know the newest
    /// document.
    pub timeout: Duration,
    /// The event package.
    pub package: Package,
}

impl Mix {
    /// Reads a command; the error says what is wrong with it.
    pub fn read(command: &Value) -> Result<Mix, String> {
        let number = |name: &str, default: f64| match command.get(name) {
            None => Ok(default),
            Some(value) => {
                value.as_f64().filter(|n| *n > 0.0).ok_or(format!("{name}: more than 0 is wanted, not {value}"))
            }
        };
        let package = command.get("package").and_then(Value::as_str).unwrap_or("presence");
        Ok(Mix {
            rate: number("rate", 100.0)?,
            duration: Duration::from_secs_f64(number("seconds", 5.0)?.min(3600.0)),
            presentities: number("presentities", 1.0)? as usize,
            timeout: Duration::from_secs_f64(number("timeout", 5.0)?.min(3600.0)),
            package: Package::named(package).ok_or(format!("package: unknown package \"{package}\""))?,
        })
    }

    /// How many requests there are.
    pub fn count(&self) -> usize {
        (self.rate * self.duration.as_secs_f64()) as usize
    }

    /// When request `n` is due, from the start on.
    pub fn due(&self, n: usize) -> Duration {
        Duration::from_secs_f64(n as f64 / self.rate)
    }

    /// How many requests wait for an answer at most.
    pub fn window(&self) -> usize {
        (self.rate * MOST_WAITING.as_secs_f64()) as usize + 1
    }
}

/// Draws kinds by their shares, evenly spread: of any hundred in a row each kind has its share.
#[derive(Default)]
pub struct Kinds {
    owed: [i64; SHARES.len()],
}

impl Kinds {
    /// The next kind.
    pub fn draw(&mut self) -> Kind {
        for (owed, (_, share)) in self.owed.iter_mut().zip(SHARES) {
            *owed += i64::from(share);
        }
        // The first of the largest.
        let next = (0..SHARES.len()).rev().max_by_key(|at| self.owed[*at]).unwrap_or(0);
        self.owed[next] -= SHARES.iter().map(|(_, share)| i64::from(*share)).sum::<i64>();
        SHARES[next].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_kind_has_its_share_of_a_hundred() {
        let mut kinds = Kinds::default();
        for _ in 0..3 {
            let drawn: Vec<Kind> = (0..100).map(|_| kinds.draw()).collect();
            for (kind, share) in SHARES {
                assert_eq!(drawn.iter().filter(|one| **one == kind).count(), share as usize);
            }
        }
    }

    #[test]
    fn a_mix_is_read_and_refused() {
        let mix = Mix::read(&json!({"rate": 200, "seconds": 1.5, "presentities": 7})).unwrap();
        assert_eq!((mix.count(), mix.window(), mix.due(100)), (300, 401, Duration::from_millis(500)));
        assert!(Mix::read(&json!({"rate": 0})).is_err_and(|error| error.contains("rate")));
        assert!(Mix::read(&json!({"package": "x"})).is_err());
    }
}
