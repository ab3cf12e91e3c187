//! What two nodes hold, made small enough to compare: each record is a key and a digest of its state; ranges of keys
//! are summed up, so that a difference is found in a few steps however many records there are.
use super::clock::Stamp;
use super::succession::common_hash;
use super::version::Version;
use crate::shm_safe::shm_safe;

/// A record's key: the same on every node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub u64);

shm_safe!(RecordKey(number));

/// Makes all bits of a number depend on all others (splitmix64).
pub fn mixed(number: u64) -> u64 {
    let a = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

impl RecordKey {
    /// The key of a record with these names.
    pub fn of_names(names: &[&[u8]]) -> RecordKey {
        let hash = names.iter().fold(0, |hash: u64, name| mixed(hash.wrapping_add(1) ^ common_hash(&[name])));
        RecordKey(hash)
    }
}

/// A record as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestEntry {
    /// Which record.
    pub key: RecordKey,
    /// A digest of its state.
    pub state: u32,
}

/// The digest of a subscription's state.
pub fn state_of(version: &Version, ceiling: u32) -> u32 {
    let Version { word, epoch, stamp: Stamp(stamp), owner } = *version;
    let numbers = [u64::from(word), u64::from(epoch), stamp, owner, u64::from(ceiling)];
    numbers.iter().fold(0, |hash: u64, number| mixed(hash.wrapping_add(1) ^ mixed(*number))) as u32
}

/// All keys whose first `depth` bytes are those of `prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRange {
    /// How many bytes are fixed, at most [`DEEPEST`].
    pub depth: u8,
    /// The fixed bytes, in the upper bits; the others are 0.
    pub prefix: u64,
}

/// Ranges are not divided any further.
pub const DEEPEST: u8 = 6;

/// A range has this many parts.
pub const PARTS: usize = 256;

impl KeyRange {
    /// All keys.
    pub const ALL: KeyRange = KeyRange { depth: 0, prefix: 0 };

    /// Whether it is one that nodes speak of.
    pub fn is_valid(&self) -> bool {
        self.depth <= DEEPEST && self.prefix & !self.mask() == 0
    }

    fn mask(&self) -> u64 {
        if self.depth == 0 { 0 } else { u64::MAX << (64 - 8 * u32::from(self.depth)) }
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: RecordKey) -> bool {
        key.0 & self.mask() == self.prefix
    }

    /// In which of its parts a key is.
    pub fn part_of(&self, key: RecordKey) -> usize {
        ((key.0 >> (56 - 8 * u32::from(self.depth))) & 0xff) as usize
    }

    /// One of its parts.
    pub fn part(&self, part: usize) -> KeyRange {
        KeyRange { depth: self.depth + 1, prefix: self.prefix | ((part as u64) << (56 - 8 * u32::from(self.depth))) }
    }
}

/// A sum over records; equal sums mean equal records.
pub fn sum<'a>(entries: impl Iterator<Item = &'a DigestEntry>) -> u64 {
    entries.fold(0, |sum, entry| sum.wrapping_add(mixed(entry.key.0 ^ mixed(u64::from(entry.state) + 1))))
}

/// The sums of the parts of a range.
pub fn sums(range: KeyRange, entries: &[DigestEntry]) -> Vec<u64> {
    let mut sums = vec![0_u64; PARTS];
    for entry in entries {
        let sum_of_part = &mut sums[range.part_of(entry.key)];
        *sum_of_part = sum_of_part.wrapping_add(sum([entry].into_iter()));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinguished() {
        assert_ne!(RecordKey::of_names(&[b"ab", b"c"]), RecordKey::of_names(&[b"a", b"bc"]));
        assert_eq!(RecordKey::of_names(&[b"ab", b"c"]), RecordKey::of_names(&[b"ab", b"c"]));
    }

    #[test]
    fn a_key_is_in_one_part_of_each_range() {
        let key = RecordKey(0x1234_5678_9abc_def0);
        let mut range = KeyRange::ALL;
        for byte in [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc] {
            assert!(range.is_valid() && range.contains(key));
            assert_eq!(range.part_of(key), byte);
            assert!(!range.part(byte ^ 1).contains(key));
            range = range.part(byte);
        }
        assert!(range.is_valid() && range.contains(key) && range.depth == DEEPEST);
        assert!(!KeyRange { depth: 1, prefix: 1 }.is_valid() && !KeyRange { depth: 7, prefix: 0 }.is_valid());
    }

    #[test]
    fn a_difference_shows_in_the_sum() {
        let entry = |key: u64, state| DigestEntry { key: RecordKey(mixed(key)), state };
        let mine: Vec<DigestEntry> = (0..1000).map(|key| entry(key, 1)).collect();
        let mut other = mine.clone();
        other.reverse();
        assert_eq!(sum(mine.iter()), sum(other.iter()));
        other[7].state = 2;
        let (a, b) = (sums(KeyRange::ALL, &mine), sums(KeyRange::ALL, &other));
        assert_eq!(a.iter().zip(&b).filter(|(a, b)| a != b).count(), 1);
    }
}
