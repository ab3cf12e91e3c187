//! Reads a large table in bounded batches, in the order of its keys, whatever the keys are and however far apart.
use crate::common::database::Database;
use crate::host::db::{Column, Cond, Connection, DbError, Op, Rows, Value, row_columns};
use crate::presence::error::StoreError;

row_columns! {
    /// The key of a row, where nothing else of it is wanted.
    enum KeyOnly {
        Key = "id",
    }
}

/// Which rows the next batch has.
pub struct Page<'a> {
    /// The SELECT's conditions.
    pub conditions: Vec<Cond<'a>>,
    /// What orders and ends it; to be given to the SELECT.
    pub order: Option<&'a [u8]>,
}

/// What was read of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchEnd {
    /// How many rows.
    pub rows: usize,
    /// The largest key among them.
    pub last: i64,
}

impl BatchEnd {
    /// What was seen of `rows`, which were read with their keys.
    pub fn of_rows<C: Column>(rows: &Rows<'_, C>) -> BatchEnd {
        BatchEnd { rows: rows.len(), last: keys_of(rows).max().unwrap_or_default() }
    }
}

/// The keys of `rows`, which were read with them.
pub fn keys_of<C: Column>(rows: &Rows<'_, C>) -> impl Iterator<Item = i64> {
    let keys = if rows.cuts_unsigned() { UnsignedKeys::Cut } else { UnsignedKeys::Whole };
    rows.keys().map(move |key| key_of(key, keys))
}

/// How a driver reads unsigned keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnsignedKeys {
    /// As signed numbers of 32 bits.
    Cut,
    Whole,
}

/// A key as the driver has read it. Where it cuts unsigned numbers, one of 32 unsigned bits has come as a negative one;
/// elsewhere a negative key is what the row has, and comes before all others.
fn key_of(number: i64, keys: UnsignedKeys) -> i64 {
    if keys == UnsignedKeys::Cut && (i64::from(i32::MIN)..0).contains(&number) { number & 0xffff_ffff } else { number }
}

/// Calls `read` with one batch after the other, of at most `rows` rows; `read` says what it saw. The number of all rows
/// comes back.
///
/// # Errors
///
/// Fails when the database cannot be read or `read` fails; the batches before have been read.
pub fn each_page(
    database: &Database,
    table: &[u8],
    rows: i32,
    mut read: impl FnMut(&Connection, &Page<'_>) -> Result<BatchEnd, DbError>,
) -> Result<usize, StoreError> {
    each_page_of(database, table, rows, &[], |db, page| read(db, page).map(Some))
}

/// The same for the rows that meet `conditions`, until `read` returns `None`. No statement is open between two batches.
///
/// # Errors
///
/// Fails when the database cannot be read or `read` fails; the batches before have been read.
pub fn each_page_of(
    database: &Database,
    table: &[u8],
    rows: i32,
    conditions: &[Cond<'_>],
    mut read: impl FnMut(&Connection, &Page<'_>) -> Result<Option<BatchEnd>, DbError>,
) -> Result<usize, StoreError> {
    let rows = rows.max(1);
    let Some(order) = database.batch(rows) else { return by_list(database, table, rows, conditions, read) };
    let (mut last, mut total) = (None, 0);
    loop {
        let mut conditions = conditions.to_vec();
        conditions.extend(last.map(|last| ("id", Op::Gt, Value::Long(last))));
        let page = Page { conditions, order: Some(order.as_bytes()) };
        let Some(seen) = database.read(|db| read(db, &page))? else { return Ok(total) };
        total += seen.rows;
        if seen.rows < rows as usize || last.is_some_and(|before| seen.last <= before) {
            return Ok(total);
        }
        last = Some(seen.last);
    }
}

/// Reads one batch of the rows that meet `conditions`, beginning after the key `after`; `None` for the key where it
/// ends when nothing is left. Where the database knows no words for a batch, all of them come.
///
/// # Errors
///
/// Fails when the database cannot be read or `read` fails.
pub fn portion_of<T>(
    database: &Database,
    rows: usize,
    conditions: &[Cond<'_>],
    after: Option<i64>,
    mut read: impl FnMut(&Connection, &Page<'_>) -> Result<(T, BatchEnd), DbError>,
) -> Result<(T, Option<i64>), StoreError> {
    let order = database.batch(i32::try_from(rows).unwrap_or(i32::MAX));
    let mut conditions = conditions.to_vec();
    conditions.extend(after.map(|after| ("id", Op::Gt, Value::Long(after))));
    let page = Page { conditions, order: order.as_deref().map(str::as_bytes) };
    let (found, seen) = database.read(|db| read(db, &page))?;
    let goes_on = order.is_some() && seen.rows >= rows && after.is_none_or(|after| seen.last > after);
    Ok((found, goes_on.then_some(seen.last)))
}

/// Where the database knows no words for a batch: the keys are read first, then the rows of each
/// batch between two of them.
fn by_list(
    database: &Database,
    table: &[u8],
    rows: i32,
    conditions: &[Cond<'_>],
    mut read: impl FnMut(&Connection, &Page<'_>) -> Result<Option<BatchEnd>, DbError>,
) -> Result<usize, StoreError> {
    let mut keys: Vec<i64> = database.read(|db| {
        Ok(db.select::<KeyOnly>(table, conditions, None)?.iter().map(|row| row.int(KeyOnly::Key)).collect())
    })?;
    keys.sort_unstable();
    let mut total = 0;
    for batch in keys.chunks(rows as usize) {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { break };
        let mut conditions = conditions.to_vec();
        conditions.extend([("id", Op::Gt, Value::Long(first - 1)), ("id", Op::Lt, Value::Long(last + 1))]);
        let page = Page { conditions, order: None };
        let Some(seen) = database.read(|db| read(db, &page))? else { return Ok(total) };
        total += seen.rows;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::metrics::Owner;
    use crate::presence::config::Config;
    use crate::time::Moment;

    /// How many rows each page of `rows` has of a table with `count` of them, whose keys lie far apart.
    fn pages(count: i64, rows: i32) -> Vec<usize> {
        let database = Database::in_memory(Owner::Presence);
        database.carry_out(&format!(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count}) \
             insert into watchers select i * 1000, 'sip:a@b', i, 'b', 'presence', 1, '', 0 from n"
        ));
        let mut pages = Vec::new();
        let all = each_page(&database, b"watchers", rows, |db, page| {
            let found = db.select_with_keys::<KeyOnly>(b"watchers", &page.conditions, page.order)?;
            pages.push(found.len());
            Ok(BatchEnd::of_rows(&found))
        });
        assert_eq!(all.expect("it can be read"), count as usize);
        pages
    }

    #[test]
    fn a_page_has_as_many_rows_as_are_read_at_once() {
        let rows = Config::defaults(None, b"", b"", 0, Moment::at(0), false).fetch_rows;
        assert_eq!((pages(499, rows), pages(500, rows), pages(501, rows)), (vec![499], vec![500, 0], vec![500, 1]));
    }

    #[test]
    fn keys_of_32_unsigned_bits_are_positive_where_the_driver_cuts_them() {
        assert_eq!(key_of(-1, UnsignedKeys::Cut), 4_294_967_295);
        assert_eq!(key_of(i64::from(i32::MIN), UnsignedKeys::Cut), 2_147_483_648);
        assert_eq!(key_of(7, UnsignedKeys::Cut), 7);
        assert_eq!(key_of(1 << 40, UnsignedKeys::Cut), 1 << 40);
        assert_eq!(key_of(-5, UnsignedKeys::Whole), -5);
    }
}
