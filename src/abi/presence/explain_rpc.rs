//! Why a lamp is dark: `presence.explain`, `presence.history` and `presence.publications`.
use crate::abi::c_types::rpc_t;
use crate::abi::presence::calls::as_stored;
use crate::abi::presence::rpc::{call, fault};
use crate::abi::presence::state;
use crate::host::rpc::{Rpc, Struct};
use crate::host::{clock, log};
use crate::presence::ended::Ended;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::explain::{self, Explanation};
use crate::presence::ports::Ports;
use crate::presence::resource::Resource;
use crate::presence::subscription::Field;
use crate::server::context::Context;
use crate::sip::{text, uri};
use std::ffi::c_void;

/// How many pairs of a watcher and a resource are explained at most: what was asked may be short.
const LARGEST_ANSWER: usize = 100;
/// How many ends are shown when no limit is given, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// A user as an operator writes one: `bob`, `bob@host`, `sip:BOB@Host`.
struct Name {
    user: Vec<u8>,
    /// None: any.
    host: Option<Vec<u8>>,
    given: Vec<u8>,
}

impl Name {
    fn read(given: &[u8]) -> Name {
        let lower = given.to_ascii_lowercase();
        let scheme = [&b"sip:"[..], b"sips:", b"pres:", b"tel:"].into_iter().find(|scheme| lower.starts_with(scheme));
        let rest = &lower[scheme.map_or(0, <[u8]>::len)..];
        match rest.iter().rposition(|c| *c == b'@') {
            Some(at) => {
                let host = rest[at + 1..].split(|c| matches!(c, b';' | b'?')).next().unwrap_or_default();
                Name { user: rest[..at].to_vec(), host: Some(host.to_vec()), given: given.to_vec() }
            }
            None => Name { user: rest.to_vec(), host: None, given: given.to_vec() },
        }
    }

    fn fits(&self, known: &[u8]) -> bool {
        let (user, host) = uri::split(known);
        user.eq_ignore_ascii_case(&self.user)
            && self.host.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
            || known == self.given
    }

    /// The URI that is meant, as far as the name says.
    fn uri(&self) -> Vec<u8> {
        if self.given.contains(&b':') { as_stored(&self.given) } else { [&b"sip:"[..], &self.given].concat() }
    }
}

/// The event packages that are meant: one, or all.
fn packages(world: &Context, event: Option<&[u8]>) -> Result<Vec<PackageId>, String> {
    let all = world.packages();
    match event {
        None | Some(b".") => Ok((0..all.0.len()).map(|index| PackageId(index as u16)).collect()),
        Some(event) => all.named(event).map(|id| vec![id]).ok_or_else(|| {
            let known = String::from_utf8_lossy(&all.allow_events()).into_owned();
            format!("no event package {}: there are {known}", log::show(event))
        }),
    }
}

/// Watchers and resources that fit the names: of subscriptions there are, and of those that have ended.
fn pairs(
    world: &Context,
    watcher: &Name,
    presentity: &Name,
    events: &[PackageId],
) -> Result<Vec<(Vec<u8>, Resource)>, StoreError> {
    let rule = world.uri_rule();
    let mut found: Vec<(Vec<u8>, Resource)> = Vec::new();
    let mut add = |watcher: Vec<u8>, presentity: &[u8], event: PackageId| {
        let pair = (watcher, rule.resource(presentity, event));
        if !found.contains(&pair) {
            found.push(pair);
        }
    };
    let fits = |by: &[u8], of: &[u8], event| events.contains(&event) && watcher.fits(by) && presentity.fits(of);
    let present = world
        .page_of_subscriptions(0, LARGEST_ANSWER, |s| fits(&s.watcher_uri(), s.get(Field::PresUri), s.state.event))?;
    for s in present {
        add(s.watcher_uri(), s.get(Field::PresUri), s.state.event);
    }
    let ends = world.ends(LARGEST_ANSWER, |ended| fits(&ended.watcher, &ended.presentity, ended.event));
    for ended in ends {
        add(ended.watcher, &ended.presentity, ended.event);
    }
    Ok(found)
}

/// What a pair without any subscription is asked about: the event that was named, or the first package.
fn unknown(world: &Context, watcher: &Name, presentity: &Name, events: &[PackageId]) -> Vec<(Vec<u8>, Resource)> {
    let first = events.iter().take(1);
    first.map(|event| (watcher.uri(), world.uri_rule().resource(&presentity.uri(), *event))).collect()
}

/// The events that the watcher does subscribe to, for the sentence about the one it does not.
fn others(world: &Context, watcher: &Name, presentity: &Name) -> Result<String, StoreError> {
    let all: Vec<PackageId> = packages(world, None).unwrap_or_default();
    let known = world.packages();
    let found = world.page_of_subscriptions(0, LARGEST_ANSWER, |s| {
        all.contains(&s.state.event) && watcher.fits(&s.watcher_uri()) && presentity.fits(s.get(Field::PresUri))
    })?;
    let mut names: Vec<String> =
        found.iter().map(|s| String::from_utf8_lossy(known.get(s.state.event).name).into_owned()).collect();
    names.sort();
    names.dedup();
    Ok(if names.is_empty() { String::new() } else { format!("; it does subscribe to {}", names.join(", ")) })
}

fn explain_all(rpc: Rpc) -> Result<(), String> {
    let Some(mut world) = state::world() else { return Ok(()) };
    let (Some(watcher), Some(presentity)) = (rpc.text(), rpc.text()) else {
        return Err("give a watcher, a presentity and, unless all events are meant, an event: bob alice dialog".into());
    };
    let event = rpc.text();
    let events = packages(&world, event.as_deref())?;
    let (watcher, presentity) = (Name::read(&watcher), Name::read(&presentity));
    let fail = |error: StoreError| error.to_string();
    let mut found = pairs(&world, &watcher, &presentity, &events).map_err(fail)?;
    let mut more = String::new();
    if found.is_empty() {
        more = others(&world, &watcher, &presentity).map_err(fail)?;
        found = unknown(&world, &watcher, &presentity, &events);
    }
    for (watcher, resource) in found {
        let shows = event.is_some() || more.is_empty();
        for finding in explain::explain(&mut world, &watcher, &resource).map_err(fail)? {
            let name = world.packages().get(resource.event).name;
            show_finding(rpc, &watcher, &resource, if shows { name } else { b"." }, &finding, &more);
        }
    }
    Ok(())
}

/// A time as text with how long ago it was.
fn when(at: i64) -> Vec<u8> {
    match at {
        0 => b"never by this server since its start".to_vec(),
        _ => format!("{} ({} s ago)", clock::local(at), (clock::now() - at).max(0)).into_bytes(),
    }
}

fn show_finding(rpc: Rpc, watcher: &[u8], resource: &Resource, event: &[u8], finding: &Explanation, more: &str) {
    let Some(out) = rpc.add_struct() else { return };
    let more = if finding.subscription.is_none() { more } else { "" };
    out.text(c"because", format!("{}{more}", finding.because).as_bytes());
    out.text(c"watcher", watcher).text(c"presentity", &resource.uri).text(c"event", event);
    if let Some(shown) = &finding.subscription {
        out.text(c"status", shown.status.word()).int(c"left", shown.left).text(c"contact", &shown.contact);
        out.text(c"callid", &shown.call_id);
        if let Some(node) = &shown.node {
            out.text(c"node", node);
        } else {
            let notified_at = i64::from(shown.notify_history.notified_at);
            out.int(c"cseq", shown.cseq.into()).int(c"version", shown.version.into());
            out.int(c"last_notify", notified_at).text(c"last_notify_time", &when(notified_at));
            out.text(c"last_answer", shown.answer.as_bytes()).int(c"last_failure", shown.notify_history.failed.into());
            out.text(c"body_crc32", &digest(shown.notify_history.body));
        }
    }
    if let Some(ended) = &finding.ended {
        show_end(out, ended);
    }
    out.text(c"next", finding.next.as_bytes());
}

fn show_end(out: Struct, ended: &Ended) {
    out.int(c"ended", ended.at).text(c"ended_time", &when(ended.at)).text(c"contact", &ended.contact);
    out.text(c"callid", &ended.call_id).int(c"cseq", i64::from(ended.cseq) + 1);
}

/// Eight hexadecimal digits, as `crc32` prints them; empty when there was no body.
fn digest(crc: u32) -> Vec<u8> {
    if crc == 0 { Vec::new() } else { format!("{crc:08x}").into_bytes() }
}

/// What a list is narrowed to.
#[derive(Default)]
struct Filter {
    watcher: Option<Name>,
    presentity: Option<Name>,
    event: Option<PackageId>,
    offset: usize,
    limit: usize,
}

impl Filter {
    fn read(rpc: Rpc, world: &Context) -> Result<Filter, String> {
        let mut filter = Filter { limit: PAGE, ..Filter::default() };
        while let Some(argument) = rpc.text() {
            let at = argument.iter().position(|c| *c == b'=').unwrap_or(argument.len());
            let value = argument.get(at + 1..).unwrap_or_default();
            match &argument[..at] {
                b"watcher" => filter.watcher = Some(Name::read(value)),
                b"presentity" => filter.presentity = Some(Name::read(value)),
                b"event" => filter.event = packages(world, Some(value))?.first().copied(),
                b"offset" => filter.offset = text::parsed(value).ok_or("offset: allowed is a number")?,
                b"limit" => {
                    let limit = text::parsed::<usize>(value).filter(|n| (1..=LARGEST_PAGE).contains(n));
                    filter.limit = limit.ok_or("limit: allowed is 1 to 1000")?;
                }
                _ => {
                    let allowed = "watcher=, presentity=, event=, offset=, limit=";
                    return Err(format!("{}: allowed is {allowed}", log::show(&argument)));
                }
            }
        }
        Ok(filter)
    }

    fn wants_resource(&self, presentity: &[u8], event: PackageId) -> bool {
        self.presentity.as_ref().is_none_or(|name| name.fits(presentity))
            && self.event.is_none_or(|wanted| wanted == event)
    }

    fn wants(&self, ended: &Ended) -> bool {
        self.watcher.as_ref().is_none_or(|name| name.fits(&ended.watcher))
            && self.presentity.as_ref().is_none_or(|name| name.fits(&ended.presentity))
            && self.event.is_none_or(|event| event == ended.event)
    }
}

fn history(rpc: Rpc) -> Result<(), String> {
    let Some(world) = state::world() else { return Ok(()) };
    if world.config().history_size == 0 {
        return Err("nothing is remembered: history_size is 0".into());
    }
    let filter = Filter::read(rpc, &world)?;
    let ends = world.ends(filter.offset.saturating_add(filter.limit), |ended| filter.wants(ended));
    for ended in ends.into_iter().skip(filter.offset) {
        let Some(out) = rpc.add_struct() else { break };
        out.text(c"watcher", &ended.watcher).text(c"presentity", &ended.presentity);
        out.text(c"event", world.packages().get(ended.event).name);
        out.text(c"because", ended.cause.sentence().as_bytes());
        show_end(out, &ended);
    }
    Ok(())
}

fn publications(rpc: Rpc) -> Result<(), String> {
    let Some(mut world) = state::world() else { return Ok(()) };
    let filter = Filter::read(rpc, &world)?;
    let wanted = |presentity: &[u8], event| filter.wants_resource(presentity, event);
    let page = world.page_of_publications(filter.offset, filter.limit, wanted).map_err(|error| error.to_string())?;
    for (resource, publication) in page {
        let Some(out) = rpc.add_struct() else { break };
        let left = if publication.expires_at < 0 { -1 } else { publication.expires_at - clock::now() };
        out.text(c"presentity", &resource.uri).text(c"event", world.packages().get(resource.event).name);
        out.text(c"etag", &publication.etag).text(c"sender", &publication.sender).int(c"left", left);
        out.text(c"received_time", &when(publication.received_at)).int(c"priority", publication.priority.into());
        out.int(c"bytes", publication.body.len() as i64);
        out.text(c"body_crc32", &digest(crc32fast::hash(&publication.body)));
    }
    Ok(())
}

fn answered(rpc: Rpc, run: fn(Rpc) -> Result<(), String>) {
    if let Err(why) = run(rpc) {
        fault(rpc, &why);
    }
}

/// `presence.explain watcher presentity [event]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_explain(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_explain, (), { call(rpc, ctx, |rpc| answered(rpc, explain_all)) })
}

/// `presence.history [name=value ...]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_history(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_history, (), { call(rpc, ctx, |rpc| answered(rpc, history)) })
}

/// `presence.publications [name=value ...]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_presence_rpc_publications(rpc: *mut rpc_t, ctx: *mut c_void) {
    entry!(kr_presence_rpc_publications, (), { call(rpc, ctx, |rpc| answered(rpc, publications)) })
}
