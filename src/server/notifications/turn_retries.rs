//! When a notifier process tries turns again that it could not serve: soon, and then more and more seldom.
use crate::time::{MicroTick, Micros};
use std::collections::BTreeMap;

/// How long is waited before the first try; twice as long before each further one.
const FIRST_WAIT: Micros = Micros(20_000);

/// The longest wait.
const LONGEST_WAIT: Micros = Micros(1_000_000);

/// A wait that grows with each failure.
#[derive(Debug, Clone, Copy)]
struct RetryWait {
    /// How long it is.
    length: Micros,
    /// When it ends.
    until: MicroTick,
}

impl RetryWait {
    fn after(earlier: Option<RetryWait>, now: MicroTick) -> RetryWait {
        let length = earlier.map_or(FIRST_WAIT, |earlier| Micros(2 * earlier.length.0).min(LONGEST_WAIT));
        RetryWait { length, until: now + length }
    }
}

/// The turns of one process that failed, at most all it has.
#[derive(Default)]
pub struct TurnRetries {
    turns: BTreeMap<i32, RetryWait>,
    /// The database is away: no turn is served meanwhile.
    away: Option<RetryWait>,
}

impl TurnRetries {
    /// Rows of a turn could not be taken.
    pub fn failed(&mut self, turn: i32, now: MicroTick) {
        self.away = None;
        let earlier = self.turns.get(&turn).copied();
        self.turns.insert(turn, RetryWait::after(earlier, now));
    }

    /// A turn was served.
    pub fn served(&mut self, turn: i32) {
        self.away = None;
        self.turns.remove(&turn);
    }

    /// The database was away.
    pub fn database_was_away(&mut self, now: MicroTick) {
        self.away = Some(RetryWait::after(self.away, now));
    }

    /// Whether the database was away so lately that it is not asked.
    pub fn leaves_database_alone(&self, now: MicroTick) -> bool {
        self.away.is_some_and(|wait| now < wait.until)
    }

    /// Whether this turn failed so lately that it is not tried.
    pub fn leaves_alone(&self, turn: i32, now: MicroTick) -> bool {
        self.turns.get(&turn).is_some_and(|wait| now < wait.until)
    }

    /// The turns that are to be tried again now.
    pub fn due(&self, now: MicroTick) -> Vec<i32> {
        self.turns.iter().filter(|(_, wait)| wait.until <= now).map(|(turn, _)| *turn).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often something that fails each time is tried within `within` microseconds, looked at in each millisecond.
    fn tries(within: u64, mut is_tried: impl FnMut(MicroTick) -> bool) -> usize {
        (0..within / 1_000).filter(|millis| is_tried(MicroTick::at(millis * 1_000))).count()
    }

    #[test]
    fn a_turn_that_always_fails_is_tried_once_a_second_in_the_end() {
        let mut retries = TurnRetries::default();
        retries.failed(7, MicroTick::at(0));
        let tried = tries(60_000_000, |now| {
            let due = retries.due(now) == [7];
            assert_eq!(due, !retries.leaves_alone(7, now));
            if due {
                retries.failed(7, now);
            }
            assert!(!retries.leaves_alone(8, now) && !retries.leaves_database_alone(now));
            due
        });
        assert!((60..=66).contains(&tried), "{tried}");
        retries.served(7);
        assert!(!retries.leaves_alone(7, MicroTick::at(0)) && retries.due(MicroTick::at(u64::MAX)).is_empty());
        retries.failed(7, MicroTick::at(0));
        assert_eq!(retries.due(MicroTick::at(0) + FIRST_WAIT), [7], "after a success it is soon again");
    }

    #[test]
    fn a_database_that_is_away_is_asked_once_a_second_in_the_end() {
        let mut retries = TurnRetries::default();
        let tried = tries(60_000_000, |now| {
            let asked = !retries.leaves_database_alone(now);
            if asked {
                retries.database_was_away(now);
            }
            asked
        });
        assert!((60..=67).contains(&tried), "{tried}");
        retries.served(1);
        assert!(!retries.leaves_database_alone(MicroTick::at(0)));
    }
}
