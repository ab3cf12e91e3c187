//! The cluster's clock (a hybrid logical clock): it follows the wall clock of the node that is furthest ahead, and
//! never goes back, so that what happens after a message is stamped later than what the message says, whatever the
//! clocks say.
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicU64, Ordering};

/// A moment of the cluster: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

shm_safe!(Stamp(value));

impl Stamp {
    /// The first stamp of a millisecond since 1970.
    pub const fn of_millis(millis: u64) -> Stamp {
        Stamp(millis << 16)
    }

    /// The stamp's milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The stamp so many milliseconds earlier.
    pub const fn before(self, millis: u64) -> Stamp {
        Stamp(self.0.saturating_sub(millis << 16))
    }
}

/// A stamp that is further ahead of our own clock than this, in milliseconds, is not followed: its sender's clock is
/// broken, or the stamp is forged.
pub const MOST_AHEAD: u64 = 300_000;

/// The clock of one node; all its processes share it.
#[derive(Debug, Default)]
pub struct HybridClock {
    last: AtomicU64,
    ahead: AtomicU64,
}

shm_safe!(HybridClock { last, ahead });

impl HybridClock {
    /// A clock that has seen nothing.
    pub const fn new() -> HybridClock {
        HybridClock { last: AtomicU64::new(0), ahead: AtomicU64::new(0) }
    }

    /// Milliseconds since 1970 by the cluster's clock, where our own shows `wall`.
    pub fn millis(&self, wall: u64) -> u64 {
        (wall + self.ahead.load(Ordering::Relaxed)).max(Stamp(self.last.load(Ordering::Relaxed)).millis())
    }

    /// A new stamp, later than every one before.
    pub fn tick(&self, wall: u64) -> Stamp {
        let physical = Stamp::of_millis(wall + self.ahead.load(Ordering::Relaxed)).0;
        let next = |last: u64| Some((last + 1).max(physical));
        let before = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        Stamp((before + 1).max(physical))
    }

    /// Another node has stamped something so; `false` when that is too far ahead to be followed.
    pub fn observe(&self, stamp: Stamp, wall: u64) -> bool {
        let ahead = stamp.millis().saturating_sub(wall);
        if ahead > MOST_AHEAD {
            return false;
        }
        self.ahead.fetch_max(ahead, Ordering::Relaxed);
        self.last.fetch_max(stamp.0, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_message_is_stamped_later() {
        let (slow, fast) = (HybridClock::new(), HybridClock::new());
        let announced = fast.tick(60_000);
        assert!(slow.observe(announced, 1_000));
        let first = slow.tick(1_000);
        assert!(first > announced && slow.tick(1_000) > first);
        // A minute behind, and yet as late as the other one from then on.
        assert!(slow.tick(3_000) >= Stamp::of_millis(62_000));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_go_back() {
        let clock = HybridClock::new();
        let before = clock.tick(9_000_000);
        assert!(clock.tick(1_000) > before);
    }

    #[test]
    fn a_broken_clock_is_not_followed() {
        let clock = HybridClock::new();
        assert!(!clock.observe(Stamp::of_millis(MOST_AHEAD + 1_001), 1_000));
        assert_eq!(clock.tick(1_000), Stamp::of_millis(1_000));
        assert!(clock.observe(Stamp::of_millis(MOST_AHEAD + 1_000), 1_000));
    }
}
