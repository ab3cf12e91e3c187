//! Where a request goes without a look into the DNS (RFC 3263 4): a URI with the address of its host.
use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a request to this URI goes to the address in it, over UDP: no name to look up, no other transport, no
/// `maddr`, nothing that a parser could read in two ways.
pub fn is_plain_udp(uri: &[u8]) -> bool {
    let Some(rest) = uri.get(..4).filter(|scheme| scheme.eq_ignore_ascii_case(b"sip:")).map(|_| &uri[4..]) else {
        return false;
    };
    if rest.iter().any(|c| matches!(c, b'<' | b'>' | b'"' | b' ' | b'\t' | b'\r' | b'\n' | 0 | 0x80..)) {
        return false;
    }
    // A user part may hold what ends a host elsewhere; a second @ may not be anywhere.
    let host_start = match memchr::memchr(b'@', rest) {
        Some(at) if memchr::memchr(b'@', &rest[at + 1..]).is_some() => return false,
        Some(at) => at + 1,
        None => 0,
    };
    let rest = &rest[host_start..];
    let host_end = rest.iter().position(|c| matches!(c, b';' | b'?')).unwrap_or(rest.len());
    let (host_port, params) = rest.split_at(host_end);
    // Headers of a URI have no place in a request (RFC 3261 19.1.5): what the host makes of them is its own affair.
    if memchr::memchr(b'?', params).is_some() || !is_address(host_port) {
        return false;
    }
    params.split(|c| *c == b';').all(is_harmless)
}

/// `192.0.2.1`, `192.0.2.1:5060`, `[2001:db8::1]:5060`.
fn is_address(host_port: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(host_port) else { return false };
    let (is_known, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let (address, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (address.parse::<Ipv4Addr>().is_ok(), port)
        }
    };
    is_known && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_port(digits: &str) -> bool {
    digits.bytes().all(|c| c.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|number| number > 0)
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
            assert!(is_plain_udp(uri.as_bytes()), "{uri}");
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
            assert!(!is_plain_udp(uri.as_bytes()), "{uri}");
        }
    }
}
