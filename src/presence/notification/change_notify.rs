//! The NOTIFYs that a changed document leaves to be sent: into the queue before the answer, out of it after that.
use super::notifier;
use crate::presence::authorization::judgement;
use crate::presence::authorization::sphere;
use crate::presence::error::Failure;
use crate::presence::event_package::Package;
use crate::presence::notification::{StateChange, TransientBody};
use crate::presence::ports::Ports;
use crate::presence::publication::document::{Document, SphereBefore};
use crate::presence::publication::publish_request::PublishRequest;
use crate::presence::resource::Resource;

/// The NOTIFYs that a change leaves to be sent.
pub(crate) enum PendingNotify {
    /// No NOTIFY.
    Nothing,
    /// The NOTIFYs that are in the queue.
    Queued {
        /// Whether this process has to send the NOTIFYs unless another one has begun to.
        claims: bool,
        /// The documents name another sphere, which rules may depend on: who sends looks at them first.
        judges: bool,
    },
    /// The same, but nothing could be queued before the rules are looked at.
    AfterRules(Option<TransientBody>),
}

/// Puts a change into the queue of its resource. This comes before the answer: a watcher that subscribes after the
/// answer sees the change in the NOTIFY that follows its SUBSCRIBE, and is not notified of it again. The queue is taken
/// after the answer: while that is written to a slow connection, others may send.
pub(crate) fn queue_change<P: Ports>(
    ports: &mut P,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
    transient_body: Option<TransientBody>,
) -> PendingNotify {
    let judges = is_in_another_sphere(ports, new);
    if judges && !ports.shut(new.resource) {
        return PendingNotify::AfterRules(transient_body);
    }
    let change = StateChange::State { sender: request.sender, transient_body };
    PendingNotify::Queued { claims: ports.mark(new.resource, change), judges }
}

/// Sends the NOTIFYs of a change. The change is answered by now: whatever fails here is made up for later.
pub(crate) fn send_pending<P: Ports>(
    ports: &mut P,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
    pending: PendingNotify,
) {
    let sends = match pending {
        PendingNotify::Nothing => false,
        PendingNotify::Queued { claims, judges } => {
            if judges {
                judge(ports, new.resource);
            }
            claims && ports.claim(new.resource)
        }
        PendingNotify::AfterRules(transient_body) => {
            judge(ports, new.resource);
            ports.enqueue(new.resource, StateChange::State { sender: request.sender, transient_body })
        }
    };
    if sends {
        notifier::run(ports, new.resource);
    }
}

/// Whether the documents of a presentity may name another sphere than the one that its watchers were judged in. While
/// it is not known which one they name, nobody is allowed what only one of them allows.
fn is_in_another_sphere<P: Ports>(ports: &mut P, new: &Document<'_>) -> bool {
    if !has_sphere(ports, new.description) {
        return false;
    }
    match sphere::of_presentity(ports, new.resource).map(SphereBefore::Known) {
        Ok(SphereBefore::Known(now)) if new.sphere == SphereBefore::Known(now.clone()) => {
            !ports.was_judged_in(new.resource, now.as_deref())
        }
        _ => true,
    }
}

/// Judges the watchers of a presentity of whose change nobody is notified.
pub(crate) fn judge_if_in_another_sphere<P: Ports>(ports: &mut P, new: &Document<'_>) {
    if is_in_another_sphere(ports, new) {
        judge(ports, new.resource);
    }
}

/// What fails is noted, and tried again.
fn judge<P: Ports>(ports: &mut P, resource: &Resource) {
    let _ = judgement::authorizations(ports, resource);
}

/// The documents of a resource have changed by themselves, and nobody is notified: the sphere may be another one.
pub(crate) fn judged_without_request<P: Ports>(ports: &mut P, resource: &Resource) {
    let description = *ports.packages().get(resource.event);
    judge_if_in_another_sphere(ports, &Document::without_request(&description, resource));
}

/// The documents of a resource have changed by themselves, or behind our back.
pub(crate) fn changed_without_request<P: Ports>(ports: &mut P, resource: &Resource) {
    let description = *ports.packages().get(resource.event);
    notify_watchers(ports, &PublishRequest::default(), &Document::without_request(&description, resource), None);
}

/// Notifies the watchers of a change that no answer waits for.
pub(crate) fn notify_watchers<P: Ports>(
    ports: &mut P,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
    transient_body: Option<TransientBody>,
) {
    let pending = queue_change(ports, request, new, transient_body);
    send_pending(ports, request, new, pending);
}

/// Whether rules of a package depend on the presentity's sphere, and are evaluated again when it changes.
fn has_sphere<P: Ports>(ports: &P, package: &Package) -> bool {
    ports.config().sphere_check && package.name == b"presence"
}

/// The sphere that a presentity's documents name before they change, where rules depend on it.
///
/// # Errors
///
/// Fails when the documents cannot be read.
pub(crate) fn sphere_before<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    package: &Package,
) -> Result<SphereBefore, Failure> {
    match has_sphere(ports, package) {
        true => Ok(SphereBefore::Known(sphere::of_presentity(ports, resource)?)),
        false => Ok(SphereBefore::Unknown),
    }
}
