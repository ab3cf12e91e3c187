//! Subscriptions in a list of places.
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::notification::{NotifyHistory, NotifyReason};
use crate::presence::ports::subscriptions::{NewDialog, Recent, Renewed, Stored, Subscriptions};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::seen::NotifiedChanges;
use crate::presence::subscription::{Renewal, Status, Subscription};
use crate::presence::testing::{Entry, MemoryPorts};
use crate::time::Moment;

impl Subscriptions for MemoryPorts {
    fn subscribe(
        &mut self,
        subscription: &Subscription,
        _resource: &Resource,
        _dialog: NewDialog,
    ) -> Result<Stored, StoreError> {
        if self.slot_of(subscription.dialog()).is_some() {
            return Ok(Stored::Known);
        }
        self.may_store()?;
        let mut subscription = subscription.clone();
        subscription.state.version += u32::from(subscription.state.status == Status::Terminated);
        let resource = self.resource_of(&subscription);
        let seen = NotifiedChanges::up_to(self.queue(&resource).generation);
        let entry = Some(Entry { subscription, seen, due: None, history: NotifyHistory::default() });
        match self.entries.iter().position(Option::is_none) {
            Some(free) => self.entries[free] = entry,
            None => self.entries.push(entry),
        }
        Ok(Stored::New)
    }
    fn find_recent(&mut self, dialog: DialogId<'_>, cseq: u32) -> Result<Recent, StoreError> {
        if let Some(found) = self.find_subscription(dialog)? {
            return Ok(Recent::Made(Box::new(found)));
        }
        let same = |known: &Subscription| known.dialog() == dialog && cseq <= known.state.remote_cseq;
        Ok(if self.over.iter().any(same) { Recent::Over } else { Recent::New(NewDialog(0)) })
    }
    fn find_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        Ok(self.slot_of(dialog).and_then(|slot| self.entries[slot].as_ref()).map(|entry| entry.subscription.clone()))
    }
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        if let Some(meanwhile) = self.meanwhile.pop_front() {
            meanwhile(self);
        }
        self.may_store()?;
        let Some(slot) = self.slot_of(current.dialog()) else { return Ok(Renewed::Gone) };
        let Some(entry) = &mut self.entries[slot] else { return Ok(Renewed::Gone) };
        let state = entry.subscription.state;
        if state.local_cseq != current.state.local_cseq {
            return Ok(Renewed::Overtaken(Box::new(entry.subscription.clone())));
        }
        entry.subscription = entry.subscription.with(&renewal.changes()).map_err(|_| StoreError::NoMemory)?;
        entry.subscription.state = state;
        entry.subscription.state.expires_at = renewal.expires_at;
        entry.subscription.state.remote_cseq = renewal.remote_cseq;
        entry.subscription.state.refreshed_at = Some(self.now);
        Ok(Renewed::Done)
    }
    fn unsubscribe(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        match self.renew(current, renewal)? {
            Renewed::Done => {
                if let Err(error) = self.may_store() {
                    let slot = self.slot_of(current.dialog());
                    let entry = slot.and_then(|slot| self.entries[slot].as_mut());
                    entry.into_iter().for_each(|entry| entry.subscription = current.clone());
                    return Err(error);
                }
                let ended = self.take(current.dialog(), Some((NotifyReason::Unsubscribe, None)));
                Ok(ended.map_or(Renewed::Gone, |_| Renewed::Done))
            }
            other => Ok(other),
        }
    }
    fn end(&mut self, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError> {
        self.may_store()?;
        Ok(self.take(dialog, Some((NotifyReason::Ended, Some(reason)))).is_some())
    }
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        Ok(self.take(dialog, None))
    }
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        self.may_read()?;
        let found = self.entries.iter().flatten().filter(|entry| self.watches(entry, resource));
        Ok(found.map(|entry| entry.subscription.clone()).collect())
    }
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError> {
        Ok(self.subscriptions(resource)?.len())
    }
    fn count_subscriptions_of(&mut self, subscription: &Subscription) -> Result<usize, StoreError> {
        let watcher = subscription.watcher_uri();
        Ok(self.entries.iter().flatten().filter(|entry| entry.subscription.watcher_uri() == watcher).count())
    }
    fn may_be_subscribed_to(&self, _event: PackageId) -> bool {
        true
    }
    fn may_be_watched(&mut self, resource: &Resource) -> bool {
        self.entries.iter().flatten().any(|entry| self.watches(entry, resource))
    }
    fn end_expired(&mut self, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let over = |entry: &&Entry| entry.subscription.state.expires_at + self.config.expires_offset < now;
        let due: Vec<Subscription> =
            self.entries.iter().flatten().filter(over).take(limit).map(|entry| entry.subscription.clone()).collect();
        for subscription in &due {
            let last = (subscription.state.status != Status::Terminated)
                .then_some((NotifyReason::Ended, Some(&b"timeout"[..])));
            self.take(subscription.dialog(), last);
        }
        Ok(due)
    }
    fn set_authorization(&mut self, dialog: DialogId<'_>, decision: &Authorization) -> Result<bool, StoreError> {
        self.may_store()?;
        let Some(slot) = self.slot_of(dialog) else { return Ok(false) };
        let Some(entry) = &mut self.entries[slot] else { return Ok(false) };
        let subscription = &entry.subscription;
        if subscription.state.status == decision.status && subscription.get(Field::Reason) == decision.reason {
            return Ok(false);
        }
        let changed = subscription.with(&[(Field::Reason, &decision.reason)]).map_err(|_| StoreError::NoMemory)?;
        entry.subscription = changed;
        entry.subscription.state.status = decision.status;
        Ok(true)
    }
}
