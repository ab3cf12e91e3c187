//! A bound driver, and the connections that a process opens through it.
use crate::host::bytes::lend;
use crate::host::db::failure::DbError;
use crate::host::db::link::{Link, TransactionWay};
use crate::host::db::recorded::{self, Recorded};
use crate::host::db::rows::{Column, ResultSet, Rows};
use crate::host::db::table_name::TableName;
use crate::host::db::value::{Cell, Cond};
use crate::host::db_url::DbUrl;
use crate::host::sqlite::settings::WRITE_AHEAD;
use crate::host::sqlite::{self, Verb};
use crate::sys;
use std::cell::RefCell;

/// What a statement needs beside the body it writes, in bytes: the names and the other columns, escaped.
const REST_OF_STATEMENT: usize = 2048;

/// Bytes in a `BLOB` of MariaDB and MySQL.
const MYSQL_BLOB: usize = 65_535;

/// A bound driver: its functions, without a connection. Made once in `mod_init`, copied into each process.
#[derive(Clone)]
pub struct Driver {
    pub(super) functions: sys::db_func_t,
    pub(super) url: DbUrl,
    pub(super) ways: Ways,
}

/// How statements go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// To SQLite.
    pub sqlite: SqliteWay,
    /// To MariaDB, MySQL and PostgreSQL.
    pub printing: Printing,
    /// Of several processes that write to SQLite.
    pub commits: Commits,
}

/// The transactions of several processes that write at the same time, where statements go to SQLite directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// The process that writes takes the rows along that others wait to write.
    Shared,
    /// Each row is a transaction of its own.
    Own,
}

impl From<bool> for Commits {
    fn from(shared: bool) -> Commits {
        if shared { Commits::Shared } else { Commits::Own }
    }
}

/// The printer of statements for MariaDB, MySQL and PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printing {
    /// We do, where nothing has to be escaped.
    Here,
    /// The driver.
    Driver,
}

impl From<bool> for Printing {
    fn from(here: bool) -> Printing {
        if here { Printing::Here } else { Printing::Driver }
    }
}

/// How statements reach SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqliteWay {
    /// Past the driver, prepared once.
    Direct,
    /// Through the driver.
    Driver,
}

impl From<bool> for SqliteWay {
    fn from(direct: bool) -> SqliteWay {
        if direct { SqliteWay::Direct } else { SqliteWay::Driver }
    }
}

/// An open connection of this process.
pub struct Connection {
    pub(super) driver: Driver,
    pub(super) way: Way,
}

/// How statements reach the database.
pub(super) enum Way {
    Driver(Link),
    /// Past the driver. Its connection stays open all the same: other modules of this process share it.
    Sqlite(sqlite::SqliteConnection, Link),
    /// Statements are noted here, and another process carries them out.
    Recorded(RefCell<Recorded>),
}

impl Driver {
    /// Finds the driver for `url`. The driver module must be loaded before ours.
    pub fn bind(url: DbUrl, ways: Ways) -> Option<Driver> {
        let mut functions = sys::db_func_t::default();
        // SAFETY: fills `functions`; the URL is only read.
        let bound = unsafe { sys::kr_db_bind(&mut *lend(url.for_driver()), &mut functions) };
        if bound < 0 {
            return None;
        }
        let driver = Driver { functions, url, ways };
        if driver.scheme() == b"sqlite" && ways.sqlite == SqliteWay::Direct {
            crate::log!(Info, "statements go to SQLite past db_sqlite");
        }
        if driver.prints_statements() {
            let scheme = String::from_utf8_lossy(driver.scheme());
            crate::log!(Info, "statements that need no escaping are handed to db_{scheme} as text");
        }
        Some(driver)
    }

    /// The scheme of the URL: `sqlite`, `mysql`, `postgres`, `text` ...
    pub fn scheme(&self) -> &'static [u8] {
        self.url.scheme()
    }

    /// Whether statements go to SQLite past this driver.
    pub fn goes_past_sqlite_driver(&self) -> bool {
        self.scheme() == b"sqlite"
            && self.ways.sqlite == SqliteWay::Direct
            && sqlite::library::Library::loaded().is_some()
    }

    /// Whether processes that write at the same time do so in one transaction.
    pub fn shares_commits(&self) -> bool {
        self.ways.commits == Commits::Shared && self.goes_past_sqlite_driver()
    }

    /// Whether statements are printed here where nothing has to be escaped.
    pub fn prints_statements(&self) -> bool {
        self.ways.printing == Printing::Here
            && matches!(self.scheme(), b"mysql" | b"postgres")
            && self.functions.raw_query.is_some()
    }

    /// Whether texts are limited in length and have to be UTF-8: SQLite and db_text store any bytes.
    pub fn limits_texts(&self) -> bool {
        !self.single_writer()
    }

    /// The longest body that a row takes for certain, in bytes: a statement is written into a buffer of the host
    /// (`sql_buffer_size`), in which each byte may have to be escaped. `None`: any that a request can bring.
    pub fn longest_body(&self) -> Option<usize> {
        if !self.limits_texts() {
            return None;
        }
        // SAFETY: reads a setting of the host.
        let buffer = unsafe { sys::kr_db_statement_size() } as usize;
        Some(longest_body(self.scheme(), buffer))
    }

    /// What the driver lacks of what presence stores with it, if anything.
    pub fn lacks(&self) -> Option<&'static str> {
        (self.scheme() == b"redis").then_some("it writes no binary columns, such as the body of a publication")
    }

    /// Whether several statements can be undone together.
    pub fn has_transactions(&self) -> bool {
        self.goes_past_sqlite_driver() || TransactionWay::of(self.scheme(), &self.functions) != TransactionWay::None
    }

    /// What orders a batch of `rows` rows by their keys and ends it there, where the database knows such words.
    pub fn batch(&self, rows: i32) -> Option<String> {
        matches!(self.scheme(), b"sqlite" | b"mysql" | b"postgres").then(|| format!("id LIMIT {}", rows.max(1)))
    }

    /// What an empty text is written as: db_text reads a field without characters as NULL, and then refuses the whole
    /// table.
    fn empty_text(&self) -> &'static [u8] {
        if self.scheme() == b"text" { b" " } else { b"" }
    }

    /// Whether the driver embeds its database and takes one writer at a time.
    pub fn single_writer(&self) -> bool {
        matches!(self.scheme(), b"sqlite" | b"text")
    }

    /// Whether a row can be compared and written as one, so that no other server writes it in between: the driver says
    /// how many rows a statement has touched. A file is left out, whose writers are the processes of one server.
    pub fn compares_and_writes(&self) -> bool {
        self.single_writer() || self.functions.affected_rows.is_some()
    }

    /// Whether the processes of this server write one after the other: where the database wants that, and where only
    /// that keeps a row as it was read until it is written.
    pub fn writers_take_turns(&self) -> bool {
        self.single_writer() || !self.compares_and_writes()
    }

    /// Opens a connection for this process.
    ///
    /// # Errors
    ///
    /// Fails when the driver cannot connect, or when the file of SQLite cannot be opened past its driver.
    pub fn connect(&self) -> Result<Connection, DbError> {
        let link = self.link()?;
        if self.scheme() != b"sqlite" {
            return Ok(Connection { driver: self.clone(), way: Way::Driver(link) });
        }
        // Several processes write: they wait for each other instead of failing, and let readers read meanwhile. What
        // the other modules of this process write through the driver's connection waits, too.
        let settings = sqlite::settings::of_driver(self.functions.init, self.url.for_driver());
        let _ = link.raw_query(sqlite::BUSY_TIMEOUT.as_bytes());
        if settings.is_default() {
            let _ = link.raw_query(WRITE_AHEAD.as_bytes());
        }
        let direct = match self.ways.sqlite {
            SqliteWay::Direct => sqlite::SqliteConnection::open(self.url.for_driver(), &settings),
            SqliteWay::Driver => return Ok(Connection { driver: self.clone(), way: Way::Driver(link) }),
        };
        let way = match direct {
            Some(database) => Way::Sqlite(database?, link),
            None => {
                crate::limited!(Warn, "SQLite is not found beside db_sqlite: statements go through the driver");
                Way::Driver(link)
            }
        };
        Ok(Connection { driver: self.clone(), way })
    }

    fn link(&self) -> Result<Link, DbError> {
        let init = self.functions.init.ok_or(DbError::Away)?;
        // SAFETY: the driver's own function with the URL it was bound for.
        let raw = unsafe { init(&*lend(self.url.for_driver())) };
        if raw.is_null() {
            return Err(DbError::Away);
        }
        Ok(Link {
            functions: self.functions,
            raw,
            empty: self.empty_text(),
            scheme: self.scheme(),
            prints: self.prints_statements(),
            table: TableName::default(),
            may_be_lost: false.into(),
        })
    }
}

impl Connection {
    /// The driver this connection belongs to.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Whether the table has this version in Kamailio's `version` table. The driver itself looks, and says what it
    /// found.
    pub fn check_version(&self, table: &[u8], version: u32) -> bool {
        let (Way::Driver(link) | Way::Sqlite(_, link)) = &self.way else { return false };
        let mut functions = link.functions;
        // SAFETY: a connection of this driver and its function table.
        unsafe { sys::kr_db_table_version(&mut functions, link.raw, &mut *lend(table), version) >= 0 }
    }

    /// `SELECT columns FROM table WHERE all conditions ORDER BY order`.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read, or refuses the statement.
    pub fn select<C: Column>(
        &self,
        table: &[u8],
        conditions: &[Cond<'_>],
        order: Option<&[u8]>,
    ) -> Result<Rows<'_, C>, DbError> {
        Ok(Rows::of(self.find(table, C::NAMES, conditions, order)?))
    }

    /// The same with the key of each row, see [`Rows::keys`].
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read, or refuses the statement.
    pub fn select_with_keys<C: Column>(
        &self,
        table: &[u8],
        conditions: &[Cond<'_>],
        order: Option<&[u8]>,
    ) -> Result<Rows<'_, C>, DbError> {
        Ok(Rows::of(self.find(table, C::NAMES_AND_KEY, conditions, order)?))
    }

    fn find(
        &self,
        table: &[u8],
        columns: &[&'static str],
        conditions: &[Cond<'_>],
        order: Option<&[u8]>,
    ) -> Result<ResultSet<'_>, DbError> {
        let found = match &self.way {
            Way::Driver(link) => link.select(table, columns, conditions, order)?,
            Way::Sqlite(database, _) => {
                ResultSet::Sqlite(database.run(table, Verb::Select(columns, order), conditions)?)
            }
            Way::Recorded(recorded) => return recorded::refuse(recorded),
        };
        fault_point!(statement "rows");
        Ok(found)
    }

    /// `INSERT INTO table`.
    ///
    /// # Errors
    ///
    /// Fails when the database refuses the row, cannot write, or has another transaction in the way.
    pub fn insert(&self, table: &[u8], cells: &[Cell<'_>]) -> Result<(), DbError> {
        match &self.way {
            Way::Driver(link) => link.insert(table, cells),
            Way::Sqlite(database, _) => database.run(table, Verb::Insert(cells), &[]).map(|_| ()),
            Way::Recorded(recorded) => recorded::take(recorded, table, Verb::Insert(cells), &[]),
        }
    }

    /// `UPDATE table SET cells WHERE all conditions`.
    ///
    /// # Errors
    ///
    /// Fails when the database refuses the values, cannot write, or has another transaction in the way. That no row
    /// meets the conditions is no failure.
    pub fn update(&self, table: &[u8], cells: &[Cell<'_>], conditions: &[Cond<'_>]) -> Result<(), DbError> {
        match &self.way {
            Way::Driver(link) => link.update(table, cells, conditions),
            Way::Sqlite(database, _) => database.run(table, Verb::Update(cells), conditions).map(|_| ()),
            Way::Recorded(recorded) => recorded::take(recorded, table, Verb::Update(cells), conditions),
        }
    }

    /// `DELETE FROM table WHERE all conditions`.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot write, or has another transaction in the way. That no row meets the conditions is
    /// no failure.
    pub fn delete(&self, table: &[u8], conditions: &[Cond<'_>]) -> Result<(), DbError> {
        match &self.way {
            Way::Driver(link) => link.delete(table, conditions),
            Way::Sqlite(database, _) => database.run(table, Verb::Delete, conditions).map(|_| ()),
            Way::Recorded(recorded) => recorded::take(recorded, table, Verb::Delete, conditions),
        }
    }

    /// Whether the driver knows how many rows a statement has touched. db_text, when it is asked before there was any
    /// statement, logs an error.
    pub fn counts_rows(&self) -> bool {
        match &self.way {
            Way::Driver(link) => link.functions.affected_rows.is_some(),
            Way::Sqlite(..) | Way::Recorded(_) => true,
        }
    }

    /// How many rows the last UPDATE or DELETE touched, where the driver knows.
    pub fn affected_rows(&self) -> Option<i32> {
        match &self.way {
            Way::Driver(link) => {
                let count = link.functions.affected_rows?;
                // SAFETY: the driver's own function and connection.
                Some(unsafe { count(link.raw) }).filter(|rows| *rows >= 0)
            }
            Way::Sqlite(database, _) => Some(database.changes()),
            Way::Recorded(recorded) => Some(recorded::affected_rows(recorded)),
        }
    }

    /// A statement as text, where the driver takes one. Its columns are those of `C`, in their order.
    ///
    /// # Errors
    ///
    /// Fails when the database refuses the statement or cannot be reached.
    pub fn raw_query<C: Column>(&self, text: &str) -> Result<Option<Rows<'_, C>>, DbError> {
        Ok(self.find_by_text(text)?.map(Rows::of))
    }

    /// The same for a statement without rows.
    ///
    /// # Errors
    ///
    /// Fails when the database refuses the statement or cannot be reached.
    pub fn raw_statement(&self, text: &str) -> Result<(), DbError> {
        self.find_by_text(text).map(|_| ())
    }

    fn find_by_text(&self, text: &str) -> Result<Option<ResultSet<'_>>, DbError> {
        match &self.way {
            Way::Driver(link) => link.raw_query(text.as_bytes()),
            Way::Sqlite(database, _) => Ok(Some(ResultSet::Sqlite(database.text(text)?))),
            Way::Recorded(recorded) => recorded::refuse(recorded),
        }
    }

    /// What a failure was, once its transaction has ended.
    pub fn explain(&self, error: DbError) -> DbError {
        match &self.way {
            Way::Driver(link) => link.explain(error),
            Way::Sqlite(..) | Way::Recorded(_) => error,
        }
    }

    /// Whether [`DbError::Refused`] is certain; otherwise a collision with another transaction may have looked like it.
    pub fn explains_refusals(&self) -> bool {
        match &self.way {
            Way::Driver(link) => link.explains_refusals(),
            Way::Sqlite(..) | Way::Recorded(_) => true,
        }
    }
}

/// The longest body that a statement in a buffer of this size can bring.
fn longest_body(scheme: &[u8], buffer: usize) -> usize {
    let longest = buffer.saturating_sub(REST_OF_STATEMENT) / 2;
    if scheme == b"mysql" { longest.min(MYSQL_BLOB) } else { longest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_take_turns_where_nobody_says_what_was_written() {
        for (url, compares) in [("unixodbc://a:b@c/d", false), ("sqlite:///a", true), ("text:///a", true)] {
            let (url, functions) = (DbUrl::new(url.as_bytes()), sys::db_func_t::default());
            let ways = Ways { sqlite: SqliteWay::Driver, printing: Printing::Driver, commits: Commits::Own };
            let driver = Driver { functions, url, ways };
            assert_eq!((driver.compares_and_writes(), driver.writers_take_turns()), (compares, true), "{url}");
        }
    }

    #[test]
    fn a_body_takes_half_of_a_statement() {
        assert_eq!([b"postgres".as_slice(), b"mysql"].map(|scheme| longest_body(scheme, 65_535)), [31_743, 31_743]);
        assert_eq!((longest_body(b"postgres", 1 << 20), longest_body(b"mysql", 1 << 20)), (523_264, MYSQL_BLOB));
        assert_eq!(longest_body(b"postgres", 100), 0);
    }

    #[test]
    fn statements_make_transactions_where_the_driver_has_no_functions() {
        // db_sqlite of Kamailio 5.6 to 6.1, db_text, db_unixodbc.
        let f = sys::db_func_t::default();
        let found = [&b"sqlite"[..], b"text", b"unixodbc"].map(|scheme| TransactionWay::of(scheme, &f));
        assert_eq!(found, [TransactionWay::Statements, TransactionWay::None, TransactionWay::None]);
    }
}
