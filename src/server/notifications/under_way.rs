//! What a NOTIFY under way carries through tm, in the one word that tm hands back with the answer: its event package,
//! when it was sent and its number in the history, and for the route that looks at answers the subscription as it was
//! then.
use crate::host::shm::{self, CallbackParam};
use crate::presence::event_package::PackageId;
use crate::presence::subscription::Subscription;
use crate::server::history::NotifyNumber;
use crate::server::tables::subscription_entry::SharedSubscription;
use crate::shm_safe::shm_safe;
use crate::time::{MicroTick, Micros};

/// A NOTIFY that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderWay {
    /// The NOTIFY's event package.
    pub event: PackageId,
    /// When it was sent.
    pub sent_at: MicroTick,
    /// Whether it went out over UDP.
    pub is_udp: bool,
    /// The NOTIFY's number in the history, where it is remembered.
    pub number: Option<NotifyNumber>,
}

shm_safe!(UnderWay { event, sent_at, is_udp, number });

/// The same with a subscription, in shared memory.
pub struct Kept {
    under_way: UnderWay,
    subscription: SharedSubscription,
}

shm_safe!(Kept { under_way, subscription });

/// How a word is divided: whether it goes over UDP, the time in steps of 32 microseconds, so that it begins anew after
/// 268 seconds, the event package, and the number in the history.
const STEP: u32 = 5;
const TIME: u64 = (1 << 23) - 1;
const EVENT: u64 = (1 << 6) - 1;
const NUMBER: u64 = (1 << 33) - 1;

impl UnderWay {
    /// The word without a subscription: no memory is needed. A package beyond what the word holds is the last one.
    pub fn alone(self) -> CallbackParam<Kept> {
        let event = u64::from(self.event.0).min(EVENT);
        let number = self.number.map_or(NUMBER, |number| number.0 as u64 % NUMBER);
        let time = ((self.sent_at.micros() >> STEP) & TIME) + u64::from(self.is_udp) * (TIME + 1);
        CallbackParam::number((time * (EVENT + 1) + event) * (NUMBER + 1) + number)
    }

    /// The word with a subscription; without it where there is no memory.
    pub fn with(self, subscription: &Subscription) -> CallbackParam<Kept> {
        let kept = subscription.map(shm::copy).map(|subscription| Kept { under_way: self, subscription });
        kept.and_then(shm::boxed).map_or_else(|_| self.alone(), CallbackParam::of)
    }

    /// When it was sent, to the step: the word keeps the end of that time.
    pub fn began(self, now: MicroTick) -> MicroTick {
        MicroTick::at(((now.micros() >> STEP) << STEP).saturating_sub(self.age(now).0))
    }

    /// For how long it has been under way.
    pub fn age(self, now: MicroTick) -> Micros {
        Micros(((now.micros() >> STEP).wrapping_sub(self.sent_at.micros() >> STEP) & TIME) << STEP)
    }
}

/// Takes back what a NOTIFY has carried, once.
pub fn take(carried: CallbackParam<Kept>) -> (Option<UnderWay>, Option<Subscription>) {
    if let Some(word) = carried.as_number() {
        let number = word & NUMBER;
        let under_way = UnderWay {
            event: PackageId(((word / (NUMBER + 1)) & EVENT) as u16),
            sent_at: MicroTick::at(((word / (NUMBER + 1) / (EVENT + 1)) & TIME) << STEP),
            is_udp: word / (NUMBER + 1) / (EVENT + 1) > TIME,
            number: (number != NUMBER).then_some(NotifyNumber(number as usize)),
        };
        return (Some(under_way), None);
    }
    match carried.redeem() {
        Some(kept) => (Some(kept.under_way), Some(kept.subscription.to_private())),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_says_what_and_since_when() {
        for number in [None, Some(NotifyNumber(0)), Some(NotifyNumber(123_456))] {
            for is_udp in [false, true] {
                let under_way = UnderWay { event: PackageId(7), sent_at: MicroTick::at(32 * 5_000), is_udp, number };
                let (taken, subscription) = take(under_way.alone());
                assert_eq!(taken, Some(under_way));
                assert!(subscription.is_none());
                assert_eq!(under_way.age(MicroTick::at(32 * 5_000 + 33)), Micros(32));
            }
        }
        assert_eq!(take(CallbackParam::none()).0, None);
    }

    #[test]
    fn time_that_begins_anew_and_packages_beyond_the_word_do_no_harm() {
        let sent_at = ((TIME - 1) << STEP) | (1 << 60);
        let tick = MicroTick::at(sent_at);
        let taken = take(UnderWay { event: PackageId(500), sent_at: tick, is_udp: true, number: None }.alone());
        let taken = taken.0.unwrap();
        for (sent, now) in [(sent_at, sent_at + 160), (sent_at + 31, sent_at + 159), (sent_at + 7, sent_at + 31)] {
            let under_way = UnderWay { sent_at: MicroTick::at(sent), ..taken };
            assert_eq!(under_way.began(MicroTick::at(now)), tick, "it is of the same step");
        }
        assert!(taken.is_udp);
        assert_eq!(taken.event, PackageId(EVENT as u16));
        assert_eq!(taken.age(tick + Micros(160)), Micros(160));
    }
}
