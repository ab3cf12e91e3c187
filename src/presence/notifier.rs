//! NOTIFY (RFC 6665 4.2.2): who gets which body, in the order of the changes.
use super::config::PublicationMode;
use super::error::StoreError;
use super::event_package::Package;
use super::ports::{Occasion, Once, Outgoing, Ports, Round};
use super::publication::Publication;
use super::resource::Resource;
use super::subscription::{Field, Status, Subscription};
use super::winfo::{self, Extent, Watcher};
use crate::sip::text::push_number;

/// Sends what is due for a resource until nothing is. The caller was told to by [`Ports::happened`].
pub fn run<P: Ports>(ports: &mut P, resource: &Resource) {
    while let Some(mut round) = ports.begin_round(resource) {
        let mut body = Body::new(resource);
        loop {
            let portion = ports.next_portion(resource, &mut round);
            if portion.is_empty() {
                break;
            }
            for outgoing in &portion {
                send(ports, &mut body, &round, outgoing);
            }
        }
    }
}

/// Sends one NOTIFY for a subscription that is not kept.
pub fn send_alone<P: Ports>(ports: &mut P, outgoing: &Outgoing) {
    let uri = outgoing.subscription.get(Field::PresUri).to_vec();
    let resource = ports.uri_rule().resource(&uri, outgoing.subscription.numbers.event);
    send(ports, &mut Body::new(&resource), &Round::default(), outgoing);
}

/// The composed document of a resource as it is now.
pub fn current_body<P: Ports>(ports: &mut P, resource: &Resource) -> Option<Vec<u8>> {
    kept_or_composed(ports, resource, 0)
}

/// The body of one pass, composed when the first watcher needs it.
struct Body<'a> {
    resource: &'a Resource,
    composed: Option<Option<Vec<u8>>>,
    watchers: Option<Vec<Watcher>>,
}

impl<'a> Body<'a> {
    fn new(resource: &'a Resource) -> Self {
        Body { resource, composed: None, watchers: None }
    }

    fn composed<P: Ports>(&mut self, ports: &mut P, round: &Round) -> Option<&[u8]> {
        let resource = self.resource;
        self.composed
            .get_or_insert_with(|| match &round.once {
                Some(Once::Body(body)) => Some(body.clone()),
                Some(Once::Removed(gone, place)) => {
                    compose(ports, resource, Some((gone, *place))).map(|c| c.body).unwrap_or_default()
                }
                None => kept_or_composed(ports, resource, round.generation),
            })
            .as_deref()
    }

    fn all_watchers<P: Ports>(&mut self, ports: &mut P, package: &Package) -> &[Watcher] {
        let resource = self.resource;
        self.watchers.get_or_insert_with(|| watchers_of(ports, resource, package).unwrap_or_default())
    }
}

fn kept_or_composed<P: Ports>(ports: &mut P, resource: &Resource, generation: u32) -> Option<Vec<u8>> {
    if let Some(kept) = ports.composed(resource) {
        return kept;
    }
    let made = compose(ports, resource, None).ok()?;
    ports.keep_composed(resource, generation, made.body.as_deref(), made.valid_until);
    made.body
}

/// A composed body and until when it is true.
struct Composed {
    body: Option<Vec<u8>>,
    valid_until: i64,
}

/// Puts the documents of a resource together; `gone` has just been removed and is shown as closed.
fn compose<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    gone: Option<(&Publication, usize)>,
) -> Result<Composed, StoreError> {
    let package = *ports.packages().get(resource.event);
    let mut documents = ports.documents(resource)?;
    let valid_until = documents.iter().map(|d| d.expires_at).filter(|at| *at > 0).min().unwrap_or(i64::MAX);
    if !package.aggregates {
        return Ok(Composed { body: documents.pop().map(|d| d.body).filter(|b| !b.is_empty()), valid_until });
    }
    let mut offline = None;
    if let Some((gone, place)) = gone {
        let at = place.min(documents.len());
        documents.insert(at, gone.clone());
        offline = Some(at);
    }
    if ports.config().publications == PublicationMode::Memory {
        // In memory the newest document comes first, in the table the oldest: stock's packages see it so.
        documents.reverse();
        offline = offline.map(|at| documents.len() - 1 - at);
    }
    let bodies: Vec<&[u8]> = documents.iter().map(|d| d.body.as_slice()).collect();
    Ok(Composed { body: ports.aggregate(resource.event, &resource.uri, &bodies, offline), valid_until })
}

/// Everybody who watches the presentity a winfo resource reports on.
fn watchers_of<P: Ports>(ports: &mut P, resource: &Resource, package: &Package) -> Result<Vec<Watcher>, StoreError> {
    let Some(peer) = package.peer else { return Ok(Vec::new()) };
    let watched = ports.uri_rule().resource(&resource.uri, peer);
    let mut watchers: Vec<Watcher> = ports.subscriptions(&watched)?.iter().map(Watcher::of).collect();
    for waiting in ports.waiting_watchers(&watched)? {
        if !watchers.iter().any(|w| w.uri == waiting.uri) {
            watchers.push(waiting);
        }
    }
    Ok(watchers)
}

fn send<P: Ports>(ports: &mut P, body: &mut Body<'_>, round: &Round, outgoing: &Outgoing) {
    let subscription = &outgoing.subscription;
    let package = *ports.packages().get(subscription.numbers.event);
    let content = if !entitled(subscription, outgoing.occasion) {
        None
    } else if package.is_winfo {
        Some(winfo_body(ports, body, round, outgoing, &package))
    } else {
        watcher_content(ports, body, round, subscription, &package)
    };
    if content.is_none() && outgoing.occasion == Occasion::Subscribe && !ports.config().send_fast_notify {
        return;
    }
    let headers = headers(ports, subscription, &package, content.is_some());
    ports.send_notify(outgoing, &headers, content.as_deref());
}

/// A body goes to active watchers that are not politely blocked, and not with the word that it is over unless they said so
/// themselves.
fn entitled(subscription: &Subscription, occasion: Occasion) -> bool {
    subscription.numbers.status == Status::Active
        && subscription.get(Field::Reason) != b"polite-block"
        && occasion != Occasion::Ended
}

fn winfo_body<P: Ports>(
    ports: &mut P,
    body: &mut Body<'_>,
    round: &Round,
    outgoing: &Outgoing,
    package: &Package,
) -> Vec<u8> {
    let version = outgoing.subscription.numbers.version;
    let resource = body.resource.uri.clone();
    let peer = package.peer.map(|peer| ports.packages().get(peer).name).unwrap_or_default();
    if outgoing.occasion == Occasion::Change && !round.full {
        return winfo::document(version, Extent::Partial, &resource, peer, &round.changes);
    }
    winfo::document(version, Extent::Full, &resource, peer, body.all_watchers(ports, package))
}

fn watcher_content<P: Ports>(
    ports: &mut P,
    body: &mut Body<'_>,
    round: &Round,
    subscription: &Subscription,
    package: &Package,
) -> Option<Vec<u8>> {
    let id = subscription.numbers.event;
    let mut content = body.composed(ports, round).map(<[u8]>::to_vec);
    if package.needs_authorization && package.filters_body && !ports.config().force_active {
        if let Some(filtered) = content.as_deref().and_then(|c| ports.filter_body(id, subscription, c)) {
            content = Some(filtered);
        }
    }
    if package.per_watcher_body {
        if let Some(own) = ports.watcher_body(id, subscription, content.as_deref()) {
            content = Some(own);
        }
    }
    content.filter(|c| !c.is_empty())
}

/// The header lines of a NOTIFY, in stock's order.
fn headers<P: Ports>(ports: &P, subscription: &Subscription, package: &Package, has_body: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"Max-Forwards: 70\r\nEvent: ");
    out.extend_from_slice(package.name);
    let id = subscription.get(Field::EventId);
    if !id.is_empty() {
        out.extend_from_slice(b";id=");
        out.extend_from_slice(id);
    }
    out.extend_from_slice(b"\r\nContact: <");
    out.extend_from_slice(subscription.get(Field::LocalContact));
    out.extend_from_slice(b">\r\nSubscription-State: ");
    push_state(&mut out, subscription, ports.now());
    out.extend_from_slice(b"\r\n");
    if has_body && !package.content_type.is_empty() {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(package.content_type);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn push_state(out: &mut Vec<u8>, subscription: &Subscription, now: i64) {
    let left = subscription.numbers.expires_at - now;
    if subscription.numbers.status == Status::Terminated || left <= 0 {
        out.extend_from_slice(b"terminated;reason=");
        let reason = subscription.get(Field::Reason);
        let known = matches!(reason, b"rejected" | b"deactivated" | b"probation" | b"giveup" | b"noresource");
        out.extend_from_slice(if known { reason } else { b"timeout" });
        return;
    }
    out.extend_from_slice(subscription.numbers.status.word());
    out.extend_from_slice(b";expires=");
    push_number(out, left);
}
