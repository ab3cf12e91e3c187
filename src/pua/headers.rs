//! The header lines of PUBLISH and SUBSCRIBE, in stock's order.
use super::config::Config;
use super::digest::{self, DigestedRequest};
use super::event::Event;
use super::pending_request::PendingRequest;
use super::ports::challenges::Challenges;
use super::ports::user_agent::UserAgent;
use super::request::{Request, RequestField, RequestedExpires};
use super::response::{FinalResponse, LONGEST_GRANT, ResponseMeaning, ResponseStatus};
use crate::sip::entity_tag::EntityTag;
use crate::sip::text::push_number;
use crate::sip::uri;
use crate::time::Seconds;

fn start(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"Max-Forwards: 70\r\nEvent: ");
    out.extend_from_slice(&event.name);
    out.extend_from_slice(b"\r\n");
    out
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn seconds_line(out: &mut Vec<u8>, name: &[u8], time: Seconds) {
    out.extend_from_slice(name);
    push_number(out, time.0);
    out.extend_from_slice(b"\r\n");
}

/// The caller's header lines, the last of which may lack its end.
fn own_lines(out: &mut Vec<u8>, request: &Request) {
    let given = request.get(RequestField::ExtraHeaders);
    out.extend_from_slice(given);
    if !given.is_empty() && !given.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
}

/// How long a request asks for: what the caller asks for, the default for "for ever", not less than the server wants;
/// none where it ends what there is.
fn asked(config: &Config, request: &Request) -> Option<Seconds> {
    let minimum = request.options.server_minimum.unwrap_or_default();
    match request.options.expires {
        RequestedExpires::End => None,
        RequestedExpires::Forever => Some(config.default_expires.max(minimum)),
        RequestedExpires::For(time) => Some(time.min(LONGEST_GRANT).max(minimum)),
    }
}

/// The Content-Type of a body: what the caller says, otherwise that of the event.
pub fn content_type<'a>(event: &'a Event, request: &'a Request) -> &'a [u8] {
    match request.get(RequestField::ContentType) {
        b"" => &event.content_type,
        given => given,
    }
}

/// For a PUBLISH; without an `etag` it is the first of a publication, without a `content_type` it has no body.
pub fn publish(
    config: &Config,
    event: &Event,
    request: &Request,
    etag: Option<EntityTag<&[u8]>>,
    content_type: Option<&[u8]>,
) -> Vec<u8> {
    let mut out = start(event);
    // One second more than asked for, so that the server does not forget it before the owner does.
    seconds_line(&mut out, b"Expires: ", asked(config, request).map_or(Seconds::ZERO, |time| time + Seconds(1)));
    if let Some(etag) = etag {
        line(&mut out, b"SIP-If-Match: ", etag.bytes());
    }
    if let Some(content_type) = content_type {
        line(&mut out, b"Content-Type: ", content_type);
    }
    own_lines(&mut out, request);
    out
}

/// The answers to the challenges of a request, if it has been challenged, and to others that its server has sent before
/// (RFC 3261 22.3, RFC 7616 3.3): the server that takes them need not ask again.
pub fn credentials<P: UserAgent + Challenges>(
    ports: &mut P,
    out: &mut Vec<u8>,
    request: &Request,
    method: &str,
    target: &[u8],
) {
    if ports.config().credentials.is_empty() {
        return;
    }
    let server = server_of(ports.config(), request);
    let challenges = digest::with_known(digest::challenges(request), &ports.known_challenges(&server));
    if challenges.is_empty() {
        return;
    }
    let cnonce = ports.new_cnonce();
    let listed = ports.config().credentials;
    let asked = DigestedRequest { method, uri: target, cnonce: &cnonce };
    digest::push_lines(out, listed, &challenges, asked, |line| ports.count_nonce(&server, line));
}

/// The server whose challenges a request answers: host and port of its proxy, or of the presentity.
pub fn server_of(config: &Config, request: &Request) -> Vec<u8> {
    match (request.get(RequestField::OutboundProxy), config.outbound_proxy) {
        (b"", b"") => uri::split(request.get(RequestField::PresUri)).host.to_vec(),
        (b"", proxy) | (proxy, _) => uri::split(proxy).host.to_vec(),
    }
}

/// What an answer means for what was sent, and the request with credentials where it was challenged for them.
pub fn read_answer<P: UserAgent + Challenges>(
    ports: &mut P,
    sent: &PendingRequest,
    answer: &FinalResponse,
) -> (Option<Request>, ResponseMeaning) {
    let authorized = digest::with_credentials(ports.config().credentials, &sent.request, answer);
    if authorized.is_none() {
        forget_refused(ports, &sent.request, answer.status);
    }
    let meaning = match authorized {
        Some(_) => ResponseMeaning::Challenged,
        None => answer.verdict(sent.attempts),
    };
    (authorized, meaning)
}

/// A request was refused for its credentials: what the server asked before is not answered again unasked.
fn forget_refused<P: UserAgent + Challenges>(ports: &mut P, request: &Request, status: ResponseStatus) {
    if matches!(status, ResponseStatus::Code(401 | 403 | 407)) && !ports.config().credentials.is_empty() {
        let server = server_of(ports.config(), request);
        ports.forget_challenges(&server);
    }
}

/// For a SUBSCRIBE.
pub fn subscribe(config: &Config, event: &Event, request: &Request) -> Vec<u8> {
    let mut out = start(event);
    out.extend_from_slice(b"Contact: <");
    out.extend_from_slice(request.get(RequestField::Contact));
    out.extend_from_slice(b">\r\n");
    seconds_line(&mut out, b"Expires: ", subscription_interval(config, request));
    own_lines(&mut out, request);
    out
}

/// The interval that a SUBSCRIBE asks for.
pub fn subscription_interval(config: &Config, request: &Request) -> Seconds {
    match asked(config, request) {
        None => Seconds::ZERO,
        Some(brief) if brief <= config.min_expires => config.min_expires,
        Some(time) => time + Seconds(10),
    }
}
