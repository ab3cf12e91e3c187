//! Answers of pseudo-variables (`core/pvar.h`).
use super::bytes::lend;
use crate::sys;

/// Where a pseudo-variable's value goes.
pub struct PvResult {
    msg: *mut sys::sip_msg,
    param: *mut sys::pv_param_t,
    result: *mut sys::pv_value_t,
}

impl PvResult {
    /// # Safety
    /// The arguments of a `pv_getf_t` call in progress.
    pub unsafe fn new(msg: *mut sys::sip_msg, param: *mut sys::pv_param_t, result: *mut sys::pv_value_t) -> Self {
        PvResult { msg, param, result }
    }

    /// `$null`.
    pub fn null(&self) -> i32 {
        // SAFETY: the host calls with these pointers, and the call that `self` lives for has not returned.
        unsafe { sys::kr_pv_null(self.msg, self.param, self.result) }
    }

    /// A text that lives as long as the process.
    pub fn text(&self, value: &'static [u8]) -> i32 {
        // SAFETY: the value is there for ever.
        unsafe { self.lent(lend(value).unbound()) }
    }

    /// A text; it must stay in place until the script has read it.
    ///
    /// # Safety
    /// The value stays readable until the script has read it.
    pub unsafe fn lent(&self, mut value: sys::_str) -> i32 {
        // SAFETY: the getter's own three arguments; the caller vouches for the text.
        unsafe { sys::kr_pv_str(self.msg, self.param, self.result, &mut value) }
    }

    /// A number.
    pub fn number(&self, value: u32) -> i32 {
        // SAFETY: the getter's own three arguments, which live until it returns; the number is copied.
        unsafe { sys::kr_pv_uint(self.msg, self.param, self.result, value) }
    }
}
