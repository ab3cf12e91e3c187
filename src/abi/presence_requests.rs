//! From a message to a PUBLISH or SUBSCRIBE that `presence` understands.
use super::state;
use crate::bridge::world::World;
use crate::host::bytes::view_ptr;
use crate::host::msg::{Header, SipMsg, parse_uri};
use crate::host::{log, script};
use crate::presence::error::Failure;
use crate::presence::subscription::Subscription;
use crate::presence::{publish, subscribe};
use crate::sys;
use std::ffi::c_int;

/// From, for log lines.
pub(super) fn who(message: SipMsg<'_>) -> String {
    message.from().map(|from| log::show(from.uri).into_owned()).unwrap_or_else(|| "an unreadable From".into())
}

/// # Safety
/// `msg` is a message in progress, `sender` null or a string.
pub(super) unsafe fn handle_publish(msg: *mut sys::sip_msg, sender: *const sys::_str) -> c_int {
    // SAFETY: the script function's own message.
    let Some((mut world, message)) = (unsafe { state::world_for(msg) }) else { return -1 };
    // SAFETY: null or a string of the script.
    let sender = unsafe { view_ptr(sender) };
    #[cfg(feature = "fault-injection")]
    let _fault = inject_fault(message);
    let request = checked_sender(sender).and_then(|sender| publish_request(&world, message, sender));
    match request.and_then(|request| publish::handle(&mut world, &request)) {
        Ok(()) => 1,
        Err(failure) => {
            world.refuse(&failure, "PUBLISH", &who(message));
            // A phone whose publication is gone starts anew: scripts go on as after a 200, as with stock.
            if failure.is_conditional() { 1 } else { -1 }
        }
    }
}

/// The longest sender that stock and its table take.
const MAX_SENDER: usize = 253;

/// `handle_publish`'s argument, if there is one: a URI.
fn checked_sender(sender: Option<&[u8]>) -> Result<&[u8], Failure> {
    match sender {
        None => Ok(b""),
        Some(uri) if uri.len() <= MAX_SENDER && parse_uri(uri).is_some() => Ok(uri),
        Some(uri) => Err(Failure::bad_request(format!("the sender is no URI: {}", log::show(uri)))),
    }
}

/// In test builds a header asks for a fault: `X-Fault: panic`, `X-Fault: memory`, or
/// `X-Fault: memory-3` for all allocations after the third.
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
        Some(text) => {
            let number = text.strip_prefix(b"memory-").and_then(crate::sip::text::parsed);
            crate::host::shm::LEFT.store(number.unwrap_or(usize::MAX), Relaxed);
        }
        _ => {}
    }
    MemoryAgain
}

fn number<T>(header: Header<T>, name: &str) -> Result<Option<T>, Failure> {
    match header {
        Header::Missing => Ok(None),
        Header::Value(value) => Ok(Some(value)),
        Header::Bad => Err(Failure::bad_request(format!("unreadable {name}"))),
    }
}

fn publish_request<'a>(world: &World, message: SipMsg<'a>, sender: &'a [u8]) -> Result<publish::Request<'a>, Failure> {
    if !message.parse_headers() {
        return Err(Failure::bad_request("unreadable headers"));
    }
    let uri = message.request_uri().ok_or_else(|| Failure::bad_request("unreadable request URI"))?;
    let xavp = world.process().config.xavp;
    Ok(publish::Request {
        event: message.event(),
        user: uri.user,
        domain: uri.host,
        etag: message.sip_if_match(),
        expires: number(message.expires(), "Expires")?,
        content_type: message.content_type(),
        body: number(message.body(), "body: Content-Length is longer than the message")?,
        sender,
        priority: if xavp.is_empty() { None } else { script::xavp_int(xavp, c"priority") },
    })
}

/// # Safety
/// `msg` is a message in progress, `watcher` null or a string.
pub(super) unsafe fn handle_subscribe(msg: *mut sys::sip_msg, watcher: Option<(&[u8], &[u8])>) -> c_int {
    // SAFETY: the script function's own message.
    let Some((mut world, message)) = (unsafe { state::world_for(msg) }) else { return -1 };
    world.process().last_subscription.replace(None);
    let local_contact = match world.process().config.server_address {
        b"" => message.local_contact(),
        address => address.to_vec(),
    };
    let mut routes = Vec::new();
    #[cfg(feature = "fault-injection")]
    let _fault = inject_fault(message);
    let result = subscribe_request(message, watcher, &local_contact, &mut routes)
        .and_then(|request| subscribe::handle(&mut world, &request));
    match result {
        Ok(subscription) => {
            remember_subscription(&world, subscription);
            1
        }
        Err(failure) => {
            world.refuse(&failure, "SUBSCRIBE", &who(message));
            -1
        }
    }
}

/// `$subs` after `handle_subscribe`.
fn remember_subscription(world: &World, subscription: Subscription) {
    let process = world.process();
    if process.config.subs_variable {
        process.last_subscription.replace(Some(subscription));
    }
}

fn subscribe_request<'a>(
    message: SipMsg<'a>,
    watcher: Option<(&'a [u8], &'a [u8])>,
    local_contact: &'a [u8],
    routes: &'a mut Vec<u8>,
) -> Result<subscribe::Request<'a>, Failure> {
    let bad = |what: &str| Failure::bad_request(format!("missing or unreadable {what}"));
    if !message.parse_headers() {
        return Err(bad("headers"));
    }
    let uri = message.request_uri().ok_or_else(|| bad("request URI"))?;
    let from = message.from().filter(|from| !from.tag.is_empty()).ok_or_else(|| bad("From"))?;
    let to = message.to().ok_or_else(|| bad("To"))?;
    let Header::Value(contact) = message.contact() else { return Err(bad("Contact")) };
    parse_uri(contact).ok_or_else(|| bad("Contact URI"))?;
    let record_route = match message.record_routes() {
        Header::Missing => None,
        Header::Bad => return Err(bad("Record-Route")),
        Header::Value(text) => {
            *routes = text;
            Some(&routes[..])
        }
    };
    let (watcher_user, watcher_domain) = watcher.unwrap_or((from.user, from.host));
    Ok(subscribe::Request {
        event: message.event(),
        expires: number(message.expires(), "Expires")?,
        user: uri.user,
        domain: uri.host,
        to_user: to.user,
        to_domain: to.host,
        to_tag: to.tag,
        from_user: from.user,
        from_domain: from.host,
        from_tag: from.tag,
        watcher_user,
        watcher_domain,
        call_id: message.call_id().ok_or_else(|| bad("Call-ID"))?,
        cseq: message.cseq().ok_or_else(|| bad("CSeq"))?,
        contact,
        record_route,
        user_agent: message.user_agent(),
        socket: message.socket(),
        local_contact,
        flags: 0,
    })
}
