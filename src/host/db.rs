//! Databases through the host's drivers (`lib/srdb1`): one connection a process, statements built from typed columns.
//! SQLite gets its statements without the driver, see [`super::sqlite`].
pub mod connection;
pub mod failure;
#[cfg(test)]
pub(crate) mod in_memory;
pub mod link;
mod noting;
pub mod recorded;
pub mod rows;
mod statement_text;
mod table_name;
mod transaction;
pub mod value;

pub use connection::{Commits, Connection, Driver, Printing, SqliteWay, Ways};
pub use failure::{DbError, of_sqlite};
pub use link::Borrowed;
pub use recorded::StatementOutcome;
pub(crate) use rows::row_columns;
pub use rows::{Column, Row, Rows};
pub use value::{Cell, Cond, Op, Value, end_of, expiry_of, moment, moment_of};
