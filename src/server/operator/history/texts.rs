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
    /// Empty texts.
    pub const NONE: Texts<N, BYTES> = Texts { ends: [0; N], bytes: [0; BYTES] };

    /// Takes these texts, each given in parts, in place of those there were.
    #[inline]
    pub fn set(&mut self, texts: [&[&[u8]]; N]) {
        let mut end = 0;
        for (index, parts) in texts.into_iter().enumerate() {
            let most = end + (BYTES - end) / (N - index);
            for part in parts {
                let part = &part[..part.len().min(most - end)];
                self.bytes[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            self.ends[index] = end as u16;
        }
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

    fn packed<const N: usize>(texts: [&[&[u8]]; N]) -> Texts<N, 12> {
        let mut packed = Texts::NONE;
        // What was there before leaves nothing behind.
        packed.set([&[b"xxxxxxxxxxxx".as_slice()]; N]);
        packed.set(texts);
        packed
    }

    #[test]
    fn short_texts_are_kept_and_long_ones_cut() {
        let texts = packed([&[b"a", b"b"], &[], &[b"0123456789ab"]]);
        assert_eq!([0, 1, 2].map(|n| texts.get(n)), [&b"ab"[..], b"", b"0123456789"]);
    }

    #[test]
    fn a_long_text_leaves_the_others_their_share() {
        let texts = packed([&[b"aaaaaaaa"], &[b"bbb", b"bbb"], &[b"cccccccc"]]);
        assert_eq!([0, 1, 2].map(|n| texts.get(n)), [&b"aaaa"[..], b"bbbb", b"cccc"]);
    }
}
