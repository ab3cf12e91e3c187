//! What is remembered of the past: for operators, and for copies of requests.
use crate::presence::history::ended::{Cause, Ended};
use crate::presence::history::remembered::{BodyDigest, SentNotify};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::dialog::DialogId;

/// The recorder of bodies, NOTIFYs and ends.
pub trait Recorder {
    /// Remembers that the documents of a resource were put together.
    fn note_composed(&mut self, _resource: &Resource, _body: BodyDigest) {}
    /// The last NOTIFY of a subscription to a resource, as far as it is remembered.
    fn last_notify(&mut self, _resource: &Resource, _dialog: DialogId<'_>) -> Option<SentNotify> {
        None
    }
    /// Remembers that a subscription has ended, and why: for operators, and for copies of its first SUBSCRIBE.
    fn note_end(&mut self, subscription: &Subscription, cause: Cause);
    /// The latest end of a subscription of a watcher to a resource, as far as it is remembered.
    fn latest_end(&mut self, watcher: &[u8], resource: &Resource) -> Option<Ended>;
}
