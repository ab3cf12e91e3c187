//! RPC answers (`core/rpc.h`).
use super::bytes::{lend, view};
use crate::sys;
use std::ffi::{CStr, c_void};

/// One RPC call in progress.
#[derive(Clone, Copy)]
pub struct Rpc {
    raw: *mut sys::rpc,
    ctx: *mut c_void,
}

/// A structure inside an answer.
#[derive(Clone, Copy)]
pub struct Struct {
    rpc: Rpc,
    handle: *mut c_void,
}

impl Rpc {
    /// # Safety
    /// The arguments of an RPC function in progress.
    pub unsafe fn new(raw: *mut sys::rpc, ctx: *mut c_void) -> Option<Rpc> {
        (!raw.is_null()).then_some(Rpc { raw, ctx })
    }

    fn f(&self) -> &sys::rpc {
        // SAFETY: `new` was promised a live call.
        unsafe { &*self.raw }
    }

    /// Ends the call with an error.
    pub fn fault(&self, code: i32, text: &CStr) {
        if let Some(fault) = self.f().fault {
            // SAFETY: `%s` with a NUL-terminated text.
            unsafe { fault(self.ctx, code, c"%s".as_ptr() as *mut _, text.as_ptr()) };
        }
    }

    /// The next argument as text; `None` when there are no more.
    pub fn text(&self) -> Option<Vec<u8>> {
        let scan = self.f().scan?;
        let mut found = super::bytes::null();
        // SAFETY: `*S` fills one `str` and may find nothing; `.` converts numbers to text.
        unsafe {
            (scan(self.ctx, c"*.S".as_ptr() as *mut _, &mut found as *mut sys::_str) == 1)
                .then(|| view(&found).to_vec())
        }
    }

    /// Adds a text to the answer.
    pub fn add_text(&self, text: &[u8]) {
        if let Some(add) = self.f().add {
            // SAFETY: `S` takes a pointer to a `str`.
            unsafe { add(self.ctx, c"S".as_ptr() as *mut _, &lend(text) as *const sys::_str) };
        }
    }

    /// Adds a structure to the answer.
    pub fn add_struct(&self) -> Option<Struct> {
        let add = self.f().add?;
        let mut handle: *mut c_void = std::ptr::null_mut();
        // SAFETY: `{` fills one handle.
        let done = unsafe { add(self.ctx, c"{".as_ptr() as *mut _, &mut handle as *mut *mut c_void) };
        (done >= 0 && !handle.is_null()).then_some(Struct { rpc: *self, handle })
    }
}

impl Struct {
    /// Adds a text stored subscription.
    pub fn text(&self, name: &'static CStr, value: &[u8]) -> &Self {
        if let Some(add) = self.rpc.f().struct_add {
            // SAFETY: `S` takes a name and a pointer to a `str`.
            unsafe { add(self.handle, c"S".as_ptr() as *mut _, name.as_ptr(), &lend(value) as *const sys::_str) };
        }
        self
    }

    /// Adds a number stored subscription.
    pub fn int(&self, name: &'static CStr, value: i64) -> &Self {
        if let Some(add) = self.rpc.f().struct_add {
            // SAFETY: `d` takes a name and an int.
            unsafe { add(self.handle, c"d".as_ptr() as *mut _, name.as_ptr(), value as i32) };
        }
        self
    }
}
