//! What has happened to a lamp, and what is published: `presence.history` and `presence.publications`.
use crate::abi::c_types::rpc_t;
use crate::abi::presence::explain_rpc::{digest, show_end, when};
use crate::abi::presence::filter::{Filter, FilterKeys, PAGE};
use crate::abi::presence::rpc::{answered, call};
use crate::abi::presence::state;
use crate::host::clock;
use crate::host::rpc::{Rpc, Struct};
use crate::presence::event_package::PackageId;
use crate::presence::notification::NotifyReason;
use crate::presence::occurrence::Occurrence;
use crate::presence::ports::server::Server;
use crate::presence::remembered::{BodyDigest, DocumentChange, NotifyOutcome, SentNotify};
use crate::server::context::Context;
use crate::server::operator::catalogue;
use crate::server::operator::catalogue::PublicationOrder;
use crate::time::MicroMoment;
use std::collections::HashSet;
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

/// The step that this is, as `what=` names it.
fn name_of(occurrence: &Occurrence) -> &'static str {
    match occurrence {
        Occurrence::Changed(change) => change.kind.step(),
        Occurrence::Notified(_) => "notified",
        Occurrence::Answered(_) => "answered",
        Occurrence::Ended(_) => "ended",
    }
}

/// The steps that are meant, in their order. A change concerns all who watch: with a watcher given, the changes of what
/// this one watches are shown, too.
fn story(context: &Context, filter: &Filter) -> Vec<Occurrence> {
    let mut all = context.occurrences(|occurrence| {
        let (presentity, event, watcher) = occurrence.subject();
        filter.wants_resource(presentity, event) && watcher.is_none_or(|watcher| filter.wants_watcher(watcher))
    });
    if filter.names_watcher() {
        let watched: HashSet<(Vec<u8>, PackageId)> = all
            .iter()
            .map(Occurrence::subject)
            .filter(|(.., watcher)| watcher.is_some())
            .map(|(presentity, event, _)| (presentity.to_vec(), event))
            .collect();
        all.retain(|occurrence| {
            let (presentity, event, watcher) = occurrence.subject();
            watcher.is_some() || watched.contains(&(presentity.to_vec(), event))
        });
    }
    if let Some(what) = &filter.what {
        all.retain(|occurrence| name_of(occurrence).as_bytes() == what);
    }
    all
}

fn history(rpc: &Rpc) -> Result<(), String> {
    let Some(context) = state::context() else { return Ok(()) };
    if context.config().history_size == 0 {
        return Err("nothing is remembered: history_size is 0".into());
    }
    let filter = Filter::read(rpc, &context, &HISTORY)?;
    let all = story(&context, &filter);
    if filter.count {
        show_count(rpc, all.len());
        return Ok(());
    }
    // The newest ones, in the order in which they happened.
    let end = all.len().saturating_sub(filter.offset);
    let now = clock::micro_moment();
    for occurrence in &all[end.saturating_sub(filter.limit)..end] {
        let Some(out) = rpc.add_struct() else { break };
        show_step(&context, out, occurrence, now);
    }
    Ok(())
}

fn show_step(context: &Context, out: Struct, occurrence: &Occurrence, now: MicroMoment) {
    let (presentity, event, watcher) = occurrence.subject();
    out.text(c"time", &exactly(occurrence.at(), now)).text(c"what", name_of(occurrence).as_bytes());
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
    let filter = Filter::read(rpc, &context, &PUBLICATIONS)?;
    let wanted = |presentity: &[u8], event| filter.wants_resource(presentity, event);
    let fail = |error: crate::presence::error::StoreError| error.to_string();
    if filter.count {
        show_count(rpc, catalogue::count_publications(&context.inventory(), wanted).map_err(fail)?);
        return Ok(());
    }
    let order = filter.sort.as_ref().map(|sort| PublicationOrder { by_event: sort.by == b"event", order: sort.order });
    let page = catalogue::page_of_publications(&context.inventory(), filter.offset, filter.limit, order, wanted)
        .map_err(fail)?;
    for (resource, publication) in page {
        let Some(out) = rpc.add_struct() else { break };
        let left = publication.expires_at.moment().map_or(-1, |end| (end - clock::now()).0);
        out.text(c"presentity", &resource.uri).text(c"event", context.packages().get(resource.event).name);
        out.text(c"etag", publication.etag.bytes()).text(c"sender", &publication.sender).int(c"left", left);
        out.text(c"received_time", &when(publication.received_at)).int(c"priority", publication.priority.into());
        show_body(out, BodyDigest::of(&publication.body));
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
