//! Subscriptions in the database only (mode 3): a change is one statement that reads a row and one that writes it if it
//! is as it was read. Whatever changes what a NOTIFY says counts CSeq and version up with it, so that servers which
//! share the table never use a number twice, and never undo what another one has written.
use crate::common::ended_rows::EndedStep;
use crate::common::paging::Page;
use crate::common::row_groups::Pass;
use crate::host::clock;
use crate::host::db::{Cond, Connection, Op, Value};
use crate::limited;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::expiry;
use crate::presence::notification::Notify;
use crate::presence::ports::subscriptions::{NewDialog, Renewed, Stored};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Renewal, Status, Subscription, SubscriptionState};
use crate::server::notifications::row_run::RowWork;
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table;
use crate::server::subscriptions::store::{End, SubscriptionRows, SubscriptionStore};
use crate::sip::transport::Transport;
use crate::time::Moment;
use std::cell::Cell;
use std::ops::Deref;

/// How often a row is read again and written when another process or server was faster.
const TRIES: usize = 20;

thread_local! {
    /// The key of the row that the next step through expired rows begins behind, in this process.
    static NEXT_STEP: Cell<Option<i64>> = const { Cell::new(None) };
}

/// The final NOTIFY of a subscription that has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndNotify {
    /// The watcher is notified.
    Sent,
    /// The subscription ended too long ago for that.
    Omitted,
}

/// Subscriptions in the database only. Other servers may share the table.
#[derive(Clone, Copy)]
pub(crate) struct InDatabase {
    parts: Parts,
}

impl Deref for InDatabase {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl SubscriptionStore for InDatabase {
    fn subscribe(
        &self,
        work: &mut RowWork,
        subscription: &Subscription,
        _: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError> {
        let is_copy = self.shared.recent_dialogs.note(dialog.0);
        // As stock does, the first NOTIFY has CSeq 1, and its version is in the row from the start.
        let mut row = as_in_row(subscription)?;
        row.state.version += 1;
        if let Err(error) = active_watchers_table::add(self.database, self.table(), self.packages(), &row) {
            match self.find_row(subscription.dialog()) {
                // A driver that loses its connection carries the statement out again, or says that it failed: the row
                // is the one that was written here, and nobody else sends its first NOTIFY.
                Ok(Some(found)) if !is_copy && is_as_made(&found, &row) => {}
                // Another copy of the same SUBSCRIBE was faster.
                Ok(Some(_)) => return Ok(Stored::Known),
                _ => return Err(error),
            }
        }
        // Where stock leaves the first NOTIFY to a notifier, it counts it first.
        if self.config.send_fast_notify || self.config.notifier_processes == 0 {
            work.counted = Some(row);
        }
        Ok(Stored::New)
    }

    fn find_recent(&self, dialog: DialogId<'_>, hash: u64) -> Result<Option<Subscription>, StoreError> {
        match self.shared.recent_dialogs.may_have(hash) {
            true => self.find_row(dialog),
            false => Ok(None),
        }
    }

    fn find(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.find_row(dialog)
    }

    fn renew(&self, work: &mut RowWork, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        let renewed = counted(renewed(current, renewal)?);
        let table = self.table();
        if !self.database.write(|db| active_watchers_table::renew(db, table, current, &renewed))? {
            return self.overtaken(current.dialog());
        }
        work.counted = Some(renewed);
        Ok(Renewed::Done)
    }

    fn unsubscribe(
        &self,
        work: &mut RowWork,
        current: &Subscription,
        renewal: &Renewal<'_>,
    ) -> Result<Renewed, StoreError> {
        let last = renewed(current, renewal)?;
        let is_copy = work.is_copy_of_end(&self.shared.recent_ends, self.mark_of(current, renewal));
        if !self.delete_as_read(current)? {
            match self.overtaken(current.dialog())? {
                // A driver that loses its connection carries the statement out again: the row that it does not find is
                // the one that it has removed. Whatever else may have ended the subscription just now, the watcher
                // wants the end, and gets it.
                Renewed::Gone if !is_copy && !self.has_ended_here(current) => {}
                now => return Ok(now),
            }
        }
        self.make_last_due(work, last, End::Unsubscribed)?;
        Ok(Renewed::Done)
    }

    fn end(&self, work: &mut RowWork, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError> {
        let Some(stored) = self.find_row(dialog)? else { return Ok(false) };
        self.end_row(work, stored, reason, |_| true)
    }

    fn remove(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        let Some(stored) = self.find_row(dialog)? else { return Ok(None) };
        self.take_row(stored, |_| true)
    }

    fn subscriptions_to(&self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        self.rows_of(resource)
    }

    fn watcher_count(&self, resource: &Resource) -> Result<usize, StoreError> {
        Ok(self.rows_of(resource)?.len())
    }

    fn count_of_watcher(&self, subscription: &Subscription) -> Result<usize, StoreError> {
        let (table, packages) = (self.table(), self.packages());
        let conditions = [
            ("watcher_username", Op::Eq, Value::Text(subscription.get(Field::WatcherUser))),
            ("watcher_domain", Op::Eq, Value::Text(subscription.get(Field::WatcherDomain))),
        ];
        self.database.read(|db| Ok(active_watchers_table::select(db, table, packages, &conditions)?.len()))
    }

    /// Mostly nobody watches the watchers, and whole rows are dear to read. What cannot be read now is left to the
    /// NOTIFY.
    fn may_be_watched(&self, resource: &Resource) -> bool {
        let (table, conditions) = (self.table(), self.of_resource(resource));
        self.database.read(|db| active_watchers_table::has_any(db, table, &conditions)).unwrap_or(true)
    }

    fn end_expired(&self, work: &mut RowWork, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let (table, packages) = (self.table(), self.packages());
        let (latest, began) = (now - self.config.expires_offset, clock::instant());
        let over = [("expires", Op::Lt, Value::Time(latest.into()))];
        self.shared.clock_steps.look(clock::now(), clock::set_by());
        let mut silent = 0;
        let step = EndedStep {
            read: &mut |after| {
                let read = |db: &Connection, page: &Page<'_>| {
                    active_watchers_table::select_page_with_keys(db, table, packages, page)
                };
                crate::common::paging::portion_of(self.database, limit, &over, after, read)
            },
            end_one: &mut |subscription: &Subscription| {
                let ended = self.end_one_expired(work, subscription, now)?;
                silent += usize::from(ended == Some(EndNotify::Omitted));
                Ok(ended.map(|_| subscription.clone()))
            },
            failed: &|row, error| match row {
                Some(subscription) => crate::server::subscriptions::memory::log_not_ended(subscription, error),
                None => limited!(Error, "cannot read which subscriptions ran out: {error}"),
            },
            waited: &|| clock::instant().since(began),
            next: None,
        };
        let ended = step.resume(&NEXT_STEP, limit);
        crate::server::subscriptions::memory::note_long_over(silent);
        ended
    }

    fn set_authorization(
        &self,
        work: &mut RowWork,
        dialog: DialogId<'_>,
        authorization: &Authorization,
    ) -> Result<bool, StoreError> {
        let table = self.table();
        for _ in 0..TRIES {
            let Some(stored) = self.find_row(dialog)? else { return Ok(false) };
            let is_the_same =
                stored.state.status == authorization.status && stored.get(Field::Reason) == authorization.reason;
            // One that has run out is sent its last NOTIFY: a number for another one would be used up.
            if is_the_same || stored.is_over(clock::now()) {
                return Ok(false);
            }
            let mut judged = counted(stored.with(&[(Field::Reason, &authorization.reason)])?);
            judged.state.status = authorization.status;
            if self
                .database
                .write(|db| active_watchers_table::authorize(db, table, &judged, stored.state.local_cseq))?
            {
                work.counted = Some(judged);
                return Ok(true);
            }
            match self.find_row(dialog)? {
                // A driver has carried the statement out twice, or another process has come to the same: the NOTIFY
                // takes the next number.
                Some(now) if is_judged_as(&now, &judged) => {
                    work.counted = self.count_up(now, |_| true)?;
                    return Ok(work.counted.is_some());
                }
                Some(_) => {}
                None => return Ok(false),
            }
        }
        Err(StoreError::Busy)
    }

    fn each(&self, take: &mut dyn FnMut(Subscription) -> bool) -> Result<(), StoreError> {
        let (table, packages) = (self.table(), self.packages());
        let mut more = true;
        crate::common::paging::each_page_of(self.database, table, self.config.fetch_rows, &[], |db, page| {
            if !more {
                return Ok(None);
            }
            let (found, seen) = active_watchers_table::select_page(db, table, packages, page)?;
            for subscription in found {
                more = more && take(subscription);
            }
            Ok(Some(seen))
        })
        .map(|_| ())
    }

    fn row_timing(&self) -> SubscriptionRows {
        SubscriptionRows::Shared
    }

    fn write_taken_over(&self, _: DialogId<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn restore(&self) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn write_back(&self, _: Pass) -> Result<usize, StoreError> {
        Ok(0)
    }
}

impl InDatabase {
    /// The rows of `active_watchers`.
    pub(crate) fn new(parts: Parts) -> InDatabase {
        InDatabase { parts }
    }

    fn table(&self) -> &'static [u8] {
        self.config.active_watchers_table
    }

    /// The row of a dialog.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub(crate) fn find_row(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        let (table, packages) = (self.table(), self.packages());
        self.database.read(|db| active_watchers_table::find(db, table, packages, dialog))
    }

    /// The rows of a resource.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub(crate) fn rows_of(&self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        let (table, packages, conditions) = (self.table(), self.packages(), self.of_resource(resource));
        self.database.read(|db| active_watchers_table::select(db, table, packages, &conditions))
    }

    /// The condition that names the rows of a resource.
    fn of_resource<'r>(&self, resource: &'r Resource) -> [Cond<'r>; 2] {
        let event = self.packages().get(resource.event).name;
        [("presentity_uri", Op::Eq, Value::Text(&resource.uri)), ("event", Op::Eq, Value::Text(event))]
    }

    /// Takes the next CSeq and version of a row that is `wanted` as it is then; `None` when the row is gone, or is not
    /// wanted any more.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or written.
    pub(crate) fn count_up(
        &self,
        subscription: Subscription,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Result<Option<Subscription>, StoreError> {
        self.take_next(subscription, None, wanted)
    }

    /// The same for a row that is marked for a notifier process, in one statement with taking the mark off: one that
    /// fails leaves the row marked. `None` when the row is gone, or another process has taken it.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or written.
    pub(crate) fn take_marked(&self, subscription: Subscription) -> Result<Option<Subscription>, StoreError> {
        let (mark, may_see) = (subscription.state.updated, subscription.may_see());
        // Another authorization that came in between has a NOTIFY of its own, with the state as it is now.
        let mut taken = self.take_next(subscription, Some(mark), |row| row.may_see() == may_see)?;
        taken.iter_mut().for_each(|row| row.state.updated = active_watchers_table::NOT_MARKED);
        Ok(taken)
    }

    /// Gives numbers back that were taken for a NOTIFY which is not sent, unless others were counted up since.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub(crate) fn give_back(&self, counted: &Subscription) -> Result<(), StoreError> {
        let (table, unused) = (self.table(), &self.shared.unused_numbers);
        let give =
            |counted: &Subscription| self.database.write(|db| active_watchers_table::give_back(db, table, counted));
        let mut given = counted.clone();
        if !give(&given)? {
            return self.leave_unused(&given);
        }
        // The number before it may be one that this one was in the way of.
        loop {
            (given.state.local_cseq, given.state.version) = (given.state.local_cseq - 1, given.state.version - 1);
            if !unused.take(self.mark_of_number(&given)) || !give(&given)? {
                return Ok(());
            }
        }
    }

    /// Another NOTIFY has counted on. Where that one is not sent, too, these numbers are given back with its own: the
    /// process that takes the note gives them back, and no other.
    fn leave_unused(&self, counted: &Subscription) -> Result<(), StoreError> {
        let (table, unused) = (self.table(), &self.shared.unused_numbers);
        let number = counted.state.local_cseq;
        let number_of_row = || {
            let row = self.find_row(counted.dialog());
            row.map(|row| row.map(|row| row.state.local_cseq))
        };
        if number_of_row()?.is_none_or(|now| now <= number) {
            return Ok(());
        }
        unused.note(self.mark_of_number(counted));
        if number_of_row()? == Some(number) && unused.take(self.mark_of_number(counted)) {
            self.database.write(|db| active_watchers_table::give_back(db, table, counted))?;
        }
        Ok(())
    }

    /// A number of a NOTIFY in its dialog, as one number.
    fn mark_of_number(&self, counted: &Subscription) -> u64 {
        self.shared.tables.dialog_hash(counted.dialog()).rotate_left(21) ^ u64::from(counted.state.local_cseq)
    }

    /// Takes the mark off a row whose watcher is not notified.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub(crate) fn unmark(&self, subscription: &Subscription) -> Result<(), StoreError> {
        let table = self.table();
        self.database.write(|db| active_watchers_table::unmark(db, table, subscription))
    }

    /// Ends a row that is `wanted` still, as if its time had run out; its last NOTIFY becomes due. `false` when it is
    /// gone or goes on.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or written.
    pub(crate) fn end_over(
        &self,
        work: &mut RowWork,
        row: Subscription,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Result<bool, StoreError> {
        self.end_row(work, row, b"timeout", wanted)
    }

    /// Ends a subscription if its row says still that it has run out; `None`: it goes on, or is gone.
    fn end_one_expired(
        &self,
        work: &mut RowWork,
        subscription: &Subscription,
        now: Moment,
    ) -> Result<Option<EndNotify>, StoreError> {
        let (latest, offset) = (now - self.config.expires_offset, self.config.expires_offset);
        // A refresh may have been faster.
        let is_over = |row: &Subscription| row.state.expires_at < latest;
        if !is_over(subscription) {
            return Ok(None);
        }
        let ended_at = self.shared.clock_steps.ended_at(subscription.state.expires_at, offset);
        match expiry::is_long_over(self.config, ended_at, now) {
            true => Ok(self.take_row(subscription.clone(), is_over)?.map(|_| EndNotify::Omitted)),
            false => Ok(self.end_over(work, subscription.clone(), is_over)?.then_some(EndNotify::Sent)),
        }
    }

    fn take_next(
        &self,
        mut subscription: Subscription,
        mut mark: Option<i32>,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Result<Option<Subscription>, StoreError> {
        let table = self.table();
        for _ in 0..TRIES {
            let read = subscription.state.local_cseq;
            subscription = counted(subscription);
            let written = self.database.write(|db| match mark {
                None => active_watchers_table::count_up(db, table, &subscription, read),
                Some(mark) => active_watchers_table::take_marked(db, table, &subscription, read, mark),
            });
            if written? {
                return Ok(Some(subscription));
            }
            match self.find_row(subscription.dialog())?.filter(&wanted) {
                Some(again) if mark.is_none_or(|mark| mark == again.state.updated) => subscription = again,
                // A driver that loses its connection carries the statement out again: the first time may have taken
                // the mark off. Another server may have done it, too; then the watcher gets one NOTIFY more.
                Some(again) if is_taken(&again, &subscription) => (subscription, mark) = (again, None),
                _ => return Ok(None),
            }
        }
        Err(StoreError::Busy)
    }

    /// The same for the row of a dialog.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or written.
    pub(crate) fn find_and_count(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.find_row(dialog)?.map_or(Ok(None), |row| self.count_up(row, |_| true))
    }

    /// What a row is now that was not as it had been read.
    fn overtaken(&self, dialog: DialogId<'_>) -> Result<Renewed, StoreError> {
        Ok(self.find_row(dialog)?.map_or(Renewed::Gone, |now| Renewed::Overtaken(Box::new(now))))
    }

    /// A SUBSCRIBE in a dialog, as a number.
    fn mark_of(&self, current: &Subscription, renewal: &Renewal<'_>) -> u64 {
        self.shared.tables.dialog_hash(current.dialog()).rotate_left(21) ^ u64::from(renewal.remote_cseq)
    }

    /// Whether this server has ended a subscription that was there a moment ago, or it has expired.
    fn has_ended_here(&self, read: &Subscription) -> bool {
        let (n, now) = (&read.state, crate::host::clock::now());
        let hash = self.shared.tables.dialog_hash(read.dialog());
        n.expires_at <= now || self.shared.ended_dialogs.is_of_ended(hash, n.remote_cseq, now)
    }

    fn delete_as_read(&self, read: &Subscription) -> Result<bool, StoreError> {
        let table = self.table();
        self.database.write(|db| active_watchers_table::delete_as_read(db, table, read))
    }

    /// Takes a row out of the table, as it is then; `None` when it is gone, or is not `wanted` any more.
    fn take_row(
        &self,
        mut read: Subscription,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Result<Option<Subscription>, StoreError> {
        for _ in 0..TRIES {
            if self.delete_as_read(&read)? {
                return Ok(Some(read));
            }
            match self.find_row(read.dialog())?.filter(&wanted) {
                Some(again) => read = again,
                None => return Ok(None),
            }
        }
        Err(StoreError::Busy)
    }

    /// The same, and its last NOTIFY becomes due.
    fn end_row(
        &self,
        work: &mut RowWork,
        read: Subscription,
        reason: &[u8],
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Result<bool, StoreError> {
        // A reason that cannot be written is found while the row is there.
        read.with(&[(Field::Reason, reason)])?;
        let Some(taken) = self.take_row(read, wanted)? else { return Ok(false) };
        self.make_last_due(work, taken, End::For(reason))?;
        Ok(true)
    }

    /// The last NOTIFY of a subscription whose row is gone: nobody else can take its number.
    fn make_last_due(&self, work: &mut RowWork, subscription: Subscription, end: End<'_>) -> Result<(), StoreError> {
        let mut last = counted(subscription.with(end.changes().as_slice())?);
        if end != End::Unsubscribed {
            last.state.status = Status::Terminated;
        }
        let resource = self.shared.tables.resource_of(&last);
        work.own.push((resource, Notify { subscription: last, notify_reason: end.notify_reason(), slot: None }));
        Ok(())
    }
}

/// A subscription with the numbers of its next NOTIFY.
fn counted(mut subscription: Subscription) -> Subscription {
    subscription.state.local_cseq += 1;
    subscription.state.version += 1;
    subscription
}

/// Whether a row has the numbers that were written into it together with taking its mark off.
fn is_taken(row: &Subscription, written: &Subscription) -> bool {
    let numbers = |n: &SubscriptionState| (n.local_cseq, n.version);
    row.state.updated == active_watchers_table::NOT_MARKED && numbers(&row.state) == numbers(&written.state)
}

/// Whether a row has the authorization, and the numbers, that were written into it together.
fn is_judged_as(row: &Subscription, written: &Subscription) -> bool {
    let numbers = |n: &SubscriptionState| (n.local_cseq, n.version, n.status);
    numbers(&row.state) == numbers(&written.state) && row.get(Field::Reason) == written.get(Field::Reason)
}

/// Whether a row is as the SUBSCRIBE that makes it writes it: no NOTIFY has been counted since.
fn is_as_made(row: &Subscription, made: &Subscription) -> bool {
    let numbers = |n: &SubscriptionState| (n.local_cseq, n.version, n.remote_cseq, n.event);
    numbers(&row.state) == numbers(&made.state)
}

/// A row as a SUBSCRIBE in its dialog changes it.
fn renewed(row: &Subscription, renewal: &Renewal<'_>) -> Result<Subscription, StoreError> {
    let mut changes = renewal.changes();
    changes.retain(|(field, value)| row.get(*field) != *value);
    let mut renewed = if changes.is_empty() { row.clone() } else { row.with(&changes)? };
    renewed.state.expires_at = renewal.expires_at;
    renewed.state.remote_cseq = renewal.remote_cseq;
    Ok(renewed)
}

/// A new subscription as its row gives it back: all its NOTIFYs look alike.
fn as_in_row(subscription: &Subscription) -> Result<Subscription, StoreError> {
    let mut row = match subscription.get(Field::LocalUri).is_empty() && subscription.get(Field::RemoteUri).is_empty() {
        true => subscription.clone(),
        false => subscription.with(&[(Field::LocalUri, b""), (Field::RemoteUri, b"")])?,
    };
    row.state.transport = Transport::Unknown;
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::subscription::field::FIELDS;

    #[test]
    fn a_row_that_others_have_counted_is_judged_only_with_its_reason() {
        let row = |cseq, reason: &[u8]| {
            let state = SubscriptionState { local_cseq: cseq, ..SubscriptionState::new(PackageId(0), Status::Active) };
            Subscription::new(state, &[b"x".as_slice(); FIELDS]).unwrap().with(&[(Field::Reason, reason)]).unwrap()
        };
        let written = row(2, b"polite-block");
        assert!(is_judged_as(&row(2, b"polite-block"), &written));
        // A NOTIFY of another process has taken the number.
        assert!(!is_judged_as(&row(2, b""), &written));
        assert!(!is_judged_as(&row(3, b"polite-block"), &written));
    }
}
