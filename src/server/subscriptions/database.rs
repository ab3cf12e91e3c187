//! Subscriptions in the database only (mode 3): every step is a statement; CSeq and version go up by compare-and-swap,
//! so that servers which share the table never use a number twice.
use crate::common::paging::Page;
use crate::host::db::{Connection, Op, Value};
use crate::limited;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::expiry;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::ports::{NewDialog, Stored};
use crate::presence::resource::Resource;
use crate::presence::subscription::{DialogId, Field, Renewal, Status, Subscription};
use crate::server::notify::row_run::RowWork;
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table as table_rows;
use crate::server::subscriptions::store::{SubscriptionRows, SubscriptionStore};
use std::ops::Deref;

/// How often a number is tried again when another server was faster.
const TRIES: usize = 20;

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
        self.shared.recent_dialogs.note(dialog.0);
        // As stock does, the first NOTIFY has CSeq 1, and its version is in the row from the start.
        let mut row = subscription.to_private();
        row.state.version += 1;
        if let Err(error) = table_rows::add(self.database, self.table(), self.packages(), &row) {
            // Another copy of the same SUBSCRIBE may have been faster.
            return match self.find_row(subscription.dialog()) {
                Ok(Some(_)) => Ok(Stored::Known),
                _ => Err(error),
            };
        }
        // Where stock leaves the first NOTIFY to a notifier, it counts it first.
        if self.config.send_fast_notify || self.config.notifier_processes == 0 {
            work.fresh = Some(dialog.0);
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

    fn renew(&self, stored: &Subscription, renewal: &Renewal<'_>) -> Result<bool, StoreError> {
        let changes = renewal.changes();
        let mut renewed = stored.with(&changes)?;
        renewed.state.expires_at = renewal.expires_at;
        renewed.state.remote_cseq = renewal.remote_cseq;
        self.write_row(&renewed)?;
        Ok(true)
    }

    fn end(
        &self,
        work: &mut RowWork,
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
        work.own
            .push((self.shared.tables.resource_of(&last), Notify { subscription: last, notify_reason, slot: None }));
        Ok(true)
    }

    fn remove(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        let Some(stored) = self.find_row(dialog)? else { return Ok(None) };
        let table = self.table();
        self.database.write(|db| table_rows::delete(db, table, dialog))?;
        Ok(Some(stored))
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
        self.database.read(|db| Ok(table_rows::select(db, table, packages, &conditions)?.len()))
    }

    fn may_be_watched(&self, _: &Resource) -> bool {
        true
    }

    fn end_expired(&self, work: &mut RowWork, now: i64, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let (table, packages) = (self.table(), self.packages());
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
                    true => self.remove(subscription.dialog()).map(|removed| removed.is_some()),
                    false => self.end(work, subscription.dialog(), NotifyReason::Ended, b"timeout"),
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

    fn set_authorization(&self, dialog: DialogId<'_>, authorization: &Authorization) -> Result<bool, StoreError> {
        let Some(stored) = self.find_row(dialog)? else { return Ok(false) };
        if stored.state.status == authorization.status && stored.get(Field::Reason) == authorization.reason {
            return Ok(false);
        }
        let mut changed = stored.with(&[(Field::Reason, &authorization.reason)])?;
        changed.state.status = authorization.status;
        self.write_row(&changed)?;
        Ok(true)
    }

    fn each(&self, take: &mut dyn FnMut(Subscription) -> bool) -> Result<(), StoreError> {
        let (table, packages) = (self.table(), self.packages());
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

    fn rows(&self) -> SubscriptionRows {
        SubscriptionRows::Shared
    }

    fn write_taken_over(&self, _: DialogId<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn restore(&self) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn write_back(&self, _: bool) -> Result<usize, StoreError> {
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

    pub(crate) fn find_row(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        let (table, packages) = (self.table(), self.packages());
        self.database.read(|db| table_rows::find(db, table, packages, dialog))
    }

    pub(crate) fn rows_of(&self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        let (table, packages) = (self.table(), self.packages());
        let conditions = [
            ("presentity_uri", Op::Eq, Value::Text(&resource.uri)),
            ("event", Op::Eq, Value::Text(packages.get(resource.event).name)),
        ];
        self.database.read(|db| table_rows::select(db, table, packages, &conditions))
    }

    fn write_row(&self, subscription: &Subscription) -> Result<(), StoreError> {
        let table = self.table();
        self.database.write(|db| table_rows::update_state(db, table, subscription))
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
}
