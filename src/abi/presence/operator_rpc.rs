//! RPC commands for operators: who subscribes, why somebody sees nothing, ending what has to end.
use crate::abi::c_types::rpc_t;
use crate::abi::presence::calls::as_stored;
use crate::abi::presence::filter::{Filter, FilterKeys, LARGEST_PAGE, PAGE};
use crate::abi::presence::history_rpc::show_count;
use crate::abi::presence::rpc::{answered, call, fault, uri_of};
use crate::abi::presence::state;
use crate::host::rpc::{Rpc, Struct};
use crate::host::{clock, log};
use crate::presence::direct_publish::{self, Direct, DirectKind};
use crate::presence::ended::Cause;
use crate::presence::error::StoreError;
use crate::presence::expires::Expires;
use crate::presence::expiry;
use crate::presence::ports::publications::Publications;
use crate::presence::ports::server::Server;
use crate::presence::ports::subscriptions::Subscriptions;
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription_field::Field;
use crate::reference::setting::{ParameterValue, Setting};
use crate::server::announcing::ownership;
use crate::server::context::Context;
use crate::server::operator::subscription_lists;
use crate::server::operator::top_lists;
use crate::sip::entity_tag::EntityTag;
use crate::sip::{text, uri};
use crate::time::{Moment, Seconds};
use std::ffi::c_void;
use std::ops::RangeInclusive;

/// Reasons a subscription can be ended with (RFC 6665 4.1.3).
const REASONS: [&[u8]; 6] = [b"deactivated", b"timeout", b"rejected", b"noresource", b"giveup", b"probation"];

/// The reasons of a termination that may say when to come back.
const RETRY_REASONS: [&[u8]; 2] = [b"probation", b"giveup"];

/// Whose subscriptions are meant; `None` is all.
#[derive(Default)]
struct SubscriptionSelector {
    watcher: Option<Vec<u8>>,
    presentity: Option<Vec<u8>>,
    event: Option<Vec<u8>>,
}

impl SubscriptionSelector {
    fn has(&self, subscription: &Subscription, event: &[u8]) -> bool {
        let same = |wanted: &Option<Vec<u8>>, is: &[u8]| wanted.as_ref().is_none_or(|wanted| wanted == is);
        same(&self.watcher, &subscription.watcher_uri())
            && same(&self.presentity, subscription.get(Field::PresUri))
            && same(&self.event, event)
    }
}

/// How long ago a subscription began, as far as this server knows: one that was read from its row began at start-up
/// at the latest.
fn age(subscription: &Subscription, now: Moment) -> Seconds {
    let at_start = || state::process().map_or(now, |process| process.config.started);
    (now - subscription.state.since.unwrap_or_else(at_start)).max(Seconds::ZERO)
}

const SUBSCRIPTIONS: FilterKeys = FilterKeys {
    names: &["watcher", "presentity", "event", "status", "older", "younger", "sort", "offset", "limit", "count"],
    sort: &["watcher", "presentity", "event", "status", "left", "age"],
    what: &[],
    page: PAGE,
};

/// What a subscription is sorted by: numbers by their value, names by their letters.
fn sort_key(s: &Subscription, by: &[u8], event: &[u8], now: Moment) -> (i64, Vec<u8>) {
    match by {
        b"left" => ((s.state.expires_at - now).0, Vec::new()),
        b"age" => (age(s, now).0, Vec::new()),
        b"presentity" => (0, s.get(Field::PresUri).to_vec()),
        b"event" => (0, event.to_vec()),
        b"status" => (0, s.state.status.word().to_vec()),
        _ => (0, s.watcher_uri()),
    }
}

fn subscriptions(rpc: &Rpc) -> Result<(), String> {
    let Some(context) = state::context() else { return Ok(()) };
    let filter = Filter::read(rpc, &context, &SUBSCRIPTIONS)?;
    let now = clock::now();
    let packages = context.packages().clone();
    let wanted = |s: &Subscription| {
        filter.wants_resource(s.get(Field::PresUri), s.state.event)
            && filter.wants_watcher(&s.watcher_uri())
            && filter.status.is_none_or(|status| status == s.state.status)
            && (filter.ages.0..=filter.ages.1).contains(&age(s, now).0)
    };
    let fail = |error: StoreError| error.to_string();
    if filter.count {
        show_count(rpc, subscription_lists::count_subscriptions(&context.inventory(), wanted).map_err(fail)?);
        return Ok(());
    }
    let page = match &filter.sort {
        None => subscription_lists::page_of_subscriptions(&context.inventory(), filter.offset, filter.limit, wanted),
        Some(sort) => {
            let key = |s: &Subscription| sort_key(s, &sort.by, packages.get(s.state.event).name, now);
            subscription_lists::sorted_page_of_subscriptions(
                &context.inventory(),
                filter.offset,
                filter.limit,
                sort.order,
                wanted,
                key,
            )
        }
    };
    for s in page.map_err(fail)? {
        let Some(out) = rpc.add_struct() else { break };
        show_subscription(&context, out, &s, now);
    }
    Ok(())
}

fn show_subscription(context: &Context, out: Struct, s: &Subscription, now: Moment) {
    out.text(c"watcher", &s.watcher_uri()).text(c"presentity", s.get(Field::PresUri));
    out.text(c"event", context.packages().get(s.state.event).name).text(c"status", s.state.status.word());
    out.text(c"reason", s.get(Field::Reason)).seconds(c"left", s.state.expires_at - now);
    out.seconds(c"age", age(s, now));
    out.text(c"contact", s.get(Field::Contact)).text(c"callid", s.get(Field::CallId));
    out.int(c"cseq", i64::from(s.state.local_cseq) + 1).int(c"version", s.state.version.into());
    out.text(c"user_agent", s.get(Field::UserAgent));
    let node = ownership::node_of(context, s.dialog());
    if !node.is_empty() {
        out.text(c"node", &node);
    }
}

fn resource(context: &Context, presentity: &[u8], event: &[u8]) -> Result<Resource, String> {
    let id = context.packages().named(event);
    let id = id.ok_or_else(|| {
        let known = String::from_utf8_lossy(&context.packages().allow_events()).into_owned();
        format!("no event package {}: there are {known}", log::show(event))
    })?;
    Ok(context.uri_rule().resource(&as_stored(presentity), id))
}

/// Which subscriptions to end, and the reason their NOTIFY gives.
struct EndCommand {
    whose: SubscriptionSelector,
    /// The reason, with `;retry-after=` where it was given.
    reason: Vec<u8>,
}

impl EndCommand {
    fn read(rpc: &Rpc, context: &Context) -> Result<EndCommand, String> {
        let (Some(watcher), Some(presentity), Some(event)) = (rpc.text(), rpc.text(), rpc.text()) else {
            return Err("give a watcher, a presentity and an event, each or . for all: \
                        sip:bob@example.org sip:alice@example.org dialog"
                .into());
        };
        let some = |text: Vec<u8>| (text != b".").then_some(text);
        let (watcher, presentity, event) = (some(watcher), some(presentity), some(event));
        let watcher = watcher.map(|uri| uri_of("watcher", &uri)).transpose()?;
        let presentity = presentity.map(|uri| uri_of("presentity", &uri)).transpose()?;
        if watcher.is_none() && presentity.is_none() {
            return Err("a watcher or a presentity has to be named: presence.drain ends all subscriptions".into());
        }
        if let Some(event) = &event {
            resource(context, b"", event)?;
        }
        Ok(EndCommand { whose: SubscriptionSelector { watcher, presentity, event }, reason: EndCommand::reason(rpc)? })
    }

    fn reason(rpc: &Rpc) -> Result<Vec<u8>, String> {
        let reason = rpc.text().unwrap_or_else(|| REASONS[0].to_vec());
        if !REASONS.contains(&reason.as_slice()) {
            let known = String::from_utf8_lossy(&REASONS.join(&b", "[..])).into_owned();
            return Err(format!("reason {}: allowed is {known}", log::show(&reason)));
        }
        let Some(given) = rpc.text() else { return Ok(reason) };
        let seconds = text::parsed::<u32>(&given)
            .ok_or_else(|| format!("retry-after {}: allowed is a number of seconds", log::show(&given)))?;
        // RFC 6665 4.1.3: the other reasons say themselves when to come back, or never.
        if !RETRY_REASONS.contains(&reason.as_slice()) {
            return Err(format!("retry-after goes with probation and giveup, not with {}", log::show(&reason)));
        }
        Ok([&reason, b";retry-after=".as_slice(), seconds.to_string().as_bytes()].concat())
    }

    /// The subscriptions that are meant but the first `passed_over`, at most a page of them.
    fn page(&self, context: &mut Context, passed_over: usize) -> Result<Vec<Subscription>, StoreError> {
        let packages = context.packages().clone();
        if let (Some(presentity), Some(event)) = (&self.whose.presentity, &self.whose.event) {
            let Some(id) = packages.named(event) else { return Ok(Vec::new()) };
            let all = context.subscriptions(&context.uri_rule().resource(presentity, id))?;
            return Ok(all.into_iter().filter(|s| self.whose.has(s, event)).skip(passed_over).collect());
        }
        subscription_lists::page_of_subscriptions(&context.inventory(), passed_over, LARGEST_PAGE, |s| {
            self.whose.has(s, packages.get(s.state.event).name)
        })
    }

    /// Ends them; returns how many there were. One that cannot be ended does not keep the others: what was wrong with
    /// it is the error at the end.
    fn run(&self, context: &mut Context) -> Result<i64, StoreError> {
        let (mut total, mut passed_over, mut wrong) = (0, 0, None);
        loop {
            let page = self.page(context, passed_over)?;
            let mut ended = 0;
            for subscription in &page {
                match expiry::end(context, subscription, &self.reason) {
                    Ok(was_there) => ended += i64::from(was_there),
                    Err(error) => {
                        passed_over += 1;
                        wrong = wrong.or(Some(error));
                    }
                }
            }
            total += ended;
            if page.len() < LARGEST_PAGE || (ended == 0 && wrong.is_none()) {
                return wrong.map_or(Ok(total), Err);
            }
        }
    }
}

fn end_subscriptions(rpc: &Rpc) {
    let Some(mut context) = state::context() else { return };
    let done =
        EndCommand::read(rpc, &context).and_then(|ending| ending.run(&mut context).map_err(|error| error.to_string()));
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
    let resource = match uri_of("presentity", &presentity).and_then(|uri| resource(&context, &uri, &event)) {
        Ok(resource) => resource,
        Err(why) => return fault(rpc, &why),
    };
    match context.documents(&resource) {
        Ok(documents) if !documents.iter().any(|d| d.etag.bytes() == etag) => {
            return rpc.fault(404, c"No publication with this entity tag");
        }
        Err(error) => return fault(rpc, &error.to_string()),
        Ok(_) => {}
    }
    let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
    let removal = Direct {
        event: resource.event,
        user,
        domain,
        etag: EntityTag::new(&etag),
        sender: b"",
        body: b"",
        expires: Expires::End,
        kind: DirectKind::Update,
    };
    if let Err(why) = direct_publish::publish(&mut context, &removal) {
        fault(rpc, &why.to_string());
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
    /// So many entries are passed over.
    pub(crate) offset: usize,
    /// So many are shown at most.
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
    for ended in context.ends(limit, |ended| matches!(ended.cause, Cause::Notify(_))) {
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
