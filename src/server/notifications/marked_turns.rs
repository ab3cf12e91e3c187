//! The turns of the notifier processes for which this node has marked rows: these are served at once, and not when
//! their time comes.
use crate::shm_safe::shm_safe;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many turns are known; those beyond are served when their time comes.
pub const KNOWN: usize = 4_096;

/// One bit for each turn of all notifier processes.
pub struct MarkedTurns {
    words: [AtomicU64; KNOWN / 64],
}

shm_safe!(MarkedTurns { words });

impl Default for MarkedTurns {
    /// None is marked.
    fn default() -> MarkedTurns {
        MarkedTurns { words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl MarkedTurns {
    /// Rows were marked for this turn.
    pub fn note(&self, turn: u64) {
        if let Some(word) = self.words.get((turn / 64) as usize) {
            word.fetch_or(1 << (turn % 64), Ordering::AcqRel);
        }
    }

    /// Takes those of one process that are marked.
    pub fn take(&self, turns: Range<usize>) -> Vec<usize> {
        let mut taken = Vec::new();
        for (index, word) in self.words.iter().enumerate() {
            let first = index * 64;
            let own =
                (turns.start.max(first)..turns.end.min(first + 64)).fold(0u64, |own, turn| own | (1 << (turn - first)));
            if word.load(Ordering::Relaxed) & own == 0 {
                continue;
            }
            let mut marked = word.fetch_and(!own, Ordering::AcqRel) & own;
            while marked != 0 {
                taken.push(first + marked.trailing_zeros() as usize);
                marked &= marked - 1;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_takes_its_own_once() {
        let turns = MarkedTurns::default();
        for turn in [0, 49, 50, 63, 64, 99, 100, KNOWN as u64 - 1, KNOWN as u64, u64::MAX] {
            turns.note(turn);
            turns.note(turn);
        }
        assert_eq!(turns.take(50..100), [50, 63, 64, 99]);
        assert!(turns.take(50..100).is_empty());
        assert_eq!(turns.take(0..50), [0, 49]);
        assert_eq!(turns.take(100..KNOWN + 500), [100, KNOWN - 1]);
        assert!(turns.take(0..0).is_empty());
    }
}
