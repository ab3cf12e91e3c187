//! Authorizations (RFC 3856 6.6): what was decided about watchers, and what is to be decided yet.
use crate::presence::authorization::{Authorization, Outstanding};
use crate::presence::error::{Failure, StoreError};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::winfo::Watcher;

/// What is remembered of decisions about watchers.
pub trait Authorizations {
    /// The watchers of a resource are about to be judged by its rules, which are read anew, in this sphere of the
    /// presentity. Returns what [`Self::judgements`] gives from then on.
    fn begin_judging(&mut self, resource: &Resource, sphere: Option<&[u8]>) -> u32;
    /// Counts how often the watchers of a resource were judged, by all processes; some of the counts may be of others.
    fn judgements(&self, resource: &Resource) -> u32;
    /// Whether the watchers of a resource were judged last in this sphere; `true` is certain as far as this server
    /// judges them.
    fn was_judged_in(&self, resource: &Resource, sphere: Option<&[u8]>) -> bool;
    /// What was outstanding when the judgement with this count began is carried out.
    fn judged(&mut self, resource: &Resource, judgement: u32);
    /// Until the watchers of a resource are judged from now on nobody is shown its state. `false`: that could not be
    /// noted.
    #[must_use = "watchers may still be shown the state"]
    fn shut(&mut self, resource: &Resource) -> bool;
    /// Notes that not every decision of the judgement with this count could be carried out: the watchers are judged
    /// again until each can.
    fn left_unjudged(&mut self, resource: &Resource, judgement: u32, outstanding: Outstanding, why: &Failure);
    /// Whether decisions about watchers of a resource are not carried out yet, wherever that is.
    fn has_outstanding(&mut self, resource: &Resource) -> bool;
    /// Judges the watchers of a resource first where decisions about them are outstanding. Gives why nobody knows all
    /// the same who may see its state; `None`: they are judged.
    fn judge_first(&mut self, resource: &Resource) -> Option<StoreError>;
    /// A watcher's authorization as remembered.
    ///
    /// # Errors
    ///
    /// Fails when it has to be looked up in the database and it cannot be read.
    fn authorization(&mut self, subscription: &Subscription) -> Result<Option<Authorization>, StoreError>;
    /// Remembers a watcher's authorization.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or written and the authorization cannot be kept in memory either.
    fn store_authorization(
        &mut self,
        subscription: &Subscription,
        authorization: &Authorization,
    ) -> Result<(), StoreError>;
    /// Remembers the authorization of a watcher that [`Self::authorization`] has just found nothing about.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written and the authorization cannot be kept in memory either.
    fn store_first_authorization(
        &mut self,
        subscription: &Subscription,
        authorization: &Authorization,
    ) -> Result<(), StoreError>;
    /// The watchers of a resource whose authorization is remembered, with or without a subscription: of their fields
    /// only the presentity and the watcher are set.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn known_watchers(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError>;
    /// Watchers of a resource that nobody has decided about, whether they have a subscription or wait without one.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn waiting_watchers(&mut self, resource: &Resource) -> Result<Vec<Watcher>, StoreError>;
}
