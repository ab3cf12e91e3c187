//! Decisions in a map.
use crate::presence::authorization::judgement;
use crate::presence::authorization::{Authorization, NoVerdict, Outstanding};
use crate::presence::error::{Failure, StoreError};
use crate::presence::ports::authorizations::Authorizations;
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::presence::testing::{MemoryPorts, key};
use crate::presence::winfo::Watcher;

impl Authorizations for MemoryPorts {
    fn begin_judging(&mut self, resource: &Resource, sphere: Option<&[u8]>) -> u32 {
        self.spheres.insert(key(resource), sphere.map(<[u8]>::to_vec));
        self.judgements += 1;
        self.judgements
    }
    fn judgements(&self, _resource: &Resource) -> u32 {
        self.judgements
    }
    fn was_judged_in(&self, resource: &Resource, sphere: Option<&[u8]>) -> bool {
        self.spheres.get(&key(resource)).is_some_and(|judged| judged.as_deref() == sphere)
    }
    fn judged(&mut self, resource: &Resource, judgement: u32) {
        self.unjudged.remove(&key(resource));
        self.shut.retain(|shut, since| *shut != key(resource) || *since > judgement);
    }
    fn shut(&mut self, resource: &Resource) -> bool {
        self.judgements += 1;
        self.shut.insert(key(resource), self.judgements);
        true
    }
    fn left_unjudged(&mut self, resource: &Resource, judgement: u32, outstanding: Outstanding, _why: &Failure) {
        self.unjudged.insert(key(resource), outstanding);
        self.shut.retain(|shut, since| *shut != key(resource) || *since > judgement);
    }
    fn has_outstanding(&mut self, resource: &Resource) -> bool {
        self.unjudged.contains_key(&key(resource))
    }
    fn judge_first(&mut self, resource: &Resource) -> Option<StoreError> {
        if self.shut.contains_key(&key(resource)) {
            // What fails is noted there.
            let _ = judgement::authorizations(self, resource);
        }
        let is_outstanding = self.unjudged.get(&key(resource)) == Some(&Outstanding::Subscribed);
        (is_outstanding || self.shut.contains_key(&key(resource))).then_some(NoVerdict::Outstanding.into())
    }
    fn authorization(&mut self, subscription: &Subscription) -> Result<Option<Authorization>, StoreError> {
        let resource = self.resource_of(subscription);
        let known = self.known.get(&(key(&resource), subscription.watcher_uri()));
        Ok(known.map(|k| Authorization { status: k.state.status, reason: k.get(Field::Reason).to_vec() }))
    }
    fn store_authorization(&mut self, subscription: &Subscription, decision: &Authorization) -> Result<(), StoreError> {
        let resource = self.resource_of(subscription);
        let given = [
            (Field::PresUri, subscription.get(Field::PresUri)),
            (Field::WatcherUser, subscription.get(Field::WatcherUser)),
            (Field::WatcherDomain, subscription.get(Field::WatcherDomain)),
            (Field::Reason, decision.reason.as_slice()),
        ];
        let known = Subscription::without_dialog(resource.event, decision.status, &given);
        let known = known.map_err(|_| StoreError::NoMemory)?;
        self.known.insert((key(&resource), subscription.watcher_uri()), known);
        Ok(())
    }
    fn store_first_authorization(&mut self, s: &Subscription, decision: &Authorization) -> Result<(), StoreError> {
        self.store_authorization(s, decision)
    }
    fn known_watchers(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        let wanted = key(resource);
        Ok(self.known.iter().filter(|((of, _), _)| *of == wanted).map(|(_, known)| known.clone()).collect())
    }
    fn waiting_watchers(&mut self, _resource: &Resource) -> Result<Vec<Watcher>, StoreError> {
        Ok(self.waiting.clone())
    }
}
