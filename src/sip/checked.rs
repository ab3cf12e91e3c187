//! Strings from outside, checked once: a value of these types can be written into a message, a document, a row, a log
//! line, an RPC answer without another look. Whatever comes from a request, another node, an RPC argument, a script,
//! another module or a table becomes one of them before it is used.
use super::byte_class::{kind, kinds_in};
use super::text;
use std::borrow::Cow;

/// Why a string is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// The string has more than this many bytes.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// A control character: NUL, CR, LF (a folded line), DEL.
    #[error("holds a control character")]
    Control,
    /// A character that ends such a string in a message.
    #[error("holds a character that is not allowed in it")]
    Separator,
}

/// The limits of what is taken, in bytes. They are wide for what real clients send and narrow enough that all strings
/// of a subscription together fit its block (`presence::subscription`).
pub mod most {
    /// The user part of a URI.
    pub const USER: usize = 512;
    /// The host part of a URI.
    pub const HOST: usize = 255;
    /// A whole URI: Contact, From, To.
    pub const URI: usize = 4096;
    /// Call-ID, tags.
    pub const WORD: usize = 1024;
    /// An event id, an entity tag, a reason.
    pub const TOKEN: usize = 256;
    /// A route set.
    pub const ROUTES: usize = 16_384;
}

/// Whether there is no control character in a text (C0 and DEL).
pub fn is_clean(text: &[u8]) -> bool {
    kinds_in(text) & kind::CONTROL == 0
}

/// A text of at most `most` bytes, none of them a control character or of the kinds that are `bad`.
fn bounded(text: &[u8], most: usize, bad: u8) -> Result<&[u8], Flaw> {
    match text.len() {
        0 => return Err(Flaw::Empty),
        length if length > most => return Err(Flaw::TooLong(most)),
        _ => {}
    }
    let found = kinds_in(text);
    if found & (bad | kind::CONTROL) == 0 {
        return Ok(text);
    }
    Err(if found & kind::CONTROL == 0 { Flaw::Separator } else { Flaw::Control })
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name<'a>(&'a [u8]);

        impl<'a> $name<'a> {
            /// The string's bytes.
            pub fn bytes(self) -> &'a [u8] {
                self.0
            }
        }
    };
}

text_type! {
    /// A `token` of RFC 3261 25.1: an event id, an entity tag, a reason.
    Token
}

impl<'a> Token<'a> {
    /// Checks a token.
    ///
    /// # Errors
    ///
    /// Fails when the text is empty, too long, or no token of RFC 3261 25.1.
    pub fn new(text: &'a [u8]) -> Result<Self, Flaw> {
        bounded(text, most::TOKEN, kind::NO_TOKEN).map(Token)
    }
}

text_type! {
    /// One word without white space: a Call-ID, a tag. Real clients put more into them than the grammar allows, but
    /// ASCII it is (RFC 3261 25.1).
    Word
}

impl<'a> Word<'a> {
    /// Checks a word.
    ///
    /// # Errors
    ///
    /// Fails when the text is empty, too long, or holds a space, a control character or a byte outside of ASCII.
    pub fn new(text: &'a [u8]) -> Result<Self, Flaw> {
        bounded(text, most::WORD, kind::SPACE | kind::HIGH).map(Word)
    }
}

text_type! {
    /// A whole URI as it may stand between `<` and `>` and in a request line. Its parts may be escaped or not.
    UriText
}

impl<'a> UriText<'a> {
    /// Checks a URI's characters and length; whether it can be taken apart is its parser's to say.
    ///
    /// # Errors
    ///
    /// Fails when the text is empty, too long, or holds a control character or one that ends a URI in a message.
    pub fn new(text: &'a [u8]) -> Result<Self, Flaw> {
        bounded(text, most::URI, kind::SPACE | kind::BRACKET).or_else(|flaw| UriText::quoted(text, flaw)).map(UriText)
    }

    /// Checks the URI of a Contact, which becomes that of a request line: a quoted value of a parameter may hold angle
    /// brackets there (`+sip.instance="<urn:uuid:...>"`).
    ///
    /// # Errors
    ///
    /// Fails as [`UriText::new`] does, but for such brackets.
    pub fn of_contact(text: &'a [u8]) -> Result<Self, Flaw> {
        UriText::new(text).or_else(|flaw| UriText::with_brackets(text, flaw).map(UriText))
    }

    /// The URI of a Contact to which requests of ours can be sent; `None` for other schemes and what is no URI.
    pub fn of_target(text: &'a [u8]) -> Option<Self> {
        UriText::of_contact(text).ok().filter(|_| super::uri::is_sip_uri(text))
    }

    /// A parameter with a quoted value: phones write them, and between `<` and `>` a quote ends nothing.
    #[cold]
    fn quoted(text: &[u8], flaw: Flaw) -> Result<&[u8], Flaw> {
        let is_whole = flaw == Flaw::Separator && !text.iter().any(|byte| matches!(byte, b' ' | b'<' | b'>'));
        if is_whole { Ok(text) } else { Err(flaw) }
    }

    #[cold]
    fn with_brackets(text: &[u8], flaw: Flaw) -> Result<&[u8], Flaw> {
        let mut is_quoted = false;
        let is_whole = text.iter().all(|byte| {
            is_quoted ^= *byte == b'"';
            // Where a quote ends that holds a backslash is not the same for all.
            !matches!(byte, b' ' | b'\\') && (is_quoted || !matches!(byte, b'<' | b'>'))
        });
        if flaw == Flaw::Separator && is_whole && !is_quoted { Ok(text) } else { Err(flaw) }
    }
}

text_type! {
    /// The host of a URI; empty where the scheme has none (tel).
    HostPart
}

impl<'a> HostPart<'a> {
    /// Checks a host.
    ///
    /// # Errors
    ///
    /// Fails when the text is too long, is not UTF-8, or holds a character that no host can have.
    #[inline]
    pub fn new(text: &'a [u8]) -> Result<Self, Flaw> {
        if text.len() <= most::HOST && kinds_in(text) & kind::NO_HOSTNAME == 0 {
            return Ok(HostPart(text));
        }
        HostPart::uncommon(text)
    }

    /// An IPv6 address, a name with other characters.
    #[cold]
    fn uncommon(text: &'a [u8]) -> Result<Self, Flaw> {
        let ends_it = |c: char| matches!(c, '<' | '>' | '"' | '@' | ';' | '?' | '/') || text::is_forbidden_in_xml(c);
        match std::str::from_utf8(bounded(text, most::HOST, kind::SPACE)?) {
            Ok(host) if !host.contains(ends_it) => Ok(HostPart(text)),
            _ => Err(Flaw::Separator),
        }
    }
}

/// The user part of a URI in the one form it has everywhere: hashed, compared, stored and shown (RFC 3261 19.1.4). What
/// needs no escape has none, what an XML document cannot hold is escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserPart<'a>(Cow<'a, [u8]>);

impl<'a> UserPart<'a> {
    /// Checks a user part and brings it into its one form; it may be empty.
    ///
    /// # Errors
    ///
    /// Fails when the text, or its one form, is too long, and when it holds a control character or a space.
    #[inline]
    pub fn new(text: &'a [u8]) -> Result<Self, Flaw> {
        let odd = kind::CONTROL | kind::SPACE | kind::BRACKET | kind::PERCENT | kind::HIGH;
        if text.len() <= most::USER && kinds_in(text) & odd == 0 {
            return Ok(UserPart(Cow::Borrowed(text)));
        }
        UserPart::uncommon(text)
    }

    /// A user part that may have to be written in another way.
    #[cold]
    fn uncommon(text: &'a [u8]) -> Result<Self, Flaw> {
        let one_form = canonical_user(bounded(text, most::USER, kind::SPACE)?);
        if one_form.len() > most::USER {
            return Err(Flaw::TooLong(most::USER));
        }
        Ok(UserPart(Cow::Owned(one_form)))
    }

    /// The string's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `unreserved` of RFC 3261 25.1: what means the same with and without an escape.
fn is_unreserved(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&c)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

fn canonical_user(user: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(user.len() + 8);
    for chunk in user.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(c) = rest.chars().next() {
            let bytes = rest.as_bytes();
            let escape = match (c, bytes.get(1).copied().and_then(hex), bytes.get(2).copied().and_then(hex)) {
                ('%', Some(high), Some(low)) => Some((high << 4) | low),
                _ => None,
            };
            match escape {
                Some(byte) if is_unreserved(byte) => out.push(byte),
                Some(byte) => push_escaped(&mut out, byte),
                // A percent sign that begins no escape is one itself.
                None if matches!(c, '%' | '<' | '>' | '"') || text::is_forbidden_in_xml(c) => {
                    bytes[..c.len_utf8()].iter().for_each(|byte| push_escaped(&mut out, *byte));
                }
                None => out.extend_from_slice(&bytes[..c.len_utf8()]),
            }
            rest = &rest[if escape.is_some() { 3 } else { c.len_utf8() }..];
        }
        chunk.invalid().iter().for_each(|byte| push_escaped(&mut out, *byte));
    }
    out
}

/// Whether two user parts name the same user.
pub fn same_user(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((UserPart::new(a), UserPart::new(b)), (Ok(a), Ok(b)) if a == b)
}

/// A header's text on one line: a fold is one space (RFC 3261 7.3.1). `None` when another control character is left.
pub fn unfolded(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if is_clean(text) {
        return Some(Cow::Borrowed(text));
    }
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first().copied() {
        let white = match rest {
            [b'\r', b'\n', b' ' | b'\t', ..] => 3,
            [b'\n', b' ' | b'\t', ..] => 2,
            [b'\t', ..] => 1,
            _ => 0,
        };
        out.push(if white > 0 { b' ' } else { first });
        rest = &rest[white.max(1)..];
    }
    is_clean(&out).then_some(Cow::Owned(out))
}

/// User and host of a URI that may be stored.
#[derive(Debug, Clone, Default)]
pub struct CheckedParts<'a> {
    /// The user.
    pub user: UserPart<'a>,
    /// The host.
    pub host: HostPart<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &[u8]) -> Vec<u8> {
        UserPart::new(text).unwrap().bytes().to_vec()
    }

    #[test]
    fn a_user_has_one_form() {
        assert_eq!(user(b"%62ob"), b"bob");
        assert_eq!(user(b"b%6f%62"), b"bob");
        assert_eq!(user(b"a%2fb%20c"), b"a%2Fb%20c");
        assert_eq!(user(b"50%"), b"50%25");
        assert_eq!(user(b"%zz%4"), b"%25zz%254");
        assert_eq!(user("m\u{fc}ller".as_bytes()), "m\u{fc}ller".as_bytes());
        assert_eq!(user(b"m\xfcller"), b"m%FCller");
        assert_eq!(user("a\u{fffe}b".as_bytes()), b"a%EF%BF%BEb");
        assert_eq!(user(b"a\"b<c>"), b"a%22b%3Cc%3E");
        assert!(same_user(b"%62ob", b"b%6Fb") && !same_user(b"bob", b"Bob"));
    }

    #[test]
    fn the_one_form_stays_as_it_is() {
        for text in ["%62ob", "a%2fb", "a\u{fffe}", "50%", "%25%36%32", "%%36", "%%36%32"] {
            let once = user(text.as_bytes());
            assert_eq!(user(&once), once, "{text}");
        }
    }

    #[test]
    fn control_characters_are_taken_nowhere() {
        for bad in [&b"a\rb"[..], b"a\nb", b"a\0b", b"a\r\n b", b"a\x7f", b"\x01"] {
            assert_eq!(Token::new(bad), Err(Flaw::Control));
            assert_eq!(Word::new(bad), Err(Flaw::Control));
            assert_eq!(UriText::new(bad), Err(Flaw::Control));
            assert_eq!(HostPart::new(bad), Err(Flaw::Control));
            assert_eq!(UserPart::new(bad), Err(Flaw::Control));
        }
    }

    #[test]
    fn each_has_its_bound() {
        let long = |length| vec![b'x'; length];
        assert!(Token::new(&long(most::TOKEN)).is_ok());
        assert_eq!(Token::new(&long(most::TOKEN + 1)), Err(Flaw::TooLong(most::TOKEN)));
        assert!(Word::new(&long(most::WORD)).is_ok());
        assert_eq!(Word::new(&long(most::WORD + 1)), Err(Flaw::TooLong(most::WORD)));
        assert!(UriText::new(&long(most::URI)).is_ok());
        assert_eq!(UriText::new(&long(most::URI + 1)), Err(Flaw::TooLong(most::URI)));
        assert!(HostPart::new(&long(most::HOST)).is_ok());
        assert_eq!(HostPart::new(&long(most::HOST + 1)), Err(Flaw::TooLong(most::HOST)));
        assert!(UserPart::new(&long(most::USER)).is_ok());
        assert_eq!(UserPart::new(&long(most::USER + 1)), Err(Flaw::TooLong(most::USER)));
        assert_eq!(UserPart::new(&[0xff; most::USER / 2]), Err(Flaw::TooLong(most::USER)));
    }

    #[test]
    fn separators_stay_out() {
        assert_eq!(Token::new(b"a;b"), Err(Flaw::Separator));
        assert_eq!(Word::new(b"a b"), Err(Flaw::Separator));
        assert_eq!(Word::new("caf\u{e9}".as_bytes()), Err(Flaw::Separator));
        assert_eq!(Word::new(b"caf\xe9"), Err(Flaw::Separator));
        assert_eq!(UriText::new(b"sip:a@b c"), Err(Flaw::Separator));
        assert_eq!(UriText::new(b"sip:a@b;x=\"c d\""), Err(Flaw::Separator));
        assert_eq!(UriText::new(b"sip:a@b;x=\"<c>\""), Err(Flaw::Separator));
        assert!(UriText::new(b"sip:a@b;x=\"c\"").is_ok());
        let instance = b"sip:a@b;+sip.instance=\"<urn:uuid:1>\";ob";
        assert!(UriText::new(instance).is_err() && UriText::of_contact(instance).is_ok());
        for bad in
            ["sip:a@b;x=<c>", "sip:a@b;x=\"c\">", "sip:a@b;x=\"<c", "sip:a@b;x=\"< >\"", "sip:a@b;x=\"\\\"<\"", ""]
        {
            assert!(UriText::of_contact(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(HostPart::new("h\u{fffe}".as_bytes()), Err(Flaw::Separator));
        assert!(HostPart::new(b"[2001:db8::1]").is_ok() && Word::new(b"a84b4c76e66710@pc33").is_ok());
    }

    #[test]
    fn folds_become_spaces() {
        assert_eq!(unfolded(b"<sip:a;lr>,\r\n\t<sip:b;lr>").as_deref(), Some(&b"<sip:a;lr>, <sip:b;lr>"[..]));
        assert_eq!(unfolded(b"a\rb"), None);
        assert_eq!(unfolded(b"a\r\nb"), None);
    }

    #[test]
    fn requests_are_sent_to_sip_uris() {
        for uri in ["sip:a@h", "SIPS:a@h;x=1", "sip:[::1]:5061", "sip:a@h;+sip.instance=\"<urn:uuid:1>\""] {
            assert_eq!(UriText::of_target(uri.as_bytes()).map(UriText::bytes), Some(uri.as_bytes()));
        }
        let long = format!("sip:a@h;x={}", "y".repeat(most::URI));
        for other in ["", "foo", "tel:+1", "urn:service:sos", "sip:", "sip:a@h\r\nX: y", &long] {
            assert_eq!(UriText::of_target(other.as_bytes()), None, "{other}");
        }
    }
}
