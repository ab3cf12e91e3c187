//! Write-through (`subs_db_mode` 1): the row is written before a change is answered, and before a NOTIFY leaves.
use crate::common::row_groups::Pass;
use crate::host::db::Connection;
use crate::presence::dialog::DialogId;
use crate::presence::error::StoreError;
use crate::presence::subscription::{RowState, Subscription, SubscriptionState};
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table as rows;
use crate::server::subscriptions::active_watchers_table::{Marks, NoRoute};
use crate::server::subscriptions::kept_rows::{KeptRows, Restored, Writing};
use crate::server::subscriptions::rows_behind::{NewRow, RowsBehind, mark_unwritten};
use crate::server::subscriptions::store::SubscriptionRows;
use crate::server::tables::subscription_entry::SubscriptionEntry;
use std::ops::Deref;

/// How often a row is written anew because other processes have changed its subscription meanwhile.
const TRIES: usize = 20;

/// Rows that are as new as the memory.
pub(crate) struct WriteThrough(KeptRows);

impl Deref for WriteThrough {
    type Target = KeptRows;
    fn deref(&self) -> &KeptRows {
        &self.0
    }
}

impl RowsBehind for WriteThrough {
    fn row_timing(&self) -> SubscriptionRows {
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
        self.write_older(Writing { no_route: NoRoute::Null, marks: Marks::Written, ahead: 1 }, pass)
    }
}

impl WriteThrough {
    /// The rows of `active_watchers`.
    pub(crate) fn new(parts: Parts) -> WriteThrough {
        WriteThrough(KeptRows::new(parts))
    }

    /// Writes the row of a stored subscription as it is now, counted up by `ahead` NOTIFYs that follow at once. The row
    /// is that of memory when this returns, whatever other processes have written meanwhile.
    fn write_row(&self, dialog: DialogId<'_>, ahead: u32) -> Result<(), StoreError> {
        let mut counters_are_written = false;
        for _ in 0..TRIES {
            let Some((row, row_state)) = self.take_row(dialog, ahead) else { return Ok(()) };
            let has_all = counters_are_written && row_state == RowState::Clean;
            let cells = if has_all { Cells::WithoutCounters } else { Cells::All };
            if let Err(error) = self.write_copy(&row, row_state, cells) {
                mark_unwritten(&self.shared.tables, dialog, row_state);
                return Err(error);
            }
            match self.note_written(&row, cells) {
                Settled::Latest => return Ok(()),
                // Who counts writes the numbers, but into a row that is there: a new one may have come after them.
                Settled::Overtaken => counters_are_written = row_state != RowState::Replace,
                // Its end has removed the row before it was put in the place of another one.
                Settled::Ended => {
                    if row_state == RowState::Replace {
                        self.delete(dialog);
                    }
                    return Ok(());
                }
            }
        }
        mark_unwritten(&self.shared.tables, dialog, RowState::Update);
        Err(StoreError::Busy)
    }

    /// A copy of a stored subscription for its row, which counts as written from now on.
    fn take_row(&self, dialog: DialogId<'_>, ahead: u32) -> Option<(Subscription, RowState)> {
        let tables = &self.shared.tables;
        let mut shard = tables.shard_of_dialog(tables.dialog_hash(dialog))?;
        let stored = shard.find(dialog)?;
        let row_state = std::mem::replace(&mut stored.subscription.state.row_state, RowState::Clean);
        let mut row = stored.subscription.to_private();
        row.state.local_cseq += ahead;
        row.state.version += ahead;
        Some((row, row_state))
    }

    fn write_copy(&self, row: &Subscription, row_state: RowState, cells: Cells) -> Result<(), StoreError> {
        let (table, packages) = (self.config.active_watchers_table, self.packages());
        let fits = !self.database.limits_texts() || rows::fits(row);
        let update = |db: &Connection| match cells {
            Cells::All => rows::update(db, table, row, NoRoute::Null, Marks::Written),
            Cells::WithoutCounters => rows::update_state(db, table, row),
        };
        match row_state {
            RowState::Replace => {
                self.database.write_together(|db| rows::replace(db, table, packages, row, NoRoute::Null))
            }
            _ if fits => self.database.write(update),
            _ => self.database.write_once(update),
        }
    }

    /// A copy has been written. Only now NOTIFYs with its numbers may leave. Where another process has counted further
    /// or changed the subscription since the copy was made, the row may lack this copy, or that change.
    fn note_written(&self, row: &Subscription, cells: Cells) -> Settled {
        let (tables, dialog) = (&self.shared.tables, row.dialog());
        let Some(mut shard) = tables.shard_of_dialog(tables.dialog_hash(dialog)) else { return Settled::Ended };
        let Some(stored) = shard.find(dialog) else { return Settled::Ended };
        let written = row.state.local_cseq;
        let has_counters = cells == Cells::All;
        if (has_counters && stored.written_cseq > written) || !is_of(row, &stored.subscription) {
            return Settled::Overtaken;
        }
        if has_counters {
            stored.written_cseq = written;
        }
        Settled::Latest
    }
}

/// What of a subscription is written into its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cells {
    /// All that can change, unless the row has been counted further up.
    All,
    /// What SUBSCRIBEs and rules change, however far NOTIFYs have been counted: who counts writes the numbers.
    WithoutCounters,
}

/// What a written copy of a subscription is when its statement is done.
enum Settled {
    /// The row is that of memory.
    Latest,
    /// Memory has gone on: the row may be older.
    Overtaken,
    /// The subscription has ended.
    Ended,
}

/// Whether all that a row holds but the numbers of NOTIFYs is as in memory.
fn is_of<B: AsRef<[u8]>>(row: &Subscription, memory: &Subscription<B>) -> bool {
    let (written, now) = (&row.state, &memory.state);
    let is_as_it_was =
        (written.status, written.expires_at, written.remote_cseq, written.updated, written.updated_winfo)
            == (now.status, now.expires_at, now.remote_cseq, now.updated, now.updated_winfo);
    is_as_it_was && row.has_strings_of(memory)
}
