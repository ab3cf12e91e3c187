//! The state of the user agent in this process.
use crate::bridge::pua::world::{PuaProcess, PuaWorld};
use std::sync::atomic::{AtomicPtr, Ordering};

static PROCESS: AtomicPtr<PuaProcess> = AtomicPtr::new(std::ptr::null_mut());

/// Keeps the state for the life of the process (and of every process forked from it).
pub fn set(process: PuaProcess) {
    PROCESS.store(Box::into_raw(Box::new(process)), Ordering::Release);
}

/// The state, once `mod_init` has run.
pub fn process() -> Option<&'static PuaProcess> {
    // SAFETY: `set` stored a leaked box, or nothing was stored.
    unsafe { PROCESS.load(Ordering::Acquire).as_ref() }
}

/// A world without a reply; `None` before `mod_init`.
pub fn world() -> Option<PuaWorld> {
    process().map(PuaWorld::new)
}
