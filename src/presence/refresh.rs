//! Commands from outside a request: rules or tables were changed by others (`refreshWatchers`, `updateWatchers`).
use super::ended::Cause;
use super::error::Failure;
use super::event_package::Package;
use super::notifier;
use super::ports::{Event, Occasion, Ports, Standing};
use super::publication::{Applied, Change, Modification, NEVER, Publication};
use super::resource::Resource;
use super::subscribe::tell_winfo;
use super::subscription::{Field, Status, Subscription};
use super::winfo::Watcher;

/// The documents of a resource may have changed behind our back: read them again and tell every watcher.
pub fn documents<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), Failure> {
    ports.forget(resource);
    if ports.happened(resource, Event::State { sender: b"", once: None }) {
        notifier::run(ports, resource);
    }
    Ok(())
}

/// The presentity's manipulation document was changed: a document that never expires, under the name of its file, or none
/// any more. It is put together with the published ones.
pub fn hard_state<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    filename: &[u8],
    document: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let now = ports.now();
    match document {
        None => {
            ports.publish(resource, Change::Remove(filename.to_vec()))?;
        }
        Some(body) => {
            let change = Modification {
                etag: filename.to_vec(),
                new_etag: filename.to_vec(),
                body: Some(body.clone()),
                expires_at: NEVER,
                received_at: now,
                ..Modification::default()
            };
            if ports.publish(resource, Change::Modify(change))? == Applied::NoMatch {
                let publication = Publication {
                    etag: filename.to_vec(),
                    ruid: ports.new_ruid(),
                    body,
                    expires_at: NEVER,
                    received_at: now,
                    ..Publication::default()
                };
                ports.publish(resource, Change::Insert(publication))?;
            }
        }
    }
    documents(ports, resource)
}

/// Judges the watchers that are remembered, also those that do not subscribe now: what they are told when they come back.
fn remembered_standings<P: Ports>(ports: &mut P, resource: &Resource, wrong: &mut FirstFailure) {
    let watchers = match ports.remembered_watchers(resource) {
        Ok(watchers) => watchers,
        Err(error) => return wrong.note(Err(error.into())),
    };
    for watcher in watchers {
        // Whom the package cannot judge stays what it was.
        let Ok(standing) = ports.judge(resource.event, &watcher, watcher.numbers.status) else { continue };
        let before = Standing { status: watcher.numbers.status, reason: watcher.get(Field::Reason).to_vec() };
        if standing != before {
            wrong.note(ports.remember_standing(&watcher, &standing).map_err(Failure::from));
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

/// The rules of a presentity may have changed: judge its watchers again, and tell those whose standing is another one. A watcher
/// with whom that fails does not keep the others; the first failure is returned after all of them.
pub fn standings<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), Failure> {
    let package = *ports.packages().get(resource.event);
    if !package.needs_authorization {
        return Ok(());
    }
    let mut wrong = FirstFailure::default();
    remembered_standings(ports, resource, &mut wrong);
    for subscription in ports.subscriptions(resource)? {
        wrong.note(judge_again(ports, resource, &package, &subscription));
    }
    wrong.0.map_or(Ok(()), Err)
}

fn judge_again<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    package: &Package,
    subscription: &Subscription,
) -> Result<(), Failure> {
    let standing = ports.judge(resource.event, subscription, subscription.numbers.status)?;
    // What the rules say counts, whether it can be remembered or not.
    let remembered = ports.remember_standing(subscription, &standing).map_err(Failure::from);
    if subscription.numbers.status == Status::Terminated && standing.status == Status::Terminated {
        return remembered; // It was blocked before and knows it.
    }
    let mut seen = subscription.clone();
    seen.numbers.status = standing.status;
    let changed = if standing.status == Status::Terminated {
        ports.end(subscription.dialog(), Occasion::Ended, &standing.reason)?
    } else {
        ports.set_standing(subscription.dialog(), &standing)?
    };
    if !changed {
        return remembered;
    }
    if standing.status == Status::Terminated {
        ports.note_end(subscription, Cause::Rules);
    }
    let details = ports.config().winfo_details;
    let watcher = || {
        let mut watcher = Watcher::of(&seen);
        if details {
            watcher.event = if standing.status == Status::Active { b"approved" } else { b"rejected" };
        }
        watcher
    };
    tell_winfo(ports, package, &resource.uri, watcher, false);
    let due = match standing.status {
        Status::Terminated => Event::Due,
        _ => Event::Subscription(subscription.dialog(), Occasion::Subscribe),
    };
    if ports.happened(resource, due) {
        notifier::run(ports, resource);
    }
    remembered
}
