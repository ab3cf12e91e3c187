//! Moments and intervals. Each kind of number is a type of its own, and none of them has a value that means something
//! else: what is not known is `None`, what never ends is [`Expiry::Never`].
use crate::shm_safe::shm_safe;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::{Add, AddAssign, Neg, Sub};

mod shared;
pub use shared::{AtomicInstant, AtomicMoment};

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

/// A moment of the server's own time, which nobody sets (`host::clock`): a second since 1970.
// The number is kept with its sign turned round, so that it is ordered, and one value is free for `None`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(NonZeroU64);

shm_safe!(Moment(number));

const SIGN: u64 = 1 << 63;

impl Moment {
    /// The beginning of 1970.
    pub const EPOCH: Moment = Moment::at(0);

    /// Later than everything.
    pub const MAX: Moment = Moment::at(i64::MAX);

    /// The moment so many seconds after the beginning of 1970.
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

/// A microsecond of a clock that nobody sets, and that begins anywhere (`host::clock::micro_tick`): for measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroTick(NonZeroU64);

shm_safe!(MicroTick(number));

impl MicroTick {
    /// The tick so many microseconds after the clock began; it has gone on for one at least.
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
    /// The tick so many milliseconds after the clock began; it has gone on for one at least.
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

/// A millisecond of a clock that nobody sets, that begins anywhere and goes on while the machine sleeps
/// (`host::clock::instant`): for leases and waits of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(NonZeroU64);

shm_safe!(Instant(number));

impl Instant {
    /// The instant so many milliseconds after the clock began; it has gone on for one at least.
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

/// When something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Expiry {
    /// At this moment.
    At(Moment),
    /// Never: hard state, or what its owner wants for ever.
    #[default]
    Never,
}

shm_safe!(
    enum Expiry {
        At(moment),
        Never,
    }
);

impl Expiry {
    /// When it ends, if it does.
    pub const fn moment(self) -> Option<Moment> {
        match self {
            Expiry::At(moment) => Some(moment),
            Expiry::Never => None,
        }
    }

    /// Whether it has ended before `now`.
    pub fn is_before(self, now: Moment) -> bool {
        self < Expiry::At(now)
    }

    /// Whether it ends after `now`, or never.
    pub fn is_after(self, now: Moment) -> bool {
        self > Expiry::At(now)
    }
}

impl From<Option<Moment>> for Expiry {
    fn from(end: Option<Moment>) -> Expiry {
        end.map_or(Expiry::Never, Expiry::At)
    }
}

impl From<Moment> for Expiry {
    fn from(moment: Moment) -> Expiry {
        Expiry::At(moment)
    }
}

/// How long something lasts, as it is remembered: in four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// So many seconds.
    Bounded(u32),
    /// As long as nobody ends it.
    Forever,
}

shm_safe!(
    enum Lifetime {
        Bounded(seconds),
        Forever,
    }
);

impl Lifetime {
    /// How long is left at `now` of what ends then.
    pub fn until(end: Expiry, now: Moment) -> Lifetime {
        end.moment().map_or(Lifetime::Forever, |end| Lifetime::Bounded((end - now).as_expires()))
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

const _: () = assert!(size_of::<Expiry>() == size_of::<i64>() && size_of::<Option<Moment>>() == size_of::<i64>());
const _: () = assert!(size_of::<Option<MicroTick>>() == size_of::<u64>());
const _: () = assert!(size_of::<Option<MilliTick>>() == size_of::<u64>());
const _: () = assert!(size_of::<Option<ShortMoment>>() == size_of::<u32>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ordered_as_their_seconds() {
        let seconds = [i64::MIN + 1, -2, -1, 0, 1, 1_795_630_561, i64::MAX];
        let moments = seconds.map(Moment::at);
        assert!(moments.is_sorted() && moments.map(Moment::seconds) == seconds);
        assert!(Moment::at(i64::MIN) <= moments[0]);
        assert_eq!((Moment::at(7) - Moment::at(10), Moment::MAX + Seconds(1)), (Seconds(-3), Moment::MAX));
    }

    #[test]
    fn what_never_ends_is_after_every_moment() {
        assert!(Expiry::Never.is_after(Moment::MAX) && !Expiry::Never.is_before(Moment::MAX));
        let at = Expiry::At(Moment::at(5));
        assert!(at.is_before(Moment::at(6)) && !at.is_before(Moment::at(5)) && !at.is_after(Moment::at(5)));
    }

    #[test]
    fn what_is_measured_is_never_less_than_nothing() {
        let (early, late) = (MicroTick::at(0), MicroTick::at(7) + Micros(2_500));
        assert_eq!((late.since(early), early.since(late)), (Micros(2_506), Micros::ZERO));
        assert_eq!(late.since(early).millis(), Millis(2));
        let (before, after) = (MicroMoment(-1), MicroMoment::from(Moment::at(3)));
        assert_eq!((before.moment(), before.millis_of_second()), (Moment::at(-1), 999));
        assert_eq!((after.since(before), before.since(after)), (Micros(3_000_001), Micros::ZERO));
    }

    #[test]
    fn what_comes_each_so_many_seconds_comes_once_in_them() {
        for begin in [0, 7, 1_000_003] {
            let times = (begin..begin + 60).filter(|now| Moment::at(*now).is_each(Seconds(10))).count();
            assert_eq!(times, 6, "{begin}");
        }
    }
}
