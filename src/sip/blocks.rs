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

#[cfg(test)]
mod tests {
    use super::*;

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
