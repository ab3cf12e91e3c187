//! What values and texts of a document say: the same name may be written with references, or over several lines (XML
//! 1.0 3.3.3, 4.6).
use std::borrow::Cow;

/// The value of an attribute: references are what they stand for, and each white space character is a space.
pub(crate) fn of_attribute(written: &[u8]) -> Cow<'_, [u8]> {
    if !written.iter().any(|byte| matches!(byte, b'&' | b'\t' | b'\r' | b'\n')) {
        return Cow::Borrowed(written);
    }
    let mut spaced = Vec::with_capacity(written.len());
    for (at, byte) in written.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && written[at - 1] == b'\r' => {}
            b'\t' | b'\r' | b'\n' => spaced.push(b' '),
            _ => spaced.push(*byte),
        }
    }
    Cow::Owned(of_text(&spaced).into_owned())
}

/// The text of an element: references are what they stand for. One that stands for nothing known stays as it is.
pub(crate) fn of_text(written: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'&', written).is_none() {
        return Cow::Borrowed(written);
    }
    let (mut said, mut rest) = (Vec::with_capacity(written.len()), written);
    while let Some(at) = memchr::memchr(b'&', rest) {
        said.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        match memchr::memchr(b';', rest).and_then(|end| character(&rest[1..end]).map(|character| (character, end))) {
            Some((character, end)) => {
                said.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[end + 1..];
            }
            None => {
                said.push(b'&');
                rest = &rest[1..];
            }
        }
    }
    said.extend_from_slice(rest);
    Cow::Owned(said)
}

/// The character that a reference of this name stands for.
fn character(name: &[u8]) -> Option<char> {
    let number = |digits: &[u8], radix| {
        let are_digits = digits.iter().all(|digit| char::from(*digit).is_digit(radix));
        let digits = std::str::from_utf8(digits).ok().filter(|_| are_digits)?;
        char::from_u32(u32::from_str_radix(digits, radix).ok()?)
    };
    match name {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        [b'#', b'x', digits @ ..] => number(digits, 16),
        [b'#', digits @ ..] => number(digits, 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_what_they_stand_for() {
        for (written, said) in [
            ("plain", "plain"),
            ("a&amp;b&#38;c&#x26;d", "a&b&c&d"),
            ("&lt;&gt;&quot;&apos;", "<>\"'"),
            ("&#x1F4DE;&#233;", "\u{1F4DE}\u{e9}"),
            ("&amp;amp;", "&amp;"),
            ("&other;&;&#;&#x;&#xD800;&#+38;&#99999999999;&amp", "&other;&;&#;&#x;&#xD800;&#+38;&#99999999999;&amp"),
        ] {
            assert_eq!(of_text(written.as_bytes()), said.as_bytes(), "{written}");
            assert_eq!(of_attribute(written.as_bytes()), said.as_bytes(), "{written}");
        }
    }

    #[test]
    fn white_space_in_a_value_is_a_space_unless_it_is_written_as_a_reference() {
        assert_eq!(of_attribute(b"a\r\nb\nc\td\re"), b"a b c d e".as_slice());
        assert_eq!(of_attribute(b"a&#10;b\n&#9;"), b"a\nb \t".as_slice());
        assert_eq!(of_text(b"a\nb"), b"a\nb".as_slice());
    }
}
