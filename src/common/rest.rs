//! The rest of a task of a timer after the database could not be written: it does not wait for a database that is away
//! each second.
use crate::time::{Seconds, Tick};
use std::cell::Cell;

/// How long it is left to the period of the timer that writes all rows.
pub const REST: Seconds = Seconds(10);

/// What is written each second while there is something to write, by one process.
#[derive(Debug, Default)]
pub struct Rests {
    /// Rows of `watchers`.
    pub watchers: Rest,
    /// Subscriptions before their time.
    pub subscriptions: Rest,
    /// Publications before their time.
    pub publications: Rest,
}

/// Until when one task of one process rests.
#[derive(Debug, Default)]
pub struct Rest(Cell<Option<Tick>>);

impl Rest {
    /// Does the work at `now` unless it rests; a failure makes it rest.
    pub fn unless_resting<E>(&self, now: Tick, work: impl FnOnce() -> Result<(), E>) {
        if self.0.get().is_none_or(|until| now >= until) {
            // It rests after a panic, too.
            self.0.set(Some(now + REST));
            if work().is_ok() {
                self.0.set(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_not_tried_each_second() {
        let (rest, mut tried) = (Rest::default(), Vec::new());
        for second in 1..40 {
            rest.unless_resting(Tick(second), || {
                tried.push(second);
                // The database is away for a while.
                if (3..30).contains(&second) { Err(()) } else { Ok(()) }
            });
        }
        assert_eq!(tried, [1, 2, 3, 13, 23, 33, 34, 35, 36, 37, 38, 39]);
    }
}
