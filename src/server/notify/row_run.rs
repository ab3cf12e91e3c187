//! What an entry from the host has to send where subscriptions are rows of `active_watchers` (database-only mode).
use crate::presence::notification::{Notify, TransientBody};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::winfo::Watcher;

/// A change whose watchers this process notifies.
pub struct RowNotifyRun {
    pub(crate) resource: Resource,
    pub(crate) transient_body: Option<TransientBody>,
    pub(crate) sender: Vec<u8>,
    pub(crate) change: Option<(Watcher, bool)>,
    /// Documents have changed.
    pub(crate) is_of_documents: bool,
    /// The rows are marked for a notifier process, and this process sends nothing.
    pub(crate) is_left_to_notifiers: bool,
}

/// The changes and NOTIFYs of one entry.
#[derive(Default)]
pub struct RowWork {
    /// NOTIFYs of single subscriptions.
    pub(crate) own: Vec<(Resource, Notify)>,
    /// The subscription that this entry has just written, whose next NOTIFY is counted in its row already.
    pub(crate) counted: Option<Subscription>,
    /// Changes whose watchers have to be notified.
    pub(crate) notify_runs: Vec<RowNotifyRun>,
    /// Who watched a resource when this entry changed its documents: later ones know the change.
    pub(crate) watching: Option<(Resource, Vec<Subscription>)>,
    /// The Contact that is not notified in the run under way.
    pub(crate) run_sender: Vec<u8>,
}
