//! Subscriptions (RFC 6665): made, renewed, ended, listed, counted.
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::{Renewal, Subscription};
use crate::time::Moment;

/// A dialog that has no subscription yet, by the hash under which it will be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDialog(pub u64);

/// What is known of the dialog of a first SUBSCRIBE.
#[derive(Debug)]
pub enum Recent {
    /// The same SUBSCRIBE has made this subscription.
    Made(Box<Subscription>),
    /// The same SUBSCRIBE has made a subscription that has ended.
    Over,
    /// There is none.
    New(NewDialog),
}

/// What became of a new subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The subscription is stored.
    New,
    /// There is one of the same dialog: the same SUBSCRIBE came twice. Nothing was changed.
    Known,
}

/// What became of a SUBSCRIBE in a dialog.
#[derive(Debug)]
pub enum Renewed {
    /// The change is carried out.
    Done,
    /// The subscription has changed since it was found, and is this one now. Nothing was carried out.
    Overtaken(Box<Subscription>),
    /// The subscription is gone.
    Gone,
}

/// The store of subscriptions.
pub trait Subscriptions {
    /// Stores a new subscription to a resource, in the dialog [`Self::find_recent`] was asked for.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row: no subscription is
    /// stored then.
    fn subscribe(
        &mut self,
        subscription: &Subscription,
        resource: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError>;
    /// Whether a dialog that is about to be made has been made already, by the same SUBSCRIBE, whose CSeq this is.
    ///
    /// # Errors
    ///
    /// Fails when the subscription has to be looked up in the database and it cannot be read.
    fn find_recent(&mut self, dialog: DialogId<'_>, cseq: u32) -> Result<Recent, StoreError>;
    /// The subscription of a dialog.
    ///
    /// # Errors
    ///
    /// Fails when the subscription has to be looked up in the database and it cannot be read.
    fn find_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError>;
    /// Renews a subscription that was just found.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, a string is none that a subscription can have, or the database cannot be
    /// written: the subscription stays as it was.
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError>;
    /// Ends a subscription that was just found, as its watcher asks for: its last NOTIFY becomes due, and goes where
    /// this SUBSCRIBE says.
    ///
    /// # Errors
    ///
    /// Fails as [`Self::renew`] does: the subscription stays.
    fn unsubscribe(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError>;
    /// Ends a subscription for this reason; its last NOTIFY becomes due. `false` when it was gone.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out or the database cannot be written: the subscription stays as it was.
    fn end(&mut self, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError>;
    /// Removes a subscription without another word.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError>;
    /// The subscriptions of a resource.
    ///
    /// # Errors
    ///
    /// Fails when the subscriptions are in the database and it cannot be read.
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError>;
    /// How many subscriptions there are to a resource.
    ///
    /// # Errors
    ///
    /// Fails when the subscriptions are in the database and it cannot be read.
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError>;
    /// How many subscriptions the watcher of this one has; counted where there is a limit on them.
    ///
    /// # Errors
    ///
    /// Fails when the subscriptions are in the database and it cannot be read.
    fn count_subscriptions_of(&mut self, subscription: &Subscription) -> Result<usize, StoreError>;
    /// Whether anybody may subscribe to a resource; `false` is certain.
    fn may_be_watched(&mut self, resource: &Resource) -> bool;
    /// Whether there may be subscriptions to a package; `false` is certain.
    fn may_be_subscribed_to(&self, event: PackageId) -> bool;
    /// Ends subscriptions that have run out, at most `limit`; their last NOTIFYs become due.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out or the database cannot be read or written.
    fn end_expired(&mut self, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError>;
    /// Gives a subscription another authorization; `true` when it was another one before.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, a string is none that a subscription can have, or the database cannot be
    /// written: the subscription stays as it was.
    fn set_authorization(&mut self, dialog: DialogId<'_>, authorization: &Authorization) -> Result<bool, StoreError>;
}
