//! SQLite's C interface, taken from the library that the host's driver has loaded: a second copy of SQLite in one
//! process would break the first one's file locks.
use libc::{c_char, c_int, c_void};
use std::sync::OnceLock;

/// An open database file.
pub(crate) type SqliteHandle = *mut c_void;
/// A prepared statement.
pub(crate) type Statement = *mut c_void;
/// What SQLite calls to free a bound value; `None` says that the value outlives the statement's run.
type Destructor = Option<unsafe extern "C" fn(*mut c_void)>;

/// `SQLITE_OK`.
pub(crate) const OK: c_int = 0;
/// `SQLITE_ROW`: a row is ready.
pub(crate) const ROW: c_int = 100;
/// `SQLITE_DONE`: the statement has run to its end.
pub(crate) const DONE: c_int = 101;
/// `SQLITE_OPEN_NOMUTEX`: a connection is used by one thread, that of its process, and needs no lock around each call.
const OPEN_WITHOUT_LOCK: c_int = 0x8000;
/// `SQLITE_OPEN_READONLY`.
pub(crate) const OPEN_READ_ONLY: c_int = 0x1 | OPEN_WITHOUT_LOCK;
/// `SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE`.
pub(crate) const OPEN_TO_WRITE: c_int = 0x2 | 0x4 | OPEN_WITHOUT_LOCK;
/// `SQLITE_PREPARE_PERSISTENT`: the statement will be used many times.
pub(crate) const PREPARE_PERSISTENT: u32 = 1;

/// `SQLITE_INTEGER`, `SQLITE_FLOAT` and `SQLITE_NULL`; the other classes are text and blob.
pub(crate) mod class {
    use libc::c_int;
    /// A whole number.
    pub(crate) const INTEGER: c_int = 1;
    /// A floating point number.
    pub(crate) const FLOAT: c_int = 2;
    /// `SQLITE_NULL`: a value that is absent.
    pub(crate) const NULL: c_int = 5;
}

/// The lower byte of a result code.
pub(crate) mod code {
    use libc::c_int;
    /// A general error: a trigger that raised one, a missing column.
    pub(crate) const ERROR: c_int = 1;
    /// A value is too large.
    pub(crate) const TOO_BIG: c_int = 18;
    /// A value is there twice, or NULL where none may be.
    pub(crate) const CONSTRAINT: c_int = 19;
    /// A value is of the wrong type.
    pub(crate) const MISMATCH: c_int = 20;
    /// There is no such placeholder.
    pub(crate) const RANGE: c_int = 25;
}

macro_rules! functions {
    ($($field:ident: $symbol:literal, fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of `sqlite3.h` that are used, each by its name there.
        #[allow(missing_docs, reason = "the names say it")]
        pub(crate) struct Library {
            $(pub $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Library {
            /// # Safety
            /// The handle is that of a loaded SQLite library, which is never unloaded.
            unsafe fn of(handle: *mut c_void) -> Option<Library> {
                $(
                    // SAFETY: the name ends with a NUL; the caller vouches for the handle.
                    let $field = unsafe { libc::dlsym(handle, concat!($symbol, "\0").as_ptr().cast()) };
                    if $field.is_null() {
                        return None;
                    }
                )*
                Some(Library { $(
                    // SAFETY: the symbol has this type in `sqlite3.h`, which never changes it.
                    $field: unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>($field)
                    },
                )* })
            }
        }
    };
}

functions! {
    open_v2: "sqlite3_open_v2", fn(*const c_char, *mut SqliteHandle, c_int, *const c_char) -> c_int;
    close: "sqlite3_close", fn(SqliteHandle) -> c_int;
    errmsg: "sqlite3_errmsg", fn(SqliteHandle) -> *const c_char;
    changes: "sqlite3_changes", fn(SqliteHandle) -> c_int;
    get_autocommit: "sqlite3_get_autocommit", fn(SqliteHandle) -> c_int;
    prepare_v3: "sqlite3_prepare_v3",
        fn(SqliteHandle, *const c_char, c_int, u32, *mut Statement, *mut *const c_char) -> c_int;
    bind_null: "sqlite3_bind_null", fn(Statement, c_int) -> c_int;
    bind_int64: "sqlite3_bind_int64", fn(Statement, c_int, i64) -> c_int;
    bind_text: "sqlite3_bind_text", fn(Statement, c_int, *const c_char, c_int, Destructor) -> c_int;
    bind_blob: "sqlite3_bind_blob", fn(Statement, c_int, *const c_void, c_int, Destructor) -> c_int;
    step: "sqlite3_step", fn(Statement) -> c_int;
    reset: "sqlite3_reset", fn(Statement) -> c_int;
    finalize: "sqlite3_finalize", fn(Statement) -> c_int;
    column_count: "sqlite3_column_count", fn(Statement) -> c_int;
    column_type: "sqlite3_column_type", fn(Statement, c_int) -> c_int;
    column_int64: "sqlite3_column_int64", fn(Statement, c_int) -> i64;
    column_blob: "sqlite3_column_blob", fn(Statement, c_int) -> *const c_void;
    column_bytes: "sqlite3_column_bytes", fn(Statement, c_int) -> c_int;
}

impl Library {
    /// The library, if a driver has loaded it; it is not loaded for us alone.
    pub(crate) fn loaded() -> Option<&'static Library> {
        static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        let open = || {
            // SAFETY: a literal name; RTLD_NOLOAD runs no code of a library that is not there yet.
            let handle = unsafe { libc::dlopen(c"libsqlite3.so.0".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
            if handle.is_null() {
                return None;
            }
            // SAFETY: the handle is that of the library by its name, and is never closed.
            unsafe { Library::of(handle) }
        };
        LIBRARY.get_or_init(open).as_ref()
    }
}
