//! Durations, counted in classes. A histogram lies in shared memory: any process adds to it, and none waits for
//! another.
use crate::shm_safe::shm_safe;
use crate::time::Micros;
use std::sync::atomic::{AtomicU64, Ordering};

/// The upper ends of the classes, in microseconds; what takes longer than the last one is in a class of its own.
pub const BOUNDS: [u64; 17] = [
    10, 100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// Durations by class, and their sum.
#[derive(Debug, Default)]
pub struct Histogram {
    classes: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

shm_safe!(Histogram { classes, micros });

/// What a histogram held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramReading {
    /// How many durations were not above each of [`BOUNDS`].
    pub up_to: [u64; BOUNDS.len()],
    /// How many there were.
    pub count: u64,
    /// The sum of all times, in microseconds.
    pub micros: u64,
}

impl Histogram {
    /// Adds a duration.
    pub fn record(&self, duration: Micros) {
        let Micros(micros) = duration;
        let class = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What it holds; the classes and their sum agree, whatever is added meanwhile.
    pub fn read(&self) -> HistogramReading {
        let (mut reading, mut count) = (HistogramReading { up_to: [0; BOUNDS.len()], count: 0, micros: 0 }, 0);
        for (class, number) in self.classes.iter().enumerate() {
            count += number.load(Ordering::Relaxed);
            if let Some(place) = reading.up_to.get_mut(class) {
                *place = count;
            }
        }
        reading.count = count;
        reading.micros = self.micros.load(Ordering::Relaxed);
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_its_class_and_in_all_above_it() {
        let histogram = Histogram::default();
        [0, 10, 11, 2_500, 30_000_000, 30_000_001].into_iter().for_each(|micros| histogram.record(Micros(micros)));
        let reading = histogram.read();
        assert_eq!(reading.up_to[..5], [2, 3, 3, 3, 4]);
        assert_eq!((reading.up_to[BOUNDS.len() - 1], reading.count), (5, 6));
        assert_eq!(reading.micros, 10 + 11 + 2_500 + 60_000_001);
    }

    #[test]
    fn classes_rise() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
