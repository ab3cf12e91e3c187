//! Subscriptions that this node has taken from others and that wait for their answers; in shared memory.
use crate::cluster::consent::{self, MOST_CLAIMS, NodeSet, OpenClaim, Ticket};
use crate::cluster::digest::RecordKey;
use crate::host::lock::Lock;
use crate::host::shm::{Shm, ShmVec};
use crate::shm_safe::shm_safe;
use crate::time::Instant;
use std::sync::atomic::{AtomicBool, Ordering};

/// What waits.
pub(crate) struct OpenClaims {
    list: Lock<ClaimList>,
    /// There are silent nodes.
    has_silent: AtomicBool,
}

shm_safe!(OpenClaims { list, has_silent });

struct ClaimList {
    /// Empty until the first one comes.
    claims: ShmVec<OpenClaim>,
    /// Nodes that have not answered in time: they are not waited for until they say something.
    silent: NodeSet,
}

shm_safe!(ClaimList { claims, silent });

impl Default for OpenClaims {
    fn default() -> Self {
        let list = ClaimList { claims: ShmVec::new_in(Shm), silent: NodeSet::NONE };
        OpenClaims { list: Lock::new(list), has_silent: AtomicBool::new(false) }
    }
}

/// Whether a subscription that was taken has to wait for the answers of other nodes.
pub(crate) enum Opened {
    /// Nobody is there who answers.
    Alone,
    /// The subscription waits for answers to messages with this ticket.
    Waits(Ticket),
    /// There is no room, or no memory, for one more.
    Full,
}

impl OpenClaims {
    /// A subscription is about to be taken, and these nodes will be sent the message.
    pub(crate) fn open(&self, key: RecordKey, receivers: NodeSet, now: Instant) -> Opened {
        let list = &mut *self.list.lock();
        let awaited = receivers.without(&list.silent);
        if awaited.is_empty() {
            return Opened::Alone;
        }
        if list.claims.is_empty() && list.claims.try_reserve_exact(MOST_CLAIMS).is_ok() {
            list.claims.resize(MOST_CLAIMS, OpenClaim::default());
        }
        consent::open(&mut list.claims, key, awaited, now).map_or(Opened::Full, Opened::Waits)
    }

    /// A node has answered that it knows; the subscription, when it was the last one.
    pub(crate) fn answered(&self, ticket: Ticket, place: usize) -> Option<RecordKey> {
        consent::answered(&mut self.list.lock().claims, ticket, place)
    }

    /// A node has answered that it knows something newer.
    pub(crate) fn refused(&self, ticket: Ticket, place: usize) {
        consent::refused(&mut self.list.lock().claims, ticket, place);
    }

    /// The subscriptions that have waited long enough.
    pub(crate) fn take_overdue(&self, now: Instant) -> Vec<RecordKey> {
        let list = &mut *self.list.lock();
        let (keys, silent) = consent::take_overdue(&mut list.claims, now);
        list.silent.add_all(&silent);
        self.has_silent.store(!list.silent.is_empty(), Ordering::Relaxed);
        keys
    }

    /// Whether there are nodes that are not waited for.
    pub(crate) fn has_silent(&self) -> bool {
        self.has_silent.load(Ordering::Relaxed)
    }

    /// A node has said something: it is waited for again.
    pub(crate) fn note_message_of(&self, place: usize) {
        let list = &mut *self.list.lock();
        list.silent.remove(place);
        self.has_silent.store(!list.silent.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::consent::LONGEST_WAIT;
    use crate::host::fake;

    const NOW: Instant = Instant::at(5_000);

    fn both() -> NodeSet {
        let mut both = NodeSet::NONE;
        both.add(0);
        both.add(1);
        both
    }

    #[test]
    fn who_has_not_answered_in_time_is_not_waited_for_until_it_says_something() {
        let before = fake::live_blocks();
        let claims = OpenClaims::default();
        let Opened::Waits(first) = claims.open(RecordKey(1), both(), NOW) else { panic!("two nodes are there") };
        assert_eq!(claims.answered(first, 0), None);
        assert_eq!(claims.take_overdue(NOW + LONGEST_WAIT), [RecordKey(1)]);
        let Opened::Waits(second) = claims.open(RecordKey(1), both(), NOW) else { panic!("one node answers") };
        assert_eq!(claims.answered(second, 0), Some(RecordKey(1)));
        assert!(claims.has_silent());
        claims.note_message_of(1);
        assert!(!claims.has_silent());
        let Opened::Waits(third) = claims.open(RecordKey(1), both(), NOW) else { panic!("both nodes answer") };
        assert_eq!((claims.answered(third, 0), claims.answered(third, 1)), (None, Some(RecordKey(1))));
        assert!(matches!(claims.open(RecordKey(1), NodeSet::NONE, NOW), Opened::Alone));
        drop(claims);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_nothing_waits_for_answers() {
        let claims = OpenClaims::default();
        let (opened, failed) = fake::failing_at(0, || claims.open(RecordKey(1), both(), NOW));
        assert!(matches!(opened, Opened::Full) && failed && fake::held_locks() == 0);
    }
}
