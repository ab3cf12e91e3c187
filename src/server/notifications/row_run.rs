//! What an entry from the host has to send where subscriptions are rows of `active_watchers` (database-only mode).
use crate::presence::error::StoreError;
use crate::presence::notification::{Notify, NotifyAttempt, TransientBody};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::winfo::Extent;
use crate::presence::winfo::Watcher;
use crate::server::notifications::change_counts::{CameIn, ChangeNumber};
use crate::server::notifications::missed_changes::{Missed, MissedChanges, MissedWatchers, OwnDialogId};
use crate::server::tables::recent_dialogs::RecentDialogs;

/// A change whose watchers this process notifies.
pub struct RowNotifyRun {
    pub(crate) resource: Resource,
    pub(crate) transient_body: Option<TransientBody>,
    pub(crate) sender: Vec<u8>,
    /// When it came in: a document shown only once gives way to what is newer.
    pub(crate) came_in: CameIn,
    pub(crate) change: Option<(Watcher, Extent)>,
    /// The only watcher that is notified; `None`: all are.
    pub(crate) only: Option<OwnDialogId>,
    /// Documents have changed.
    pub(crate) is_of_documents: bool,
    /// The rows are marked for a notifier process, and this process sends nothing.
    pub(crate) is_left_to_notifiers: bool,
}

/// The pass under way.
pub struct RunUnderWay {
    pub(crate) resource: Resource,
    /// The Contact that is not notified.
    pub(crate) sender: Vec<u8>,
    /// When the change came in.
    pub(crate) came_in: CameIn,
    pub(crate) only: Option<OwnDialogId>,
}

impl RunUnderWay {
    /// Whom a pass notifies that fails as a whole.
    pub(crate) fn whom(&self) -> MissedWatchers {
        self.only.clone().map_or(MissedWatchers::All, MissedWatchers::One)
    }
}

/// The end of a subscription, as it was noted among those of late.
#[derive(Clone, Copy)]
struct NotedEnd {
    mark: u64,
    /// A copy of its SUBSCRIBE has brought it about before.
    is_copy: bool,
}

/// The changes and NOTIFYs of one entry. What is dropped here without having been sent, as after a panic, is tried once
/// more by the timer.
#[derive(Default)]
pub struct RowWork {
    /// NOTIFYs of single subscriptions.
    pub(crate) own: Vec<(Resource, Notify)>,
    /// The subscription that this entry has just written, whose next NOTIFY is counted in its row already.
    pub(crate) counted: Option<Subscription>,
    /// Changes whose watchers have to be notified.
    pub(crate) notify_runs: Vec<RowNotifyRun>,
    /// The watchers of a resource when this entry changed its documents: later ones know the change.
    pub(crate) watching: Option<(Resource, Vec<Subscription>)>,
    /// The change of documents that this entry brings about, or has brought about.
    pub(crate) change: Option<ChangeNumber>,
    /// The pass under way.
    pub(crate) under_way: Option<RunUnderWay>,
    /// The end of a subscription that this entry brings about.
    end: Option<NotedEnd>,
    /// The database was away: nothing more is asked of it for NOTIFYs, what is left counts as missed.
    pub(crate) is_database_away: bool,
    /// Something could not be sent now.
    pub(crate) has_missed: bool,
    /// How often what this entry sends was tried before.
    pub(crate) tries: u8,
    /// Which time it is that this entry sends it.
    pub(crate) attempt: NotifyAttempt,
    /// Where what is not sent waits.
    missed: Option<&'static MissedChanges>,
}

impl RowWork {
    /// Starts without work; what is not sent waits in `missed`.
    pub(crate) fn new(missed: &'static MissedChanges) -> RowWork {
        let mut work = RowWork::default();
        work.missed = Some(missed);
        work
    }

    /// What `statement` gives. Once the database is away it is not asked again: each further statement of this entry
    /// might take as long to fail as the first one did.
    ///
    /// # Errors
    ///
    /// Fails when `statement` does, and when an earlier one found the database away.
    pub(crate) fn ask<T>(&mut self, statement: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.is_database_away {
            return Err(StoreError::Database);
        }
        let done = statement();
        self.is_database_away = matches!(done, Err(StoreError::Database));
        done
    }

    /// Whether the end with this mark was brought about before by a copy of its SUBSCRIBE. It is noted once, however
    /// often this entry comes to it.
    pub(crate) fn is_copy_of_end(&mut self, recent: &RecentDialogs, mark: u64) -> bool {
        match self.end {
            Some(end) if end.mark == mark => end.is_copy,
            _ => self.end.insert(NotedEnd { mark, is_copy: recent.note(mark) }).is_copy,
        }
    }

    /// Whether what a panic keeps from being sent is tried again.
    pub(crate) fn may_try_again(&self) -> bool {
        self.attempt == NotifyAttempt::First
    }

    /// Ends the sending for this resource: all its watchers are notified by the timer, with those whose
    /// subscriptions have ended.
    pub(crate) fn break_off(&mut self, resource: &Resource) {
        (self.under_way, self.counted) = (None, None);
        self.notify_runs.retain(|run| run.resource != *resource);
        let (mine, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.own).into_iter().partition(|own| own.0 == *resource);
        self.own = others;
        if !self.may_try_again() {
            return;
        }
        for (resource, notify) in mine {
            self.miss(&broken_off(&resource, MissedWatchers::of_notify(&notify)));
        }
        self.miss(&broken_off(resource, MissedWatchers::All));
    }

    /// Something was not sent and waits.
    pub(crate) fn miss(&mut self, missed: &Missed) {
        self.has_missed = true;
        if let Some(list) = self.missed {
            list.note(missed);
        }
    }
}

impl Drop for RowWork {
    fn drop(&mut self) {
        if !self.may_try_again() {
            return;
        }
        if let Some(under_way) = self.under_way.take() {
            let RunUnderWay { ref resource, came_in, .. } = under_way;
            let missed = broken_off(resource, under_way.whom());
            self.miss(&Missed { sender: under_way.sender, came_in, ..missed });
        }
        for (resource, notify) in std::mem::take(&mut self.own) {
            self.miss(&broken_off(&resource, MissedWatchers::of_notify(&notify)));
        }
        for run in std::mem::take(&mut self.notify_runs) {
            let RowNotifyRun { resource, transient_body, sender, came_in, .. } = run;
            self.miss(&Missed { transient_body, sender, came_in, ..broken_off(&resource, MissedWatchers::All) });
        }
    }
}

/// What a panic has kept from being sent.
fn broken_off(resource: &Resource, whom: MissedWatchers) -> Missed {
    Missed { is_broken_off: true, ..Missed::new(resource, whom, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::resource::UriComparison;
    use crate::server::tables::recent_dialogs::Places;

    #[test]
    fn an_entry_is_no_copy_of_itself() {
        let recent = RecentDialogs::new(Places::Reserved).unwrap();
        let (mut first, mut copy) = (RowWork::default(), RowWork::default());
        assert!(!first.is_copy_of_end(&recent, 7) && !first.is_copy_of_end(&recent, 7), "the row was another one");
        assert!(copy.is_copy_of_end(&recent, 7) && copy.is_copy_of_end(&recent, 7));
        assert!(!copy.is_copy_of_end(&recent, 8), "the end of another dialog");
    }

    #[test]
    fn what_a_database_could_not_take_may_be_broken_off_once() {
        let rule = UriComparison { ignore_case: false, seed: 1 };
        let resource = rule.resource(b"sip:a@b", PackageId(1));
        let list: &'static MissedChanges = Box::leak(Box::new(MissedChanges::new(Places::Reserved).unwrap()));
        for (tries, attempt, waits) in
            [(0, NotifyAttempt::First, true), (5, NotifyAttempt::First, true), (1, NotifyAttempt::Second, false)]
        {
            let mut work = RowWork::new(list);
            (work.tries, work.attempt) = (tries, attempt);
            work.break_off(&resource);
            drop(work);
            assert_eq!(list.take().is_some_and(|missed| missed.is_broken_off), waits, "after {tries} tries");
            assert!(list.is_empty());
        }
    }

    #[test]
    fn a_database_that_is_away_is_asked_once() {
        let (mut work, mut asked) = (RowWork::default(), 0);
        for answer in [Ok(()), Err(StoreError::Refused), Err(StoreError::Busy), Err(StoreError::Database), Ok(())] {
            let _ = work.ask(|| {
                asked += 1;
                answer
            });
        }
        assert_eq!(asked, 4, "a refusal of one row says nothing about the next");
        assert_eq!(work.ask(|| Ok(())), Err(StoreError::Database));
    }
}
