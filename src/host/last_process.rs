//! Whether this is the last process of the server: then no lock is waited for without a bound.
use std::sync::atomic::{AtomicBool, Ordering};

/// All other processes have ended.
pub(crate) static ALONE: AtomicBool = AtomicBool::new(false);

/// Call in the main process at the end, when its children are gone: the host's children end inside their signal
/// handler, at any instruction, and may leave locks that nobody opens any more. From now on none is waited for without
/// a bound.
pub fn be_the_last_process() {
    ALONE.store(true, Ordering::Relaxed);
}

/// Whether all other processes have ended.
pub fn is_last() -> bool {
    ALONE.load(Ordering::Relaxed)
}
