//! Changes of the watchers of a presentity, for those who watch them (RFC 3857).
use crate::presence::event_package::Package;
use crate::presence::notification::StateChange;
use crate::presence::notification::notifier;
use crate::presence::ports::Ports;
use crate::presence::resource::Resource;
use crate::presence::winfo::{Extent, Watcher};

/// Notifies those who watch the watchers of a presentity that one of them changed.
pub fn notify<P: Ports>(
    ports: &mut P,
    package: &Package,
    uri: &[u8],
    watcher: impl FnOnce() -> Watcher,
    extent: Extent,
) {
    let queued = queue(ports, package, uri, watcher, extent);
    send(ports, queued);
}

/// Puts the change of a watcher into the queue of those who watch the watchers; returns the resource for which this
/// process has to send, unless another one has begun to by then. A SUBSCRIBE does it before it is answered, as a
/// PUBLISH does.
pub(crate) fn queue<P: Ports>(
    ports: &mut P,
    package: &Package,
    uri: &[u8],
    watcher: impl FnOnce() -> Watcher,
    extent: Extent,
) -> Option<Resource> {
    let peer = package.peer.filter(|peer| !package.is_winfo() && ports.may_be_subscribed_to(*peer))?;
    let resource = ports.uri_rule().resource(uri, peer);
    if !ports.may_be_watched(&resource) {
        return None;
    }
    ports.mark(&resource, StateChange::Watchers { watcher: watcher(), extent }).then_some(resource)
}

/// Sends for the resource that [`queue`] returned.
pub(crate) fn send<P: Ports>(ports: &mut P, queued: Option<Resource>) {
    if let Some(resource) = queued.filter(|resource| ports.claim(resource)) {
        notifier::run(ports, &resource);
    }
}
