//! `$presence_status` and its parts: the status page, for `xhttp_reply`. It asks for everything else by JSON-RPC.
//! Script and style are files of their own, so that the page needs no exception in its Content-Security-Policy.
use crate::abi::c_types::{pv_param_t, pv_value_t, sip_msg_t};
use std::ffi::c_int;

static PAGE: &[u8] = include_bytes!("../../../status/page.html");
static SCRIPT: &[u8] = include_bytes!("../../../status/page.js");
static STYLE: &[u8] = include_bytes!("../../../status/page.css");

/// The value of `$presence_status`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_pv_get_status(
    msg: *mut sip_msg_t,
    param: *mut pv_param_t,
    result: *mut pv_value_t,
) -> c_int {
    entry!(kr_presence_pv_get_status, -1, { getter!(msg, param, result).text(PAGE) })
}

/// The value of `$presence_status_script`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_pv_get_status_script(
    msg: *mut sip_msg_t,
    param: *mut pv_param_t,
    result: *mut pv_value_t,
) -> c_int {
    entry!(kr_presence_pv_get_status_script, -1, { getter!(msg, param, result).text(SCRIPT) })
}

/// The value of `$presence_status_style`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_pv_get_status_style(
    msg: *mut sip_msg_t,
    param: *mut pv_param_t,
    result: *mut pv_value_t,
) -> c_int {
    entry!(kr_presence_pv_get_status_style, -1, { getter!(msg, param, result).text(STYLE) })
}
