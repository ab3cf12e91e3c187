//! `pua.so`: start-up, the script function, the RPC command, timers.
use super::c_types::{kr_pua_params_t, rpc_t, sip_msg_t};
use super::pua_start::{restore, start};
use super::pua_state;
use crate::bridge::counters::{self, Counter};
use crate::bridge::pua::world::{PuaWorld, read_answer};
use crate::host::msg::{Header, SipMsg};
use crate::host::{process, tm};
use crate::log;
use crate::pua::ports::FlightId;
use crate::pua::record::Dialog;
use crate::pua::subscribe::{Notified, State};
use crate::pua::{answer::Answer, publish, refresh, subscribe};
use crate::sys;
use std::ffi::{c_int, c_uint, c_void};

/// # Safety
/// Arguments of a tm callback in progress.
unsafe fn completed(cell: *mut sys::cell, params: *mut sys::tmcb_params, settle: fn(&mut PuaWorld, FlightId, &Answer)) {
    // SAFETY: tm's own arguments.
    let (Some(done), Some(process)) = (unsafe { tm::completed(cell, params) }, pua_state::process()) else { return };
    // SAFETY: the reply lives during the callback.
    let reply = unsafe { tm::reply_of(done.reply) };
    let answer = read_answer(reply, done.code).unwrap_or(Answer { code: 500, ..Answer::default() });
    counters::count(match answer.code {
        _ if answer.silence => Counter::PuaSilence,
        ..300 => Counter::PuaGranted,
        _ => Counter::PuaFailed,
    });
    let mut world = PuaWorld::for_reply(process, done.reply);
    settle(&mut world, done.ticket.0 as FlightId, &answer);
}

pub(super) unsafe extern "C" fn kr_pua_on_published(cell: *mut sys::cell, _kind: c_int, params: *mut sys::tmcb_params) {
    entry!(kr_pua_on_published, {
        // SAFETY: tm's own arguments.
        unsafe { completed(cell, params, publish::answered) }
    })
}

pub(super) unsafe extern "C" fn kr_pua_on_subscribed(
    cell: *mut sys::cell,
    _kind: c_int,
    params: *mut sys::tmcb_params,
) {
    entry!(kr_pua_on_subscribed, {
        // SAFETY: tm's own arguments.
        unsafe { completed(cell, params, subscribe::answered) }
    })
}

pub(super) unsafe extern "C" fn kr_pua_on_second(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_pua_on_second, {
        let Some(process) = pua_state::process() else { return };
        let mut world = PuaWorld::new(process);
        refresh::retry(&mut world);
        if process.config.update_period > 0 {
            report_sweep(refresh::sweep(&mut world));
        }
    })
}

fn report_sweep(done: Result<(), crate::pua::ports::Refusal>) {
    if let Err(why) = done {
        crate::limited!(Error, "cannot look for what has to be refreshed: {why}");
    }
}

pub(super) unsafe extern "C" fn kr_pua_on_write(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_pua_on_write, {
        if let Some(world) = pua_state::world() {
            world.write_back(false);
        }
    })
}

/// Checks the parameters, opens the database, makes the shared tables. 0, or -1 with one line in the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_mod_init(params: *const kr_pua_params_t) -> c_int {
    entry!(kr_pua_mod_init, -1, {
        // SAFETY: the glue's own parameter block.
        let Some(params) = (unsafe { params.as_ref() }) else { return -1 };
        match start(params) {
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
        if let (Some(world), Some(process)) = (pua_state::world(), pua_state::process()) {
            crate::host::sync::be_the_last_process();
            world.write_back(true);
            process.database.disconnect();
        }
    })
}

/// `pua.cleanup`: all records are looked through at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_rpc_cleanup(_rpc: *mut rpc_t, _ctx: *mut c_void) {
    entry!(kr_pua_rpc_cleanup, (), {
        if let Some(process) = pua_state::process() {
            report_sweep(refresh::sweep(&mut PuaWorld::for_cleanup(process)));
        }
    })
}

/// `pua_update_contact()`: 1, or -1 when the NOTIFY belongs to no dialog of ours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_update_contact(msg: *mut sip_msg_t) -> c_int {
    entry!(kr_pua_update_contact, -1, {
        // SAFETY: the message of the script function in progress.
        let (Some(message), Some(mut world)) = (unsafe { SipMsg::new(msg) }, pua_state::world()) else { return -1 };
        match update_contact(&mut world, message) {
            Ok(true) => 1,
            Ok(false) => -1,
            Err(why) => {
                crate::limited!(Error, "pua_update_contact: {why}");
                -1
            }
        }
    })
}

fn update_contact(world: &mut PuaWorld, message: SipMsg<'_>) -> Result<bool, String> {
    if !message.parse_headers() {
        return Err("the headers cannot be parsed".into());
    }
    let (Some(from), Some(to), Some(call_id)) = (message.from(), message.to(), message.call_id()) else {
        return Err("From, To or Call-ID is missing or cannot be parsed".into());
    };
    if from.tag.is_empty() || to.tag.is_empty() {
        return Err("the request is not in a dialog".into());
    }
    let contact = match message.contact() {
        Header::Value(uri) => uri,
        Header::Missing => b"",
        Header::Bad => return Err("the Contact cannot be parsed".into()),
    };
    let route_set = match message.record_routes() {
        Header::Value(routes) => routes,
        _ => Vec::new(),
    };
    let state = State::read(message.find(b"Subscription-State").unwrap_or_default());
    let said = Notified { contact, route_set: &route_set, state };
    let dialog = Dialog { pres_uri: from.uri, watcher_uri: to.uri, call_id, from_tag: to.tag, to_tag: from.tag };
    subscribe::notified(world, &dialog, &said).map_err(|why| why.to_string())
}
