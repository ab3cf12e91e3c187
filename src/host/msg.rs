//! A SIP request as the host hands it over (`core/parser/msg_parser.h`): headers are parsed when first asked for.
use super::{bytes, plain_address};
use crate::sys;
use std::marker::PhantomData;

/// The message a script function was called with.
#[derive(Clone, Copy)]
pub struct SipMsg<'a> {
    raw: *mut sys::sip_msg,
    life: PhantomData<&'a sys::sip_msg>,
}

/// From or To: its URI, the URI's parts, its tag.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressHeader<'a> {
    /// The whole URI.
    pub uri: &'a [u8],
    /// The user part; empty when there is none.
    pub user: &'a [u8],
    /// The host part.
    pub host: &'a [u8],
    /// The tag parameter; empty when there is none.
    pub tag: &'a [u8],
}

/// User and host of a URI.
#[derive(Clone, Copy, Debug, Default)]
pub struct UriParts<'a> {
    /// The user part; empty when there is none.
    pub user: &'a [u8],
    /// The host part.
    pub host: &'a [u8],
}

/// What a header was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<T> {
    /// The message has none.
    Missing,
    /// The header is there and cannot be read.
    Bad,
    /// The header's value.
    Value(T),
}

/// Takes a URI apart as the host's parser does.
pub fn parse_uri(uri: &[u8]) -> Option<UriParts<'_>> {
    match plain_address::uri(uri) {
        Some((user, host)) => Some(UriParts { user, host }),
        None => parse_any_uri(uri),
    }
}

fn parse_any_uri(uri: &[u8]) -> Option<UriParts<'_>> {
    let mut parsed = sys::sip_uri::default();
    // SAFETY: the parser reads `uri.len()` bytes and fills `parsed`.
    if uri.is_empty() || unsafe { sys::kr_parse_uri(uri.as_ptr() as *mut _, uri.len() as i32, &mut parsed) } < 0 {
        return None;
    }
    // SAFETY: the parts are views of `uri`, which lives for the lifetime that is returned.
    let (user, host) = (unsafe { bytes::view(&parsed.user) }, unsafe { bytes::view(&parsed.host) });
    Some(UriParts { user, host })
}

/// The URI of a Contact.
#[derive(Debug, Clone, Copy)]
pub struct ContactUri<'a> {
    /// As it is written.
    pub uri: &'a [u8],
    /// Whether it was read as a SIP URI with a user and a host: [`parse_uri`] reads it, too.
    pub is_plain: bool,
}

/// The URI of the value of an address header (`"Bob" <sip:bob@example.org>;x=1`), or of a bare URI.
pub fn uri_of_address(address: &[u8]) -> Option<&[u8]> {
    let mut quoted = false;
    let Some(start) = address.iter().position(|c| {
        quoted ^= *c == b'"';
        *c == b'<' && !quoted
    }) else {
        return Some(address.trim_ascii());
    };
    let uri = &address[start + 1..];
    uri.iter().position(|c| *c == b'>').map(|end| uri[..end].trim_ascii())
}

/// The routes of a Record-Route header's value, as the host's parser finds them; `None` where it refuses the value.
pub fn routes_of(value: &[u8]) -> Option<Vec<&[u8]>> {
    struct Routes(*mut sys::rr);
    impl Drop for Routes {
        fn drop(&mut self) {
            // SAFETY: null, or the list that the parser made.
            unsafe { sys::kr_free_rr(self.0) };
        }
    }
    // What the host refuses is an error in its log: without a bracket there is no need to ask.
    if !value.contains(&b'<') {
        return None;
    }
    let mut list = Routes(std::ptr::null_mut());
    // SAFETY: the parser reads the bytes of `value`, and makes a list of views of them.
    if unsafe { sys::kr_parse_rr_body(value.as_ptr() as *mut _, value.len() as i32, &mut list.0) } < 0 {
        return None;
    }
    // SAFETY: elements of the list, which lives until the end of this function.
    let parsed = std::iter::successors(unsafe { list.0.as_ref() }, |route| unsafe { route.next.as_ref() });
    let start = value.as_ptr() as usize;
    let text = |route: &sys::rr| {
        let at = (route.nameaddr.name.s as usize).checked_sub(start)?;
        value.get(at..at.checked_add(usize::try_from(route.len).ok()?)?)
    };
    parsed.map(text).collect()
}

/// The branch flags of the request that the script has in hand (`setbflag()`, `$bF`).
pub fn branch_flags() -> u32 {
    // SAFETY: the host reads a variable of the process.
    unsafe { sys::kr_branch_flags() }
}

/// The host's case-insensitive hash of two strings, as its RPC shows it.
pub fn case_hash(a: &[u8], b: &[u8]) -> u32 {
    // SAFETY: the hash reads both strings.
    unsafe { sys::kr_case_hash(&mut *bytes::lend(a), &mut *bytes::lend(b)) }
}

/// A copy of a field of the message. No reference to the message is ever made: the host's parsers write to it.
macro_rules! field {
    ($message:ident.$($field:ident).+) => {
        // SAFETY: `SipMsg::new` was promised a message that lives for `'a`.
        unsafe { (*$message.raw).$($field).+ }
    };
}

/// A header as the host's parser has left it on a message: null, or a list element that lives for `'a`.
#[derive(Clone, Copy)]
struct Parsed<'a>(*const sys::hdr_field, PhantomData<&'a sys::sip_msg>);

impl<'a> Parsed<'a> {
    fn get(self) -> Option<&'a sys::hdr_field> {
        // SAFETY: `header!` and `next` are the only ways to a value; what they read lives as long as the message, and
        // the parser is done with it.
        unsafe { self.0.as_ref() }
    }

    fn name(self) -> Option<&'a [u8]> {
        // SAFETY: a view of the message's buffer.
        self.get().map(|field| unsafe { bytes::view(&field.name) })
    }

    fn body(self) -> Option<&'a [u8]> {
        // SAFETY: a view of the message's buffer, which lives for `'a`, as the header does.
        self.get().map(|field| unsafe { bytes::view(&field.body) })
    }

    /// The values of the headers of this name, ignoring case, from this one on.
    fn named(self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.that(|found| found.eq_ignore_ascii_case(name))
    }

    /// The values of the headers whose names are meant, from this one on.
    fn that(self, is_meant: impl Fn(&[u8]) -> bool + Clone) -> impl Iterator<Item = &'a [u8]> + Clone {
        let all = std::iter::successors(Some(self), |header| header.next());
        all.filter(move |header| header.name().is_some_and(&is_meant)).filter_map(Parsed::body)
    }

    fn next(self) -> Option<Parsed<'a>> {
        self.get().map(|field| Parsed(field.next, PhantomData))
    }
}

/// A header that the message knows by its type.
macro_rules! header {
    ($message:ident.$header:ident) => {
        Parsed::<'a>(field!($message.$header), PhantomData)
    };
}

impl<'a> SipMsg<'a> {
    /// # Safety
    /// `raw` is a message of the host that lives for `'a`.
    pub unsafe fn new(raw: *mut sys::sip_msg) -> Option<Self> {
        (!raw.is_null()).then_some(SipMsg { raw, life: PhantomData })
    }

    /// The host's own pointer, for callbacks of event packages.
    pub fn raw(&self) -> *mut sys::sip_msg {
        self.raw
    }

    /// Whether the request is a PUBLISH.
    pub fn is_publish(&self) -> bool {
        let line = field!(self.first_line.u);
        // SAFETY: request messages have the request arm of the union filled, and any bits are a number.
        let method = unsafe { line.request.method_value };
        method as u32 == sys::request_method_METHOD_PUBLISH
    }

    /// Parses all headers.
    pub fn parse_headers(&self) -> bool {
        // SAFETY: the host adds to the message what it finds, in memory that it frees with the message.
        unsafe { sys::kr_parse_headers(self.raw) >= 0 }
    }

    /// User and host of the request URI (a script may have changed it).
    pub fn request_uri(&self) -> Option<UriParts<'a>> {
        // SAFETY: the parser notes in the message where the parts of the URI are; the text stays as it is.
        if unsafe { sys::kr_parse_ruri(self.raw) } < 0 {
            return None;
        }
        let uri = field!(self.parsed_uri);
        // SAFETY: the parsed parts are views of the message's buffer.
        let (user, host) = (unsafe { bytes::view(&uri.user) }, unsafe { bytes::view(&uri.host) });
        Some(UriParts { user, host })
    }

    /// The Event header's text.
    pub fn event(&self) -> Option<&'a [u8]> {
        header!(self.event).body()
    }

    /// The Expires header (RFC 3261 20.19), in seconds.
    pub fn expires(&self) -> Header<u32> {
        match header!(self.expires).body() {
            None => Header::Missing,
            Some(text) => {
                let text = text.trim_ascii();
                if text.is_empty() {
                    return Header::Missing;
                }
                // What follows the number is read over, as by the host.
                let (text, rest) = text.split_at(text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len()));
                if text.is_empty() || !matches!(rest.first(), None | Some(b';' | b' ' | b'\t' | b'\r' | b'\n')) {
                    return Header::Bad;
                }
                // Larger than 32 bits is "as long as possible" (RFC 3261 20.19): the caller's maximum decides.
                let value = text.iter().fold(0u64, |n, d| (n * 10 + u64::from(d - b'0')).min(u64::from(u32::MAX)));
                Header::Value(value as u32)
            }
        }
    }

    /// The SIP-If-Match header (RFC 3903 11.3.2), which the host's parser does not know by type.
    pub fn sip_if_match(&self) -> Option<&'a [u8]> {
        self.find(b"SIP-If-Match").map(<[u8]>::trim_ascii)
    }

    /// The first header of this name, ignoring case.
    pub fn find(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.find_all(name).next()
    }

    /// All headers of this name, ignoring case, in their order.
    pub fn find_all(&self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        Parsed::named(header!(self.headers), name)
    }

    /// # Safety
    /// `body` is null, or a From or To that the host has parsed on this message.
    unsafe fn party(found: i32, body: *mut sys::to_body) -> Option<AddressHeader<'a>> {
        // SAFETY: what is parsed lives as long as the message, by the caller's word.
        let body = unsafe { body.as_ref() }.filter(|_| found >= 0)?;
        // SAFETY: views of the message's buffer.
        let (uri, tag) = (unsafe { bytes::view(&body.uri) }, unsafe { bytes::view(&body.tag_value) });
        let parts = parse_uri(uri)?;
        Some(AddressHeader { uri, user: parts.user, host: parts.host, tag })
    }

    /// The From header.
    pub fn from(&self) -> Option<AddressHeader<'a>> {
        let mut body = std::ptr::null_mut();
        // SAFETY: the host parses From, unless it has, and keeps what it made of it with the message.
        let found = unsafe { sys::kr_parse_from(self.raw, &mut body) };
        // SAFETY: the host has set `body`, or left it null.
        unsafe { Self::party(found, body) }
    }

    /// The To header.
    pub fn to(&self) -> Option<AddressHeader<'a>> {
        let mut body = std::ptr::null_mut();
        // SAFETY: To was parsed with the first line, or is now; `body` is set to what is kept with the message.
        let found = unsafe { sys::kr_parse_to(self.raw, &mut body) };
        // SAFETY: the host has set `body`, or left it null.
        unsafe { Self::party(found, body) }
    }

    /// The Call-ID.
    pub fn call_id(&self) -> Option<&'a [u8]> {
        header!(self.callid).body().map(<[u8]>::trim_ascii).filter(|id| !id.is_empty())
    }

    /// The CSeq number.
    pub fn cseq(&self) -> Option<u32> {
        let mut number = 0;
        // SAFETY: the host reads the CSeq that it has parsed, and writes one number.
        (unsafe { sys::kr_cseq_number(self.raw, &mut number) } >= 0).then_some(number)
    }

    /// The URI of the first Contact.
    pub fn contact(&self) -> Header<&'a [u8]> {
        match self.contact_uri() {
            Header::Value(contact) => Header::Value(contact.uri),
            Header::Missing => Header::Missing,
            Header::Bad => Header::Bad,
        }
    }

    /// The same, with what is known of its form.
    pub fn contact_uri(&self) -> Header<ContactUri<'a>> {
        let Some(value) = header!(self.contact).body() else { return Header::Missing };
        if let Some(uri) = plain_address::contact(value) {
            return Header::Value(ContactUri { uri, is_plain: true });
        }
        let mut uri = bytes::null();
        // SAFETY: the header is there, as was looked above; `uri` is null until the host has found one in it.
        let found = unsafe { sys::kr_first_contact(self.raw, &mut uri) };
        // SAFETY: null, or a view of the message's buffer.
        match unsafe { bytes::view(&uri) } {
            uri if found >= 0 && !uri.is_empty() => Header::Value(ContactUri { uri, is_plain: false }),
            _ => Header::Bad,
        }
    }

    /// The Record-Route headers, from the top down.
    pub fn record_routes(&self) -> impl Iterator<Item = &'a [u8]> + Clone {
        // The message knows the first of them.
        Parsed::named(header!(self.record_route), b"Record-Route")
    }

    /// The Expires header, left in its parsed form on the message: callbacks of other modules read it there.
    pub fn parsed_expires(&self) -> Header<u32> {
        // SAFETY: the parsed form is put on the header, whose memory is the host's, as that of the message.
        match unsafe { sys::kr_parse_expires(self.raw) } {
            0 => self.expires(),
            1 => Header::Missing,
            _ => Header::Bad,
        }
    }

    /// The User-Agent header; empty when there is none.
    pub fn user_agent(&self) -> &'a [u8] {
        header!(self.user_agent).body().unwrap_or_default()
    }

    /// The Content-Type header.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        header!(self.content_type).body()
    }

    /// The first coding of Content-Encoding, or its short form, that changes the body (RFC 3261 20.12).
    pub fn content_coding(&self) -> Option<&'a [u8]> {
        let is_meant = |name: &[u8]| match name.len() {
            1 => matches!(name, b"e" | b"E"),
            _ => name.eq_ignore_ascii_case(b"Content-Encoding"),
        };
        Parsed::that(header!(self.headers), is_meant)
            .flat_map(|value| value.split(|c| *c == b','))
            .map(<[u8]>::trim_ascii)
            .find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
    }

    /// The body, cut to Content-Length where the datagram is longer. `Bad` when Content-Length promises more than came.
    pub fn body(&self) -> Header<&'a [u8]> {
        let Some(body) = self.behind_headers() else { return Header::Bad };
        let length = match header!(self.content_length).body() {
            None => return if body.is_empty() { Header::Missing } else { Header::Value(body) },
            Some(text) => std::str::from_utf8(text.trim_ascii()).ok().and_then(|t| t.parse::<usize>().ok()),
        };
        match length {
            Some(0) => Header::Missing,
            Some(length) if length <= body.len() => Header::Value(&body[..length]),
            _ => Header::Bad,
        }
    }

    /// All that follows the headers, also behind the end of the body that Content-Length says; empty where nothing
    /// does.
    pub fn after_headers(&self) -> &'a [u8] {
        self.behind_headers().unwrap_or_default()
    }

    /// The rest of the message's buffer behind its headers; `None` where the headers cannot be read.
    fn behind_headers(&self) -> Option<&'a [u8]> {
        let mut rest = bytes::null();
        // SAFETY: the host parses the message that this process works on, and fills `rest` where it returns 0.
        let found = unsafe { sys::kr_get_body(self.raw, &mut rest) };
        // SAFETY: null, or a part of the message's buffer, which stays as it is for `'a`.
        (found >= 0).then(|| unsafe { bytes::view(&rest) })
    }

    /// Whether there is a Content-Length header.
    pub fn has_content_length(&self) -> bool {
        header!(self.content_length).get().is_some()
    }

    fn receive_socket(&self) -> Option<&'a sys::socket_info> {
        let socket = field!(self.rcv.bind_address);
        // SAFETY: null, or a socket of the host; they live as long as the server, and are written at start alone.
        unsafe { socket.as_ref() }
    }

    /// The socket the request came in on, as `udp:127.0.0.1:5060`.
    pub fn socket(&self) -> &'a [u8] {
        // SAFETY: the text lives as long as the socket.
        self.receive_socket().map_or(&[], |socket| unsafe { bytes::view(&socket.sock_str) })
    }

    /// The host's name for the transport the request came in by.
    pub fn protocol(&self) -> &'static [u8] {
        let (number, mut protocol) = (i32::from(field!(self.rcv.proto)), bytes::null());
        // SAFETY: the host knows a name for any number.
        unsafe { sys::kr_proto_name(number, &mut protocol) };
        // SAFETY: the names are constants of the host.
        unsafe { bytes::view(&protocol) }
    }

    /// The address and port the request came from.
    pub fn source(&self) -> String {
        let (mut address, mut port) = (bytes::null(), 0);
        // SAFETY: where the message came from is a part of it; the host writes the address as a text of its own.
        unsafe { sys::kr_source(self.raw, &mut address, &mut port) };
        // SAFETY: a view of a buffer of the host, which the next call overwrites: it is copied at once.
        let address = String::from_utf8_lossy(unsafe { bytes::view(&address) }).into_owned();
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    }

    /// The Contact a UAS at the receiving socket gives: advertised address first, IPv6 in brackets, transport named.
    pub fn local_contact(&self) -> Vec<u8> {
        let Some(socket) = self.receive_socket() else { return Vec::new() };
        // SAFETY: the texts live as long as the socket.
        let text = |text: &sys::_str| unsafe { bytes::view(text) };
        let (advertised, port) = (text(&socket.useinfo.name), text(&socket.useinfo.port_no_str));
        let (address, own_port) = (text(&socket.address_str), text(&socket.port_no_str));
        let host = if advertised.is_empty() { address } else { advertised };
        let port = if port.is_empty() { own_port } else { port };
        let mut contact = Vec::with_capacity(host.len() + port.len() + 32);
        contact.extend_from_slice(b"sip:");
        let bracket = host.contains(&b':') && !host.starts_with(b"[");
        if bracket {
            contact.push(b'[');
        }
        contact.extend_from_slice(host);
        if bracket {
            contact.push(b']');
        }
        contact.push(b':');
        contact.extend_from_slice(port);
        contact.extend_from_slice(b";transport=");
        match self.protocol() {
            // A URI has one name for both (RFC 7118 5).
            name if name.eq_ignore_ascii_case(b"wss") => contact.extend_from_slice(b"ws"),
            name => contact.extend(name.iter().map(u8::to_ascii_lowercase)),
        }
        contact
    }
}
