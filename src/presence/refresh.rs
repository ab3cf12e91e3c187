//! Commands from outside a request: rules or tables were changed by others (`refreshWatchers`, `updateWatchers`).
use super::authorization::Authorization;
use super::ended::Cause;
use super::error::Failure;
use super::event_package::Package;
use super::event_package::Trait;
use super::notification::{NotifyReason, StateChange};
use super::notifier;
use super::ports::Ports;
use super::publication::{Applied, Change, Modification, Publication};
use super::resource::Resource;
use super::subscribe::notify_winfo;
use super::subscription::{Status, Subscription};
use super::subscription_field::Field;
use super::winfo::Extent;
use super::winfo::{Watcher, WatcherEvent};
use crate::sip::entity_tag::EntityTag;
use crate::time::Expiry;

/// The documents of a resource may have changed behind our back: they are read again and every watcher is notified.
pub fn documents<P: Ports>(ports: &mut P, resource: &Resource) {
    ports.forget(resource);
    if ports.enqueue(resource, StateChange::State { sender: b"", transient_body: None }) {
        notifier::run(ports, resource);
    }
}

/// The presentity's manipulation document was changed: a document that never expires, under the name of its file, or
/// none any more. It is put together with the published ones.
///
/// # Errors
///
/// Fails when a store fails: the watchers are not notified then.
pub fn hard_state<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    filename: &[u8],
    document: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let now = ports.now();
    match document {
        None => {
            ports.publish(resource, Change::Remove(EntityTag::new(filename.to_vec())))?;
        }
        Some(body) => {
            let change = Modification {
                etag: EntityTag::new(filename.to_vec()),
                new_etag: EntityTag::new(filename.to_vec()),
                body: Some(body.clone()),
                expires_at: Expiry::Never,
                received_at: Some(now),
                ..Modification::default()
            };
            if ports.publish(resource, Change::Modify(change))? == Applied::NoMatch {
                let publication = Publication {
                    etag: EntityTag::new(filename.to_vec()),
                    ruid: ports.new_ruid(),
                    body,
                    expires_at: Expiry::Never,
                    received_at: Some(now),
                    ..Publication::default()
                };
                ports.publish(resource, Change::Insert(publication))?;
            }
        }
    }
    documents(ports, resource);
    Ok(())
}

/// Judges the watchers that are remembered, also those that do not subscribe now: what they learn when they come
/// back.
fn known_authorizations<P: Ports>(ports: &mut P, resource: &Resource, wrong: &mut FirstFailure) {
    let watchers = match ports.known_watchers(resource) {
        Ok(watchers) => watchers,
        Err(error) => return wrong.note(Err(error.into())),
    };
    for watcher in watchers {
        // Whom the package cannot judge stays what it was.
        let Ok(authorization) = ports.evaluate_rules(resource.event, &watcher, watcher.state.status) else { continue };
        let before = Authorization { status: watcher.state.status, reason: watcher.get(Field::Reason).to_vec() };
        if authorization != before {
            wrong.note(ports.store_authorization(&watcher, &authorization).map_err(Failure::from));
        }
    }
}

/// What went wrong first in a pass that goes on all the same.
#[derive(Default)]
struct FirstFailure(Option<Failure>);

impl FirstFailure {
    fn note(&mut self, done: Result<(), Failure>) {
        if let (None, Err(failure)) = (&self.0, done) {
            self.0 = Some(failure);
        }
    }
}

/// The rules of a presentity may have changed: its watchers are judged again, and those are notified whose
/// authorization is another one. A watcher with whom that fails does not keep the others; the first failure is returned
/// after all of them.
///
/// # Errors
///
/// Fails when the subscriptions cannot be read, or with the first failure among the watchers, after all of them.
pub fn authorizations<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), Failure> {
    let package = *ports.packages().get(resource.event);
    if !package.has(Trait::NeedsAuthorization) {
        return Ok(());
    }
    let mut wrong = FirstFailure::default();
    known_authorizations(ports, resource, &mut wrong);
    for subscription in ports.subscriptions(resource)? {
        wrong.note(judge_again(ports, resource, &package, &subscription));
    }
    wrong.0.map_or(Ok(()), Err)
}

/// The subscriptions of a resource come from rows that may be older than the last decisions: what its rules deny by now
/// is not sent. A watcher with whom that fails does not keep the others; the first failure is returned after all of
/// them.
///
/// # Errors
///
/// Fails when the subscriptions cannot be read, or with the first failure among the watchers, after all of them.
pub fn restored<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), Failure> {
    let package = *ports.packages().get(resource.event);
    let mut wrong = FirstFailure::default();
    for subscription in ports.subscriptions(resource)? {
        let judged = ports.evaluate_rules(resource.event, &subscription, subscription.state.status);
        wrong.note(judged.and_then(|authorization| {
            let in_row = (subscription.state.status, subscription.get(Field::Reason));
            match in_row == (authorization.status, &authorization.reason) {
                true => Ok(()),
                false => judge_again(ports, resource, &package, &subscription),
            }
        }));
    }
    wrong.0.map_or(Ok(()), Err)
}

fn judge_again<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    package: &Package,
    subscription: &Subscription,
) -> Result<(), Failure> {
    let authorization = ports.evaluate_rules(resource.event, subscription, subscription.state.status)?;
    // What the rules say counts, whether it can be remembered or not.
    let remembered = ports.store_authorization(subscription, &authorization).map_err(Failure::from);
    if subscription.state.status == Status::Terminated && authorization.status == Status::Terminated {
        return remembered; // It was blocked before and knows it.
    }
    let mut seen = subscription.clone();
    seen.state.status = authorization.status;
    let changed = if authorization.status == Status::Terminated {
        ports.end(subscription.dialog(), NotifyReason::Ended, &authorization.reason)?
    } else {
        ports.set_authorization(subscription.dialog(), &authorization)?
    };
    if !changed {
        return remembered;
    }
    if authorization.status == Status::Terminated {
        ports.note_end(subscription, Cause::Rules);
    }
    let details = ports.config().winfo_details;
    let watcher = || {
        let mut watcher = Watcher::of(&seen);
        if details {
            watcher.event = match authorization.status {
                Status::Active => WatcherEvent::Approved,
                _ => WatcherEvent::Rejected,
            };
        }
        watcher
    };
    notify_winfo(ports, package, &resource.uri, watcher, Extent::Partial);
    let due = match authorization.status {
        Status::Terminated => StateChange::Due,
        _ => StateChange::Subscription(subscription.dialog(), NotifyReason::Subscribe),
    };
    if ports.enqueue(resource, due) {
        notifier::run(ports, resource);
    }
    remembered
}
