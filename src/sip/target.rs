//! Where a request goes without a look into the DNS (RFC 3263 4): a URI with the address of its host.
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of SIP over UDP (RFC 3261 19.1.2).
const SIP_PORT: u16 = 5060;

/// What a parser could read in two ways.
const UNCLEAR: [bool; 256] = {
    let mut unclear = [false; 256];
    let mut c = 0;
    while c < 256 {
        unclear[c] = matches!(c as u8, b'<' | b'>' | b'"' | b' ' | b'\t' | b'\r' | b'\n' | 0 | 0x80..);
        c += 1;
    }
    unclear
};

/// The address in a URI, where a request to it goes there over UDP: no name to look up, no other transport, no `maddr`,
/// nothing that a parser could read in two ways.
pub fn plain_udp(uri: &[u8]) -> Option<SocketAddr> {
    let (scheme, rest) = uri.split_at_checked(4)?;
    if !scheme.eq_ignore_ascii_case(b"sip:") || rest.iter().any(|c| UNCLEAR[usize::from(*c)]) {
        return None;
    }
    // A user part may hold what ends a host elsewhere; a second @ may not be anywhere.
    let host = match rest.iter().position(|c| *c == b'@') {
        Some(at) if rest[at + 1..].contains(&b'@') => return None,
        Some(at) => &rest[at + 1..],
        None => rest,
    };
    let end = host.iter().position(|c| matches!(c, b';' | b'?')).unwrap_or(host.len());
    let (host_port, params) = host.split_at(end);
    // Headers of a URI have no place in a request (RFC 3261 19.1.5): what the host makes of them is its own affair.
    if !params.is_empty() && (params.contains(&b'?') || !params.split(|c| *c == b';').all(is_harmless)) {
        return None;
    }
    target_of(host_port)
}

/// The name of the host that a request goes to by this URI, or by the first one of a list of routes in brackets; `None`
/// where it is an address, which needs no look-up, or cannot be read.
pub fn name_to_look_up(uri: &[u8]) -> Option<&[u8]> {
    let uri = match memchr::memchr(b'<', uri) {
        Some(at) => &uri[at + 1..],
        None => uri,
    };
    let uri = &uri[..memchr::memchr(b'>', uri).unwrap_or(uri.len())];
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

/// `192.0.2.1`, `192.0.2.1:5060`, `[2001:db8::1]:5060`.
fn target_of(host_port: &[u8]) -> Option<SocketAddr> {
    if let Some(rest) = host_port.strip_prefix(b"[") {
        let end = rest.iter().position(|c| *c == b']')?;
        let address: Ipv6Addr = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        return Some((address, port_of(&rest[end + 1..])?).into());
    }
    let end = host_port.iter().position(|c| *c == b':').unwrap_or(host_port.len());
    let (address, port) = host_port.split_at(end);
    Some((ipv4(address)?, port_of(port)?).into())
}

/// Four numbers without leading zeros, which some read as octal.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split(|c| *c == b'.');
    for octet in &mut octets {
        let digits = parts.next().filter(|digits| digits.len() == 1 || digits.first() != Some(&b'0'))?;
        *octet = u8::try_from(number(digits, 3)?).ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// `:5060`, or nothing.
fn port_of(text: &[u8]) -> Option<u16> {
    let Some(digits) = text.strip_prefix(b":") else { return text.is_empty().then_some(SIP_PORT) };
    u16::try_from(number(digits, 5)?).ok().filter(|port| *port > 0)
}

/// A number of at most so many digits, with one at least.
fn number(digits: &[u8], most: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > most {
        return None;
    }
    digits.iter().try_fold(0, |number, c| c.is_ascii_digit().then(|| number * 10 + u32::from(c - b'0')))
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
    fn names_are_told_from_addresses() {
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
