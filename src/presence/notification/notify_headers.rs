//! The header lines of a NOTIFY (RFC 6665 4.2.2, 8.2): Event, Contact, Subscription-State, Content-Type.
use crate::presence::event_package::Package;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::ports::Ports;
use crate::presence::subscription::Status;
use crate::presence::subscription::field::Field;
use crate::sip::subscription_state;
use crate::sip::transport::push_contact;
use crate::time::Moment;

/// Appends the header lines of a NOTIFY, in stock's order.
pub(crate) fn push<P: Ports>(out: &mut Vec<u8>, ports: &P, notify: &Notify, package: &Package, body: Option<&[u8]>) {
    let subscription = &notify.subscription;
    out.extend_from_slice(b"Max-Forwards: 70\r\nEvent: ");
    out.extend_from_slice(package.name);
    let id = subscription.get(Field::EventId);
    if !id.is_empty() {
        out.extend_from_slice(b";id=");
        out.extend_from_slice(id);
    }
    out.extend_from_slice(b"\r\nContact: <");
    push_contact(out, subscription.get(Field::LocalContact), subscription.transport());
    out.extend_from_slice(b">\r\nSubscription-State: ");
    push_state(out, notify, ports.now());
    out.extend_from_slice(b"\r\n");
    if body.is_some() && !package.content_type.is_empty() {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(package.content_type);
        out.extend_from_slice(b"\r\n");
    }
}

/// The reason of a subscription belongs to its status: one that ends because it has expired, or because its watcher
/// says so (RFC 6665 4.4.3), has timed out, whatever its watcher was allowed.
fn push_state(out: &mut Vec<u8>, notify: &Notify, now: Moment) {
    let subscription = &notify.subscription;
    match subscription.state.status {
        Status::Terminated if notify.notify_reason != NotifyReason::Unsubscribe => {
            subscription_state::push_terminated(out, subscription.get(Field::Reason));
        }
        Status::Terminated => subscription_state::push_terminated(out, b"timeout"),
        _ if subscription.is_over(now) => subscription_state::push_terminated(out, b"timeout"),
        status => subscription_state::push_live(out, status.word(), subscription.state.expires_at - now),
    }
}
