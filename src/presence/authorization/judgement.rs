//! Judging the watchers of a presentity by its rules (RFC 3856 6.6, RFC 5025 3.2.1): when the rules or the sphere have
//! changed (`updateWatchers`, PUBLISH), after a start, and for a subscription that was new meanwhile.
use super::sphere;
use crate::presence::authorization::{Authorization, NoVerdict, Outstanding};
use crate::presence::error::{Failure, StoreError};
use crate::presence::event_package::{Package, Trait};
use crate::presence::history::ended::Cause;
use crate::presence::notification::notifier;
use crate::presence::notification::{NotifyReason, StateChange};
use crate::presence::ports::Ports;
use crate::presence::resource::Resource;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::presence::winfo::watcher_changes;
use crate::presence::winfo::{Extent, Watcher, WatcherEvent};

/// Watchers are judged at most this often in a row because somebody else has begun to judge them meanwhile.
const MOST_JUDGEMENTS: usize = 4;

/// The rules of a presentity may have changed: its watchers are judged again, and those are notified whose
/// authorization is another one. A watcher with whom that fails does not keep the others; what could not be carried out
/// is tried again until it can, and until then nobody is shown what it might not be allowed to see. Rules that cannot
/// be read change nothing. `true`: somebody has another authorization now.
///
/// # Errors
///
/// Fails when the rules or the subscriptions cannot be read, or with the first failure among the watchers, after all of
/// them.
pub fn authorizations<P: Ports>(ports: &mut P, resource: &Resource) -> Result<bool, Failure> {
    let package = *ports.packages().get(resource.event);
    if !package.has_trait(Trait::NeedsAuthorization) {
        return Ok(false);
    }
    let (mut done, mut is_changed) = (Ok(()), false);
    for _ in 0..MOST_JUDGEMENTS {
        let judgement = begin_judging(ports, resource);
        let mut pass = JudgementPass::default();
        known_authorizations(ports, resource, &mut pass);
        judge_subscriptions(ports, resource, &package, &mut pass, |_| true);
        match (pass.outstanding, &pass.first) {
            (Some(outstanding), Some(why)) => ports.left_unjudged(resource, judgement, outstanding, why),
            _ => ports.judged(resource, judgement),
        }
        send_due(ports, resource, pass.winfo.take());
        is_changed |= pass.changed;
        done = pass.first.map_or(Ok(()), Err);
        // A judgement that began later may have read newer rules: what was decided by older ones must not stand.
        if done.is_err() || ports.judgements(resource) == judgement {
            break;
        }
    }
    done.map(|()| is_changed)
}

/// The subscriptions of a resource come from rows that may be older than the last decisions: what its rules deny by now
/// is not sent. A watcher with whom that fails does not keep the others; the first failure is returned after all of
/// them. What the watchers are due is left to the caller.
///
/// # Errors
///
/// Fails when the rules or the subscriptions cannot be read, or with the first failure among the watchers, after all of
/// them.
pub fn restored<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), Failure> {
    let package = *ports.packages().get(resource.event);
    begin_judging(ports, resource);
    let mut pass = JudgementPass::default();
    let is_another = |judged: &Judged<'_>| judged.authorization != authorization_of(judged.subscription);
    judge_subscriptions(ports, resource, &package, &mut pass, is_another);
    watcher_changes::send(ports, pass.winfo);
    // A watcher that the package cannot judge keeps its authorization.
    pass.outstanding.and(pass.first).map_or(Ok(()), Err)
}

/// A new subscription is judged again where others have judged the watchers of its presentity since the count of
/// judgements was this one: they may not have seen it. `true`: it has another authorization now, and its watcher is
/// notified of that. What cannot be carried out is left to be tried again.
pub(crate) fn judge_new<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    package: &Package,
    new: &Subscription,
    mut judgements: u32,
) -> bool {
    let mut is_changed = false;
    for _ in 0..MOST_JUDGEMENTS {
        let before = std::mem::replace(&mut judgements, ports.judgements(resource));
        if before == judgements {
            break;
        }
        ports.forget_rules();
        let mut pass = JudgementPass::default();
        judge(ports, resource, package, &mut pass, new, |_| true);
        if let (Some(outstanding), Some(why)) = (pass.outstanding, &pass.first) {
            ports.left_unjudged(resource, judgements, outstanding, why);
        }
        is_changed |= pass.changed;
        send_due(ports, resource, pass.winfo);
    }
    is_changed
}

/// The sphere counts as judged before the rules are evaluated: who changes it from then on judges again.
fn begin_judging<P: Ports>(ports: &mut P, resource: &Resource) -> u32 {
    let sphere = match ports.config().sphere_check {
        true => sphere::of_presentity(ports, resource).ok().flatten(),
        false => None,
    };
    ports.begin_judging(resource, sphere.as_deref())
}

/// What a judgement of the watchers of one resource has come to.
#[derive(Default)]
struct JudgementPass {
    /// What went wrong first.
    first: Option<Failure>,
    outstanding: Option<Outstanding>,
    /// Whether the judgement ends here: the other watchers would only wait for the same.
    is_over: bool,
    /// Somebody has another authorization now.
    changed: bool,
    /// The resource whose watchers are due a NOTIFY about those that were judged.
    winfo: Option<Resource>,
}

impl JudgementPass {
    /// A step that is about an authorization in this place.
    fn note(&mut self, done: Result<(), Failure>, place: Outstanding) {
        let Err(failure) = done else { return };
        // A watcher about whom the rules say nothing that can be understood keeps its authorization.
        if failure != NoVerdict::Unclear.into() {
            let is_subscribed = self.outstanding == Some(Outstanding::Subscribed);
            self.outstanding = Some(if is_subscribed { Outstanding::Subscribed } else { place });
        }
        let is_away = |error: &StoreError| matches!(error, StoreError::Rules(NoVerdict::Unreadable));
        self.is_over |= matches!(&failure, Failure::Store(error) if is_away(error));
        self.first.get_or_insert(failure);
    }
}

fn authorization_of(subscription: &Subscription) -> Authorization {
    Authorization { status: subscription.state.status, reason: subscription.get(Field::Reason).to_vec() }
}

/// Judges the watchers that are remembered, also those that do not subscribe now: what they learn when they come
/// back.
fn known_authorizations<P: Ports>(ports: &mut P, resource: &Resource, pass: &mut JudgementPass) {
    let watchers = match ports.known_watchers(resource) {
        Ok(watchers) => watchers,
        Err(error) => return pass.note(Err(error.into()), Outstanding::Remembered),
    };
    for watcher in watchers {
        if pass.is_over {
            return;
        }
        match ports.evaluate_rules(resource.event, &watcher, watcher.state.status) {
            Ok(authorization) if authorization != authorization_of(&watcher) => {
                let stored = ports.store_authorization(&watcher, &authorization);
                pass.changed |= stored.is_ok();
                pass.note(stored.map_err(Failure::from), Outstanding::Remembered);
            }
            Ok(_) | Err(NoVerdict::Unclear) => {}
            Err(why) => pass.note(Err(why.into()), Outstanding::Subscribed),
        }
    }
}

/// What the rules say of one subscription.
struct Judged<'a> {
    subscription: &'a Subscription,
    authorization: Authorization,
}

fn judge_subscriptions<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    package: &Package,
    pass: &mut JudgementPass,
    counts: impl Fn(&Judged<'_>) -> bool,
) {
    if pass.is_over {
        return;
    }
    match ports.subscriptions(resource) {
        Err(error) => pass.note(Err(error.into()), Outstanding::Subscribed),
        Ok(subscriptions) => {
            for subscription in &subscriptions {
                judge(ports, resource, package, pass, subscription, &counts);
                if pass.is_over {
                    return;
                }
            }
        }
    }
}

/// Judges one subscription, and carries out what the rules say where it `counts`.
fn judge<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    package: &Package,
    pass: &mut JudgementPass,
    subscription: &Subscription,
    counts: impl Fn(&Judged<'_>) -> bool,
) {
    let authorization = match ports.evaluate_rules(resource.event, subscription, subscription.state.status) {
        Ok(authorization) => authorization,
        Err(why) => return pass.note(Err(why.into()), Outstanding::Subscribed),
    };
    let judged = Judged { subscription, authorization };
    if !counts(&judged) {
        return;
    }
    // What the rules say counts, whether it can be remembered or not.
    let remembered = ports.store_authorization(subscription, &judged.authorization).map_err(Failure::from);
    pass.note(remembered, Outstanding::Remembered);
    match carry_out(ports, &judged) {
        Err(error) => pass.note(Err(error.into()), Outstanding::Subscribed),
        Ok(false) => {}
        Ok(true) => {
            let winfo = queue_change(ports, resource, package, &judged);
            pass.winfo = winfo.or(pass.winfo.take());
            pass.changed = true;
        }
    }
}

/// Gives a subscription the authorization that its watcher has by the rules; `false` when it has it already.
fn carry_out<P: Ports>(ports: &mut P, judged: &Judged<'_>) -> Result<bool, StoreError> {
    let Judged { subscription, authorization } = judged;
    match (subscription.state.status, authorization.status) {
        // It was blocked before and knows it.
        (Status::Terminated, Status::Terminated) => Ok(false),
        (_, Status::Terminated) => {
            let ended = ports.end(subscription.dialog(), &authorization.reason)?;
            if ended {
                ports.note_end(subscription, Cause::Rules);
            }
            Ok(ended)
        }
        _ => ports.set_authorization(subscription.dialog(), authorization),
    }
}

/// Queues the NOTIFY of a watcher whose authorization has changed, and that of those who watch the watchers. Returns
/// the resource of the latter, as [`watcher_changes::queue`] does.
fn queue_change<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    package: &Package,
    judged: &Judged<'_>,
) -> Option<Resource> {
    let Judged { subscription, authorization } = judged;
    let details = ports.config().winfo_details;
    let watcher = || {
        let mut watcher = Watcher { status: authorization.status, ..Watcher::of_subscription(subscription) };
        if details {
            watcher.event = WatcherEvent::of_decision(authorization.status);
        }
        watcher
    };
    let winfo = watcher_changes::queue(ports, package, &resource.uri, watcher, Extent::Partial);
    let due = match authorization.status {
        Status::Terminated => StateChange::Due,
        _ => StateChange::Subscription(subscription.dialog(), NotifyReason::Subscribe),
    };
    // `send_due` claims it, whichever process has marked it first.
    let _ = ports.mark(resource, due);
    winfo
}

/// Sends what the watchers of a resource, and those of its watchers, are due after a judgement.
fn send_due<P: Ports>(ports: &mut P, resource: &Resource, winfo: Option<Resource>) {
    watcher_changes::send(ports, winfo);
    if ports.claim(resource) {
        notifier::run(ports, resource);
    }
}
