//! `pua.so`: start-up, the script function, the RPC command, timers.
use crate::abi::c_types::{param_export_t, rpc_export_t, sip_msg_t};
use crate::abi::commands;
use crate::abi::presence::requests::who;
use crate::abi::pua::commands::COMMANDS;
use crate::abi::pua::start::{restore, start};
use crate::abi::pua::state;
use crate::agent::context::AgentContext;
use crate::common::row_groups::Pass;
use crate::host::msg::{Header, SipMsg, routes_of};
use crate::host::process;
use crate::log;
use crate::pua::dialog::{self, ReceivedNotify};
use crate::pua::record::Dialog;
use crate::sip::checked::UriText;
use crate::sip::route_set::RouteSet;
use crate::sip::subscription_state::SubscriptionStateHeader;
use std::ffi::c_int;

/// The parameters that the module exports, for the host's parser to fill.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_parameters() -> *mut param_export_t {
    entry!(kr_pua_parameters, std::ptr::null_mut(), { state::parameters().exports() })
}

/// The RPC commands that the module exports.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_commands() -> *mut rpc_export_t {
    entry!(kr_pua_commands, std::ptr::null_mut(), { commands::exports(COMMANDS) })
}

/// Checks the parameters, opens the database, makes the shared tables. 0, or -1 with one line in the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_mod_init() -> c_int {
    entry!(kr_pua_mod_init, -1, {
        match start() {
            Ok(()) => 0,
            Err(why) => {
                log!(Error, "cannot start: {why}");
                -1
            }
        }
    })
}

/// Called in each process after the fork, and once before (`PROC_INIT`). 0, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_child_init(rank: c_int) -> c_int {
    entry!(kr_pua_child_init, -1, {
        if rank != process::RANK_INIT {
            return 0;
        }
        match restore() {
            Ok(()) => 0,
            Err(why) => {
                log!(Error, "cannot start: {why}");
                -1
            }
        }
    })
}

/// The server ends: what is only in memory and belongs in the database is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_destroy() {
    entry!(kr_pua_destroy, (), {
        if let Some(process) = state::process() {
            crate::host::last_process::be_the_last_process();
            process.records.write_back(Pass::Last);
            process.database.disconnect();
        }
    })
}

/// `pua_update_contact()`: 1, or -1 when the NOTIFY belongs to no dialog of ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_update_contact(msg: *mut sip_msg_t) -> c_int {
    entry!(kr_pua_update_contact, -1, {
        // SAFETY: the message of the script function in progress.
        let (Some(message), Some(mut context)) = (unsafe { SipMsg::new(msg) }, state::context()) else { return -1 };
        match update_contact(&mut context, message) {
            Ok(true) => 1,
            Ok(false) => -1,
            Err(why) => {
                crate::limited!(Error, "pua_update_contact: request from {} {why}", who(message));
                -1
            }
        }
    })
}

fn update_contact(context: &mut AgentContext, message: SipMsg<'_>) -> Result<bool, String> {
    if !message.parse_headers() {
        return Err("has headers that cannot be parsed".into());
    }
    let (Some(from), Some(to), Some(call_id)) = (message.from(), message.to(), message.call_id()) else {
        return Err("has no readable From, To or Call-ID".into());
    };
    if from.tag.is_empty() || to.tag.is_empty() {
        return Err("is not in a dialog".into());
    }
    let contact = match message.contact() {
        // What no request can be sent to does not replace what one can.
        Header::Value(uri) => UriText::of_target(uri).map_or(b"".as_slice(), UriText::bytes),
        Header::Missing => b"",
        Header::Bad => return Err("has a Contact that cannot be parsed".into()),
    };
    let route_set = RouteSet::of_callee(message.record_routes(), routes_of).routes;
    let state = SubscriptionStateHeader::read(message.find(b"Subscription-State").unwrap_or_default());
    let said = ReceivedNotify { contact, route_set: &route_set, state };
    let dialog = Dialog { pres_uri: from.uri, watcher_uri: to.uri, call_id, from_tag: to.tag, to_tag: from.tag };
    dialog::notified(context, &dialog, &said).map_err(|why| format!("is not carried out: {why}"))
}
