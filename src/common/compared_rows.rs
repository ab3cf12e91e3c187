//! Rows that are written if they are as they were read: other servers may write them, too.
use crate::host::db::{Column, Cond, Connection, DbError};

/// Whether there is any row that meets these conditions. `C` is what is read of it.
///
/// # Errors
///
/// Fails when the database cannot be read.
pub fn has_any<C: Column>(db: &Connection, table: &[u8], conditions: &[Cond<'_>]) -> Result<bool, DbError> {
    Ok(!db.select::<C>(table, conditions, None)?.is_empty())
}

/// Carries out a statement on the row that `as_read` names; `false` when there is no such row any more.
///
/// # Errors
///
/// Fails when `write` does, and when the database cannot be read.
pub fn compare_and_write<C: Column>(
    db: &Connection,
    table: &[u8],
    as_read: &[Cond<'_>],
    write: impl FnOnce() -> Result<(), DbError>,
) -> Result<bool, DbError> {
    // Some drivers do not know; the writer's lock is held: no process of this server changes the row in between.
    if !db.counts_rows() && !has_any::<C>(db, table, as_read)? {
        return Ok(false);
    }
    write()?;
    Ok(db.affected_rows().is_none_or(|rows| rows != 0))
}
