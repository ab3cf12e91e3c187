//! The store of authorizations where there is no database, and where everything lives in memory only.
use crate::common::row_groups::Pass;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::winfo::Watcher;
use crate::server::authorizations::store::AuthorizationStore;
use crate::server::authorizations::watchers_table;
use crate::server::shared::Parts;

/// The store that remembers nothing: the rules are asked each time.
pub(crate) struct NotRemembered(Parts);

impl NotRemembered {
    pub(crate) fn new(parts: Parts) -> NotRemembered {
        NotRemembered(parts)
    }
}

impl AuthorizationStore for NotRemembered {
    fn find(&self, _: &Subscription) -> Result<Option<Authorization>, StoreError> {
        Ok(None)
    }

    fn store(&self, _: &Subscription, _: &Authorization) -> Result<(), StoreError> {
        Ok(())
    }

    fn store_first(&self, _: &Subscription, _: &Authorization) -> Result<(), StoreError> {
        Ok(())
    }

    fn known(&self, _: &Resource) -> Result<Vec<Subscription>, StoreError> {
        Ok(Vec::new())
    }

    fn waiting(&self, _: &Resource) -> Result<Vec<Watcher>, StoreError> {
        Ok(Vec::new())
    }

    fn write(&self, _: Pass) -> Result<(), StoreError> {
        Ok(())
    }

    fn forget_old(&self) {}

    /// A table that is there all the same has the rows of an earlier start.
    fn clean(&self) -> Result<(), StoreError> {
        watchers_table::delete_undecided(&self.0)
    }
}
