//! NOTIFYs (RFC 6665 4.2.2): what is due for a resource, who sends it, and the sending.
use crate::presence::error::StoreError;
use crate::presence::history::remembered::BodyDigest;
use crate::presence::notification::{Notify, NotifyHistory, NotifyRecord, NotifyRun, QueueState, StateChange, Unsent};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;

/// The queues of resources, and the NOTIFYs that leave them.
pub trait Notifications {
    /// What became of the NOTIFYs of a subscription.
    fn notify_history(&mut self, dialog: DialogId<'_>) -> NotifyHistory;
    /// Returns which process sends for a resource, if one does.
    fn queue_state(&mut self, resource: &Resource) -> QueueState;
    /// Notes a state change of a resource; `true` when the caller has to send (`notifier::run`).
    #[must_use = "the caller has taken the queue, and sends"]
    fn enqueue(&mut self, resource: &Resource, event: StateChange<'_>) -> bool;
    /// Notes a state change of a resource before the caller answers; the process that sends for the resource next sends
    /// it. What the caller waits for until then, such as a slow connection, holds nobody up. `true` when it has to
    /// [`Self::claim`] the resource once it has answered.
    #[must_use = "the resource waits for the caller to claim it"]
    fn mark(&mut self, resource: &Resource, event: StateChange<'_>) -> bool;
    /// Takes a resource that was marked; `true` when the caller has to send, because nobody else has begun to.
    #[must_use = "the caller has taken the queue, and sends"]
    fn claim(&mut self, resource: &Resource) -> bool;
    /// Starts a pass over what is due, or lets go of the resource when nothing is.
    fn begin_run(&mut self, resource: &Resource) -> Option<NotifyRun>;
    /// The next NOTIFYs of a pass, counted up and, where the mode promises it, written down. Empty: the pass has ended.
    fn next_batch(&mut self, resource: &Resource, notify_run: &mut NotifyRun) -> Vec<Notify>;
    /// Notes what the subscriptions of a batch of a pass were notified of.
    fn record_notified(&mut self, resource: &Resource, notify_run: &NotifyRun, notified: &[NotifyRecord]);
    /// A NOTIFY of a batch was not made: its numbers are those of the next one, unless others were counted up since.
    fn take_back(&mut self, resource: &Resource, notify: &Notify);
    /// NOTIFYs that a panic has kept from being sent: they become due again, and the resource is let go of.
    fn interrupted(&mut self, resource: &Resource, unsent: Unsent, why: &str);
    /// A panic has kept a change of a resource from being made known: its watchers are notified of its state, and those
    /// whose subscriptions have ended of that.
    fn broken_off(&mut self, resource: &Resource, why: &str);
    /// The state of a resource cannot be read now: these NOTIFYs are due again as soon as it can.
    fn left_unread(&mut self, resource: &Resource, unsent: Unsent, why: StoreError);
    /// Whether the shared memory allows more NOTIFYs to be under way now.
    fn may_send_more(&mut self) -> bool;
    /// Sends a NOTIFY; `digest` is that of its body.
    fn send_notify(&mut self, notify: &Notify, headers: &[u8], body: Option<&[u8]>, digest: BodyDigest);
}
