//! Where a request goes without a look into the DNS (RFC 3263 4): a URI with the address of its host.
use super::byte_class::{kind, kinds_in};
use super::text::unquoted;
use crate::shm_safe::shm_safe;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of SIP over UDP (RFC 3261 19.1.2).
const SIP_PORT: u16 = 5060;

/// How requests in a dialog go, as far as its route set and the peer's Contact say: read once, and kept beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NextHop {
    /// Nobody has looked yet.
    #[default]
    Unread,
    /// To an address over UDP, without a route: what [`plain_udp`] says.
    PlainV4([u8; 4], u16),
    /// Likewise, over IPv6: the address is read again from the Contact.
    PlainV6,
    /// To an address over a connection, without a route: what [`connected`] reads again from the Contact.
    Connected,
    /// To an address, over UDP or not.
    Address {
        /// See [`goes_over_udp`].
        is_udp: bool,
    },
    /// To a name, see [`name_to_look_up`].
    Name {
        /// See [`goes_over_udp`].
        is_udp: bool,
    },
}

shm_safe!(
    enum NextHop {
        Unread,
        PlainV4(address, port),
        PlainV6,
        Connected,
        Address { is_udp },
        Name { is_udp },
    }
);

impl NextHop {
    /// Reads the next hop of a dialog with this route set (empty for none) and this Contact of the peer.
    pub fn of(routes: &[u8], contact: &[u8]) -> NextHop {
        let (hop, plain) = match routes {
            b"" => (contact, plain_udp(contact)),
            routes => (routes, None),
        };
        match plain {
            Some(SocketAddr::V4(address)) => NextHop::PlainV4(address.ip().octets(), address.port()),
            Some(SocketAddr::V6(_)) => NextHop::PlainV6,
            None if routes.is_empty() && connected(contact).is_some() => NextHop::Connected,
            None => {
                let is_udp = goes_over_udp(hop);
                match name_to_look_up(hop).is_some() {
                    true => NextHop::Name { is_udp },
                    false => NextHop::Address { is_udp },
                }
            }
        }
    }

    /// Whether requests go over UDP.
    pub fn is_udp(self) -> bool {
        match self {
            NextHop::Unread | NextHop::Connected => false,
            NextHop::PlainV4(..) | NextHop::PlainV6 => true,
            NextHop::Address { is_udp } | NextHop::Name { is_udp } => is_udp,
        }
    }

    /// Where requests go that need nothing but sending; `contact`: that of the peer.
    pub fn target(self, contact: &[u8]) -> Option<Target<'_>> {
        let over_udp = |address| Target { address, carrier: Carrier::Udp, request_uri: Cow::Borrowed(contact) };
        match self {
            NextHop::PlainV4(address, port) => Some(over_udp((address, port).into())),
            NextHop::PlainV6 => plain_udp(contact).map(over_udp),
            NextHop::Connected => connected(contact),
            _ => None,
        }
    }
}

/// What carries a request, with the host's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Carrier {
    /// Datagrams.
    Udp = 1,
    /// A TCP connection.
    Tcp = 2,
    /// A TLS connection.
    Tls = 3,
    /// A WebSocket.
    Ws = 5,
    /// A WebSocket over TLS.
    Wss = 6,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// The address and port.
    pub address: SocketAddr,
    /// What carries it there.
    pub carrier: Carrier,
    /// The request's request URI.
    pub request_uri: Cow<'a, [u8]>,
}

/// The far end of the connection that a request to this URI takes, where there is one: the address of the URI over TCP,
/// TLS or WebSocket, or the one in the host's parameter `alias`, which is no part of the request URI then.
pub fn connected(uri: &[u8]) -> Option<Target<'_>> {
    let Some(at) = memchr::memmem::find(uri, b";alias=") else {
        let (address, carrier) = plain(uri).filter(|(_, carrier)| *carrier != Carrier::Udp)?;
        return Some(Target { address, carrier, request_uri: Cow::Borrowed(uri) });
    };
    let value = &uri[at + b";alias=".len()..];
    let (value, behind) = value.split_at(value.iter().position(|c| matches!(c, b';' | b'?')).unwrap_or(value.len()));
    let (ip, port) = address_of(value)?;
    let (port, carrier) = number(port.strip_prefix(b"~")?, 5)?;
    let carrier = match carrier {
        b"~2" => Carrier::Tcp,
        b"~3" => Carrier::Tls,
        b"~5" => Carrier::Ws,
        b"~6" => Carrier::Wss,
        _ => return None,
    };
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    let is_plain = uri.starts_with(b"sip:") && kinds_in(uri) & UNCLEAR == 0 && !behind.contains(&b'?');
    let is_once = memchr::memmem::find(behind, b"alias").is_none() && memchr::memchr(b'@', behind).is_none();
    let request_uri = Cow::Owned([&uri[..at], behind].concat());
    (is_plain && is_once).then(|| Target { address: (ip, port).into(), carrier, request_uri })
}

/// The address in a URI, where a request to it goes there over UDP: no name to look up, no other transport, no `maddr`,
/// nothing that a parser could read in two ways.
pub fn plain_udp(uri: &[u8]) -> Option<SocketAddr> {
    plain(uri).filter(|(_, carrier)| *carrier == Carrier::Udp).map(|(address, _)| address)
}

/// Bytes that a parser could read in two ways.
const UNCLEAR: u8 = kind::CONTROL | kind::SPACE | kind::BRACKET | kind::HIGH;

/// The address in a URI and what carries a request there, under the same conditions.
#[inline]
fn plain(uri: &[u8]) -> Option<(SocketAddr, Carrier)> {
    let (scheme, rest) = uri.split_first_chunk::<4>()?;
    if (scheme != b"sip:" && !scheme.eq_ignore_ascii_case(b"sip:")) || kinds_in(rest) & UNCLEAR != 0 {
        return None;
    }
    // A user part may hold what ends a host elsewhere; a second @ may not be anywhere.
    let mut parts = rest.splitn(3, |c| *c == b'@');
    let host = match (parts.next(), parts.next(), parts.next()) {
        (_, Some(host), None) => host,
        (_, None, _) => rest,
        _ => return None,
    };
    let (address, behind) = address_of(host)?;
    let (port, params) = port_of(behind)?;
    // Headers of a URI have no place in a request (RFC 3261 19.1.5): what the host makes of them is its own affair.
    let carrier = match params {
        b"" => Carrier::Udp,
        [b';', params @ ..] if !params.contains(&b'?') => carrier_of(params)?,
        _ => return None,
    };
    // The port of TLS is another one.
    let is_clear = carrier == Carrier::Udp || carrier == Carrier::Tcp || behind.starts_with(b":");
    is_clear.then(|| ((address, port).into(), carrier))
}

/// The name of the host that a request goes to by this URI, or by the first one of a list of routes in brackets; `None`
/// where it is an address, which needs no look-up, or cannot be read. URIs of other schemes have no host.
pub fn name_to_look_up(uri: &[u8]) -> Option<&[u8]> {
    let uri = first_uri(uri);
    let (scheme, rest) = uri.split_at(memchr::memchr(b':', uri)?);
    if !scheme.eq_ignore_ascii_case(b"sip") && !scheme.eq_ignore_ascii_case(b"sips") {
        return None;
    }
    let rest = &rest[1..];
    let end = rest.iter().position(|c| matches!(c, b';' | b'?')).unwrap_or(rest.len());
    // A user part may hold what ends a host.
    let start = memchr::memrchr(b'@', rest).map_or(0, |at| at + 1);
    let host_port = match start > end {
        true => rest[start..].split(|c| matches!(c, b';' | b'?')).next()?,
        false => &rest[start..end],
    };
    let is_named = !host_port.is_empty() && target_of(host_port).is_none();
    is_named.then(|| host_port.split(|c| *c == b':').next()).flatten()
}

/// Whether a request goes over UDP by this URI, or by the first one of a list of routes in brackets, as far as the URI
/// says.
pub fn goes_over_udp(uri: &[u8]) -> bool {
    let uri = first_uri(uri);
    if uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:")) {
        return false;
    }
    let start = memchr::memrchr(b'@', uri).map_or(0, |at| at + 1);
    let mut params = uri[start..].split(|c| matches!(c, b';' | b'?')).skip(1);
    let named = params.find_map(|param| {
        let (name, value) = param.split_at_checked(b"transport=".len())?;
        name.eq_ignore_ascii_case(b"transport=").then_some(value)
    });
    named.is_none_or(|transport| transport.eq_ignore_ascii_case(b"udp"))
}

/// A URI, or the first one of a list in brackets.
fn first_uri(uri: &[u8]) -> &[u8] {
    let uri = match unquoted(uri, b'<') {
        Some(at) => &uri[at + 1..],
        None => uri,
    };
    &uri[..unquoted(uri, b'>').unwrap_or(uri.len())]
}

/// `192.0.2.1`, `192.0.2.1:5060`, `[2001:db8::1]:5060`.
fn target_of(host_port: &[u8]) -> Option<SocketAddr> {
    let (address, behind) = address_of(host_port)?;
    let (port, behind) = port_of(behind)?;
    behind.is_empty().then(|| (address, port).into())
}

/// The address that a text begins with, and what is behind it.
fn address_of(text: &[u8]) -> Option<(IpAddr, &[u8])> {
    if let Some(rest) = text.strip_prefix(b"[") {
        let end = rest.iter().position(|c| *c == b']')?;
        let address: Ipv6Addr = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        return Some((address.into(), &rest[end + 1..]));
    }
    let (mut rest, mut bits) = (text, 0);
    for index in 0..4 {
        if index > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let (octet, behind) = number(rest, 3)?;
        // Some read leading zeros as octal.
        if octet > 255 || (rest[0] == b'0' && rest.len() - behind.len() > 1) {
            return None;
        }
        (bits, rest) = ((bits << 8) | octet, behind);
    }
    Some((Ipv4Addr::from(bits).into(), rest))
}

/// The port that a text begins with (`:5060`, or nothing), and what is behind it.
fn port_of(text: &[u8]) -> Option<(u16, &[u8])> {
    let Some(digits) = text.strip_prefix(b":") else { return Some((SIP_PORT, text)) };
    let (port, behind) = number(digits, 5)?;
    Some((u16::try_from(port).ok().filter(|port| *port > 0)?, behind))
}

/// The number of at most `most` digits that a text begins with, and what is behind it.
#[inline]
fn number(text: &[u8], most: usize) -> Option<(u32, &[u8])> {
    let (mut number, mut digits) = (0, 0);
    while let Some(digit) = text.get(digits).map(|c| c.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        if digits == most {
            return None;
        }
        number = number * 10 + u32::from(digit);
        digits += 1;
    }
    (digits > 0).then(|| (number, &text[digits..]))
}

/// What carries a request to a URI with these parameters; `None` where one of them leads it elsewhere.
fn carrier_of(params: &[u8]) -> Option<Carrier> {
    let mut carrier = None;
    for param in params.split(|c| *c == b';') {
        let end = memchr::memchr(b'=', param).unwrap_or(param.len());
        let (name, value) = param.split_at(end);
        if !name.eq_ignore_ascii_case(b"transport") {
            if !is_harmless(name) {
                return None;
            }
            continue;
        }
        const NAMES: [(&[u8], Carrier); 4] =
            [(b"=udp", Carrier::Udp), (b"=tcp", Carrier::Tcp), (b"=tls", Carrier::Tls), (b"=ws", Carrier::Ws)];
        let (_, named) = NAMES.iter().find(|(known, _)| value.eq_ignore_ascii_case(known))?;
        if carrier.replace(*named).is_some_and(|before| before != *named) {
            return None;
        }
    }
    Some(carrier.unwrap_or(Carrier::Udp))
}

/// Whether a parameter of this name leaves a request on its way.
fn is_harmless(name: &[u8]) -> bool {
    // The host may follow these, or compress, or resolve what they name.
    const WATCHED: [&[u8]; 7] = [b"maddr", b"comp", b"sigcomp-id", b"received", b"ttl", b"gr", b"alias"];
    !WATCHED.iter().any(|watched| name.eq_ignore_ascii_case(watched))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transport_is_that_of_the_next_hop() {
        for (uri, expected) in [
            ("sip:bob@192.0.2.1", true),
            ("sip:bob@192.0.2.1:5060;transport=UDP", true),
            ("sip:bob;transport=tcp@192.0.2.1", true),
            ("sip:bob@example.org;ob;transport=tcp", false),
            ("sip:bob@192.0.2.1;Transport=WS;ob", false),
            ("SIPS:bob@192.0.2.1", false),
            ("<sip:192.0.2.9;lr>,<sip:192.0.2.8;transport=tls;lr>", true),
            ("<sip:192.0.2.9;transport=tls;lr>,<sip:192.0.2.8;lr>", false),
            ("", true),
        ] {
            assert_eq!(goes_over_udp(uri.as_bytes()), expected, "{uri}");
        }
    }

    #[test]
    fn what_is_read_once_is_what_is_read_each_time() {
        for contact in [
            "sip:bob@192.0.2.1",
            "sip:bob@192.0.2.1:5070;transport=UDP",
            "sip:bob@[2001:db8::1]:5070",
            "sip:bob@192.0.2.1;transport=tcp",
            "sip:bob@a.example",
            "sip:bob@a.example;transport=tls",
            "",
        ] {
            for routes in ["", "<sip:192.0.2.9;lr>", "<sip:p.example;transport=tcp;lr>"] {
                let (hop, contact, routes) = (routes, contact.as_bytes(), routes.as_bytes());
                let read = NextHop::of(routes, contact);
                let next = if hop.is_empty() { contact } else { routes };
                assert_eq!(read.is_udp(), goes_over_udp(next));
                assert_eq!(matches!(read, NextHop::Name { .. }), name_to_look_up(next).is_some());
                assert_eq!(read == NextHop::Connected, hop.is_empty() && connected(contact).is_some());
                let address = read.target(contact).filter(|target| target.carrier == Carrier::Udp);
                let address = address.map(|target| target.address);
                assert_eq!(address, plain_udp(contact).filter(|_| hop.is_empty()));
            }
        }
        assert!(size_of::<NextHop>() <= 8, "each subscription keeps one");
    }

    #[test]
    fn connections_are_those_of_the_uri_or_its_alias() {
        let cases = [
            ("sip:bob@192.0.2.1;transport=tcp", "192.0.2.1:5060", Carrier::Tcp, "sip:bob@192.0.2.1;transport=tcp"),
            ("sip:192.0.2.1:7;Transport=TLS;ob", "192.0.2.1:7", Carrier::Tls, "sip:192.0.2.1:7;Transport=TLS;ob"),
            (
                "sip:b@x.invalid;transport=ws;alias=192.0.2.1~7~5",
                "192.0.2.1:7",
                Carrier::Ws,
                "sip:b@x.invalid;transport=ws",
            ),
            (
                "sip:b@x.invalid;alias=[2001:db8::1]~7~6;transport=ws",
                "[2001:db8::1]:7",
                Carrier::Wss,
                "sip:b@x.invalid;transport=ws",
            ),
        ];
        for (uri, address, carrier, request_uri) in cases {
            let request_uri = Cow::Borrowed(request_uri.as_bytes());
            let address = address.parse().unwrap();
            assert_eq!(connected(uri.as_bytes()), Some(Target { address, carrier, request_uri }), "{uri}");
        }
        for uri in [
            "sip:bob@192.0.2.1",
            "sip:bob@192.0.2.1;transport=tls",
            "sip:bob@192.0.2.1;transport=sctp",
            "sip:bob@192.0.2.1;transport=tcp;transport=udp",
            "sip:bob@192.0.2.1;transport=tcp;maddr=192.0.2.2",
            "sip:bob@x.example;transport=tcp",
            "sip:bob@192.0.2.1;alias=192.0.2.1~7~1",
            "sip:bob@192.0.2.1;alias=192.0.2.1~7",
            "sip:bob@192.0.2.1;alias=192.0.2.1~70000~2",
            "sip:bob@192.0.2.1;alias=192.0.2.1~7~2?x=y",
            "sip:bob@192.0.2.1;alias=192.0.2.1~7~2;alias=192.0.2.2~7~2",
            "sip:bob;alias=192.0.2.1~7~2;x@192.0.2.1",
            "<sip:bob@192.0.2.1;alias=192.0.2.1~7~2>",
            "sips:bob@192.0.2.1:5061;transport=tcp",
        ] {
            assert_eq!(connected(uri.as_bytes()), None, "{uri}");
        }
    }

    #[test]
    fn names_are_distinguished_from_addresses() {
        let named = |uri: &'static str| name_to_look_up(uri.as_bytes()).map(|name| std::str::from_utf8(name).unwrap());
        for uri in [
            "sip:bob@192.0.2.1",
            "sip:192.0.2.1:5060;lr",
            "<sip:[2001:db8::1]:5060;lr>,<sip:a.example;lr>",
            "bob",
            "",
            "tel:+15551234",
            "mailto:bob@a.example",
        ] {
            assert_eq!(named(uri), None, "{uri}");
        }
        for uri in [
            "sip:bob@a.example",
            "SIPS:a.example:5061;lr",
            "<sip:a.example;lr>,<sip:192.0.2.1;lr>",
            "sip:b;x@a.example;y",
        ] {
            assert_eq!(named(uri), Some("a.example"), "{uri}");
        }
    }

    #[test]
    fn brackets_in_quotes_end_no_uri() {
        for uri in [
            "sip:bob@a.example;+sip.instance=\"<urn:uuid:1>\"",
            "<sip:a.example;lr;x=\">\">,<sip:b.example>",
            "\"<sip:b.example>\" <sip:a.example>",
            ",<sip:a.example;lr;x=a b>",
        ] {
            assert_eq!(name_to_look_up(uri.as_bytes()), Some(&b"a.example"[..]), "{uri}");
        }
        assert!(!goes_over_udp(b"sip:bob@a.example;x=\"<1>\";transport=tcp"));
    }

    #[test]
    fn addresses_over_udp_are_plain() {
        for uri in [
            "sip:192.0.2.1",
            "sip:bob@192.0.2.1",
            "SIP:bob@192.0.2.1:5070",
            "sip:bob:secret@192.0.2.1:5070;ob",
            "sip:bob@192.0.2.1;transport=udp",
            "sip:bob@192.0.2.1;Transport=UDP;line=abc",
            "sip:bob;x=1?y@192.0.2.1:65535",
            "sip:bob@[2001:db8::1]",
            "sip:bob@[2001:db8::1]:5070;ob",
        ] {
            assert!(plain_udp(uri.as_bytes()).is_some(), "{uri}");
        }
    }

    #[test]
    fn the_address_is_that_of_the_uri() {
        let cases = [
            ("sip:bob@192.0.2.1", "192.0.2.1:5060"),
            ("sip:bob@0.0.0.255:1", "0.0.0.255:1"),
            ("sip:bob@[2001:db8::1]:65535", "[2001:db8::1]:65535"),
            ("sip:[2001:db8::1]", "[2001:db8::1]:5060"),
        ];
        for (uri, address) in cases {
            assert_eq!(plain_udp(uri.as_bytes()), address.parse().ok(), "{uri}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_host() {
        for uri in [
            "",
            "sip:",
            "sip:bob@",
            "sip:bob@example.org",
            "sip:bob@192.0.2.1.example.org",
            "sip:bob@192.0.2",
            "sip:bob@192.0.2.256",
            "sip:bob@192.0.02.1",
            "sip:bob@192.0.2.0001",
            "sip:bob@192.0.2.1.1",
            "sip:bob@192..2.1",
            "sip:bob@192.0.2.1;alias=192.0.2.2~5060~1",
            "sip:bob@192.0.2.1:0",
            "sip:bob@192.0.2.1:65536",
            "sip:bob@192.0.2.1:",
            "sip:bob@192.0.2.1:+5",
            "sips:bob@192.0.2.1",
            "tel:+123",
            "sip:bob@192.0.2.1;transport=tcp",
            "sip:bob@192.0.2.1;transport",
            "sip:bob@192.0.2.1;maddr=192.0.2.2",
            "sip:bob@192.0.2.1;MADDR=192.0.2.2",
            "sip:bob@192.0.2.1;comp=sigcomp",
            "sip:bob@192.0.2.1?Subject=x",
            "sip:bob@192.0.2.1@example.org",
            "<sip:bob@192.0.2.1>",
            "\"Bob\" <sip:bob@192.0.2.1>",
            "sip:bob@2001:db8::1",
            "sip:bob@[2001:db8::1",
            "sip:bob@[192.0.2.1]",
            "sip:bob@[]:5060",
            "sip:bob@[2001:db8::1]5060",
            "sip:bob@192.0.2.1;x=\u{fc}",
        ] {
            assert_eq!(plain_udp(uri.as_bytes()), None, "{uri}");
        }
    }
}
