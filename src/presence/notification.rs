//! What a NOTIFY is: why it is sent, the run it belongs to, and what is remembered of it.
pub(crate) mod change_notify;
pub mod notifier;
pub(crate) mod notify_headers;
pub mod spare_blocks;
pub(crate) mod versioned_body;

use super::error::StoreError;
use super::publication::Publication;
use super::subscription::Subscription;
use super::subscription::dialog::DialogId;
use super::winfo::Watcher;
use crate::presence::winfo::Extent;
use crate::shm_safe::shm_safe;
use crate::time::{MicroTick, Moment, Seconds, ShortMoment};
use std::num::NonZeroU16;

/// Why a NOTIFY is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyReason {
    /// The state of the resource changed.
    Change,
    /// The NOTIFY answers a SUBSCRIBE.
    Subscribe,
    /// The NOTIFY answers the SUBSCRIBE that ended the subscription.
    Unsubscribe,
    /// The subscription ran out, or its watcher lost the right to it.
    Ended,
}

shm_safe!(
    enum NotifyReason {
        Change,
        Subscribe,
        Unsubscribe,
        Ended,
    }
);

/// Where a change was made first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeOrigin {
    /// On this node.
    ThisNode,
    /// On another one, which has announced it, to stock's nodes as well.
    OtherNode,
}

/// A NOTIFY that is due: the subscription with CSeq and version already counted up.
#[derive(Debug, Clone)]
pub struct Notify {
    /// A private copy of the subscription.
    pub subscription: Subscription,
    /// Why the NOTIFY is sent.
    pub notify_reason: NotifyReason,
    /// Where memory holds it, for `Ports::record_notified`.
    pub slot: Option<u32>,
}

/// What a subscription was notified of, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifyRecord {
    /// Where memory holds the subscription.
    pub slot: u32,
    /// The local CSeq it was counted up to.
    pub cseq: u32,
    /// CRC-32 of the body, that of no body being 0.
    pub body: u32,
}

/// Where a document is shown among the stored ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentPlace {
    /// The document is shown behind this many.
    After(usize),
    /// All are shown before it.
    AtEnd,
}

shm_safe!(
    enum DocumentPlace {
        After(count),
        AtEnd,
    }
);

impl DocumentPlace {
    /// The place of the document among `count`.
    pub fn among(self, count: usize) -> usize {
        match self {
            DocumentPlace::After(before) => before.min(count),
            DocumentPlace::AtEnd => count,
        }
    }
}

/// A document that is shown once more, or only once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransientBody {
    /// A publication that has just been removed, or that expired at once: the package shows it as closed.
    Removed(Publication, DocumentPlace),
    /// A body in place of the stored ones.
    Body(Vec<u8>),
}

/// Which time it is that something is sent: what a panic breaks off is tried again, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotifyAttempt {
    /// The first.
    #[default]
    First,
    /// The second, after a panic.
    Second,
}

shm_safe!(
    enum NotifyAttempt {
        First,
        Second,
    }
);

/// One pass over the watchers of a resource; the process that holds it is the only one that sends for that resource.
#[derive(Debug, Default)]
pub struct NotifyRun {
    /// Where the pass is.
    pub cursor: usize,
    /// Which state of the resource it carries.
    pub generation: u32,
    /// The state of the documents at its begin.
    pub documents: u32,
    /// A document shown only now.
    pub transient_body: Option<TransientBody>,
    /// For winfo: the watchers that changed.
    pub changes: Vec<Watcher>,
    /// For winfo: which watchers a document lists.
    pub extent: Extent,
    /// Why it is not known who may see the state: nobody is shown it in this pass.
    pub unjudged: Option<StoreError>,
    /// The second time every watcher is visited, whatever becomes of those before it.
    pub attempt: NotifyAttempt,
    /// When the oldest change of documents that it carries came in; `None`: there is none, or nobody knows.
    pub changed_at: Option<MicroTick>,
    /// Nobody comes after the last batch.
    pub is_at_end: bool,
}

/// NOTIFYs of a pass that were not sent, and what they were to show.
#[derive(Debug, Default)]
pub struct Unsent {
    /// The NOTIFYs.
    pub notifies: Vec<Notify>,
    /// The document that was to be shown in this pass only.
    pub transient_body: Option<TransientBody>,
    /// Which state of the resource the pass carried.
    pub generation: u32,
}

/// What changed for the watchers of a resource.
#[derive(Debug)]
pub enum StateChange<'a> {
    /// The resource's documents changed; the sender's own subscription is not notified.
    State {
        /// `handle_publish`'s argument; empty for nobody.
        sender: &'a [u8],
        /// A document shown only now.
        transient_body: Option<TransientBody>,
    },
    /// One subscription is due.
    Subscription(DialogId<'a>, NotifyReason),
    /// The resource's watchers changed (for winfo resources).
    Watchers {
        /// The watcher that changed.
        watcher: Watcher,
        /// Which watchers the next document lists.
        extent: Extent,
    },
    /// No change: what is due is sent.
    Due,
}

/// What became of the NOTIFYs of one subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotifyHistory {
    /// When the last one was sent by this server, since it started.
    pub notified_at: Option<ShortMoment>,
    /// CRC-32 of the body of the last one, that of no body being 0.
    pub body: u32,
    /// The last answer that was no success.
    pub failure: Option<FailedNotify>,
}

shm_safe!(NotifyHistory { notified_at, body, failure });

/// An answer to a NOTIFY that was no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedNotify {
    /// The status of the answer.
    pub status: NonZeroU16,
    /// The CSeq of the NOTIFY.
    pub cseq: u32,
}

shm_safe!(FailedNotify { status, cseq });

impl NotifyHistory {
    /// The status of the last NOTIFY, the one with this CSeq, where it was no success.
    pub fn failed_with(&self, cseq: u32) -> Option<NonZeroU16> {
        self.failure.filter(|failure| failure.cseq == cseq).map(|failure| failure.status)
    }

    /// How the last NOTIFY, the one with this CSeq, was answered, as far as it is known. Successes are not noted one by
    /// one: what has not failed by the time tm gives up was one.
    pub fn answer(&self, cseq: u32, now: Moment) -> String {
        match (self.notified_at.map(Moment::from), self.failed_with(cseq)) {
            (None, _) => "not known".into(),
            (Some(_), Some(status)) => status.to_string(),
            (Some(notified_at), None) if now - notified_at > ANSWERED_BY_NOW => "2xx".into(),
            (Some(_), None) => "2xx, or still awaited".into(),
        }
    }
}

/// How long tm waits for an answer at most (timer F, RFC 3261 17.1.2.2), and some more.
pub(crate) const ANSWERED_BY_NOW: Seconds = Seconds(40);

/// Whether a process sends for a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueState {
    /// A process is sending.
    pub busy: bool,
    /// Something waits to be sent.
    pub pending: bool,
}
