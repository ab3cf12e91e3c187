//! The ports of subscriptions: the store that the mode names.
use crate::common::counters;
use crate::common::counters::Counter;
use crate::host::clock;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::ports::subscriptions::{NewDialog, Recent, Renewed, Stored, Subscriptions};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::{Renewal, Subscription};
use crate::server::context::Context;
use crate::time::Moment;

impl Subscriptions for Context<'_> {
    fn subscribe(
        &mut self,
        subscription: &Subscription,
        resource: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError> {
        debug_assert_eq!(dialog.0, self.shared.tables.dialog_hash(subscription.dialog()));
        self.storage.subscriptions.subscribe(&mut self.work.rows, subscription, resource, dialog)
    }
    fn find_recent(&mut self, dialog: DialogId<'_>, cseq: u32) -> Result<Recent, StoreError> {
        let hash = self.shared.tables.dialog_hash(dialog);
        Ok(match self.storage.subscriptions.find_recent(dialog, hash)? {
            Some(made) => Recent::Made(Box::new(made)),
            None if self.shared.ended_dialogs.is_of_ended(hash, cseq, clock::now()) => Recent::Over,
            None => Recent::New(NewDialog(hash)),
        })
    }
    fn find_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.storage.subscriptions.find(dialog)
    }
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        self.storage.subscriptions.renew(&mut self.work.rows, current, renewal)
    }
    fn unsubscribe(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        self.storage.subscriptions.unsubscribe(&mut self.work.rows, current, renewal)
    }
    fn end(&mut self, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError> {
        self.storage.subscriptions.end(&mut self.work.rows, dialog, reason)
    }
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.storage.subscriptions.remove(dialog)
    }
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        self.storage.subscriptions.subscriptions_to(resource)
    }
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError> {
        self.storage.subscriptions.watcher_count(resource)
    }
    fn count_subscriptions_of(&mut self, subscription: &Subscription) -> Result<usize, StoreError> {
        self.storage.subscriptions.count_of_watcher(subscription)
    }
    fn end_expired(&mut self, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let ended = self.storage.subscriptions.end_expired(&mut self.work.rows, now, limit)?;
        ended.iter().for_each(|_| counters::count(Counter::SubscriptionsExpired));
        Ok(ended)
    }
    fn set_authorization(&mut self, dialog: DialogId<'_>, authorization: &Authorization) -> Result<bool, StoreError> {
        self.storage.subscriptions.set_authorization(&mut self.work.rows, dialog, authorization)
    }
    fn may_be_subscribed_to(&self, event: PackageId) -> bool {
        self.storage.subscriptions.may_be_subscribed_to(event)
    }
    fn may_be_watched(&mut self, resource: &Resource) -> bool {
        self.storage.subscriptions.may_be_watched(resource)
    }
}
