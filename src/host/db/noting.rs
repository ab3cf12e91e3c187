//! Connections that carry nothing out: one notes the single statement that is given to it, another answers as the
//! database has answered the process that carried it out.
use crate::host::db::connection::{Connection, Driver, Way};
use crate::host::db::failure::DbError;
use crate::host::db::recorded::{Recorded, StatementOutcome};
use std::cell::RefCell;

impl Connection {
    /// A connection that notes what is given to it.
    pub(crate) fn recording(driver: &Driver) -> Connection {
        Connection { driver: driver.clone(), way: Way::Recorded(RefCell::new(Recorded::Nothing)) }
    }

    /// A connection that answers a single statement as the database did.
    pub(crate) fn answering(driver: &Driver, outcome: StatementOutcome) -> Connection {
        Connection { driver: driver.clone(), way: Way::Recorded(RefCell::new(Recorded::Done(outcome))) }
    }

    /// The statement that was noted, where it was a single one that only writes.
    pub(crate) fn noted(self) -> Option<Vec<u8>> {
        match self.way {
            Way::Recorded(recorded) => match recorded.into_inner() {
                Recorded::One(statement) => Some(statement),
                Recorded::Nothing | Recorded::Unfit | Recorded::Done(_) | Recorded::Answered(_) => None,
            },
            Way::Driver(_) | Way::Sqlite(..) => None,
        }
    }

    /// Whether this connection can carry out what another process has noted.
    pub(crate) fn takes_noted_statements(&self) -> bool {
        matches!(self.way, Way::Sqlite(..))
    }

    /// Carries out a statement that another process has noted.
    ///
    /// # Errors
    ///
    /// Fails when the database refuses the statement or cannot write, and on connections that go through a driver.
    pub(crate) fn carry_out_noted(&self, statement: &[u8]) -> StatementOutcome {
        match &self.way {
            Way::Sqlite(database, _) => database.run_encoded(statement),
            Way::Driver(_) | Way::Recorded(_) => Err(DbError::Away),
        }
    }

    /// Whether the transaction that was begun is still open: a full disk, for example, ends it.
    pub(crate) fn is_in_transaction(&self) -> bool {
        match &self.way {
            Way::Sqlite(database, _) => database.is_in_transaction(),
            Way::Driver(_) | Way::Recorded(_) => false,
        }
    }
}
