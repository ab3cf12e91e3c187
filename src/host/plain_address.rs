//! SIP URIs and Contacts of the usual form, read in one pass. What is written in any other way is left to the host's
//! parser, which reads these alike.

/// A character of a plain user part.
const USER: u8 = 1;
/// A character of a host name or an IPv4 address.
const HOST: u8 = 2;
/// A character of plain parameters.
const PARAMETERS: u8 = 4;

static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'.' | b'-' => USER | HOST | PARAMETERS,
            b'_' | b'+' => USER | PARAMETERS,
            b'=' | b';' => PARAMETERS,
            character if character.is_ascii_alphanumeric() => USER | HOST | PARAMETERS,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// The characters of a kind that a text begins with, and what follows them.
#[inline]
fn run_of(kind: u8, text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|character| KINDS[usize::from(*character)] & kind == 0);
    text.split_at(end.unwrap_or(text.len()))
}

/// User and host of `sip:user@host`, with a port and parameters if it has them; `None`: it is not as plain as that.
pub(super) fn uri(uri: &[u8]) -> Option<(&[u8], &[u8])> {
    let (user, rest) = run_of(USER, uri.strip_prefix(b"sip:")?);
    let (host, rest) = run_of(HOST, rest.strip_prefix(b"@")?);
    let rest = match rest.strip_prefix(b":") {
        Some(rest) => {
            let digits = rest.iter().take_while(|digit| digit.is_ascii_digit()).count();
            // Of five digits not all are a port.
            (1..=4).contains(&digits).then(|| &rest[digits..]).or_else(|| five_digits(rest))?
        }
        None => rest,
    };
    // The host has its own mind about a name that begins with a mark, and about a last parameter without its value.
    let is_plain = match rest {
        [] => true,
        [b';', parameters @ ..] => run_of(PARAMETERS, parameters).1.is_empty() && !parameters.ends_with(b"="),
        _ => false,
    };
    let is_host = host.first().is_some_and(u8::is_ascii_alphanumeric);
    (is_plain && is_host && !user.is_empty()).then_some((user, host))
}

/// What follows a port of five digits.
fn five_digits(text: &[u8]) -> Option<&[u8]> {
    let (port, rest) = text.split_first_chunk::<5>()?;
    let is_port = port <= b"65535" && port.iter().all(u8::is_ascii_digit);
    (is_port && !rest.first().is_some_and(u8::is_ascii_digit)).then_some(rest)
}

/// The URI of a Contact that is nothing but `<uri>`; `None`: it is not as plain as that.
pub(super) fn contact(value: &[u8]) -> Option<&[u8]> {
    let address = value.trim_ascii().strip_prefix(b"<")?.strip_suffix(b">")?;
    uri(address).map(|_| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_uris_are_taken_apart() {
        for (text, user, host) in [
            ("sip:alice@example.org", "alice", "example.org"),
            ("sip:+49-30_1.x@192.0.2.1:5060", "+49-30_1.x", "192.0.2.1"),
            ("sip:a@b:65535;transport=tcp;lr", "a", "b"),
            ("sip:a@b;user=phone", "a", "b"),
        ] {
            assert_eq!(uri(text.as_bytes()), Some((user.as_bytes(), host.as_bytes())), "{text}");
        }
    }

    #[test]
    fn other_uris_are_left_to_the_host() {
        for text in [
            "",
            "sip:",
            "sip:example.org",
            "sip:@example.org",
            "sip:a@",
            "sip:a@:5060",
            "sip:a@.b",
            "sip:a@-b",
            "sip:a@b;maddr=",
            "sip:a@b:",
            "sip:a@b:;lr",
            "sip:a@b:65536",
            "sip:a@b:123456",
            "sip:a@b:5060x",
            "sip:a@b:50600x",
            "sip:a:secret@b",
            "sip:a;b@c",
            "sip:a%41@b",
            "sip:a@[::1]",
            "sip:a@b?subject=x",
            "sip:a@b;x=\"y\"",
            "sip:a@b;x@y",
            "sip:a b@c",
            "sip:a@b ",
            "sips:a@b",
            "SIP:a@b",
            "tel:+4930",
            "sip:\u{e4}@b",
        ] {
            assert!(uri(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_contact_is_plain_when_it_is_nothing_but_a_plain_uri() {
        assert_eq!(contact(b" <sip:a@b:5070> "), Some(&b"sip:a@b:5070"[..]));
        for text in ["sip:a@b", "<sip:a@b>;expires=5", "<sip:a@b>, <sip:c@d>", "\"a\" <sip:a@b>", "<>", "*", "<sip:a@b"]
        {
            assert!(contact(text.as_bytes()).is_none(), "{text}");
        }
    }
}
