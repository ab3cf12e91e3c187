//! The cluster's clock (a hybrid logical clock): it follows the wall clock of the node that is furthest ahead, and
//! never goes back, so that what happens after a message is stamped later than what the message says, whatever the
//! clocks say.
use crate::shm_safe::shm_safe;
use crate::time::{Millis, Seconds, UnixMillis};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

/// A moment of the cluster: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

shm_safe!(Stamp(value));

impl Stamp {
    /// The first stamp of a millisecond.
    pub const fn of(time: UnixMillis) -> Stamp {
        Stamp(time.0 << 16)
    }

    /// The millisecond it is of.
    pub const fn time(self) -> UnixMillis {
        UnixMillis(self.0 >> 16)
    }

    /// The stamp so much earlier.
    pub const fn before(self, time: Millis) -> Stamp {
        Stamp(self.0.saturating_sub(time.0 << 16))
    }

    /// The second it is in.
    pub const fn second(self) -> ClusterSecond {
        let seconds = self.time().0 / 1_000;
        let seconds = if seconds > LATEST as u64 { LATEST } else { seconds as u32 };
        match NonZeroU32::new(seconds) {
            Some(seconds) => ClusterSecond(seconds),
            None => ClusterSecond(NonZeroU32::MIN),
        }
    }
}

/// A second since 1970 by the cluster's clock: when a document was received. It is compared with its like alone; what
/// ends, and what was how long ago, is a [`Moment`](crate::time::Moment) of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterSecond(NonZeroU32);

shm_safe!(ClusterSecond(number));

/// No clock shows a later second: half a year of seconds before 32 bits end, for what has to come after it.
const LATEST: u32 = u32::MAX - (1 << 24);

impl ClusterSecond {
    /// The second that a message or a row has; `None` for what no clock shows.
    pub fn at(seconds: i64) -> Option<ClusterSecond> {
        let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds <= LATEST)?;
        NonZeroU32::new(seconds).map(ClusterSecond)
    }

    /// Seconds since 1970.
    pub const fn seconds(self) -> i64 {
        self.0.get() as i64
    }

    /// The next second.
    #[must_use]
    pub const fn next(self) -> ClusterSecond {
        ClusterSecond(self.0.saturating_add(1))
    }

    /// How long ago an earlier one was; no time where it is later.
    pub const fn since(self, earlier: ClusterSecond) -> Seconds {
        Seconds(self.0.get().saturating_sub(earlier.0.get()) as i64)
    }
}

/// A stamp that is further ahead of our own clock than this is not followed: its sender's clock is broken, or
/// the stamp is forged.
pub const MOST_AHEAD: Millis = Millis(300_000);

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

    /// How far the clock of another node is ahead of ours.
    fn ahead(&self) -> Millis {
        Millis(self.ahead.load(Ordering::Relaxed))
    }

    /// The time by the cluster's clock, where our own shows `wall`.
    pub fn time(&self, wall: UnixMillis) -> UnixMillis {
        (wall + self.ahead()).max(Stamp(self.last.load(Ordering::Relaxed)).time())
    }

    /// A new stamp, later than every one before.
    pub fn tick(&self, wall: UnixMillis) -> Stamp {
        let physical = Stamp::of(wall + self.ahead()).0;
        let next = |last: u64| Some((last + 1).max(physical));
        let before = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        Stamp((before + 1).max(physical))
    }

    /// Another node has stamped something so; `false` when that is too far ahead to be followed.
    pub fn observe(&self, stamp: Stamp, wall: UnixMillis) -> bool {
        let ahead = stamp.time() - wall;
        if ahead > MOST_AHEAD {
            return false;
        }
        self.ahead.fetch_max(ahead.0, Ordering::Relaxed);
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
        let announced = fast.tick(UnixMillis(60_000));
        assert!(slow.observe(announced, UnixMillis(1_000)));
        let first = slow.tick(UnixMillis(1_000));
        assert!(first > announced && slow.tick(UnixMillis(1_000)) > first);
        // A minute behind, and yet as late as the other one from then on.
        assert!(slow.tick(UnixMillis(3_000)) >= Stamp::of(UnixMillis(62_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_go_back() {
        let clock = HybridClock::new();
        let before = clock.tick(UnixMillis(9_000_000));
        assert!(clock.tick(UnixMillis(1_000)) > before);
    }

    #[test]
    fn a_second_is_one_that_a_clock_can_show() {
        let at = |seconds| ClusterSecond::at(seconds).map(ClusterSecond::seconds);
        assert_eq!([-5, 0, i64::MAX, i64::from(u32::MAX)].map(at), [None; 4]);
        assert_eq!([1, 1_795_630_561].map(at), [Some(1), Some(1_795_630_561)]);
        let (one, late) = (Stamp::default().second(), Stamp(u64::MAX).second());
        assert_eq!((one.seconds(), at(late.seconds())), (1, Some(late.seconds())));
        assert!(late.next() > late && Stamp::of(UnixMillis(5_999)).second() == ClusterSecond::at(5).unwrap());
        assert_eq!((one.next().since(one), one.since(late)), (Seconds(1), Seconds::ZERO));
    }

    #[test]
    fn a_broken_clock_is_not_followed() {
        let clock = HybridClock::new();
        assert!(!clock.observe(Stamp::of(UnixMillis(1_001) + MOST_AHEAD), UnixMillis(1_000)));
        assert_eq!(clock.tick(UnixMillis(1_000)), Stamp::of(UnixMillis(1_000)));
        assert!(clock.observe(Stamp::of(UnixMillis(1_000) + MOST_AHEAD), UnixMillis(1_000)));
    }
}
