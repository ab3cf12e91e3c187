//! Commands from outside a request: rules or tables were changed by others (`refreshWatchers`, `updateWatchers`).
use super::error::Failure;
use super::notifier;
use super::ports::{Event, Occasion, Ports};
use super::resource::Resource;
use super::subscribe::tell_winfo;
use super::subscription::Status;
use super::winfo::Watcher;

/// The documents of a resource may have changed behind our back: read them again and tell every watcher.
pub fn documents<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), Failure> {
    ports.forget(resource);
    if ports.happened(resource, Event::State { sender: b"", once: None }) {
        notifier::run(ports, resource);
    }
    Ok(())
}

/// The rules of a presentity may have changed: judge its watchers again, and tell those whose standing is another one.
pub fn standings<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), Failure> {
    let package = *ports.packages().get(resource.event);
    if !package.needs_authorization {
        return Ok(());
    }
    for subscription in ports.subscriptions(resource)? {
        let standing = ports.judge(resource.event, &subscription, subscription.numbers.status)?;
        ports.remember_standing(&subscription, &standing)?;
        let mut seen = subscription.clone();
        seen.numbers.status = standing.status;
        let changed = if standing.status == Status::Terminated {
            ports.end(subscription.dialog(), Occasion::Ended, &standing.reason)?
        } else {
            ports.set_standing(subscription.dialog(), &standing)?
        };
        if !changed {
            continue;
        }
        tell_winfo(ports, &package, &resource.uri, Watcher::of(&seen), false);
        let due = match standing.status {
            Status::Terminated => Event::Due,
            _ => Event::Subscription(subscription.dialog(), Occasion::Subscribe),
        };
        if ports.happened(resource, due) {
            notifier::run(ports, resource);
        }
    }
    Ok(())
}
