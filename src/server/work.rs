//! What one entry from the host has to send, and the queue that it takes it from. Where subscriptions live in memory
//! each resource has a queue; where they are rows, the entry that changed something sends, or marks rows for a
//! notifier.
use crate::host::clock;
use crate::presence::notification::{ChangeOrigin, Notify, NotifyAttempt, NotifyRun, StateChange, Unsent};
use crate::presence::resource::Resource;
use crate::server::notifications::held_queues::HeldQueues;
use crate::server::notifications::pacing::Pacing;
use crate::server::notifications::row_run::RowWork;
use crate::server::shared::Parts;
use crate::time::{MicroTick, Moment};

/// What one entry has to send.
pub struct Work {
    /// The resources for which the entry sends.
    pub(crate) held: HeldQueues,
    /// How far this process is ahead of the answers.
    pub(crate) pace: Option<Pacing>,
    /// What it sends where subscriptions are rows.
    pub(crate) rows: RowWork,
    /// Where what the entry carries out was done first.
    pub(crate) origin: ChangeOrigin,
    /// The entry is in the process that looks names of targets up.
    pub(crate) looks_names_up: bool,
    /// When the entry began.
    pub(crate) began: MicroTick,
    /// The same by the server's own time: no change that the entry brings about is older.
    pub(crate) began_at: Moment,
}

impl Work {
    /// Starts without work.
    pub fn new(parts: &Parts) -> Work {
        let held = HeldQueues::new(&parts.shared.tables, parts.shared.interrupted, parts.shared.unread);
        Work {
            held,
            pace: None,
            rows: RowWork::new(parts.shared.missed_changes),
            origin: ChangeOrigin::ThisNode,
            looks_names_up: false,
            began: clock::micro_tick(),
            began_at: clock::now(),
        }
    }

    /// Which time it is that this entry sends what it sends.
    pub fn attempt(&self) -> NotifyAttempt {
        if self.held.may_try_again() && self.rows.may_try_again() {
            NotifyAttempt::First
        } else {
            NotifyAttempt::Second
        }
    }
}

/// Where changes wait for their NOTIFYs.
pub trait NotifyQueue {
    /// The documents of a resource are about to change.
    fn begin_change(&self, work: &mut Work, resource: &Resource);

    /// The change that began has come to nothing: what is shown next is of another one.
    fn forget_change(&self, work: &mut Work);
    /// The documents of a resource have just changed: later watchers see the change in the answer to their SUBSCRIBE.
    fn note_change(&self, work: &mut Work, resource: &Resource);
    /// See [`crate::presence::ports::notifications::Notifications::enqueue`].
    #[must_use = "the caller has taken the queue, and sends"]
    fn enqueue(&self, work: &mut Work, resource: &Resource, event: StateChange<'_>) -> bool {
        self.mark(work, resource, event) && self.claim(work, resource)
    }
    /// See [`crate::presence::ports::notifications::Notifications::mark`].
    #[must_use = "the resource waits for the caller to claim it"]
    fn mark(&self, work: &mut Work, resource: &Resource, event: StateChange<'_>) -> bool;
    /// See [`crate::presence::ports::notifications::Notifications::claim`].
    #[must_use = "the caller has taken the queue, and sends"]
    fn claim(&self, work: &mut Work, resource: &Resource) -> bool;
    /// See [`crate::presence::ports::notifications::Notifications::begin_run`].
    fn begin_run(&self, work: &mut Work, resource: &Resource) -> Option<NotifyRun>;
    /// See [`crate::presence::ports::notifications::Notifications::next_batch`].
    fn next_batch(&self, work: &mut Work, resource: &Resource, notify_run: &mut NotifyRun) -> Vec<Notify>;
    /// See [`crate::presence::ports::notifications::Notifications::take_back`].
    fn take_back(&self, work: &mut Work, resource: &Resource, notify: &Notify);
    /// A NOTIFY that had left its queue was not sent: it is due again, whichever process sends for the resource.
    fn make_one_due(&self, work: &mut Work, resource: &Resource, notify: &Notify);
    /// Marks NOTIFYs that were not sent as due again, and opens the resource. `true` when they are tried again soon.
    #[must_use = "what is not tried again soon deserves a line in the log"]
    fn make_due_again(&self, work: &mut Work, resource: &Resource, unsent: Unsent, again: Again) -> bool;
    /// See [`crate::presence::ports::notifications::Notifications::broken_off`].
    fn make_all_due(&self, work: &mut Work, resource: &Resource);
}

/// When NOTIFYs that were not sent are tried again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// A panic was in the way: once, and then with the next change.
    Once,
    /// The state could not be read: as soon as it can.
    WhenRead,
}
