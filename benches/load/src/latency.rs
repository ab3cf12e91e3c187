//! Times of many operations, and what of them is reported.
use serde_json::{Value, json};
use std::time::Duration;

/// Collected times.
#[derive(Default)]
pub struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.micros.push(time.as_micros().min(u32::MAX.into()) as u32);
    }

    /// The time below which `share` of all lie, in milliseconds.
    fn quantile(sorted: &[u32], share: f64) -> f64 {
        let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }

    /// Median, 95 and 99 of 100, and the longest, in milliseconds.
    pub fn summary(&mut self) -> Value {
        self.micros.sort_unstable();
        json!({
            "count": self.micros.len(),
            "p50": Self::quantile(&self.micros, 0.5),
            "p95": Self::quantile(&self.micros, 0.95),
            "p99": Self::quantile(&self.micros, 0.99),
            "max": Self::quantile(&self.micros, 1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let mut latencies = Latencies::default();
        (1..=100).rev().for_each(|ms| latencies.add(Duration::from_millis(ms)));
        assert_eq!(latencies.summary(), json!({"count": 100, "p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}));
        assert_eq!(Latencies::default().summary(), json!({"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}));
    }
}
