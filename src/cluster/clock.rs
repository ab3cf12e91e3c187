//! The cluster's clock (a hybrid logical clock): it follows the wall clock of the node that is furthest ahead, and
//! never goes back, so that what happens after a message is stamped later than what the message says, whatever the
//! clocks say.
use crate::shm_safe::shm_safe;
use crate::time::{Millis, Seconds, UnixMillis};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A moment of the cluster: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

shm_safe!(Stamp(value));

impl Stamp {
    /// The first stamp of a millisecond.
    pub const fn of_time(time: UnixMillis) -> Stamp {
        Stamp(time.0 << 16)
    }

    /// The millisecond it is of.
    pub const fn time(self) -> UnixMillis {
        UnixMillis(self.0 >> 16)
    }

    /// The stamp `time` earlier.
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

/// What the clocks of this node show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// The wall clock.
    pub wall: UnixMillis,
    /// What the wall clock would show if nobody had set it since the node started.
    pub steady: UnixMillis,
}

/// The clock of one node; all its processes share it.
#[derive(Debug)]
pub struct HybridClock {
    last: AtomicU64,
    /// By how many milliseconds a clock that was followed is ahead of ours that nobody sets, or behind it: a wall clock
    /// that is set right meanwhile does not bring the node as much further ahead.
    ahead: AtomicI64,
}

shm_safe!(HybridClock { last, ahead });

/// No clock was followed.
const NONE_FOLLOWED: i64 = i64::MIN;

impl Default for HybridClock {
    fn default() -> HybridClock {
        HybridClock::new()
    }
}

impl HybridClock {
    /// A clock that has seen nothing.
    pub const fn new() -> HybridClock {
        HybridClock { last: AtomicU64::new(0), ahead: AtomicI64::new(NONE_FOLLOWED) }
    }

    /// What the clocks of this node and of those that it has followed show.
    fn physical(&self, local: LocalTime) -> UnixMillis {
        match self.ahead.load(Ordering::Relaxed) {
            NONE_FOLLOWED => local.wall,
            ahead => local.wall.max(UnixMillis(local.steady.0.saturating_add_signed(ahead))),
        }
    }

    /// The time by the cluster's clock.
    pub fn time(&self, local: LocalTime) -> UnixMillis {
        self.physical(local).max(Stamp(self.last.load(Ordering::Relaxed)).time())
    }

    /// A new stamp, later than every one before.
    pub fn tick(&self, local: LocalTime) -> Stamp {
        let physical = Stamp::of_time(self.physical(local)).0;
        let next = |last: u64| Some((last + 1).max(physical));
        let before = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        Stamp((before + 1).max(physical))
    }

    /// Another node has stamped something so; `false` when that is too far ahead to be followed.
    pub fn observe(&self, stamp: Stamp, local: LocalTime) -> bool {
        if stamp.time() - local.wall > MOST_AHEAD {
            return false;
        }
        if stamp.time() > local.wall {
            self.ahead.fetch_max(stamp.time().0 as i64 - local.steady.0 as i64, Ordering::Relaxed);
        }
        self.last.fetch_max(stamp.0, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> LocalTime {
        LocalTime { wall: UnixMillis(millis), steady: UnixMillis(millis) }
    }

    #[test]
    fn what_comes_after_a_message_is_stamped_later() {
        let (slow, fast) = (HybridClock::new(), HybridClock::new());
        let announced = fast.tick(at(60_000));
        assert!(slow.observe(announced, at(1_000)));
        let first = slow.tick(at(1_000));
        assert!(first > announced && slow.tick(at(1_000)) > first);
        // A minute behind, and yet as late as the other one from then on.
        assert!(slow.tick(at(3_000)) >= Stamp::of_time(UnixMillis(62_000)));
    }

    #[test]
    fn a_clock_that_is_set_right_is_ahead_no_longer() {
        let clock = HybridClock::new();
        assert!(clock.observe(Stamp::of_time(UnixMillis(201_000)), at(1_000)));
        let corrected = LocalTime { wall: UnixMillis(202_000), steady: UnixMillis(2_000) };
        assert_eq!(clock.time(corrected), UnixMillis(202_000));
        // Nor does what it receives then put it further ahead.
        assert!(clock.observe(Stamp::of_time(UnixMillis(203_500)), corrected));
        let later = LocalTime { wall: UnixMillis(203_000), steady: UnixMillis(3_000) };
        assert_eq!(clock.tick(later).time(), UnixMillis(204_500));
    }

    #[test]
    fn a_clock_that_is_set_back_follows_the_others() {
        let clock = HybridClock::new();
        let set_back = LocalTime { wall: UnixMillis(100_000), steady: UnixMillis(200_000) };
        assert!(clock.observe(Stamp::of_time(UnixMillis(150_000)), set_back));
        let later = LocalTime { wall: UnixMillis(101_000), steady: UnixMillis(201_000) };
        assert_eq!(clock.time(later), UnixMillis(151_000));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_go_back() {
        let clock = HybridClock::new();
        let before = clock.tick(at(9_000_000));
        assert!(clock.tick(at(1_000)) > before);
    }

    #[test]
    fn a_second_is_one_that_a_clock_can_show() {
        let at = |seconds| ClusterSecond::at(seconds).map(ClusterSecond::seconds);
        assert_eq!([-5, 0, i64::MAX, i64::from(u32::MAX)].map(at), [None; 4]);
        assert_eq!([1, 1_795_630_561].map(at), [Some(1), Some(1_795_630_561)]);
        let (one, late) = (Stamp::default().second(), Stamp(u64::MAX).second());
        assert_eq!((one.seconds(), at(late.seconds())), (1, Some(late.seconds())));
        assert!(late.next() > late && Stamp::of_time(UnixMillis(5_999)).second() == ClusterSecond::at(5).unwrap());
        assert_eq!((one.next().since(one), one.since(late)), (Seconds(1), Seconds::ZERO));
    }

    #[test]
    fn a_broken_clock_is_not_followed() {
        let clock = HybridClock::new();
        assert!(!clock.observe(Stamp::of_time(UnixMillis(1_001) + MOST_AHEAD), at(1_000)));
        assert_eq!(clock.tick(at(1_000)), Stamp::of_time(UnixMillis(1_000)));
        assert!(clock.observe(Stamp::of_time(UnixMillis(1_000) + MOST_AHEAD), at(1_000)));
    }
}
