//! Reads a large table in bounded portions, in key order, on every driver.
use super::database::Database;
use crate::host::db::{Cond, Connection, DbError, Op, Value};
use crate::presence::error::StoreError;

/// Calls `read` with the conditions of one portion after the other; `read` returns how many rows it saw. The sum comes back.
pub fn each_page(
    database: &Database,
    table: &[u8],
    rows: i32,
    mut read: impl FnMut(&Connection, &[Cond<'_>]) -> Result<usize, DbError>,
) -> Result<usize, StoreError> {
    let rows = i64::from(rows.max(1));
    database.read(|db| {
        let Some((first, last)) = key_range(db, table) else { return read(db, &[]) };
        let (mut from, mut total) = (first, 0);
        while from <= last {
            let to = from.saturating_add(rows);
            total += read(db, &[("id", Op::Gt, Value::Int(from - 1)), ("id", Op::Lt, Value::Int(to))])?;
            from = to;
        }
        Ok(total)
    })
}

/// The smallest and largest key; `None` where the driver takes no such statement.
fn key_range(db: &Connection, table: &[u8]) -> Option<(i64, i64)> {
    if db.driver().scheme() == b"text" {
        return None;
    }
    let table = std::str::from_utf8(table).ok()?;
    let result = db.raw_query(&format!("select min(id), max(id) from {table}")).ok()??;
    let row = result.iter().next()?;
    Some((row.int(0), row.int(1)))
}
