//! Write-back (`subs_db_mode` 2): the timer writes the rows; a subscription is never further ahead of its row than the
//! numbers go on after a restart.
use crate::common::row_groups::Pass;
use crate::host::log;
use crate::presence::error::StoreError;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{RowState, SubscriptionState};
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table;
use crate::server::subscriptions::active_watchers_table::{Marks, NoRoute};
use crate::server::subscriptions::kept_rows::{KeptRows, Restored, Writing};
use crate::server::subscriptions::rows_behind::RowsBehind;
use crate::server::subscriptions::store::SubscriptionRows;
use crate::server::tables::subscription_entry::SubscriptionEntry;
use std::ops::Deref;

/// How far the numbers of a subscription may be ahead of its row (write-back): after a crash they go on beyond anything
/// that can have been sent. A NOTIFY that would go further waits until the row is written, see
/// [`is_far_ahead`].
pub const RESERVE: u32 = 1000;

/// Rows that are older than the memory for a while.
pub(crate) struct WriteBack(KeptRows);

impl Deref for WriteBack {
    type Target = KeptRows;
    fn deref(&self) -> &KeptRows {
        &self.0
    }
}

impl RowsBehind for WriteBack {
    fn row_timing(&self) -> SubscriptionRows {
        SubscriptionRows::Later
    }

    /// The row of a watcher that may see less says so at once, or a crash would give it
    /// back what it has lost. The row stays marked, so that a pass under way with the older state is made up for, and
    /// so is a failure.
    fn restricted(&self, dialog: DialogId<'_>) {
        if !self.database.is_configured() {
            return;
        }
        // Without a row nothing can come back.
        let stored = self.shared.tables.find(dialog).filter(|stored| stored.state.row_state != RowState::Insert);
        let (Some(stored), table) = (stored, self.config.active_watchers_table) else { return };
        if let Err(error) = self.database.write(|db| active_watchers_table::update_state(db, table, &stored)) {
            crate::limited!(Error, "a watcher's new authorization is not in its row yet: {error}");
        }
    }

    fn counted_up(&self, stored: &mut SubscriptionEntry) -> bool {
        self.shared.tables.mark_changed(&mut stored.subscription.state);
        is_far_ahead(stored)
    }

    fn may_be_written(&self, state: &SubscriptionState) -> bool {
        state.row_state == RowState::Clean
    }

    fn removed(&self, dialog: DialogId<'_>) {
        self.delete(dialog);
    }

    fn restore(&self) -> Result<usize, StoreError> {
        self.read_all(if self.raise_rows() { Restored::AsWritten } else { Restored::Ahead(RESERVE) })
    }

    fn write_back(&self, pass: Pass) -> Result<usize, StoreError> {
        self.write_older(Writing { no_route: NoRoute::Empty, marks: Marks::Left, ahead: 0 }, pass)
    }
}

impl WriteBack {
    /// The rows of `active_watchers`.
    pub(crate) fn new(parts: Parts) -> WriteBack {
        WriteBack(KeptRows::new(parts))
    }

    /// Raises the numbers of all rows by the reserve, where one statement can: NOTIFYs go on from there. Elsewhere each
    /// row is written before its first NOTIFY. After an orderly stop, too: stock may have notified since and been
    /// killed, and has left nothing in the table then.
    fn raise_rows(&self) -> bool {
        if self.config.shares_subscriptions || self.database.batch(1).is_none() {
            return false;
        }
        let table = log::show(self.config.active_watchers_table);
        let most = i64::from(i32::MAX) - i64::from(RESERVE);
        let text = format!(
            "UPDATE {table} SET local_cseq = local_cseq + {RESERVE}, version = version + {RESERVE} \
             WHERE local_cseq < {most} AND version < {most}"
        );
        self.database.write(|db| db.raw_statement(&text)).is_ok()
    }
}

/// Whether the next NOTIFY of a stored subscription would be so far ahead of its row that a crash could bring its
/// numbers back (write-back). Rows are written at different distances, so that not all watchers of a presentity are
/// due in one pass.
fn is_far_ahead(stored: &SubscriptionEntry) -> bool {
    let state = &stored.subscription.state;
    let ahead = state.local_cseq.saturating_sub(stored.written_cseq);
    // Without a row nothing can come back.
    ahead > RESERVE / 2
        && state.row_state != RowState::Insert
        && ahead >= RESERVE / 2 + spread(stored.subscription.get(Field::CallId))
}

/// A number below half the reserve that differs from dialog to dialog.
fn spread(call_id: &[u8]) -> u32 {
    let sum = call_id.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    sum % (RESERVE / 2 - 32)
}
