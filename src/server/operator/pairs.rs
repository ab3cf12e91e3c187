//! Watchers and resources that an operator means, for `presence.explain`.
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::ports::server::Server;
use crate::presence::resource::Resource;
use crate::presence::subscription::field::Field;
use crate::server::context::Context;
use crate::server::operator::names::Name;
use crate::server::operator::selection::packages;
use crate::server::operator::subscription_lists;

/// How many pairs of a watcher and a resource are explained at most: what was asked may be short.
const LARGEST_ANSWER: usize = 100;

/// Watchers and resources that fit the names: of subscriptions there are, and of those that have ended.
fn pairs(
    context: &Context<'_>,
    watcher: &Name,
    presentity: &Name,
    events: &[PackageId],
) -> Result<Vec<(Vec<u8>, Resource)>, StoreError> {
    let rule = context.uri_rule();
    let mut found: Vec<(Vec<u8>, Resource)> = Vec::new();
    let mut add = |watcher: Vec<u8>, presentity: &[u8], event: PackageId| {
        let pair = (watcher, rule.resource(presentity, event));
        if !found.contains(&pair) {
            found.push(pair);
        }
    };
    let fits = |by: &[u8], of: &[u8], event| events.contains(&event) && watcher.fits(by) && presentity.fits(of);
    let present = subscription_lists::page_of_subscriptions(&context.inventory(), 0, LARGEST_ANSWER, |s| {
        fits(&s.watcher_uri(), s.get(Field::PresUri), s.state.event)
    })?;
    for s in present {
        add(s.watcher_uri(), s.get(Field::PresUri), s.state.event);
    }
    let ends = context.ends(LARGEST_ANSWER, |ended| fits(&ended.watcher, &ended.presentity, ended.event));
    for ended in ends {
        add(ended.watcher, &ended.presentity, ended.event);
    }
    Ok(found)
}

/// What a pair without any subscription is asked about: the event that was named, or the first package.
fn unknown(context: &Context<'_>, watcher: &Name, presentity: &Name, events: &[PackageId]) -> Vec<(Vec<u8>, Resource)> {
    let first = events.iter().take(1);
    first.map(|event| (watcher.uri(), context.uri_rule().resource(&presentity.uri(), *event))).collect()
}

/// The events that the watcher does subscribe to, for the sentence about the one it does not.
fn others(context: &Context<'_>, watcher: &Name, presentity: &Name) -> Result<String, StoreError> {
    let all: Vec<PackageId> = packages(context, None).unwrap_or_default();
    let known = context.packages();
    let found = subscription_lists::page_of_subscriptions(&context.inventory(), 0, LARGEST_ANSWER, |s| {
        all.contains(&s.state.event) && watcher.fits(&s.watcher_uri()) && presentity.fits(s.get(Field::PresUri))
    })?;
    let mut names: Vec<String> =
        found.iter().map(|s| String::from_utf8_lossy(known.get(s.state.event).name).into_owned()).collect();
    names.sort();
    names.dedup();
    Ok(if names.is_empty() { String::new() } else { format!("; it does subscribe to {}", names.join(", ")) })
}

/// What is explained.
pub(crate) struct ExplainedPairs {
    /// Watchers with what they watch, or would.
    pub(crate) pairs: Vec<(Vec<u8>, Resource)>,
    /// What is said besides of a watcher that does not subscribe to what was asked for.
    pub(crate) more: String,
    /// The findings are about one event package each: one was named, or something was found.
    pub(crate) is_by_event: bool,
}

/// The pairs that are meant by these names, and one that is made of them where there is none.
///
/// # Errors
///
/// Fails with a sentence when the event package is unknown, or when the subscriptions cannot be read.
pub(crate) fn explained(
    context: &Context<'_>,
    watcher: &Name,
    presentity: &Name,
    event: Option<&[u8]>,
) -> Result<ExplainedPairs, String> {
    let events = packages(context, event)?;
    let fail = |error: StoreError| error.to_string();
    let found = pairs(context, watcher, presentity, &events).map_err(fail)?;
    if !found.is_empty() {
        return Ok(ExplainedPairs { pairs: found, more: String::new(), is_by_event: true });
    }
    Ok(ExplainedPairs {
        pairs: unknown(context, watcher, presentity, &events),
        more: others(context, watcher, presentity).map_err(fail)?,
        is_by_event: event.is_some(),
    })
}
