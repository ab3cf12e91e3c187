//! RPC commands for operators: who subscribes, why somebody sees nothing, ending what has to end.
use crate::abi::c_types::rpc_t;
use crate::abi::presence::history_rpc::show_count;
use crate::abi::presence::rpc::{answered, call, fault};
use crate::abi::presence::state;
use crate::host::rpc::{Rpc, Struct};
use crate::host::{clock, log};
use crate::presence::history::ended::Cause;
use crate::presence::ports::server::Server;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::reference::setting::{ParameterValue, Setting};
use crate::server::announcing::ownership;
use crate::server::context::Context;
use crate::server::operator::ending::{EndCommand, end_publication};
use crate::server::operator::names::{known_resource, uri_of};
use crate::server::operator::selection::Listed;
use crate::server::operator::selection::{Filter, FilterKeys, LARGEST_PAGE, PAGE};
use crate::server::operator::subscription_lists;
use crate::server::operator::top_lists;
use crate::sip::text;
use crate::time::{Moment, Seconds};
use std::ffi::c_void;
use std::ops::RangeInclusive;

const SUBSCRIPTIONS: FilterKeys = FilterKeys {
    names: &["watcher", "presentity", "event", "status", "older", "younger", "sort", "offset", "limit", "count"],
    sort: &["watcher", "presentity", "event", "status", "left", "age"],
    what: &[],
    page: PAGE,
};

fn subscriptions(rpc: &Rpc) -> Result<(), String> {
    let Some(context) = state::context() else { return Ok(()) };
    let filter = Filter::read(rpc.texts(), &context, &SUBSCRIPTIONS)?;
    let now = clock::now();
    match subscription_lists::selected(&context.inventory(), &filter, now).map_err(|error| error.to_string())? {
        Listed::Count(count) => show_count(rpc, count),
        Listed::Page(page) => {
            for s in page {
                let Some(out) = rpc.add_struct() else { break };
                show_subscription(&context, out, &s, now);
            }
        }
    }
    Ok(())
}

fn show_subscription(context: &Context, out: Struct, s: &Subscription, now: Moment) {
    out.text(c"watcher", &s.watcher_uri()).text(c"presentity", s.get(Field::PresUri));
    out.text(c"event", context.packages().get(s.state.event).name).text(c"status", s.state.status.word());
    out.text(c"reason", s.get(Field::Reason)).seconds(c"left", s.state.expires_at - now);
    out.seconds(c"age", subscription_lists::age(context, s, now));
    out.text(c"contact", s.get(Field::Contact)).text(c"callid", s.get(Field::CallId));
    out.int(c"cseq", i64::from(s.state.local_cseq) + 1).int(c"version", s.state.version.into());
    out.text(c"user_agent", s.get(Field::UserAgent));
    let node = ownership::node_of(context, s.dialog());
    if !node.is_empty() {
        out.text(c"node", &node);
    }
}

fn end_subscriptions(rpc: &Rpc) {
    let Some(mut context) = state::context() else { return };
    let done = EndCommand::read(rpc.texts(), &context)
        .and_then(|ending| ending.run(&mut context).map_err(|error| error.to_string()));
    match done {
        Ok(0) => rpc.fault(404, c"No such subscription"),
        Ok(count) => {
            if let Some(out) = rpc.add_struct() {
                out.int(c"ended", count);
            }
        }
        Err(why) => fault(rpc, &why),
    }
}

fn expire_publication(rpc: &Rpc) {
    let Some(mut context) = state::context() else { return };
    let (Some(presentity), Some(event), Some(etag)) = (rpc.text(), rpc.text(), rpc.text()) else {
        return fault(rpc, "give a presentity, an event and an entity tag");
    };
    let done = uri_of("presentity", &presentity)
        .and_then(|uri| known_resource(&context, &uri, &event))
        .and_then(|resource| end_publication(&mut context, &resource, &etag));
    match done {
        Ok(true) => {}
        Ok(false) => rpc.fault(404, c"No publication with this entity tag"),
        Err(why) => fault(rpc, &why),
    }
}

fn drain(rpc: &Rpc) {
    let Some(process) = state::process() else { return };
    let seconds = match optional_number(rpc, "seconds", 0, 0..=86_400) {
        Ok(seconds) => Seconds(seconds as i64),
        Err(error) => return fault(rpc, &error),
    };
    process.shared.drain.begin(clock::now() + seconds);
    if let Some(out) = rpc.add_struct() {
        out.int(c"subscriptions", process.shared.tables.subscription_count() as i64).seconds(c"seconds", seconds);
    }
}

/// An optional number within bounds.
fn optional_number(rpc: &Rpc, name: &str, default: usize, allowed: RangeInclusive<usize>) -> Result<usize, String> {
    let Some(given) = rpc.text() else { return Ok(default) };
    text::parsed(&given)
        .filter(|number| allowed.contains(number))
        .ok_or_else(|| format!("{name} {}: allowed is {} to {}", log::show(&given), allowed.start(), allowed.end()))
}

/// Which part of a list a command shows.
pub(crate) struct ShownPart {
    /// How many entries are passed over.
    pub(crate) offset: usize,
    /// How many are shown at most.
    pub(crate) limit: usize,
}

/// The arguments offset and limit, both optional.
///
/// # Errors
///
/// Fails with a sentence about the argument that is no number in its range.
pub(crate) fn page(rpc: &Rpc) -> Result<ShownPart, String> {
    Ok(ShownPart {
        offset: optional_number(rpc, "offset", 0, 0..=u32::MAX as usize)?,
        limit: optional_number(rpc, "limit", PAGE, 1..=LARGEST_PAGE)?,
    })
}

fn show_settings<'a>(rpc: &'a Rpc, settings: &[Setting]) -> Option<Struct<'a>> {
    let out = rpc.add_struct()?;
    for (name, value) in settings {
        match value {
            ParameterValue::Number(number) => out.int(name, *number),
            ParameterValue::Text(text) => out.text(name, text),
        };
    }
    Some(out)
}

/// Shows parameters; those without effect are marked.
pub(crate) fn show_config(rpc: &Rpc, settings: &[Setting], without_effect: &[Setting]) {
    let Some(out) = show_settings(rpc, settings) else { return };
    for (name, value) in without_effect {
        out.text(name, format!("{value} (without effect)").as_bytes());
    }
}

/// An optional number of entries.
fn wanted_entries(rpc: &Rpc) -> Result<usize, String> {
    optional_number(rpc, "entries", 10, 1..=LARGEST_PAGE)
}

fn busiest(rpc: &Rpc) {
    let Some(context) = state::context() else { return };
    let found = wanted_entries(rpc)
        .and_then(|limit| top_lists::busiest(&context.inventory(), limit).map_err(|error| error.to_string()));
    match found {
        Ok(found) => {
            for busy in found {
                let Some(out) = rpc.add_struct() else { return };
                out.text(c"presentity", &busy.presentity).text(c"event", context.packages().get(busy.event).name);
                out.int(c"watchers", busy.watchers as i64).int(c"changes", busy.changes.into());
            }
        }
        Err(why) => fault(rpc, &why),
    }
}

fn failing(rpc: &Rpc) {
    let Some(context) = state::context() else { return };
    let limit = match wanted_entries(rpc) {
        Ok(limit) => limit,
        Err(why) => return fault(rpc, &why),
    };
    for failing in top_lists::failing(&context.inventory(), limit) {
        let Some(out) = rpc.add_struct() else { return };
        let s = &failing.subscription;
        out.text(c"watcher", &s.watcher_uri()).text(c"presentity", s.get(Field::PresUri));
        out.text(c"event", context.packages().get(s.state.event).name).text(c"contact", s.get(Field::Contact));
        let answer = failing.notify_history.failure.map_or(0, |failure| failure.status.get().into());
        out.int(c"answer", answer).moment(c"last_notify", failing.notify_history.notified_at.map(Moment::from));
    }
    // Those whose NOTIFY ended them: the commonest dark lamps.
    for ended in top_lists::ended_by_an_answer(&context.inventory(), limit) {
        let (Cause::Notify(code), Some(out)) = (ended.cause, rpc.add_struct()) else { return };
        out.text(c"watcher", &ended.watcher).text(c"presentity", &ended.presentity);
        out.text(c"event", context.packages().get(ended.event).name).text(c"contact", &ended.contact);
        let at = ended.at.moment().seconds();
        out.int(c"answer", code.into()).int(c"last_notify", at).int(c"ended", at);
    }
    for row in top_lists::refused_rows(&context.inventory(), limit) {
        let Some(out) = rpc.add_struct() else { return };
        if !row.watcher.is_empty() {
            out.text(c"watcher", &row.watcher);
        }
        out.text(c"presentity", &row.presentity).text(c"event", &row.event).text(c"refused_row", row.table);
    }
}

/// `presence.busiest [limit]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_busiest(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_busiest, (), { command!(call, (rpc, ctx), 1, busiest) })
}

/// `presence.failing [limit]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_failing(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_failing, (), { command!(call, (rpc, ctx), 1, failing) })
}

/// `presence.config`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_config(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_config, (), {
        let run = |rpc: &Rpc| {
            if let Some(process) = state::process() {
                show_config(rpc, &process.config.settings(), &process.config.without_effect);
            }
        };
        command!(call, (rpc, ctx), 0, run)
    })
}

/// `presence.version`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_version(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_version, (), {
        let run = |rpc: &Rpc| {
            if let Some(process) = state::process() {
                let Some(out) = show_settings(rpc, &process.config.identity()) else { return };
                let events = process.registry.packages().allow_events();
                out.text(c"events", &events).moment(c"started", Some(process.config.started));
            }
        };
        command!(call, (rpc, ctx), 0, run)
    })
}

/// `presence.subscriptions [name=value ...]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_subscriptions(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_subscriptions, (), {
        command!(call, (rpc, ctx), SUBSCRIPTIONS.names.len(), |rpc| answered(rpc, subscriptions))
    })
}

/// `presence.subscription_end watcher|. presentity|. event|. [reason] [retry-after]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_subscription_end(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_subscription_end, (), { command!(call, (rpc, ctx), 5, end_subscriptions) })
}

/// `presence.publication_expire presentity event etag`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_publication_expire(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_publication_expire, (), { command!(call, (rpc, ctx), 3, expire_publication) })
}

/// `presence.drain [seconds]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_drain(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_drain, (), { command!(call, (rpc, ctx), 1, drain) })
}
