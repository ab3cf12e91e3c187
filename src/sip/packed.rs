//! Several strings in one block: a record is one allocation, private or shared.
use crate::shm_safe::{ShmSafe, shm_safe};

/// `N` strings one after the other in a block of type `B`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strings<const N: usize, B = Box<[u8]>> {
    ends: [u32; N],
    bytes: B,
}

shm_safe!([const N: usize, B: ShmSafe] Strings<N, B> { ends, bytes });

impl<const N: usize> Strings<N> {
    /// Packs strings.
    pub fn new(parts: &[&[u8]; N]) -> Self {
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        let mut ends = [0; N];
        for (end, part) in ends.iter_mut().zip(parts) {
            bytes.extend_from_slice(part);
            *end = bytes.len() as u32;
        }
        Strings { ends, bytes: bytes.into_boxed_slice() }
    }
}

impl<const N: usize, B: AsRef<[u8]>> Strings<N, B> {
    /// One of the strings.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.bytes.as_ref()[start..self.ends[index] as usize]
    }

    /// All of them.
    pub fn all(&self) -> [&[u8]; N] {
        std::array::from_fn(|index| self.get(index))
    }

    /// The same strings in a block made by `copy`.
    ///
    /// # Errors
    ///
    /// Fails when `copy` fails.
    pub fn map<C, E>(&self, copy: impl FnOnce(&[u8]) -> Result<C, E>) -> Result<Strings<N, C>, E> {
        Ok(Strings { ends: self.ends, bytes: copy(self.bytes.as_ref())? })
    }

    /// A private copy.
    pub fn to_private(&self) -> Strings<N> {
        Strings { ends: self.ends, bytes: self.bytes.as_ref().into() }
    }

    /// A private copy with some strings replaced.
    pub fn with(&self, changes: &[(usize, &[u8])]) -> Strings<N> {
        let mut parts = self.all();
        for (index, value) in changes {
            parts[*index] = value;
        }
        Strings::new(&parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_as_they_went_in() {
        let strings = Strings::new(&[b"a", b"", b"ccc"]);
        assert_eq!(strings.all(), [b"a".as_slice(), b"", b"ccc"]);
        assert_eq!(strings.with(&[(1, b"bb")]).all(), [b"a".as_slice(), b"bb", b"ccc"]);
        let shared: Result<_, ()> = strings.map(|bytes| Ok(bytes.to_vec()));
        assert_eq!(shared.unwrap().to_private(), strings);
    }
}
