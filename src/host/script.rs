//! Event routes and xavps.
use super::bytes::lend;
use super::tm;
use crate::sys;
use std::ffi::CStr;

/// An event route of the configuration.
#[derive(Clone, Copy)]
pub struct EventRoute {
    index: i32,
}

impl EventRoute {
    /// Looks the route up; call after the configuration was read.
    pub fn find(name: &'static CStr) -> EventRoute {
        // SAFETY: the host only reads the name.
        EventRoute { index: unsafe { sys::kr_event_route(name.as_ptr()) } }
    }

    /// Whether the configuration has it.
    pub fn exists(&self) -> bool {
        self.index >= 0
    }

    /// Runs the route on the request of a completed transaction, as it was sent. `false` when that cannot be read
    /// again.
    pub fn run_on_request(&self, done: &tm::Completed<'_>) -> bool {
        if done.cell().is_null() {
            return false;
        }
        // SAFETY: tm keeps the transaction alive while `done` lives, and the index is that of a route of the
        // configuration.
        unsafe { sys::kr_run_event_route(self.index, done.cell()) >= 0 }
    }
}

/// The integer `$xavp(root=>name)`.
pub fn xavp_int(root: &[u8], name: &'static CStr) -> Option<i32> {
    let mut value = 0;
    // SAFETY: the host reads both names and writes one number.
    (unsafe { sys::kr_xavp_int(&mut *lend(root), name.as_ptr() as *mut _, &mut value) } >= 0).then_some(value)
}
