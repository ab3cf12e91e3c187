//! Numbers and escaped text of header blocks and documents: written onto a byte buffer, and read.

/// A number written out; `None` for anything else.
pub fn parsed<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The number a text begins with, as large as can be counted; `None` when it begins with no digit.
pub fn leading_number(text: &[u8]) -> Option<i64> {
    let digits = text.iter().take_while(|c| c.is_ascii_digit());
    text.first()?
        .is_ascii_digit()
        .then(|| digits.fold(0, |number: i64, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0'))))
}

/// Where a byte is first found outside of quoted strings, as the host's parser of addresses looks for it.
pub fn unquoted(text: &[u8], wanted: u8) -> Option<usize> {
    if memchr::memchr(b'"', text).is_none() {
        return memchr::memchr(wanted, text);
    }
    let (mut is_quoted, mut before) = (false, 0);
    text.iter().position(|byte| {
        is_quoted ^= *byte == b'"' && !(is_quoted && before == b'\\');
        before = *byte;
        !is_quoted && *byte == wanted
    })
}

/// Appends the decimal digits of `number`.
pub fn push_number(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_unsigned(out, number.unsigned_abs());
}

/// Nearly all numbers have eight digits at most: these are written at once, and the zeros before the first one left
/// out.
#[inline]
fn push_unsigned(out: &mut Vec<u8>, number: u64) {
    if number >= 100_000_000 {
        push_unsigned_long(out, number);
        return;
    }
    let digits = eight_digits(number as u32);
    // The last one is always written.
    let zeros = (digits | (1 << 56)).trailing_zeros() / 8;
    let behind = out.len() + 8 - zeros as usize;
    out.extend_from_slice(&((digits | ZEROS) >> (8 * zeros)).to_le_bytes());
    out.truncate(behind);
}

#[cold]
fn push_unsigned_long(out: &mut Vec<u8>, number: u64) {
    push_unsigned(out, number / 100_000_000);
    out.extend_from_slice(&(eight_digits((number % 100_000_000) as u32) | ZEROS).to_le_bytes());
}

/// Eight characters `0`.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight decimal digits of a number below 100,000,000, a byte each, the first one lowest: it is halved three times,
/// all halves at once. To divide by 100 or 10 is to multiply and shift, as long as the number has four digits or two.
#[inline]
fn eight_digits(number: u32) -> u64 {
    let fours = u64::from(number / 10_000) | (u64::from(number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}

/// The sixteen hexadecimal digits of a number, in lower case.
#[inline]
pub fn hex_digits(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&hex_digits_of_half((number >> 32) as u32));
    digits[8..].copy_from_slice(&hex_digits_of_half(number as u32));
    digits
}

/// The eight hexadecimal digits of a number, all at a time: each half of a byte is moved into a byte of its own.
#[inline]
pub fn hex_digits_of_half(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut spread = u64::from(number);
    spread = (spread | (spread << 16)) & 0x0000_ffff_0000_ffff;
    spread = (spread | (spread << 8)) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | (spread << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 in each byte above 9: those become letters.
    let letters = ((spread + 6 * ONES) >> 4) & ONES;
    (spread + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// Appends a number in hexadecimal digits, in lower case: at least `least` of them, at most 16.
#[inline]
pub fn push_hex(out: &mut Vec<u8>, number: u64, least: usize) {
    let needed = (64 - number.leading_zeros() as usize).div_ceil(4).max(least).clamp(1, 16);
    out.extend_from_slice(&hex_digits(number)[16 - needed..]);
}

/// Whether XML 1.0 has no place for a character, or shows it to nobody (C1 controls).
pub fn is_forbidden_in_xml(c: char) -> bool {
    (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Appends `text` as XML content or attribute value. What XML 1.0 forbids, and what is not UTF-8, becomes U+FFFD.
pub fn push_xml(out: &mut Vec<u8>, text: &[u8]) {
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '&' => out.extend_from_slice(b"&amp;"),
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '"' => out.extend_from_slice(b"&quot;"),
            c if is_forbidden_in_xml(c) => out.extend_from_slice("\u{fffd}".as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Bytes in base64 (RFC 4648 4), padded.
pub fn to_base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - group.len()));
        let digit = |at: usize| DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
        out.extend((0..4).map(|at| if at <= group.len() { digit(at) } else { b'=' }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_passed_over() {
        for (text, at) in [
            ("a<b", Some(1)),
            ("\"<\"<", Some(3)),
            ("\"<", None),
            ("\"\\\"<\"<", Some(5)),
            ("\\\"<\"<", Some(4)),
            ("", None),
        ] {
            assert_eq!(unquoted(text.as_bytes(), b'<'), at, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        let around = |n: i64| [n - 1, n, n + 1];
        let powers = (0..19).flat_map(|zeros| around(10_i64.pow(zeros)));
        let every = (0..10_000).chain((0..10_000).map(|n| n * 10_000 + 9_999)).chain((0..100).map(|n| n * 12_345_678));
        for number in powers.chain(every).chain([i64::MAX, i64::MIN]).flat_map(|n| [n, n.wrapping_neg()]) {
            let mut out = b"x".to_vec();
            push_number(&mut out, number);
            assert_eq!(out, format!("x{number}").as_bytes());
        }
    }

    #[test]
    fn numbers_are_written_in_hexadecimal() {
        for number in [0, 1, 0xf, 0x10, 0xdead_beef, u64::MAX] {
            for least in [0, 1, 6, 13, 16] {
                let mut out = b"x".to_vec();
                push_hex(&mut out, number, least);
                assert_eq!(out, format!("x{number:0least$x}").as_bytes());
            }
        }
    }

    #[test]
    fn numbers_are_read_up_to_the_largest() {
        let cases: [(&[u8], Option<i64>); 5] =
            [(b"60;x", Some(60)), (b"", None), (b"x", None), (b"-1", None), (b"9223372036854775808", Some(i64::MAX))];
        for (text, number) in cases {
            assert_eq!(leading_number(text), number);
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors = ["f", "Zg==", "fo", "Zm8=", "foo", "Zm9v", "foob", "Zm9vYg==", "foobar", "Zm9vYmFy"];
        for pair in vectors.chunks(2) {
            assert_eq!(to_base64(pair[0].as_bytes()), pair[1].as_bytes());
        }
        assert_eq!((to_base64(b""), to_base64(&[0xfb, 0xff])), (Vec::new(), b"+/8=".to_vec()));
    }

    #[test]
    fn xml_is_escaped() {
        let mut out = Vec::new();
        push_xml(&mut out, b"a<b>&\"c\x01\xff\xef\xbf\xbe");
        assert_eq!(String::from_utf8(out).unwrap(), "a&lt;b&gt;&amp;&quot;c\u{fffd}\u{fffd}\u{fffd}");
    }
}
