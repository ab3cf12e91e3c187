//! How the tables are cut into parts, so that workers seldom meet.

/// How many parts the tables have.
pub const SHARDS: usize = 128;

/// Room in each part from the start, so that the first thousands do not make them grow step by step.
pub const FIRST: usize = 14;

/// The shard that a hash belongs to.
pub fn index(hash: u64) -> usize {
    // The high bits: hashbrown uses the low ones and the top seven.
    (hash >> 40) as usize % SHARDS
}
