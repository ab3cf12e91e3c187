//! Writes rows of several records so that one which the database refuses harms no other: together first, then one by
//! one.
use crate::common::counters::{self, Counter};
use crate::common::database::Database;
use crate::host::db::{Connection, DbError, Op, Value};
use crate::log;
use crate::presence::error::StoreError;
use crate::shm_safe::shm_safe;
use crate::time::{Moment, Seconds, ShortMoment};

/// How many rows are written in one transaction.
pub const GROUP: usize = 200;

/// How long a row that the database has refused is left alone, in seconds, unless its record changes first.
pub const REFUSED_WAIT: Seconds = Seconds(300);

/// How many refused rows are named in the log in one pass; the others are counted.
const NAMED: usize = 10;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOutcome {
    /// The table has it.
    Written,
    /// The database does not take it.
    Refused,
    /// The row could not be written now: it has to be tried again.
    Kept,
}

/// How one kind of row is written.
pub struct Writer<'a, T> {
    /// Where to.
    pub database: &'a Database,
    /// The table.
    pub table: &'static [u8],
    /// Whether every column holds its value (see [`crate::sip::columns`]); others are written alone.
    pub fits: &'a dyn Fn(&T) -> bool,
    /// The statements of one row.
    pub write: &'a dyn Fn(&Connection, &T) -> Result<(), DbError>,
}

/// What became of a group: a outcome for each row, and the error that stopped it.
pub struct GroupOutcome {
    /// In the order of the rows.
    pub of_rows: Vec<RowOutcome>,
    /// The database was lost on the way: no more groups.
    pub error: Option<StoreError>,
}

impl<T> Writer<'_, T> {
    /// Writes a group of rows, at most [`GROUP`].
    pub fn write_group(&self, rows: &[T]) -> GroupOutcome {
        counters::count(Counter::DbGroups);
        let mut outcome = GroupOutcome { of_rows: vec![RowOutcome::Kept; rows.len()], error: None };
        // Without transactions the first rows of a group that fails would be there already.
        let (limits, together) = (self.database.limits_texts(), self.database.has_transactions());
        // A row over which something panics is one that fits nowhere: it is written alone, and refused.
        let fits = |row: &T| caught("a row is looked at", || Ok((self.fits)(row))).unwrap_or(false);
        let goes_along = |at: &usize| together && (!limits || fits(&rows[*at]));
        let (fitting, odd): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(goes_along);
        let together = match fitting.is_empty() {
            true => Ok(()),
            false => caught("rows are written", || {
                self.database.write_together(|db| {
                    fault_point!(statement "row-group");
                    fitting.iter().try_for_each(|at| (self.write)(db, &rows[*at]))
                })
            }),
        };
        match together {
            Ok(()) => fitting.iter().for_each(|at| outcome.of_rows[*at] = RowOutcome::Written),
            Err(StoreError::Refused | StoreError::Busy) => {
                self.write_alone(rows, &fitting, &mut outcome, |database, row| {
                    database.write(|db| (self.write)(db, row))
                })
            }
            Err(error) => outcome.error = Some(error),
        }
        if outcome.error.is_none() {
            let write_one = |database: &Database, row: &T| database.write_once(|db| (self.write)(db, row));
            self.write_alone(rows, &odd, &mut outcome, write_one);
        }
        counters::count_many(Counter::DbGroupRows, outcome.count(RowOutcome::Written));
        counters::count_many(Counter::DbRowsRefused, outcome.count(RowOutcome::Refused));
        outcome
    }

    fn write_alone(
        &self,
        rows: &[T],
        which: &[usize],
        outcome: &mut GroupOutcome,
        write: impl Fn(&Database, &T) -> Result<(), StoreError>,
    ) {
        for at in which {
            match caught("a row is written", || write(self.database, &rows[*at])) {
                Ok(()) => outcome.of_rows[*at] = RowOutcome::Written,
                Err(StoreError::Refused) if self.takes_rows() => outcome.of_rows[*at] = RowOutcome::Refused,
                Err(StoreError::Busy) => {}
                // A table that refuses everything is away.
                Err(StoreError::Refused) => return outcome.error = Some(StoreError::Database),
                Err(error) => return outcome.error = Some(error),
            }
        }
    }

    /// Whether the table takes changes at all: one that is missing or may not be written refuses every row.
    fn takes_rows(&self) -> bool {
        let nothing = [("id", Op::Eq, Value::Int(-1))];
        self.database.write_once(|db| db.update(self.table, &[("id", Value::Int(-1))], &nothing)).is_ok()
    }
}

/// What `work` comes to; a panic in it is a refusal of its rows, so that the rows of others are written.
fn caught<V>(when: &str, work: impl FnOnce() -> Result<V, StoreError>) -> Result<V, StoreError> {
    // A transaction is undone and a lock is let go of by their guards; nothing else is changed meanwhile.
    crate::caught::caught(work).unwrap_or_else(|why| {
        crate::limited!(Error, "panic while {when}: {why}");
        Err(StoreError::Refused)
    })
}

/// Rows that were taken from where they waited. Those of which nobody says what became of them, as after a panic, wait
/// again.
pub struct TakenRows<'a, T> {
    rows: Vec<T>,
    settled: usize,
    put_back: &'a dyn Fn(&T),
}

impl<'a, T> TakenRows<'a, T> {
    /// Holds rows that were taken; `put_back` lets one wait again.
    pub fn new(rows: Vec<T>, put_back: &'a dyn Fn(&T)) -> TakenRows<'a, T> {
        let taken = TakenRows { rows, settled: 0, put_back };
        fault_point!("taken");
        taken
    }

    /// The rows.
    pub fn rows(&self) -> &[T] {
        &self.rows
    }

    /// Has `note` take note of what became of the next rows.
    pub fn settle(&mut self, of_rows: &[RowOutcome], mut note: impl FnMut(&T, RowOutcome)) {
        for (row, outcome) in self.rows[self.settled..].iter().zip(of_rows) {
            self.settled += 1;
            note(row, *outcome);
        }
    }
}

impl<T> Drop for TakenRows<'_, T> {
    fn drop(&mut self) {
        // Another panic while one unwinds would end the process.
        for row in &self.rows[self.settled..] {
            if let Err(why) = crate::caught::caught(|| (self.put_back)(row)) {
                crate::limited!(Error, "panic while a row is put back: {why}");
            }
        }
    }
}

impl GroupOutcome {
    /// How many rows had this outcome.
    pub fn count(&self, outcome: RowOutcome) -> usize {
        self.of_rows.iter().filter(|other| **other == outcome).count()
    }
}

/// Names refused rows in the log: the first ones of a pass, then how many more there were.
#[derive(Default)]
pub struct RefusalLog {
    named: usize,
    more: usize,
}

impl RefusalLog {
    /// A row was refused that was not known to be; `name` says whose it is.
    pub fn note(&mut self, table: &[u8], name: impl FnOnce() -> String) {
        if self.named >= NAMED {
            self.more += 1;
            return;
        }
        self.named += 1;
        let table = crate::host::log::show(table);
        log!(
            Error,
            "the database refuses the row of {} in {table}: it is set aside and tried again when it changes, or \
            after {} s",
            name(),
            REFUSED_WAIT.0
        );
    }
}

impl Drop for RefusalLog {
    fn drop(&mut self) {
        if self.more > 0 {
            log!(Error, "{} more rows were refused by the database and set aside", self.more);
        }
    }
}

/// A time at which what rows lack is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// One of many: rows that rest are left alone.
    Regular,
    /// The server ends: what was refused is tried once more.
    Last,
}

impl Pass {
    /// The moment of a pass that begins now. That of the last one is later than all before it: what they have set aside
    /// in this very second is tried by it, and what it sets aside itself is not tried twice.
    pub fn moment(self, now: Moment) -> Moment {
        match self {
            Pass::Regular => now,
            Pass::Last => now + Seconds(1),
        }
    }
}

/// Why a row is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum WhySetAside {
    /// The row could not be written in this pass, and is left for the next one.
    #[default]
    Kept,
    /// The database has refused the row.
    Refused,
    /// The database had refused the row, and it could not be written in this pass either.
    KeptAfterRefusal,
}

shm_safe!(
    enum WhySetAside {
        Kept,
        Refused,
        KeptAfterRefusal,
    }
);

/// When a set-aside row is tried again, kept in 48 bits beside its record; none for a row that is not set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowBackoff {
    /// The upper and the lower half of the second, so that the record needs no room to align it; 0 for none.
    until: [u16; 2],
    why: WhySetAside,
}

shm_safe!(RowBackoff { until, why });

impl RowBackoff {
    /// Set aside by a refusal at `now`.
    pub fn refused(now: Moment) -> RowBackoff {
        RowBackoff { until: halves(now + REFUSED_WAIT), why: WhySetAside::Refused }
    }

    /// Left for a later pass than the one at `now`.
    pub fn later(now: Moment) -> RowBackoff {
        RowBackoff { until: halves(now + Seconds(1)), why: WhySetAside::Kept }
    }

    /// After it was tried once more in the pass that began at `now`. No pass tries a row twice, and what was refused
    /// counts as refused until it is written.
    pub fn after(self, outcome: RowOutcome, now: Moment) -> RowBackoff {
        match outcome {
            RowOutcome::Written => RowBackoff::default(),
            RowOutcome::Refused => RowBackoff::refused(now),
            RowOutcome::Kept if self.is_refused() => {
                RowBackoff { why: WhySetAside::KeptAfterRefusal, ..RowBackoff::later(now) }
            }
            RowOutcome::Kept => RowBackoff::later(now),
        }
    }

    /// Whether the row is left alone in the pass that began at `now`. The last pass tries what was refused before it.
    pub fn rests(self, now: Moment, pass: Pass) -> bool {
        let is_last = pass == Pass::Last;
        let horizon = if is_last { now + REFUSED_WAIT - Seconds(1) } else { now };
        let [upper, lower] = self.until.map(i64::from);
        let until = upper * 0x1_0000 + lower;
        let is_after = |moment: Moment| until > 0 && until > moment.seconds();
        is_after(horizon) || (is_last && self.why != WhySetAside::Refused && is_after(now))
    }

    /// Whether the database has refused the row.
    pub fn is_refused(self) -> bool {
        self.why != WhySetAside::Kept
    }
}

fn halves(until: Moment) -> [u16; 2] {
    let seconds = ShortMoment::from(until).seconds();
    [(seconds >> 16) as u16, seconds as u16]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_rests_until_its_time_or_the_end() {
        let aside = RowBackoff::refused(Moment::at(1000));
        assert!(
            aside.rests(Moment::at(1000), Pass::Regular)
                && aside.rests(Moment::at(1299), Pass::Regular)
                && !aside.rests(Moment::at(1300), Pass::Regular)
        );
        assert!(aside.rests(Moment::at(1000), Pass::Last), "a pass does not try a row twice");
        assert!(!aside.rests(Moment::at(1001), Pass::Last), "the last pass tries it once more");
        assert!(
            !RowBackoff::default().rests(Moment::at(1000), Pass::Regular)
                && !RowBackoff::default().rests(Moment::at(1000), Pass::Last)
        );
        // Whatever the second: what passes before the last one have left, it tries, and nothing twice.
        let last = Pass::Last.moment(Moment::at(1000));
        for before in [RowBackoff::refused(Moment::at(1000)), RowBackoff::later(Moment::at(1000))] {
            assert!(before.rests(Moment::at(1000), Pass::Regular) && !before.rests(last, Pass::Last), "{before:?}");
        }
        for own in [RowBackoff::refused(last), RowBackoff::later(last)] {
            assert!(own.rests(last, Pass::Last), "{own:?}");
        }
        let later = RowBackoff::later(Moment::at(1000));
        assert!(
            later.rests(Moment::at(1000), Pass::Regular)
                && later.rests(Moment::at(1000), Pass::Last)
                && !later.rests(Moment::at(1001), Pass::Regular)
        );
    }

    #[test]
    fn a_refused_row_that_cannot_be_written_later_is_tried_once_in_a_pass() {
        let refused = RowBackoff::default().after(RowOutcome::Refused, Moment::at(1000));
        for (pass, at) in [(Pass::Regular, 1300), (Pass::Last, 1100), (Pass::Last, 1300)] {
            let now = pass.moment(Moment::at(at));
            assert!(!refused.rests(now, pass), "{pass:?} at {at}");
            let kept = refused.after(RowOutcome::Kept, now);
            assert!(kept.is_refused() && kept.rests(now, pass), "{pass:?} at {at}");
            assert_eq!(kept.after(RowOutcome::Written, now), RowBackoff::default());
            let next = now + Seconds(1);
            assert!(!kept.rests(next, Pass::Regular) && !kept.rests(next, Pass::Last), "{pass:?} at {at}");
        }
        assert!(!RowBackoff::default().after(RowOutcome::Kept, Moment::at(1000)).is_refused());
    }

    #[test]
    fn a_bounded_number_of_refused_rows_is_named() {
        let (mut log, mut named) = (RefusalLog::default(), 0);
        for row in 0..NAMED + 5 {
            log.note(b"presentity", || {
                named += 1;
                row.to_string()
            });
        }
        assert_eq!((named, log.more), (NAMED, 5));
    }
}
