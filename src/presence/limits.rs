//! What one user may ask of the server (all limits are off by default), and what is refused before memory runs out.
use super::error::Failure;
use super::expires::Expires;
use super::ports::Ports;
use super::publication::{DialogView, Dialogs};
use super::resource::Resource;
use super::subscription::Subscription;
use crate::time::Seconds;

/// Phones that were refused come back after this many seconds or up to twice as many, not all at once.
const RETRY_AFTER: Seconds = Seconds(10);

/// The length of a published document.
///
/// # Errors
///
/// Fails with 413 when the document is longer than `max_body_size`.
pub fn body<P: Ports>(ports: &P, body: &[u8]) -> Result<(), Failure> {
    match ports.config().max_body_size {
        Some(limit) if body.len() > limit.get() => Err(Failure::too_large(limit.get())),
        _ => Ok(()),
    }
}

/// One document more; those of the same dialogs are replaced by it and do not count.
///
/// # Errors
///
/// Fails with 403 when the presentity has `max_publications` documents already, and when they cannot be read.
pub fn new_publication<P: Ports>(ports: &mut P, resource: &Resource, dialogs: &Dialogs) -> Result<(), Failure> {
    let Some(limit) = ports.config().max_publications else { return Ok(()) };
    let new = dialogs.view();
    let stays = |old: DialogView<'_>| !(old.share_any(&new) && old.is_within(&new));
    let count = ports.documents(resource)?.iter().filter(|document| stays(document.dialogs.view())).count();
    match count < limit.get() {
        true => Ok(()),
        false => Err(Failure::limit(format!("the presentity has {count} documents (max_publications)"))),
    }
}

/// Whether memory is left for one subscription more: asked before anything is made for it.
///
/// # Errors
///
/// Fails with 503 and Retry-After when more than `overload_memory` percent of the shared memory are in use.
pub fn memory<P: Ports>(ports: &P, call_id: &[u8]) -> Result<(), Failure> {
    let Some(limit) = ports.config().overload_memory else { return Ok(()) };
    let used = ports.memory_used();
    if used <= limit.get() {
        return Ok(());
    }
    let retry_after = RETRY_AFTER + Seconds((ports.uri_rule().exact_hash(&[call_id]) % 11) as i64);
    Err(Failure::overloaded(retry_after, format!("{used} % of the shared memory are in use")))
}

/// One subscription more, that takes the place of `replaced` others of its watcher.
///
/// # Errors
///
/// Fails with 403 when the presentity has `max_watchers` subscriptions or the watcher `max_subscriptions` already, and
/// when they cannot be counted.
pub fn new_subscription<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    subscription: &Subscription,
    replaced: usize,
) -> Result<(), Failure> {
    let (watchers, subscriptions) = (ports.config().max_watchers, ports.config().max_subscriptions);
    if let Some(limit) = watchers {
        if ports.count_watchers(resource)? >= limit.get() + replaced {
            return Err(Failure::limit(format!("the presentity has {limit} watchers (max_watchers)")));
        }
    }
    if let Some(limit) = subscriptions {
        if ports.count_subscriptions_of(subscription)? >= limit.get() + replaced {
            return Err(Failure::limit(format!("the watcher has {limit} subscriptions (max_subscriptions)")));
        }
    }
    Ok(())
}

/// A refresh; the end of a subscription is never refused.
///
/// # Errors
///
/// Fails with 403 when the last refresh is less than `min_refresh_interval` seconds ago.
pub fn refresh<P: Ports>(ports: &P, stored: &Subscription, expires: Expires) -> Result<(), Failure> {
    let limits = ports.config().min_refresh_interval.zip(stored.state.refreshed_at).filter(|_| !expires.is_end());
    match limits.map(|(limit, refreshed_at)| (limit, ports.now() - refreshed_at)) {
        Some((limit, since)) if since < limit => {
            Err(Failure::limit(format!("refreshed again after {} seconds (min_refresh_interval)", since.0)))
        }
        _ => Ok(()),
    }
}
