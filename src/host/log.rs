//! The host's log (`core/dprint.h`): a line is formatted only when its level is on.
use crate::sys;
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Kamailio's levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Level {
    /// `L_ERR`: a request or a step failed.
    Error = -1,
    /// `L_WARN`: something is off but was handled.
    Warn = 0,
    /// `L_NOTICE`.
    Notice = 1,
    /// `L_INFO`.
    Info = 2,
    /// `L_DBG`.
    Debug = 3,
}

/// Whether this process works for `pua.so` at the moment. Both modules are one library, and share what writes lines.
static WORKS_FOR_PUA: AtomicBool = AtomicBool::new(false);

/// Which of the two modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedModule {
    /// `presence.so`.
    Presence,
    /// `pua.so`.
    Pua,
}

/// The module that an entry belongs to, until this is dropped: its name is on the lines that are written meanwhile.
pub struct Speaker {
    before: bool,
}

impl Speaker {
    /// The module that the entries of a module of the sources belong to.
    pub const fn of_path(module_path: &str) -> LoadedModule {
        let (path, of_pua) = (module_path.as_bytes(), b"::abi::pua::");
        let mut at = 0;
        while at + of_pua.len() <= path.len() {
            let mut same = 0;
            while same < of_pua.len() && path[at + same] == of_pua[same] {
                same += 1;
            }
            if same == of_pua.len() {
                return LoadedModule::Pua;
            }
            at += 1;
        }
        LoadedModule::Presence
    }

    /// An entry begins.
    pub fn new(module: LoadedModule) -> Speaker {
        let before = WORKS_FOR_PUA.load(Ordering::Relaxed);
        WORKS_FOR_PUA.store(module == LoadedModule::Pua, Ordering::Relaxed);
        Speaker { before }
    }

    /// The name of the module that the process works for.
    pub fn name() -> &'static CStr {
        if WORKS_FOR_PUA.load(Ordering::Relaxed) { c"pua" } else { c"presence" }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        WORKS_FOR_PUA.store(self.before, Ordering::Relaxed);
    }
}

/// Whether a line of this level would be written now.
pub fn enabled(level: i32) -> bool {
    // SAFETY: reads a process-wide setting of the host.
    unsafe { sys::kr_log_enabled(level) != 0 }
}

/// Writes one line of module `module` (a C string literal). Control characters in `text` are shown escaped, so that a
/// message from the network cannot forge log lines.
pub fn write(module: &'static CStr, facility: Option<i32>, level: i32, text: &str) {
    let clean: std::borrow::Cow<str> = if text.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect()
    } else {
        text.into()
    };
    // SAFETY: a setting of the host is read.
    let facility = facility.unwrap_or_else(|| unsafe { sys::kr_log_default_facility() });
    // SAFETY: `module` is NUL-terminated, `clean` outlives the call and its length is passed with it.
    unsafe { sys::kr_log(facility, level, module.as_ptr(), clean.as_ptr() as *const _, clean.len() as i32) }
}

/// The syslog facility with this name (`LOG_LOCAL3`), if there is one.
pub fn facility(name: &CStr) -> Option<i32> {
    // SAFETY: the host only reads the NUL-terminated name.
    let found = unsafe { sys::kr_log_facility(name.as_ptr() as *mut _) };
    (found >= 0).then_some(found)
}

/// Bytes for a log line: what is not UTF-8 is shown as a replacement character.
pub fn show(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Writes a line of the module that the process works for, at a level: `log!(Error, "no memory for {}", name)`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($arg:tt)*) => {{
        let level = $crate::host::log::Level::$level as i32;
        if $crate::host::log::enabled(level) {
            $crate::host::log::write($crate::host::log::Speaker::name(), None, level, &format!($($arg)*));
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_speaks_for_its_own_module() {
        assert_eq!(Speaker::of_path("kamailio_presence::abi::pua::api"), LoadedModule::Pua);
        assert_eq!(Speaker::of_path("kamailio_presence::abi::presence::api"), LoadedModule::Presence);
        assert_eq!(Speaker::of_path("kamailio_presence::pua::publish"), LoadedModule::Presence);
    }
}
