//! Pages of SQLite's log are written back into the file by a timer: a request waits for its own change to be on the
//! disk, and not for those of a thousand others.
use crate::common::counters::{self, Counter};
use crate::common::database::Database;
use crate::host::db::Connection;
use crate::presence::error::StoreError;
use std::cell::Cell;

/// So many statements have written since the last time: each changes about two pages of the log.
const STATEMENTS: u64 = 500;

/// When pages were written back the last time.
#[derive(Default)]
pub struct Checkpoints {
    statements: Cell<u64>,
}

impl Checkpoints {
    /// Writes pages back if all processes together have written enough since the last time; call it each second, in one
    /// process.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written; the next try comes when as much was written again.
    pub fn step(&self, database: &Database) -> Result<(), StoreError> {
        let written = counters::value(Counter::DbWrites);
        // Statistics may be set back.
        if !database.goes_past_driver() || written.wrapping_sub(self.statements.get()) < STATEMENTS {
            return Ok(());
        }
        self.statements.set(written);
        database.with(|connection: &mut Connection| connection.checkpoint())
    }
}
