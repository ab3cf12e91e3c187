//! What a NOTIFY under way carries through tm, in the one word that tm hands back with the answer: its event package and
//! when it was sent, and for the route that looks at answers the subscription, where that is gone by then.
use crate::host::shm::{self, CallbackParam};
use crate::presence::event_package::PackageId;
use crate::presence::subscription::Subscription;
use crate::server::tables::subscription_entry::SharedSubscription;

/// A NOTIFY that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderWay {
    /// Its event package.
    pub event: PackageId,
    /// When it was sent, in microseconds of the clock for measuring.
    pub sent_at: u64,
}

/// The same with a subscription, in shared memory.
struct Kept {
    under_way: UnderWay,
    subscription: SharedSubscription,
}

/// Bits of a word that hold the event package; 47 are left to the time: 4 years of microseconds, then they begin anew.
const EVENT_BITS: u32 = 16;
const TIME: u64 = (1 << (63 - EVENT_BITS)) - 1;

impl UnderWay {
    /// The word without a subscription: no memory is needed.
    pub fn alone(self) -> CallbackParam {
        CallbackParam::number((self.sent_at & TIME) << EVENT_BITS | u64::from(self.event.0))
    }

    /// The word with a subscription; without it where there is no memory.
    pub fn with(self, subscription: &Subscription) -> CallbackParam {
        let kept = subscription.map(shm::copy).map(|subscription| Kept { under_way: self, subscription });
        kept.and_then(shm::boxed).map_or(self.alone(), CallbackParam::of)
    }

    /// For how many microseconds it has been under way.
    pub fn age(self, now: u64) -> u64 {
        (now & TIME).wrapping_sub(self.sent_at & TIME) & TIME
    }
}

/// Takes back what a NOTIFY has carried, once.
pub fn take(carried: CallbackParam) -> (Option<UnderWay>, Option<Subscription>) {
    if let Some(word) = carried.as_number() {
        let event = PackageId((word & ((1 << EVENT_BITS) - 1)) as u16);
        return (Some(UnderWay { event, sent_at: word >> EVENT_BITS }), None);
    }
    match carried.redeem::<Kept>() {
        Some(kept) => (Some(kept.under_way), Some(kept.subscription.to_private())),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_says_what_and_since_when() {
        let under_way = UnderWay { event: PackageId(7), sent_at: 123_456_789 };
        let (taken, subscription) = take(under_way.alone());
        assert_eq!(taken, Some(under_way));
        assert!(subscription.is_none());
        assert_eq!(under_way.age(123_456_999), 210);
        assert_eq!(take(CallbackParam::NONE).0, None);
        let before_the_turn = UnderWay { event: PackageId(0), sent_at: TIME - 1 };
        assert_eq!(take(before_the_turn.alone()).0.map(|taken| taken.age(TIME + 3)), Some(4));
    }
}
