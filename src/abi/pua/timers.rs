//! What the host's timers and tm call back: refreshes, writing, answers.
use crate::abi::pua::state;
use crate::agent::answer::read_answer;
use crate::agent::context::AgentContext;
use crate::common::counters::{self, Counter};
use crate::common::metrics::{self, METHODS};
use crate::common::row_groups::Pass;
use crate::host::msg::{SipMsg, parse_uri};
use crate::host::shm::{self, NumberOnly};
use crate::host::{log, tm};
use crate::pua::pending_request::PendingRequestId;
use crate::pua::response::{FinalResponse, ResponseStatus};
use crate::pua::{dialog, publication, refresh};
use crate::sip::uri;
use crate::{limited_refusal, sys};
use std::ffi::{c_int, c_uint, c_void};

/// Places in [`metrics::METHODS`].
const PUBLISH: usize = 0;
const SUBSCRIBE: usize = 1;

/// # Safety
/// The arguments of a tm callback in progress, of a request that carries the number of its pending request.
pub(crate) unsafe fn completed<'a>(
    cell: *mut sys::cell,
    params: *mut sys::tmcb_params,
    method: usize,
    settle: fn(&mut AgentContext<'a>, PendingRequestId, &FinalResponse),
) {
    // SAFETY: the caller hands on what tm has called it with; pua's requests carry numbers and nothing else.
    let completed = unsafe { tm::completed::<'a, NumberOnly>(cell, params) };
    let (Some((done, carried)), Some(process)) = (completed, state::process()) else { return };
    let reply = done.reply.message();
    let answer = read_answer(reply, done.status).unwrap_or_else(|| FinalResponse::of_code(500));
    counters::count(match answer.status {
        ResponseStatus::Silence => Counter::PuaSilence,
        ResponseStatus::Code(..300) => Counter::PuaGranted,
        ResponseStatus::Code(_) => Counter::PuaFailed,
    });
    log_refusal(METHODS[method], &done, &answer, reply);
    metrics::pua_answered(method, answer.status.code());
    let mut context = AgentContext::for_reply(process, done.reply);
    let Some(pending) = carried.as_number() else { return };
    settle(&mut context, pending, &answer);
}

/// One line for a request that was not carried out, unless pua settles that by itself: another interval, another place,
/// a new publication.
fn log_refusal(method: &str, done: &tm::Completed<'_>, answer: &FinalResponse, reply: Option<SipMsg<'_>>) {
    if matches!(answer.status, ResponseStatus::Code(200..400 | 412 | 423)) {
        return;
    }
    let peer = done.peer().and_then(parse_uri).map(|peer| uri::join(peer.user, peer.host)).unwrap_or_default();
    let (about, call_id) = (log::show(&peer), log::show(done.call_id()));
    match (reply, answer.status) {
        (Some(reply), ResponseStatus::Code(code)) => limited_refusal!(
            Notice,
            ("pua", code, method),
            "{method} of pua for {about}, Call-ID {call_id}, answered {code} by {}",
            reply.source()
        ),
        _ => limited_refusal!(
            Notice,
            ("pua", 408, method),
            "{method} of pua for {about}, Call-ID {call_id}, is not answered"
        ),
    }
}

pub(crate) unsafe extern "C" fn kr_pua_on_published(cell: *mut sys::cell, _kind: c_int, params: *mut sys::tmcb_params) {
    entry!(kr_pua_on_published, {
        // SAFETY: `agent` names this entry to tm with each PUBLISH, and tm calls it with that one's transaction.
        unsafe { completed(cell, params, PUBLISH, publication::answered) }
    })
}

pub(crate) unsafe extern "C" fn kr_pua_on_subscribed(
    cell: *mut sys::cell,
    _kind: c_int,
    params: *mut sys::tmcb_params,
) {
    entry!(kr_pua_on_subscribed, {
        // SAFETY: this entry goes with each SUBSCRIBE as the other with each PUBLISH.
        unsafe { completed(cell, params, SUBSCRIBE, dialog::answered) }
    })
}

pub(crate) unsafe extern "C" fn kr_pua_on_second(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_pua_on_second, {
        shm::return_spare_chunks();
        let Some(process) = state::process() else { return };
        let mut context = AgentContext::new(process);
        refresh::retry(&mut context);
        if process.config.update_period.is_some() {
            report_sweep(refresh::sweep(&mut context));
        }
        if process.records.is_much_unwritten() {
            process.records.write_back(Pass::Regular);
        }
    })
}

pub(crate) fn report_sweep(done: Result<(), crate::pua::error::RequestError>) {
    if let Err(why) = done {
        crate::limited!(Error, "cannot look for what has to be refreshed: {why}");
    }
}

pub(crate) unsafe extern "C" fn kr_pua_on_write(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_pua_on_write, {
        if let Some(process) = state::process() {
            process.records.write_back(Pass::Regular);
        }
    })
}
