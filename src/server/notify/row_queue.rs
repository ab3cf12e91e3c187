//! NOTIFYs where subscriptions are rows (database-only mode): there are no queues. A change is sent by the process it
//! happened in, or marked for a notifier process.
use crate::common::counters::{self, Counter};
use crate::common::metrics;
use crate::common::row_groups::{GROUP, RowOutcome, Writer};
use crate::host::db::Connection;
use crate::limited;
use crate::presence::error::StoreError;
use crate::presence::notification::{Notify, NotifyAttempt, NotifyReason, NotifyRun, StateChange, Unsent};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::presence::winfo::Extent;
use crate::server::notifications::change_counts::CameIn;
use crate::server::notifications::missed_changes::{Missed, MissedWatchers, OwnDialogId, tries_after};
use crate::server::notifications::row_run::{RowNotifyRun, RunUnderWay};
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table;
use crate::server::subscriptions::database::InDatabase;
use crate::server::work::{Again, NotifyQueue, Work};
use std::ops::Deref;

/// Up to this many watchers that were not notified are named one by one.
const NAMED_ALONE: usize = 8;

/// The same of those whom a pass has not come to when the database goes away: with more left all are notified, once
/// more those before them.
const NAMED_AT_AN_OUTAGE: usize = 128;

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
    fn begin_change(&self, work: &mut Work, resource: &Resource) {
        work.rows.change = Some(self.shared.change_counts.begin(resource));
    }

    fn forget_change(&self, work: &mut Work) {
        work.rows.change = None;
    }

    /// Reads who watches before the change is answered: a watcher that subscribes later sees the new state in the
    /// answer to the SUBSCRIBE, and must not be notified again.
    fn note_change(&self, work: &mut Work, resource: &Resource) {
        self.shared.change_counts.note(resource);
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
                    came_in: self.came_in(work, resource),
                    change: None,
                    only: None,
                    is_of_documents: true,
                    is_left_to_notifiers: self.config.notifier_processes > 0 && !is_winfo,
                });
            }
            StateChange::Watchers { watcher, extent } => {
                self.know_watching(work, resource);
                work.rows.notify_runs.push(RowNotifyRun {
                    resource: resource.clone(),
                    transient_body: None,
                    sender: Vec::new(),
                    came_in: CameIn::at(work.began_at),
                    change: Some((watcher, extent)),
                    only: None,
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
                    Err(error) => {
                        let dialog = OwnDialogId::of_dialog(dialog);
                        let is_change = notify_reason == NotifyReason::Change;
                        let whom = if is_change { MissedWatchers::One(dialog) } else { MissedWatchers::Asking(dialog) };
                        self.miss(work, Missed::new(resource, whom, work.rows.tries), error);
                    }
                }
            }
            StateChange::Due => {}
        }
        true
    }

    fn begin_run(&self, work: &mut Work, resource: &Resource) -> Option<NotifyRun> {
        work.rows.under_way = None;
        if work.rows.own.iter().any(|(owner, _)| owner == resource) {
            return Some(NotifyRun { cursor: 1, ..NotifyRun::default() });
        }
        let mine = loop {
            let at = work.rows.notify_runs.iter().position(|notify_run| notify_run.resource == *resource)?;
            let RowNotifyRun { sender, only, came_in, .. } = &mut work.rows.notify_runs[at];
            let (sender, only, came_in) = (std::mem::take(sender), only.take(), *came_in);
            work.rows.under_way = Some(RunUnderWay { resource: resource.clone(), sender, came_in, only });
            let next = work.rows.notify_runs.remove(at);
            if !next.is_left_to_notifiers {
                break next;
            }
            self.mark_rows(work, resource);
            work.rows.under_way = None;
        };
        let (changes, extent) = match mine.change {
            Some((watcher, extent)) => (vec![watcher], extent),
            // Nobody knows any more what has changed of the watchers: those who watch them get the whole list.
            None => (Vec::new(), Extent::Full),
        };
        let changed_at = mine.is_of_documents.then_some(work.began);
        Some(NotifyRun { transient_body: mine.transient_body, changes, extent, changed_at, ..NotifyRun::default() })
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
                self.miss_run(work, resource, notify_run, None, error);
                return Vec::new();
            }
        };
        let is_due = |work: &Work, subscription: &Subscription| {
            !is_of_sender(work, subscription) && subscription.is_notified_of_changes(now)
        };
        if let Some(why) = notify_run.unjudged {
            // Nobody is counted up for a NOTIFY that nobody may be sent.
            let due = subscriptions.iter().filter(|subscription| is_due(work, subscription)).count();
            if due > 0 {
                metrics::notify_unsent(resource.event, due);
                self.miss_run(work, resource, notify_run, None, why);
            }
            return Vec::new();
        }
        let mut batch = Vec::new();
        let mut left = subscriptions.into_iter();
        while let Some(subscription) = left.next() {
            if !is_due(work, &subscription) {
                continue;
            }
            let dialog = OwnDialogId::of_dialog(subscription.dialog());
            match work.rows.ask(|| self.store.count_up(subscription, |row| row.is_notified_of_changes(now))) {
                Ok(Some(subscription)) => {
                    batch.push(Notify { subscription, notify_reason: NotifyReason::Change, slot: None })
                }
                Ok(None) => {}
                Err(StoreError::Database) => {
                    let rest =
                        std::iter::once(dialog).chain(left.map(|row| OwnDialogId::of_dialog(row.dialog()))).collect();
                    self.miss_rest(work, resource, notify_run, rest, Reached::of_count(batch.len()));
                    break;
                }
                Err(error) => self.miss_run(work, resource, notify_run, Some(dialog), error),
            }
        }
        self.leave_to_later_changes(work, notify_run);
        batch
    }

    /// Only a NOTIFY of a change gives its numbers back: it counts nothing else. What a SUBSCRIBE has changed a row to
    /// is never found under the numbers from before, and a NOTIFY of it that is left out uses them up, as in stock.
    fn take_back(&self, work: &mut Work, _: &Resource, notify: &Notify) {
        if notify.notify_reason == NotifyReason::Change {
            // Numbers that cannot be given back are used up.
            let _ = work.rows.ask(|| self.store.give_back(&notify.subscription));
        }
    }

    /// A few watchers are named one by one: the others are not notified once more.
    fn make_due_again(&self, work: &mut Work, resource: &Resource, unsent: Unsent, again: Again) -> bool {
        let under_way = work.rows.under_way.take();
        if again == Again::Once && !work.rows.may_try_again() {
            return false;
        }
        counters::count(Counter::ChangesMissed);
        let Unsent { notifies, transient_body, .. } = unsent;
        let (named, many) = match notifies.len() <= NAMED_ALONE {
            true => (notifies, None),
            false => {
                let (changes, named) =
                    notifies.into_iter().partition(|unsent| unsent.notify_reason == NotifyReason::Change);
                let changes: Vec<Notify> = changes;
                (named, (!changes.is_empty()).then_some(MissedWatchers::All))
            }
        };
        let came_in = under_way.as_ref().map_or(CameIn::at(work.began_at), |run| run.came_in);
        let sender = under_way.map(|run| run.sender).unwrap_or_default();
        for whom in named.iter().map(MissedWatchers::of_notify).chain(many) {
            let (sender, transient_body) = (sender.clone(), transient_body.clone());
            let missed = Missed::new(resource, whom, work.rows.tries);
            let is_broken_off = again == Again::Once || work.rows.attempt == NotifyAttempt::Second;
            work.rows.miss(&Missed { sender, transient_body, came_in, is_broken_off, ..missed });
        }
        true
    }

    fn make_one_due(&self, work: &mut Work, resource: &Resource, notify: &Notify) {
        counters::count(Counter::ChangesMissed);
        let missed = Missed::new(resource, MissedWatchers::of_notify(notify), 0);
        work.rows.miss(&Missed { is_broken_off: true, ..missed });
    }

    fn make_all_due(&self, work: &mut Work, resource: &Resource) {
        work.rows.break_off(resource);
    }
}

impl RowQueue {
    /// The NOTIFYs of the subscriptions in `store`.
    pub(crate) fn new(parts: Parts, store: InDatabase) -> RowQueue {
        RowQueue { parts, store }
    }

    fn came_in(&self, work: &Work, resource: &Resource) -> CameIn {
        CameIn { at: work.began_at, number: work.rows.change.filter(|change| change.is_of(resource)) }
    }

    /// The watchers are counted up: if somebody has changed the documents since, this may be the last NOTIFY that they
    /// get of both changes.
    fn leave_to_later_changes(&self, work: &Work, notify_run: &mut NotifyRun) {
        let number = work.rows.under_way.as_ref().and_then(|run| run.came_in.number);
        if number.is_some_and(|number| !self.shared.change_counts.is_latest(number)) {
            notify_run.transient_body = None;
        }
    }

    /// Reads who watches a resource, unless that is known of the change under way.
    fn know_watching(&self, work: &mut Work, resource: &Resource) {
        if work.rows.watching.as_ref().is_none_or(|(noted, _)| noted != resource) {
            let rows = work.rows.ask(|| self.store.rows_of(resource));
            work.rows.watching = rows.ok().map(|rows| (resource.clone(), rows));
        }
    }

    /// The watchers that have to be notified of the change under way.
    fn take_watching(&self, work: &mut Work, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        if let Some(only) = work.rows.under_way.as_ref().and_then(|run| run.only.clone()) {
            return work.rows.ask(|| Ok(self.store.find_row(only.id())?.into_iter().collect()));
        }
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
        let mut subscriptions = match self.take_watching(work, resource) {
            Ok(subscriptions) => subscriptions,
            Err(error) => return self.miss_run(work, resource, &NotifyRun::default(), None, error),
        };
        subscriptions.retain(|subscription| subscription.is_notified_of_changes(now));
        // All processes mark rows in one order: two that mark the same ones do not wait for each other.
        subscriptions.sort_by_cached_key(|subscription| self.shared.tables.dialog_hash(subscription.dialog()));
        let turn_of = |row: &Subscription| self.shared.tables.dialog_hash(row.dialog()) % turns.max(1) as u64;
        let write = |db: &Connection, subscription: &Subscription| {
            active_watchers_table::mark(db, table, subscription.dialog(), turn_of(subscription) as i64)
        };
        // The keys were read from the table.
        let writer = Writer { database: self.database, table, fits: &|_| true, write: &write };
        for (index, group) in subscriptions.chunks(GROUP).enumerate() {
            let outcome = writer.write_group(group);
            group.iter().for_each(|row| self.shared.marked_turns.note(turn_of(row)));
            let why = outcome.error.unwrap_or(StoreError::Refused);
            if why == StoreError::Database {
                work.rows.is_database_away = true;
                let written =
                    |at: &usize| outcome.of_rows.get(*at).is_some_and(|outcome| *outcome == RowOutcome::Written);
                let done = index * GROUP + (0..group.len()).take_while(written).count();
                let rest = subscriptions[done..].iter().map(|row| OwnDialogId::of_dialog(row.dialog())).collect();
                return self.miss_rest(work, resource, &NotifyRun::default(), rest, Reached::of_count(done));
            }
            for (row, _) in group.iter().zip(&outcome.of_rows).filter(|(_, outcome)| **outcome != RowOutcome::Written) {
                self.miss_run(work, resource, &NotifyRun::default(), Some(OwnDialogId::of_dialog(row.dialog())), why);
            }
        }
    }

    /// The database went away before a pass came to the watchers of these dialogs.
    fn miss_rest(
        &self,
        work: &mut Work,
        resource: &Resource,
        notify_run: &NotifyRun,
        rest: Vec<OwnDialogId>,
        reached: Reached,
    ) {
        for whom in missed_at_an_outage(rest, reached) {
            self.miss_run(work, resource, notify_run, whom, StoreError::Database);
        }
    }

    /// The watcher of this dialog, or all of the pass under way, cannot be notified of it now.
    fn miss_run(
        &self,
        work: &mut Work,
        resource: &Resource,
        notify_run: &NotifyRun,
        one: Option<OwnDialogId>,
        error: StoreError,
    ) {
        let under_way = work.rows.under_way.as_ref();
        let whole = || under_way.map_or(MissedWatchers::All, RunUnderWay::whom);
        let missed = Missed {
            sender: under_way.map(|run| run.sender.clone()).unwrap_or_default(),
            transient_body: notify_run.transient_body.clone(),
            came_in: under_way.map_or(CameIn::at(work.began_at), |run| run.came_in),
            ..Missed::new(resource, one.map_or_else(whole, MissedWatchers::One), work.rows.tries)
        };
        self.miss(work, missed, error);
    }

    /// Notes that not all watchers can be notified now: they are as soon as possible, or when all that are watched are
    /// gone through.
    fn miss(&self, work: &mut Work, mut missed: Missed, error: StoreError) {
        counters::count(Counter::ChangesMissed);
        missed.tries = tries_after(error, missed.tries);
        missed.is_broken_off = work.rows.attempt == NotifyAttempt::Second;
        work.rows.miss(&missed);
        let uri = crate::host::log::show(&missed.resource.uri);
        limited!(Error, "not all watchers of {uri} can be notified, they are as soon as possible: {error}");
    }
}

/// The publisher's own subscription, known by its Contact, is not notified of its change.
fn is_of_sender(work: &Work, subscription: &Subscription) -> bool {
    let sender = work.rows.under_way.as_ref().map_or(&[][..], |run| &run.sender);
    !sender.is_empty() && subscription.get(Field::Contact) == sender
}

/// Whom a pass had come to when the database went away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Nobody,
    Somebody,
}

impl Reached {
    fn of_count(count: usize) -> Reached {
        if count == 0 { Reached::Nobody } else { Reached::Somebody }
    }
}

/// The watchers to be notified later where the database goes away before a pass has come to the watchers of these
/// dialogs; `None`: all of the pass.
fn missed_at_an_outage(rest: Vec<OwnDialogId>, reached: Reached) -> Vec<Option<OwnDialogId>> {
    match reached == Reached::Nobody || rest.len() > NAMED_AT_AN_OUTAGE {
        true => vec![None],
        false => rest.into_iter().map(Some).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::subscription::dialog::DialogId;

    #[test]
    fn more_watchers_than_can_be_named_are_all_notified_once_more() {
        let missed = |count: usize, reached| {
            let rest = (0..count).map(|n| {
                OwnDialogId::of_dialog(DialogId { call_id: n.to_string().as_bytes(), to_tag: b"t", from_tag: b"f" })
            });
            let whom = missed_at_an_outage(rest.collect(), reached);
            (whom.len(), whom.iter().all(Option::is_some))
        };
        assert_eq!(missed(NAMED_AT_AN_OUTAGE, Reached::Somebody), (NAMED_AT_AN_OUTAGE, true));
        assert_eq!(missed(NAMED_AT_AN_OUTAGE + 1, Reached::Somebody), (1, false));
        assert_eq!((missed(3, Reached::Nobody), missed(0, Reached::Somebody)), ((1, false), (0, true)));
    }
}
