//! Numbers in few characters: digits to the base of 64, as RFC 4648 5 has them, the highest first.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How many digits the largest number has.
pub const LONGEST: usize = 11;

/// A number without leading zeros; 0 is `A`.
pub fn short(number: u64) -> String {
    let text = whole(number);
    let zeros = text.bytes().take_while(|digit| *digit == b'A').count().min(LONGEST - 1);
    text[zeros..].to_string()
}

/// A number in [`LONGEST`] digits.
pub fn whole(number: u64) -> String {
    (0..LONGEST).rev().map(|at| char::from(DIGITS[(number >> (6 * at)) as usize & 63])).collect()
}

/// Reads a number; `None` for what is none, or too large.
pub fn read(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    text.bytes().try_fold(0_u64, |number, digit| {
        let digit = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        number.checked_mul(64)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in [0, 1, 63, 64, 12345, u64::from(u32::MAX), 1 << 60, u64::MAX - 1, u64::MAX] {
            assert_eq!((read(&short(number)), read(&whole(number))), (Some(number), Some(number)));
        }
        assert_eq!((short(0).as_str(), short(64).as_str(), whole(1).len()), ("A", "BA", LONGEST));
        for bad in ["", "AAAAAAAAAAAA", "Q__________", "a b", "=", "\u{e9}"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read("P__________"), Some(u64::MAX));
    }
}
