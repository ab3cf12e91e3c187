//! SUBSCRIBE (RFC 6665 4.2.1): checks the request, changes the subscription, answers, sends the NOTIFYs it causes.
use super::dialog::DialogId;
use super::fetch::Fetch;
use super::field::Field;
use super::refused_subscription::refused_subscription;
use crate::presence::authorization::Authorization;
use crate::presence::authorization::judgement;
use crate::presence::error::{Failure, StoreError};
use crate::presence::event_package::bad_event;
use crate::presence::event_package::{Package, PackageId, PackageVerdict, Trait};
use crate::presence::expires::Expires;
use crate::presence::history::ended::Cause;
use crate::presence::limits;
use crate::presence::notification::notifier;
use crate::presence::notification::{Notify, NotifyReason, StateChange};
use crate::presence::ports::Ports;
use crate::presence::ports::subscriptions::{Recent, Renewed, Stored};
use crate::presence::resource::Resource;
use crate::presence::subscription::{Renewal, RowState, Status, Subscription, SubscriptionState};
use crate::presence::winfo::watcher_changes;
use crate::presence::winfo::{Extent, Watcher};
use crate::sip::checked::{CheckedParts, HostPart, Token, UriText, UserPart, Word, same_user};
use crate::sip::transport::{Transport, push_contact};
use crate::sip::uri::PlainUri;
use crate::sip::{text, uri};
use crate::time::Moment;
use std::borrow::Cow;

/// How often a SUBSCRIBE in a dialog is tried again when another process or server has changed its subscription.
const TRIES: usize = 20;

/// From or To of a SUBSCRIBE.
#[derive(Debug, Clone, Default)]
pub struct Party<'a> {
    /// The whole URI.
    pub uri: UriText<'a>,
    /// The URI's user part.
    pub user: UserPart<'a>,
    /// The URI's host part.
    pub host: HostPart<'a>,
    /// The tag; `None`: there is none.
    pub tag: Option<Word<'a>>,
}

impl Party<'_> {
    /// The URI, if it is another one than `sip:user@host`.
    fn own_form(&self) -> &[u8] {
        let rest = self.uri.bytes().strip_prefix(b"sip:").and_then(|rest| rest.strip_prefix(self.user.bytes()));
        match rest.and_then(|rest| if self.user.bytes().is_empty() { Some(rest) } else { rest.strip_prefix(b"@") }) {
            Some(host) if host == self.host.bytes() => b"",
            _ => self.uri.bytes(),
        }
    }
}

/// A SUBSCRIBE taken apart; its strings have been checked.
#[derive(Debug, Clone, Default)]
pub struct SubscribeRequest<'a> {
    /// The Event header.
    pub event: Option<&'a [u8]>,
    /// The Expires header.
    pub expires: Option<Expires>,
    /// User part of the request URI.
    pub user: UserPart<'a>,
    /// Host part of the request URI.
    pub domain: HostPart<'a>,
    /// To; it has a tag in a dialog.
    pub to: Party<'a>,
    /// From.
    pub from: Party<'a>,
    /// The watcher, if the script or another module says who it is; else it is From.
    pub watcher: Option<CheckedParts<'a>>,
    /// Call-ID.
    pub call_id: Word<'a>,
    /// CSeq number.
    pub cseq: u32,
    /// URI of the Contact.
    pub contact: UriText<'a>,
    /// The route set, without folds.
    pub record_route: Option<&'a [u8]>,
    /// User-Agent as it is shown.
    pub user_agent: Cow<'a, [u8]>,
    /// The socket it came in on.
    pub socket: &'a [u8],
    /// How it came in.
    pub transport: Transport,
    /// Our Contact there.
    pub local_contact: &'a [u8],
    /// The branch flags of the request.
    pub flags: u32,
}

impl SubscribeRequest<'_> {
    fn watcher(&self) -> PlainUri<'_> {
        match &self.watcher {
            Some(CheckedParts { user, host }) => PlainUri { user: user.bytes(), host: host.bytes() },
            None => self.from(),
        }
    }

    fn from(&self) -> PlainUri<'_> {
        PlainUri { user: self.from.user.bytes(), host: self.from.host.bytes() }
    }

    /// Whether the one who sends this is the one who made the subscription.
    fn is_of_its_watcher(&self, stored: &Subscription) -> bool {
        let same = |PlainUri { user, host }: PlainUri<'_>, stored_user, stored_host| {
            let host_before = stored.get(stored_host);
            let is_same_host = host == host_before || host.eq_ignore_ascii_case(host_before);
            is_same_host && same_user(user, stored.get(stored_user))
        };
        same(self.from(), Field::FromUser, Field::FromDomain)
            && (self.watcher.is_none() || same(self.watcher(), Field::WatcherUser, Field::WatcherDomain))
    }

    /// The dialog that a SUBSCRIBE outside of a dialog makes, with the To tag of its answer.
    fn new_dialog<'d>(&'d self, to_tag: &'d [u8]) -> DialogId<'d> {
        DialogId { call_id: self.call_id.bytes(), to_tag, from_tag: self.from.tag.unwrap_or_default().bytes() }
    }

    /// The subscription that it asks for, before anybody has authorised it.
    fn describe(&self, wanted: &Wanted<'_>, to_tag: &[u8], now: Moment) -> Result<Subscription, Failure> {
        let state = SubscriptionState {
            expires_at: now + wanted.expires.duration(),
            remote_cseq: self.cseq,
            flags: self.flags,
            since: Some(now),
            refreshed_at: Some(now),
            row_state: RowState::Insert,
            transport: self.transport,
            ..SubscriptionState::new(wanted.package, Status::Active)
        };
        let PlainUri { user: watcher_user, host: watcher_host } = self.watcher();
        let dialog = self.new_dialog(to_tag);
        let subscription = Subscription::of_checked(
            state,
            &[
                (Field::PresUri, wanted.presentity),
                (Field::ToUser, self.to.user.bytes()),
                (Field::ToDomain, self.to.host.bytes()),
                (Field::FromUser, self.from.user.bytes()),
                (Field::FromDomain, self.from.host.bytes()),
                (Field::WatcherUser, watcher_user),
                (Field::WatcherDomain, watcher_host),
                (Field::EventId, wanted.event_id),
                (Field::ToTag, dialog.to_tag),
                (Field::FromTag, dialog.from_tag),
                (Field::CallId, dialog.call_id),
                (Field::Contact, self.contact.bytes()),
                (Field::LocalUri, self.to.own_form()),
                (Field::RemoteUri, self.from.own_form()),
            ],
            &[
                (Field::Socket, self.socket),
                (Field::LocalContact, self.local_contact),
                (Field::RecordRoute, self.record_route.unwrap_or_default()),
                (Field::UserAgent, &self.user_agent),
            ],
        )?;
        Ok(subscription)
    }

    /// A later SUBSCRIBE was carried out before.
    fn out_of_order(&self, stored: &Subscription) -> Failure {
        let (received, known) = (self.cseq, stored.state.remote_cseq);
        Failure::bad_request(format!("wrong sequence number: received {received}, stored {known}"))
    }
}

/// Handles a SUBSCRIBE: on success it has been answered and its NOTIFYs are sent. Returns the subscription for `$subs`.
///
/// # Errors
///
/// Fails with the answer that the request deserves: 400, 403, 423, 481, 482, 489 or 503, see [`Failure`]; when the
/// event package refuses the request; and when a store fails.
pub fn handle<P: Ports>(ports: &mut P, request: &SubscribeRequest<'_>) -> Result<Subscription, Failure> {
    if request.to.tag.is_none() && request.expires != Some(Expires::End) {
        limits::memory(ports, request.call_id.bytes())?;
    }
    let (package, header) = bad_event::asked_for(ports.packages(), request.event)?;
    ports.note_package(package);
    let description = *ports.packages().get(package);
    if ports.check_subscribe(package) == PackageVerdict::Refused {
        return Err(Failure::Refused("the event package does not take the subscription"));
    }
    let expires = ports.config().grant(request.expires, description.default_expires)?;
    let id = match header.id().filter(|id| !id.is_empty()) {
        Some(id) => Token::new(id).map_err(|flaw| Failure::flawed("event id", flaw))?.bytes(),
        None => b"",
    };
    match request.to.tag {
        None => initial(ports, request, package, &description, id, expires),
        Some(to_tag) => in_dialog(ports, request, to_tag, (package, id), &description, expires),
    }
}

/// A SUBSCRIBE outside of a dialog makes a subscription (RFC 6665 4.2.1), or fetches (4.4.3).
fn initial<P: Ports>(
    ports: &mut P,
    request: &SubscribeRequest<'_>,
    package: PackageId,
    description: &Package,
    event_id: &[u8],
    expires: Expires,
) -> Result<Subscription, Failure> {
    let to_tag = ports.reply_tag()?;
    let dialog = request.new_dialog(&to_tag);
    let resource = ports.uri_rule().resource_of(uri::join(request.user.bytes(), request.domain.bytes()), package);
    let wanted = Wanted { package, event_id, presentity: &resource.uri, expires };
    let new_dialog = match ports.find_recent(dialog, request.cseq)? {
        Recent::Made(stored) => return answer_again(ports, request, description, &wanted, *stored),
        Recent::Over => return Err(Failure::no_subscription("the dialog that this SUBSCRIBE has made is over")),
        Recent::New(dialog) => dialog,
    };
    let mut subscription = request.describe(&wanted, &to_tag, ports.now())?;
    let judgements = ports.judgements(&resource);
    let authorization = authorize(ports, description, &subscription)?;
    apply_authorization(&mut subscription, &authorization)?;
    if expires.is_end() {
        let fetch = Fetch::read(ports, subscription)?;
        answer(ports, description, fetch.subscription(), expires);
        return Ok(fetch.notify(ports));
    }
    let replaced = replaced_by(ports, &resource, &subscription)?;
    limits::new_subscription(ports, &resource, &subscription, replaced.len())?;
    let stored = ports.subscribe(&subscription, &resource, new_dialog);
    if stored.map_err(|error| refused_subscription(ports, error, &subscription))? == Stored::Known {
        if let Some(known) = ports.find_subscription(dialog)? {
            return answer_again(ports, request, description, &wanted, known);
        }
        answer(ports, description, &subscription, expires);
        return Ok(subscription);
    }
    for other in replaced {
        // One that cannot be removed now runs out.
        if matches!(ports.drop_subscription(other.dialog()), Ok(Some(_))) {
            ports.note_end(&other, Cause::Replaced);
        }
    }
    let watched = || Watcher::of_subscription(&subscription);
    let winfo = watcher_changes::queue(ports, description, &resource.uri, watched, Extent::Partial);
    answer(ports, description, &subscription, expires);
    watcher_changes::send(ports, winfo);
    Ok(notify_first(ports, &resource, description, subscription, judgements))
}

/// Sends the NOTIFY of a subscription that was made and answered. `judgements` had been counted of its resource when
/// it was authorised: rules that were looked at since did not have this watcher among the others.
fn notify_first<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    description: &Package,
    mut subscription: Subscription,
    judgements: u32,
) -> Subscription {
    let is_rejected = subscription.state.status == Status::Terminated;
    if is_rejected {
        subscription = reject(ports, subscription);
    }
    let is_judged_again = needs_judgement(ports, description)
        && judgement::judge_new(ports, resource, description, &subscription, judgements);
    if !is_rejected && !is_judged_again {
        notify_watcher(ports, resource, &subscription, NotifyReason::Subscribe);
        subscription.state.version = 1;
    }
    subscription
}

/// What a SUBSCRIBE outside of a dialog asks for.
struct Wanted<'a> {
    package: PackageId,
    event_id: &'a [u8],
    presentity: &'a [u8],
    expires: Expires,
}

/// The SUBSCRIBE that made a subscription has come again, after its transaction or without one: it gets the answer it
/// got. Another one with the same ids is none of its copies, and cannot have its dialog.
fn answer_again<P: Ports>(
    ports: &mut P,
    request: &SubscribeRequest<'_>,
    package: &Package,
    wanted: &Wanted<'_>,
    mut stored: Subscription,
) -> Result<Subscription, Failure> {
    let is_copy = !wanted.expires.is_end()
        && stored.state.event == wanted.package
        && stored.get(Field::EventId) == wanted.event_id
        && ports.uri_rule().same(stored.get(Field::PresUri), wanted.presentity);
    if !is_copy {
        return Err(Failure::merged("the dialog is that of a SUBSCRIBE which asked for something else"));
    }
    let left = (stored.state.expires_at - ports.now()).as_expires().max(1);
    stored.state.transport = request.transport;
    answer(ports, package, &stored, left.into());
    Ok(stored)
}

/// A blocked watcher is notified once that it is rejected. The subscription stays known, so that it comes to life if
/// the presentity changes its mind.
fn reject<P: Ports>(ports: &mut P, mut subscription: Subscription) -> Subscription {
    subscription.state.version = 1;
    // Without a reason the watcher would come back at once (RFC 6665 4.1.3).
    if subscription.get(Field::Reason).is_empty() {
        if let Ok(rejected) = subscription.with(&[(Field::Reason, b"rejected")]) {
            subscription = rejected;
        }
    }
    let notify = Notify { subscription, notify_reason: NotifyReason::Ended, slot: None };
    notifier::send_alone(ports, &notify);
    notify.subscription
}

/// A SUBSCRIBE in a dialog renews its subscription or ends it (RFC 6665 4.2.1).
fn in_dialog<P: Ports>(
    ports: &mut P,
    request: &SubscribeRequest<'_>,
    to_tag: Word<'_>,
    (package, event_id): (PackageId, &[u8]),
    description: &Package,
    expires: Expires,
) -> Result<Subscription, Failure> {
    let from_tag = request.from.tag.unwrap_or_default();
    let dialog = DialogId { call_id: request.call_id.bytes(), to_tag: to_tag.bytes(), from_tag: from_tag.bytes() };
    let stored = ports.find_subscription(dialog)?.ok_or_else(|| Failure::no_subscription("no such dialog"))?;
    if stored.state.event != package {
        return Err(Failure::no_subscription("the dialog is a subscription to another event package"));
    }
    if stored.get(Field::EventId) != event_id {
        return Err(Failure::no_subscription("the subscription of the dialog has another event id"));
    }
    if !request.is_of_its_watcher(&stored) {
        return Err(Failure::no_subscription("the subscription of the dialog is another watcher's"));
    }
    if request.cseq.saturating_add(ports.config().cseq_offset) <= stored.state.remote_cseq {
        return Err(request.out_of_order(&stored));
    }
    limits::refresh(ports, &stored, expires)?;
    // Its authorization changes when the rules do, not when it is refreshed.
    let renewal = Renewal {
        expires_at: ports.now() + expires.duration(),
        remote_cseq: request.cseq,
        contact: request.contact.bytes(),
        socket: request.socket,
        transport: request.transport,
        local_contact: request.local_contact,
    };
    let mut renewed = carry_out(ports, request, stored, &renewal, expires)?;
    let resource = ports.uri_rule().resource(renewed.get(Field::PresUri), package);
    let (notify_reason, extent) = match expires {
        Expires::End => (NotifyReason::Unsubscribe, Extent::Full),
        Expires::For(_) => (NotifyReason::Subscribe, Extent::Partial),
    };
    let winfo =
        watcher_changes::queue(ports, description, &resource.uri, || Watcher::of_subscription(&renewed), extent);
    answer(ports, description, &renewed, expires);
    watcher_changes::send(ports, winfo);
    notify_watcher(ports, &resource, &renewed, notify_reason);
    renewed.state.local_cseq += 1;
    renewed.state.version += 1;
    Ok(renewed)
}

/// Renews or ends the subscription that was found, and gives it as it is then. Where others may change it in between it
/// is looked at again: what a later SUBSCRIBE has made of it stays.
fn carry_out<P: Ports>(
    ports: &mut P,
    request: &SubscribeRequest<'_>,
    mut stored: Subscription,
    renewal: &Renewal<'_>,
    expires: Expires,
) -> Result<Subscription, Failure> {
    for _ in 0..TRIES {
        let changed = stored.renewed(request.contact, request.local_contact, &request.user_agent)?;
        let done = match expires {
            Expires::End => ports.unsubscribe(&stored, renewal),
            Expires::For(_) => ports.renew(&stored, renewal),
        };
        match done.map_err(|error| refused_subscription(ports, error, changed.as_ref().unwrap_or(&stored)))? {
            Renewed::Done => {
                if expires.is_end() {
                    ports.note_end(&stored, Cause::Unsubscribed);
                }
                let mut renewed = changed.unwrap_or(stored);
                renewed.state.transport = request.transport;
                renewed.state.expires_at = renewal.expires_at;
                renewed.state.remote_cseq = request.cseq;
                return Ok(renewed);
            }
            Renewed::Gone => return Err(Failure::no_subscription("the subscription ended meanwhile")),
            // A copy of this SUBSCRIBE may have been faster: both are answered alike.
            Renewed::Overtaken(now)
                if request.cseq.saturating_add(ports.config().cseq_offset) < now.state.remote_cseq =>
            {
                return Err(request.out_of_order(&now));
            }
            Renewed::Overtaken(now) => stored = *now,
        }
    }
    Err(StoreError::Busy.into())
}

/// The watcher's authorization: as remembered, or else by the presentity's rules, which are then remembered.
///
/// # Errors
///
/// Fails when the remembered authorization can be neither read nor stored, and when the event package cannot say
/// whether the watcher is allowed.
pub fn authorize<P: Ports>(
    ports: &mut P,
    package: &Package,
    subscription: &Subscription,
) -> Result<Authorization, Failure> {
    if !needs_judgement(ports, package) {
        return Ok(Authorization { status: Status::Active, reason: Vec::new() });
    }
    let resource = ports.uri_rule().resource(subscription.get(Field::PresUri), subscription.state.event);
    if ports.has_outstanding(&resource) {
        // What is remembered may be older than the last decision.
        return Ok(ports.evaluate_rules(subscription.state.event, subscription, Status::Pending)?);
    }
    let known = ports.authorization(subscription).map_err(|error| refused_subscription(ports, error, subscription))?;
    if let Some(authorization) = known {
        return Ok(authorization);
    }
    let mut judgements = ports.judgements(&resource);
    let mut authorization = ports.evaluate_rules(subscription.state.event, subscription, Status::Pending)?;
    let mut remembered = ports.store_first_authorization(subscription, &authorization);
    for _ in 0..TRIES {
        remembered.map_err(|error| refused_subscription(ports, error, subscription))?;
        let before = std::mem::replace(&mut judgements, ports.judgements(&resource));
        if before == judgements {
            break;
        }
        // Others have judged the watchers by newer rules, and have not seen that this one is remembered.
        ports.forget_rules();
        authorization = ports.evaluate_rules(subscription.state.event, subscription, Status::Pending)?;
        remembered = ports.store_authorization(subscription, &authorization);
    }
    Ok(authorization)
}

/// Whether the rules of its presentity decide about a watcher.
fn needs_judgement<P: Ports>(ports: &P, package: &Package) -> bool {
    package.has_trait(Trait::NeedsAuthorization) && !ports.config().force_active
}

fn apply_authorization(subscription: &mut Subscription, authorization: &Authorization) -> Result<(), Failure> {
    subscription.state.status = authorization.status;
    if !authorization.reason.is_empty() {
        *subscription = subscription.with(&[(Field::Reason, &authorization.reason)])?;
    }
    Ok(())
}

/// The subscriptions that a new one replaces (`delete_same_subs`): those of the same call to the same presentity. A
/// call of a B2BUA may have several, of several watchers or with several event ids, and these are no older ones.
fn replaced_by<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    subscription: &Subscription,
) -> Result<Vec<Subscription>, StoreError> {
    const SAME: [Field; 4] = [Field::CallId, Field::EventId, Field::WatcherUser, Field::WatcherDomain];
    if !ports.config().delete_same_subs {
        return Ok(Vec::new());
    }
    let mut others = ports.subscriptions(resource)?;
    others.retain(|other| {
        other.dialog() != subscription.dialog()
            && SAME.iter().all(|field| other.get(*field) == subscription.get(*field))
    });
    Ok(others)
}

/// 200, or 202 where stock's old answer is asked for (`subs_respond_200` 0).
fn answer<P: Ports>(ports: &mut P, package: &Package, subscription: &Subscription, expires: Expires) {
    let (code, reason) = if ports.config().respond_200 || package.is_winfo() { (200, "OK") } else { (202, "OK") };
    let contact = subscription.get(Field::LocalContact);
    let mut headers = Vec::with_capacity(contact.len() + 48);
    headers.extend_from_slice(b"Expires: ");
    text::push_number(&mut headers, i64::from(expires.number()));
    headers.extend_from_slice(b"\r\nContact: <");
    push_contact(&mut headers, contact, subscription.state.transport);
    headers.extend_from_slice(b">\r\n");
    ports.reply(code, reason, &headers);
}

/// The NOTIFY that a SUBSCRIBE is followed by.
fn notify_watcher<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    subscription: &Subscription,
    notify_reason: NotifyReason,
) {
    let due = match notify_reason {
        NotifyReason::Subscribe => StateChange::Subscription(subscription.dialog(), notify_reason),
        _ => StateChange::Due,
    };
    if ports.enqueue(resource, due) {
        notifier::run(ports, resource);
    }
}
