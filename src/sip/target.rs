//! Where a request goes without a look into the DNS (RFC 3263 4): a URI with the address of its host.
use super::byte_class::{kind, kinds_in};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of SIP over UDP (RFC 3261 19.1.2).
const SIP_PORT: u16 = 5060;

/// The address in a URI, where a request to it goes there over UDP: no name to look up, no other transport, no `maddr`,
/// nothing that a parser could read in two ways.
pub fn plain_udp(uri: &[u8]) -> Option<SocketAddr> {
    const UNCLEAR: u8 = kind::CONTROL | kind::SPACE | kind::BRACKET | kind::HIGH;
    let (scheme, rest) = uri.split_first_chunk::<4>()?;
    if (scheme != b"sip:" && !scheme.eq_ignore_ascii_case(b"sip:")) || kinds_in(rest) & UNCLEAR != 0 {
        return None;
    }
    // A user part may hold what ends a host elsewhere; a second @ may not be anywhere.
    let host = match memchr::memchr(b'@', rest) {
        Some(at) if memchr::memchr(b'@', &rest[at + 1..]).is_some() => return None,
        Some(at) => &rest[at + 1..],
        None => rest,
    };
    let (address, behind) = address_of(host)?;
    let (port, params) = port_of(behind)?;
    // Headers of a URI have no place in a request (RFC 3261 19.1.5): what the host makes of them is its own affair.
    let is_plain = match params {
        b"" => true,
        [b';', params @ ..] => !params.contains(&b'?') && params.split(|c| *c == b';').all(is_harmless),
        _ => false,
    };
    is_plain.then(|| (address, port).into())
}

/// The name of the host that a request goes to by this URI, or by the first one of a list of routes in brackets; `None`
/// where it is an address, which needs no look-up, or cannot be read.
pub fn name_to_look_up(uri: &[u8]) -> Option<&[u8]> {
    let uri = first_uri(uri);
    let rest = &uri[memchr::memchr(b':', uri)? + 1..];
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
    let uri = match memchr::memchr(b'<', uri) {
        Some(at) => &uri[at + 1..],
        None => uri,
    };
    &uri[..memchr::memchr(b'>', uri).unwrap_or(uri.len())]
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

/// The number of at most so many digits that a text begins with, and what is behind it.
#[inline]
fn number(text: &[u8], most: usize) -> Option<(u32, &[u8])> {
    let (mut number, mut rest) = (0, text);
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        (number, rest) = (number * 10 + u32::from(digit - b'0'), behind);
        if text.len() - rest.len() > most {
            return None;
        }
    }
    (rest.len() < text.len()).then_some((number, rest))
}

/// Whether a parameter leaves a request on its way over UDP.
fn is_harmless(param: &[u8]) -> bool {
    let end = memchr::memchr(b'=', param).unwrap_or(param.len());
    let (name, value) = param.split_at(end);
    if name.eq_ignore_ascii_case(b"transport") {
        return value.eq_ignore_ascii_case(b"=udp");
    }
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
    fn names_are_distinguished_from_addresses() {
        let named = |uri: &'static str| name_to_look_up(uri.as_bytes()).map(|name| std::str::from_utf8(name).unwrap());
        for uri in
            ["sip:bob@192.0.2.1", "sip:192.0.2.1:5060;lr", "<sip:[2001:db8::1]:5060;lr>,<sip:a.example;lr>", "bob", ""]
        {
            assert_eq!(named(uri), None, "{uri}");
        }
        for uri in [
            "sip:bob@a.example",
            "sips:a.example:5061;lr",
            "<sip:a.example;lr>,<sip:192.0.2.1;lr>",
            "sip:b;x@a.example;y",
        ] {
            assert_eq!(named(uri), Some("a.example"), "{uri}");
        }
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
