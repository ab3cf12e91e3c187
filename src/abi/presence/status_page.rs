//! `$presence_status`: the status page, for `xhttp_reply`.
use crate::abi::c_types::{pv_param_t, pv_value_t, sip_msg_t};
use crate::host::pv::PvResult;
use std::ffi::c_int;

/// One static page: it asks for everything else by JSON-RPC.
static PAGE: &[u8] = include_bytes!("../../../status/status-page.html");

/// The value of `$presence_status`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_pv_get_status(
    msg: *mut sip_msg_t,
    param: *mut pv_param_t,
    result: *mut pv_value_t,
) -> c_int {
    entry!(kr_presence_pv_get_status, -1, {
        // SAFETY: arguments of the host's getter.
        unsafe { PvResult::new(msg, param, result) }.text(PAGE)
    })
}
