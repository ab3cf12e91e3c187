//! Instants and moments that all processes read and write.
use super::{Instant, Moment, Seconds};
use crate::shm_safe::shm_safe;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// An [`Instant`], or none, that all processes read and write.
#[derive(Debug, Default)]
pub struct AtomicInstant(AtomicU64);

shm_safe!(AtomicInstant(number));

impl AtomicInstant {
    fn number(instant: Option<Instant>) -> u64 {
        instant.map_or(0, |instant| instant.0.get())
    }

    /// One that begins so.
    pub fn new(instant: Option<Instant>) -> AtomicInstant {
        AtomicInstant(AtomicU64::new(AtomicInstant::number(instant)))
    }

    /// What it is.
    pub fn get(&self) -> Option<Instant> {
        NonZeroU64::new(self.0.load(Ordering::Relaxed)).map(Instant)
    }

    /// Sets it, and returns what it was.
    pub fn replace(&self, instant: Option<Instant>) -> Option<Instant> {
        NonZeroU64::new(self.0.swap(AtomicInstant::number(instant), Ordering::Relaxed)).map(Instant)
    }

    /// Sets it.
    pub fn set(&self, instant: Option<Instant>) {
        self.0.store(AtomicInstant::number(instant), Ordering::Relaxed);
    }

    /// Sets it where there is none; `false` where there is one.
    #[must_use = "only one of several processes has begun"]
    pub fn begin(&self, instant: Instant) -> bool {
        self.0.compare_exchange(0, instant.0.get(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Sets it unless it is later.
    pub fn advance(&self, instant: Instant) {
        self.0.fetch_max(instant.0.get(), Ordering::Relaxed);
    }

    /// Sets it unless it is earlier; none stays none.
    pub fn bring_forward(&self, instant: Instant) {
        // None is 0, which is before every instant.
        self.0.fetch_min(instant.0.get(), Ordering::Relaxed);
    }
}

/// A [`Moment`], or none, that all processes read and write.
#[derive(Debug, Default)]
pub struct AtomicMoment(AtomicU64);

shm_safe!(AtomicMoment(number));

impl AtomicMoment {
    /// None yet.
    pub const fn none() -> AtomicMoment {
        AtomicMoment(AtomicU64::new(0))
    }

    /// What it is.
    pub fn get(&self) -> Option<Moment> {
        NonZeroU64::new(self.0.load(Ordering::Relaxed)).map(Moment)
    }

    /// Sets it, and returns what it was.
    pub fn replace(&self, moment: Option<Moment>) -> Option<Moment> {
        let number = moment.map_or(0, |moment| moment.0.get());
        NonZeroU64::new(self.0.swap(number, Ordering::Relaxed)).map(Moment)
    }

    /// Sets it.
    pub fn set(&self, moment: Moment) {
        self.0.store(moment.0.get(), Ordering::Relaxed);
    }

    /// Sets it to `now` where there is none, or one that is at least `interval` old; `true` for the process that did.
    #[must_use = "what is done once in the interval is done by the process that gets `true`"]
    pub fn begin_again(&self, now: Moment, interval: Seconds) -> bool {
        let last = self.get();
        let number = last.map_or(0, |last| last.0.get());
        last.is_none_or(|last| now - last >= interval)
            && self.0.compare_exchange(number, now.0.get(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Millis, ShortMoment};

    #[test]
    fn an_instant_is_never_taken_for_none() {
        let shared = AtomicInstant::default();
        assert!(shared.get().is_none() && shared.begin(Instant::at(0)) && !shared.begin(Instant::at(9)));
        shared.advance(Instant::at(7));
        shared.advance(Instant::at(3));
        assert_eq!(shared.replace(None), Some(Instant::at(7)));
        shared.bring_forward(Instant::at(3));
        assert!(shared.get().is_none());
        shared.set(Some(Instant::at(9)));
        shared.bring_forward(Instant::at(5));
        shared.bring_forward(Instant::at(8));
        assert_eq!(shared.replace(None), Some(Instant::at(5)));
        assert_eq!((shared.get(), Instant::at(7).since(Instant::at(9))), (None, Millis::ZERO));
        assert_eq!((Instant::at(7) + Millis(1999)).since(Instant::at(7)).seconds(), Seconds(1));
    }

    #[test]
    fn none_is_no_moment() {
        let shared = AtomicMoment::none();
        assert_eq!((shared.get(), shared.replace(Some(Moment::EPOCH))), (None, None));
        assert_eq!((shared.replace(None), shared.get()), (Some(Moment::EPOCH), None));
        assert_eq!(Moment::from(ShortMoment::from(Moment::at(-9))), Moment::at(1));
        let once_a_minute = |at: &i64| shared.begin_again(Moment::at(*at), Seconds(60));
        assert_eq!((0..150).filter(once_a_minute).collect::<Vec<_>>(), [0, 60, 120]);
    }
}
