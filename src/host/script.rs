//! Event routes and xavps.
use super::bytes::lend;
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

    /// Runs the route on a message of the host, or on a faked one when `msg` is null.
    pub fn run(&self, msg: *mut sys::sip_msg) {
        // SAFETY: the host's own faked message, or one that the caller holds.
        unsafe {
            let msg = if msg.is_null() { sys::kr_faked_msg() } else { msg };
            if !msg.is_null() {
                sys::kr_run_event_route(self.index, msg);
            }
        }
    }
}

/// The integer `$xavp(root=>name)`.
pub fn xavp_int(root: &[u8], name: &'static CStr) -> Option<i32> {
    let mut value = 0;
    // SAFETY: the host reads both names and writes one number.
    (unsafe { sys::kr_xavp_int(&mut lend(root), name.as_ptr() as *mut _, &mut value) } >= 0).then_some(value)
}
