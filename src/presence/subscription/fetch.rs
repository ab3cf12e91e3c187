//! Fetches (RFC 6665 4.4.3): a SUBSCRIBE with Expires 0 outside of a dialog asks for the state once.
use super::refused_subscription::refused_subscription;
use crate::presence::error::Failure;
use crate::presence::notification::notifier;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::ports::Ports;
use crate::presence::subscription::Subscription;

/// A fetch whose state has been read. No NOTIFY follows its only one: a state that cannot be read is no answer, and one
/// that is empty would be taken for the state.
pub(crate) struct Fetch {
    notify: Notify,
    content: Option<Vec<u8>>,
}

impl Fetch {
    /// Reads what the fetch asks for. This comes before its answer.
    ///
    /// # Errors
    ///
    /// Fails when the state cannot be read now, it is not known what the watcher may see of it, or a string of the
    /// request is none that the database could find.
    pub(crate) fn read<P: Ports>(ports: &mut P, mut subscription: Subscription) -> Result<Fetch, Failure> {
        subscription.state.expires_at = ports.now();
        subscription.state.version = 1;
        let notify = Notify { subscription, notify_reason: NotifyReason::Unsubscribe, slot: None };
        let read = notifier::read_alone(ports, &notify);
        let content = read.map_err(|error| refused_subscription(ports, error, &notify.subscription))?;
        Ok(Fetch { notify, content })
    }

    /// The subscription of the fetch, which ends at once.
    pub(crate) fn subscription(&self) -> &Subscription {
        &self.notify.subscription
    }

    /// Sends its NOTIFY once it is answered; nothing is kept of its subscription, which is returned as it ended.
    pub(crate) fn notify<P: Ports>(self, ports: &mut P) -> Subscription {
        notifier::send_read(ports, &self.notify, self.content);
        self.notify.subscription
    }
}
