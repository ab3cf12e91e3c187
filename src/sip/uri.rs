//! SIP URIs as the tables hold them: `sip:user@host`.

/// `sip:user@host`, or `sip:host` where there is no user.
pub fn join(user: &[u8], host: &[u8]) -> Vec<u8> {
    let mut uri = Vec::with_capacity(5 + user.len() + host.len());
    push(&mut uri, user, host);
    uri
}

/// Appends what [`join`] makes.
#[inline]
pub fn push(out: &mut Vec<u8>, user: &[u8], host: &[u8]) {
    out.reserve(5 + user.len() + host.len());
    out.extend_from_slice(b"sip:");
    if !user.is_empty() {
        out.extend_from_slice(user);
        out.push(b'@');
    }
    out.extend_from_slice(host);
}

/// What a URI is made of, as far as the tables hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainUri<'a> {
    /// The user; empty where there is none.
    pub user: &'a [u8],
    /// The host, with its port.
    pub host: &'a [u8],
}

/// User and host of a URI that [`join`] made, or of any plain `scheme:user@host;params`.
pub fn split(uri: &[u8]) -> PlainUri<'_> {
    let rest = uri.iter().position(|c| *c == b':').map_or(uri, |at| &uri[at + 1..]);
    let (user, host) = match rest.iter().rposition(|c| *c == b'@') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (&rest[..0], rest),
    };
    let end = host.iter().position(|c| matches!(c, b';' | b'?')).unwrap_or(host.len());
    PlainUri { user, host: &host[..end] }
}

/// Whether a SIP URI says where requests go: a host of any name and, perhaps, a port. Names that RFC 3261 25.1 does not
/// know (an underscore, a mark at the beginning) are in use, and a proxy or resolver may know them.
pub fn has_host(uri: &[u8]) -> bool {
    if !is_sip_uri(uri) {
        return false;
    }
    let rest = uri.iter().position(|c| *c == b':').map_or(uri, |at| &uri[at + 1..]);
    let start = rest.iter().rposition(|c| *c == b'@').map_or(0, |at| at + 1);
    let host_port = rest[start..].split(|c| matches!(c, b';' | b'?')).next().unwrap_or_default();
    let end = host_port.iter().position(|c| *c == b':').unwrap_or(host_port.len());
    let (host, port) = host_port.split_at(end);
    let is_name = |c: &u8| !matches!(c, b'"' | b'<' | b'>' | b'[' | b']' | b'&' | b'/' | b'\\');
    !host.is_empty() && host.iter().all(is_name) && (port.is_empty() || is_port(&port[1..]))
}

/// `port` of RFC 3261 25.1: digits, of which any number may be leading zeros.
fn is_port(text: &[u8]) -> bool {
    let value = |number: u32, digit: &u8| number.saturating_mul(10).saturating_add(u32::from(digit.wrapping_sub(b'0')));
    !text.is_empty() && text.iter().all(u8::is_ascii_digit) && text.iter().fold(0, value) <= u32::from(u16::MAX)
}

/// Whether a text may be used as a SIP URI.
pub fn is_sip_uri(text: &[u8]) -> bool {
    let scheme = text.iter().position(|c| *c == b':').map(|at| (text[..at].to_ascii_lowercase(), &text[at + 1..]));
    scheme.is_some_and(|(scheme, rest)| matches!(&*scheme, b"sip" | b"sips") && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_and_split_agree() {
        for (user, host) in [("alice", "example.org"), ("", "example.org"), ("a;b", "h"), ("+4930", "[::1]")] {
            let uri = join(user.as_bytes(), host.as_bytes());
            assert_eq!(split(&uri), PlainUri { user: user.as_bytes(), host: host.as_bytes() });
        }
    }

    #[test]
    fn hosts_and_ports_of_any_form() {
        for good in [
            "sip:b@my_host",
            "sips:_x.y:5061;ob",
            "sip:-x.y",
            "SIP:b@x.y:00005060",
            "sip:b;x@h?y=z",
            "sip:b@h:0065535",
            "sip:b@h;+sip.instance=\"<urn:uuid:1>\"",
        ] {
            assert!(has_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "sip:",
            "sip:b@",
            "sip:b@:5060",
            "sip:b@;x",
            "tel:1",
            "b@h",
            "sip:b@h:",
            "sip:b@h:x",
            "sip:b@h:5060x",
            "sip:b@h:65536",
            "sip:b@h:99999999999999999999",
            "sip:b@[::1",
            "sip:b@h:1:2",
            "sip:b@\"h\"",
            "sip:b@<h>",
        ] {
            assert!(!has_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn parameters_are_not_part_of_the_host() {
        assert_eq!(split(b"sip:alice@example.org;transport=tcp"), PlainUri { user: b"alice", host: b"example.org" });
    }
}
