//! A database for tests: SQLite's own memory, with the tables as Kamailio defines them. Statements reach it as they
//! reach a file past its driver; what its triggers refuse is refused as by a database.
use crate::host::db::connection::{Commits, Connection, Driver, Printing, SqliteWay, Way, Ways};
use crate::host::db::link::Link;
use crate::host::db_url::DbUrl;
use crate::host::sqlite::{SqliteConnection, SqliteField};
use crate::sys;

/// The tables of `presence-create.sql`, without lengths, which SQLite does not look at.
const TABLES: [&str; 4] = [
    "CREATE TABLE presentity (id INTEGER PRIMARY KEY, username NOT NULL, domain NOT NULL, event NOT NULL,
        etag NOT NULL, expires INTEGER NOT NULL, received_time INTEGER NOT NULL, body BLOB NOT NULL, sender NOT NULL,
        priority INTEGER DEFAULT 0 NOT NULL, ruid UNIQUE, UNIQUE (username, domain, event, etag))",
    "CREATE TABLE active_watchers (id INTEGER PRIMARY KEY, presentity_uri NOT NULL, watcher_username NOT NULL,
        watcher_domain NOT NULL, to_user NOT NULL, to_domain NOT NULL, event NOT NULL, event_id, to_tag NOT NULL,
        from_tag NOT NULL, callid NOT NULL, local_cseq INTEGER NOT NULL, remote_cseq INTEGER NOT NULL,
        contact NOT NULL, record_route, expires INTEGER NOT NULL, status INTEGER DEFAULT 2 NOT NULL, reason,
        version INTEGER DEFAULT 0 NOT NULL, socket_info NOT NULL, local_contact NOT NULL, from_user NOT NULL,
        from_domain NOT NULL, updated INTEGER NOT NULL, updated_winfo INTEGER NOT NULL,
        flags INTEGER DEFAULT 0 NOT NULL, user_agent DEFAULT '', UNIQUE (callid, to_tag, from_tag))",
    "CREATE TABLE watchers (id INTEGER PRIMARY KEY, presentity_uri NOT NULL, watcher_username NOT NULL,
        watcher_domain NOT NULL, event NOT NULL, status INTEGER NOT NULL, reason, inserted_time INTEGER NOT NULL,
        UNIQUE (presentity_uri, watcher_username, watcher_domain, event))",
    "CREATE TABLE pua (id INTEGER PRIMARY KEY, pres_uri NOT NULL, pres_id NOT NULL, event INTEGER NOT NULL,
        expires INTEGER NOT NULL, desired_expires INTEGER NOT NULL, flag INTEGER NOT NULL, etag NOT NULL, tuple_id,
        watcher_uri NOT NULL, call_id NOT NULL, to_tag NOT NULL, from_tag NOT NULL, cseq INTEGER NOT NULL,
        record_route, contact NOT NULL, remote_contact NOT NULL, version INTEGER NOT NULL, extra_headers NOT NULL,
        UNIQUE (etag, tuple_id, call_id, from_tag))",
];

/// The driver of such a database: it opens no second one.
pub(crate) fn driver() -> Driver {
    let ways = Ways { sqlite: SqliteWay::Direct, printing: Printing::Driver, commits: Commits::Own };
    Driver { functions: sys::db_func_t::default(), url: DbUrl::new(b"sqlite:///:memory:"), ways }
}

/// A new database with empty tables.
pub(crate) fn connection() -> Connection {
    // SAFETY: a literal name; what the driver does where there is one.
    assert!(!unsafe { libc::dlopen(c"libsqlite3.so.0".as_ptr(), libc::RTLD_NOW) }.is_null(), "SQLite is needed");
    let driver = driver();
    let database = SqliteConnection::open(driver.url.for_driver(), &Default::default());
    let database = database.expect("SQLite is loaded").expect("memory can always be opened");
    for table in TABLES {
        database.text(table).unwrap();
    }
    let link = Link {
        functions: driver.functions,
        raw: std::ptr::null_mut(),
        empty: b"",
        scheme: driver.scheme(),
        prints: false,
        table: Default::default(),
        may_be_lost: false.into(),
    };
    Connection { driver, way: Way::Sqlite(database, link) }
}

impl Connection {
    /// The rows that a statement finds, the values of each joined by blanks.
    pub(crate) fn lines(&self, statement: &str) -> Vec<String> {
        let Way::Sqlite(database, _) = &self.way else { panic!("a database in memory") };
        let rows = database.text(statement).unwrap();
        let shown = |field: &SqliteField| match *field {
            SqliteField::Null => "NULL".to_owned(),
            SqliteField::Int(number) => number.to_string(),
            SqliteField::Bytes(from, to) => String::from_utf8_lossy(&rows.bytes()[from..to]).into_owned(),
        };
        let line = |at| rows.row(at).iter().map(shown).collect::<Vec<_>>().join(" ");
        (0..rows.rows()).map(line).collect()
    }
}
