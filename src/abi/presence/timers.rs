//! What the host's timers and tm call back: cleaning, writing, completed NOTIFYs.
use crate::abi::presence::{state, variables};
use crate::common::row_groups::Pass;
use crate::host::tm::{self, ShownResponse};
use crate::host::{clock, fork_signals, script};
use crate::presence::ports::subscriptions::Subscriptions;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::dialog::DialogId;
use crate::scoped_value::ScopedValue;
use crate::server::context::Context;
use crate::server::housekeeping::{self, writing};
use crate::server::notifications::under_way::{self, UnderWay};
use crate::server::notify::{completion, notifier_process};
use crate::time::MicroTick;
use crate::{limited, sys};
use std::ffi::{c_int, c_uint, c_void};

/// A NOTIFY has been answered, or will not be, as is known at `now`; `seen`
/// is its subscription as the routes saw it at the sending.
pub(crate) fn completed(
    done: &tm::Completed<'_>,
    under_way: Option<UnderWay>,
    seen: Option<Subscription>,
    now: MicroTick,
) {
    if let Some(process) = state::process() {
        completion::completed(process, done, under_way, now, |context, dialog| {
            run_notify_reply(context, dialog, done, seen)
        });
    }
}

/// `event_route[presence:notify-reply]`; `true` when the script asked to delete the subscription.
fn run_notify_reply(
    context: &mut Context,
    dialog: DialogId<'_>,
    done: &tm::Completed<'_>,
    seen: Option<Subscription>,
) -> bool {
    let process = context.process();
    let Some(route) = process.notify_reply.get().filter(script::EventRoute::exists) else { return false };
    let found = seen.or_else(|| context.find_subscription(dialog).ok().flatten());
    let shown = found.filter(|_| process.config.subs_variable);
    let _shown = ScopedValue::set(&process.last_subscription, shown);
    let answer = ShownResponse::of(done);
    let shows_answer = || {
        if !route.run_on_request(done) {
            limited!(Error, "event_route[presence:notify-reply] is not run: the NOTIFY cannot be read again");
        }
    };
    // SAFETY: the answer lives as long as `answer`, beyond this call.
    unsafe { variables::with_notify_reply(answer.raw(), shows_answer) };
    let xavp = process.config.xavp;
    !xavp.is_empty() && script::xavp_int(xavp, c"delete_subscription") == Some(1)
}

/// # Safety
/// Arguments of a tm callback in progress.
pub(crate) unsafe extern "C" fn kr_presence_notify_completed(
    cell: *mut sys::cell,
    _kind: c_int,
    params: *mut sys::tmcb_params,
) {
    entry!(kr_presence_notify_completed, {
        // SAFETY: `by_tm` gives this entry to tm with each NOTIFY and its `CallbackParam<Kept>`; tm waits for it.
        if let Some((done, carried)) = unsafe { tm::completed(cell, params) } {
            let (under_way, seen) = under_way::take(carried);
            completed(&done, under_way, seen, clock::micro_tick());
        }
    })
}

pub(crate) unsafe extern "C" fn kr_presence_on_clean(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_clean, {
        if let Some(process) = state::process() {
            housekeeping::clean(process);
        }
    })
}

pub(crate) unsafe extern "C" fn kr_presence_on_update(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_update, {
        if let Some(process) = state::process() {
            housekeeping::update(process);
        }
    })
}

pub(crate) unsafe extern "C" fn kr_presence_on_publication_update(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_publication_update, {
        if let Some(process) = state::process() {
            let _ = writing::write_publications(&Context::new(process).paced(), Pass::Regular);
        }
    })
}

pub(crate) unsafe extern "C" fn kr_presence_on_second(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_second, {
        if let Some(process) = state::process() {
            housekeeping::every_second(process);
        }
    })
}

pub(crate) unsafe extern "C" fn kr_presence_on_beat(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_beat, {
        fork_signals::take();
        if let Some(process) = state::process() {
            housekeeping::beat(process);
        }
    })
}

pub(crate) unsafe extern "C" fn kr_presence_on_tick(_ticks: c_uint, param: *mut c_void) {
    entry!(kr_presence_on_tick, {
        fork_signals::take();
        if let Some(mut context) = state::context() {
            notifier_process::tick(&mut context, param as usize as i32);
        }
    })
}
