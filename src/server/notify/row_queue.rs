//! NOTIFYs where subscriptions are rows (database-only mode): there are no queues. A change is sent by the process it
//! happened in, or marked for a notifier process.
use crate::common::counters::{self, Counter};
use crate::common::row_groups::{Fate, GROUP, Writer};
use crate::host::db::Connection;
use crate::limited;
use crate::presence::error::StoreError;
use crate::presence::notification::{Notify, NotifyReason, NotifyRun, StateChange};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription_field::Field;
use crate::server::notify::row_run::RowNotifyRun;
use crate::server::notify::work::{Again, NotifyQueue, Work};
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table as table_rows;
use crate::server::subscriptions::database::InDatabase;
use std::ops::Deref;

/// What is due a NOTIFY, by rows.
pub(crate) struct RowQueue {
    parts: Parts,
    store: InDatabase,
}

impl Deref for RowQueue {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl NotifyQueue for RowQueue {
    /// Who watches is read before the change is answered: a watcher that subscribes later sees the new state in the
    /// answer to the SUBSCRIBE, and must not be notified again.
    fn note_change(&self, work: &mut Work, resource: &Resource) {
        work.rows.watching = None;
        self.know_watching(work, resource);
    }

    /// What this entry has to send nobody else knows of.
    fn claim(&self, _: &mut Work, _: &Resource) -> bool {
        true
    }

    fn mark(&self, work: &mut Work, resource: &Resource, event: StateChange<'_>) -> bool {
        match event {
            StateChange::State { transient_body, sender } => {
                self.know_watching(work, resource);
                let is_winfo = self.packages().get(resource.event).is_winfo();
                work.rows.notify_runs.push(RowNotifyRun {
                    resource: resource.clone(),
                    transient_body,
                    sender: sender.to_vec(),
                    change: None,
                    is_of_documents: true,
                    is_left_to_notifiers: self.config.notifier_processes > 0 && !is_winfo,
                });
            }
            StateChange::Watchers { watcher, full } => {
                self.know_watching(work, resource);
                work.rows.notify_runs.push(RowNotifyRun {
                    resource: resource.clone(),
                    transient_body: None,
                    sender: Vec::new(),
                    change: Some((watcher, full)),
                    is_of_documents: false,
                    is_left_to_notifiers: false,
                });
            }
            StateChange::Subscription(dialog, notify_reason) => {
                let counted = work.rows.counted.take_if(|written| written.dialog() == dialog);
                let counted = match counted {
                    Some(written) => Ok(Some(written)),
                    None => work.rows.ask(|| self.store.find_and_count(dialog)),
                };
                match counted {
                    Ok(Some(subscription)) => {
                        work.rows.own.push((resource.clone(), Notify { subscription, notify_reason, slot: None }));
                    }
                    Ok(None) => {}
                    Err(error) => self.miss(resource, error),
                }
            }
            StateChange::Due => {}
        }
        true
    }

    fn begin_run(&self, work: &mut Work, resource: &Resource) -> Option<NotifyRun> {
        if work.rows.own.iter().any(|(owner, _)| owner == resource) {
            return Some(NotifyRun { cursor: 1, ..NotifyRun::default() });
        }
        let mine = loop {
            let at = work.rows.notify_runs.iter().position(|notify_run| notify_run.resource == *resource)?;
            let next = work.rows.notify_runs.remove(at);
            if !next.is_left_to_notifiers {
                break next;
            }
            self.mark_rows(work, resource);
        };
        let (changes, full) = match mine.change {
            Some((watcher, full)) => (vec![watcher], full),
            // Nobody knows any more what has changed of the watchers: those who watch them get the whole list.
            None => (Vec::new(), true),
        };
        work.rows.run_sender = mine.sender;
        let changed_at = if mine.is_of_documents { work.began } else { 0 };
        Some(NotifyRun { transient_body: mine.transient_body, changes, full, changed_at, ..NotifyRun::default() })
    }

    fn next_batch(&self, work: &mut Work, resource: &Resource, notify_run: &mut NotifyRun) -> Vec<Notify> {
        if notify_run.cursor > 0 {
            let (mine, others) =
                std::mem::take(&mut work.rows.own).into_iter().partition(|(owner, _)| owner == resource);
            work.rows.own = others;
            let mine: Vec<(Resource, Notify)> = mine;
            return mine.into_iter().map(|(_, notify)| notify).collect();
        }
        notify_run.cursor = 1;
        let now = crate::host::clock::now();
        let subscriptions = match self.take_watching(work, resource) {
            Ok(subscriptions) => subscriptions,
            Err(error) => {
                self.miss(resource, error);
                return Vec::new();
            }
        };
        let mut batch = Vec::new();
        for subscription in subscriptions {
            let is_sender =
                !work.rows.run_sender.is_empty() && subscription.get(Field::Contact) == work.rows.run_sender;
            if is_sender || !subscription.hears_changes(now) {
                continue;
            }
            match work.rows.ask(|| self.store.count_up(subscription, |row| row.hears_changes(now))) {
                Ok(Some(subscription)) => {
                    batch.push(Notify { subscription, notify_reason: NotifyReason::Change, slot: None })
                }
                Ok(None) => {}
                Err(error) => {
                    self.miss(resource, error);
                    if error == StoreError::Database {
                        break;
                    }
                }
            }
        }
        batch
    }

    fn make_due_again(&self, _: &mut Work, resource: &Resource, _: &[Notify], again: Again) -> bool {
        if again == Again::WhenRead {
            counters::count(Counter::ChangesMissed);
            self.shared.missed_changes.note(resource);
        }
        again == Again::WhenRead
    }
}

impl RowQueue {
    /// The NOTIFYs of the subscriptions in `store`.
    pub(crate) fn new(parts: Parts, store: InDatabase) -> RowQueue {
        RowQueue { parts, store }
    }

    /// Reads who watches a resource, unless that is known of the change under way.
    fn know_watching(&self, work: &mut Work, resource: &Resource) {
        if work.rows.watching.as_ref().is_none_or(|(noted, _)| noted != resource) {
            let rows = work.rows.ask(|| self.store.rows_of(resource));
            work.rows.watching = rows.ok().map(|rows| (resource.clone(), rows));
        }
    }

    /// The watchers of a resource that have to be notified of a change.
    fn take_watching(&self, work: &mut Work, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        match work.rows.watching.take() {
            Some((noted, rows)) if noted == *resource => Ok(rows),
            _ => work.rows.ask(|| self.store.rows_of(resource)),
        }
    }

    /// Marks a resource's rows for the notifier processes, each for the turn that its dialog falls on.
    fn mark_rows(&self, work: &mut Work, resource: &Resource) {
        let turns = self.config.turns();
        let table = self.config.active_watchers_table;
        let now = crate::host::clock::now();
        let marked = self.take_watching(work, resource).and_then(|mut subscriptions| {
            subscriptions.retain(|subscription| subscription.hears_changes(now));
            // All processes mark rows in one order: two that mark the same ones do not wait for each other.
            subscriptions.sort_by_cached_key(|subscription| self.shared.tables.dialog_hash(subscription.dialog()));
            let turn_of = |row: &Subscription| self.shared.tables.dialog_hash(row.dialog()) % turns.max(1) as u64;
            let write = |db: &Connection, subscription: &Subscription| {
                table_rows::mark(db, table, subscription.dialog(), turn_of(subscription) as i64)
            };
            // The keys were read from the table.
            let writer = Writer { database: self.database, table, fits: &|_| true, write: &write };
            let (mut lost, mut why) = (0, StoreError::Refused);
            for group in subscriptions.chunks(GROUP) {
                let outcome = writer.write_group(group);
                group.iter().for_each(|row| self.shared.marked_turns.note(turn_of(row)));
                lost += group.len() - outcome.count(Fate::Written);
                why = outcome.error.unwrap_or(why);
                if why == StoreError::Database {
                    break;
                }
            }
            if lost == 0 { Ok(()) } else { Err(why) }
        });
        if let Err(error) = marked {
            work.rows.is_database_away |= error == StoreError::Database;
            self.miss(resource, error);
        }
    }

    /// Not all watchers of a change can be notified now: those of the resource are notified again a second later, or
    /// when all that are watched are gone through.
    fn miss(&self, resource: &Resource, error: StoreError) {
        counters::count(Counter::ChangesMissed);
        self.shared.missed_changes.note(resource);
        let uri = crate::host::log::show(&resource.uri);
        limited!(Error, "not all watchers of {uri} can be notified, they are as soon as possible: {error}");
    }
}
