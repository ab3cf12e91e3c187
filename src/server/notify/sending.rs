//! A NOTIFY leaves: past tm, or through it.
use crate::common::counters::Counter;
use crate::common::{counters, metrics};
use crate::host::log;
use crate::host::{clock, tm};
use crate::limited;
use crate::presence::history::remembered::BodyDigest;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::subscription::field::Field;
use crate::server::context::Context;
use crate::server::history::recording;
use crate::server::notifications::engine::Content;
use crate::server::notifications::missed_changes::OwnDialogId;
use crate::server::notifications::pacing::SentBy;
use crate::server::notifications::under_way::UnderWay;
use crate::server::notify::by_tm;
use crate::sip::target::NextHop;
use crate::sip::uri;

/// Sends a NOTIFY from this process; `false` when it could not be sent.
pub(crate) fn send(
    context: &mut Context<'_>,
    notify: &Notify,
    hop: NextHop,
    headers: &[u8],
    body: Option<&[u8]>,
    digest: BodyDigest,
) -> bool {
    fault_point!("notify");
    log_notify(context, notify);
    let s = &notify.subscription;
    let sent_at = clock::micro_tick();
    let number = recording::note_notify(context.shared.history, notify, digest, sent_at);
    let is_udp = hop.is_udp();
    let under_way = UnderWay { event: s.state.event, sent_at, is_udp, number };
    let senders = context.shared.senders;
    if is_udp {
        senders.outstanding.note_sent(sent_at);
    }
    let content = Content { headers, body };
    let is_direct = context.shared.engine.send(s, hop, content, under_way);
    counters::count(if is_direct { Counter::NotifyDirect } else { Counter::NotifyByTm });
    let sent = match is_direct {
        true => Ok(tm::TmOutcome::UnderWay),
        false => by_tm::send(context, notify, content, under_way),
    };
    if sent != Ok(tm::TmOutcome::UnderWay) {
        if is_udp {
            senders.outstanding.note_done(sent_at);
        }
    } else if let Some(pace) = &mut context.work.pace {
        pace.step(senders, SentBy { by_tm: !is_direct, is_udp });
    }
    match sent.is_ok() {
        true => metrics::notify_sent(s.state.event, notify.notify_reason),
        false => {
            if notify.notify_reason != NotifyReason::Change {
                context.unanswered.push(OwnDialogId::of_dialog(s.dialog()));
            }
            note_unsent(context, notify);
        }
    }
    sent.is_ok()
}

/// Takes note of a NOTIFY that could not be sent.
pub(crate) fn note_unsent(context: &Context<'_>, notify: &Notify) {
    let s = &notify.subscription;
    metrics::notify_unsent(s.state.event, 1);
    limited!(
        Error,
        "NOTIFY to {} via {} for {}, event {}, Call-ID {}, could not be sent",
        log::show(&s.remote_uri().to_vec()),
        log::show(s.get(Field::Contact)),
        log::show(s.get(Field::PresUri)),
        log::show(context.packages.get(s.state.event).name),
        log::show(s.get(Field::CallId))
    );
}

/// One line for each NOTIFY, at a level that is off unless `local_log_level` says otherwise.
fn log_notify(context: &Context<'_>, notify: &Notify) {
    let config = context.config;
    if !log::enabled(config.log_level) {
        return;
    }
    let s = &notify.subscription;
    let from = uri::join(s.get(Field::FromUser), s.get(Field::FromDomain));
    let text = format!(
        "NOTIFY {} via {} on behalf of {} for event {} : {}",
        log::show(&from),
        log::show(s.get(Field::Contact)),
        log::show(s.get(Field::PresUri)),
        log::show(context.packages.get(s.state.event).name),
        log::show(s.get(Field::CallId)),
    );
    log::write(c"presence", config.log_facility, config.log_level, &text);
}
