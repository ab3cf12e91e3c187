//! Why a lamp is dark: `presence.explain`.
use crate::abi::c_types::rpc_t;
use crate::abi::presence::rpc::{answered, call};
use crate::abi::presence::state;
use crate::host::rpc::{Rpc, Struct};
use crate::host::{clock, log};
use crate::presence::history::ended::Ended;
use crate::presence::history::explain::{self, Explanation};
use crate::presence::ports::server::Server;
use crate::presence::resource::Resource;
use crate::server::context::Context;
use crate::server::operator::names::Name;
use crate::server::operator::pairs;
use crate::time::Moment;
use std::ffi::c_void;

fn explain_all(rpc: &Rpc) -> Result<(), String> {
    let Some(mut context) = state::context() else { return Ok(()) };
    let (Some(watcher), Some(presentity)) = (rpc.text(), rpc.text()) else {
        return Err("give a watcher, a presentity and, unless all events are meant, an event: bob alice dialog".into());
    };
    let event = rpc.text();
    let (watcher, presentity) = (Name::read(&watcher)?, Name::read(&presentity)?);
    let explained = pairs::explained(&context, &watcher, &presentity, event.as_deref())?;
    for (watcher, resource) in explained.pairs {
        for finding in explain::explain(&mut context, &watcher, &resource).map_err(|error| error.to_string())? {
            let name = context.packages().get(resource.event).name;
            let subject = (watcher.as_slice(), &resource, if explained.is_by_event { name } else { b"." });
            show_finding(rpc, &context, subject, &finding, &explained.more);
        }
    }
    Ok(())
}

/// A time as text with how long ago it was.
pub(crate) fn when(at: Option<Moment>) -> Vec<u8> {
    match at {
        None => b"never by this server since its start".to_vec(),
        Some(at) => format!("{} ({} s ago)", clock::local(at), (clock::now() - at).0.max(0)).into_bytes(),
    }
}

fn show_finding(
    rpc: &Rpc,
    context: &Context,
    (watcher, resource, event): (&[u8], &Resource, &[u8]),
    finding: &Explanation,
    more: &str,
) {
    let Some(out) = rpc.add_struct() else { return };
    let more = if finding.subscription.is_none() { more } else { "" };
    out.text(c"because", format!("{}{more}", finding.because).as_bytes());
    out.text(c"watcher", watcher).text(c"presentity", &resource.uri).text(c"event", event);
    if let Some(shown) = &finding.subscription {
        out.text(c"status", shown.status.word()).seconds(c"left", shown.left).text(c"contact", &shown.contact);
        out.text(c"callid", &shown.call_id);
        if let Some(node) = &shown.node {
            out.text(c"node", node);
        } else {
            let notified_at = shown.notify_history.notified_at.map(Moment::from);
            out.int(c"cseq", shown.cseq.into()).int(c"version", shown.version.into());
            out.moment(c"last_notify", notified_at).text(c"last_notify_time", &when(notified_at));
            let failure = shown.notify_history.failure.map_or(0, |failure| failure.status.get().into());
            out.text(c"last_answer", shown.answer.as_bytes()).int(c"last_failure", failure);
            out.text(c"body_crc32", &digest(shown.notify_history.body));
        }
    }
    if let Some(ended) = &finding.ended {
        show_end(context, out, ended);
    }
    out.text(c"next", to_be_typed(&finding.next, &resource.uri, event).as_bytes());
}

/// An advice whose command can be typed as it is.
fn to_be_typed(advice: &str, presentity: &[u8], event: &[u8]) -> String {
    let (presentity, event) = (log::show(presentity), log::show(event));
    advice
        .replace("presentity=URI", &format!("presentity={presentity} event={event}"))
        .replace("URI EVENT", &format!("{presentity} {event}"))
        .replace("pua.list URI", &format!("pua.list {presentity}"))
}

/// What is remembered of a subscription that has ended.
pub(crate) fn show_end(context: &Context, out: Struct, ended: &Ended) {
    let at = Some(ended.at.moment());
    out.moment(c"ended", at).text(c"ended_time", &when(at)).text(c"contact", &ended.contact);
    out.text(c"flow", &ended.flow()).text(c"callid", &ended.call_id).int(c"cseq", i64::from(ended.cseq) + 1);
    let sent = context.last_notify_of(&ended.presentity, ended.dialog);
    out.text(c"last_answer", ended.last_answer(sent.as_ref(), clock::micro_moment()).as_bytes());
}

/// Eight hexadecimal digits, as `crc32` prints them; empty when there was no body.
pub(crate) fn digest(crc: u32) -> Vec<u8> {
    if crc == 0 { Vec::new() } else { format!("{crc:08x}").into_bytes() }
}

/// `presence.explain watcher presentity [event]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_explain(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_explain, (), { command!(call, (rpc, ctx), 3, |rpc| answered(rpc, explain_all)) })
}
