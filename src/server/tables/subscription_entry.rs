//! A subscription as the tables hold it.
use crate::cluster::clock::Stamp;
use crate::cluster::numbers::{Ceiling, HeldNumbers};
use crate::cluster::version::Version;
use crate::common::row_groups::RowBackoff;
use crate::host::shm::ShmBox;
use crate::presence::notification::{NotifyHistory, NotifyReason};
use crate::presence::subscription::Subscription;
use crate::presence::subscription::seen::NotifiedChanges;
use crate::server::nodes::node_id::NodeId;
use crate::shm_safe::shm_safe;
use crate::time::Moment;
use std::num::{NonZeroU32, NonZeroU64};

/// A subscription whose strings are in shared memory.
pub type SharedSubscription = Subscription<ShmBox<[u8]>>;

/// What a node waits for before it sends the NOTIFYs of a subscription that was another node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Awaited {
    /// Nothing: it sends them.
    #[default]
    Nothing,
    /// The subscription was taken over: other nodes may object for a while.
    Objections,
    /// The watcher has come here: all other nodes have to answer that they know.
    Answers,
}

shm_safe!(
    enum Awaited {
        Nothing,
        Objections,
        Answers,
    }
);

/// The owner of a subscription, and how often that has changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ownership {
    /// The owner; whatever another node owns is a replica here.
    pub owner: NodeId,
    /// How often it has changed hands.
    pub epoch: u32,
    /// When its owner changed it last.
    pub stamp: Stamp,
    /// No node has used a CSeq above this one.
    pub ceiling: Ceiling,
    /// What is waited for before the watcher is notified of a subscription that was another node's.
    pub awaits: Awaited,
    /// The lease of the owner that it is owned under; `None` without an arbiter.
    pub lease: Option<NonZeroU32>,
    /// How often its numbers were moved on because a watcher refused them, since its last SUBSCRIBE.
    pub raised: u8,
}

shm_safe!(Ownership { owner, epoch, stamp, ceiling, awaits, lease, raised });

impl Ownership {
    /// A subscription that this node has just made or restored for `owner`.
    pub fn held_by(owner: NodeId) -> Ownership {
        Ownership { owner, ..Ownership::default() }
    }

    /// Whether this node sends its NOTIFYs now.
    pub fn speaks_here(&self) -> bool {
        self.owner.is_here() && self.awaits == Awaited::Nothing
    }
}

/// A subscription in its shard.
pub struct SubscriptionEntry {
    /// The subscription.
    pub subscription: SharedSubscription,
    /// The hash of its resource.
    pub resource_hash: u64,
    /// The subscription's place among the subscriptions of its resource entry.
    pub place: u32,
    /// The changes of the resource it was notified of.
    pub seen: NotifiedChanges,
    /// A NOTIFY of its own that is due.
    pub due: Option<NotifyReason>,
    /// The subscription was another node's when the watchers were last notified of changes: the NOTIFY of its own
    /// stands for them.
    pub catches_up: bool,
    /// The local CSeq that its row holds at least.
    pub written_cseq: u32,
    /// The highest local CSeq of a copy that was made for its row, see [`Self::number_for_row`].
    pub copied_cseq: u32,
    /// Which of all subscriptions it was when it came, or was read from its row: rows lie in the table in this order,
    /// about.
    pub arrival: u32,
    /// A process is writing its row, or ended while it did.
    pub is_being_written: bool,
    /// What became of its NOTIFYs.
    pub notify_history: NotifyHistory,
    /// When its row is tried again that could not be written.
    pub aside: RowBackoff,
    /// Whose it is.
    pub ownership: Ownership,
    /// The digest of what a refresh leaves as it is, as the other nodes were sent it last.
    pub announced: Option<NonZeroU64>,
}

shm_safe!(SubscriptionEntry {
    subscription,
    resource_hash,
    place,
    seen,
    due,
    catches_up,
    written_cseq,
    copied_cseq,
    arrival,
    is_being_written,
    notify_history,
    aside,
    ownership,
    announced
});

impl SubscriptionEntry {
    /// As nodes compare it; `owner` is the digest of its owner's name.
    pub fn held(&self, owner: u64) -> HeldNumbers {
        let Ownership { epoch, stamp, ceiling, .. } = self.ownership;
        let (word, local) = (self.subscription.state.remote_cseq, self.subscription.state.local_cseq);
        HeldNumbers { version: Version { word, epoch, stamp, owner }, local, ceiling: ceiling.above(local) }
    }

    /// The local CSeq of a copy for its row, of which `ahead` NOTIFYs follow at once. The later of two copies has the
    /// higher number, and a row takes nothing that is behind it: so it is as new as the newest copy that was written,
    /// in whatever order the statements of several processes reach the database.
    pub fn number_for_row(&mut self, ahead: u32) -> u32 {
        let follows = self.subscription.state.local_cseq.saturating_add(ahead);
        self.copied_cseq = follows.max(self.copied_cseq.saturating_add(1));
        self.copied_cseq
    }

    /// Whether a pass has no NOTIFY of a change for it, or none any more.
    pub fn has_seen(&self, generation: u32) -> bool {
        !self.seen.is_behind(generation)
    }

    /// What the next NOTIFY of a pass is sent for; `None` when it has been notified of everything. A NOTIFY of its own
    /// does not stand for that of a change: each SUBSCRIBE and each change is answered by one.
    pub fn next_notify_reason(&mut self, generation: u32, now: Moment) -> Option<NotifyReason> {
        let is_older = !self.has_seen(generation);
        if let Some(notify_reason) = self.due.take() {
            if std::mem::take(&mut self.catches_up) && is_older {
                self.seen.notified(generation);
            }
            if notify_reason != NotifyReason::Change || self.subscription.is_notified_of_changes(now) {
                return Some(notify_reason);
            }
        }
        if !is_older {
            return None;
        }
        // The body of this pass is as new as the pass, not as new as the documents are. A change that the watcher does
        // not learn of has ended for it, too: what it may see later is in the NOTIFY that says so.
        self.seen.notified(generation);
        self.subscription.is_notified_of_changes(now).then_some(NotifyReason::Change)
    }
}
