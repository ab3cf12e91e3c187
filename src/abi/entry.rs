//! The one macro every C entry is written with.

/// What a panic inside an entry becomes: one log line, and the entry's own error value.
pub fn guarded<T>(name: &str, on_panic: impl FnOnce() -> T, work: impl FnOnce() -> T) -> T {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(value) => value,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_string())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "unknown".into());
            crate::log!(Error, "panic in {name}: {text}");
            on_panic()
        }
    }
}

/// The body of a C entry: its name, what it returns after a panic, what it does. The function around it is written out, so
/// that cbindgen sees its signature.
macro_rules! entry {
    ($name:ident, $on_panic:expr, $body:block) => {
        $crate::abi::entry::guarded(stringify!($name), || $on_panic, move || $body)
    };
}
