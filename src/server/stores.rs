//! The stores in force, chosen once by [`crate::server::storage`].
use crate::presence::error::StoreError;
use crate::server::authorizations::store::AuthorizationStore;
use crate::server::publications::store::PublicationStore;
use crate::server::subscriptions::store::SubscriptionStore;
use crate::server::work::NotifyQueue;

/// The stores in force.
#[derive(Clone, Copy)]
pub struct Stores {
    /// Subscriptions (`subs_db_mode`).
    pub subscriptions: &'static dyn SubscriptionStore,
    /// Where changes wait for their NOTIFYs.
    pub queue: &'static dyn NotifyQueue,
    /// Authorizations of watchers.
    pub authorizations: &'static dyn AuthorizationStore,
    /// Publications (`publ_cache`).
    pub publications: &'static dyn PublicationStore,
}

impl Stores {
    /// Fills the memory from the tables; returns how many rows were read.
    ///
    /// # Errors
    ///
    /// Fails when a table cannot be read; those before it have been.
    pub fn restore(&self) -> Result<usize, StoreError> {
        let publications = self.publications.restore()?;
        Ok(publications + self.subscriptions.restore()?)
    }

    /// Whether anything that is stored has rows.
    pub fn has_rows(&self) -> bool {
        self.subscriptions.has_rows() || self.publications.has_rows()
    }
}
