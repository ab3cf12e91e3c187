//! What the server asks of the place where subscriptions live. `subs_db_mode` names that place; `server::storage`
//! chooses it once at start.
use crate::common::row_groups::Pass;
use crate::common::unwritten_rows::UnwrittenRows;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::notification::NotifyReason;
use crate::presence::ports::subscriptions::{NewDialog, Renewed, Stored};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Renewal, Subscription};
use crate::server::notifications::row_run::RowWork;
use crate::time::Moment;

/// How a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End<'a> {
    /// The subscription's watcher says so: until the last NOTIFY it sees what its authorization lets it see.
    Unsubscribed,
    /// For this reason.
    For(&'a [u8]),
}

impl<'a> End<'a> {
    /// What the last NOTIFY is sent for.
    pub(crate) fn notify_reason(self) -> NotifyReason {
        match self {
            End::Unsubscribed => NotifyReason::Unsubscribe,
            End::For(_) => NotifyReason::Ended,
        }
    }

    /// The strings that are others in the last NOTIFY.
    pub(crate) fn changes(self) -> Option<(Field, &'a [u8])> {
        match self {
            End::Unsubscribed => None,
            End::For(reason) => Some((Field::Reason, reason)),
        }
    }
}

/// When the rows of subscriptions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionRows {
    /// There are no rows.
    None,
    /// Before a change is answered.
    AtOnce,
    /// By a timer, after a change was answered.
    Later,
    /// The rows are the subscriptions, and other servers may write them.
    Shared,
}

/// The store of subscriptions: memory, write-through, write-back or the database. `work` takes what the entry in hand
/// has to send itself.
pub trait SubscriptionStore {
    /// Stores a new subscription in a dialog that was looked for before, see [`SubscriptionStore::find_recent`].
    ///
    /// # Errors
    ///
    /// Fails when memory or the database does; nothing is stored then.
    fn subscribe(
        &self,
        work: &mut RowWork,
        subscription: &Subscription,
        resource: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError>;

    /// The subscription of a dialog, by its hash, where the same SUBSCRIBE may have made it just now.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn find_recent(&self, dialog: DialogId<'_>, hash: u64) -> Result<Option<Subscription>, StoreError>;

    /// The subscription of a dialog.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn find(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError>;

    /// Renews a subscription that was just found.
    ///
    /// # Errors
    ///
    /// Fails when memory or the database does; nothing has changed then.
    fn renew(&self, work: &mut RowWork, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError>;

    /// Ends a subscription that was just found, as its watcher asks for, and makes its last NOTIFY due.
    ///
    /// # Errors
    ///
    /// Fails when memory or the database does; the subscription stays then.
    fn unsubscribe(
        &self,
        work: &mut RowWork,
        current: &Subscription,
        renewal: &Renewal<'_>,
    ) -> Result<Renewed, StoreError>;

    /// Ends a subscription for this reason and makes its last NOTIFY due; `false` when it was gone.
    ///
    /// # Errors
    ///
    /// Fails when memory or the database does; the subscription stays then.
    fn end(&self, work: &mut RowWork, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError>;

    /// Removes a subscription without a NOTIFY.
    ///
    /// # Errors
    ///
    /// Fails when the database does; the subscription stays then.
    fn remove(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError>;

    /// The subscriptions to a resource.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn subscriptions_to(&self, resource: &Resource) -> Result<Vec<Subscription>, StoreError>;

    /// How many subscriptions there are to a resource.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn watcher_count(&self, resource: &Resource) -> Result<usize, StoreError>;

    /// How many subscriptions the watcher of this one has.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn count_of_watcher(&self, subscription: &Subscription) -> Result<usize, StoreError>;

    /// Whether anybody may subscribe to a resource; `false` is certain.
    fn may_be_watched(&self, resource: &Resource) -> bool;

    /// Whether there may be subscriptions to a package; `false` is certain.
    fn may_be_subscribed_to(&self, _event: PackageId) -> bool {
        true
    }

    /// Ends at most `limit` subscriptions that ran out before `now` (seconds since 1970).
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read; none was ended then.
    fn end_expired(&self, work: &mut RowWork, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError>;

    /// Gives a subscription another authorization; `true` when it was another one before: its watcher has to be
    /// notified.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn set_authorization(
        &self,
        work: &mut RowWork,
        dialog: DialogId<'_>,
        authorization: &Authorization,
    ) -> Result<bool, StoreError>;

    /// Calls `take` with every subscription, in a stable order, until it returns `false`.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn each(&self, take: &mut dyn FnMut(Subscription) -> bool) -> Result<(), StoreError>;

    /// When rows are written. The store's own question; others ask what follows from it.
    fn row_timing(&self) -> SubscriptionRows;

    /// Whether subscriptions have rows.
    fn has_rows(&self) -> bool {
        self.row_timing() != SubscriptionRows::None
    }

    /// Whether rows are the subscriptions, so that other servers may write them at any time.
    fn is_shared(&self) -> bool {
        self.row_timing() == SubscriptionRows::Shared
    }

    /// Whether rows are written after a change was answered, by a timer.
    fn writes_later(&self) -> bool {
        self.row_timing() == SubscriptionRows::Later
    }

    /// Whether too many changes wait for their rows to be written at their time. Rows that are written with their
    /// changes never wait.
    fn is_written_early(&self, unwritten: &UnwrittenRows) -> bool {
        self.writes_later() && unwritten.are_many()
    }

    /// Whether subscriptions are made and changed as ever while their table cannot be reached.
    fn goes_on_without_table(&self) -> bool {
        matches!(self.row_timing(), SubscriptionRows::None | SubscriptionRows::Later)
    }

    /// Writes the row of a subscription that was taken over from another node, where that is done at once.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written; the timer tries again.
    fn write_taken_over(&self, dialog: DialogId<'_>) -> Result<(), StoreError>;

    /// Deletes the row of a subscription that another node has ended, where it is not the subscription itself.
    fn delete_row(&self, _dialog: DialogId<'_>) {}

    /// Fills the memory from the table; returns how many rows were read.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read, or memory is too small for it.
    fn restore(&self) -> Result<usize, StoreError>;

    /// Writes the rows that are older than the memory; returns how many were written.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn write_back(&self, pass: Pass) -> Result<usize, StoreError>;

    /// The wall clock was set: rows that hold times of subscriptions in memory are older than the memory now.
    fn clock_was_set(&self) {}
}
