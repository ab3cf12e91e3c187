//! A NOTIFY is completed: it was answered, or is not waited for any more.
use crate::common::metrics::{self, NotifyAnswer};
use crate::host::tm::FinalStatus;
use crate::host::{log, tm};
use crate::limited;
use crate::presence::config::Config;
use crate::presence::history::remembered::NotifyOutcome;
use crate::presence::subscription::dialog::DialogId;
use crate::server::context::{Context, Process};
use crate::server::notifications::under_way::UnderWay;
use crate::server::notify::responses;
use crate::time::{MicroTick, Micros};

/// A NOTIFY has been answered, or will not be, as is known at `now`. `run_notify_reply` runs the script's route for it,
/// and says whether that asks to delete the subscription.
pub fn completed(
    process: &'static Process,
    done: &tm::Completed<'_>,
    under_way: Option<UnderWay>,
    now: MicroTick,
    run_notify_reply: impl FnOnce(&mut Context<'_>, DialogId<'_>) -> bool,
) {
    let waited = under_way.map(|under_way| under_way.age(now));
    // What came to nothing is no answer, and is not waited for any more.
    let answered = under_way.filter(|under_way| under_way.is_udp && done.status.answer().is_some());
    answered.into_iter().for_each(|answered| process.shared.senders.note_answer(answered.began(now)));
    match under_way.filter(|_| done.status == FinalStatus::Unsent) {
        Some(unsent) => note_unsent(done, unsent),
        None => metrics::notify_answered(NotifyAnswer {
            event: under_way.map(|under_way| under_way.event),
            code: done.status.answer(),
            waited,
        }),
    }
    log_answer(process.parts.config, done, waited);
    let has_route = process.notify_reply.get().is_some_and(|route| route.exists());
    let number = under_way.and_then(|under_way| under_way.number);
    // Silence counts as a 408 from here on.
    let code = done.status.code();
    let outcome = match done.status {
        FinalStatus::Unsent => NotifyOutcome::NotSent,
        FinalStatus::Answered(_) | FinalStatus::Silence => NotifyOutcome::Final(code),
    };
    let note = |number| process.parts.shared.history.note_answer(number, outcome, now);
    number.into_iter().for_each(note);
    if code < 300 && !has_route {
        return; // All is well, and nobody wants to know.
    }
    let mut context = Context::new(process);
    let dialog = DialogId { call_id: done.call_id(), to_tag: done.local_tag(), from_tag: done.remote_tag() };
    let delete = run_notify_reply(&mut context, dialog);
    let code = match delete {
        true => 481,
        false if comes_back(done) => return context.shared.tables.record_failure(dialog, done.cseq(), code),
        false => code,
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
    let answer = match done.status {
        FinalStatus::Unsent => "not sent".into(),
        FinalStatus::Silence => "not answered".into(),
        FinalStatus::Answered(code) => format!("answered {code}"),
    };
    let (call_id, millis) = (log::show(done.call_id()), waited.unwrap_or_default().millis().0);
    let text = format!("NOTIFY {answer} after {millis} ms, CSeq {} : {call_id}", done.cseq());
    log::write(c"presence", config.log_facility, config.log_level, &text);
}

/// Whether a watcher is away only for a while: it says itself when it is back, and keeps its subscription (RFC 6665
/// 4.2.2).
fn comes_back(done: &tm::Completed<'_>) -> bool {
    let reply = if done.status == FinalStatus::Answered(480) { done.reply.message() } else { None };
    reply.is_some_and(|reply| reply.parse_headers() && reply.find(b"Retry-After").is_some())
}
