//! Several strings in one block: a record is one allocation, private or shared. Every record whose strings are packed
//! uses this type, and its bound is kept here: no string begins beyond what the type of its ends can count.
use crate::shm_safe::{ShmSafe, shm_safe};

/// The number that says where a string ends: its type bounds the length of all strings but the last one.
pub trait StringEnd: Copy {
    /// The last string begins at most this many bytes behind the first one.
    const LONGEST: usize;

    /// The end at this place, which is not beyond [`StringEnd::LONGEST`].
    fn of(place: usize) -> Self;

    /// The field's place.
    fn place(self) -> usize;
}

macro_rules! ends {
    ($($number:ty)*) => { $(
        impl StringEnd for $number {
            const LONGEST: usize = <$number>::MAX as usize;

            fn of(place: usize) -> $number {
                place as $number
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    )* };
}
ends! { u16 u32 }

/// `ENDS` strings and a last one, one after the other in a block of type `B`; the last one ends with the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strings<const ENDS: usize, B = Box<[u8]>, E = u32> {
    ends: [E; ENDS],
    bytes: B,
}

shm_safe!([const ENDS: usize, B: ShmSafe, E: ShmSafe] Strings<ENDS, B, E> { ends, bytes });

impl<const ENDS: usize, B, E: StringEnd> Strings<ENDS, B, E> {
    /// Packs `ENDS + 1` strings into a block that `join` makes of them. What does not fit in front of
    /// [`StringEnd::LONGEST`] is left out; the last string, whose end is that of the block, may be of any length.
    ///
    /// # Errors
    ///
    /// Fails when `join` fails.
    #[inline]
    pub fn joined<const N: usize, F>(
        strings: &[&[u8]; N],
        join: impl FnOnce(&[&[u8]]) -> Result<B, F>,
    ) -> Result<Self, F> {
        const { assert!(N == ENDS + 1, "one string more than ends") };
        let (mut fitting, mut ends, mut place) = (*strings, [E::of(0); ENDS], 0);
        for (index, string) in fitting.iter_mut().enumerate() {
            if index == ENDS {
                break;
            }
            if string.len() > E::LONGEST - place {
                *string = &string[..E::LONGEST - place];
            }
            place += string.len();
            ends[index] = E::of(place);
        }
        Ok(Strings { ends, bytes: join(&fitting)? })
    }

    /// The block that they lie in.
    pub fn into_block(self) -> B {
        self.bytes
    }
}

impl<const ENDS: usize, E: StringEnd> Strings<ENDS, Box<[u8]>, E> {
    /// Packs strings into private memory, see [`Strings::joined`].
    pub fn new<const N: usize>(strings: &[&[u8]; N]) -> Self {
        let packed: Result<Self, std::convert::Infallible> =
            Strings::joined(strings, |strings| Ok(in_one(strings).into()));
        match packed {
            Ok(packed) => packed,
            Err(never) => match never {},
        }
    }
}

/// Strings one behind the other.
pub fn in_one(strings: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(strings.iter().map(|string| string.len()).sum());
    for string in strings.iter().filter(|string| !string.is_empty()) {
        bytes.extend_from_slice(string);
    }
    bytes
}

impl<const ENDS: usize, B: AsRef<[u8]>, E: StringEnd> Strings<ENDS, B, E> {
    /// One of the strings.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        let bytes = self.bytes.as_ref();
        let start = if index == 0 { 0 } else { self.ends[index - 1].place() };
        let end = if index == ENDS { bytes.len() } else { self.ends[index].place() };
        &bytes[start..end]
    }

    /// Whether they are the strings of another block, each in its place.
    pub fn are_those_of<C: AsRef<[u8]>>(&self, other: &Strings<ENDS, C, E>) -> bool {
        let mut ends = self.ends.iter().zip(&other.ends);
        self.bytes.as_ref() == other.bytes.as_ref() && ends.all(|(one, two)| one.place() == two.place())
    }

    /// All of them.
    pub fn all<const N: usize>(&self) -> [&[u8]; N] {
        const { assert!(N == ENDS + 1, "one string more than ends") };
        std::array::from_fn(|index| self.get(index))
    }

    /// How many bytes all of them have.
    pub fn len(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// Whether all of them are empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same strings in a block made by `copy`.
    ///
    /// # Errors
    ///
    /// Fails when `copy` fails.
    pub fn map<C, F>(&self, copy: impl FnOnce(&[u8]) -> Result<C, F>) -> Result<Strings<ENDS, C, E>, F> {
        Ok(Strings { ends: self.ends, bytes: copy(self.bytes.as_ref())? })
    }

    /// A private copy.
    pub fn to_private(&self) -> Strings<ENDS, Box<[u8]>, E> {
        Strings { ends: self.ends, bytes: self.bytes.as_ref().into() }
    }

    /// A private copy with some of the `N` strings replaced.
    pub fn with<const N: usize>(&self, changes: &[(usize, &[u8])]) -> Strings<ENDS, Box<[u8]>, E> {
        let mut strings = self.all::<N>();
        for (index, value) in changes {
            strings[*index] = value;
        }
        Strings::new(&strings)
    }
}

/// `ENDS` texts in an entry of a fixed size; what is behind them is of no meaning.
impl<const ENDS: usize, const BYTES: usize> Strings<ENDS, [u8; BYTES], u16> {
    /// Empty texts.
    pub const NONE: Self = Strings { ends: [0; ENDS], bytes: [0; BYTES] };

    /// Takes these texts, each given in parts, in place of those there were. What is too long is cut, so that each of
    /// those that follow has its share.
    #[inline]
    pub fn set(&mut self, texts: [&[&[u8]]; ENDS]) {
        const { assert!(BYTES <= u16::LONGEST, "the type of the ends counts the bytes") };
        let mut end = 0;
        for (index, parts) in texts.into_iter().enumerate() {
            let most = end + (BYTES - end) / (ENDS - index);
            for part in parts {
                let part = &part[..part.len().min(most - end)];
                self.bytes[end..end + part.len()].copy_from_slice(part);
                end += part.len();
            }
            self.ends[index] = u16::of(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_as_they_went_in() {
        let strings = Strings::<2>::new(&[b"a", b"", b"ccc"]);
        assert_eq!(strings.all(), [b"a".as_slice(), b"", b"ccc"]);
        assert_eq!(strings.with::<3>(&[(1, b"bb")]).all(), [b"a".as_slice(), b"bb", b"ccc"]);
        let shared: Result<_, ()> = strings.map(|bytes| Ok(bytes.to_vec()));
        assert_eq!(shared.unwrap().to_private(), strings);
    }

    #[test]
    fn no_string_lies_beyond_what_its_end_can_count() {
        let long = vec![b'x'; 40_000];
        let strings = Strings::<2, Box<[u8]>, u16>::new(&[&long, &long, &long]);
        assert_eq!(strings.all().map(<[u8]>::len), [40_000, 25_535, 40_000]);
    }

    fn texts<const N: usize>(texts: [&[&[u8]]; N]) -> Strings<N, [u8; 12], u16> {
        let mut packed = Strings::NONE;
        // What was there before leaves nothing behind.
        packed.set([&[b"xxxxxxxxxxxx".as_slice()]; N]);
        packed.set(texts);
        packed
    }

    #[test]
    fn short_texts_are_kept_and_long_ones_cut() {
        let texts = texts([&[b"a", b"b"], &[], &[b"0123456789ab"]]);
        assert_eq!([0, 1, 2].map(|n| texts.get(n)), [&b"ab"[..], b"", b"0123456789"]);
    }

    #[test]
    fn a_long_text_leaves_the_others_their_share() {
        let texts = texts([&[b"aaaaaaaa"], &[b"bbb", b"bbb"], &[b"cccccccc"]]);
        assert_eq!([0, 1, 2].map(|n| texts.get(n)), [&b"aaaa"[..], b"bbbb", b"cccc"]);
    }
}
