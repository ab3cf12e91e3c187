//! The ports of authorizations: what is remembered of watchers, and judgements of all watchers of a resource.
use crate::host::clock;
use crate::presence::authorization::{Authorization, Outstanding};
use crate::presence::error::{Failure, StoreError};
use crate::presence::ports::authorizations::Authorizations;
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::winfo::Watcher;
use crate::server::context::Context;
use crate::server::judging;

impl Authorizations for Context<'_> {
    fn begin_judging(&mut self, resource: &Resource, sphere: Option<&[u8]>) -> u32 {
        self.registry.begin_pass();
        self.shared.judgements.begin(resource, sphere)
    }
    fn judgements(&self, resource: &Resource) -> u32 {
        self.shared.judgements.count(resource)
    }
    fn was_judged_in(&self, resource: &Resource, sphere: Option<&[u8]>) -> bool {
        self.shared.judgements.was_in(resource, sphere)
    }
    fn judged(&mut self, resource: &Resource, judgement: u32) {
        self.shared.judgements.carried_out(resource, judgement);
    }
    fn shut(&mut self, resource: &Resource) -> bool {
        !self.config.force_active && self.shared.judgements.shut(resource, clock::now())
    }
    fn left_unjudged(&mut self, resource: &Resource, judgement: u32, outstanding: Outstanding, why: &Failure) {
        judging::note_unjudged(self, resource, judgement, outstanding, why);
    }
    fn has_outstanding(&mut self, resource: &Resource) -> bool {
        self.shared.judgements.outstanding(resource).is_some()
    }
    fn judge_first(&mut self, resource: &Resource) -> Option<StoreError> {
        judging::judge_outstanding(self, resource).err()
    }
    fn authorization(&mut self, subscription: &Subscription) -> Result<Option<Authorization>, StoreError> {
        self.storage.authorizations.find(subscription)
    }
    fn store_authorization(
        &mut self,
        subscription: &Subscription,
        authorization: &Authorization,
    ) -> Result<(), StoreError> {
        self.storage.authorizations.store(subscription, authorization)
    }
    fn store_first_authorization(
        &mut self,
        subscription: &Subscription,
        authorization: &Authorization,
    ) -> Result<(), StoreError> {
        self.storage.authorizations.store_first(subscription, authorization)
    }
    fn known_watchers(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        self.storage.authorizations.known(resource)
    }
    fn waiting_watchers(&mut self, resource: &Resource) -> Result<Vec<Watcher>, StoreError> {
        self.storage.authorizations.waiting(resource)
    }
}
