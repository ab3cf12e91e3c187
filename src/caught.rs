//! Where a panic ends: the one macro every C entry is written with, and what a panic that was caught has said.
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic inside an entry becomes: one log line, and the entry's own error value. `on_panic` may do something
/// about it, such as answering a request; when that panics, too, `fallback` is what the host gets.
pub fn guarded<T>(name: &str, fallback: T, on_panic: impl FnOnce() -> T, work: impl FnOnce() -> T) -> T {
    // What an entry has set for a while is reset by guards.
    let panic = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => return value,
        Err(panic) => panic,
    };
    log_panic(name, panic);
    match catch_unwind(AssertUnwindSafe(on_panic)) {
        Ok(value) => value,
        Err(again) => {
            log_panic(name, again);
            fallback
        }
    }
}

/// One of several things that are done one after the other: a panic in it becomes a line in the log, and does not keep
/// the others from being done.
pub fn each_on_its_own(what: &str, work: impl FnOnce()) {
    guarded(what, (), || (), work);
}

/// What `work` comes to, or what a panic in it has said. Where `work` is one of many it does not hold up the others;
/// what it has changed half is for its guards.
///
/// # Errors
///
/// Fails when `work` panics.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let why = text(&*panic);
        discard(panic);
        why
    })
}

/// One line in the log. Formatting it must not be what lets a panic out.
fn log_panic(name: &str, panic: Box<dyn Any + Send>) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        crate::limited!(Error, "panic in {name}: {}", text(&*panic));
    }));
    discard(panic);
}

/// The value of a panic may panic when it is dropped.
fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(panic))) {
        std::mem::forget(again);
    }
}

/// The text of a panic, at most 200 characters of it.
pub fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".into());
    text.chars().take(200).collect()
}

/// The body of a C entry: its name, the constant that it returns after a panic, what is done after a panic before that
/// (if anything), what it does. The function around it is written out, so that cbindgen sees its signature.
macro_rules! entry {
    ($name:ident, $body:block) => {
        entry!($name, (), $body)
    };
    ($name:ident, $fallback:expr, $body:block) => {{
        let _speaker = speaker!();
        $crate::caught::guarded(stringify!($name), const { $fallback }, || const { $fallback }, move || $body)
    }};
    ($name:ident, $fallback:expr, after a panic $on_panic:expr, $body:block) => {{
        let _speaker = speaker!();
        $crate::caught::guarded(stringify!($name), const { $fallback }, || $on_panic, move || $body)
    }};
}

/// Lines are in the name of the module whose entry this is written in.
macro_rules! speaker {
    () => {
        $crate::host::log::Speaker::new(const { $crate::host::log::Speaker::of_path(module_path!()) })
    };
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn no_panic_leaves_an_entry() {
        assert_eq!(guarded("fine", -1, || -2, || 1), 1);
        assert_eq!(guarded("once", -1, || -2, || panic!("asked for by the test")), -2);
        assert_eq!(guarded("twice", -1, || panic!("a second one"), || panic!("asked for by the test")), -1);
        let odd = || std::panic::panic_any(Bomb);
        assert_eq!(guarded("a value that panics", -1, || -2, odd), -2);
    }

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
}
