//! Statistics of the host (`core/counters.h`): a slot for each process, summed when somebody asks.
use crate::sys;
use std::ffi::{CStr, c_long, c_ushort, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

/// A registered counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(i32);

/// A function that computes a value when somebody asks; the host passes the counter's number and the word given.
pub type Compute = unsafe extern "C" fn(c_ushort, *mut c_void) -> c_long;

/// Registers a counter; call in `mod_init`. `None` when the host refuses.
pub fn register(group: &'static CStr, name: &'static CStr, doc: &'static CStr) -> Option<Handle> {
    // SAFETY: the strings live for ever.
    let id = unsafe { sys::kr_counter_register(group.as_ptr(), name.as_ptr(), doc.as_ptr()) };
    Handle::of(id)
}

/// Registers a value that is computed when somebody asks; call in `mod_init`.
pub fn register_computed(
    group: &'static CStr,
    name: &'static CStr,
    doc: &'static CStr,
    compute: Compute,
    word: usize,
) -> bool {
    // SAFETY: the strings and the function live for ever; the word is a plain number.
    unsafe {
        sys::kr_counter_computed(group.as_ptr(), name.as_ptr(), doc.as_ptr(), Some(compute), word as *mut c_void) >= 0
    }
}

/// The handle of a counter, once it is registered.
pub struct AtomicHandle(AtomicI32);

impl Default for AtomicHandle {
    fn default() -> AtomicHandle {
        AtomicHandle::new()
    }
}

impl AtomicHandle {
    /// A counter that is not registered yet: the host's numbers begin at 0.
    pub const fn new() -> AtomicHandle {
        AtomicHandle(AtomicI32::new(-1))
    }

    /// The handle, if there is one.
    pub fn get(&self) -> Option<Handle> {
        Handle::of(self.0.load(Ordering::Relaxed))
    }

    /// Keeps a handle; call before the processes fork.
    pub fn set(&self, handle: Handle) {
        self.0.store(handle.0, Ordering::Relaxed);
    }
}

impl Handle {
    /// The counter with this number; `None` below 0.
    fn of(number: i32) -> Option<Handle> {
        (number >= 0).then_some(Handle(number))
    }

    /// What was counted in all processes.
    pub fn value(self) -> i64 {
        // SAFETY: a handle of the host; it adds up the slots of all processes.
        unsafe { sys::kr_counter_value(self.0) }
    }

    /// Counts.
    pub fn add(self, n: i32) {
        // SAFETY: a handle of the host; this process's own slot.
        unsafe { sys::kr_counter_add(self.0, n) }
    }
}
