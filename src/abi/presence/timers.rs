//! What the host's timers and tm call back: cleaning, writing, completed NOTIFYs.
use crate::abi::presence::{state, variables};
use crate::common::failures::{ItemOutcome, until_failed};
use crate::common::metrics::{self, NotifyAnswer};
use crate::common::row_groups::Pass;
use crate::host::tm::{self, ShownResponse};
use crate::host::{clock, fork_signals, log, script, shm};
use crate::presence::config::Config;
use crate::presence::dialog::DialogId;
use crate::presence::error::StoreError;
use crate::presence::expiry;
use crate::presence::late::Taken;
use crate::presence::ports::subscriptions::Subscriptions;
use crate::presence::remembered::NotifyOutcome;
use crate::presence::subscription::Subscription;
use crate::scoped_value::ScopedValue;
use crate::server::announcing::arbitration::Beating;
use crate::server::cluster::{membership, messages};
use crate::server::context::Context;
use crate::server::history::recording;
use crate::server::judging;
use crate::server::notifications::under_way::{self, UnderWay};
use crate::server::notify::{missed_sweep, notifier_process, responses, retries};
use crate::server::operator::drain;
use crate::time::{MicroTick, Micros, Seconds};
use crate::{limited, sys};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::Ordering;

/// Removes what has ended, writes what is not written: what the timers do, at once.
///
/// # Errors
///
/// Never fails: what cannot be removed or written now is tried again by the timers, and logged.
pub(crate) fn clean_up() -> Result<(), String> {
    clean();
    update();
    Ok(())
}

pub(crate) fn clean() {
    let Some(process) = state::process() else { return };
    let context = || Context::new(process).paced();
    if context().is_library() {
        return;
    }
    each_on_its_own("the wall clock", follow_clock);
    each_on_its_own("ending publications", || {
        if let Err(error) = expiry::publications(&mut context()) {
            crate::limited!(Error, "cannot remove ended publications: {error}");
        }
    });
    each_on_its_own("cleaning the watchers", || {
        if let Err(error) = context().storage.authorizations.clean() {
            crate::limited!(Error, "cannot clean the watchers table: {error}");
        }
    });
    each_on_its_own("cleaning what nodes have left", || {
        if let Err(error) = membership::forget_past(&context()) {
            crate::limited!(Error, "cannot clean the active_watchers table: {error}");
        }
    });
}

pub(crate) fn update() {
    each_on_its_own("ending subscriptions", || {
        let Some(mut context) = state::context().map(Context::paced) else { return };
        if let Err(error) = expiry::subscriptions(&mut context) {
            crate::limited!(Error, "cannot end subscriptions that ran out: {error}");
        }
    });
    if let Some(process) = state::process() {
        write_what_waits(|| Context::new(process), Pass::Regular);
    }
}

/// Writes what memory has and the tables have not.
pub(crate) fn write_what_waits(context: impl Fn() -> Context<'static>, pass: Pass) {
    each_on_its_own("writing subscriptions", || {
        let _ = write_subscriptions(&context(), pass);
    });
    each_on_its_own("writing the watchers", || {
        if let Err(error) = context().storage.authorizations.write(pass) {
            crate::limited!(Error, "cannot write the watchers table: {error}");
        }
    });
    each_on_its_own("writing publications", || {
        let _ = write_publications(&context(), pass);
    });
}

/// Writes the watchers that wait for their rows.
fn write_watchers() {
    let Some(process) = state::process() else { return };
    if process.shared.authorizations.owed() == 0 {
        return;
    }
    process.rests.watchers.unless_resting(clock::ticks(), || {
        Context::new(process)
            .storage
            .authorizations
            .write(Pass::Regular)
            .inspect_err(|error| crate::limited!(Error, "cannot write the watchers table: {error}"))
    });
}

/// Writes before its time what has piled up, so that the end of the server has little left to write.
fn write_early() {
    let Some(process) = state::process().filter(|process| !process.config.keeps_what_has_ended()) else { return };
    let now = clock::ticks();
    let subscriptions = Context::new(process).storage.subscriptions;
    if subscriptions.is_written_early(process.shared.tables.unwritten) {
        each_on_its_own("writing subscriptions early", || {
            process
                .rests
                .subscriptions
                .unless_resting(now, || write_subscriptions(&Context::new(process), Pass::Regular));
        });
    }
    if process.shared.unwritten_publications.are_many() {
        each_on_its_own("writing publications early", || {
            process
                .rests
                .publications
                .unless_resting(now, || write_publications(&Context::new(process), Pass::Regular));
        });
    }
}

fn write_subscriptions(context: &Context, pass: Pass) -> Result<(), StoreError> {
    let written = context.storage.subscriptions.write_back(pass).map(drop);
    written.inspect_err(|error| crate::limited!(Error, "cannot write subscriptions to the database: {error}"))
}

/// Writes what the tables lack of publications, and logs what is in the way.
///
/// # Errors
///
/// Fails when the database cannot be written: it is tried again.
pub(crate) fn write_publications(context: &Context, pass: Pass) -> Result<(), StoreError> {
    let written = context.storage.publications.write(pass).map(drop);
    written.inspect_err(|error| crate::limited!(Error, "cannot write publications to the database: {error}"))
}

/// A NOTIFY has been answered, or will not be, as is known at `now`; `seen`
/// is its subscription as the routes saw it at the sending.
pub(crate) fn completed(
    done: &tm::Completed<'_>,
    under_way: Option<UnderWay>,
    seen: Option<Subscription>,
    now: MicroTick,
) {
    let Some(process) = state::process() else { return };
    let waited = under_way.map(|under_way| under_way.age(now));
    // What came to nothing is no answer, and is not waited for any more.
    let answered = under_way.filter(|under_way| under_way.is_udp && !done.is_silence());
    answered.into_iter().for_each(|answered| process.shared.senders.note_answer(answered.began(now)));
    match under_way.filter(|_| done.is_unsent()) {
        Some(unsent) => note_unsent(done, unsent),
        None => metrics::notify_answered(NotifyAnswer {
            event: under_way.map(|under_way| under_way.event),
            code: done.code,
            is_silence: done.is_silence(),
            waited,
        }),
    }
    log_answer(process.parts.config, done, waited);
    let has_route = process.notify_reply.get().is_some_and(|route| route.exists());
    let number = under_way.and_then(|under_way| under_way.number);
    let note = |number| match done.is_unsent() {
        true => process.parts.shared.history.note_answer(number, NotifyOutcome::NotSent, now),
        false => recording::note_answer(process.parts.shared.history, number, done.code, now),
    };
    number.into_iter().for_each(note);
    if done.code < 300 && !has_route {
        return; // All is well, and nobody wants to know.
    }
    let Some(mut context) = state::context() else { return };
    let dialog = DialogId { call_id: done.call_id(), to_tag: done.local_tag(), from_tag: done.remote_tag() };
    let delete = run_notify_reply(&mut context, dialog, done, seen);
    let code = match delete {
        true => 481,
        false if comes_back(done) => return context.shared.tables.record_failure(dialog, done.cseq(), done.code),
        false => done.code,
    };
    responses::apply(&mut context, dialog, done.cseq(), code);
}

/// Takes note of a NOTIFY that this machine could not send, and could not send again. That is no answer of the watcher:
/// its subscription stays, and the next change is sent to it.
#[cold]
fn note_unsent(done: &tm::Completed<'_>, unsent: UnderWay) {
    metrics::notify_unsent(unsent.event, 1);
    limited!(
        Error,
        "NOTIFY to {}, Call-ID {}, could not be sent, the next change is sent again: {}",
        log::show(done.peer().unwrap_or_default()),
        log::show(done.call_id()),
        done.why_unsent()
    );
}

/// The answer to the NOTIFY that `sending::send` has written a line of.
fn log_answer(config: &Config, done: &tm::Completed<'_>, waited: Option<Micros>) {
    if !log::enabled(config.log_level) {
        return;
    }
    let answer = match done.is_silence() {
        true if done.is_unsent() => "not sent".into(),
        true => "not answered".into(),
        false => format!("answered {}", done.code),
    };
    let (call_id, millis) = (log::show(done.call_id()), waited.unwrap_or_default().millis().0);
    let text = format!("NOTIFY {answer} after {millis} ms, CSeq {} : {call_id}", done.cseq());
    log::write(c"presence", config.log_facility, config.log_level, &text);
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
    entry!(kr_presence_on_clean, { clean() })
}

pub(crate) unsafe extern "C" fn kr_presence_on_update(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_update, { update() })
}

pub(crate) unsafe extern "C" fn kr_presence_on_publication_update(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_publication_update, {
        if let Some(context) = state::context().map(Context::paced) {
            let _ = write_publications(&context, Pass::Regular);
        }
    })
}

pub(crate) unsafe extern "C" fn kr_presence_on_second(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_second, {
        each_on_its_own("the wall clock", follow_clock);
        each_on_its_own("sending again", send_again);
        each_on_its_own("judging again", judge_again);
        write_early();
        each_on_its_own("writing the watchers", write_watchers);
        each_on_its_own("reading again", send_unread);
        each_on_its_own("missed changes", send_missed);
        each_on_its_own("late documents", || show_late_documents(Taken::Due));
        each_on_its_own("ending what is left over", || {
            if state::process().is_some_and(|process| process.shared.senders.take_left_over()) {
                update();
            }
        });
        each_on_its_own("drain", || {
            let Some(mut context) = state::context().map(Context::paced) else { return };
            if let Err(error) = drain::step(&mut context) {
                crate::limited!(Error, "cannot end subscriptions before maintenance: {error}");
            }
        });
        each_on_its_own("spare memory", shm::return_spare_chunks);
        each_on_its_own("nodes", || {
            if let Some(mut context) = state::context().map(Context::paced) {
                messages::step(&mut context);
            }
        });
    })
}

pub(crate) unsafe extern "C" fn kr_presence_on_beat(_ticks: c_uint, _param: *mut c_void) {
    entry!(kr_presence_on_beat, {
        fork_signals::take();
        let Some(process) = state::process() else { return };
        if let Some(database) = process.leases {
            let mut beating = process.beating.borrow_mut();
            let table = process.config.cluster_leases_table;
            beating.get_or_insert_with(|| Beating::new(database, table)).step(&process.parts);
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

/// Whether a watcher is away only for a while: it says itself when it is back, and keeps its subscription (RFC 6665
/// 4.2.2).
pub(crate) fn comes_back(done: &tm::Completed<'_>) -> bool {
    let reply = if done.code == 480 { done.reply.message() } else { None };
    reply.is_some_and(|reply| reply.parse_headers() && reply.find(b"Retry-After").is_some())
}

/// Shows what was held back, see [`crate::presence::late`].
pub(crate) fn show_late_documents(taken: Taken) {
    let Some(process) = state::process().filter(|process| !process.shared.late_documents.is_empty()) else { return };
    if let Err(error) = expiry::late_documents(&mut Context::new(process).paced(), taken) {
        limited!(Error, "the newest document of a publication is not shown yet: {error}");
    }
}

/// Sends for the resources whose sending was broken off.
pub(crate) fn send_again() {
    let Some(process) = state::process() else { return };
    process.shared.interrupted.find_more(&process.shared.tables);
    for _ in 0..process.shared.interrupted.len() {
        let Some(hash) = process.shared.interrupted.take() else { return };
        each_on_its_own("sending again", || retries::send_again(Context::new(process).paced(), hash));
    }
}

/// A wall clock that was set by less than this changes no row.
const LEAST_STEP: Seconds = Seconds(2);

/// By how much a wall clock was set since rows were made to follow it; `None`: by too little.
fn step_of(before: Seconds, set_by: Seconds) -> Option<Seconds> {
    let step = set_by - before;
    (step.abs() >= LEAST_STEP).then_some(step)
}

/// Lets rows follow a wall clock that was set: intervals go on, so the times of day at which they end are others. What
/// could not be written is written in the next second.
pub(crate) fn follow_clock() {
    let (Some(context), set_by) = (state::context(), clock::set_by()) else { return };
    context.shared.clock_steps.look(clock::now(), set_by);
    let before = Seconds(context.shared.clock_set_by.load(Ordering::Relaxed));
    let Some(step) = step_of(before, set_by) else { return };
    limited!(Warn, "the wall clock was set by {} s: subscriptions and publications end when they would have", step.0);
    context.storage.subscriptions.clock_was_set();
    match context.storage.publications.clock_was_set(before) {
        Ok(()) => context.shared.clock_set_by.store(set_by.0, Ordering::Relaxed),
        Err(error) => limited!(Error, "not all rows have the times of the new wall clock yet: {error}"),
    }
}

/// Judges watchers again about whom decisions could not be carried out.
pub(crate) fn judge_again() {
    let Some(process) = state::process().filter(|process| !process.shared.judgements.is_empty()) else { return };
    judging::judge_again(|| Context::new(process).paced(), |judge| each_on_its_own("judging again", judge));
}

/// So many resources whose state cannot be read are tried in one pass: each costs the database a statement.
const FAILED_READS: usize = 4;

/// Sends for the resources whose state could not be read before.
pub(crate) fn send_unread() {
    let Some(process) = state::process().filter(|process| !process.shared.unread.is_idle()) else { return };
    let unread = process.shared.unread;
    let mut pass = unread.begin_pass(&process.shared.tables, clock::instant());
    let unread = std::iter::from_fn(|| unread.next(&mut pass));
    until_failed(unread, FAILED_READS, |hash| {
        let mut is_read = Ok(false);
        each_on_its_own("reading again", || is_read = retries::send_if_readable(Context::new(process).paced(), hash));
        match is_read {
            Ok(true) => ItemOutcome::Done,
            // The others would wait for the database, too.
            Err(StoreError::Database) => ItemOutcome::Hopeless,
            Ok(false) | Err(_) => ItemOutcome::Failed,
        }
    });
}

/// Notifies the watchers of changes that not all of them could be notified of (database-only mode).
pub(crate) fn send_missed() {
    let Some(process) = state::process() else { return };
    let list = process.shared.missed_changes;
    let missed = (0..list.len()).map_while(|_| list.take());
    let all = until_failed(missed, FAILED_READS, |missed| {
        let mut outcome = ItemOutcome::Done;
        each_on_its_own("missed changes", || {
            let mut context = Context::new(process).paced();
            missed_sweep::notify(&mut context, missed);
            outcome = match &context.work.rows {
                rows if rows.is_database_away => ItemOutcome::Hopeless,
                rows if rows.has_missed => ItemOutcome::Failed,
                _ => ItemOutcome::Done,
            };
        });
        outcome
    });
    if !all {
        return;
    }
    each_on_its_own("a sweep of missed changes", || {
        if let Err(error) = missed_sweep::step(&mut Context::new(process).paced()) {
            limited!(Error, "the watchers of changes that were missed are notified later: {error}");
        }
    });
}

/// One of the things that a timer or the end does: a panic in it does not keep the others from being done.
pub(crate) fn each_on_its_own(what: &str, work: impl FnOnce()) {
    crate::abi::entry::guarded(what, (), || (), work);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_counts_as_set_from_two_seconds_on() {
        let steps = [-3, -2, -1, 0, 1, 2, 3].map(|by| step_of(Seconds(10), Seconds(10 + by)));
        assert_eq!(steps, [Some(-3), Some(-2), None, None, None, Some(2), Some(3)].map(|step| step.map(Seconds)));
    }
}
