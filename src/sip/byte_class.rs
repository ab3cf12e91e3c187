//! What a byte may be part of: one table, read once for each byte of a string from outside.

/// Kinds of bytes, as bits.
pub mod kind {
    /// A control character (C0, DEL).
    pub const CONTROL: u8 = 1;
    /// A space.
    pub const SPACE: u8 = 2;
    /// `<`, `>`, `"`: what ends a URI in an address header.
    pub const BRACKET: u8 = 4;
    /// `%`.
    pub const PERCENT: u8 = 8;
    /// No ASCII.
    pub const HIGH: u8 = 16;
    /// No character of a `token` (RFC 3261 25.1).
    pub const NO_TOKEN: u8 = 32;
    /// No character of a host name or an IPv4 address.
    pub const NO_HOSTNAME: u8 = 64;
    /// NUL.
    pub const NUL: u8 = 128;
}

const fn kinds_of(byte: u8) -> u8 {
    let mut kinds = 0;
    if byte < 0x20 || byte == 0x7f {
        kinds |= kind::CONTROL;
    }
    kinds |= match byte {
        0 => kind::NUL,
        b' ' => kind::SPACE,
        b'<' | b'>' | b'"' => kind::BRACKET,
        b'%' => kind::PERCENT,
        0x80.. => kind::HIGH,
        _ => 0,
    };
    let is_token_mark = matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
    if !byte.is_ascii_alphanumeric() && !is_token_mark {
        kinds |= kind::NO_TOKEN;
    }
    if !(byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-') {
        kinds |= kind::NO_HOSTNAME;
    }
    kinds
}

static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = kinds_of(byte as u8);
        byte += 1;
    }
    kinds
};

/// All kinds of bytes that are found in a text.
#[inline]
pub fn kinds_in(text: &[u8]) -> u8 {
    match (text.last_chunk::<8>(), text.first_chunk::<4>(), text.last_chunk::<4>()) {
        // Some of the last bytes may be looked at twice: their kinds are the same.
        (Some(last), ..) => {
            text[..text.len() - 1].chunks_exact(8).fold(kinds_of_all(last), |kinds, part| kinds | kinds_of_all(part))
        }
        (_, Some(first), Some(last)) => kinds_of_all(first) | kinds_of_all(last),
        _ => kinds_of_all(text),
    }
}

#[inline(always)]
fn kinds_of_all(part: &[u8]) -> u8 {
    part.iter().fold(0, |kinds, byte| kinds | KINDS[usize::from(*byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_kinds() {
        for byte in 0..=u8::MAX {
            let kinds = kinds_in(&[b'a', byte, b'b']);
            let has = |kind| kinds & kind != 0;
            assert_eq!(has(kind::CONTROL), byte.is_ascii_control());
            assert_eq!(has(kind::SPACE), byte == b' ');
            assert_eq!(has(kind::BRACKET), b"<>\"".contains(&byte));
            assert_eq!(has(kind::PERCENT), byte == b'%');
            assert_eq!(has(kind::HIGH), !byte.is_ascii());
            assert_eq!(has(kind::NO_TOKEN), !(byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)));
            assert_eq!(has(kind::NO_HOSTNAME), !(byte.is_ascii_alphanumeric() || b".-".contains(&byte)));
            assert_eq!(has(kind::NUL), byte == 0);
        }
        assert_eq!(kinds_in(b""), 0);
    }

    #[test]
    fn every_place_is_looked_at() {
        for length in 1..40 {
            for place in 0..length {
                let mut text = vec![b'a'; length];
                text[place] = b' ';
                assert_eq!(kinds_in(&text), kinds_in(b" "), "{place} of {length}");
            }
        }
    }
}
