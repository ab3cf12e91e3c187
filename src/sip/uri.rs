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

/// User and host of a URI that [`join`] made, or of any plain `scheme:user@host;params`.
pub fn split(uri: &[u8]) -> (&[u8], &[u8]) {
    let rest = uri.iter().position(|c| *c == b':').map_or(uri, |at| &uri[at + 1..]);
    let (user, host) = match rest.iter().rposition(|c| *c == b'@') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (&rest[..0], rest),
    };
    let end = host.iter().position(|c| matches!(c, b';' | b'?')).unwrap_or(host.len());
    (user, &host[..end])
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
            assert_eq!(split(&uri), (user.as_bytes(), host.as_bytes()));
        }
    }

    #[test]
    fn parameters_are_not_part_of_the_host() {
        assert_eq!(split(b"sip:alice@example.org;transport=tcp"), (&b"alice"[..], &b"example.org"[..]));
    }
}
