//! Moments that can be named by a calendar: of the server's own time, and of the wall clock.
use super::intervals::{Micros, Millis, Seconds};
use crate::shm_safe::shm_safe;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::{Add, AddAssign, Sub};

/// A moment of the server's own time, which nobody sets (`host::clock`): a second since 1970.
// The number is kept with its sign turned round, so that it is ordered, and one value is free for `None`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub(super) NonZeroU64);

shm_safe!(Moment(number));

const SIGN: u64 = 1 << 63;

impl Moment {
    /// The beginning of 1970.
    pub const EPOCH: Moment = Moment::at(0);

    /// Later than everything.
    pub const MAX: Moment = Moment::at(i64::MAX);

    /// The moment `seconds` after the beginning of 1970.
    pub const fn at(seconds: i64) -> Moment {
        match NonZeroU64::new(seconds as u64 ^ SIGN) {
            Some(number) => Moment(number),
            None => Moment(NonZeroU64::MIN),
        }
    }

    /// Whether what is done once in `interval` is done in this second.
    pub const fn is_each(self, interval: Seconds) -> bool {
        self.seconds() % interval.0 == 0
    }

    /// Seconds since the beginning of 1970.
    pub const fn seconds(self) -> i64 {
        (self.0.get() ^ SIGN) as i64
    }
}

impl Default for Moment {
    fn default() -> Moment {
        Moment::EPOCH
    }
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Moment({})", self.seconds())
    }
}

impl Add<Seconds> for Moment {
    type Output = Moment;
    fn add(self, time: Seconds) -> Moment {
        Moment::at(self.seconds().saturating_add(time.0))
    }
}

impl AddAssign<Seconds> for Moment {
    fn add_assign(&mut self, time: Seconds) {
        *self = *self + time;
    }
}

impl Sub<Seconds> for Moment {
    type Output = Moment;
    fn sub(self, time: Seconds) -> Moment {
        Moment::at(self.seconds().saturating_sub(time.0))
    }
}

impl Sub for Moment {
    type Output = Seconds;
    fn sub(self, earlier: Moment) -> Seconds {
        Seconds(self.seconds().saturating_sub(earlier.seconds()))
    }
}

/// A time of day of the wall clock, in seconds since 1970: what other programs and modules understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

impl Add<Seconds> for UnixTime {
    type Output = UnixTime;
    fn add(self, time: Seconds) -> UnixTime {
        UnixTime(self.0.saturating_add(time.0))
    }
}

impl Sub for UnixTime {
    type Output = Seconds;
    fn sub(self, earlier: UnixTime) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }
}

/// A time of day of the wall clock to the millisecond, since 1970: what nodes stamp their messages with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

shm_safe!(UnixMillis(count));

impl UnixMillis {
    /// The whole seconds of it.
    pub const fn seconds(self) -> UnixTime {
        UnixTime((self.0 / 1_000) as i64)
    }

    /// How far it is from another one, before or behind it.
    pub const fn distance(self, other: UnixMillis) -> Millis {
        Millis(self.0.abs_diff(other.0))
    }
}

impl Add<Millis> for UnixMillis {
    type Output = UnixMillis;
    fn add(self, time: Millis) -> UnixMillis {
        UnixMillis(self.0.saturating_add(time.0))
    }
}

impl Sub for UnixMillis {
    type Output = Millis;
    fn sub(self, earlier: UnixMillis) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// A moment of the server's own time to the microsecond, since 1970: for the order of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroMoment(pub i64);

impl MicroMoment {
    /// The second it is in.
    pub const fn moment(self) -> Moment {
        Moment::at(self.0.div_euclid(1_000_000))
    }

    /// Milliseconds since that second began.
    pub const fn millis_of_second(self) -> u64 {
        self.0.rem_euclid(1_000_000) as u64 / 1_000
    }

    /// How long ago an earlier one was; nothing where it is later.
    pub fn since(self, earlier: MicroMoment) -> Micros {
        Micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl From<Moment> for MicroMoment {
    fn from(moment: Moment) -> MicroMoment {
        MicroMoment(moment.seconds().saturating_mul(1_000_000))
    }
}

/// A [`Moment`] from 1970 to 2106 in four bytes, for records of which there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShortMoment(NonZeroU32);

shm_safe!(ShortMoment(number));

impl From<Moment> for ShortMoment {
    fn from(moment: Moment) -> ShortMoment {
        let seconds = u32::try_from(moment.seconds().max(0)).unwrap_or(u32::MAX);
        ShortMoment(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN))
    }
}

impl ShortMoment {
    /// Seconds since the beginning of 1970, for a word that holds something else, too.
    pub const fn seconds(self) -> u32 {
        self.0.get()
    }
}

impl From<ShortMoment> for Moment {
    fn from(short: ShortMoment) -> Moment {
        Moment::at(i64::from(short.0.get()))
    }
}
