//! A transaction that is undone unless it is committed, whatever way it is left: an error, an early return, a panic.
use crate::host::db::connection::{Connection, Way};
use crate::host::db::failure::DbError;
use crate::host::db::recorded;

/// An open transaction of a connection.
pub(super) struct Transaction<'c> {
    way: &'c Way,
    is_open: bool,
}

impl<'c> Transaction<'c> {
    /// Begins one where the driver knows them; elsewhere every statement stands for itself.
    ///
    /// # Errors
    ///
    /// Fails when the driver knows transactions, and the database begins none.
    pub(super) fn begin(connection: &'c Connection) -> Result<Self, DbError> {
        let way = &connection.way;
        let is_open = match way {
            Way::Driver(link) => link.begin()?,
            Way::Sqlite(database, _) => database.plain("BEGIN IMMEDIATE").map(|()| true)?,
            Way::Recorded(recorded) => recorded::refuse(recorded)?,
        };
        Ok(Transaction { way, is_open })
    }

    /// Makes it last.
    ///
    /// # Errors
    ///
    /// Fails when the database does not commit: nothing of the transaction was written.
    pub(super) fn commit(mut self) -> Result<(), DbError> {
        if self.is_open {
            match self.way {
                Way::Driver(link) => link.commit()?,
                Way::Sqlite(database, _) => database.plain("COMMIT")?,
                Way::Recorded(_) => {}
            }
            self.is_open = false;
        }
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        match self.way {
            Way::Driver(link) => link.roll_back(),
            Way::Sqlite(database, _) => {
                let _ = database.plain("ROLLBACK");
            }
            Way::Recorded(_) => {}
        }
    }
}

impl Connection {
    /// Runs `work` inside a transaction where the driver knows them; undone when `work` fails or panics.
    ///
    /// # Errors
    ///
    /// Fails when `work` fails, and when the transaction cannot be begun or committed.
    pub fn transaction<T>(&self, work: impl FnOnce(&Connection) -> Result<T, DbError>) -> Result<T, DbError> {
        let transaction = Transaction::begin(self)?;
        fault_point!(statement "transaction");
        let value = work(self)?;
        transaction.commit()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::db::link::Link;
    use crate::host::db::{Commits, Driver, Printing, SqliteWay, Value, Ways, row_columns};
    use crate::host::db_url::DbUrl;
    use crate::host::sqlite::SqliteConnection;
    use crate::sys;

    /// A connection past the driver to a new file.
    fn connection(path: &str) -> Connection {
        // SAFETY: a literal name; what the driver does where there is one.
        assert!(!unsafe { libc::dlopen(c"libsqlite3.so.0".as_ptr(), libc::RTLD_NOW) }.is_null(), "SQLite is needed");
        let url = DbUrl::new(format!("sqlite:///{path}").leak().as_bytes());
        let functions = sys::db_func_t::default();
        let database: SqliteConnection =
            SqliteConnection::open(url.for_driver(), &Default::default()).unwrap().unwrap();
        let link = Link {
            functions,
            raw: std::ptr::null_mut(),
            empty: b"",
            scheme: b"sqlite",
            prints: false,
            table: Default::default(),
            may_be_lost: false.into(),
        };
        database.text("create table if not exists t (id integer primary key, n integer)").unwrap();
        let ways = Ways { sqlite: SqliteWay::Direct, printing: Printing::Driver, commits: Commits::Own };
        Connection { driver: Driver { functions, url, ways }, way: Way::Sqlite(database, link) }
    }

    row_columns! {
        #[allow(dead_code, reason = "rows are only counted")]
        enum Numbers {
            N = "n",
        }
    }

    fn count(connection: &Connection) -> usize {
        connection.select::<Numbers>(b"t", &[], None).unwrap().len()
    }

    #[test]
    fn a_panic_or_an_error_leaves_no_transaction_open() {
        let path = std::env::temp_dir().join(format!("transaction-{}.sqlite", std::process::id()));
        let path = path.to_str().unwrap();
        let (one, other) = (connection(path), connection(path));
        let insert = |db: &Connection, n| db.insert(b"t", &[("n", Value::Int(n))]);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            one.transaction(|db| -> Result<(), DbError> {
                insert(db, 1)?;
                panic!("inside")
            })
        }));
        assert!(panicked.is_err());
        let refused = one.transaction(|db| insert(db, 2).and(Err::<(), _>(DbError::Refused)));
        assert_eq!(refused, Err(DbError::Refused));
        assert_eq!(count(&other), 0, "what was begun is undone");
        one.transaction(|db| insert(db, 3)).unwrap();
        other.transaction(|db| insert(db, 4)).unwrap();
        assert_eq!((count(&one), count(&other)), (2, 2));
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{path}{suffix}"));
        }
    }
}
