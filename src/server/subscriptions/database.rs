//! Subscriptions in the database only (mode 3): every step is a statement; CSeq and version go up by compare-and-swap,
//! so that servers which share the table never use a number twice.
use crate::common::paging::Page;
use crate::common::row_groups::{Fate, GROUP, Writer};
use crate::host::db::{Connection, Op, Value};
use crate::limited;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::expiry;
use crate::presence::notification::{Notify, NotifyReason, NotifyRun, StateChange};
use crate::presence::ports::{NewDialog, Stored};
use crate::presence::resource::Resource;
use crate::presence::subscription::{DialogId, Field, Renewal, Status, Subscription};
use crate::server::context::Context;
use crate::server::notify::row_run::RowNotifyRun;
use crate::server::subscriptions::active_watchers_table as table_rows;
use crate::server::subscriptions::active_watchers_table::NoRoute;

/// How often a number is tried again when another server was faster.
const TRIES: usize = 20;

impl Context {
    fn table(&self) -> &'static [u8] {
        self.config.active_watchers_table
    }

    pub(crate) fn insert_row(&mut self, subscription: &Subscription, dialog: NewDialog) -> Result<Stored, StoreError> {
        self.shared.recent_dialogs.note(dialog.0);
        let (table, packages) = (self.table(), self.packages);
        // As stock does, the first NOTIFY has CSeq 1, and its version is in the row from the start.
        let mut row = subscription.to_private();
        row.state.version += 1;
        let insert = |db: &Connection| table_rows::insert(db, table, packages, &row, NoRoute::Null);
        let inserted = match !self.database.limits_texts() || table_rows::fits(&row) {
            true => self.database.write(insert),
            false => self.database.write_once(insert),
        };
        if let Err(error) = inserted {
            // Another copy of the same SUBSCRIBE may have been faster.
            return match self.find_row(subscription.dialog()) {
                Ok(Some(_)) => Ok(Stored::Known),
                _ => Err(error),
            };
        }
        // Where stock leaves the first NOTIFY to a notifier, it counts it first.
        if self.config.send_fast_notify || self.config.notifier_processes == 0 {
            self.fresh = Some(dialog.0);
        }
        Ok(Stored::New)
    }

    /// See [`crate::presence::ports::Ports::find_recent`].
    pub(crate) fn find_recent_row(&self, dialog: DialogId<'_>, hash: u64) -> Result<Option<Subscription>, StoreError> {
        match self.shared.recent_dialogs.may_have(hash) {
            true => self.find_row(dialog),
            false => Ok(None),
        }
    }

    pub(crate) fn find_row(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        let (table, packages) = (self.table(), self.packages);
        self.database.read(|db| table_rows::find(db, table, packages, dialog))
    }

    pub(crate) fn rows_of(&self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        let (table, packages) = (self.table(), self.packages);
        let conditions = [
            ("presentity_uri", Op::Eq, Value::Text(&resource.uri)),
            ("event", Op::Eq, Value::Text(packages.get(resource.event).name)),
        ];
        self.database.read(|db| table_rows::select(db, table, packages, &conditions))
    }

    /// How many subscriptions the watcher of this one has.
    pub(crate) fn count_rows_of_watcher(&self, subscription: &Subscription) -> Result<usize, StoreError> {
        let (table, packages) = (self.table(), self.packages);
        let conditions = [
            ("watcher_username", Op::Eq, Value::Text(subscription.get(Field::WatcherUser))),
            ("watcher_domain", Op::Eq, Value::Text(subscription.get(Field::WatcherDomain))),
        ];
        self.database.read(|db| Ok(table_rows::select(db, table, packages, &conditions)?.len()))
    }

    /// Calls `take` with every row until it has enough.
    pub(crate) fn each_row(&self, take: &mut impl FnMut(Subscription) -> bool) -> Result<(), StoreError> {
        let (table, packages) = (self.table(), self.packages);
        let mut more = true;
        crate::common::paging::each_page_of(self.database, table, self.config.fetch_rows, &[], |db, page| {
            if !more {
                return Ok(None);
            }
            let (found, seen) = table_rows::select_page(db, table, packages, page)?;
            for subscription in found {
                more = more && take(subscription);
            }
            Ok(Some(seen))
        })
        .map(|_| ())
    }

    /// Reads who watches a resource whose documents have just changed, before the change is answered: a
    /// watcher that subscribes later sees the new state in the answer to the SUBSCRIBE, and must not be notified again.
    pub(crate) fn note_watching(&mut self, resource: &Resource) {
        self.watching = self.rows_of(resource).ok().map(|rows| (resource.clone(), rows));
    }

    /// The watchers of a resource that have to be told of a change.
    fn take_watching(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        match self.watching.take() {
            Some((noted, rows)) if noted == *resource => Ok(rows),
            _ => self.rows_of(resource),
        }
    }

    fn write_row(&self, subscription: &Subscription) -> Result<(), StoreError> {
        let table = self.table();
        self.database.write(|db| table_rows::update_state(db, table, subscription))
    }

    pub(crate) fn renew_row(&mut self, stored: &Subscription, renewal: &Renewal<'_>) -> Result<bool, StoreError> {
        let changes = renewal.changes();
        let mut renewed = stored.with(&changes)?;
        renewed.state.expires_at = renewal.expires_at;
        renewed.state.remote_cseq = renewal.remote_cseq;
        self.write_row(&renewed)?;
        Ok(true)
    }

    pub(crate) fn drop_row(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        let Some(stored) = self.find_row(dialog)? else { return Ok(None) };
        let table = self.table();
        self.database.write(|db| table_rows::delete(db, table, dialog))?;
        Ok(Some(stored))
    }

    pub(crate) fn end_row(
        &mut self,
        dialog: DialogId<'_>,
        notify_reason: NotifyReason,
        reason: &[u8],
    ) -> Result<bool, StoreError> {
        let Some(stored) = self.find_row(dialog)? else { return Ok(false) };
        let Some(counted) = self.count_up(stored)? else { return Ok(false) };
        let table = self.table();
        self.database.write(|db| table_rows::delete(db, table, dialog))?;
        let mut last = counted.with(&[(Field::Reason, reason)])?;
        if notify_reason == NotifyReason::Ended {
            last.state.status = Status::Terminated;
        }
        self.own
            .push((self.shared.tables.resource_of(&last), Notify { subscription: last, notify_reason, slot: None }));
        Ok(true)
    }

    /// Takes the next CSeq and version of a row; `None` when the row is gone.
    pub(crate) fn count_up(&self, mut subscription: Subscription) -> Result<Option<Subscription>, StoreError> {
        let table = self.table();
        for _ in 0..TRIES {
            subscription.state.local_cseq += 1;
            subscription.state.version += 1;
            if self.database.write(|db| table_rows::count_up(db, table, &subscription))? {
                return Ok(Some(subscription));
            }
            match self.find_row(subscription.dialog())? {
                Some(again) => subscription = again,
                None => return Ok(None),
            }
        }
        Err(StoreError::Busy)
    }

    pub(crate) fn end_expired_rows(&mut self, now: i64, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let (table, packages) = (self.table(), self.packages);
        let latest = now - self.config.expires_offset;
        let over = [("expires", Op::Lt, Value::Time(latest))];
        let (mut ended, mut silent, mut after) = (Vec::new(), 0, None);
        'portions: loop {
            let read = |db: &Connection, page: &Page<'_>| table_rows::select_page(db, table, packages, page);
            let (due, next) = match crate::common::paging::portion_of(self.database, limit, &over, after, read) {
                Err(error) if !ended.is_empty() => {
                    limited!(Error, "cannot read which subscriptions ran out: {error}");
                    break;
                }
                batch => batch?,
            };
            for subscription in due.into_iter().filter(|subscription| subscription.state.expires_at < latest) {
                let is_long_over = expiry::is_long_over(self.config, subscription.state.expires_at, now);
                let done = match is_long_over {
                    true => self.drop_row(subscription.dialog()).map(|removed| removed.is_some()),
                    false => self.end_row(subscription.dialog(), NotifyReason::Ended, b"timeout"),
                };
                silent += usize::from(is_long_over && done.as_ref().is_ok_and(|done| *done));
                match done {
                    Ok(true) => ended.push(subscription),
                    Ok(false) => {}
                    // The watchers of what has ended are notified, whatever becomes of the others.
                    Err(StoreError::Database) if ended.is_empty() => return Err(StoreError::Database),
                    Err(error) => {
                        crate::server::subscriptions::memory::log_not_ended(&subscription, error);
                        if error == StoreError::Database {
                            break 'portions;
                        }
                    }
                }
            }
            after = next;
            if after.is_none() || ended.len() >= limit {
                break;
            }
        }
        crate::server::subscriptions::memory::note_long_over(silent);
        Ok(ended)
    }

    pub(crate) fn set_authorization_in_database(
        &mut self,
        dialog: DialogId<'_>,
        authorization: &Authorization,
    ) -> Result<bool, StoreError> {
        let Some(stored) = self.find_row(dialog)? else { return Ok(false) };
        if stored.state.status == authorization.status && stored.get(Field::Reason) == authorization.reason {
            return Ok(false);
        }
        let mut changed = stored.with(&[(Field::Reason, &authorization.reason)])?;
        changed.state.status = authorization.status;
        self.write_row(&changed)?;
        Ok(true)
    }

    /// In the database there are no resource entries: what happened is sent by the process it happened in, or marked
    /// for a notifier.
    pub(crate) fn enqueue_in_database(&mut self, resource: &Resource, event: StateChange<'_>) -> bool {
        match event {
            StateChange::State { transient_body, sender } => {
                if self.config.notifier_processes > 0 {
                    self.mark_rows(resource);
                    return self.own.iter().any(|(owner, _)| owner == resource);
                }
                self.notify_runs.push(RowNotifyRun {
                    resource: resource.clone(),
                    transient_body,
                    sender: sender.to_vec(),
                    change: None,
                });
            }
            StateChange::Watchers { watcher, full } => {
                self.notify_runs.push(RowNotifyRun {
                    resource: resource.clone(),
                    transient_body: None,
                    sender: Vec::new(),
                    change: Some((watcher, full)),
                });
            }
            StateChange::Subscription(dialog, notify_reason) => match self.find_row(dialog).and_then(|row| match row {
                Some(row) if self.fresh == Some(self.shared.tables.dialog_hash(dialog)) => Ok(Some(row)),
                Some(row) => self.count_up(row),
                None => Ok(None),
            }) {
                Ok(Some(subscription)) => {
                    self.fresh = None;
                    self.own.push((resource.clone(), Notify { subscription, notify_reason, slot: None }));
                }
                Ok(None) => {}
                Err(error) => limited!(Error, "cannot count up a subscription: {error}"),
            },
            StateChange::Due => {}
        }
        true
    }

    /// Marks a resource's rows for the notifier processes, each for the turn that its dialog falls on.
    fn mark_rows(&mut self, resource: &Resource) {
        let turns = self.config.waitn_time * self.config.notifier_poll_rate * self.config.notifier_processes;
        let table = self.table();
        let now = crate::host::clock::now();
        let marked = self.take_watching(resource).and_then(|mut subscriptions| {
            subscriptions.retain(|subscription| subscription.hears_changes(now));
            // All processes mark rows in one order: two that mark the same ones do not wait for each other.
            subscriptions.sort_by_cached_key(|subscription| self.shared.tables.dialog_hash(subscription.dialog()));
            let write = |db: &Connection, subscription: &Subscription| {
                let turn = self.shared.tables.dialog_hash(subscription.dialog()) % turns.max(1) as u64;
                table_rows::mark(db, table, subscription.dialog(), turn as i64)
            };
            // The keys were read from the table.
            let writer = Writer { database: self.database, table, fits: &|_| true, write: &write };
            let mut lost = 0;
            for group in subscriptions.chunks(GROUP) {
                let outcome = writer.write_group(group);
                lost += group.len() - outcome.count(Fate::Written);
                outcome.error.map_or(Ok(()), Err)?;
            }
            if lost == 0 { Ok(()) } else { Err(StoreError::Refused) }
        });
        if let Err(error) = marked {
            limited!(
                Error,
                "cannot mark all watchers of {} for NOTIFY: {error}",
                crate::host::log::show(&resource.uri)
            );
        }
    }

    pub(crate) fn begin_database_run(&mut self, resource: &Resource) -> Option<NotifyRun> {
        if self.own.iter().any(|(owner, _)| owner == resource) {
            return Some(NotifyRun { cursor: 1, ..NotifyRun::default() });
        }
        let at = self.notify_runs.iter().position(|notify_run| notify_run.resource == *resource)?;
        let mine = self.notify_runs.remove(at);
        let (changes, full) = match mine.change {
            Some((watcher, full)) => (vec![watcher], full),
            None => (Vec::new(), false),
        };
        self.run_sender = mine.sender;
        Some(NotifyRun { cursor: 0, transient_body: mine.transient_body, changes, full, generation: 0, documents: 0 })
    }

    pub(crate) fn next_database_batch(&mut self, resource: &Resource, notify_run: &mut NotifyRun) -> Vec<Notify> {
        if notify_run.cursor > 0 {
            let (mine, others) = std::mem::take(&mut self.own).into_iter().partition(|(owner, _)| owner == resource);
            self.own = others;
            let mine: Vec<(Resource, Notify)> = mine;
            return mine.into_iter().map(|(_, notify)| notify).collect();
        }
        notify_run.cursor = 1;
        let now = crate::host::clock::now();
        let subscriptions = match self.take_watching(resource) {
            Ok(subscriptions) => subscriptions,
            Err(error) => {
                limited!(Error, "cannot read the watchers of {}: {error}", crate::host::log::show(&resource.uri));
                return Vec::new();
            }
        };
        let mut batch = Vec::new();
        for subscription in subscriptions {
            let is_sender = !self.run_sender.is_empty() && subscription.get(Field::Contact) == self.run_sender;
            if is_sender || !subscription.hears_changes(now) {
                continue;
            }
            match self.count_up(subscription) {
                Ok(Some(subscription)) => {
                    batch.push(Notify { subscription, notify_reason: NotifyReason::Change, slot: None })
                }
                Ok(None) => {}
                Err(error) => limited!(Error, "cannot count up a subscription: {error}"),
            }
        }
        batch
    }
}
