//! What ends by itself: subscriptions and publications that have expired, in bounded batches until nothing is left.
use super::composition::held_back;
use super::composition::late::LateSelection;
use super::config::Config;
use super::error::{Failure, StoreError};
use super::history::ended::Cause;
use super::notification::StateChange;
use super::notification::change_notify;
use super::notification::notifier;
use super::ports::Ports;
use super::resource::Resource;
use super::subscription::field::Field;
use super::subscription::{Status, Subscription};
use super::winfo::watcher_changes;
use super::winfo::{Extent, Watcher, WatcherEvent};
use crate::time::{Moment, Seconds};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How much is taken in one step.
const BATCH: usize = 256;

/// What ended longer ago is removed without a NOTIFY: the server was down meanwhile, and the watcher's own
/// clock has shown it. Timers that look more seldom make it longer.
const SAID_WITHIN: Seconds = Seconds(300);

/// Whether a subscription ended too long ago for anybody to wait for the word that it has ended.
pub fn is_long_over(config: &Config, expires_at: Moment, now: Moment) -> bool {
    let period = config.db_update_period.max(config.clean_period).unwrap_or_default();
    now - expires_at - config.expires_offset > SAID_WITHIN.max(Seconds(3 * period.0))
}

/// Shows the documents that are held back: they become the state of their publications. One that cannot be stored now
/// stays held; the first failure is returned after all of them. After a panic it is tried once more.
///
/// # Errors
///
/// Fails with the first failure of a store, after all documents have been tried.
pub fn late_documents<P: Ports>(ports: &mut P, taken: LateSelection) -> Result<(), Failure> {
    let mut first = Ok(());
    for late in ports.due_late(taken) {
        let mut shown = None;
        made_known(ports, &late.resource, |ports| shown = Some(held_back::show_late(ports, &late, taken)));
        match shown {
            Some(_) => {}
            None if late.is_broken_off => ports.release_late(&late),
            None => ports.note_late_broken_off(&late),
        }
        first = first.and(shown.unwrap_or(Ok(())));
    }
    first
}

/// Makes something known that has been taken from its store, with others of its kind: nobody would come upon it again.
/// After a panic the watchers of the resource are notified of its state, and the others are gone on with.
fn made_known<P: Ports>(ports: &mut P, resource: &Resource, work: impl FnOnce(&mut P)) {
    // What `work` has changed half is left to what is tried again.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(&mut *ports))) {
        ports.broken_off(resource, &crate::caught::text(&*panic));
    }
}

/// Ends subscriptions that ran out: one NOTIFY with `terminated;reason=timeout` each.
///
/// # Errors
///
/// Fails when the store cannot end them. Those of the batches before are ended, and their watchers are notified.
pub fn subscriptions<P: Ports>(ports: &mut P) -> Result<usize, StoreError> {
    let mut total = 0;
    loop {
        let now = ports.now();
        let ended = ports.end_expired(now, BATCH)?;
        total += ended.len();
        for subscription in &ended {
            ran_out(ports, subscription);
        }
        if ended.len() < BATCH || !ports.may_send_more() {
            return Ok(total);
        }
    }
}

/// What follows when a subscription has run out and its store has ended it.
pub fn ran_out<P: Ports>(ports: &mut P, subscription: &Subscription) {
    has_ended(ports, subscription, Cause::RanOut, WatcherEvent::Timeout);
}

fn has_ended<P: Ports>(ports: &mut P, subscription: &Subscription, cause: Cause, event: WatcherEvent) {
    let resource = ports.uri_rule().resource(subscription.get(Field::PresUri), subscription.state.event);
    made_known(ports, &resource, |ports| {
        ports.note_end(subscription, cause);
        send_final_notify(ports, subscription, &resource, event);
    });
}

/// The last NOTIFY of a subscription that has ended, and the word to those who watch the watchers.
fn send_final_notify<P: Ports>(ports: &mut P, subscription: &Subscription, resource: &Resource, event: WatcherEvent) {
    let package = *ports.packages().get(subscription.state.event);
    let watcher = || Watcher { status: Status::Terminated, event, ..Watcher::of_subscription(subscription) };
    watcher_changes::notify(ports, &package, subscription.get(Field::PresUri), watcher, Extent::Partial);
    if ports.enqueue(resource, StateChange::Due) {
        notifier::run(ports, resource);
    }
}

/// Ends a subscription on an operator's word: one NOTIFY with `terminated` and this reason. `false` when it was gone.
///
/// # Errors
///
/// Fails when the store cannot end it: the subscription goes on.
pub fn end<P: Ports>(ports: &mut P, subscription: &Subscription, reason: &[u8]) -> Result<bool, StoreError> {
    let ended = ports.end(subscription.dialog(), reason)?;
    if ended {
        has_ended(ports, subscription, Cause::Operator, WatcherEvent::Deactivated);
    }
    Ok(ended)
}

/// Removes publications that ran out and notifies the watchers (unless `force_delete`).
///
/// # Errors
///
/// Fails when the store cannot remove them. Those of the batches before are removed, and their watchers are notified.
pub fn publications<P: Ports>(ports: &mut P) -> Result<usize, StoreError> {
    let mut total = 0;
    loop {
        let now = ports.now();
        let ended = ports.take_ended_publications(now, BATCH)?;
        total += ended.len();
        let count = ended.len();
        for resource in ended {
            made_known(ports, &resource, |ports| match ports.config().force_delete {
                true => change_notify::judged_without_request(ports, &resource),
                false => change_notify::changed_without_request(ports, &resource),
            });
        }
        if count < BATCH {
            return Ok(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_said_within_its_time() {
        let period = |seconds| Some(Seconds(seconds)).filter(|period| *period != Seconds::ZERO);
        let config = |db_update_period, clean_period, expires_offset| Config {
            db_update_period: period(db_update_period),
            clean_period: period(clean_period),
            expires_offset: Seconds(expires_offset),
            ..Config::defaults(None, b"", b"", 0, Moment::at(0), false)
        };
        for (config, longest) in [
            (config(100, 100, 0), 300),
            (config(0, 0, 0), 300),
            (config(100, 101, 0), 303),
            (config(1_000, 100, 0), 3_000),
            (config(100, 100, 7), 307),
        ] {
            assert!(!is_long_over(&config, Moment::at(1_000), Moment::at(1_000 + longest)), "{longest}");
            assert!(is_long_over(&config, Moment::at(1_000), Moment::at(1_001 + longest)), "{longest}");
        }
    }
}
