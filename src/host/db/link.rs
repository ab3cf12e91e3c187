//! A connection as a driver of the host has it: statements are arrays of columns and values, and why one failed is
//! asked for afterwards.
use crate::host::bytes::{c_text, lend};
use crate::host::db::failure::{DbError, of_mysql};
use crate::host::db::rows::{ResultSet, Rows, row_columns};
use crate::host::db::statement_text::{DocumentPrinting, StatementText};
use crate::host::db::table_name::TableName;
use crate::host::db::value::{Cell, Columns, Cond, Value, raw_op};
use crate::sys;
use std::cell::Cell as StdCell;

type RawConnection = *mut sys::db1_con_t;

/// A connection that the driver has opened; closed when dropped.
pub(super) struct Link {
    pub(super) functions: sys::db_func_t,
    pub(super) raw: RawConnection,
    /// What an empty text is written as.
    pub(super) empty: &'static [u8],
    pub(super) scheme: &'static [u8],
    /// Whether statements are printed here where nothing has to be escaped.
    pub(super) prints: bool,
    pub(super) table: TableName,
    /// A statement has failed: the connection may be lost.
    pub(super) may_be_lost: StdCell<bool>,
}

/// Another module's connection, with the table it has chosen.
pub struct Borrowed<'a> {
    functions: &'a sys::db_func_t,
    raw: *mut sys::db1_con_t,
}

impl<'a> Borrowed<'a> {
    /// # Safety
    /// Functions and connection belong together and stay valid while this lives.
    pub unsafe fn new(functions: &'a sys::db_func_t, raw: *mut sys::db1_con_t) -> Self {
        Borrowed { functions, raw }
    }

    fn target(&self) -> StatementTarget<'_> {
        StatementTarget { functions: self.functions, raw: self.raw, empty: b"", link: None }
    }

    /// `INSERT`.
    ///
    /// # Errors
    ///
    /// Fails when the driver refuses the row or cannot write.
    pub fn insert(&self, cells: &[Cell<'_>]) -> Result<(), DbError> {
        insert_into(&self.target(), cells)
    }

    /// `UPDATE`.
    ///
    /// # Errors
    ///
    /// Fails when the driver refuses the values or cannot write. That no row meets the conditions is no failure.
    pub fn update(&self, cells: &[Cell<'_>], conditions: &[Cond<'_>]) -> Result<(), DbError> {
        update_where(&self.target(), cells, conditions)
    }

    /// `DELETE`.
    ///
    /// # Errors
    ///
    /// Fails when the driver cannot write. That no row meets the conditions is no failure.
    pub fn delete(&self, conditions: &[Cond<'_>]) -> Result<(), DbError> {
        delete_where(&self.target(), conditions)
    }
}

row_columns! {
    /// What `SHOW ERRORS` of MariaDB and MySQL answers with.
    #[allow(dead_code, reason = "columns have their places also where one is not read")]
    enum ShownError {
        Level = "Level",
        Code = "Code",
        Message = "Message",
    }
}

/// Where a statement goes.
pub(super) struct StatementTarget<'a> {
    functions: &'a sys::db_func_t,
    raw: RawConnection,
    /// What an empty text is written as.
    empty: &'static [u8],
    /// The connection to ask why a statement failed.
    link: Option<&'a Link>,
}

impl StatementTarget<'_> {
    fn result(&self, code: i32) -> Result<(), DbError> {
        match code {
            ..0 => Err(self.link.map_or(DbError::Unexplained, Link::failed)),
            _ => Ok(()),
        }
    }
}

fn insert_into(to: &StatementTarget<'_>, cells: &[Cell<'_>]) -> Result<(), DbError> {
    let insert = to.functions.insert.ok_or(DbError::Away)?;
    let mut columns = Columns::new(to.empty, cells.iter().copied());
    // SAFETY: arrays and their length belong together.
    let done =
        unsafe { insert(to.raw, columns.keys.as_mut_ptr() as *const _, columns.values.as_ptr(), columns.count()) };
    to.result(done)
}

fn update_where(to: &StatementTarget<'_>, cells: &[Cell<'_>], conditions: &[Cond<'_>]) -> Result<(), DbError> {
    let update = to.functions.update.ok_or(DbError::Away)?;
    let mut set = Columns::new(to.empty, cells.iter().copied());
    let mut given = Columns::new(to.empty, conditions.iter().map(|(c, _, v)| (*c, *v)));
    let mut ops: Vec<_> = conditions.iter().map(|(_, op, _)| raw_op(*op)).collect();
    // SAFETY: arrays and their lengths belong together.
    let done = unsafe {
        update(
            to.raw,
            given.keys.as_mut_ptr() as *const _,
            ops.as_mut_ptr() as *const _,
            given.values.as_ptr(),
            set.keys.as_mut_ptr() as *const _,
            set.values.as_ptr(),
            given.count(),
            set.count(),
        )
    };
    to.result(done)
}

fn delete_where(to: &StatementTarget<'_>, conditions: &[Cond<'_>]) -> Result<(), DbError> {
    let delete = to.functions.delete.ok_or(DbError::Away)?;
    let mut given = Columns::new(to.empty, conditions.iter().map(|(c, _, v)| (*c, *v)));
    let mut ops: Vec<_> = conditions.iter().map(|(_, op, _)| raw_op(*op)).collect();
    // SAFETY: arrays and their length belong together.
    let done = unsafe {
        delete(
            to.raw,
            given.keys.as_mut_ptr() as *const _,
            ops.as_mut_ptr() as *const _,
            given.values.as_ptr(),
            given.count(),
        )
    };
    to.result(done)
}

impl Link {
    fn target(&self) -> StatementTarget<'_> {
        StatementTarget { functions: &self.functions, raw: self.raw, empty: self.empty, link: Some(self) }
    }

    /// A statement that needs no escaping, with a NUL behind it; `None`: the driver has to print it.
    fn printed<'a>(&'a self, print: impl FnOnce(StatementText<'a>) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        if !self.prints {
            return None;
        }
        // SAFETY: an open connection of the driver.
        let quote = unsafe { (*self.raw).tquote };
        // SAFETY: null, or a constant of the driver that ends with a NUL.
        let quote = if quote.is_null() { b"" } else { unsafe { c_text(quote) } };
        let documents = if self.is_postgres() { DocumentPrinting::Hexadecimal } else { DocumentPrinting::ByDriver };
        print(StatementText::new(quote, documents))
    }

    /// Runs a printed statement; the result is none where the driver gives none.
    fn run(&self, printed: &[u8]) -> Result<Option<ResultSet<'_>>, DbError> {
        self.raw_query(&printed[..printed.len() - 1])
    }

    /// Inserts a row.
    ///
    /// # Errors
    ///
    /// Fails when the database refuses the row or cannot be reached.
    pub(super) fn insert(&self, table: &[u8], cells: &[Cell<'_>]) -> Result<(), DbError> {
        match self.printed(|text| text.insert(table, cells)) {
            Some(printed) => self.run(&printed).map(|_| ()),
            None => insert_into(&self.on_table(table)?, cells),
        }
    }

    /// Changes rows.
    ///
    /// # Errors
    ///
    /// Fails when the database refuses the change or cannot be reached.
    pub(super) fn update(&self, table: &[u8], cells: &[Cell<'_>], conditions: &[Cond<'_>]) -> Result<(), DbError> {
        match self.printed(|text| text.update(table, cells, conditions)) {
            Some(printed) => self.run(&printed).map(|_| ()),
            None => update_where(&self.on_table(table)?, cells, conditions),
        }
    }

    /// Deletes rows.
    ///
    /// # Errors
    ///
    /// Fails when the database refuses that or cannot be reached.
    pub(super) fn delete(&self, table: &[u8], conditions: &[Cond<'_>]) -> Result<(), DbError> {
        match self.printed(|text| text.delete(table, conditions)) {
            Some(printed) => self.run(&printed).map(|_| ()),
            None => delete_where(&self.on_table(table)?, conditions),
        }
    }

    fn is_postgres(&self) -> bool {
        self.scheme == b"postgres"
    }

    /// Has the driver of PostgreSQL connect before it prints a statement, where it may have lost its connection:
    /// without one its library escapes as very old servers want it, and what a new one stores has other bytes.
    fn connect_again(&self) -> Result<(), DbError> {
        if self.is_postgres() && self.may_be_lost.get() {
            self.plain_query(b"select 1").map_err(|_| DbError::Away)?;
            self.may_be_lost.set(false);
        }
        Ok(())
    }

    /// Selects a table, for a statement that the driver prints.
    ///
    /// # Errors
    ///
    /// Fails when the driver cannot use the table.
    pub(super) fn on_table(&self, table: &[u8]) -> Result<StatementTarget<'_>, DbError> {
        self.connect_again()?;
        let use_table = self.functions.use_table.ok_or(DbError::Away)?;
        // SAFETY: the driver's own function and connection; the name stays where it is until this function is called
        // again, or the connection was closed.
        if unsafe { use_table(self.raw, self.table.of(table)) } < 0 {
            Err(DbError::Unexplained)
        } else {
            Ok(self.target())
        }
    }

    /// Reads the columns of the rows that meet the conditions.
    ///
    /// # Errors
    ///
    /// Fails when the driver does not take the table, or the statement fails.
    pub(super) fn select(
        &self,
        table: &[u8],
        columns: &[&'static str],
        conditions: &[Cond<'_>],
        order: Option<&[u8]>,
    ) -> Result<ResultSet<'_>, DbError> {
        if let Some(printed) = self.printed(|text| text.select(table, columns, conditions, order)) {
            return self.run(&printed)?.ok_or_else(|| self.failed());
        }
        self.on_table(table)?;
        let query = self.functions.query.ok_or(DbError::Away)?;
        let mut given = Columns::new(self.empty, conditions.iter().map(|(c, _, v)| (*c, *v)));
        let mut ops: Vec<_> = conditions.iter().map(|(_, op, _)| raw_op(*op)).collect();
        let mut wanted = Columns::new(self.empty, columns.iter().map(|c| (*c, Value::NullText)));
        let mut order = order.map(lend);
        let mut result = std::ptr::null_mut();
        // SAFETY: all arrays have the lengths passed with them and live until the call returns.
        let done = unsafe {
            query(
                self.raw,
                given.keys.as_mut_ptr() as *const _,
                ops.as_mut_ptr() as *const _,
                given.values.as_ptr(),
                wanted.keys.as_mut_ptr() as *const _,
                given.count(),
                wanted.count(),
                order.as_mut().map_or(std::ptr::null_mut(), |order| &mut **order),
                &mut result,
            )
        };
        if done < 0 || result.is_null() {
            return Err(self.failed());
        }
        Ok(self.found(result))
    }

    fn found(&self, result: *mut sys::db1_res_t) -> ResultSet<'_> {
        let (functions, scheme, empty) = (&self.functions, self.scheme, self.empty);
        ResultSet::Driver { functions, connection: self.raw, scheme, empty, result }
    }

    /// Carries out a statement that is written out; `None` where it has no rows.
    ///
    /// # Errors
    ///
    /// Fails when the driver knows no such statements, or this one fails.
    pub(super) fn raw_query(&self, text: &[u8]) -> Result<Option<ResultSet<'_>>, DbError> {
        self.plain_query(text).map_err(|error| if error == DbError::Away { error } else { self.failed() })
    }

    /// A statement as text, without asking why it failed.
    fn plain_query(&self, text: &[u8]) -> Result<Option<ResultSet<'_>>, DbError> {
        let query = self.functions.raw_query.ok_or(DbError::Away)?;
        let mut result = std::ptr::null_mut();
        // SAFETY: the text outlives the call.
        if unsafe { query(self.raw, &*lend(text), &mut result) } < 0 {
            self.may_be_lost.set(true);
            return Err(DbError::Unexplained);
        }
        Ok((!result.is_null()).then(|| self.found(result)))
    }

    /// What MariaDB says of the statement before, if anything.
    fn error_code(&self) -> Result<Option<i64>, DbError> {
        let found = self.plain_query(b"show errors")?.ok_or(DbError::Away)?;
        let errors: Rows<'_, ShownError> = Rows::of(found);
        Ok(errors.iter().next().map(|error| error.int(ShownError::Code)))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(close) = self.functions.close {
            // SAFETY: opened by `Driver::connect`, closed once.
            unsafe { close(self.raw) }
        }
    }
}

impl Link {
    /// What a statement of this connection failed for, right after it: only MariaDB says.
    pub(super) fn failed(&self) -> DbError {
        self.may_be_lost.set(true);
        if self.scheme != b"mysql" {
            return DbError::Unexplained;
        }
        match self.error_code() {
            Ok(code) => code.map_or(DbError::Unexplained, of_mysql),
            Err(_) => DbError::Away,
        }
    }

    /// What a statement failed for whose transaction has ended: a database that answers has refused the statement.
    /// Files are always there; a driver that takes no text cannot be asked.
    pub(super) fn explain(&self, error: DbError) -> DbError {
        if error != DbError::Unexplained || self.scheme == b"text" {
            return if error == DbError::Unexplained { DbError::Refused } else { error };
        }
        match self.plain_query(b"select 1") {
            Ok(Some(_)) => DbError::Refused,
            _ => DbError::Away,
        }
    }

    /// Whether [`DbError::Refused`] is certain; otherwise a collision may have looked like it.
    pub(super) fn explains_refusals(&self) -> bool {
        matches!(self.scheme, b"mysql" | b"text")
    }
}

/// How a transaction of a driver is begun and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransactionWay {
    /// By the driver's own functions.
    Functions,
    /// By statements: db_sqlite has no such functions, and SQLite has transactions.
    Statements,
    /// No transactions: each statement is committed by itself.
    None,
}

impl TransactionWay {
    /// The way of a driver with these functions.
    pub(super) fn of(scheme: &[u8], f: &sys::db_func_t) -> TransactionWay {
        if f.start_transaction.is_some() && f.end_transaction.is_some() && f.abort_transaction.is_some() {
            TransactionWay::Functions
        } else if scheme == b"sqlite" {
            TransactionWay::Statements
        } else {
            TransactionWay::None
        }
    }
}

impl Link {
    fn transaction_way(&self) -> TransactionWay {
        TransactionWay::of(self.scheme, &self.functions)
    }

    /// `false` where the driver knows no transactions.
    ///
    /// # Errors
    ///
    /// Fails when the driver knows transactions, and the database begins none.
    pub(super) fn begin(&self) -> Result<bool, DbError> {
        let start = match self.transaction_way() {
            TransactionWay::Functions => self.functions.start_transaction.ok_or(DbError::Away)?,
            TransactionWay::Statements => return self.plain_query(b"BEGIN IMMEDIATE").map(|_| true),
            TransactionWay::None => return Ok(false),
        };
        // SAFETY: the driver's own function and its open connection, which takes no lock.
        if unsafe { start(self.raw, sys::db_locking_t_DB_LOCKING_NONE) } < 0 {
            self.may_be_lost.set(true);
            return Err(DbError::Unexplained);
        }
        Ok(true)
    }

    /// Commits the transaction that was begun.
    ///
    /// # Errors
    ///
    /// Fails when the database does not commit: nothing of the transaction was written.
    pub(super) fn commit(&self) -> Result<(), DbError> {
        if self.transaction_way() == TransactionWay::Statements {
            return self.plain_query(b"COMMIT").map(|_| ());
        }
        let end = self.functions.end_transaction.ok_or(DbError::Away)?;
        // SAFETY: the driver's own function and its connection, on which `begin` has opened a transaction.
        if unsafe { end(self.raw) } < 0 { Err(self.failed()) } else { Ok(()) }
    }

    pub(super) fn roll_back(&self) {
        if self.transaction_way() == TransactionWay::Statements {
            // Where it fails SQLite has undone the transaction itself.
            let _ = self.plain_query(b"ROLLBACK");
        } else if let Some(abort) = self.functions.abort_transaction {
            // SAFETY: as in `commit`; nothing can be done where it fails.
            unsafe { abort(self.raw) };
        }
    }
}
