//! The records of publications and subscriptions, in memory or in the table `pua`.
use crate::pua::error::RequestError;
use crate::pua::record::{Dialog, Record, Search};
use crate::time::Moment;

/// The records that are stored.
pub trait StoredRecords {
    /// The newest record that matches.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn find(&mut self, search: &Search<'_>) -> Result<Option<Record>, RequestError>;
    /// The record of a dialog, its established one first.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError>;
    /// Stores a new record.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row.
    fn insert(&mut self, record: &Record) -> Result<(), RequestError>;
    /// Puts `after` in place of `before`; `false` when `before` is gone.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row: `before` stays
    /// then.
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, RequestError>;
    /// Removes a record, if it is still there.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn remove(&mut self, record: &Record) -> Result<(), RequestError>;
    /// Records that are to be refreshed or removed in this turn.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn ending(&mut self, before: Moment) -> Result<Vec<Record>, RequestError>;
}
