//! What has happened to a lamp, and what is published: `presence.history` and `presence.publications`.
use crate::abi::c_types::rpc_t;
use crate::abi::presence::explain_rpc::{digest, show_end, when};
use crate::abi::presence::rpc::{answered, call};
use crate::abi::presence::state;
use crate::host::clock;
use crate::host::rpc::{Rpc, Struct};
use crate::presence::history::occurrence::Occurrence;
use crate::presence::history::remembered::{BodyDigest, DocumentChange, NotifyOutcome, SentNotify};
use crate::presence::notification::NotifyReason;
use crate::presence::ports::server::Server;
use crate::server::context::Context;
use crate::server::operator::catalogue;
use crate::server::operator::selection::Listed;
use crate::server::operator::selection::{Filter, FilterKeys, PAGE};
use crate::server::operator::what_happened;
use crate::time::MicroMoment;
use std::ffi::c_void;

const HISTORY: FilterKeys = FilterKeys {
    names: &["watcher", "presentity", "event", "what", "offset", "limit", "count"],
    sort: &[],
    what: &["published", "composed", "notified", "answered", "ended"],
    // As many as fit an answer of kamcmd's transport.
    page: 50,
};

const PUBLICATIONS: FilterKeys = FilterKeys {
    names: &["presentity", "event", "sort", "offset", "limit", "count"],
    sort: &["presentity", "event"],
    what: &[],
    page: PAGE,
};

fn history(rpc: &Rpc) -> Result<(), String> {
    let Some(context) = state::context() else { return Ok(()) };
    if context.config().history_size == 0 {
        return Err("nothing is remembered: history_size is 0".into());
    }
    let filter = Filter::read(rpc.texts(), &context, &HISTORY)?;
    match what_happened::selected(context.shared.history, &filter) {
        Listed::Count(count) => show_count(rpc, count),
        Listed::Page(page) => {
            let now = clock::micro_moment();
            for occurrence in &page {
                let Some(out) = rpc.add_struct() else { break };
                show_step(&context, out, occurrence, now);
            }
        }
    }
    Ok(())
}

fn show_step(context: &Context, out: Struct, occurrence: &Occurrence, now: MicroMoment) {
    let (presentity, event, watcher) = occurrence.subject();
    out.text(c"time", &exactly(occurrence.at(), now)).text(c"what", what_happened::name_of(occurrence).as_bytes());
    out.text(c"presentity", presentity).text(c"event", context.packages().get(event).name);
    if let Some(watcher) = watcher {
        out.text(c"watcher", watcher);
    }
    match occurrence {
        Occurrence::Changed(change) => show_change(out, change),
        Occurrence::Notified(sent) => show_notify(out, sent, now),
        Occurrence::Answered(sent) => {
            let code = if let NotifyOutcome::Final(code) = sent.answer { code } else { 0 };
            out.int(c"answer", code.into()).text(c"answer_took", sent.answer_in_words(now).as_bytes());
            out.int(c"cseq", sent.cseq.into());
        }
        Occurrence::Ended(ended) => {
            out.text(c"because", ended.cause.sentence().as_bytes());
            show_end(context, out, ended);
        }
    }
    out.int(c"at", occurrence.at().moment().seconds());
}

fn show_body(out: Struct, body: BodyDigest) {
    out.int(c"bytes", body.bytes.into()).text(c"body_crc32", &digest(body.crc32));
}

fn show_change(out: Struct, change: &DocumentChange) {
    out.text(c"how", change.kind.sentence().as_bytes());
    if change.kind.step() == "published" {
        out.text(c"etag", change.etag.bytes()).text(c"sender", &change.sender).lifetime(c"expires", change.expires);
    }
    show_body(out, change.body);
}

fn show_notify(out: Struct, sent: &SentNotify, now: MicroMoment) {
    let how = match sent.reason {
        NotifyReason::Change => "the state changed",
        NotifyReason::Subscribe => "it answers a SUBSCRIBE",
        NotifyReason::Unsubscribe => "it answers the SUBSCRIBE that ended the subscription",
        NotifyReason::Ended => "the subscription is over",
    };
    out.text(c"how", how.as_bytes()).int(c"cseq", sent.cseq.into());
    show_body(out, sent.body);
    out.text(c"last_answer", sent.answer_in_words(now).as_bytes());
}

/// A time to the millisecond, as the server's time zone writes it, with how long ago it was.
fn exactly(at: MicroMoment, now: MicroMoment) -> Vec<u8> {
    let local = clock::local(at.moment());
    let (clock_time, zone) = local.rsplit_once(' ').unwrap_or((&local, ""));
    let (millis, ago) = (at.millis_of_second(), now.since(at).millis().seconds().0);
    format!("{clock_time}.{millis:03} {zone} ({ago} s ago)").into_bytes()
}

/// How many there are, in place of the entries.
pub(crate) fn show_count(rpc: &Rpc, count: usize) {
    if let Some(out) = rpc.add_struct() {
        out.int(c"count", count as i64);
    }
}

fn publications(rpc: &Rpc) -> Result<(), String> {
    let Some(context) = state::context() else { return Ok(()) };
    let filter = Filter::read(rpc.texts(), &context, &PUBLICATIONS)?;
    let page = match catalogue::selected(&context.inventory(), &filter).map_err(|error| error.to_string())? {
        Listed::Count(count) => {
            show_count(rpc, count);
            return Ok(());
        }
        Listed::Page(page) => page,
    };
    for (resource, publication) in page {
        let Some(out) = rpc.add_struct() else { break };
        let left = publication.expires_at.moment().map_or(-1, |end| (end - clock::now()).0);
        out.text(c"presentity", &resource.uri).text(c"event", context.packages().get(resource.event).name);
        out.text(c"etag", publication.etag.bytes()).text(c"sender", &publication.sender).int(c"left", left);
        out.text(c"received_time", &when(publication.received_at)).int(c"priority", publication.priority.into());
        show_body(out, BodyDigest::of_body(&publication.body));
        out.moment(c"received", publication.received_at);
    }
    Ok(())
}

/// `presence.history [name=value ...]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_history(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_history, (), {
        command!(call, (rpc, ctx), HISTORY.names.len(), |rpc| answered(rpc, history))
    })
}

/// `presence.publications [name=value ...]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_publications(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_publications, (), {
        command!(call, (rpc, ctx), PUBLICATIONS.names.len(), |rpc| answered(rpc, publications))
    })
}
