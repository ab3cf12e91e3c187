//! What the server asks of the place where authorizations of watchers are remembered. `server::storage` chooses it once
//! at start.
use crate::common::row_groups::Pass;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::winfo::Watcher;

/// The store of authorizations: the table `watchers` with its cache, or nothing.
pub trait AuthorizationStore {
    /// What was decided about the watcher of a subscription.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read.
    fn find(&self, subscription: &Subscription) -> Result<Option<Authorization>, StoreError>;

    /// Remembers a decision.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read or written.
    fn store(&self, subscription: &Subscription, authorization: &Authorization) -> Result<(), StoreError>;

    /// Remembers the first decision about a watcher.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be written.
    fn store_first(&self, subscription: &Subscription, authorization: &Authorization) -> Result<(), StoreError>;

    /// The watchers of a resource about whom anything was decided.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read.
    fn known(&self, resource: &Resource) -> Result<Vec<Subscription>, StoreError>;

    /// The watchers of a resource about whom nobody has decided.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read.
    fn waiting(&self, resource: &Resource) -> Result<Vec<Watcher>, StoreError>;

    /// Writes the decisions that could not be written when they were made.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be reached or written: what is not written yet stays due, and is written next
    /// time.
    fn write(&self, pass: Pass) -> Result<(), StoreError>;

    /// Forgets the decisions in memory that were read long ago.
    fn forget_old(&self);

    /// Forgets those too, and the watchers about whom nobody has decided for a day.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn clean(&self) -> Result<(), StoreError>;
}
