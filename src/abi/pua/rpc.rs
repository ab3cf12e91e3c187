//! The RPC commands of `pua.so`: what its timer does, what it keeps alive, its parameters.
use crate::abi::c_types::rpc_t;
use crate::abi::presence::operator_rpc::{ShownPart, page, show_config};
use crate::abi::presence::rpc::{call_when, fault};
use crate::abi::pua::state;
use crate::abi::pua::timers::report_sweep;
use crate::agent::context::AgentContext;
use crate::host::clock;
use crate::host::rpc::Rpc;
use crate::pua::record::{Record, RecordField};
use crate::pua::refresh;
use crate::server::operator::names::uri_of;
use std::ffi::c_void;

/// Carries out a command with at most `most` arguments.
///
/// # Safety
/// `rpc` and `ctx` are what the host calls a command with, and live until it returns.
unsafe fn call(rpc: *mut rpc_t, ctx: *mut c_void, most: usize, run: fn(&Rpc)) {
    // SAFETY: the caller vouches for both.
    let rpc = unsafe { Rpc::new(rpc, ctx) };
    call_when(state::process().map(|_| ()).ok_or(c"pua is not initialised"), rpc, most, run);
}

fn cleanup(_: &Rpc) {
    if let Some(process) = state::process() {
        report_sweep(refresh::sweep(&mut AgentContext::for_cleanup(process)));
    }
}

fn config(rpc: &Rpc) {
    if let Some(process) = state::process() {
        show_config(rpc, &process.config.settings(), &process.config.without_effect);
    }
}

fn list(rpc: &Rpc) {
    let Some(process) = state::process() else { return };
    let given = rpc.text().filter(|uri| uri != b".");
    let wanted = given.map(|uri| uri_of("presentity", &uri)).transpose();
    let (wanted, ShownPart { offset, limit }) = match wanted.and_then(|wanted| Ok((wanted, page(rpc)?))) {
        Ok(read) => read,
        Err(why) => return fault(rpc, &why),
    };
    let now = clock::now();
    let context = AgentContext::new(process);
    let is_wanted = |uri: &[u8]| wanted.as_ref().is_none_or(|wanted| wanted == uri);
    let all = match context.page_of_records(offset, limit, is_wanted) {
        Ok(all) => all,
        Err(why) => return fault(rpc, &why.to_string()),
    };
    let mut room = PAGE_BYTES;
    for record in all {
        // The transport of kamcmd takes no longer answer; the next page begins where this one ends.
        let Some(rest) = room.checked_sub(shown_bytes(&record)) else { return };
        room = rest;
        let Some(out) = rpc.add_struct() else { return };
        let kind: &[u8] = if record.is_subscription() { b"subscription" } else { b"publication" };
        out.text(c"kind", kind).text(c"presentity", record.get(RecordField::PresUri));
        out.text(c"id", record.get(RecordField::Id)).text(c"watcher", record.get(RecordField::WatcherUri));
        let event = process.registry.event(record.state.event).map_or_else(Vec::new, |event| event.name);
        out.text(c"event", &event).seconds(c"left", record.state.expires_at - now);
        let desired = record.state.desired_until.moment().map_or(-1, |until| (until - now).0);
        out.int(c"wanted", desired).text(c"etag", record.get(RecordField::Etag));
        out.text(c"callid", record.get(RecordField::CallId)).int(c"version", record.state.version.into());
    }
}

/// How many bytes a page of `pua.list` may have: what kamcmd's transport takes by default, with room to spare.
const PAGE_BYTES: usize = 24_000;

/// How many bytes of an answer a record takes, with names and lengths.
fn shown_bytes(record: &Record) -> usize {
    let shown =
        [RecordField::PresUri, RecordField::Id, RecordField::WatcherUri, RecordField::Etag, RecordField::CallId];
    shown.iter().map(|field| record.get(*field).len()).sum::<usize>() + 160
}

/// `pua.cleanup`: all records are looked through at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_rpc_cleanup(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_pua_rpc_cleanup, (), { command!(call, (rpc, ctx), 0, cleanup) })
}

/// `pua.config`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_rpc_config(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_pua_rpc_config, (), { command!(call, (rpc, ctx), 0, config) })
}

/// `pua.list [presentity|.] [offset] [limit]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pua_rpc_list(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_pua_rpc_list, (), { command!(call, (rpc, ctx), 3, list) })
}
