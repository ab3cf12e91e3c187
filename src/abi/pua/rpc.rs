//! The RPC command of `pua.so` that does what its timer does.
use crate::abi::c_types::rpc_t;
use crate::abi::pua::state;
use crate::abi::pua::timers::report_sweep;
use crate::agent::context::AgentContext;
use crate::pua::refresh;
use std::ffi::c_void;

/// `pua.cleanup`: all records are looked through at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_rpc_cleanup(_rpc: *mut rpc_t, _ctx: *mut c_void) {
    entry!(kr_pua_rpc_cleanup, (), {
        if let Some(process) = state::process() {
            report_sweep(refresh::sweep(&mut AgentContext::for_cleanup(process)));
        }
    })
}
