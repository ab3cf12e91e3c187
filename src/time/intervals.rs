//! Intervals: how long something takes.
use crate::shm_safe::shm_safe;
use std::ops::{Add, Neg, Sub};

/// An interval, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub i64);

shm_safe!(Seconds(count));

impl Seconds {
    /// No time.
    pub const ZERO: Seconds = Seconds(0);

    /// Longer than everything.
    pub const MAX: Seconds = Seconds(i64::MAX);

    /// How long it takes, as the field `Expires` counts: from 0 up to what 32 bits hold.
    pub fn as_expires(self) -> u32 {
        u32::try_from(self.0.max(0)).unwrap_or(u32::MAX)
    }

    /// The interval without its sign.
    pub const fn abs(self) -> Seconds {
        Seconds(self.0.saturating_abs())
    }
}

impl From<u32> for Seconds {
    fn from(seconds: u32) -> Seconds {
        Seconds(i64::from(seconds))
    }
}

impl From<i32> for Seconds {
    fn from(seconds: i32) -> Seconds {
        Seconds(i64::from(seconds))
    }
}

impl Add for Seconds {
    type Output = Seconds;
    fn add(self, other: Seconds) -> Seconds {
        Seconds(self.0.saturating_add(other.0))
    }
}

impl Sub for Seconds {
    type Output = Seconds;
    fn sub(self, other: Seconds) -> Seconds {
        Seconds(self.0.saturating_sub(other.0))
    }
}

impl Neg for Seconds {
    type Output = Seconds;
    fn neg(self) -> Seconds {
        Seconds(self.0.saturating_neg())
    }
}

/// An interval, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

shm_safe!(Millis(count));

impl Millis {
    /// No time.
    pub const ZERO: Millis = Millis(0);

    /// The whole seconds of it.
    pub const fn seconds(self) -> Seconds {
        Seconds((self.0 / 1000) as i64)
    }
}

impl Add for Millis {
    type Output = Millis;
    fn add(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }
}

/// An interval, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

shm_safe!(Micros(count));

impl Micros {
    /// No time.
    pub const ZERO: Micros = Micros(0);

    /// The whole milliseconds of it.
    pub const fn millis(self) -> Millis {
        Millis(self.0 / 1_000)
    }
}
