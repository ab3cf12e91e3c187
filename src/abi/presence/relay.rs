//! Requests that are sent on to other nodes: what tm calls back.
use crate::abi::presence::state;
use crate::host::msg::SipMsg;
use crate::host::tm_relay;
use crate::presence::error::Failure;
use crate::server::cluster::relaying;
use crate::server::context::Context;
use crate::sys;
use std::ffi::c_int;

/// Sends a request on that is not served here. `None`: it is served here. Otherwise what the script gets: 0, which ends
/// it, or an error.
pub(crate) fn elsewhere(context: &mut Context, message: SipMsg<'_>) -> Option<Result<c_int, Failure>> {
    relaying::elsewhere(context, message, on_failure).map(|sent| sent.map(|()| 0))
}

unsafe extern "C" fn on_failure(_cell: *mut sys::cell, _kind: c_int, params: *mut sys::tmcb_params) {
    entry!(on_failure, {
        // SAFETY: `relaying::elsewhere` has tm call this entry, with the parameters of the request that it has sent on.
        let failed = unsafe { tm_relay::failed(params) }.filter(relaying::is_unserved);
        if let (Some(failed), Some(context)) = (failed, state::context()) {
            relaying::ask_next(&context, failed);
        }
    })
}
