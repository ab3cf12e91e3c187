//! Fetches (RFC 6665 4.4.3): a SUBSCRIBE with Expires 0 outside of a dialog asks for the state once.
use super::notification::{Notify, NotifyReason};
use super::notifier;
use super::ports::Ports;
use super::subscription::Subscription;

/// Sends the one NOTIFY of a fetch that was answered; nothing is kept of its subscription. Returns it as it ended.
pub(super) fn notify_once<P: Ports>(ports: &mut P, mut subscription: Subscription) -> Subscription {
    subscription.state.expires_at = ports.now();
    subscription.state.version = 1;
    let notify = Notify { subscription, notify_reason: NotifyReason::Unsubscribe, slot: None };
    notifier::send_alone(ports, &notify);
    notify.subscription
}
