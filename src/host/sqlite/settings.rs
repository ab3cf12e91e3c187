//! How db_sqlite was set for a file (`db_set_readonly`, `db_set_journal_mode`): a connection past the driver opens
//! it as the driver does.
use super::library;
use crate::host::bytes::{lend, view};
use crate::sys;
use std::ffi::{CString, c_int, c_void};

/// Readers go on while one writes. Where the file cannot have it, the mode it has will do.
pub(crate) const WRITE_AHEAD: &str = "PRAGMA journal_mode=WAL";

/// How a file is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    access: Access,
    /// `None`: the write-ahead log.
    journal_mode: Option<String>,
}

/// What may be done to a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Access {
    /// The database is read and written, and made where it is missing.
    #[default]
    ReadAndWrite,
    /// The database is only read.
    ReadOnly,
}

/// The file that the driver would open for a URL: what follows the host, up to the parameters.
pub(crate) fn path_of(url: &[u8]) -> Option<CString> {
    let after = &url[memchr::memmem::find(url, b"://")? + 3..];
    let path = &after[memchr::memchr(b'/', after)? + 1..];
    let path = &path[..memchr::memchr(b'?', path).unwrap_or(path.len())];
    if path.is_empty() { None } else { CString::new(path).ok() }
}

impl Settings {
    /// Whether nothing was set for the file.
    pub fn is_default(&self) -> bool {
        *self == Settings::default()
    }

    /// The flags of `sqlite3_open_v2`.
    pub fn open_flags(&self) -> c_int {
        match self.access {
            Access::ReadAndWrite => library::OPEN_TO_WRITE,
            Access::ReadOnly => library::OPEN_READ_ONLY,
        }
    }

    /// The statement that sets the journal mode; none for a file that is only read and has no mode set.
    pub fn journal_pragma(&self) -> Option<String> {
        match (&self.journal_mode, self.access) {
            (Some(mode), _) => Some(format!("PRAGMA journal_mode={mode}")),
            (None, Access::ReadAndWrite) => Some(WRITE_AHEAD.into()),
            (None, Access::ReadOnly) => None,
        }
    }
}

/// `db_param_list_t` of db_sqlite.h, the same in every version that has the parameters.
#[repr(C)]
struct DriverSettings {
    next: *mut DriverSettings,
    prev: *mut DriverSettings,
    database: sys::str_,
    readonly: c_int,
    journal_mode: sys::str_,
}

/// `db_param_list_search` of db_sqlite: what was set for a file, or null.
type SearchFunction = unsafe extern "C" fn(sys::str_) -> *const DriverSettings;

/// The driver's own search, in the module that has its function `init`.
fn search_of<F: Copy>(init: F) -> Option<SearchFunction> {
    const { assert!(size_of::<F>() == size_of::<*const c_void>()) };
    // SAFETY: a function pointer is an address, of the size that was checked above.
    let address: *const c_void = unsafe { std::mem::transmute_copy(&init) };
    // SAFETY: a structure of pointers, for which zeroes are valid.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `dladdr` takes any address, and fills the structure.
    if unsafe { libc::dladdr(address, &mut found) } == 0 || found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the name lives as long as the module, which is never unloaded; RTLD_NOLOAD runs no code.
    let handle = unsafe { libc::dlopen(found.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    if handle.is_null() {
        return None;
    }
    // SAFETY: the handle was opened above, and the name ends with a NUL.
    let symbol = unsafe { libc::dlsym(handle, c"db_param_list_search".as_ptr()) };
    // SAFETY: the symbol of db_sqlite has this type in db_sqlite.h.
    (!symbol.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, SearchFunction>(symbol) })
}

/// What was set for the file of a URL in the driver that has the function `init`.
pub(crate) fn of_driver<F: Copy>(init: Option<F>, url: &[u8]) -> Settings {
    let (Some(search), Some(path)) = (init.and_then(search_of), path_of(url)) else { return Settings::default() };
    // SAFETY: the driver compares the text, which ends with a NUL.
    let known = unsafe { search(lend(path.as_bytes()).unbound()) };
    // SAFETY: null, or a setting of the driver, which lives as long as the process.
    let known = unsafe { known.as_ref() };
    let Some(known) = known else { return Settings::default() };
    // SAFETY: a text of the driver, or none.
    let mode = unsafe { view(&known.journal_mode) };
    let is_word = !mode.is_empty() && mode.iter().all(u8::is_ascii_alphabetic);
    Settings {
        access: if known.readonly != 0 { Access::ReadOnly } else { Access::ReadAndWrite },
        journal_mode: is_word.then(|| String::from_utf8_lossy(mode).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_as_the_driver_was_set() {
        let writable = Settings::default();
        assert_eq!(writable.open_flags(), library::OPEN_TO_WRITE);
        assert_eq!(writable.journal_pragma().as_deref(), Some(WRITE_AHEAD));
        let read = Settings { access: Access::ReadOnly, ..Settings::default() };
        assert_eq!((read.open_flags(), read.journal_pragma()), (library::OPEN_READ_ONLY, None));
        let truncating = Settings { journal_mode: Some("TRUNCATE".into()), ..Settings::default() };
        assert_eq!(truncating.journal_pragma().as_deref(), Some("PRAGMA journal_mode=TRUNCATE"));
        assert!(!read.is_default() && !truncating.is_default());
    }
}
