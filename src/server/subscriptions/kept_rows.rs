//! Rows of subscriptions that live in memory: read at start-up, written by the timer and at the end.
use crate::common::row_groups::{GROUP, GroupOutcome, Pass, RefusalLog, RowBackoff, RowOutcome, TakenRows, Writer};
use crate::host::db::{Connection, DbError};
use crate::host::{clock, log, shm};
use crate::log;
use crate::presence::error::StoreError;
use crate::presence::event_package::Trait;
use crate::presence::ports::subscriptions::Stored;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{RowState, Subscription};
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table;
use crate::server::subscriptions::active_watchers_table::{Marks, NoRoute};
use crate::server::tables::pending_deletions::EndedSubscriptionRow;
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use crate::time::Moment;
use std::ops::Deref;

/// How the numbers of rows are taken over at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restored {
    /// As they are.
    AsWritten,
    /// Raised by this much: memory may have been ahead of the row.
    Ahead(u32),
}

/// At most this many rows are put into order at a time. Each takes twelve bytes of private memory meanwhile.
const ORDERED: usize = 1 << 18;

/// Where a subscription is whose row is older than the memory, and where the row lies among the others, about.
struct OlderRow {
    arrival: u32,
    shard: u32,
    slot: u32,
}

/// How older rows are written.
#[derive(Clone, Copy)]
pub(crate) struct Writing {
    /// What a row has without a route set.
    pub no_route: NoRoute,
    /// What becomes of the marks of stock's notifier processes.
    pub marks: Marks,
    /// By how many NOTIFYs each row is counted up.
    pub ahead: u32,
}

/// The rows of subscriptions that live in memory.
#[derive(Clone, Copy)]
pub(crate) struct KeptRows {
    parts: Parts,
}

impl Deref for KeptRows {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl KeptRows {
    /// The rows of `active_watchers`.
    pub(crate) fn new(parts: Parts) -> KeptRows {
        KeptRows { parts }
    }

    /// Removes the row of a subscription.
    pub(crate) fn delete(&self, dialog: DialogId<'_>) {
        let table = self.config.active_watchers_table;
        let Err(error) = self.database.write(|db| active_watchers_table::delete(db, table, dialog)) else { return };
        let then = match self.shared.pending_deletions.note(dialog) {
            true => "it is removed with the next rows that are written",
            false => "too many wait already, and it stays until it expires",
        };
        crate::limited!(Error, "cannot delete the row of an ended subscription, {then}: {error}");
    }

    /// Removes the rows that could not be removed when their subscriptions ended.
    fn delete_pending(&self) -> Result<(), StoreError> {
        let (table, pending) = (self.config.active_watchers_table, self.shared.pending_deletions);
        for _ in 0..pending.len().div_ceil(GROUP) {
            let put_back = |row: &EndedSubscriptionRow| {
                pending.note(row.dialog());
            };
            let mut group = pending.take(GROUP);
            // A phone that uses its ids again has a row of its own by now.
            group.retain(|row| self.shared.tables.find(row.dialog()).is_none());
            let mut group = TakenRows::new(group, &put_back);
            let write =
                |db: &Connection, row: &EndedSubscriptionRow| active_watchers_table::delete(db, table, row.dialog());
            let writer = Writer { database: self.database, table, fits: &|_| true, write: &write };
            let outcome = writer.write_group(group.rows());
            group.settle(&outcome.of_rows, |row, outcome| {
                if outcome != RowOutcome::Written {
                    put_back(row);
                }
            });
            outcome.error.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Fills the memory from the table; returns how many rows were read.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read, or shared memory runs out.
    pub(crate) fn read_all(&self, numbers: Restored) -> Result<usize, StoreError> {
        let (table, packages) = (self.config.active_watchers_table, self.packages());
        let reserve = match numbers {
            Restored::AsWritten => 0,
            Restored::Ahead(reserve) => reserve,
        };
        // Where nodes share subscriptions, another may have gone on with them: it is asked first.
        let ownership = match self.config.shares_subscriptions {
            true => Ownership::held_by(NodeId::ELSEWHERE),
            false => Ownership::default(),
        };
        // What was decided while the table could not be written is not in it.
        let has_rules =
            |subscription: &Subscription| packages.get(subscription.state.event).has_trait(Trait::NeedsAuthorization);
        let judges = |subscription: &Subscription| has_rules(subscription) && !self.config.force_active;
        let (mut failed, mut twice) = (0, 0);
        let count = crate::common::paging::each_page(self.database, table, self.config.fetch_rows, |db, page| {
            let (found, seen) = active_watchers_table::select_page(db, table, packages, page)?;
            for mut subscription in found {
                let in_row = subscription.state.local_cseq;
                let resource = judges(&subscription).then(|| self.shared.tables.resource_of(&subscription));
                subscription.state.local_cseq = in_row.saturating_add(reserve);
                subscription.state.version = subscription.state.version.saturating_add(reserve);
                let placed =
                    subscription.map(shm::copy).and_then(|shared| self.shared.tables.place(shared, in_row, ownership));
                failed += usize::from(placed.is_err());
                twice += usize::from(placed == Ok(Stored::Known));
                resource.iter().for_each(|resource| self.shared.tables.mark_unjudged(resource));
            }
            Ok(seen)
        })?;
        if twice > 0 {
            log!(Warn, "{twice} rows of {} name the dialog of another row and are not read", log::show(table));
        }
        if failed > 0 {
            log!(Error, "{failed} subscriptions do not fit the shared memory: raise it (option -m)");
            return Err(StoreError::NoMemory);
        }
        Ok(count)
    }

    /// Writes the rows that are older than the memory, in groups: all of them in write-back, in write-through those
    /// that could not be written when they changed. They are written in the order in which they lie in the table, so
    /// that a page of it is read and written once. Returns how many rows were written.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub(crate) fn write_older(&self, writing: Writing, pass: Pass) -> Result<usize, StoreError> {
        if !self.database.is_configured() {
            return Ok(0);
        }
        // Whatever fails from here on does not count as many rows again.
        self.shared.tables.unwritten.begin_pass();
        self.delete_pending()?;
        let (now, mut refusals, mut total) = (pass.moment(clock::now()), RefusalLog::default(), 0);
        // What is found in a shard that a process has left in the middle of a change costs the others nothing.
        let (whole, broken) = self.shared.tables.whole_and_broken_shards();
        for shards in std::iter::once(whole.as_slice()).chain(broken.chunks(1)) {
            loop {
                let older = self.older_rows(shards, now, pass);
                for group in older.chunks(GROUP) {
                    let changed = self.take_changed(group, now, pass, writing.ahead);
                    total += self.write_taken(changed, writing, now, &mut refusals)?;
                }
                if older.len() < ORDERED {
                    break;
                }
            }
        }
        Ok(total)
    }

    /// Writes a group of copies; returns how many are written.
    fn write_taken(
        &self,
        changed: Vec<Subscription>,
        writing: Writing,
        now: Moment,
        refusals: &mut RefusalLog,
    ) -> Result<usize, StoreError> {
        if changed.is_empty() {
            return Ok(0);
        }
        let put_back = |row: &Subscription| {
            self.note_fate(row, RowOutcome::Kept, now);
        };
        let mut changed = TakenRows::new(changed, &put_back);
        let outcome = self.write_group(changed.rows(), writing);
        let written = outcome.count(RowOutcome::Written);
        changed.settle(&outcome.of_rows, |row, outcome| self.name_refused(row, outcome, now, refusals));
        outcome.error.map_or(Ok(written), Err)
    }

    /// The subscriptions of these shards whose rows are older, in the order of their rows, as many as are ordered at a
    /// time.
    fn older_rows(&self, shards: &[usize], now: Moment, pass: Pass) -> Vec<OlderRow> {
        let mut older = Vec::new();
        for index in shards {
            let shard = self.shared.tables.nth_shard(*index);
            let waiting = shard.subscriptions_from(0).filter(|(_, stored)| waits(stored, now, pass));
            let rows = waiting.map(|(slot, m)| OlderRow { arrival: m.arrival, shard: *index as u32, slot });
            older.extend(rows.take(ORDERED - older.len()));
        }
        older.sort_unstable_by_key(|row| row.arrival);
        older
    }

    /// Copies the subscriptions whose rows are still older, and notes that they are being written.
    fn take_changed(&self, rows: &[OlderRow], now: Moment, pass: Pass, ahead: u32) -> Vec<Subscription> {
        let take = |stored: &mut SubscriptionEntry| {
            let mut copy = stored.subscription.to_private();
            if is_left_behind(stored, pass) {
                copy.state.row_state = RowState::Replace;
            }
            (stored.subscription.state.row_state, stored.is_being_written) = (RowState::Clean, true);
            // A row that is further already takes nothing that is behind it.
            let mut further = stored.written_cseq.saturating_sub(copy.state.local_cseq);
            if ahead > 0 {
                // Requests write the row, too.
                further = stored.number_for_row(further.max(ahead)) - copy.state.local_cseq;
            }
            copy.state.local_cseq = copy.state.local_cseq.saturating_add(further);
            copy.state.version = copy.state.version.saturating_add(further);
            copy
        };
        let changed = rows.iter().filter_map(|row| {
            let mut shard = self.shared.tables.nth_shard(row.shard as usize);
            shard.stored(row.slot).filter(|stored| waits(stored, now, pass)).map(take)
        });
        changed.collect()
    }

    fn write_group(&self, group: &[Subscription], writing: Writing) -> GroupOutcome {
        let Writing { no_route, marks, .. } = writing;
        let (table, packages) = (self.config.active_watchers_table, self.packages());
        let write = |db: &Connection, subscription: &Subscription| -> Result<(), DbError> {
            match subscription.state.row_state {
                RowState::Insert => active_watchers_table::insert(db, table, packages, subscription, no_route),
                RowState::Replace => active_watchers_table::replace(db, table, packages, subscription, no_route),
                _ => active_watchers_table::update(db, table, subscription, no_route, marks),
            }
        };
        let mut outcome = Writer { database: self.database, table, fits: &active_watchers_table::fits, write: &write }
            .write_group(group);
        for (subscription, outcome) in group.iter().zip(&mut outcome.of_rows) {
            let is_whole = matches!(subscription.state.row_state, RowState::Insert | RowState::Replace);
            if let Some(plainer) = active_watchers_table::without_user_agent(subscription)
                .filter(|_| is_whole && *outcome == RowOutcome::Refused)
            {
                let written = self.database.write_once(|db| write(db, &plainer));
                *outcome = if written.is_ok() { RowOutcome::Written } else { *outcome };
            }
        }
        outcome
    }

    /// What became of a row: one that is not written is marked again, one that was ended meanwhile is removed.
    fn name_refused(&self, row: &Subscription, outcome: RowOutcome, now: Moment, refusals: &mut RefusalLog) {
        let was_refused = self.note_fate(row, outcome, now);
        if outcome == RowOutcome::Refused && was_refused == Some(false) {
            refusals.note(self.config.active_watchers_table, || {
                let (watcher, presentity) = (row.watcher_uri(), row.get(Field::PresUri));
                format!("the subscription of {} to {}", log::show(&watcher), log::show(presentity))
            });
        }
    }

    /// Whether the row was known to be refused; `None` where there is no such subscription any more.
    fn note_fate(&self, subscription: &Subscription, outcome: RowOutcome, now: Moment) -> Option<bool> {
        let (tables, dialog) = (&self.shared.tables, subscription.dialog());
        let was_refused = tables.shard_of_dialog(tables.dialog_hash(dialog)).and_then(|mut shard| {
            let stored = shard.find(dialog)?;
            let was_refused = stored.aside.is_refused();
            stored.is_being_written = false;
            let state = &mut stored.subscription.state;
            match outcome {
                RowOutcome::Written => {
                    let written = subscription.state.local_cseq;
                    // A row that was counted further up since the copy was made has not taken the rest of it: the next
                    // pass writes it.
                    let is_behind = stored.written_cseq > written;
                    if is_behind {
                        tables.mark_changed(state);
                    }
                    stored.aside = if is_behind { RowBackoff::later(now) } else { RowBackoff::default() };
                    stored.written_cseq = stored.written_cseq.max(written);
                }
                RowOutcome::Refused | RowOutcome::Kept => {
                    (state.row_state, stored.aside) = (subscription.state.row_state, stored.aside.after(outcome, now));
                }
            }
            Some(was_refused)
        });
        if was_refused.is_none() && outcome == RowOutcome::Written {
            self.delete(dialog);
        }
        was_refused
    }
}

/// Whether the row of a subscription is older than the memory, and may be written in the pass that began at `now`.
fn waits(stored: &SubscriptionEntry, now: Moment, pass: Pass) -> bool {
    let is_older = stored.subscription.state.row_state != RowState::Clean || is_left_behind(stored, pass);
    is_older && !stored.aside.rests(now, pass)
}

/// Whether a process has ended while it wrote the row: nobody knows what the row is, and it is written anew.
fn is_left_behind(stored: &SubscriptionEntry, pass: Pass) -> bool {
    pass == Pass::Last && stored.is_being_written
}
