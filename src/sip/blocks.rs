//! Questions about all bytes of a text, asked of blocks without branches: the compiler compares many bytes at once.

const BLOCK: usize = 16;

/// Whether a text has a byte that `is_meant`, which should be made of comparisons without branches.
#[inline(always)]
pub fn has_any(text: &[u8], is_meant: impl Fn(u8) -> bool + Copy) -> bool {
    match (text.last_chunk::<BLOCK>(), text.first_chunk::<8>(), text.last_chunk::<8>()) {
        // The last block overlaps the one before it.
        (Some(last), ..) => {
            let blocks = text.chunks_exact(BLOCK).filter_map(|block| block.first_chunk::<BLOCK>());
            in_block(last, is_meant) || blocks.into_iter().any(|block| in_block(block, is_meant))
        }
        (_, Some(first), Some(last)) => in_block(first, is_meant) || in_block(last, is_meant),
        _ => text.iter().any(|c| is_meant(*c)),
    }
}

#[inline(always)]
fn in_block<const N: usize>(block: &[u8; N], is_meant: impl Fn(u8) -> bool) -> bool {
    block.iter().fold(false, |seen, c| seen | is_meant(*c))
}

/// Where a byte stands first in a text. It is for short ones, where choosing among the kinds of processors would cost
/// more than looking.
#[inline(always)]
pub fn find(byte: u8, text: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(finder) = memchr::arch::x86_64::sse2::memchr::One::new(byte) {
        return finder.find(text);
    }
    memchr::memchr(byte, text)
}

/// Whether a byte stands in a text an odd number of times: eight bytes are compared at once, and the differences added
/// up without carrying.
#[inline]
pub fn is_odd_count(text: &[u8], byte: u8) -> bool {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let pattern = u64::from_ne_bytes([byte; 8]);
    // The highest bit of each byte: whether it is another one.
    let others = |part: [u8; 8]| {
        let difference = u64::from_ne_bytes(part) ^ pattern;
        (((difference & LOW) + LOW) | difference) & !LOW
    };
    let parts = text.chunks_exact(8);
    let rest = parts.remainder();
    let sum = parts.filter_map(<[u8]>::first_chunk).fold(0, |sum, part| sum ^ others(*part));
    let mut last = [!byte; 8];
    rest.iter().zip(&mut last).for_each(|(c, place)| *place = *c);
    let sum: u64 = sum ^ others(last);
    // Eight bytes less those that are others.
    sum.count_ones() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_counts_are_odd_wherever_the_bytes_stand() {
        for length in 0..50 {
            let mut text = vec![b'x'; length];
            for at in 0..length {
                assert_eq!(is_odd_count(&text, b'"'), at % 2 == 1, "{at} of {length}");
                text[at] = b'"';
            }
            assert_eq!(is_odd_count(&text, b'"'), length % 2 == 1);
        }
    }

    #[test]
    fn the_first_of_two_bytes_is_found() {
        for length in 0..150 {
            let mut text = vec![b'x'; length];
            assert_eq!(find(b'"', &text), None);
            for at in (0..length).rev() {
                text[at] = b'"';
                assert_eq!(find(b'"', &text), Some(at), "{at} of {length}");
            }
        }
    }

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for length in 0..70 {
            let mut text = vec![b'x'; length];
            assert!(!has_any(&text, |c| c == b'"'));
            for at in 0..length {
                text[at] = b'"';
                assert!(has_any(&text, |c| c == b'"'), "{at} of {length}");
                text[at] = b'x';
            }
        }
    }
}
