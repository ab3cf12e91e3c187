//! Moments of clocks that begin anywhere: for waits and measurements.
use super::intervals::{Micros, Millis, Seconds};
use crate::shm_safe::shm_safe;
use std::num::NonZeroU64;
use std::ops::{Add, AddAssign, Sub};

/// A second of a clock that nobody sets and that begins anywhere (`host::clock::ticks`): for waits inside the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub i64);

shm_safe!(Tick(second));

impl Add<Seconds> for Tick {
    type Output = Tick;
    fn add(self, time: Seconds) -> Tick {
        Tick(self.0.saturating_add(time.0))
    }
}

impl AddAssign<Seconds> for Tick {
    fn add_assign(&mut self, time: Seconds) {
        *self = *self + time;
    }
}

impl Sub for Tick {
    type Output = Seconds;
    fn sub(self, earlier: Tick) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }
}

/// A microsecond of a clock that nobody sets, and that begins anywhere (`host::clock::micro_tick`): for measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroTick(NonZeroU64);

shm_safe!(MicroTick(number));

impl MicroTick {
    /// The tick `micros` after the clock began; it has gone on for one at least.
    pub const fn at(micros: u64) -> MicroTick {
        match NonZeroU64::new(micros) {
            Some(number) => MicroTick(number),
            None => MicroTick(NonZeroU64::MIN),
        }
    }

    /// Microseconds since the clock began.
    pub const fn micros(self) -> u64 {
        self.0.get()
    }

    /// How long ago an earlier one was; nothing where it is later.
    pub const fn since(self, earlier: MicroTick) -> Micros {
        Micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Micros> for MicroTick {
    type Output = MicroTick;
    fn add(self, time: Micros) -> MicroTick {
        MicroTick(self.0.saturating_add(time.0))
    }
}

/// A millisecond of the same clock (`host::clock::milli_tick`): for the timers of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliTick(NonZeroU64);

shm_safe!(MilliTick(number));

impl MilliTick {
    /// The tick `millis` after the clock began; it has gone on for one at least.
    pub const fn at(millis: u64) -> MilliTick {
        match NonZeroU64::new(millis) {
            Some(number) => MilliTick(number),
            None => MilliTick(NonZeroU64::MIN),
        }
    }

    /// Milliseconds since the clock began.
    pub const fn millis(self) -> u64 {
        self.0.get()
    }

    /// How long ago an earlier one was; nothing where it is later.
    pub const fn since(self, earlier: MilliTick) -> Millis {
        Millis(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl From<MicroTick> for MilliTick {
    fn from(tick: MicroTick) -> MilliTick {
        MilliTick::at(tick.micros() / 1_000)
    }
}

impl Add<Millis> for MilliTick {
    type Output = MilliTick;
    fn add(self, time: Millis) -> MilliTick {
        MilliTick(self.0.saturating_add(time.0))
    }
}

/// A millisecond of a clock that nobody sets, that begins anywhere and goes on while the machine sleeps
/// (`host::clock::instant`): for leases and waits of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub(super) NonZeroU64);

shm_safe!(Instant(number));

impl Instant {
    /// The instant `millis` after the clock began; it has gone on for one at least.
    pub const fn at(millis: u64) -> Instant {
        match NonZeroU64::new(millis) {
            Some(number) => Instant(number),
            None => Instant(NonZeroU64::MIN),
        }
    }

    /// How long ago an earlier one was; nothing where it is later.
    pub const fn since(self, earlier: Instant) -> Millis {
        Millis(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Millis> for Instant {
    type Output = Instant;
    fn add(self, time: Millis) -> Instant {
        Instant(self.0.saturating_add(time.0))
    }
}
