//! A notify run over rows of `active_watchers` (database-only mode).
use crate::presence::notification::TransientBody;
use crate::presence::resource::Resource;
use crate::presence::winfo::Watcher;

/// A change that this process has to tell.
pub struct RowNotifyRun {
    pub(crate) resource: Resource,
    pub(crate) transient_body: Option<TransientBody>,
    pub(crate) sender: Vec<u8>,
    pub(crate) change: Option<(Watcher, bool)>,
}
