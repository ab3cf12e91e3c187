//! Differences between two nodes that exchanging the record does not settle: one of them cannot take it, or neither
//! changes its mind. They are tried more and more seldom, so that nodes do not send each other the same records for
//! ever.
use super::digest::mixed;
use crate::shm_safe::shm_safe;
use crate::time::{Instant, Millis};

/// How often the same difference is tried with each comparison.
const TRIES: u8 = 8;

/// How long it is left alone then; twice as long after each further try.
const FIRST_WAIT: Millis = Millis(10_000);

/// The longest time between two tries.
const LONGEST_WAIT: Millis = Millis(60_000);

/// How many differences are remembered. Each has one place; one that takes the place of another counts as new, and so
/// does the other when it comes back.
pub const MOST_DIFFERENCES: usize = 1024;

/// What was seen of one difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Difference {
    /// Whose record it is, and what both hold of it.
    what: u64,
    tries: u8,
    /// When it is tried again; `None`: with the next comparison.
    next: Option<Instant>,
}

shm_safe!(Difference { what, tries, next });

/// What is done about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeVerdict {
    /// The record is exchanged.
    Exchange,
    /// The record is exchanged for the last time in a row.
    GiveUp,
    /// The record is left alone for now.
    LeaveAlone,
}

/// A difference was found: `which` names node and record, `states` what both hold. `list` has [`MOST_DIFFERENCES`]
/// places.
pub fn judge(list: &mut [Difference], which: u64, states: u64, now: Instant) -> ExchangeVerdict {
    let (at, what) = (mixed(which) as usize % list.len().max(1), mixed(which) ^ states);
    let Some(known) = list.get_mut(at) else { return ExchangeVerdict::Exchange };
    if known.what != what {
        *known = Difference { what, tries: 1, next: None };
        return ExchangeVerdict::Exchange;
    }
    if known.next.is_some_and(|next| now < next) {
        return ExchangeVerdict::LeaveAlone;
    }
    known.tries = known.tries.saturating_add(1);
    let Some(waits) = known.tries.checked_sub(TRIES) else { return ExchangeVerdict::Exchange };
    known.next = Some(now + LONGEST_WAIT.min(Millis(FIRST_WAIT.0 << waits.min(16))));
    if waits == 0 { ExchangeVerdict::GiveUp } else { ExchangeVerdict::Exchange }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds in which it is exchanged when it is found in each second.
    fn exchanged(list: &mut [Difference], seconds: u64, states: u64) -> Vec<u64> {
        (0..seconds)
            .filter(|now| judge(list, 7, states, Instant::at(now * 1000)) != ExchangeVerdict::LeaveAlone)
            .collect()
    }

    #[test]
    fn what_never_settles_is_exchanged_more_and_more_seldom() {
        let mut list = vec![Difference::default(); MOST_DIFFERENCES];
        let seconds = exchanged(&mut list, 300, 1);
        assert_eq!(seconds[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(seconds[8..], [17, 37, 77, 137, 197, 257]);
    }

    #[test]
    fn it_is_given_up_once_and_another_state_is_new() {
        let mut list = vec![Difference::default(); MOST_DIFFERENCES];
        let verdicts: Vec<ExchangeVerdict> =
            (0..100).map(|now| judge(&mut list, 7, 1, Instant::at(now * 1000))).collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == ExchangeVerdict::GiveUp).count(), 1);
        assert_eq!(exchanged(&mut list, 8, 2), [0, 1, 2, 3, 4, 5, 6, 7], "one of both has changed");
        assert_eq!(judge(&mut list, 8, 2, Instant::at(0)), ExchangeVerdict::Exchange, "another record");
        assert_eq!(judge(&mut [], 8, 2, Instant::at(0)), ExchangeVerdict::Exchange, "without memory");
    }

    #[test]
    fn a_difference_that_takes_the_place_of_another_counts_as_new() {
        let mut list = vec![Difference::default(); MOST_DIFFERENCES];
        let place = |which: u64| mixed(which) as usize % MOST_DIFFERENCES;
        let other = (8..).find(|which| place(*which) == place(7)).unwrap();
        assert_eq!(exchanged(&mut list, 10, 1), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(judge(&mut list, other, 1, Instant::at(9_000)), ExchangeVerdict::Exchange);
        assert_eq!(judge(&mut list, 7, 1, Instant::at(9_000)), ExchangeVerdict::Exchange, "so does the other");
        // As many as there are places are remembered beside each other.
        let mut list = vec![Difference::default(); MOST_DIFFERENCES];
        let apart: Vec<u64> =
            (0..MOST_DIFFERENCES).map(|at| (0..).find(|which| place(*which) == at).unwrap()).collect();
        for _ in 0..8 {
            apart.iter().for_each(|which| _ = judge(&mut list, *which, 1, Instant::at(0)));
        }
        assert!(apart.iter().all(|which| judge(&mut list, *which, 1, Instant::at(1)) == ExchangeVerdict::LeaveAlone));
    }
}
