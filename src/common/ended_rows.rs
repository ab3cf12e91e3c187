//! Steps through rows that have expired, page by page: each row is ended for itself, and rows that others hold keep a
//! step for a bounded time.
use crate::presence::error::StoreError;
use crate::time::Millis;
use std::cell::Cell;
use std::thread::LocalKey;

/// Once a step has waited this long for rows that others hold, it ends with the next one that it would wait for.
pub const LONGEST_WAIT: Millis = Millis(5_000);

/// Rows with their keys, and the key at which their page ends; `None` there: nothing is left behind it.
pub type EndedPage<R> = (Vec<(i64, R)>, Option<i64>);

/// One step through rows that have expired.
pub struct EndedStep<'a, R, T> {
    /// The page behind a key.
    pub read: &'a mut dyn FnMut(Option<i64>) -> Result<EndedPage<R>, StoreError>,
    /// Ends one; `None`: it goes on, or is gone.
    pub end_one: &'a mut dyn FnMut(&R) -> Result<Option<T>, StoreError>,
    /// Notes a row that could not be ended, or that no further page could be read.
    pub failed: &'a dyn Fn(Option<&R>, StoreError),
    /// How long the step takes so far.
    pub waited: &'a dyn Fn() -> Millis,
    /// The key of the row that the next step begins behind, where this one has waited too long for it.
    pub next: Option<i64>,
}

impl<R, T> EndedStep<'_, R, T> {
    /// Goes on from `place`, the key of the row that this process's next step begins behind; see [`EndedStep::take`].
    ///
    /// # Errors
    ///
    /// Fails as [`EndedStep::take`] does.
    pub fn resume(mut self, place: &'static LocalKey<Cell<Option<i64>>>, limit: usize) -> Result<Vec<T>, StoreError> {
        let ended = self.take(place.take(), limit);
        place.set(self.next);
        ended
    }

    /// Ends at most `limit` rows and those of their page, beginning behind the key `after`.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or is away before anything has ended.
    fn take(&mut self, mut after: Option<i64>, limit: usize) -> Result<Vec<T>, StoreError> {
        let mut ended = Vec::new();
        loop {
            let (page, next) = match (self.read)(after) {
                Err(error) if !ended.is_empty() => {
                    (self.failed)(None, error);
                    return Ok(ended);
                }
                page => page?,
            };
            for (key, row) in &page {
                match (self.end_one)(row) {
                    Ok(one) => ended.extend(one),
                    // The watchers of what has ended are notified, whatever becomes of the others.
                    Err(StoreError::Database) if ended.is_empty() => return Err(StoreError::Database),
                    Err(error) => {
                        (self.failed)(Some(row), error);
                        if error == StoreError::Database {
                            return Ok(ended);
                        }
                        if error == StoreError::Busy && (self.waited)() >= LONGEST_WAIT {
                            self.next = Some(*key);
                            return Ok(ended);
                        }
                    }
                }
            }
            after = next;
            if after.is_none() || ended.len() >= limit {
                return Ok(ended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Four rows, each of which is ended in the time it needs where it is not held.
    fn step(after: Option<i64>, held: &[i64], each: Millis) -> (Vec<i64>, Option<i64>) {
        let waited = Cell::new(Millis::ZERO);
        let mut step = EndedStep {
            read: &mut |after| {
                let is_behind = |key: &i64| after.is_none_or(|after| *key > after);
                Ok(((1..=4).filter(is_behind).map(|key| (key, key)).collect(), None))
            },
            end_one: &mut |key| {
                let is_held = held.contains(key);
                waited.set(Millis(waited.get().0 + if is_held { each.0 } else { 0 }));
                if is_held { Err(StoreError::Busy) } else { Ok(Some(*key)) }
            },
            failed: &|row, error| assert!(row.is_some_and(|key| held.contains(key)) && error == StoreError::Busy),
            waited: &|| waited.get(),
            next: None,
        };
        (step.take(after, 256).unwrap(), step.next)
    }

    #[test]
    fn a_step_waits_for_a_bounded_time_and_the_next_one_begins_behind() {
        let short = Millis(LONGEST_WAIT.0 - 1);
        assert_eq!(step(None, &[2], short), (vec![1, 3, 4], None));
        assert_eq!(step(None, &[2], LONGEST_WAIT), (vec![1], Some(2)));
        assert_eq!(step(Some(2), &[2], LONGEST_WAIT), (vec![3, 4], None));
        // Where all are held each step waits for one of them.
        assert_eq!(step(None, &[1, 2, 3, 4], LONGEST_WAIT), (Vec::new(), Some(1)));
        assert_eq!(step(None, &[1, 2, 3, 4], short), (Vec::new(), Some(2)));
        assert_eq!(step(Some(3), &[1, 2, 3, 4], LONGEST_WAIT), (Vec::new(), Some(4)));
        assert_eq!(step(Some(4), &[1, 2, 3, 4], LONGEST_WAIT), (Vec::new(), None));
    }

    #[test]
    fn a_database_that_goes_away_ends_a_step_with_what_has_ended() {
        for (first, wanted) in [(Ok(Some(1)), Ok(vec![1])), (Ok(None), Err(StoreError::Database))] {
            let answers = Cell::new(Some(first));
            let noted = Cell::new(0);
            let mut step = EndedStep {
                read: &mut |_| Ok((vec![(1, ()), (2, ()), (3, ())], None)),
                end_one: &mut |()| answers.take().unwrap_or(Err(StoreError::Database)),
                failed: &|_, _| noted.set(noted.get() + 1),
                waited: &|| Millis::ZERO,
                next: None,
            };
            assert_eq!(step.take(None, 256), wanted);
            assert_eq!((noted.get(), step.next), (usize::from(wanted.is_ok()), None));
        }
    }
}
