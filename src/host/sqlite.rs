//! SQLite with statements that are prepared once and kept: the host's driver prints each of them as text, which SQLite
//! then reads again, and that is most of what a statement costs. Values are stored in the same classes as the driver
//! stores them.
pub(super) mod encoded;
pub(super) mod library;
pub(super) mod settings;

use super::bytes::{c_text, slice};
use super::db::failure::{DbError, of_sqlite};
use super::db::value::{Cell, Cond, Op, Value, number_of};
use crate::log;
use hashbrown::HashMap;
use library::{Library, Statement, class};
use settings::{Settings, path_of};
use std::cell::RefCell;
use std::fmt::Write;

/// Statements wait for another process that writes, for ten seconds at most.
pub const BUSY_TIMEOUT: &str = "PRAGMA busy_timeout=10000";

/// More statements than we have shapes of; reached only if shapes were made up at run time.
const KEPT_STATEMENTS: usize = 128;

/// An open database of this process.
pub struct SqliteConnection {
    library: &'static Library,
    raw: library::SqliteHandle,
    /// Statements by what distinguishes them, see [`Shape`].
    statements: RefCell<HashMap<Shape, Statement, foldhash::fast::RandomState>>,
}

/// What makes two statements the same: verb, table, columns (static names, distinguished by their addresses),
/// comparisons.
type Shape = Vec<usize>;

/// What a statement does.
#[derive(Clone, Copy)]
pub enum Verb<'a> {
    /// `SELECT` these columns, in this order.
    Select(&'a [&'static str], Option<&'a [u8]>),
    /// `INSERT` these values.
    Insert(&'a [Cell<'a>]),
    /// `UPDATE` to these values.
    Update(&'a [Cell<'a>]),
    /// `DELETE`.
    Delete,
}

/// Rows that were read.
#[derive(Default)]
pub struct SqliteRows {
    columns: usize,
    fields: Vec<SqliteField>,
    bytes: Vec<u8>,
}

/// One field of a row.
#[derive(Clone, Copy)]
pub enum SqliteField {
    /// NULL.
    Null,
    /// A number.
    Int(i64),
    /// Text or binary: where it lies in the table's bytes.
    Bytes(usize, usize),
}

impl SqliteConnection {
    /// Opens the database of a URL; `None` where SQLite is not loaded or the URL names no file.
    pub fn open(url: &[u8], settings: &Settings) -> Option<Result<SqliteConnection, DbError>> {
        let (library, path) = (Library::loaded()?, path_of(url)?);
        let mut raw = std::ptr::null_mut();
        // SAFETY: a path that ends with a NUL, a place for the handle.
        let code = unsafe { (library.open_v2)(path.as_ptr(), &mut raw, settings.open_flags(), std::ptr::null()) };
        let database = SqliteConnection { library, raw, statements: RefCell::default() };
        if code != library::OK {
            log!(Error, "cannot open the SQLite database {}: {}", path.to_string_lossy(), database.error());
            return Some(Err(DbError::Away));
        }
        let _ = database.text(BUSY_TIMEOUT);
        if let Some(mode) = settings.journal_pragma() {
            let _ = database.text(&mode);
        }
        Some(Ok(database))
    }

    fn error(&self) -> String {
        // SAFETY: SQLite always has a message for a handle, even for one that could not be opened.
        let text = unsafe { (self.library.errmsg)(self.raw) };
        // SAFETY: it ends with a NUL, and stays until the next call of SQLite.
        String::from_utf8_lossy(unsafe { c_text(text) }).into_owned()
    }

    /// How many rows the last INSERT, UPDATE or DELETE touched.
    pub fn changes(&self) -> i32 {
        // SAFETY: the handle is open as long as `self` lives, and this process alone uses it.
        unsafe { (self.library.changes)(self.raw) }
    }

    /// Runs a statement with the values of `verb` and the conditions.
    ///
    /// # Errors
    ///
    /// Fails when SQLite refuses the statement or a value of it, cannot write, or has waited for another writer in
    /// vain.
    pub fn run(&self, table: &[u8], verb: Verb<'_>, conditions: &[Cond<'_>]) -> Result<SqliteRows, DbError> {
        let statement = self.cached(shape(table, verb, conditions), || sql(table, verb, conditions))?;
        self.run_with(statement, values_of(verb, conditions))
    }

    /// Runs a statement given as text with its values; it is kept as others are.
    ///
    /// # Errors
    ///
    /// Fails when SQLite refuses the statement or a value of it, cannot write, or has waited for another writer in
    /// vain.
    fn run_text(&self, sql: &str, values: &[Value<'_>]) -> Result<SqliteRows, DbError> {
        let statement = self.cached(shape_of_text(sql), || sql.to_owned())?;
        self.run_with(statement, values.iter())
    }

    fn run_with<'v, 'a: 'v>(
        &self,
        statement: Statement,
        values: impl Iterator<Item = &'v Value<'a>>,
    ) -> Result<SqliteRows, DbError> {
        let run = Run { database: self, statement };
        fault_point!(statement "run");
        for (at, value) in values.enumerate() {
            run.bind(at as i32 + 1, value)?;
        }
        run.rows()
    }

    /// Whether a transaction is open: some failures end it, and undo what it has written.
    pub fn is_in_transaction(&self) -> bool {
        // SAFETY: the handle is open as long as `self` lives, and this process alone uses it.
        unsafe { (self.library.get_autocommit)(self.raw) == 0 }
    }

    /// Runs a statement given as text.
    ///
    /// # Errors
    ///
    /// Fails when SQLite refuses the statement, cannot write, or has waited for another writer in vain.
    pub fn text(&self, sql: &str) -> Result<SqliteRows, DbError> {
        let statement = self.prepare(sql, 0)?;
        let rows = Run { database: self, statement }.rows();
        // SAFETY: prepared above, not used again.
        unsafe { (self.library.finalize)(statement) };
        rows
    }

    /// Runs a statement without values that is kept.
    ///
    /// # Errors
    ///
    /// Fails when SQLite refuses the statement, cannot write, or has waited for another writer in vain.
    pub fn plain(&self, sql: &'static str) -> Result<(), DbError> {
        let statement = self.cached(vec![sql.as_ptr() as usize, sql.len()], || sql.to_owned())?;
        Run { database: self, statement }.rows().map(|_| ())
    }

    /// The statement of a shape, prepared when it is first needed.
    fn cached(&self, shape: Shape, sql: impl FnOnce() -> String) -> Result<Statement, DbError> {
        let cached = self.statements.borrow().get(&shape).copied();
        if let Some(statement) = cached {
            return Ok(statement);
        }
        let statement = self.prepare(&sql(), library::PREPARE_PERSISTENT)?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= KEPT_STATEMENTS {
            self.finalize(&mut statements);
        }
        statements.insert(shape, statement);
        Ok(statement)
    }

    fn prepare(&self, sql: &str, flags: u32) -> Result<Statement, DbError> {
        let mut statement = std::ptr::null_mut();
        // SAFETY: the text is given with its length; SQLite copies it.
        let code = unsafe {
            (self.library.prepare_v3)(
                self.raw,
                sql.as_ptr().cast(),
                sql.len() as i32,
                flags,
                &mut statement,
                std::ptr::null_mut(),
            )
        };
        if code != library::OK || statement.is_null() {
            crate::limited!(Error, "SQLite does not take \"{sql}\": {}", self.error());
            return Err(DbError::Away);
        }
        Ok(statement)
    }

    fn finalize<S>(&self, statements: &mut HashMap<Shape, Statement, S>) {
        for (_, statement) in statements.drain() {
            // SAFETY: prepared on this handle, forgotten with this call.
            unsafe { (self.library.finalize)(statement) };
        }
    }
}

impl Drop for SqliteConnection {
    fn drop(&mut self) {
        self.finalize(&mut self.statements.borrow_mut());
        // SAFETY: opened by `open`, closed once, without statements left.
        unsafe { (self.library.close)(self.raw) };
    }
}

/// One run of a statement; reset at its end, so that it holds neither locks nor what was bound to it.
struct Run<'d> {
    database: &'d SqliteConnection,
    statement: Statement,
}

impl Run<'_> {
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one arm is taken: one call, with one argument")]
    fn bind(&self, at: i32, value: &Value<'_>) -> Result<(), DbError> {
        let (library, to) = (self.database.library, self.statement);
        // SAFETY: values outlive the run, which is reset before they go; lengths belong to their pointers.
        let code = unsafe {
            match *value {
                // The driver binds numbers of 32 bits.
                Value::Int(n) => (library.bind_int64)(to, at, i64::from(n as i32)),
                Value::Time(n) => (library.bind_int64)(to, at, number_of(n)),
                Value::Long(n) => (library.bind_int64)(to, at, n),
                Value::NullText | Value::Optional([]) => (library.bind_null)(to, at),
                Value::Text(text) | Value::Optional(text) => {
                    (library.bind_text)(to, at, text.as_ptr().cast(), text.len() as i32, None)
                }
                Value::Blob(blob) => (library.bind_blob)(to, at, blob.as_ptr().cast(), blob.len() as i32, None),
            }
        };
        if code == library::OK { Ok(()) } else { Err(self.failed(code)) }
    }

    fn failed(&self, code: libc::c_int) -> DbError {
        crate::limited!(Error, "SQLite: {}", self.database.error());
        of_sqlite(code)
    }

    fn rows(&self) -> Result<SqliteRows, DbError> {
        let library = self.database.library;
        let mut table = SqliteRows::default();
        loop {
            // SAFETY: a prepared statement with all its values.
            match unsafe { (library.step)(self.statement) } {
                library::DONE => return Ok(table),
                library::ROW => self.read(&mut table),
                code => return Err(self.failed(code)),
            }
        }
    }

    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "what is read of one row that is ready has one argument")]
    fn read(&self, table: &mut SqliteRows) {
        let (library, of) = (self.database.library, self.statement);
        // SAFETY: a row is ready; each pointer is used before the next call of SQLite.
        unsafe {
            table.columns = (library.column_count)(of) as usize;
            for column in 0..table.columns as i32 {
                let field = match (library.column_type)(of, column) {
                    class::NULL => SqliteField::Null,
                    class::INTEGER | class::FLOAT => SqliteField::Int((library.column_int64)(of, column)),
                    _ => {
                        let (data, start) = ((library.column_blob)(of, column), table.bytes.len());
                        let length = (library.column_bytes)(of, column).max(0) as usize;
                        if !data.is_null() {
                            table.bytes.extend_from_slice(slice(data.cast(), length));
                        }
                        SqliteField::Bytes(start, table.bytes.len())
                    }
                };
                table.fields.push(field);
            }
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // SAFETY: a prepared statement; what reset returns was already returned by the run.
        unsafe { (self.database.library.reset)(self.statement) };
    }
}

impl SqliteRows {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.fields.len().checked_div(self.columns).unwrap_or(0)
    }

    /// The fields of a row.
    pub fn row(&self, at: usize) -> &[SqliteField] {
        &self.fields[at * self.columns..(at + 1) * self.columns]
    }

    /// What the byte fields point into.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The values of a statement in the order of their places in its text.
fn values_of<'v, 'a>(verb: Verb<'v>, conditions: &'v [Cond<'a>]) -> impl Iterator<Item = &'v Value<'v>> + use<'v, 'a> {
    let cells: &[Cell<'_>] = match verb {
        Verb::Insert(cells) | Verb::Update(cells) => cells,
        Verb::Select(..) | Verb::Delete => &[],
    };
    cells.iter().map(|(_, value)| value).chain(conditions.iter().map(|(_, _, value)| value))
}

fn push_text(shape: &mut Shape, text: &[u8]) {
    shape.push(text.len());
    shape.extend(text.chunks(size_of::<usize>()).map(|part| {
        let mut word = [0; size_of::<usize>()];
        word[..part.len()].copy_from_slice(part);
        usize::from_ne_bytes(word)
    }));
}

/// The shape of a statement that is known by its text. No table's name is as long as its first word says.
fn shape_of_text(sql: &str) -> Shape {
    let mut shape = vec![usize::MAX];
    push_text(&mut shape, sql.as_bytes());
    shape
}

fn shape(table: &[u8], verb: Verb<'_>, conditions: &[Cond<'_>]) -> Shape {
    let mut shape = Vec::with_capacity(96);
    let name = |shape: &mut Shape, name: &'static str| shape.extend([name.as_ptr() as usize, name.len()]);
    push_text(&mut shape, table);
    match verb {
        Verb::Select(columns, order) => {
            shape.push(1);
            push_text(&mut shape, order.unwrap_or_default());
            shape.push(columns.len());
            columns.iter().for_each(|column| name(&mut shape, column));
        }
        Verb::Insert(cells) | Verb::Update(cells) => {
            shape.extend([if matches!(verb, Verb::Insert(_)) { 2 } else { 3 }, cells.len()]);
            cells.iter().for_each(|(column, _)| name(&mut shape, column));
        }
        Verb::Delete => shape.push(4),
    }
    for (column, op, _) in conditions {
        name(&mut shape, column);
        shape.push(*op as usize);
    }
    shape
}

fn sql(table: &[u8], verb: Verb<'_>, conditions: &[Cond<'_>]) -> String {
    let table = String::from_utf8_lossy(table);
    let names = |cells: &[Cell<'_>]| cells.iter().map(|(column, _)| *column).collect::<Vec<_>>();
    let mut sql = match verb {
        Verb::Select(columns, _) => format!("SELECT {} FROM {table}", columns.join(",")),
        Verb::Insert(cells) => {
            format!("INSERT INTO {table} ({}) VALUES ({})", names(cells).join(","), vec!["?"; cells.len()].join(","))
        }
        Verb::Update(cells) => format!("UPDATE {table} SET {}=?", names(cells).join("=?,")),
        Verb::Delete => format!("DELETE FROM {table}"),
    };
    for (at, (column, op, _)) in conditions.iter().enumerate() {
        let sign = match op {
            Op::Eq => "=",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Gt => ">",
        };
        let _ = write!(sql, " {} {column}{sign}?", if at == 0 { "WHERE" } else { "AND" });
    }
    if let Verb::Select(_, Some(order)) = verb {
        let _ = write!(sql, " ORDER BY {}", String::from_utf8_lossy(order));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_what_the_driver_opens() {
        let path = |url: &str| path_of(url.as_bytes()).map(|path| path.into_string().unwrap());
        assert_eq!(path("sqlite:////var/lib/k.sqlite").as_deref(), Some("/var/lib/k.sqlite"));
        assert_eq!(path("sqlite:///k.sqlite").as_deref(), Some("k.sqlite"));
        assert_eq!(path("sqlite://host/k.sqlite?x=1").as_deref(), Some("k.sqlite"));
        assert_eq!(path("sqlite:///"), None);
        assert_eq!(path("sqlite:k"), None);
    }

    #[test]
    fn statements_differ_in_text_exactly_where_their_shapes_do() {
        let (one, two) =
            ([("a", Value::Int(1)), ("b", Value::Text(b"x"))], [("a", Value::Int(7)), ("b", Value::NullText)]);
        let (low, high) = ([("a", Op::Lt, Value::Int(1))], [("a", Op::Gt, Value::Int(1))]);
        let statements: [(&[u8], Verb<'_>, &[Cond<'_>]); 8] = [
            (b"t", Verb::Insert(&one), &[]),
            (b"t", Verb::Update(&one), &low),
            (b"t", Verb::Update(&one), &high),
            (b"u", Verb::Update(&one), &high),
            (b"t", Verb::Delete, &low),
            (b"t", Verb::Select(&["a", "b"], None), &low),
            (b"t", Verb::Select(&["a", "b"], Some(b"a desc")), &low),
            (b"t", Verb::Select(&["a"], None), &low),
        ];
        for (i, (table, verb, given)) in statements.iter().enumerate() {
            for (k, (other_table, other_verb, other_given)) in statements.iter().enumerate() {
                assert_eq!(shape(table, *verb, given) == shape(other_table, *other_verb, other_given), i == k);
                assert_eq!(sql(table, *verb, given) == sql(other_table, *other_verb, other_given), i == k);
            }
        }
        assert_eq!(shape(b"t", Verb::Insert(&one), &[]), shape(b"t", Verb::Insert(&two), &[]));
        assert_eq!(sql(b"t", Verb::Update(&one), &low), "UPDATE t SET a=?,b=? WHERE a<?");
        assert_eq!(
            sql(b"t", Verb::Select(&["a", "b"], Some(b"a desc")), &low),
            "SELECT a,b FROM t WHERE a<? ORDER BY a desc"
        );
    }

    #[test]
    fn a_bounded_number_of_statements_is_kept() {
        // SAFETY: a library without code that runs when it is loaded; it stays loaded.
        let library = unsafe { libc::dlopen(c"libsqlite3.so.0".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        assert!(!library.is_null(), "SQLite is not installed");
        let path = std::env::temp_dir().join(format!("kept-statements-{}.sqlite", std::process::id()));
        let url = format!("sqlite:///{}", path.display());
        let database = SqliteConnection::open(url.as_bytes(), &Settings::default()).expect("loaded").expect("open");
        let kept = || database.statements.borrow().len();
        let before = kept();
        for n in 0..2 * KEPT_STATEMENTS {
            let sql: &'static str = Box::leak(format!("PRAGMA user_version={n}").into_boxed_str());
            database.plain(sql).unwrap();
            assert_eq!(kept(), (before + n) % KEPT_STATEMENTS + 1, "{n}");
        }
        drop(database);
        std::fs::remove_file(path).unwrap();
    }
}
