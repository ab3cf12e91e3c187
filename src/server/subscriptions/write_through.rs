//! Write-through (`subs_db_mode` 1): the row is written before a change is answered, and before a NOTIFY leaves.
use crate::common::row_groups::Pass;
use crate::host::db::Connection;
use crate::presence::error::StoreError;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::{RowState, Subscription, SubscriptionState};
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table;
use crate::server::subscriptions::active_watchers_table::{Marks, NoRoute};
use crate::server::subscriptions::kept_rows::{KeptRows, Restored, Writing};
use crate::server::subscriptions::rows_behind::{NewRow, RowsBehind, mark_unwritten};
use crate::server::subscriptions::store::SubscriptionRows;
use crate::server::tables::subscription_entry::SubscriptionEntry;
use std::ops::Deref;

/// How often a row is written anew because other processes have changed its subscription meanwhile.
const TRIES: usize = 20;

/// How much further each of these tries goes with the number of the row: NOTIFYs that are counted up meanwhile do not
/// overtake it.
const FURTHER: u32 = 64;

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
        active_watchers_table::add(self.database, self.config.active_watchers_table, self.packages(), &row)?;
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
    /// is that of memory when this returns, whatever other processes have written meanwhile: it never goes back to an
    /// older copy.
    fn write_row(&self, dialog: DialogId<'_>, mut ahead: u32) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let Some((row, row_state)) = self.take_row(dialog, ahead) else { return Ok(()) };
            if let Err(error) = self.write_copy(&row, row_state) {
                mark_unwritten(&self.shared.tables, dialog, row_state);
                return Err(error);
            }
            match self.note_written(&row) {
                Settled::Latest => return Ok(()),
                Settled::Overtaken => ahead += FURTHER,
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
        let further = stored.number_for_row(ahead) - row.state.local_cseq;
        row.state.local_cseq += further;
        row.state.version = row.state.version.saturating_add(further);
        Some((row, row_state))
    }

    fn write_copy(&self, row: &Subscription, row_state: RowState) -> Result<(), StoreError> {
        let (table, packages) = (self.config.active_watchers_table, self.packages());
        let fits = !self.database.limits_texts() || active_watchers_table::fits(row);
        let update = |db: &Connection| active_watchers_table::update(db, table, row, NoRoute::Null, Marks::Written);
        match row_state {
            RowState::Replace => self
                .database
                .write_together(|db| active_watchers_table::replace(db, table, packages, row, NoRoute::Null)),
            _ if fits => self.database.write(update),
            _ => self.database.write_once(update),
        }
    }

    /// A copy has been written. Only now NOTIFYs with its numbers may leave. Where another process has counted further
    /// or changed the subscription since the copy was made, the row may lack this copy, or that change.
    fn note_written(&self, row: &Subscription) -> Settled {
        let (tables, dialog) = (&self.shared.tables, row.dialog());
        let Some(mut shard) = tables.shard_of_dialog(tables.dialog_hash(dialog)) else { return Settled::Ended };
        let Some(stored) = shard.find(dialog) else { return Settled::Ended };
        let written = row.state.local_cseq;
        if stored.written_cseq > written || !is_of(row, &stored.subscription) {
            return Settled::Overtaken;
        }
        stored.written_cseq = written;
        Settled::Latest
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::authorization::Authorization;
    use crate::presence::ports::subscriptions::{NewDialog, Stored};
    use crate::presence::subscription::field::Field;
    use crate::presence::subscription::{Renewal, Status};
    use crate::presence::testing::{PRESENCE, fixtures};
    use crate::server::notifications::row_run::RowWork;
    use crate::server::subscriptions::memory::MemorySubscriptions;
    use crate::server::subscriptions::store::SubscriptionStore;
    use crate::sip::transport::Transport;
    use crate::time::Moment;

    /// A row that is there from the start; its changes are left to the test.
    struct OneRow;

    impl RowsBehind for OneRow {
        fn row_timing(&self) -> SubscriptionRows {
            SubscriptionRows::AtOnce
        }
        fn add(&self, subscription: &Subscription, ahead: u32) -> Result<NewRow, StoreError> {
            Ok(NewRow { row_state: RowState::Clean, cseq: subscription.state.local_cseq + ahead })
        }
    }

    struct RowBench {
        rows: WriteThrough,
        memory: MemorySubscriptions,
        work: RowWork,
        /// The row in the table.
        row: Subscription,
    }

    impl RowBench {
        fn new() -> RowBench {
            let parts = Parts::without_database(fixtures::config());
            let state = SubscriptionState {
                remote_cseq: 1,
                expires_at: Moment::at(i64::from(i32::MAX)),
                ..SubscriptionState::new(PRESENCE, Status::Active)
            };
            let fields: [(Field, &[u8]); 4] = [
                (Field::PresUri, b"sip:alice@example.org"),
                (Field::CallId, b"call"),
                (Field::ToTag, b"to"),
                (Field::FromTag, b"from"),
            ];
            let row = Subscription::from_fields(state, &fields).expect("short strings");
            let memory = MemorySubscriptions::new(parts, &OneRow);
            let mut work = RowWork::new(parts.shared.missed_changes);
            let dialog = NewDialog(parts.shared.tables.dialog_hash(row.dialog()));
            let resource = parts.shared.tables.rule().resource(b"sip:alice@example.org", PRESENCE);
            assert_eq!(memory.subscribe(&mut work, &row, &resource, dialog), Ok(Stored::New));
            RowBench { rows: WriteThrough::new(parts), memory, work, row }
        }

        fn refresh(&mut self) {
            let current = self.memory.find(self.row.dialog()).unwrap().unwrap();
            let renewal = Renewal {
                expires_at: Moment::at(i64::from(i32::MAX)),
                remote_cseq: current.state.remote_cseq + 1,
                contact: b"sip:bob@192.0.2.2",
                socket: b"",
                transport: Transport::Udp,
                local_contact: b"",
            };
            self.memory.renew(&mut self.work, &current, &renewal).unwrap();
        }

        fn decide(&mut self, status: Status) {
            let authorization = Authorization { status, reason: Vec::new() };
            self.memory.set_authorization(&mut self.work, self.row.dialog(), &authorization).unwrap();
        }

        /// A NOTIFY is counted up in memory, and in the row.
        fn count_up(&mut self) {
            let tables = &self.rows.shared.tables;
            let mut shard = tables.shard_of_dialog(tables.dialog_hash(self.row.dialog())).unwrap();
            let stored = shard.find(self.row.dialog()).unwrap();
            stored.subscription.state.local_cseq += 1;
            if self.rows.counted_up(stored) {
                stored.written_cseq = stored.subscription.state.local_cseq;
                self.row.state.local_cseq = self.row.state.local_cseq.max(stored.written_cseq);
            }
        }

        fn copy(&self, ahead: u32) -> Subscription {
            self.rows.take_row(self.row.dialog(), ahead).unwrap().0
        }

        /// The statement of a copy: a row that was counted further takes nothing.
        fn write(&mut self, copy: &Subscription) -> Settled {
            if self.row.state.local_cseq <= copy.state.local_cseq {
                self.row = copy.clone();
            }
            self.rows.note_written(copy)
        }

        fn holds_the_memory(&self) -> bool {
            let memory = self.memory.find(self.row.dialog()).unwrap().unwrap();
            is_of(&self.row, &memory) && self.row.state.local_cseq >= memory.state.local_cseq
        }
    }

    #[test]
    fn a_row_is_as_the_last_decision_whichever_statement_comes_last() {
        for (is_counted, comes_last) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            let mut bench = RowBench::new();
            bench.refresh();
            let refreshed = bench.copy(1);
            if is_counted {
                bench.count_up();
            }
            bench.decide(Status::Pending);
            let decided = bench.copy(1);
            let copies = if comes_last == 0 { [&decided, &refreshed] } else { [&refreshed, &decided] };
            for copy in copies {
                let is_latest = matches!(bench.write(copy), Settled::Latest);
                assert_eq!(is_latest, std::ptr::eq(copy, &decided));
                // What has been answered is in the row, whatever comes behind it.
                assert!(bench.holds_the_memory() || (!is_latest && comes_last == 1), "{is_counted} {comes_last}");
            }
            assert!(bench.holds_the_memory());
        }
    }

    #[test]
    fn notifies_do_not_overtake_a_row_again_and_again() {
        let mut bench = RowBench::new();
        bench.refresh();
        let copy = bench.copy(1);
        (0..FURTHER / 2).for_each(|_| bench.count_up());
        assert!(matches!(bench.write(&copy), Settled::Overtaken) && !bench.holds_the_memory());
        let again = bench.copy(1 + FURTHER);
        (0..FURTHER).for_each(|_| bench.count_up());
        assert!(matches!(bench.write(&again), Settled::Latest) && bench.holds_the_memory());
    }

    #[test]
    fn a_row_that_is_written_for_one_request_at_a_time_is_ahead_by_one() {
        let mut bench = RowBench::new();
        for _ in 0..3 {
            bench.refresh();
            let copy = bench.copy(1);
            assert!(matches!(bench.write(&copy), Settled::Latest));
            bench.count_up();
            let memory = bench.memory.find(bench.row.dialog()).unwrap().unwrap();
            assert_eq!(bench.row.state.local_cseq, memory.state.local_cseq);
        }
    }
}
