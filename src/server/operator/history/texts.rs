//! Several texts in one entry of a fixed size.
use crate::shm_safe::shm_safe;

/// `N` texts in `BYTES` bytes: what is too long is cut, so that each of those that follow has its share.
#[derive(Clone, Copy)]
pub struct Texts<const N: usize, const BYTES: usize> {
    ends: [u16; N],
    bytes: [u8; BYTES],
}

shm_safe!([const N: usize, const BYTES: usize] Texts<N, BYTES> { ends, bytes });

impl<const N: usize, const BYTES: usize> Texts<N, BYTES> {
    /// The texts, each given in parts.
    #[inline]
    pub fn of(texts: [&[&[u8]]; N]) -> Texts<N, BYTES> {
        let mut packed = Texts { ends: [0; N], bytes: [0; BYTES] };
        let mut end = 0;
        for (index, parts) in texts.into_iter().enumerate() {
            let most = end + (BYTES - end) / (N - index);
            for part in parts {
                let part = &part[..part.len().min(most - end)];
                packed.bytes[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            packed.ends[index] = end as u16;
        }
        packed
    }

    /// One of them.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { usize::from(self.ends[index - 1]) };
        &self.bytes[start..usize::from(self.ends[index])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_kept_and_long_ones_cut() {
        let texts: Texts<3, 12> = Texts::of([&[b"a", b"b"], &[], &[b"0123456789ab"]]);
        assert_eq!([0, 1, 2].map(|n| texts.get(n)), [&b"ab"[..], b"", b"0123456789"]);
    }

    #[test]
    fn a_long_text_leaves_the_others_their_share() {
        let texts: Texts<3, 12> = Texts::of([&[b"aaaaaaaa"], &[b"bbb", b"bbb"], &[b"cccccccc"]]);
        assert_eq!([0, 1, 2].map(|n| texts.get(n)), [&b"aaaa"[..], b"bbbb", b"cccc"]);
    }
}
