//! NOTIFY (RFC 6665 4.2.2): who gets which body, in the order of the changes.
use super::notify_headers;
use super::spare_blocks::SpareBlocks;
use super::versioned_body::PerWatcher;
use crate::presence::authorization::NoVerdict;
use crate::presence::composition::order::{self, Order};
use crate::presence::composition::readable;
use crate::presence::composition::tuples;
use crate::presence::composition::unreadable::TRIED_AGAIN_AFTER;
use crate::presence::error::StoreError;
use crate::presence::event_package::{Bodies, Package, Trait};
use crate::presence::history::remembered::{BodyDigest, Digested, KnownBody};
use crate::presence::notification::{
    DocumentPlace, Notify, NotifyAttempt, NotifyReason, NotifyRecord, NotifyRun, TransientBody, Unsent,
};
use crate::presence::ports::Ports;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::presence::winfo::{self, Extent, Watcher};
use crate::time::{Expiry, Moment};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Sends what is due for a resource until nothing is. The caller was given this work by
/// [`enqueue`](crate::presence::ports::notifications::Notifications::enqueue).
pub fn run<P: Ports>(ports: &mut P, resource: &Resource) {
    while let Some(mut notify_run) = ports.begin_run(resource) {
        let (mut body, mut reused) = (Body::new(resource), Reused::default());
        let (mut failures, mut unread) = (Failures::default(), Unread::default());
        body.unread = notify_run.unjudged;
        failures.visits_all = notify_run.attempt == NotifyAttempt::Second;
        loop {
            let batch = ports.next_batch(resource, &mut notify_run);
            if batch.is_empty() {
                break;
            }
            let mut notified = Vec::with_capacity(batch.len());
            for notify in &batch {
                let sent = failures.guard(|| send(ports, &mut body, &mut reused, &notify_run, notify));
                let digest = match sent {
                    Some(Sent::Out(digest)) => digest,
                    Some(Sent::WithoutState(digest, why)) => {
                        unread.push(Notify { notify_reason: NotifyReason::Change, ..notify.clone() }, why);
                        digest
                    }
                    Some(Sent::NotNow(why)) => {
                        ports.take_back(resource, notify);
                        unread.push(notify.clone(), why);
                        continue;
                    }
                    Some(Sent::LeftOut) => {
                        ports.take_back(resource, notify);
                        continue;
                    }
                    None => {
                        failures.unsent.push(notify.clone());
                        continue;
                    }
                };
                let cseq = notify.subscription.state.local_cseq;
                notified.extend(notify.slot.map(|slot| NotifyRecord { slot, cseq, body: digest.crc32 }));
            }
            ports.record_notified(resource, &notify_run, &notified);
            let mut spare = SpareBlocks::of_batch(batch.len());
            batch.into_iter().for_each(|notify| spare.keep(notify.subscription.into_block()));
            if failures.are_too_many() || notify_run.is_at_end {
                break;
            }
        }
        if !failures.unsent.is_empty() {
            failures.unsent.append(&mut unread.notifies);
            return ports.interrupted(resource, left_of(notify_run, failures.unsent), &failures.why);
        }
        if let Some(why) = unread.why {
            return ports.left_unread(resource, left_of(notify_run, unread.notifies), why);
        }
    }
}

/// What a pass leaves: these NOTIFYs, and the document that they were to show.
fn left_of(notify_run: NotifyRun, notifies: Vec<Notify>) -> Unsent {
    Unsent { notifies, transient_body: notify_run.transient_body, generation: notify_run.generation }
}

/// What became of one NOTIFY: a state that cannot be read must not look like one that is empty.
enum Sent {
    /// The NOTIFY went out; the digest of its body.
    Out(BodyDigest),
    /// The NOTIFY answers a SUBSCRIBE and had to go out (RFC 6665 4.2.1.2), without the state: the watcher learns of it
    /// later.
    WithoutState(BodyDigest, StoreError),
    /// A change, or a NOTIFY that would have to go out without the state and may be left out: it waits until the state
    /// can be read.
    NotNow(StoreError),
    /// The watcher is not to get this NOTIFY.
    LeftOut,
}

/// NOTIFYs that wait until the state of the resource can be read, and until it is known who may see it.
#[derive(Default)]
struct Unread {
    notifies: Vec<Notify>,
    why: Option<StoreError>,
}

impl Unread {
    fn push(&mut self, notify: Notify, why: StoreError) {
        self.notifies.push(notify);
        self.why = Some(why);
    }
}

/// Whether the state of a resource can be read now, and what its watchers may see of it, so that they can be notified.
///
/// # Errors
///
/// Fails when the documents, or for a winfo package the subscriptions and the waiting watchers, cannot be read, and
/// when the rules can be applied to none of the watchers.
pub fn can_be_read<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), StoreError> {
    let package = *ports.packages().get(resource.event);
    match package.is_winfo() {
        true => watchers_of(ports, resource, &package).map(|_| ()),
        false if filters(ports, &package) => rules_can_be_applied(ports, resource),
        false => ports.documents(resource).map(|_| ()),
    }
}

fn rules_can_be_applied<P: Ports>(ports: &mut P, resource: &Resource) -> Result<(), StoreError> {
    let Some(body) = cached_or_composed(ports, resource, 0)?.0 else { return Ok(()) };
    let mut outcome = Ok(());
    for watcher in ports.subscriptions(resource)?.iter().filter(|subscription| subscription.may_see()) {
        match ports.filter_body(resource.event, watcher, &body.body) {
            Ok(_) => return Ok(()),
            Err(NoVerdict::Unclear) => outcome = Err(NoVerdict::Unclear.into()),
            Err(why) => return Err(why.into()),
        }
    }
    outcome
}

/// Whether a package's bodies show each watcher what the rules let it see.
fn filters<P: Ports>(ports: &P, package: &Package) -> bool {
    package.has_trait(Trait::NeedsAuthorization)
        && package.has_trait(Trait::FiltersBody)
        && !ports.config().force_active
}

/// After this many panics in one pass nothing more is tried in it; the timer tries again, and visits all.
const MOST_PANICS: u32 = 3;

/// NOTIFYs that panics have kept from being sent: the watcher that causes one does not cost the others theirs.
#[derive(Default)]
struct Failures {
    visits_all: bool,
    panics: u32,
    why: String,
    unsent: Vec<Notify>,
}

impl Failures {
    fn are_too_many(&self) -> bool {
        self.panics >= MOST_PANICS && !self.visits_all
    }

    /// What `work` gives; `None` after a panic, and when there were too many.
    fn guard<T>(&mut self, work: impl FnOnce() -> T) -> Option<T> {
        if self.are_too_many() {
            return None;
        }
        // What `work` changes is looked at again only by what follows it, and a half-made body is made anew.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.panics += 1;
                self.why = crate::caught::text(&*panic);
                None
            }
        }
    }
}

/// The pass of one NOTIFY alone: it is not known what has changed of the watchers.
fn run_of_one() -> NotifyRun {
    NotifyRun { extent: Extent::Full, ..NotifyRun::default() }
}

fn watched_by<P: Ports>(ports: &P, subscription: &Subscription) -> Resource {
    ports.uri_rule().resource(subscription.get(Field::PresUri), subscription.state.event)
}

/// What one NOTIFY for a subscription that is not kept in a queue shows: it is sent by [`send_read`].
///
/// # Errors
///
/// Fails when the state cannot be read now, or it is not known what the watcher may see of it.
pub fn read_alone<P: Ports>(ports: &mut P, notify: &Notify) -> Result<Option<Vec<u8>>, StoreError> {
    let resource = watched_by(ports, &notify.subscription);
    let mut body = Body::new(&resource);
    body.unread = ports.judge_first(&resource);
    let content = content_of(ports, &mut body, &mut Digest::default(), &run_of_one(), notify)?;
    Ok(content.map(Cow::into_owned))
}

/// Sends one NOTIFY for a subscription that is not kept in a queue, with what [`read_alone`] has read.
pub fn send_read<P: Ports>(ports: &mut P, notify: &Notify, content: Option<Vec<u8>>) {
    deliver(ports, &mut Reused::default(), notify, content.map(Cow::Owned));
}

/// Sends one NOTIFY for a subscription that is not kept in a queue.
pub fn send_alone<P: Ports>(ports: &mut P, notify: &Notify) {
    let resource = watched_by(ports, &notify.subscription);
    let mut body = Body::new(&resource);
    body.unread = ports.judge_first(&resource);
    let notify_run = run_of_one();
    match send(ports, &mut body, &mut Reused::default(), &notify_run, notify) {
        Sent::NotNow(why) => {
            ports.take_back(&resource, notify);
            ports.left_unread(&resource, left_of(notify_run, vec![notify.clone()]), why);
        }
        Sent::LeftOut => ports.take_back(&resource, notify),
        Sent::Out(_) | Sent::WithoutState(..) => {}
    }
}

/// The composed document of a resource as it is now.
pub fn current_body<P: Ports>(ports: &mut P, resource: &Resource) -> Option<Vec<u8>> {
    let (body, is_new) = cached_or_composed(ports, resource, 0).ok()?;
    if let Some(made) = body.as_ref().filter(|_| is_new) {
        ports.note_composed(resource, made.digest);
    }
    body.map(|made| made.body)
}

/// The documents of a resource as its package is given them to put together.
///
/// # Errors
///
/// Fails when the documents cannot be read.
pub fn given_documents<P: Ports>(ports: &mut P, resource: &Resource) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut documents = ports.documents(resource)?;
    if order::is_reversed(ports.config()) {
        documents.reverse();
    }
    Ok(documents.into_iter().map(|document| document.body).collect())
}

/// The body of one pass, composed when the first watcher needs it.
struct Body<'a> {
    resource: &'a Resource,
    composed: KnownBody<Vec<u8>>,
    watchers: Option<Vec<Watcher>>,
    own: PerWatcher,
    /// Why the state cannot be read, or who may see it is not known.
    unread: Option<StoreError>,
}

impl<'a> Body<'a> {
    fn new(resource: &'a Resource) -> Self {
        Body { resource, composed: KnownBody::Unknown, watchers: None, own: PerWatcher::default(), unread: None }
    }

    /// Puts the body together if that has not been done in this pass.
    fn compose<P: Ports>(&mut self, ports: &mut P, notify_run: &NotifyRun, digests: &mut Digest) {
        if !matches!(self.composed, KnownBody::Unknown) {
            return;
        }
        let resource = self.resource;
        let made = match &notify_run.transient_body {
            Some(TransientBody::Body(body)) => Ok((Some(Digested::new(body.clone())), false)),
            Some(TransientBody::Removed(removed, place)) => {
                compose(ports, resource, Some((removed, *place))).map(|made| (made.body.map(Digested::new), true))
            }
            None => cached_or_composed(ports, resource, notify_run.documents),
        };
        let (body, is_new) = made.unwrap_or_else(|why| {
            self.unread = Some(why);
            (None, false)
        });
        let digest = body.as_ref().map(|made| made.digest);
        self.composed = KnownBody::of_made(body.map(|made| made.body));
        let (KnownBody::Body(body), Some(digest)) = (&self.composed, digest) else { return };
        digests.learn(body, digest);
        if is_new {
            ports.note_composed(resource, digest);
        }
    }

    fn all_watchers<P: Ports>(&mut self, ports: &mut P, package: &Package) -> &[Watcher] {
        let (resource, unread) = (self.resource, &mut self.unread);
        self.watchers.get_or_insert_with(|| {
            watchers_of(ports, resource, package).unwrap_or_else(|why| {
                *unread = Some(why);
                Vec::new()
            })
        })
    }
}

/// The composed body, and whether it was put together now.
fn cached_or_composed<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    documents: u32,
) -> Result<(Option<Digested>, bool), StoreError> {
    match ports.composed(resource) {
        KnownBody::Body(cached) => return Ok((Some(cached), false)),
        KnownBody::None => return Ok((None, false)),
        KnownBody::Unknown => {}
    }
    let made = compose(ports, resource, None)?;
    let body = made.body.map(Digested::new);
    ports.cache_composed(resource, documents, body.as_ref(), made.valid_until);
    Ok((body, true))
}

/// A composed body and until when it is valid.
struct Composed {
    body: Option<Vec<u8>>,
    valid_until: Expiry,
}

/// Puts the documents of a resource together; `removed` has just been removed and is shown as closed.
fn compose<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    removed: Option<(&Publication, DocumentPlace)>,
) -> Result<Composed, StoreError> {
    let package = *ports.packages().get(resource.event);
    let mut documents = ports.documents(resource)?;
    let mut valid_until = documents.iter().map(|d| d.expires_at).min().unwrap_or_default();
    if let Some(tried_again) = ports.leave_out_unreadable(&mut documents) {
        valid_until = valid_until.min(Expiry::At(tried_again));
    }
    if !package.has_trait(Trait::Aggregates) {
        return Ok(Composed { body: readable::last(ports, resource, documents), valid_until });
    }
    let mut offline = None;
    if let Some((removed, place)) = removed {
        let at = place.among(documents.len());
        documents.insert(at, removed.clone());
        offline = Some(at);
        if let Some(order) = Order::of_config(ports.config()) {
            // Where it would stand if it were still there.
            order.sort(&mut documents);
            offline = documents.iter().position(|document| document.etag == removed.etag);
        }
    }
    // Of two documents with one tuple the package shows the last one: the newer, whatever the mode.
    let contradict = package.name == b"presence" && tuples::clash(&documents);
    if order::is_reversed(ports.config()) && !contradict {
        documents.reverse();
        offline = offline.map(|at| documents.len() - 1 - at);
    }
    let shown = readable::aggregate(ports, resource, &documents, offline);
    if !shown.is_whole {
        valid_until = valid_until.min(Expiry::At(ports.now() + TRIED_AGAIN_AFTER));
    }
    Ok(Composed { body: shown.body, valid_until })
}

/// Returns the watchers of the presentity that a winfo resource reports on. A watcher whose subscription has run out
/// is none any more, even before that is noticed.
fn watchers_of<P: Ports>(ports: &mut P, resource: &Resource, package: &Package) -> Result<Vec<Watcher>, StoreError> {
    let Some(peer) = package.peer else { return Ok(Vec::new()) };
    let rule = ports.uri_rule();
    let watched = rule.resource(&resource.uri, peer);
    let now = ports.now();
    let subscriptions = ports.subscriptions(&watched)?;
    let living = subscriptions.iter().filter(|subscription| !subscription.is_over(now));
    let mut watchers: Vec<Watcher> = living.map(Watcher::of_subscription).collect();
    let subscribed: BTreeSet<Cow<'_, [u8]>> = watchers.iter().map(|watcher| rule.folded(&watcher.uri)).collect();
    let mut waiting = ports.waiting_watchers(&watched)?;
    waiting.retain(|waiting| !subscribed.contains(&rule.folded(&waiting.uri)));
    drop(subscribed);
    watchers.append(&mut waiting);
    Ok(watchers)
}

/// Sends one NOTIFY.
fn send<P: Ports>(
    ports: &mut P,
    body: &mut Body<'_>,
    reused: &mut Reused,
    notify_run: &NotifyRun,
    notify: &Notify,
) -> Sent {
    if says_the_end_early(notify, ports.now()) {
        return Sent::LeftOut;
    }
    let may_be_left_out = notify.notify_reason == NotifyReason::Subscribe && leaves_out_empty(ports, notify);
    let content = content_of(ports, body, &mut reused.digests, notify_run, notify);
    let (content, why) = match content {
        Err(why) if notify.notify_reason == NotifyReason::Change || may_be_left_out => return Sent::NotNow(why),
        Err(why) => (None, Some(why)),
        Ok(None) if may_be_left_out => return Sent::LeftOut,
        Ok(content) => (content, None),
    };
    let digest = deliver(ports, reused, notify, content);
    match why.filter(|_| notify.notify_reason == NotifyReason::Subscribe) {
        None => Sent::Out(digest),
        Some(why) => Sent::WithoutState(digest, why),
    }
}

/// What a NOTIFY shows its watcher; `None`: it has no body.
///
/// # Errors
///
/// Fails when the state cannot be read now, or it is not known what the watcher may see of it.
fn content_of<'b, P: Ports>(
    ports: &mut P,
    body: &'b mut Body<'_>,
    digests: &mut Digest,
    notify_run: &NotifyRun,
    notify: &Notify,
) -> Result<Option<Cow<'b, [u8]>>, StoreError> {
    let subscription = &notify.subscription;
    if !entitled(subscription, notify.notify_reason) {
        return Ok(None);
    }
    let package = *ports.packages().get(subscription.state.event);
    read_state(ports, body, digests, notify_run, notify, &package)?;
    match package.is_winfo() {
        true => Ok(Some(Cow::Owned(winfo_body(ports, body, notify_run, notify, &package)))),
        false => watcher_content(ports, (body, digests), notify_run, subscription, &package),
    }
}

/// Hands a NOTIFY over to be sent; the digest of its body.
fn deliver<P: Ports>(
    ports: &mut P,
    reused: &mut Reused,
    notify: &Notify,
    content: Option<Cow<'_, [u8]>>,
) -> BodyDigest {
    let package = *ports.packages().get(notify.subscription.state.event);
    match reused.headers.capacity() {
        0 => reused.headers = Vec::with_capacity(USUAL_HEADERS),
        _ => reused.headers.clear(),
    }
    notify_headers::push(&mut reused.headers, ports, notify, &package, content.as_deref());
    let digest = match &content {
        Some(Cow::Borrowed(shared)) => reused.digests.digest_of(shared),
        Some(Cow::Owned(own)) => BodyDigest::of_body(own),
        None => BodyDigest::default(),
    };
    ports.send_notify(notify, &reused.headers, content.as_deref(), digest);
    digest
}

/// Whether a NOTIFY would say that the subscription is terminated before its last one does, which is to come: after the
/// first that says so there is no subscription to which another could belong (RFC 6665 4.4.1).
fn says_the_end_early(notify: &Notify, now: Moment) -> bool {
    let goes_on = matches!(notify.notify_reason, NotifyReason::Change | NotifyReason::Subscribe);
    goes_on && notify.subscription.state.status != Status::Terminated && notify.subscription.is_over(now)
}

/// Has the state of a pass read, as far as this NOTIFY needs it.
///
/// # Errors
///
/// Fails when it cannot be read now, or nobody knows whether the watchers of this pass may see it.
fn read_state<P: Ports>(
    ports: &mut P,
    body: &mut Body<'_>,
    digests: &mut Digest,
    notify_run: &NotifyRun,
    notify: &Notify,
    package: &Package,
) -> Result<(), StoreError> {
    if let Some(why) = body.unread {
        return Err(why);
    }
    if !package.is_winfo() {
        body.compose(ports, notify_run, digests);
    } else if is_full_list(notify_run, notify) {
        body.all_watchers(ports, package);
    }
    body.unread.map_or(Ok(()), Err)
}

/// Whether the watchers of the watchers get the whole list, and not what has changed.
fn is_full_list(notify_run: &NotifyRun, notify: &Notify) -> bool {
    notify.notify_reason != NotifyReason::Change || notify_run.extent == Extent::Full
}

/// Header lines of a NOTIFY are seldom longer, in bytes.
const USUAL_HEADERS: usize = 256;

/// What the NOTIFYs of a pass use again.
#[derive(Default)]
struct Reused {
    digests: Digest,
    /// Memory for the header lines.
    headers: Vec<u8>,
}

/// The digest of the body that most watchers of a pass get: it stays in its place while the pass lasts, and is read
/// once.
#[derive(Default)]
struct Digest {
    place: Option<(*const u8, usize)>,
    digest: BodyDigest,
}

impl Digest {
    /// The digest of a body that stays in its place.
    fn learn(&mut self, shared: &[u8], digest: BodyDigest) {
        (self.place, self.digest) = (Some((shared.as_ptr(), shared.len())), digest);
    }

    fn digest_of(&mut self, shared: &[u8]) -> BodyDigest {
        let place = Some((shared.as_ptr(), shared.len()));
        if self.place != place {
            (self.place, self.digest) = (place, BodyDigest::of_body(shared));
        }
        self.digest
    }
}

/// `send_fast_notify` 0: some phones do not understand a first NOTIFY without a body. As in stock, packages whose
/// watchers are watched, and servers with notifier processes, send it all the same.
fn leaves_out_empty<P: Ports>(ports: &P, notify: &Notify) -> bool {
    let (config, package) = (ports.config(), ports.packages().get(notify.subscription.state.event));
    !config.send_fast_notify && config.notifier_processes == 0 && (package.peer.is_none() || package.is_winfo())
}

/// A body goes to watchers that may see the state, and not with the word that the subscription has ended unless they
/// have said so.
fn entitled(subscription: &Subscription, notify_reason: NotifyReason) -> bool {
    subscription.may_see() && notify_reason != NotifyReason::Ended
}

fn winfo_body<P: Ports>(
    ports: &mut P,
    body: &mut Body<'_>,
    notify_run: &NotifyRun,
    notify: &Notify,
    package: &Package,
) -> Vec<u8> {
    let version = notify.subscription.state.version;
    let details = ports.config().winfo_details.then(|| winfo::Details { now: ports.now() });
    let resource = body.resource.uri.clone();
    let watched = package.watched_name();
    if !is_full_list(notify_run, notify) {
        return winfo::document(version, Extent::Partial, &resource, watched, &notify_run.changes, details);
    }
    winfo::document(version, Extent::Full, &resource, watched, body.all_watchers(ports, package), details)
}

fn watcher_content<'b, P: Ports>(
    ports: &mut P,
    (body, digests): (&'b mut Body<'_>, &mut Digest),
    notify_run: &NotifyRun,
    subscription: &Subscription,
    package: &Package,
) -> Result<Option<Cow<'b, [u8]>>, StoreError> {
    let id = subscription.state.event;
    let filters = filters(ports, package);
    let shares = !filters && package.bodies == Bodies::ByVersion && ports.config().share_watcher_bodies;
    if shares && body.own.is_known_for(subscription.state.version) {
        return Ok(body.own.made_for(subscription.state.version));
    }
    body.compose(ports, notify_run, digests);
    let composed = match &body.composed {
        KnownBody::Body(composed) => Some(&composed[..]),
        KnownBody::Unknown | KnownBody::None => None,
    };
    let mut content = composed.map(Cow::Borrowed);
    if package.bodies != Bodies::Shared {
        if let Some(own) = ports.watcher_body(id, subscription, composed) {
            if shares {
                body.own.learn(subscription.state.version, &own);
            }
            content = Some(Cow::Owned(own));
        }
    }
    if let Some(whole) = content.as_deref().filter(|_| filters) {
        if let Some(filtered) = ports.filter_body(id, subscription, whole)? {
            content = Some(Cow::Owned(filtered));
        }
    }
    Ok(content.filter(|c| !c.is_empty()))
}
