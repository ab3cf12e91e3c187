//! `presence.so`: start-up, script functions, timers.
use crate::abi::c_types::{param_export_t, rpc_export_t, sip_msg_t, str_t};
use crate::abi::commands;
use crate::abi::presence::calls::auth_status;
use crate::abi::presence::commands::COMMANDS;
use crate::abi::presence::requests::{GivenWatcher, handle_publish, handle_subscribe, who};
use crate::abi::presence::start::{
    self, restore, start, start_beating, start_named_sender, start_notifiers, start_senders,
};
use crate::abi::presence::state;
use crate::host::msg::SipMsg;
use crate::host::{last_process, log, process, warm_up};
use crate::log;
use crate::presence::config::Config;
use crate::presence::error::Failure;
use crate::presence::ports::subscriptions::Subscriptions;
use crate::presence::replication::placed::RefreshKind;
use crate::server::housekeeping;
use crate::server::operator::names::resource_of;
use crate::server::operator::refreshing::{NotRefreshed, refresh_hard_state, refresh_watchers};
use std::ffi::{CStr, c_char, c_int};

/// The parameters that the module exports, for the host's parser to fill.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_parameters() -> *mut param_export_t {
    entry!(kr_presence_parameters, std::ptr::null_mut(), { state::parameters().exports() })
}

/// Whether the parameters make the module a server: it has a database, or keeps everything in memory. Without either it
/// is a library for other modules. 1 or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_is_server() -> c_int {
    entry!(kr_presence_is_server, 0, { start::is_server(state::parameters()).into() })
}

/// The RPC commands that the module exports.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_commands() -> *mut rpc_export_t {
    entry!(kr_presence_commands, std::ptr::null_mut(), { commands::exports(COMMANDS) })
}

/// Checks the parameters, opens the database, makes the shared tables. `commit` and `host_version` say what was built.
/// 0, or -1 with one line in the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_mod_init(commit: *const c_char, host_version: *const c_char) -> c_int {
    entry!(kr_presence_mod_init, -1, {
        // SAFETY: two literals of the glue, which live as long as the module.
        let (commit, host_version) = (unsafe { literal(commit) }, unsafe { literal(host_version) });
        match start(commit, host_version) {
            Ok(()) => {
                let notifiers = state::process().map_or(0, |p| p.config.notifier_processes);
                let beats = state::process().map_or(0, |p| i32::from(p.leases.is_some()));
                if notifiers + beats > 0 && !process::reserve_timers(notifiers + beats) {
                    return -1;
                }
                let of = |config: &Config| config.sender_processes + i32::from(config.looks_names_up);
                let senders = state::process().map_or(0, |process| of(process.config));
                if senders > 0 && !process::reserve_workers(senders) {
                    return -1;
                }
                0
            }
            Err(why) => {
                log!(Error, "cannot start: {why}");
                -1
            }
        }
    })
}

/// Called in each process after the fork, and once before (`PROC_INIT`). 0, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_child_init(rank: c_int) -> c_int {
    entry!(kr_presence_child_init, -1, {
        let Some(process) = state::process() else { return -1 };
        match rank {
            process::RANK_INIT => match restore() {
                Ok(()) => 0,
                Err(why) => {
                    log!(Error, "cannot start: {why}");
                    -1
                }
            },
            process::RANK_MAIN => {
                let config = process.config;
                let started = start_notifiers(config) && start_senders(config) && start_named_sender(config);
                if started && start_beating(process) { 0 } else { -1 }
            }
            process::RANK_TCP_MAIN => 0,
            _ => {
                if process.config.seed_memory {
                    warm_up::seed_private_memory();
                }
                0
            }
        }
    })
}

/// The server ends: what is only in memory and belongs in the database is written, and the other nodes go on with the
/// rest. No lock is taken before it is known that nobody else can open one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_destroy() {
    entry!(kr_presence_destroy, (), {
        last_process::be_the_last_process();
        let Some(process) = state::process() else { return };
        housekeeping::end(process);
    })
}

/// `handle_publish([sender_uri])`: 1, or -1 when the request was refused; it has been answered in both cases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_publish(msg: *mut sip_msg_t, sender: *const str_t) -> c_int {
    entry!(kr_presence_handle_publish, -1, after a panic refuse_after_panic(given_message!(msg)), {
        given_message!(msg).map_or(-1, |message| handle_publish(message, given_text!(sender)))
    })
}

/// `handle_subscribe([watcher_uri])`: 1, or -1 when the request was refused; it has been answered in both cases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_subscribe(msg: *mut sip_msg_t, watcher: *const str_t) -> c_int {
    entry!(kr_presence_handle_subscribe, -1, after a panic refuse_after_panic(given_message!(msg)), {
        let watcher = given_text!(watcher).map_or(GivenWatcher::None, GivenWatcher::Address);
        given_message!(msg).map_or(-1, |message| handle_subscribe(message, watcher))
    })
}

/// `handle_subscribe` of the C API: the watcher's user and host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_subscribe_as(
    msg: *mut sip_msg_t,
    user: *const str_t,
    domain: *const str_t,
) -> c_int {
    entry!(kr_presence_handle_subscribe_as, -1, after a panic refuse_after_panic(given_message!(msg)), {
        let parts = given_text!(user).zip(given_text!(domain));
        let watcher = parts.map_or(GivenWatcher::None, |(user, host)| GivenWatcher::Parts(user, host));
        given_message!(msg).map_or(-1, |message| handle_subscribe(message, watcher))
    })
}

/// `pres_auth_status(watcher_uri, presentity_uri)`: the number of the watcher's authorization, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_auth_status(
    msg: *mut sip_msg_t,
    watcher: *const str_t,
    presentity: *const str_t,
) -> c_int {
    entry!(kr_presence_auth_status, -1, {
        let _ = msg;
        match (given_text!(watcher), given_text!(presentity)) {
            (Some(watcher), Some(presentity)) => auth_status(watcher, presentity),
            _ => -1,
        }
    })
}

/// `pres_has_subscribers(presentity_uri, event)`: 1, or -1 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_has_subscribers(
    msg: *mut sip_msg_t,
    presentity: *const str_t,
    event: *const str_t,
) -> c_int {
    entry!(kr_presence_has_subscribers, -1, {
        let _ = msg;
        let (uri, event) = (given_text!(presentity), given_text!(event));
        let (Some(uri), Some(event), Some(mut context)) = (uri, event, state::context()) else { return -1 };
        let Some(resource) = resource_of(&context, uri, event) else {
            crate::limited!(
                Error,
                "pres_has_subscribers: no event package {} or no URI {}",
                log::show(event),
                log::show(uri)
            );
            return -1;
        };
        match context.subscriptions(&resource) {
            Ok(list) if !list.is_empty() => 1,
            _ => -1,
        }
    })
}

/// `pres_refresh_watchers(uri, event, type[, file_uri, filename])`: 1, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_refresh_watchers(
    uri: *const str_t,
    event: *const str_t,
    kind: c_int,
    file_uri: *const str_t,
    filename: *const str_t,
) -> c_int {
    entry!(kr_presence_refresh_watchers, -1, {
        let (Some(uri), Some(event)) = (given_text!(uri), given_text!(event)) else { return -1 };
        let Some(process) = state::process() else { return -1 };
        let file = given_text!(file_uri).zip(given_text!(filename));
        let done = match (RefreshKind::of_number(kind), file) {
            (RefreshKind::HardState, Some((file_uri, filename))) => {
                refresh_hard_state(process, uri, event, file_uri, filename).map_err(NotRefreshed::from)
            }
            (RefreshKind::HardState, None) => Err("type 2 needs the URI and the name of the document".into()),
            (_, Some(_)) => Err("a document goes with type 2 alone".into()),
            (kind, None) => refresh_watchers(process, uri, event, kind),
        };
        match done {
            Ok(()) => 1,
            Err(why) => {
                why.log("pres_refresh_watchers");
                -1
            }
        }
    })
}

/// `pres_update_watchers(uri, event)`: 1, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_update_watchers(uri: *const str_t, event: *const str_t) -> c_int {
    entry!(kr_presence_update_watchers, -1, {
        let (Some(uri), Some(event)) = (given_text!(uri), given_text!(event)) else { return -1 };
        let Some(process) = state::process() else { return -1 };
        match refresh_watchers(process, uri, event, RefreshKind::Rules) {
            Ok(()) => 1,
            Err(why) => {
                why.log("pres_update_watchers");
                -1
            }
        }
    })
}

/// A literal of the glue.
///
/// # Safety
/// `text` ends with a NUL and lives as long as the module, or is null.
unsafe fn literal(text: *const c_char) -> &'static [u8] {
    // SAFETY: it is not null, and the caller says that a text with a NUL at its end stands there.
    if text.is_null() { b"" } else { unsafe { CStr::from_ptr(text) }.to_bytes() }
}

/// After a panic the request is answered 500.
fn refuse_after_panic(request: Option<SipMsg<'_>>) -> c_int {
    if let Some((message, mut context)) = request.and_then(|message| Some((message, state::context_for(message)?))) {
        context.refuse(&Failure::Internal("panic".into()), "request", &who(message));
    }
    -1
}
