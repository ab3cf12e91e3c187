//! Answers to NOTIFYs as they lie in a datagram: read without a parser of messages, as far as a client transaction
//! needs (RFC 3261 17.1.3), and only in the form that nearly all have. Everything else is left to the host's parser.

use super::blocks::{find, has_any};

/// A final answer with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Success<'a> {
    /// The answer's status, 200 to 299.
    pub status: u16,
    /// The branch of its only Via.
    pub branch: &'a [u8],
}

/// What a message has to have (RFC 3261 8.1.1), as bits.
mod seen {
    pub(crate) const VIA: u8 = 1;
    pub(crate) const CSEQ: u8 = 2;
    pub(crate) const FROM: u8 = 4;
    pub(crate) const TO: u8 = 8;
    pub(crate) const CALL_ID: u8 = 16;
    pub(crate) const ALL: u8 = 31;
}

/// Reads a datagram as a 2xx to a NOTIFY. `None`: it is something else, or is not written plainly (folded lines,
/// several Vias, quotes in the Via), and the host reads it.
pub fn success_to_notify(datagram: &[u8]) -> Option<Success<'_>> {
    let rest = datagram.strip_prefix(b"SIP/2.0 2")?;
    let [tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', ..] = rest else { return None };
    let status = 200 + 10 * u16::from(tens - b'0') + u16::from(ones - b'0');
    let (mut found, mut branch) = (0, None);
    let (_, mut lines) = line_of(rest)?;
    loop {
        let (line, behind) = line_of(lines)?;
        if line.is_empty() {
            break;
        }
        lines = behind;
        let what = match (line[0], line.get(1)) {
            (b'V' | b'v', _) => {
                let Some(value) = value_of(line, b"Via: ", b"via", b'v') else { continue };
                branch = Some(branch_of(value)?);
                seen::VIA
            }
            (b'C' | b'c', Some(b'S' | b's')) => {
                let Some(value) = value_of(line, b"CSeq: ", b"cseq", 0) else { continue };
                if !is_of_notify(value) {
                    return None;
                }
                seen::CSEQ
            }
            (b'C' | b'c', Some(b'A' | b'a')) | (b'I' | b'i', _)
                if value_of(line, b"Call-ID: ", b"call-id", b'i').is_some() =>
            {
                seen::CALL_ID
            }
            (b'F' | b'f', _) if value_of(line, b"From: ", b"from", b'f').is_some() => seen::FROM,
            (b'T' | b't', _) if value_of(line, b"To: ", b"to", b't').is_some() => seen::TO,
            (b' ' | b'\t', _) => return None,
            _ => continue,
        };
        if found & what != 0 {
            return None;
        }
        found |= what;
    }
    let branch = branch.filter(|_| found == seen::ALL)?;
    Some(Success { status, branch })
}

/// The line that a text begins with, without its CRLF, and what is behind it. `None` where it has no end, or a lone LF
/// or CR.
fn line_of(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find(b'\n', text)?;
    let line = text[..end].strip_suffix(b"\r")?;
    Some((line, &text[end + 1..]))
}

/// The value of a header line of that name (in lower case), or of that short form; `usual` is how nearly all write it.
#[inline]
fn value_of<'a>(line: &'a [u8], usual: &[u8], name: &[u8], short: u8) -> Option<&'a [u8]> {
    line.strip_prefix(usual).or_else(|| unusual_value_of(line, name, short))
}

#[cold]
fn unusual_value_of<'a>(line: &'a [u8], name: &[u8], short: u8) -> Option<&'a [u8]> {
    let rest = match line.split_at_checked(name.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(name) => rest,
        _ if line[0].eq_ignore_ascii_case(&short) => &line[1..],
        _ => return None,
    };
    let rest = rest.trim_ascii_start().strip_prefix(b":")?;
    Some(rest.trim_ascii())
}

fn is_of_notify(cseq: &[u8]) -> bool {
    let digits = cseq.iter().position(|c| !c.is_ascii_digit()).unwrap_or(cseq.len());
    let method = &cseq[digits..];
    let is_blank = matches!(method.first(), Some(b' ' | b'\t'));
    (1..=10).contains(&digits) && is_blank && (method == b" NOTIFY" || method.trim_ascii() == b"NOTIFY")
}

/// The branch of a Via that holds one value without quotes.
fn branch_of(via: &[u8]) -> Option<&[u8]> {
    let (before, parameters) = via.split_at(find(b';', via)?);
    // What nearly all write: the branch is the only parameter.
    // Below the hyphen are commas, quotes and spaces, and nothing that a branch usually has.
    let is_odd = |c| (c == b';') | (c < b'-');
    match parameters.strip_prefix(b";branch=") {
        Some(branch) if !has_any(branch, is_odd) && !has_any(before, |c| (c == b',') | (c == b'"')) => Some(branch),
        _ => branch_among(via),
    }
}

/// The branch among all parameters of a Via that holds one value without quotes.
#[cold]
fn branch_among(via: &[u8]) -> Option<&[u8]> {
    if has_any(via, |c| (c == b',') | (c == b'"')) {
        return None;
    }
    let (mut rest, mut branch) = (via, None);
    loop {
        let end = find(b';', rest).unwrap_or(rest.len());
        if let Some((name, value)) = rest[..end].trim_ascii().split_first_chunk::<7>() {
            let is_branch = name == b"branch=" || name.eq_ignore_ascii_case(b"branch=");
            if is_branch && branch.replace(value).is_some() {
                return None;
            }
        }
        match rest.get(end + 1..) {
            Some(behind) => rest = behind,
            None => return branch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport=5060;branch=z9hG4bKn1.2.3\r\n\
                         From: <sip:a@example.org>;tag=1\r\nTo: <sip:b@example.org>;tag=2\r\nCall-ID: x@y\r\n\
                         CSeq: 7 NOTIFY\r\nX: y\r\nContent-Length: 0\r\n\r\n";

    fn read(text: &str) -> Option<(u16, &str)> {
        let found = success_to_notify(text.as_bytes())?;
        Some((found.status, std::str::from_utf8(found.branch).unwrap()))
    }

    #[test]
    fn plain_answers_are_read() {
        assert_eq!(read(PLAIN), Some((200, "z9hG4bKn1.2.3")));
        for (from, to) in [
            ("Via: ", "v:"),
            ("Via: ", "VIA : "),
            ("From: ", "f: "),
            ("To: ", "t :"),
            ("Call-ID: ", "i: "),
            ("Call-ID: ", "CALL-ID:"),
            ("CSeq: 7 NOTIFY", "cseq:7  NOTIFY "),
            (";branch=", "; Branch="),
            ("Content-Length: 0\r\n\r\n", "Content-Length: 4\r\n\r\nbody"),
            (";rport=5060", ""),
            (";rport=5060;branch=z9hG4bKn1.2.3", ";branch=z9hG4bKn1.2.3;rport=5060;received=192.0.2.7"),
            (";rport=5060;branch=z9hG4bKn1.2.3", ";branch=z9hG4bKn1.2.3 ;x"),
            (";rport=5060;branch=z9hG4bKn1.2.3", ";branch=z9hG4bKn1.2.3\t"),
        ] {
            assert_eq!(read(&PLAIN.replace(from, to)), Some((200, "z9hG4bKn1.2.3")), "{to}");
        }
        assert_eq!(read(&PLAIN.replace("200 OK", "202 ")), Some((202, "z9hG4bKn1.2.3")));
        assert_eq!(
            read(&PLAIN.replace("X: y", "Tolerated: x\r\nVia-Like: y\r\nContact: <sip:b>")).map(|r| r.0),
            Some(200)
        );
    }

    #[test]
    fn everything_else_is_left_to_the_host() {
        for (from, to) in [
            ("200 OK", "180 Ringing"),
            ("200 OK", "481 Gone"),
            ("200 OK", "2000 OK"),
            ("200 OK", "20x OK"),
            ("200 OK", "200"),
            ("SIP/2.0 200", "SIP/1.0 200"),
            ("SIP/2.0 200 OK", "NOTIFY sip:a@b SIP/2.0"),
            ("7 NOTIFY", "7 SUBSCRIBE"),
            ("7 NOTIFY", "NOTIFY"),
            ("7 NOTIFY", "7NOTIFY"),
            ("7 NOTIFY", "77777777777 NOTIFY"),
            ("X: y", " folded"),
            ("X: y", "Via: SIP/2.0/UDP other;branch=z9hG4bKx"),
            ("X: y", "CSeq: 8 NOTIFY"),
            ("X: y", "To: <sip:c>"),
            ("X: y", "i: another"),
            ("UDP 192", "UDP a;branch=z9hG4bKo, SIP/2.0/UDP 192"),
            (";rport=5060", ";branch=z9hG4bKo"),
            (";rport=5060;branch=z9hG4bKn1.2.3", ";branch=z9hG4bKn1.2.3;branch=z9hG4bKn1.2.3"),
            (";rport=5060;branch=z9hG4bKn1.2.3", ";branch=z9hG4bKn1.2.3, SIP/2.0/UDP a"),
            (";rport=5060", ";x=\"a-long-value-in-quotes\""),
            (";rport=5060", ";received=\"1\""),
            (";branch=z9hG4bKn1.2.3", ""),
            ("From: <sip:a@example.org>;tag=1\r\n", ""),
            ("To: <sip:b@example.org>;tag=2\r\n", ""),
            ("Call-ID: x@y\r\n", ""),
            ("CSeq: 7 NOTIFY\r\n", ""),
            ("X: y\r\n", "X: y\n"),
            ("0\r\n\r\n", "0\r\n"),
        ] {
            let text = PLAIN.replacen(from, to, 1);
            assert_ne!(text, PLAIN, "{from}");
            assert_eq!(read(&text), None, "{to}");
        }
        // However much of it has come.
        for end in 0..PLAIN.len() {
            assert_eq!(read(&PLAIN[..end]), None);
        }
    }
}
