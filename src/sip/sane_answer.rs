//! Whether an answer passes Kamailio's `sanity_check()`, as far as that can be said of its text alone: whatever the
//! host might read in another way counts as not sane here, and the host reads it.

use super::blocks::has_any;
use super::byte_class::{kind, kinds_in};

/// Whether an answer in which [`super::answer::success_to_notify`] has found what it looks for is sane beyond doubt:
/// every header line has a name and a value, Via, From, To, CSeq and Content-Length are written as nearly all write
/// them, and the body is as long as it is said to be.
pub fn is_sane(answer: &[u8]) -> bool {
    let Some((_, mut lines)) = line_of(answer) else { return false };
    let mut said_length = None;
    loop {
        let Some((line, behind)) = line_of(lines) else { return false };
        lines = behind;
        if line.is_empty() {
            return said_length == Some(lines.len());
        }
        let Some(colon) = memchr::memchr(b':', line) else { return false };
        let (name, Some(value)) = (&line[..colon], line[colon..].strip_prefix(b": ")) else { return false };
        if value.is_empty() || has_any(value, |c| (c < b' ') | (c == 0x7f)) {
            return false;
        }
        let is_sane = match name {
            b"Via" => is_sane_via(value),
            b"From" | b"To" => is_sane_party(value),
            b"CSeq" => value.strip_suffix(b" NOTIFY").and_then(number).is_some_and(|n| u32::try_from(n).is_ok()),
            b"Content-Length" => {
                let said = number(value).and_then(|n| usize::try_from(n).ok());
                said.is_some() && std::mem::replace(&mut said_length, said).is_none()
            }
            b"Call-ID" => true,
            _ => is_other(name),
        };
        if !is_sane {
            return false;
        }
    }
}

fn line_of(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', text)?;
    Some((text[..end].strip_suffix(b"\r")?, &text[end + 1..]))
}

/// Whether a name is that of a header the host does not look into: none of those above in another form.
fn is_other(name: &[u8]) -> bool {
    let looked_into: [&[u8]; 6] = [b"via", b"from", b"to", b"cseq", b"content-length", b"call-id"];
    name.len() > 1
        && kinds_in(name) & kind::NO_HOSTNAME == 0
        && !looked_into.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// A number of at most ten digits.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = (1..=10).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |number, digit| 10 * number + u64::from(digit - b'0')))
}

/// `host` or `host:port`, without brackets.
fn is_sane_host(text: &[u8]) -> bool {
    let (host, port) = match memchr::memchr(b':', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let is_port = |port| number(port).is_some_and(|port| (1..=65_535).contains(&port));
    !host.is_empty() && kinds_in(host) & kind::NO_HOSTNAME == 0 && port.is_none_or(is_port)
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && kinds_in(text) & kind::NO_TOKEN == 0
}

/// One Via over UDP with its branch, and what the peer says of where the request came from.
fn is_sane_via(value: &[u8]) -> bool {
    let Some(value) = value.strip_prefix(b"SIP/2.0/UDP ") else { return false };
    let mut rest = Some(value);
    let mut next = || {
        let text = rest?;
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        rest = text.get(end + 1..);
        Some(&text[..end])
    };
    next().is_some_and(is_sane_host) && std::iter::from_fn(next).all(is_sane_via_parameter)
}

fn is_sane_via_parameter(parameter: &[u8]) -> bool {
    if let Some(branch) = parameter.strip_prefix(b"branch=") {
        return is_token(branch);
    }
    if let Some(port) = parameter.strip_prefix(b"rport=") {
        return number(port).is_some_and(|port| port <= 65_535);
    }
    match parameter.strip_prefix(b"received=") {
        Some(host) => !host.is_empty() && host.iter().all(|c| c.is_ascii_digit() || *c == b'.'),
        None => parameter == b"rport",
    }
}

/// `<sip:user@host>;tag=token`, with a port at most.
fn is_sane_party(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"<sip:") else { return false };
    let Some(end) = memchr::memchr(b'>', rest) else { return false };
    let (uri, Some(tag)) = (&rest[..end], rest[end..].strip_prefix(b">;tag=")) else { return false };
    let Some(at) = memchr::memchr(b'@', uri) else { return false };
    let (user, host) = (&uri[..at], &uri[at + 1..]);
    is_token(user) && kinds_in(user) & kind::PERCENT == 0 && is_sane_host(host) && is_token(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::answer::success_to_notify;

    const PLAIN: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKn1.2.3;rport=5060\r\n\
                         From: <sip:a@example.org>;tag=1\r\nTo: <sip:b@example.org:5070>;tag=2-x\r\nCall-ID: x@y\r\n\
                         CSeq: 7 NOTIFY\r\nContact: <sip:b@192.0.2.1:5070>\r\nContent-Length: 0\r\n\r\n";

    /// Whether an answer that differs from a plain one in this is sane.
    fn sane(from: &str, to: &str) -> bool {
        let text = PLAIN.replacen(from, to, 1);
        assert_ne!(text, PLAIN, "{from}");
        is_sane(text.as_bytes())
    }

    #[test]
    fn what_phones_write_is_sane() {
        assert!(is_sane(PLAIN.as_bytes()) && success_to_notify(PLAIN.as_bytes()).is_some());
        for (from, to) in [
            (";rport=5060", ""),
            (";rport=5060", ";rport;received=192.0.2.77"),
            ("192.0.2.1:5060;", "proxy-1.example.org;"),
            ("<sip:a@", "<sip:+49.30_1-2@"),
            ("7 NOTIFY", "2147483647 NOTIFY"),
            ("Contact: <sip:b@192.0.2.1:5070>\r\n", ""),
            ("Contact", "X-Odd.Name"),
            ("Length: 0\r\n\r\n", "Length: 4\r\n\r\nbody"),
        ] {
            assert!(sane(from, to), "{to}");
        }
    }

    #[test]
    fn what_the_host_might_refuse_is_not() {
        for (from, to) in [
            ("Content-Length: 0\r\n", ""),
            ("Content-Length: 0", "Content-Length: 1"),
            ("Content-Length: 0", "Content-Length: 00000000000"),
            ("Content-Length: 0", "Content-Length: 0\r\nContent-Length: 0"),
            ("Content-Length: 0", "l: 0"),
            ("Content-Length: 0", "content-length: 0"),
            ("\r\n\r\n", "\r\n\r\nmore"),
            ("7 NOTIFY", "4294967296 NOTIFY"),
            ("7 NOTIFY", "99999999999 NOTIFY"),
            ("7 NOTIFY", "7  NOTIFY"),
            ("<sip:a@", "<sip:@"),
            ("<sip:a@", "<sip:a%@"),
            ("<sip:a@", "<sip:a:b@"),
            ("<sip:a@", "<tel:a@"),
            ("<sip:a@", "<sip:a b@"),
            ("example.org>", "exa mple.org>"),
            ("example.org>", ">"),
            ("example.org>", "[2001:db8::1]>"),
            ("example.org:5070>", "example.org:99999>"),
            ("example.org:5070>", "example.org:>"),
            ("example.org:5070>", "example.org;x=y>"),
            ("<sip:a@example.org>", "sip:a@example.org"),
            (";tag=1\r\n", "\r\n"),
            (";tag=1", ";tag="),
            (";tag=1", ";tag=1;tag=2"),
            (";tag=1", " ;tag=1"),
            ("SIP/2.0/UDP", "SIP/2.0/TCP"),
            ("192.0.2.1:5060;", "192.0.2.1:;"),
            ("192.0.2.1:5060;", "[2001:db8::1]:5060;"),
            (";rport=5060", ";rport=x"),
            (";rport=5060", ";received=[::1]"),
            (";rport=5060", ";ttl=1"),
            (";rport=5060", ";"),
            ("Contact: ", "Contact:"),
            ("Contact: <sip:b@192.0.2.1:5070>", "Contact: "),
            ("Contact: <sip:b@192.0.2.1:5070>", "Contact"),
            ("Contact", "Con tact"),
            ("Contact", ""),
            ("Contact: <", "Contact: \u{1}<"),
            ("Contact", "m"),
            ("Contact", "TO"),
            ("x@y\r\n", "x@y\r"),
        ] {
            assert!(!sane(from, to), "{to}");
        }
        for end in 0..PLAIN.len() {
            assert!(!is_sane(&PLAIN.as_bytes()[..end]));
        }
    }
}
