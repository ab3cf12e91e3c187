//! Moments and intervals. Each kind of number is a type of its own, and none of them has a value that means something
//! else: what is not known is `None`, what never ends is [`Expiry::Never`].
mod intervals;
mod lifetimes;
mod moments;
mod shared;
mod ticks;

pub use intervals::{Micros, Millis, Seconds};
pub use lifetimes::{Expiry, Lifetime};
pub use moments::{MicroMoment, Moment, ShortMoment, UnixMillis, UnixTime};
pub use shared::{AtomicInstant, AtomicMoment};
pub use ticks::{Instant, MicroTick, MilliTick, Tick};

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
    fn what_comes_each_ten_seconds_comes_once_in_them() {
        for begin in [0, 7, 1_000_003] {
            let times = (begin..begin + 60).filter(|now| Moment::at(*now).is_each(Seconds(10))).count();
            assert_eq!(times, 6, "{begin}");
        }
    }
}
