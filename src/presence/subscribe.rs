//! SUBSCRIBE (RFC 6665 4.2.1): checks the request, changes the subscription, answers, sends the NOTIFYs it causes.
use super::error::Failure;
use super::event_package::{Package, PackageId};
use super::ports::{Event, Occasion, Outgoing, Ports, Renewal, Standing, Verdict};
use super::resource::Resource;
use super::subscription::{DialogId, Field, Journal, Numbers, Status, Subscription};
use super::winfo::Watcher;
use super::{limits, notifier};
use crate::sip::{event::EventHeader, text, uri};

/// A SUBSCRIBE taken apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// The Event header.
    pub event: Option<&'a [u8]>,
    /// Expires, in seconds.
    pub expires: Option<u32>,
    /// User part of the request URI.
    pub user: &'a [u8],
    /// Host part of the request URI.
    pub domain: &'a [u8],
    /// User part of To.
    pub to_user: &'a [u8],
    /// Host part of To.
    pub to_domain: &'a [u8],
    /// To tag; empty outside of a dialog.
    pub to_tag: &'a [u8],
    /// User part of From.
    pub from_user: &'a [u8],
    /// Host part of From.
    pub from_domain: &'a [u8],
    /// From tag.
    pub from_tag: &'a [u8],
    /// User part of the watcher.
    pub watcher_user: &'a [u8],
    /// Host part of the watcher.
    pub watcher_domain: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// CSeq number.
    pub cseq: u32,
    /// URI of the Contact.
    pub contact: &'a [u8],
    /// The route set.
    pub record_route: Option<&'a [u8]>,
    /// User-Agent.
    pub user_agent: &'a [u8],
    /// The socket it came in on.
    pub socket: &'a [u8],
    /// Our Contact there.
    pub local_contact: &'a [u8],
    /// Message flags.
    pub flags: u32,
}

/// Handles a SUBSCRIBE: on success it has been answered and its NOTIFYs are sent. Returns the subscription for `$subs`.
pub fn handle<P: Ports>(ports: &mut P, request: &Request<'_>) -> Result<Subscription, Failure> {
    let refuse = |ports: &P, why: &str| Failure::bad_event(&ports.packages().allow_events(), why);
    let event = request.event.ok_or_else(|| refuse(ports, "no Event header"))?;
    let header = EventHeader::parse(event).ok_or_else(|| refuse(ports, "unreadable Event header"))?;
    let package = ports
        .packages()
        .find(&header)
        .ok_or_else(|| refuse(ports, &format!("unsupported event package {}", String::from_utf8_lossy(event))))?;
    let description = *ports.packages().get(package);
    if ports.check_subscribe(package) == Verdict::Refused {
        return Err(Failure::Refused("the event package does not take the subscription"));
    }
    let expires = ports
        .config()
        .grant(request.expires, description.default_expires)
        .ok_or_else(|| Failure::too_brief(ports.config().min_expires))?;
    if request.to_tag.is_empty() {
        initial(ports, request, package, &description, header.id().unwrap_or_default(), expires)
    } else {
        in_dialog(ports, request, package, &description, expires)
    }
}

fn initial<P: Ports>(
    ports: &mut P,
    request: &Request<'_>,
    package: PackageId,
    description: &Package,
    event_id: &[u8],
    expires: u32,
) -> Result<Subscription, Failure> {
    let presentity = uri::join(request.user, request.domain);
    let to_tag = ports.reply_tag()?;
    let numbers = Numbers {
        event: package,
        status: Status::Active,
        expires_at: ports.now() + i64::from(expires),
        local_cseq: 0,
        remote_cseq: request.cseq,
        version: 0,
        flags: request.flags,
        updated: -1,
        updated_winfo: -1,
        since: ports.now(),
        refreshed_at: ports.now(),
        journal: Journal::Insert,
    };
    let fields: [&[u8]; super::subscription::FIELDS] = [
        &presentity,
        request.to_user,
        request.to_domain,
        request.from_user,
        request.from_domain,
        request.watcher_user,
        request.watcher_domain,
        event_id,
        &to_tag,
        request.from_tag,
        request.call_id,
        request.socket,
        request.contact,
        request.local_contact,
        request.record_route.unwrap_or_default(),
        b"",
        request.user_agent,
    ];
    let mut subscription = Subscription::new(numbers, &fields).map_err(|e| Failure::bad_request(e.to_string()))?;
    let standing = authorize(ports, description, &subscription)?;
    apply_standing(&mut subscription, &standing)?;
    if expires == 0 {
        return fetch(ports, description, subscription, expires);
    }
    if ports.config().delete_same_subs {
        delete_same(ports, &subscription)?;
    }
    let resource = ports.uri_rule().resource(&presentity, package);
    limits::new_subscription(ports, &resource, &subscription)?;
    ports.subscribe(&subscription)?;
    answer(ports, description, &subscription, expires);
    if standing.status == Status::Terminated {
        return Ok(reject(ports, description, subscription));
    }
    tell(ports, description, &resource, &subscription, Occasion::Subscribe);
    subscription.numbers.version = 1;
    Ok(subscription)
}

/// A blocked watcher is told once that it is rejected. The subscription stays known, so that it comes to life if the
/// presentity changes its mind.
fn reject<P: Ports>(ports: &mut P, description: &Package, mut subscription: Subscription) -> Subscription {
    let uri = subscription.get(Field::PresUri).to_vec();
    tell_winfo(ports, description, &uri, || Watcher::of(&subscription), false);
    subscription.numbers.version = 1;
    // Without a reason the watcher would come back at once (RFC 6665 4.1.3).
    if subscription.get(Field::Reason).is_empty() {
        if let Ok(rejected) = subscription.with(&[(Field::Reason, b"rejected")]) {
            subscription = rejected;
        }
    }
    let outgoing = Outgoing { subscription, occasion: Occasion::Ended, slot: None };
    notifier::send_alone(ports, &outgoing);
    outgoing.subscription
}

/// One NOTIFY and nothing kept (RFC 6665 4.4.3).
fn fetch<P: Ports>(
    ports: &mut P,
    description: &Package,
    mut subscription: Subscription,
    expires: u32,
) -> Result<Subscription, Failure> {
    answer(ports, description, &subscription, expires);
    subscription.numbers.expires_at = ports.now();
    subscription.numbers.version = 1;
    let outgoing = Outgoing { subscription, occasion: Occasion::Unsubscribe, slot: None };
    notifier::send_alone(ports, &outgoing);
    Ok(outgoing.subscription)
}

fn in_dialog<P: Ports>(
    ports: &mut P,
    request: &Request<'_>,
    package: PackageId,
    description: &Package,
    expires: u32,
) -> Result<Subscription, Failure> {
    let dialog = DialogId { call_id: request.call_id, to_tag: request.to_tag, from_tag: request.from_tag };
    let stored = ports.find_subscription(dialog)?.ok_or_else(|| Failure::no_subscription("no such dialog"))?;
    if stored.numbers.event != package {
        return Err(Failure::no_subscription("the dialog is a subscription to another event package"));
    }
    if request.cseq.saturating_add(ports.config().cseq_offset) <= stored.numbers.remote_cseq {
        return Err(Failure::bad_request(format!(
            "wrong sequence number: received {}, stored {}",
            request.cseq, stored.numbers.remote_cseq
        )));
    }
    limits::refresh(ports, &stored, expires)?;
    // Its standing changes when the rules do, not when it is refreshed.
    let renewal = Renewal {
        expires_at: ports.now() + i64::from(expires),
        remote_cseq: request.cseq,
        contact: request.contact,
        record_route: request.record_route,
        socket: request.socket,
        local_contact: request.local_contact,
    };
    let gone = || Failure::no_subscription("the subscription ended meanwhile");
    if !ports.renew(&stored, &renewal)? {
        return Err(gone());
    }
    let mut renewed = stored
        .with(&[
            (Field::Contact, request.contact),
            (Field::LocalContact, request.local_contact),
            (Field::UserAgent, request.user_agent),
        ])
        .map_err(|e| Failure::bad_request(e.to_string()))?;
    renewed.numbers.expires_at = renewal.expires_at;
    renewed.numbers.remote_cseq = request.cseq;
    let resource = ports.uri_rule().resource(renewed.get(Field::PresUri), package);
    if expires == 0 {
        if !ports.end(dialog, Occasion::Unsubscribe, b"timeout")? {
            return Err(gone());
        }
        answer(ports, description, &renewed, 0);
        tell(ports, description, &resource, &renewed, Occasion::Unsubscribe);
    } else {
        answer(ports, description, &renewed, expires);
        tell(ports, description, &resource, &renewed, Occasion::Subscribe);
    }
    renewed.numbers.local_cseq += 1;
    renewed.numbers.version += 1;
    Ok(renewed)
}

/// The watcher's standing: as remembered, or else by the presentity's rules, which are then remembered.
pub fn authorize<P: Ports>(ports: &mut P, package: &Package, subscription: &Subscription) -> Result<Standing, Failure> {
    if !package.needs_authorization || ports.config().force_active {
        return Ok(Standing { status: Status::Active, reason: Vec::new() });
    }
    if let Some(standing) = ports.standing(subscription)? {
        return Ok(standing);
    }
    let standing = ports.judge(subscription.numbers.event, subscription, Status::Pending)?;
    ports.remember_first_standing(subscription, &standing)?;
    Ok(standing)
}

fn apply_standing(subscription: &mut Subscription, standing: &Standing) -> Result<(), Failure> {
    subscription.numbers.status = standing.status;
    if !standing.reason.is_empty() {
        *subscription =
            subscription.with(&[(Field::Reason, &standing.reason)]).map_err(|e| Failure::bad_request(e.to_string()))?;
    }
    Ok(())
}

/// Other subscriptions of the same call to the same presentity are replaced (`delete_same_subs`).
fn delete_same<P: Ports>(ports: &mut P, subscription: &Subscription) -> Result<(), Failure> {
    let resource = ports.uri_rule().resource(subscription.get(Field::PresUri), subscription.numbers.event);
    for other in ports.subscriptions(&resource)? {
        if other.get(Field::CallId) == subscription.get(Field::CallId) {
            ports.drop_subscription(other.dialog())?;
        }
    }
    Ok(())
}

/// 200, or 202 where stock's old answer is asked for (`subs_respond_200` 0).
fn answer<P: Ports>(ports: &mut P, package: &Package, subscription: &Subscription, expires: u32) {
    let (code, reason) = if ports.config().respond_200 || package.is_winfo { (200, "OK") } else { (202, "OK") };
    let contact = subscription.get(Field::LocalContact);
    let mut headers = Vec::with_capacity(contact.len() + 48);
    headers.extend_from_slice(b"Expires: ");
    text::push_number(&mut headers, i64::from(expires));
    headers.extend_from_slice(b"\r\nContact: <");
    headers.extend_from_slice(contact);
    headers.extend_from_slice(b">\r\n");
    ports.reply(code, reason, &headers);
}

/// The NOTIFYs a SUBSCRIBE causes: first to those who watch the watchers, then to the subscriber.
fn tell<P: Ports>(
    ports: &mut P,
    package: &Package,
    resource: &Resource,
    subscription: &Subscription,
    occasion: Occasion,
) {
    tell_winfo(ports, package, &resource.uri, || Watcher::of(subscription), occasion != Occasion::Subscribe);
    let due = match occasion {
        Occasion::Subscribe => Event::Subscription(subscription.dialog(), occasion),
        _ => Event::Due,
    };
    if ports.happened(resource, due) {
        notifier::run(ports, resource);
    }
}

/// Tells those who watch the watchers of a presentity that one of them changed.
pub fn tell_winfo<P: Ports>(
    ports: &mut P,
    package: &Package,
    uri: &[u8],
    watcher: impl FnOnce() -> Watcher,
    full: bool,
) {
    let Some(peer) = package.peer.filter(|_| !package.is_winfo) else { return };
    let resource = ports.uri_rule().resource(uri, peer);
    if !ports.may_be_watched(&resource) {
        return;
    }
    if ports.happened(&resource, Event::Watchers { watcher: watcher(), full }) {
        notifier::run(ports, &resource);
    }
}
