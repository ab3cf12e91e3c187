//! What a store of records does, wherever it keeps them.
use crate::agent::records::RecordCounts;
use crate::common::row_groups::Pass;
use crate::pua::error::RequestError;
use crate::pua::record::{Dialog, Record, Search};
use crate::time::Moment;

/// One of several parts of all records: each pass looks through one.
#[derive(Debug, Clone, Copy)]
pub struct SweepPart {
    /// Which part, from 0.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl SweepPart {
    /// All records.
    pub const WHOLE: SweepPart = SweepPart { number: 0, of: 1 };
}

/// Keeps the records of publications and subscriptions.
pub trait RecordStore {
    /// See [`crate::pua::ports::stored_records::StoredRecords::find`].
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn find(&self, search: &Search<'_>) -> Result<Option<Record>, RequestError>;
    /// See [`crate::pua::ports::stored_records::StoredRecords::find_dialog`].
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn find_dialog(&self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError>;
    /// Stores a new record.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row.
    fn insert(&self, record: &Record) -> Result<(), RequestError>;
    /// Puts `after` in place of `before`; `false` when `before` is gone.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row: `before` stays
    /// then.
    fn replace(&self, before: &Record, after: &Record) -> Result<bool, RequestError>;
    /// Removes a record, if it is still there.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn remove(&self, record: &Record) -> Result<(), RequestError>;
    /// The records of a part that end before `before`.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn ending(&self, before: Moment, part: SweepPart) -> Result<Vec<Record>, RequestError>;
    /// All records.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn all(&self) -> Result<Vec<Record>, RequestError>;
    /// URIs of the presentities that records with this id are about.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn uris_with_id(&self, id: &[u8]) -> Result<Vec<Vec<u8>>, RequestError>;
    /// How many records are in memory.
    fn count(&self) -> RecordCounts;

    /// Fills the memory from the table; returns how many rows were read.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read, or when shared memory has no room for all of its records: those that fit
    /// are kept.
    fn restore(&self) -> Result<usize, RequestError>;
    /// Whether rows are written later than their records change: then a timer calls [`RecordStore::write_back`].
    fn writes_later(&self) -> bool;
    /// Whether more is unwritten than is left to the next call of the timer.
    fn is_much_unwritten(&self) -> bool;
    /// Writes what memory has changed to the table.
    fn write_back(&self, pass: Pass);
}
