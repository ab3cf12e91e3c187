//! Documents whose only fault is that what wrote them forgot to escape: an ampersand that begins no reference, or a `<`
//! in the value of an attribute (XML 1.0 2.4, 3.1). URIs, Call-IDs and User-Agents may have both.

/// References that every document knows (XML 1.0 4.6).
const KNOWN: [&[u8]; 5] = [b"&lt;", b"&gt;", b"&amp;", b"&quot;", b"&apos;"];

/// A reference to a character has no more digits.
const DIGITS: usize = 8;

/// The document with what is bare in it escaped; `None` where nothing is, or where the document has places in which an
/// ampersand stands for itself (CDATA, comments) or may begin a reference of its own (document types).
pub fn escaped(document: &[u8]) -> Option<Vec<u8>> {
    if memchr::memchr2(b'&', b'<', document).is_none() || memchr::memmem::find(document, b"<!").is_some() {
        return None;
    }
    let mut out = Vec::with_capacity(document.len() + 64);
    let mut place = MarkupPlace::Text;
    for (at, c) in document.iter().copied().enumerate() {
        place = match (place, c) {
            (MarkupPlace::Text, b'<') => MarkupPlace::Tag,
            (MarkupPlace::Tag, b'>') => MarkupPlace::Text,
            (MarkupPlace::Tag, b'"' | b'\'') => MarkupPlace::Value(c),
            (MarkupPlace::Value(quote), c) if c == quote => MarkupPlace::Tag,
            (place, _) => place,
        };
        match (place, c) {
            (_, b'&') if !is_reference(&document[at..]) => out.extend_from_slice(b"&amp;"),
            (MarkupPlace::Value(_), b'<') => out.extend_from_slice(b"&lt;"),
            _ => out.push(c),
        }
    }
    (out.len() > document.len()).then_some(out)
}

/// Where in a document a character stands.
#[derive(Clone, Copy)]
enum MarkupPlace {
    Text,
    Tag,
    /// The value of an attribute, up to this quotation mark.
    Value(u8),
}

/// Whether a text begins with a reference to a character, or to one of the entities that every document knows.
fn is_reference(text: &[u8]) -> bool {
    let is_number = |digits: &[u8], is_digit: fn(&u8) -> bool| {
        let count = digits.iter().take(DIGITS).take_while(|c| is_digit(c)).count();
        count > 0 && digits.get(count) == Some(&b';')
    };
    KNOWN.iter().any(|known| text.starts_with(known))
        || text.strip_prefix(b"&#x").is_some_and(|digits| is_number(digits, u8::is_ascii_hexdigit))
        || text.strip_prefix(b"&#").is_some_and(|digits| is_number(digits, u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bare_is_escaped() {
        for (document, wanted) in [
            ("<a>b&c</a>", Some("<a>b&amp;c</a>")),
            ("<a b='&&amp;'/>", Some("<a b='&amp;&amp;'/>")),
            (
                "<a b=\"sip:x&y@z?a=<b>\">&#38;&#x26;&lt;&</a>",
                Some("<a b=\"sip:x&amp;y@z?a=&lt;b>\">&#38;&#x26;&lt;&amp;</a>"),
            ),
            ("<a b='\"<'>it's &x;</a>", Some("<a b='\"&lt;'>it's &amp;x;</a>")),
            ("<a>&#;&#x;&#123456789;</a>", Some("<a>&amp;#;&amp;#x;&amp;#123456789;</a>")),
            ("<a>&amp;&#9;</a>", None),
            ("<a", None),
            ("", None),
            ("<a><![CDATA[&]]></a>", None),
            ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", None),
            ("<a><!-- & --></a>", None),
        ] {
            assert_eq!(escaped(document.as_bytes()).map(|out| String::from_utf8(out).unwrap()).as_deref(), wanted);
        }
    }
}
