//! What stands behind the subscriptions in memory: nothing (`subs_db_mode` 0), or the rows of `active_watchers`.
use crate::common::row_groups::Pass;
use crate::presence::error::StoreError;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::{RowState, Subscription, SubscriptionState};
use crate::server::subscriptions::store::SubscriptionRows;
use crate::server::tables::Tables;
use crate::server::tables::subscription_entry::SubscriptionEntry;

/// What a new subscription's row is when it is put into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewRow {
    /// What the row lacks.
    pub row_state: RowState,
    /// The local CSeq in the row.
    pub cseq: u32,
}

/// The rows behind the memory. What is not said here does nothing without rows.
pub(crate) trait RowsBehind {
    /// When rows are written.
    fn row_timing(&self) -> SubscriptionRows;

    /// A subscription is about to be put into memory; `ahead` NOTIFYs follow at once.
    fn add(&self, subscription: &Subscription, _ahead: u32) -> Result<NewRow, StoreError> {
        Ok(NewRow { row_state: subscription.state.row_state, cseq: subscription.state.local_cseq })
    }

    /// A subscription is being renewed, under its lock.
    fn renewed(&self, _state: &mut SubscriptionState) {}

    /// A subscription has changed, and one NOTIFY follows at once.
    fn changed(&self, _dialog: DialogId<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// A watcher may see less than before.
    fn restricted(&self, _dialog: DialogId<'_>) {}

    /// A NOTIFY was counted up, under the lock of the subscription; `true` when the row is written before it is sent.
    fn counted_up(&self, _stored: &mut SubscriptionEntry) -> bool {
        false
    }

    /// Whether the row may have the numbers of memory by now, so that smaller ones would not be written over them.
    fn may_be_written(&self, _state: &SubscriptionState) -> bool {
        false
    }

    /// A subscription has ended.
    fn removed(&self, _dialog: DialogId<'_>) {}

    /// See [`crate::server::subscriptions::store::SubscriptionStore::restore`].
    fn restore(&self) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// See [`crate::server::subscriptions::store::SubscriptionStore::write_back`].
    fn write_back(&self, _: Pass) -> Result<usize, StoreError> {
        Ok(0)
    }
}

/// A memory without a table behind it.
pub(crate) struct NoRows;

impl RowsBehind for NoRows {
    fn row_timing(&self) -> SubscriptionRows {
        SubscriptionRows::None
    }
}

/// What was to be written is not in the row: it lacks at least this, and no number that NOTIFYs have is known to be
/// there.
pub(crate) fn mark_unwritten(tables: &Tables, dialog: DialogId<'_>, lacks: RowState) {
    let Some(mut shard) = tables.shard_of_dialog(tables.dialog_hash(dialog)) else { return };
    if let Some(stored) = shard.find(dialog) {
        let state = &mut stored.subscription.state;
        tables.mark_changed(state);
        if lacks == RowState::Replace {
            state.row_state = lacks;
        }
        stored.written_cseq = 0;
    }
}
