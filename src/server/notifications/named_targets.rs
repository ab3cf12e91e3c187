//! NOTIFYs to targets with a name in place of an address. To look it up may take seconds, and the process that asks
//! waits: a worker would leave its requests, a sender its fan-out, and the queue of the resource would be held
//! meanwhile. One process of its own sends them, in their order; a name that has kept it waiting for nothing rests.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::semaphore::Semaphore;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::history::remembered::BodyDigest;
use crate::presence::notification::{Notify, NotifyAttempt, NotifyReason};
use crate::server::tables::subscription_entry::SharedSubscription;
use crate::shm_safe::shm_safe;

/// How many NOTIFYs may wait; further ones are sent by the process that made them.
pub(crate) const MOST_NAMED: usize = 256;
/// How many bytes of headers and bodies these may have together.
const MOST_BYTES: usize = 1 << 20;
/// What waits for the process that looks names up.
pub struct NamedTargets {
    waiting: Lock<ShmVec<ReadyNotify>>,
    pub(crate) waker: &'static Semaphore,
}

shm_safe!(NamedTargets { waiting, waker });

/// A NOTIFY that is ready to be sent.
pub(crate) struct ReadyNotify {
    pub(crate) subscription: SharedSubscription,
    pub(crate) notify_reason: NotifyReason,
    pub(crate) slot: Option<u32>,
    pub(crate) headers: ShmBox<[u8]>,
    pub(crate) body: Option<ShmBox<[u8]>>,
    pub(crate) digest: BodyDigest,
    /// A panic has kept it from being sent before: a second one gives it up.
    pub(crate) attempt: NotifyAttempt,
}

shm_safe!(ReadyNotify { subscription, notify_reason, slot, headers, body, digest, attempt });

impl ReadyNotify {
    fn new(notify: &Notify, headers: &[u8], body: Option<&[u8]>, digest: BodyDigest) -> Result<ReadyNotify, NoMemory> {
        Ok(ReadyNotify {
            subscription: notify.subscription.map(shm::copy)?,
            notify_reason: notify.notify_reason,
            slot: notify.slot,
            headers: shm::copy(headers)?,
            body: body.map(shm::copy).transpose()?,
            digest,
            attempt: NotifyAttempt::First,
        })
    }

    /// The NOTIFY without what it shows.
    pub(crate) fn notify(&self) -> Notify {
        let subscription = self.subscription.to_private();
        Notify { subscription, notify_reason: self.notify_reason, slot: self.slot }
    }

    fn bytes(&self) -> usize {
        self.headers.len() + self.body.as_ref().map_or(0, |body| body.len())
    }
}

impl NamedTargets {
    /// Makes an empty list; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<NamedTargets, NoMemory> {
        Ok(NamedTargets { waiting: Lock::new(ShmVec::new_in(Shm)), waker: Semaphore::leak()? })
    }

    /// Takes a NOTIFY over; `false` where there is no room: then the caller sends it.
    pub(crate) fn take_over(
        &self,
        notify: &Notify,
        (headers, body): (&[u8], Option<&[u8]>),
        digest: BodyDigest,
        attempt: NotifyAttempt,
    ) -> bool {
        let Ok(fresh) = ReadyNotify::new(notify, headers, body, digest) else { return false };
        let fresh = ReadyNotify { attempt, ..fresh };
        let mut waiting = self.waiting.lock();
        let bytes: usize = waiting.iter().map(ReadyNotify::bytes).sum();
        let has_room = waiting.len() < MOST_NAMED && bytes + fresh.bytes() <= MOST_BYTES;
        let is_taken = has_room && shm::push(&mut waiting, fresh).is_ok();
        drop(waiting);
        if is_taken {
            self.waker.wake();
        }
        is_taken
    }

    pub(crate) fn next(&self) -> Option<ReadyNotify> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() { None } else { Some(waiting.remove(0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::subscription::field::FIELDS;
    use crate::presence::subscription::{Status, Subscription, SubscriptionState};

    fn notify() -> Notify {
        let mut fields: [&[u8]; FIELDS] = [b"x"; FIELDS];
        fields[0] = b"sip:a@b";
        let state = SubscriptionState::new(PackageId(0), Status::Active);
        let subscription = Subscription::new(state, &fields).unwrap();
        Notify { subscription, notify_reason: NotifyReason::Change, slot: None }
    }

    #[test]
    fn a_bounded_number_waits() {
        let (targets, notify) = (NamedTargets::new().unwrap(), notify());
        let take = |bytes: usize| {
            targets.take_over(&notify, (b"", Some(&vec![b'x'; bytes])), BodyDigest::default(), NotifyAttempt::First)
        };
        assert!((0..MOST_NAMED).all(|_| take(10)));
        assert!(!take(10), "its own process sends it, and waits for the name");
        assert!(targets.next().is_some() && take(10) && !take(10));
        while targets.next().is_some() {}
        // All together have at most `MOST_BYTES`.
        assert!(take(MOST_BYTES - 10) && take(10) && !take(1));
        assert!(targets.next().is_some() && take(1));
    }
}
