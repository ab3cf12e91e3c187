//! `presence.so`: start-up, script functions, timers.
use super::c_types::{kr_presence_params_t, sip_msg_t, str_t};
use super::presence_calls::{auth_status, refresh_hard_state, refresh_watchers, resource_of};
use super::presence_requests::{GivenWatcher, handle_publish, handle_subscribe, who};
use super::presence_start::{restore, start, start_notifiers, start_senders};
use super::state;
use crate::bridge::counters;
use crate::bridge::world::{World, take_kept};
use crate::for_a_while::ForAWhile;
use crate::host::bytes::view_ptr;
use crate::host::shm::Ticket;
use crate::host::tm::Answer;
use crate::host::{log, process, script, sync, tm};
use crate::presence::error::Failure;
use crate::presence::expiry;
use crate::presence::subscription::DialogId;
use crate::sys;
use crate::{limited, log};
use std::ffi::{c_int, c_uint, c_void};

/// Removes what has ended, writes what is not written: what the timers do, at once.
pub(super) fn clean_up() -> Result<(), String> {
    clean();
    update();
    Ok(())
}

fn clean() {
    let Some(mut world) = state::world().map(World::paced) else { return };
    if world.is_library() {
        return;
    }
    if let Err(error) = expiry::publications(&mut world) {
        crate::limited!(Error, "cannot remove ended publications: {error}");
    }
    if let Err(error) = world.clean_watchers() {
        crate::limited!(Error, "cannot clean the watchers table: {error}");
    }
    if let Err(error) = world.clean_cluster() {
        crate::limited!(Error, "cannot clean the active_watchers table: {error}");
    }
}

fn update() {
    each_on_its_own("ending subscriptions", || {
        let Some(mut world) = state::world().map(World::paced) else { return };
        if let Err(error) = expiry::subscriptions(&mut world) {
            crate::limited!(Error, "cannot end subscriptions that ran out: {error}");
        }
    });
    if let Some(process) = state::process() {
        write_what_waits(|| World::new(process), false);
    }
}

/// Writes what memory has and the tables have not. `is_last`: the server ends.
fn write_what_waits(world: impl Fn() -> World, is_last: bool) {
    each_on_its_own("writing subscriptions", || {
        if let Err(error) = world().write_back(is_last) {
            crate::limited!(Error, "cannot write subscriptions to the database: {error}");
        }
    });
    each_on_its_own("writing the watchers", || {
        if let Err(error) = world().write_standings(is_last) {
            crate::limited!(Error, "cannot write the watchers table: {error}");
        }
    });
    each_on_its_own("writing publications", || write_publications(&mut world(), is_last));
}

fn write_publications(world: &mut World, is_last: bool) {
    if let Err(error) = world.write_publications(is_last) {
        crate::limited!(Error, "cannot write publications to the database: {error}");
    }
}

fn completed(done: &tm::Completed<'_>) {
    let Some(process) = state::process() else { return };
    process.shared.senders.note_answer();
    counters::count(counters::of_notify(done.code, tm::is_faked(done.reply)));
    let has_route = process.notify_reply.get().is_some_and(|route| route.exists());
    if done.code < 300 && !has_route && done.ticket == Ticket::NONE {
        return; // All is well, and nobody wants to know.
    }
    let Some(mut world) = state::world() else { return };
    let dialog = DialogId { call_id: done.call_id(), to_tag: done.local_tag(), from_tag: done.remote_tag() };
    let delete = run_notify_reply(&mut world, dialog, done);
    let code = match delete {
        true => 481,
        false if comes_back(done) => return world.note_failure(dialog, done.cseq(), done.code),
        false => done.code,
    };
    world.notify_answered(dialog, done.cseq(), code);
}

/// Whether a watcher is away only for a while: it says itself when it is back, and keeps its subscription (RFC 6665 4.2.2).
fn comes_back(done: &tm::Completed<'_>) -> bool {
    // SAFETY: the reply lives during the callback of tm.
    let reply = if done.code == 480 { unsafe { tm::reply_of(done.reply) } } else { None };
    reply.is_some_and(|reply| reply.parse_headers() && reply.find(b"Retry-After").is_some())
}

/// `event_route[presence:notify-reply]`; `true` when the script asked to delete the subscription.
fn run_notify_reply(world: &mut World, dialog: DialogId<'_>, done: &tm::Completed<'_>) -> bool {
    use crate::presence::ports::Ports;
    let process = world.process();
    let kept = take_kept(done.ticket);
    let Some(route) = process.notify_reply.get().filter(script::EventRoute::exists) else { return false };
    let found = kept.or_else(|| world.find_subscription(dialog).ok().flatten());
    let shown = found.filter(|_| process.config.subs_variable);
    let _shown = ForAWhile::set(&process.last_subscription, shown);
    let answer = Answer::of(done);
    super::presence_variables::with_notify_reply(answer.raw(), || {
        if !route.run_on_request(done) {
            limited!(Error, "event_route[presence:notify-reply] is not run: the NOTIFY cannot be read again");
        }
    });
    let xavp = process.config.xavp;
    !xavp.is_empty() && script::xavp_int(xavp, c"delete_subscription") == Some(1)
}

/// # Safety
/// Arguments of a tm callback in progress.
pub(super) unsafe extern "C" fn kr_presence_notify_completed(
    cell: *mut sys::cell,
    _kind: c_int,
    params: *mut sys::tmcb_params,
) {
    entry!(kr_presence_notify_completed, {
        // SAFETY: tm's own arguments.
        if let Some(done) = unsafe { tm::completed(cell, params) } {
            completed(&done);
        }
    })
}

pub(super) unsafe extern "C" fn kr_presence_on_clean(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_clean, { clean() })
}

pub(super) unsafe extern "C" fn kr_presence_on_update(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_update, { update() })
}

pub(super) unsafe extern "C" fn kr_presence_on_publication_update(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_publication_update, {
        if let Some(mut world) = state::world().map(World::paced) {
            write_publications(&mut world, false);
        }
    })
}

/// One of the things that a timer or the end does: a panic in it does not keep the others from being done.
fn each_on_its_own(what: &str, work: impl FnOnce()) {
    super::entry::guarded(what, (), || (), work);
}

/// Sends for the resources whose sending was broken off.
fn send_again() {
    let Some(process) = state::process() else { return };
    for _ in 0..process.shared.interrupted.len() {
        let Some(hash) = process.shared.interrupted.take() else { return };
        each_on_its_own("sending again", || World::new(process).paced().try_again(hash));
    }
}

pub(super) unsafe extern "C" fn kr_presence_on_second(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_second, {
        each_on_its_own("sending again", send_again);
        each_on_its_own("ending what is left over", || {
            if state::process().is_some_and(|process| process.shared.senders.take_left_over()) {
                update();
            }
        });
        each_on_its_own("drain", || {
            let Some(mut world) = state::world().map(World::paced) else { return };
            if let Err(error) = world.drain_step() {
                crate::limited!(Error, "cannot end subscriptions before maintenance: {error}");
            }
        });
        each_on_its_own("nodes", || {
            if let Some(mut world) = state::world().map(World::paced) {
                super::presence_dmq::step(&mut world);
            }
        });
    })
}

pub(super) unsafe extern "C" fn kr_presence_on_turn(_ticks: c_uint, param: *mut c_void) {
    entry!(kr_presence_on_turn, {
        if let Some(mut world) = state::world() {
            world.notifier_turn(param as usize as i32);
        }
    })
}

/// Checks the parameters, opens the database, makes the shared tables. 0, or -1 with one line in the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_mod_init(params: *const kr_presence_params_t) -> c_int {
    entry!(kr_presence_mod_init, -1, {
        // SAFETY: the glue's own parameter block.
        let Some(params) = (unsafe { params.as_ref() }) else { return -1 };
        match start(params) {
            Ok(()) => {
                let notifiers = state::process().map_or(0, |p| p.config.notifier_processes);
                if notifiers > 0 && !process::reserve_timers(notifiers) {
                    return -1;
                }
                let senders = state::process().map_or(0, |p| p.config.sender_processes);
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
                if start_notifiers(&process.config) && start_senders(&process.config) {
                    0
                } else {
                    -1
                }
            }
            process::RANK_TCP_MAIN => 0,
            _ => {
                process::seed_private_memory();
                0
            }
        }
    })
}

/// The server ends: what is only in memory and belongs in the database is written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_destroy() {
    entry!(kr_presence_destroy, (), {
        if let Some(process) = state::process() {
            if process.database.is_configured() {
                sync::be_the_last_process();
                write_what_waits(|| World::new(process), true);
                process.database.disconnect();
            }
        }
    })
}

/// `handle_publish([sender_uri])`: 1, or -1 when the request was refused; it has been answered in both cases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_publish(msg: *mut sip_msg_t, sender: *const str_t) -> c_int {
    entry!(kr_presence_handle_publish, -1, after a panic refuse_after_panic(msg), {
        // SAFETY: arguments of the script function in progress.
        unsafe { handle_publish(msg, sender) }
    })
}

/// `handle_subscribe([watcher_uri])`: 1, or -1 when the request was refused; it has been answered in both cases.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_subscribe(msg: *mut sip_msg_t, watcher: *const str_t) -> c_int {
    entry!(kr_presence_handle_subscribe, -1, after a panic refuse_after_panic(msg), {
        // SAFETY: arguments of the script function in progress.
        unsafe { handle_subscribe(msg, view_ptr(watcher).map_or(GivenWatcher::None, GivenWatcher::Address)) }
    })
}

/// `handle_subscribe` of the C API: the watcher's user and host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_handle_subscribe_as(
    msg: *mut sip_msg_t,
    user: *const str_t,
    domain: *const str_t,
) -> c_int {
    entry!(kr_presence_handle_subscribe_as, refuse_after_panic(msg), {
        // SAFETY: arguments of a call in progress.
        unsafe {
            let parts = view_ptr(user).zip(view_ptr(domain));
            handle_subscribe(msg, parts.map_or(GivenWatcher::None, |(user, host)| GivenWatcher::Parts(user, host)))
        }
    })
}

/// `pres_auth_status(watcher_uri, presentity_uri)`: the number of the watcher's standing, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_auth_status(
    msg: *mut sip_msg_t,
    watcher: *const str_t,
    presentity: *const str_t,
) -> c_int {
    entry!(kr_presence_auth_status, -1, {
        let _ = msg;
        // SAFETY: strings of the script function in progress.
        let (watcher, presentity) = unsafe { (view_ptr(watcher), view_ptr(presentity)) };
        match (watcher, presentity) {
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
        // SAFETY: strings of the script function in progress.
        let (uri, event) = unsafe { (view_ptr(presentity), view_ptr(event)) };
        let (Some(uri), Some(event), Some(mut world)) = (uri, event, state::world()) else { return -1 };
        let Some(resource) = resource_of(&world, uri, event) else {
            crate::limited!(
                Error,
                "pres_has_subscribers: no event package {} or no URI {}",
                log::show(event),
                log::show(uri)
            );
            return -1;
        };
        use crate::presence::ports::Ports;
        match world.subscriptions(&resource) {
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
        // SAFETY: strings of the call in progress.
        let (uri, event) = unsafe { (view_ptr(uri), view_ptr(event)) };
        let (Some(uri), Some(event)) = (uri, event) else { return -1 };
        // SAFETY: as above, or null.
        let file = unsafe { view_ptr(file_uri).zip(view_ptr(filename)) };
        let done = match (kind, file) {
            (2, Some((file_uri, filename))) => refresh_hard_state(uri, event, file_uri, filename),
            _ => refresh_watchers(uri, event, kind),
        };
        match done {
            Ok(()) => 1,
            Err(why) => {
                crate::limited!(Error, "pres_refresh_watchers: {why}");
                -1
            }
        }
    })
}

/// `pres_update_watchers(uri, event)`: 1, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_update_watchers(uri: *const str_t, event: *const str_t) -> c_int {
    entry!(kr_presence_update_watchers, -1, {
        // SAFETY: strings of the call in progress.
        let (uri, event) = unsafe { (view_ptr(uri), view_ptr(event)) };
        let (Some(uri), Some(event)) = (uri, event) else { return -1 };
        match refresh_watchers(uri, event, 0) {
            Ok(()) => 1,
            Err(why) => {
                crate::limited!(Error, "pres_update_watchers: {why}");
                -1
            }
        }
    })
}

/// After a panic the request is answered 500.
fn refuse_after_panic(msg: *mut sip_msg_t) -> c_int {
    // SAFETY: the message of the script function in progress.
    if let Some((mut world, message)) = unsafe { state::world_for(msg) } {
        world.refuse(&Failure::Internal("panic".into()), "request", &who(message));
    }
    -1
}
