//! Answers to NOTIFYs that went out without tm, and their timers.
use crate::abi::c_types::sip_msg_t;
use crate::abi::presence::state;
use crate::abi::presence::timers::completed;
use crate::caught::each_on_its_own;
use crate::host::clock;
use crate::host::datagram::Datagram;
use crate::host::direct::AGAIN;
use crate::host::tm::TransactionOutcome;
use crate::server::notifications::engine::Pending;
use crate::sys;
use crate::time::MicroTick;
use std::ffi::{c_int, c_void};

/// A reply has come that no other module has taken: 0 when it answers a NOTIFY of ours, 1 when others are to look at
/// it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_on_response(msg: *mut sip_msg_t) -> c_int {
    entry!(kr_presence_on_response, 1, {
        let Some(process) = state::process() else { return 1 };
        let Some(reply) = given_message!(msg) else { return 1 };
        let is_taken = process.shared.engine.receive(reply, |pending, status, now| {
            // It is taken whatever becomes of the rest.
            each_on_its_own("the answer to a NOTIFY", || {
                complete(pending, TransactionOutcome::Answered(reply, status), now)
            });
        });
        i32::from(!is_taken)
    })
}

/// A datagram has come that the host has not looked at yet: below 0 when it answers a NOTIFY of ours, 0 when the host
/// is to go on with it.
pub(crate) unsafe extern "C" fn kr_presence_on_datagram(event: *mut sys::sr_event_param) -> c_int {
    entry!(kr_presence_on_datagram, 0, {
        let Some(process) = state::process() else { return 0 };
        // SAFETY: the event in the hand of the host, which outlives this call.
        let Some(datagram) = (unsafe { Datagram::new(event) }) else { return 0 };
        let is_taken = process.shared.engine.receive_datagram(datagram, |pending, status, now| {
            // It is taken whatever becomes of the rest.
            each_on_its_own("the answer to a NOTIFY", || complete(pending, TransactionOutcome::Taken(status), now));
        });
        -c_int::from(is_taken)
    })
}

/// Sends again what has not been answered (timer E).
pub(crate) unsafe extern "C" fn kr_presence_on_resend(
    _now: sys::ticks_t,
    _timer: *mut sys::timer_ln,
    _param: *mut c_void,
) -> sys::ticks_t {
    entry!(kr_presence_on_resend, AGAIN, {
        if let Some(process) = state::process() {
            process.shared.engine.resend();
        }
        AGAIN
    })
}

/// Ends what was not answered in time (timer F), and what could not be sent.
pub(crate) unsafe extern "C" fn kr_presence_on_timeouts(
    _now: sys::ticks_t,
    _timer: *mut sys::timer_ln,
    _param: *mut c_void,
) -> sys::ticks_t {
    entry!(kr_presence_on_timeouts, AGAIN, {
        if let Some(process) = state::process() {
            process.shared.engine.take_timed_out(|pending, outcome| {
                each_on_its_own("a NOTIFY without an answer", || {
                    complete(pending, outcome, clock::micro_tick());
                });
            });
        }
        AGAIN
    })
}

fn complete(pending: &Pending, outcome: TransactionOutcome<'_>, now: MicroTick) {
    let (done, under_way) = pending.completed(outcome);
    completed(&done, Some(under_way), None, now);
}
