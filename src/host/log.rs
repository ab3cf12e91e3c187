//! The host's log (`core/dprint.h`): a line is formatted only when its level is on.
use crate::sys;

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

/// Whether a line of this level would be written now.
pub fn enabled(level: i32) -> bool {
    // SAFETY: reads a process-wide setting of the host.
    unsafe { sys::kr_log_enabled(level) != 0 }
}

/// Writes one line of module `module` (a C string literal). Control characters in `text` are shown escaped, so that a
/// message from the network cannot forge log lines.
pub fn write(module: &'static std::ffi::CStr, facility: Option<i32>, level: i32, text: &str) {
    let clean: std::borrow::Cow<str> = if text.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect()
    } else {
        text.into()
    };
    // SAFETY: `module` is NUL-terminated, `clean` outlives the call and its length is passed with it.
    unsafe {
        let facility = facility.unwrap_or_else(|| sys::kr_log_default_facility());
        sys::kr_log(facility, level, module.as_ptr(), clean.as_ptr() as *const _, clean.len() as i32)
    }
}

/// The syslog facility with this name (`LOG_LOCAL3`), if there is one.
pub fn facility(name: &std::ffi::CStr) -> Option<i32> {
    // SAFETY: the host only reads the NUL-terminated name.
    let found = unsafe { sys::kr_log_facility(name.as_ptr() as *mut _) };
    (found >= 0).then_some(found)
}

/// Bytes for a log line: what is not UTF-8 is shown as a replacement character.
pub fn show(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Writes a line of module `presence` at a level: `log!(Error, "no memory for {}", name)`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($arg:tt)*) => {{
        let level = $crate::host::log::Level::$level as i32;
        if $crate::host::log::enabled(level) {
            $crate::host::log::write(c"presence", None, level, &format!($($arg)*));
        }
    }};
}
