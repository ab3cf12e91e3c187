//! A statement that is noted in place of being carried out, for another process that is about to write; and later the
//! answer that the database has given that process.
use crate::host::db::failure::DbError;
use crate::host::db::value::Cond;
use crate::host::sqlite::{Verb, encoded};
use std::cell::RefCell;

/// What became of a statement: how many rows it has touched.
pub type StatementOutcome = Result<i32, DbError>;

/// What is known of the statement.
pub(super) enum Recorded {
    /// None was given yet.
    Nothing,
    /// A single one, as bytes.
    One(Vec<u8>),
    /// More than one, or one that reads: it cannot be left to another process.
    Unfit,
    /// The database has carried it out.
    Done(StatementOutcome),
    /// The same, and the work has had this answer: a second statement was never carried out.
    Answered(StatementOutcome),
}

impl Recorded {
    /// Notes a statement, or answers it.
    fn take(&mut self, table: &[u8], verb: Verb<'_>, conditions: &[Cond<'_>]) -> Result<(), DbError> {
        match self {
            Recorded::Nothing => *self = Recorded::One(encoded::encode(table, verb, conditions)),
            Recorded::One(_) | Recorded::Unfit | Recorded::Answered(_) => return self.refuse(),
            Recorded::Done(outcome) => {
                let outcome = *outcome;
                *self = Recorded::Answered(outcome);
                return outcome.map(|_| ());
            }
        }
        Ok(())
    }

    /// No other process can do this for us.
    fn refuse<T>(&mut self) -> Result<T, DbError> {
        *self = Recorded::Unfit;
        Err(DbError::Unexplained)
    }
}

/// Notes a statement of a recording connection, or answers it.
///
/// # Errors
///
/// Fails where a statement was noted already, and as the database did.
pub(super) fn take(
    recorded: &RefCell<Recorded>,
    table: &[u8],
    verb: Verb<'_>,
    conditions: &[Cond<'_>],
) -> Result<(), DbError> {
    recorded.borrow_mut().take(table, verb, conditions)
}

/// Says of a recording connection that no other process can do this.
///
/// # Errors
///
/// Fails always.
pub(super) fn refuse<T>(recorded: &RefCell<Recorded>) -> Result<T, DbError> {
    recorded.borrow_mut().refuse()
}

/// How many rows the statement of a recording connection has touched: one, as long as nobody knows.
pub(super) fn affected_rows(recorded: &RefCell<Recorded>) -> i32 {
    match &*recorded.borrow() {
        Recorded::Done(Ok(rows)) | Recorded::Answered(Ok(rows)) => *rows,
        _ => 1,
    }
}
