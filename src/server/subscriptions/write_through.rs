//! Write-through (`subs_db_mode` 1): the row is written before a change is answered, and before a NOTIFY leaves.
use crate::common::row_groups::Pass;
use crate::host::db::Connection;
use crate::presence::dialog::DialogId;
use crate::presence::error::StoreError;
use crate::presence::subscription::{RowState, Subscription, SubscriptionState};
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table as rows;
use crate::server::subscriptions::active_watchers_table::NoRoute;
use crate::server::subscriptions::kept_rows::{KeptRows, Restored};
use crate::server::subscriptions::rows_behind::{NewRow, RowsBehind};
use crate::server::subscriptions::store::SubscriptionRows;
use crate::server::tables::subscription_entry::SubscriptionEntry;
use std::ops::Deref;

/// Rows that are as new as the memory.
pub(crate) struct WriteThrough(KeptRows);

impl Deref for WriteThrough {
    type Target = KeptRows;
    fn deref(&self) -> &KeptRows {
        &self.0
    }
}

impl RowsBehind for WriteThrough {
    fn rows(&self) -> SubscriptionRows {
        SubscriptionRows::AtOnce
    }

    fn add(&self, subscription: &Subscription, ahead: u32) -> Result<NewRow, StoreError> {
        // The NOTIFY that answers the SUBSCRIBE follows at once: its numbers are written with the row.
        let mut row = subscription.to_private();
        row.state.local_cseq += ahead;
        row.state.version += 1;
        rows::add(self.database, self.config.active_watchers_table, self.packages(), &row)?;
        Ok(NewRow { row_state: RowState::Clean, cseq: row.state.local_cseq })
    }

    fn renewed(&self, state: &mut SubscriptionState) {
        state.updated = 0;
        state.updated_winfo = 0;
    }

    fn changed(&self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        self.write_row(dialog, 1)
    }

    fn counted_up(&self, stored: &mut SubscriptionEntry) -> bool {
        stored.subscription.state.local_cseq > stored.written_cseq
    }

    fn removed(&self, dialog: DialogId<'_>) {
        self.delete(dialog);
    }

    fn restore(&self) -> Result<usize, StoreError> {
        self.read_all(Restored::AsWritten)
    }

    fn write_back(&self, pass: Pass) -> Result<usize, StoreError> {
        self.write_older(NoRoute::Null, pass)
    }
}

impl WriteThrough {
    /// The rows of `active_watchers`.
    pub(crate) fn new(parts: Parts) -> WriteThrough {
        WriteThrough(KeptRows::new(parts))
    }

    /// Writes the row of a stored subscription as it is now, counted up by `ahead` NOTIFYs that follow at once.
    fn write_row(&self, dialog: DialogId<'_>, ahead: u32) -> Result<(), StoreError> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        let (row, row_state) = {
            let Some(mut shard) = tables.shard_of_dialog(hash) else { return Ok(()) };
            let Some(stored) = shard.find(dialog) else { return Ok(()) };
            let row_state = std::mem::replace(&mut stored.subscription.state.row_state, RowState::Clean);
            let mut row = stored.subscription.to_private();
            row.state.local_cseq += ahead;
            row.state.version += ahead;
            (row, row_state)
        };
        let (table, packages) = (self.config.active_watchers_table, self.packages());
        let fits = !self.database.limits_texts() || rows::fits(&row);
        let update = |db: &Connection| rows::update(db, table, &row, NoRoute::Null);
        let written = match row_state {
            RowState::Replace => {
                self.database.write_together(|db| rows::replace(db, table, packages, &row, NoRoute::Null))
            }
            _ if fits => self.database.write(update),
            _ => self.database.write_once(update),
        };
        if written.is_err() {
            self.mark_unwritten(dialog, row_state);
            return written;
        }
        self.note_written(&row);
        Ok(())
    }

    /// A row has been written as it was read. Only now NOTIFYs with its numbers may leave; those that other processes
    /// have counted meanwhile, and written before it, are written once more.
    fn note_written(&self, row: &Subscription) {
        let (tables, dialog) = (&self.shared.tables, row.dialog());
        let later = {
            let Some(mut shard) = tables.shard_of_dialog(tables.dialog_hash(dialog)) else { return };
            let Some(stored) = shard.find(dialog) else { return };
            stored.written_cseq = stored.written_cseq.max(row.state.local_cseq);
            let is_later = stored.subscription.state.local_cseq > row.state.local_cseq;
            is_later.then(|| stored.subscription.to_private())
        };
        let Some(later) = later else { return };
        let table = self.config.active_watchers_table;
        if self.database.write(|db| rows::update_counters(db, table, &later)).is_err() {
            self.mark_unwritten(dialog, RowState::Update);
        }
    }

    /// The row is still older than the memory: the timer writes it.
    fn mark_unwritten(&self, dialog: DialogId<'_>, row_state: RowState) {
        let tables = &self.shared.tables;
        let Some(mut shard) = tables.shard_of_dialog(tables.dialog_hash(dialog)) else { return };
        if let Some(stored) = shard.find(dialog) {
            let state = &mut stored.subscription.state;
            state.row_state = if row_state == RowState::Replace { row_state } else { RowState::Update };
            stored.written_cseq = 0;
        }
    }
}
