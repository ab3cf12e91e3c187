//! From a message to a PUBLISH or SUBSCRIBE that `presence` understands.
use crate::abi::presence::{relay, state};
use crate::host::msg::{self, ContactUri, Header, SipMsg, parse_uri, routes_of};
use crate::host::{log, script, tm};
use crate::limited;
use crate::presence::error::Failure;
use crate::presence::event_package::bad_event;
use crate::presence::expires::Expires;
use crate::presence::publication::publish;
use crate::presence::publication::publish_request::PublishRequest;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::subscribe;
use crate::server::context::Context;
use crate::sip::checked::{CheckedParts, Flaw, HostPart, UriText, UserPart, Word, most};
use crate::sip::columns;
use crate::sip::entity_tag::EntityTag;
use crate::sip::route_set::RouteSet;
use crate::sip::transport::Transport;
use crate::sip::uri::has_host;
use std::borrow::Cow;
use std::ffi::c_int;

/// Describes a request for log lines: its sender and address, whom it is about, and its dialog.
pub(crate) fn who(message: SipMsg<'_>) -> String {
    // A whole URI may hold a password.
    let shown = |user: &[u8], host: &[u8]| String::from_utf8_lossy(&crate::sip::uri::join(user, host)).into_owned();
    let from = message.from().map_or("an unreadable From".into(), |from| shown(from.user, from.host));
    let about = message.request_uri().map_or("an unreadable URI".into(), |uri| shown(uri.user, uri.host));
    let call_id = message.call_id().unwrap_or_default();
    let shown = &call_id[..call_id.len().min(LONGEST_SHOWN)];
    let end = if shown.len() < call_id.len() { "..." } else { "" };
    format!(
        "{from:.LONGEST_SHOWN$} ({}) for {about:.LONGEST_SHOWN$}, Call-ID {}{end},",
        message.source(),
        log::show(shown)
    )
}

/// How much of a string of a refused request a log line shows, in bytes or characters.
const LONGEST_SHOWN: usize = 128;

/// Answers a PUBLISH; `sender` is what the script says of who sent it. What the script function returns.
pub(crate) fn handle_publish(message: SipMsg<'_>, sender: Option<&[u8]>) -> c_int {
    let Some(mut context) = state::context_for(message) else { return -1 };
    #[cfg(feature = "fault-injection")]
    let _fault = inject_fault(message);
    if is_answered_before(message, "PUBLISH") {
        return -1;
    }
    if let Some(done) = relay::elsewhere(&mut context, message) {
        return relayed(&mut context, message, "PUBLISH", done);
    }
    let presentity = request_uri(message).map_err(|failure| event_first(&context, message, failure));
    let done = presentity.and_then(|presentity| {
        let request = checked_sender(sender).and_then(|sender| publish_request(&context, message, sender, &presentity));
        let request = request.map_err(|failure| event_first(&context, message, failure))?;
        publish::handle(&mut context, &request)
    });
    match done {
        Ok(()) => 1,
        Err(failure) => {
            context.refuse(&failure, "PUBLISH", &who(message));
            // A phone whose publication is gone starts anew: scripts go on as after a 200, as with stock.
            if failure.is_conditional() { 1 } else { -1 }
        }
    }
}

/// Whether the script has sent the final answer already: nothing is made of such a request, for its sender cannot learn
/// of it.
fn is_answered_before(message: SipMsg<'_>, what: &str) -> bool {
    let is_answered = tm::is_answered(message);
    if is_answered {
        limited!(Warn, "{what} from {} is not handled: its final answer has been sent", who(message));
    }
    is_answered
}

/// What the script gets for a request that another node serves.
fn relayed(context: &mut Context, message: SipMsg<'_>, what: &str, done: Result<c_int, Failure>) -> c_int {
    done.unwrap_or_else(|failure| {
        context.refuse(&failure, what, &who(message));
        -1
    })
}

/// Of several flaws of a request an event package that is not there is the one that is named, as by stock.
fn event_first(context: &Context, message: SipMsg<'_>, failure: Failure) -> Failure {
    bad_event::asked_for(context.packages(), message.event()).err().unwrap_or(failure)
}

/// The same for a SUBSCRIBE: an interval that is too short is named before what else it lacks, too.
fn event_and_interval_first(context: &Context, message: SipMsg<'_>, failure: Failure) -> Failure {
    let package = match bad_event::asked_for(context.packages(), message.event()) {
        Ok((package, _)) => context.packages().get(package),
        Err(bad_event) => return bad_event,
    };
    let config = &context.config;
    match expires(message).map(|expires| config.grant(expires, package.default_expires)) {
        Ok(Err(too_brief)) => too_brief.into(),
        _ => failure,
    }
}

/// The longest sender that stock and its table take.
const MAX_SENDER: usize = 253;

/// `handle_publish`'s argument, if there is one: a URI.
fn checked_sender(sender: Option<&[u8]>) -> Result<&[u8], Failure> {
    match sender {
        None => Ok(b""),
        Some(uri) if uri.len() <= MAX_SENDER && UriText::new(uri).is_ok() && parse_uri(uri).is_some() => Ok(uri),
        Some(uri) => Err(Failure::bad_request(format!("the sender is no URI: {}", log::show(uri)))),
    }
}

/// In test builds a header asks for a fault: `X-Fault: panic`, `X-Fault: memory`, `X-Fault: memory-3` for all
/// allocations after the third, or one at a named point (`host/fault.rs`).
#[cfg(feature = "fault-injection")]
fn inject_fault(message: SipMsg<'_>) -> impl Drop {
    use std::sync::atomic::Ordering::Relaxed;
    struct MemoryAgain;
    impl Drop for MemoryAgain {
        fn drop(&mut self) {
            crate::host::shm::LEFT.store(usize::MAX, Relaxed);
        }
    }
    message.parse_headers();
    match message.find(b"X-Fault") {
        Some(b"panic") => panic!("asked for by X-Fault"),
        Some(b"memory") => crate::host::shm::LEFT.store(0, Relaxed),
        Some(text) if crate::host::fault::arm(&log::show(text)) => {}
        Some(text) => {
            let number = text.strip_prefix(b"memory-").and_then(crate::sip::text::parsed);
            crate::host::shm::LEFT.store(number.unwrap_or(usize::MAX), Relaxed);
        }
        _ => {}
    }
    MemoryAgain
}

/// What a header says; `None`: it is missing.
fn optional<T>(header: Header<T>, name: &str) -> Result<Option<T>, Failure> {
    match header {
        Header::Missing => Ok(None),
        Header::Value(value) => Ok(Some(value)),
        Header::Bad => Err(Failure::bad_request(format!("unreadable {name}"))),
    }
}

/// The Expires header.
fn expires(message: SipMsg<'_>) -> Result<Option<Expires>, Failure> {
    Ok(optional(message.expires(), "Expires")?.map(Expires::from))
}

/// The presentity: user and host of the request URI.
fn request_uri(message: SipMsg<'_>) -> Result<CheckedParts<'_>, Failure> {
    if !message.parse_headers() {
        return Err(Failure::bad_request("unreadable headers"));
    }
    let uri = message.request_uri().ok_or_else(|| Failure::bad_request("unreadable request URI"))?;
    user_and_host("request URI", uri)
}

#[inline]
fn user_and_host<'a>(what: &str, uri: msg::UriParts<'a>) -> Result<CheckedParts<'a>, Failure> {
    let flawed = |flaw| Failure::flawed(what, flaw);
    Ok(CheckedParts { user: UserPart::new(uri.user).map_err(flawed)?, host: HostPart::new(uri.host).map_err(flawed)? })
}

fn publish_request<'a>(
    context: &Context,
    message: SipMsg<'a>,
    sender: &'a [u8],
    presentity: &'a CheckedParts<'a>,
) -> Result<PublishRequest<'a>, Failure> {
    let xavp = context.process().config.xavp;
    Ok(PublishRequest {
        event: message.event(),
        user: presentity.user.bytes(),
        domain: presentity.host.bytes(),
        etag: message.sip_if_match().map(EntityTag::new),
        expires: expires(message)?,
        content_type: message.content_type(),
        content_coding: message.content_coding(),
        body: optional(message.body(), "body: Content-Length is longer than the message")?,
        sender,
        priority: if xavp.is_empty() { None } else { script::xavp_int(xavp, c"priority") },
    })
}

/// The watcher, if the script or another module names it.
#[derive(Clone, Copy)]
pub(crate) enum GivenWatcher<'a> {
    /// From does.
    None,
    /// A URI, or the value of a header with one: `<sip:bob@example.org>`.
    Address(&'a [u8]),
    /// User and host.
    Parts(&'a [u8], &'a [u8]),
}

impl<'a> GivenWatcher<'a> {
    fn read(self) -> Result<Option<CheckedParts<'a>>, Failure> {
        let parts = match self {
            GivenWatcher::None => return Ok(None),
            GivenWatcher::Parts(user, host) => msg::UriParts { user, host },
            GivenWatcher::Address(address) => msg::uri_of_address(address).and_then(parse_uri).ok_or_else(|| {
                Failure::bad_request(format!("the watcher given is no URI: {:.LONGEST_SHOWN$}", log::show(address)))
            })?,
        };
        user_and_host("watcher", parts).map(Some)
    }
}

/// Answers a SUBSCRIBE. What the script function returns.
pub(crate) fn handle_subscribe(message: SipMsg<'_>, watcher: GivenWatcher<'_>) -> c_int {
    let Some(mut context) = state::context_for(message) else { return -1 };
    context.process().last_subscription.replace(None);
    if is_answered_before(message, "SUBSCRIBE") {
        return -1;
    }
    if let Some(done) = relay::elsewhere(&mut context, message) {
        return relayed(&mut context, message, "SUBSCRIBE", done);
    }
    let local_contact = match context.process().config.server_address {
        b"" => Cow::Owned(message.local_contact()),
        address => Cow::Borrowed(address),
    };
    let mut routes = Vec::new();
    #[cfg(feature = "fault-injection")]
    let _fault = inject_fault(message);
    let result = subscribe_request(message, watcher, &local_contact, &mut routes)
        .map_err(|failure| event_and_interval_first(&context, message, failure))
        .and_then(|request| subscribe::handle(&mut context, &request));
    match result {
        Ok(subscription) => {
            // As in stock: the watcher has its answer, and the script learns that the NOTIFY did not go out.
            let is_unanswered = context.unanswered.iter().any(|dialog| dialog.id() == subscription.dialog());
            remember_subscription(&context, subscription);
            if is_unanswered { -1 } else { 1 }
        }
        Err(failure) => {
            context.refuse(&failure, "SUBSCRIBE", &who(message));
            -1
        }
    }
}

/// `$subs` after `handle_subscribe`.
fn remember_subscription(context: &Context, subscription: Subscription) {
    let process = context.process();
    if process.config.subs_variable {
        process.last_subscription.replace(Some(subscription));
    }
}

/// From or To, checked.
fn party<'a>(what: &str, party: msg::AddressHeader<'a>) -> Result<subscribe::Party<'a>, Failure> {
    let flawed = |flaw| Failure::flawed(what, flaw);
    let CheckedParts { user, host } = user_and_host(what, msg::UriParts { user: party.user, host: party.host })?;
    let tag = match party.tag {
        b"" => None,
        tag => Some(Word::new(tag).map_err(flawed)?),
    };
    Ok(subscribe::Party { uri: UriText::new(party.uri).map_err(flawed)?, user, host, tag })
}

/// The route set on one line; empty: there is none. What cannot be read is no reason to refuse, and takes no route from
/// those above it: a proxy adds its own on top of what the client wrote, and NOTIFYs pass it.
fn route_set(message: SipMsg<'_>) -> Result<Vec<u8>, Failure> {
    let set = RouteSet::of_callee(message.record_routes(), routes_of);
    if set.is_cut_off {
        let who = who(message);
        limited!(Warn, "SUBSCRIBE of {who} has a Record-Route that cannot be read: it and those below are passed over");
    }
    if set.routes.len() > most::ROUTES {
        return Err(Failure::flawed("Record-Route", Flaw::TooLong(most::ROUTES)));
    }
    Ok(set.routes)
}

fn subscribe_request<'a>(
    message: SipMsg<'a>,
    watcher: GivenWatcher<'a>,
    local_contact: &'a [u8],
    routes: &'a mut Vec<u8>,
) -> Result<subscribe::SubscribeRequest<'a>, Failure> {
    let bad = |what: &str| Failure::bad_request(format!("missing or unreadable {what}"));
    let CheckedParts { user, host: domain } = request_uri(message)?;
    let from = message.from().filter(|from| !from.tag.is_empty()).ok_or_else(|| bad("From"))?;
    let to = message.to().ok_or_else(|| bad("To"))?;
    let Header::Value(ContactUri { uri, is_plain }) = message.contact_uri() else { return Err(bad("Contact")) };
    let contact = UriText::of_contact(uri).map_err(|flaw| Failure::flawed("Contact", flaw))?;
    if !is_plain && parse_uri(contact.bytes()).is_none() && !has_host(contact.bytes()) {
        return Err(bad("Contact URI"));
    }
    let call_id = message.call_id().ok_or_else(|| bad("Call-ID"))?;
    // A CSeq ends at 2^31 (RFC 3261 8.1.1.5): one beyond would lock the watcher out of its dialog.
    let cseq = message.cseq().filter(|number| *number < 1 << 31).ok_or_else(|| bad("CSeq"))?;
    // That of the first request holds (RFC 3261 12.2.1.1): what a later one has is not looked at.
    *routes = if to.tag.is_empty() { route_set(message)? } else { Vec::new() };
    Ok(subscribe::SubscribeRequest {
        event: message.event(),
        expires: expires(message)?,
        user,
        domain,
        to: party("To", to)?,
        from: party("From", from)?,
        watcher: watcher.read()?,
        call_id: Word::new(call_id).map_err(|flaw| Failure::flawed("Call-ID", flaw))?,
        cseq,
        contact,
        record_route: (!routes.is_empty()).then_some(&routes[..]),
        user_agent: columns::user_agent(message.user_agent()),
        socket: message.socket(),
        transport: Transport::named(message.protocol()),
        local_contact,
        flags: msg::branch_flags(),
    })
}
