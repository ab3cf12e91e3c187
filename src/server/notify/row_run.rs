//! What an entry from the host has to send where subscriptions are rows of `active_watchers` (database-only mode).
use crate::presence::error::StoreError;
use crate::presence::notification::{Notify, TransientBody};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::winfo::Watcher;

/// A change whose watchers this process notifies.
pub struct RowNotifyRun {
    pub(crate) resource: Resource,
    pub(crate) transient_body: Option<TransientBody>,
    pub(crate) sender: Vec<u8>,
    pub(crate) change: Option<(Watcher, bool)>,
    /// Documents have changed.
    pub(crate) is_of_documents: bool,
    /// The rows are marked for a notifier process, and this process sends nothing.
    pub(crate) is_left_to_notifiers: bool,
}

/// The changes and NOTIFYs of one entry.
#[derive(Default)]
pub struct RowWork {
    /// NOTIFYs of single subscriptions.
    pub(crate) own: Vec<(Resource, Notify)>,
    /// The subscription that this entry has just written, whose next NOTIFY is counted in its row already.
    pub(crate) counted: Option<Subscription>,
    /// Changes whose watchers have to be notified.
    pub(crate) notify_runs: Vec<RowNotifyRun>,
    /// Who watched a resource when this entry changed its documents: later ones know the change.
    pub(crate) watching: Option<(Resource, Vec<Subscription>)>,
    /// The Contact that is not notified in the run under way.
    pub(crate) run_sender: Vec<u8>,
    /// The database was away: nothing more is asked of it for NOTIFYs, what is left counts as missed.
    pub(crate) is_database_away: bool,
}

impl RowWork {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
