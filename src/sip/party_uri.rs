//! The URI of one side of a dialog, as From and To show it (RFC 3261 12.2.1.1).
use super::uri;

/// What is known of the URI: it is put together where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartyUri<'a> {
    /// All of it, perhaps in angle brackets and with a name before them.
    Whole(&'a [u8]),
    /// The user, which may be empty, and the host of a `sip:` URI.
    Address(&'a [u8], &'a [u8]),
    /// The number of a `tel:` URI.
    Number(&'a [u8]),
}

impl PartyUri<'_> {
    /// Appends the URI.
    #[inline]
    pub fn push(self, out: &mut Vec<u8>) {
        match self {
            PartyUri::Whole(whole) => out.extend_from_slice(whole),
            PartyUri::Address(user, host) => uri::push(out, user, host),
            PartyUri::Number(number) => [b"tel:", number].iter().for_each(|part| out.extend_from_slice(part)),
        }
    }

    /// Appends the URI in angle brackets. One that has them, with parameters behind them or none, is left as it is.
    #[inline]
    pub fn push_in_brackets(self, out: &mut Vec<u8>) {
        if let PartyUri::Whole(whole) = self {
            if has_brackets(whole) {
                return out.extend_from_slice(whole);
            }
        }
        out.push(b'<');
        self.push(out);
        out.push(b'>');
    }

    /// The URI by itself.
    pub fn to_vec(self) -> Vec<u8> {
        let mut out = Vec::new();
        self.push(&mut out);
        out
    }
}

/// Whether a URI ends with an angle bracket, or with parameters behind one.
fn has_brackets(uri: &[u8]) -> bool {
    match memchr::memrchr(b'>', uri) {
        Some(at) => uri.get(at + 1).is_none_or(|behind| *behind == b';'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_has_brackets_once() {
        for (uri, bare, bracketed) in [
            (PartyUri::Whole(b"sip:a@b"), "sip:a@b", "<sip:a@b>"),
            (PartyUri::Whole(b"<sip:a@b>"), "<sip:a@b>", "<sip:a@b>"),
            (PartyUri::Whole(b"A <sip:a@b>;x=1"), "A <sip:a@b>;x=1", "A <sip:a@b>;x=1"),
            (PartyUri::Whole(b"sip:a>x@b"), "sip:a>x@b", "<sip:a>x@b>"),
            (PartyUri::Address(b"a", b"b"), "sip:a@b", "<sip:a@b>"),
            (PartyUri::Address(b"", b"b"), "sip:b", "<sip:b>"),
            (PartyUri::Number(b"+49"), "tel:+49", "<tel:+49>"),
        ] {
            let mut out = Vec::new();
            uri.push_in_brackets(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), bracketed);
            assert_eq!(uri.to_vec(), bare.as_bytes());
        }
    }
}
