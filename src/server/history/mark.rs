//! A cheap hash: it distinguishes dialogs and presentities within the history, where a collision costs nothing but a
//! wrong line in a list.

/// A number that stands for some strings.
#[inline]
pub(crate) fn mark(parts: &[&[u8]]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = FACTOR;
    for part in parts {
        let mut chunks = part.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
            state = (state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
        }
        let length = part.len() as u64;
        let rest = match part.last_chunk::<8>() {
            // Some of these bytes were taken before: that does no harm.
            Some(last) => u64::from_le_bytes(*last) ^ length.wrapping_mul(FACTOR),
            None => part.iter().fold(length, |word, byte| (word << 8) | u64::from(*byte)),
        };
        state = (state.rotate_left(5) ^ rest).wrapping_mul(FACTOR);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn different_strings_have_different_marks() {
        let names = (0..10_000).map(|n| format!("sip:user{n}@example.org"));
        let marks: BTreeSet<u64> =
            names.flat_map(|name| [mark(&[name.as_bytes()]), mark(&[b"x", name.as_bytes()])]).collect();
        assert_eq!(marks.len(), 20_000);
        assert_ne!(mark(&[b"ab", b"c"]), mark(&[b"a", b"bc"]));
        // The parts of the history are chosen by the high bits.
        let parts: BTreeSet<u64> = marks.iter().map(|mark| (mark >> 32) % 16).collect();
        assert_eq!(parts.len(), 16);
    }
}
