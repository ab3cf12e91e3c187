//! This process's connection, opened when first needed; on databases that take one writer, writers queue here.
use super::counters::{self, Counter};
use crate::host::db::{Connection, DbError, Driver};
use crate::host::sync::SleepLock;
use crate::presence::error::StoreError;
use std::cell::RefCell;

/// The database as one process sees it. Statements never call back into us, so the borrow of the connection is always short.
pub struct Database {
    driver: Option<Driver>,
    connection: RefCell<Option<Connection>>,
    writer: Option<&'static SleepLock>,
}

impl From<DbError> for StoreError {
    fn from(_: DbError) -> Self {
        StoreError::Database
    }
}

impl Database {
    /// The database of `driver`, or none: then every use is an error. `writer` is given where it takes one writer at a time.
    pub fn new(driver: Option<Driver>, writer: Option<&'static SleepLock>) -> Self {
        Database { driver, connection: RefCell::new(None), writer }
    }

    /// Whether there is one.
    pub fn is_configured(&self) -> bool {
        self.driver.is_some()
    }

    /// Opens the connection if it is not open yet, and hands it to `work`.
    pub fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        let mut slot = self.connection.borrow_mut();
        let connection = match &mut *slot {
            Some(connection) => connection,
            empty => {
                let driver = self.driver.as_ref().ok_or(StoreError::NoDatabase)?;
                let _order = self.writer.map(SleepLock::lock);
                empty.insert(driver.connect()?)
            }
        };
        let done = work(connection);
        if done.is_err() {
            counters::count(Counter::DbErrors);
        }
        Ok(done?)
    }

    /// Closes the connection: a forked process must not use its parent's.
    pub fn disconnect(&self) {
        *self.connection.borrow_mut() = None;
    }

    /// Runs a reading statement.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        self.with(|connection| work(connection))
    }

    /// Runs a writing statement, alone where the database wants that.
    pub fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        self.with(|connection| {
            let _order = self.writer.map(SleepLock::lock);
            counters::count(Counter::DbWrites);
            work(connection)
        })
    }

    /// Runs several writing statements as one where the database knows transactions.
    pub fn write_together<T>(&self, work: impl FnOnce(&Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        self.write(|connection| connection.transaction(work))
    }
}
