//! PUBLISH (RFC 3903 6): checks the request, changes the documents, answers, and notifies the watchers.
use super::error::{Failure, StoreError};
use super::event_package::{BodyCheck, Package, PackageVerdict, Trait};
use super::late::{Late, Taken};
use super::notification::{StateChange, TransientBody};
use super::ports::Ports;
use super::publication::{Applied, Change, Dialogs, Keeps, Modification, Publication, SharedLine};
use super::published_body::{self, Given};
use super::replica::Replica;
use super::resource::Resource;
use super::row_limits::Brought;
use super::{bad_event, judgement, limits, notifier, readable, sphere};
use crate::cluster::clock::ClusterSecond;
use crate::sip::entity_tag::EntityTag;
use crate::sip::{text, uri};
use crate::time::{Expiry, Moment, Seconds};
use std::borrow::Cow;

/// A PUBLISH taken apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublishRequest<'a> {
    /// The Event header.
    pub event: Option<&'a [u8]>,
    /// User part of the request URI.
    pub user: &'a [u8],
    /// Host part of the request URI.
    pub domain: &'a [u8],
    /// SIP-If-Match.
    pub etag: Option<EntityTag<&'a [u8]>>,
    /// Expires, in seconds.
    pub expires: Option<u32>,
    /// Content-Type.
    pub content_type: Option<&'a [u8]>,
    /// What the body was encoded with; `None`: it is as it reads.
    pub content_coding: Option<&'a [u8]>,
    /// The body; `None` for an empty one.
    pub body: Option<&'a [u8]>,
    /// The Contact that is not to be notified of this change; empty for nobody.
    pub sender: &'a [u8],
    /// `$xavp(cfg=>priority)`.
    pub priority: Option<i32>,
}

impl<'a> PublishRequest<'a> {
    /// What it brings into a row.
    fn brought(&self) -> Brought<'a> {
        let body_length = self.body.map_or(0, <[u8]>::len);
        Brought { user: self.user, domain: self.domain, sender: self.sender, body_length }
    }
}

/// The answer to a PUBLISH whose row could not be written.
fn refused_for<P: Ports>(ports: &P, error: StoreError, request: &PublishRequest<'_>) -> Failure {
    ports.row_limits().map_or_else(|| error.into(), |limits| limits.explain(error, &request.brought()))
}

/// 2015-01-01, from which stock counts priorities that the script does not set.
const EPOCH_OF_PRIORITIES: Moment = Moment::at(1_420_070_400);

/// Longest entity tag that the table's column takes.
const MAX_ETAG: usize = 64;

/// Handles a PUBLISH: on success it has been answered and the watchers are notified.
///
/// # Errors
///
/// Fails with the answer that the request deserves: 400, 403, 412, 413, 415, 423 or 489, see [`Failure`]; when the
/// event package refuses the request; and when a store fails.
pub fn handle<P: Ports>(ports: &mut P, request: &PublishRequest<'_>) -> Result<(), Failure> {
    let (package, _) = bad_event::asked_for(ports.packages(), request.event)?;
    ports.note_package(package);
    let description = *ports.packages().get(package);
    // Who names no interval is granted the package's, whatever the least one is that may be asked for.
    let expires = ports
        .config()
        .grant(request.expires, description.default_expires)
        .or(request.expires.is_none().then_some(description.default_expires))
        .ok_or_else(|| Failure::too_brief(ports.config().min_expires))?;
    if request.etag.is_none() && request.body.is_none() {
        return Err(Failure::invalid_request("neither an entity tag nor a body"));
    }
    let resource = ports.uri_rule().resource_of(uri::join(request.user, request.domain), package);
    let given = Given { content_type: request.content_type, content_coding: request.content_coding };
    let body = match request.body {
        Some(body) => Some(published_body::checked(ports, &resource, &description, body, given)?),
        None => None,
    };
    let request = &PublishRequest { body: body.as_deref(), ..*request };
    if expires > 0 {
        ports.row_limits().map_or(Ok(()), |limits| limits.check(&request.brought()))?;
    }
    if description.check != BodyCheck::None && ports.check_publish(package) == PackageVerdict::Refused {
        return Err(Failure::Refused("the event package does not take the body"));
    }
    let sphere = sphere_before(ports, &resource, &description)?;
    let new = Document { expires, sphere, description: &description, resource: &resource };
    match request.etag {
        None if expires == 0 => publish_transient(ports, request, &new),
        None => insert(ports, request, &new),
        Some(etag) if expires == 0 => remove(ports, etag, request, &new),
        Some(etag) => modify(ports, etag, request, &new),
    }
}

/// The presentity's sphere before a change of its documents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SphereBefore {
    /// Nobody has looked, or rules do not depend on it.
    Unknown,
    /// The documents name this one, or none.
    Known(Option<Vec<u8>>),
}

/// What the steps share.
pub(super) struct Document<'a> {
    pub(super) expires: u32,
    pub(super) sphere: SphereBefore,
    pub(super) description: &'a Package,
    pub(super) resource: &'a Resource,
}

impl<'a> Document<'a> {
    /// For a change that no request of a phone made.
    pub(super) fn without_request(description: &'a Package, resource: &'a Resource) -> Self {
        Document { expires: 0, sphere: SphereBefore::Unknown, description, resource }
    }
}

fn insert<P: Ports>(ports: &mut P, request: &PublishRequest<'_>, new: &Document<'_>) -> Result<(), Failure> {
    let body = request.body.unwrap_or_default();
    let now = ports.now();
    let etag = ports.new_entity_tag(0);
    let dialogs = dialogs(new.description, body);
    let publication = Publication {
        etag: etag.clone(),
        ruid: ports.new_ruid(),
        sender: request.sender.to_vec(),
        body: body.to_vec(),
        expires_at: Expiry::At(now + Seconds::from(new.expires)),
        received_at: Some(now),
        stamp: ports.stamp_now(new.resource, None, &dialogs),
        priority: priority(ports, request, now),
        dialogs,
    };
    limits::new_publication(ports, new.resource, &publication.dialogs)?;
    let replica = ports.replicates().then(|| announced(new, request, &publication, Novelty::New));
    let inserted = ports.publish(new.resource, Change::Insert(publication));
    inserted.map_err(|error| refused_for(ports, error, request))?;
    let pending = queue_change(ports, request, new, shown_alone(new, request.body));
    answer(ports, new.expires, etag.view());
    announce(ports, replica);
    send_pending(ports, request, new, pending);
    Ok(())
}

/// Where the package shows one document only, watchers get the one that was just published.
pub(super) fn shown_alone(new: &Document<'_>, body: Option<&[u8]>) -> Option<TransientBody> {
    body.filter(|_| !new.description.has(Trait::Aggregates)).map(|body| TransientBody::Body(body.to_vec()))
}

/// What watchers get when a document goes: where the package shows one document only, the body that came with the
/// removal; elsewhere the others, with this one in its place for packages that show that its dialogs have ended.
pub(super) fn shown_at_the_end<P: Ports>(
    ports: &P,
    new: &Document<'_>,
    body: &[u8],
    removed: Publication,
    place: usize,
) -> TransientBody {
    let body = Some(body).filter(|body| !body.is_empty());
    shown_if_readable(ports, new, body).unwrap_or(TransientBody::Removed(removed, place))
}

/// [`shown_alone`] for a document that nobody has checked.
pub(super) fn shown_if_readable<P: Ports>(ports: &P, new: &Document<'_>, body: Option<&[u8]>) -> Option<TransientBody> {
    shown_alone(
        new,
        body.filter(|body| new.description.has(Trait::Aggregates) || readable::shows(ports, new.description, body)),
    )
}

/// Whether a publication is announced for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Novelty {
    New,
    Changed,
}

/// What is announced to the other nodes of a change; `etag` of the publication is the one after it.
pub(super) fn announced(
    new: &Document<'_>,
    request: &PublishRequest<'_>,
    publication: &Publication,
    novelty: Novelty,
) -> Replica {
    let uri::PlainUri { user, host: domain } = uri::split(&new.resource.uri);
    Replica {
        domain: domain.to_vec(),
        user: user.to_vec(),
        event: new.description.name.to_vec(),
        etag: publication.etag.clone(),
        new_etag: None,
        expires: Seconds::from(new.expires),
        stamp: publication.stamp,
        is_new: novelty == Novelty::New,
        sender: request.sender.to_vec(),
        ruid: publication.ruid.clone(),
        body: publication.body.clone(),
        again: false,
        ended: Vec::new(),
    }
}

/// What is announced to the other nodes when a publication was removed, with the body that came with the removal.
pub(super) fn announced_removal<P: Ports>(
    ports: &P,
    new: &Document<'_>,
    request: &PublishRequest<'_>,
    removed: &Publication,
    body: &[u8],
) -> Replica {
    let ended = ports.ended_with(new.resource, removed);
    Replica { body: body.to_vec(), ended, ..announced(new, request, removed, Novelty::Changed) }
}

pub(super) fn announce<P: Ports>(ports: &mut P, replica: Option<Replica>) {
    if let Some(replica) = replica {
        ports.announce(&replica);
    }
}

/// An initial PUBLISH with Expires 0 stores nothing; documents of the same dialogs end, and where the package
/// shows the last document only, watchers see this one once.
fn publish_transient<P: Ports>(ports: &mut P, request: &PublishRequest<'_>, new: &Document<'_>) -> Result<(), Failure> {
    let body = request.body.unwrap_or_default();
    let dialogs = dialogs(new.description, body);
    let stamp = ports.stamp_now(new.resource, None, &dialogs);
    end_dialogs(ports, new.resource, dialogs, stamp)?;
    let etag = ports.new_entity_tag(0);
    let received_at = Some(ports.now());
    let (etag_of, body) = (etag.clone(), body.to_vec());
    let publication = Publication { etag: etag_of, body, received_at, stamp, ..Publication::default() };
    let replica = ports.replicates().then(|| {
        let known = Publication { ruid: ports.new_ruid(), ..publication.clone() };
        announced(new, request, &known, Novelty::New)
    });
    let pending = match shown_once(new, publication) {
        Some(transient_body) => queue_change(ports, request, new, Some(transient_body)),
        None => PendingNotify::Nothing,
    };
    answer(ports, 0, etag.view());
    announce(ports, replica);
    send_pending(ports, request, new, pending);
    Ok(())
}

/// How a document is shown that ends as soon as it is there: beside the others where the package puts documents of
/// dialogs together, alone where it shows the last one, and elsewhere not at all.
pub(super) fn shown_once(new: &Document<'_>, publication: Publication) -> Option<TransientBody> {
    match (new.description.has(Trait::Aggregates), new.description.is_dialog()) {
        (true, true) => Some(TransientBody::Removed(publication, usize::MAX)),
        (true, false) => None,
        (false, _) => Some(TransientBody::Body(publication.body)),
    }
}

/// Ends what other documents say of these dialogs, of which a document received at this moment speaks.
///
/// # Errors
///
/// Fails when the documents cannot be changed.
pub(super) fn end_dialogs<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    dialogs: Dialogs,
    stamp: Option<ClusterSecond>,
) -> Result<(), Failure> {
    if !dialogs.marks.is_empty() {
        let ids = dialogs.ids();
        ports.publish(resource, Change::End(dialogs))?;
        ports.note_ended(resource, &ids, stamp);
    }
    Ok(())
}

fn modify<P: Ports>(
    ports: &mut P,
    etag: EntityTag<&[u8]>,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
) -> Result<(), Failure> {
    let now = ports.now();
    // A document that is held back is what a refresh refreshes, and what a newer one replaces.
    let held = ports.find_late(new.resource, etag);
    let request = &PublishRequest { body: request.body.or(held.as_ref().map(|late| late.body.as_slice())), ..*request };
    let new_etag = if new.description.has(Trait::KeepsEntityTag) {
        etag.to_owned_tag()
    } else {
        let changes = etag.changes().wrapping_add(1);
        ports.new_entity_tag(changes)
    };
    let dialogs = request.body.map(|body| dialogs(new.description, body)).unwrap_or_default();
    let stamp = ports.stamp_now(new.resource, Some(etag), &dialogs);
    let change = Change::Modify(Modification {
        etag: etag.to_owned_tag(),
        new_etag: new_etag.clone(),
        body: request.body.map(Cow::Borrowed),
        dialogs,
        expires_at: Expiry::At(now + Seconds::from(new.expires)),
        received_at: Some(now),
        stamp,
        priority: priority(ports, request, now),
        sender: request.sender.to_vec(),
        line: shared_line(ports, new.description),
    });
    let applied = matched(ports, new.resource, request, etag, change)?;
    release(ports, held.as_ref(), &applied);
    match applied {
        Applied::Modified { keeps } => {
            // Before the answer: the phone's next change may follow at once, and then no document has this tag any
            // more.
            let ruid = ports.replicates().then(|| ruid_of(ports, new.resource, new_etag.view()));
            let pending = match keeps {
                Keeps::Nothing => queue_change(ports, request, new, shown_alone(new, request.body)),
                Keeps::Body | Keeps::Everything => PendingNotify::Nothing,
            };
            // What cannot be held back is not answered as if it were.
            if let (Keeps::Body, Some(body)) = (keeps, request.body) {
                hold_back(ports, new.resource, new_etag.view(), body)?;
            }
            answer(ports, new.expires, new_etag.view());
            if let Some(ruid) = ruid {
                let publication = Publication {
                    etag: etag.to_owned_tag(),
                    ruid: ruid.unwrap_or_default(),
                    body: request.body.unwrap_or_default().to_vec(),
                    stamp,
                    ..Publication::default()
                };
                announce_modified(ports, request, new, &publication, new_etag);
            }
            send_pending(ports, request, new, pending);
            Ok(())
        }
        _ => Err(no_match(etag)),
    }
}

/// Announces a changed publication, which has been found under the entity tag that it had before.
pub(super) fn announce_modified<P: Ports>(
    ports: &mut P,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
    publication: &Publication,
    new_etag: EntityTag,
) {
    let replica = announced(new, request, publication, Novelty::Changed);
    announce(ports, Some(Replica { new_etag: Some(new_etag), ..replica }));
}

/// What was held back for a publication is held no longer once a change of it is stored that has refreshed or replaced
/// it.
pub(super) fn release<P: Ports>(ports: &mut P, held: Option<&Late>, applied: &Applied) {
    if let (Some(late), Applied::Modified { keeps: Keeps::Nothing | Keeps::Body }) = (held, applied) {
        ports.release_late(late);
    }
}

/// A document that was published over the end of its call waits, lest it was overtaken; one for which there is no place
/// shows at once.
///
/// # Errors
///
/// Fails when there is no place for it, and the documents cannot be read or changed.
pub(super) fn hold_back<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    etag: EntityTag<&[u8]>,
    body: &[u8],
) -> Result<(), Failure> {
    let late = Late {
        resource: resource.clone(),
        etag: etag.to_owned_tag(),
        body: body.to_vec(),
        tries: 0,
        is_broken_off: false,
    };
    if ports.hold_late(&late) { Ok(()) } else { show_late(ports, &late, Taken::Due) }
}

/// A document that was held back becomes the state of its publication, unless that has another one by now. It is held
/// no longer as soon as that is certain: what follows may fail, and must not show it once more.
///
/// # Errors
///
/// Fails when the documents cannot be read or changed.
pub(super) fn show_late<P: Ports>(ports: &mut P, late: &Late, taken: Taken) -> Result<(), Failure> {
    let package = *ports.packages().get(late.resource.event);
    let documents = ports.documents(&late.resource)?;
    let Some(stored) = documents.into_iter().find(|document| document.etag == late.etag) else {
        ports.release_late(late);
        return Ok(());
    };
    let dialogs = dialogs(&package, &late.body);
    let change = Change::Modify(Modification {
        etag: late.etag.clone(),
        new_etag: late.etag.clone(),
        received_at: Some(ports.now()),
        stamp: ports.stamp_now(&late.resource, Some(late.etag.view()), &dialogs),
        dialogs,
        body: Some(Cow::Borrowed(&late.body)),
        expires_at: stored.expires_at,
        priority: stored.priority,
        sender: stored.sender.clone(),
        line: None,
    });
    let applied = ports.publish(&late.resource, change)?;
    ports.release_late(late);
    if taken == Taken::All || applied == Applied::NoMatch {
        return Ok(());
    }
    let new = Document::without_request(&package, &late.resource);
    let transient_body = shown_if_readable(ports, &new, Some(&late.body));
    notify_watchers(
        ports,
        &PublishRequest { sender: &stored.sender, ..PublishRequest::default() },
        &new,
        transient_body,
    );
    Ok(())
}

fn remove<P: Ports>(
    ports: &mut P,
    etag: EntityTag<&[u8]>,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
) -> Result<(), Failure> {
    match matched(ports, new.resource, request, etag, Change::Remove(etag.to_owned_tag()))? {
        Applied::Removed(publication, place) => {
            let body = request.body.unwrap_or_default();
            let replica = ports.replicates().then(|| announced_removal(ports, new, request, &publication, body));
            let shown = shown_at_the_end(ports, new, body, publication, place);
            let pending = queue_change(ports, request, new, Some(shown));
            answer(ports, 0, etag);
            announce(ports, replica);
            send_pending(ports, request, new, pending);
            Ok(())
        }
        _ => Err(no_match(etag)),
    }
}

/// The record's id, which stays the same over all entity tags.
///
/// # Errors
///
/// Fails when the documents cannot be read.
pub(super) fn ruid_of<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    etag: EntityTag<&[u8]>,
) -> Result<Vec<u8>, Failure> {
    Ok(ports.documents(resource)?.into_iter().find(|d| d.etag == etag).map(|d| d.ruid).unwrap_or_default())
}

fn matched<P: Ports>(
    ports: &mut P,
    resource: &Resource,
    request: &PublishRequest<'_>,
    etag: EntityTag<&[u8]>,
    change: Change,
) -> Result<Applied, Failure> {
    if etag.is_empty() || etag.bytes().len() > MAX_ETAG {
        return Err(no_match(etag));
    }
    ports.publish(resource, change).map_err(|error| refused_for(ports, error, request))
}

pub(super) fn no_match(etag: EntityTag<&[u8]>) -> Failure {
    Failure::conditional_failed(format!(
        "no publication under this entity tag: {}",
        String::from_utf8_lossy(etag.bytes())
    ))
}

pub(super) fn priority<P: Ports>(ports: &P, request: &PublishRequest<'_>, now: Moment) -> i32 {
    match request.priority {
        Some(priority) => priority,
        // Without a word of the script, seconds since 2015, as in stock: newer documents come after older ones.
        None if !ports.config().xavp.is_empty() => (now - EPOCH_OF_PRIORITIES).0 as i32,
        None => 0,
    }
}

pub(super) fn dialogs(package: &Package, body: &[u8]) -> Dialogs {
    if package.is_dialog() { Dialogs::of(body) } else { Dialogs::default() }
}

/// How phones are distinguished where they share a line.
pub(super) fn shared_line<P: Ports>(ports: &P, package: &Package) -> Option<SharedLine> {
    package.is_shared_line().then(|| SharedLine { ignore_case: ports.config().ignore_case })
}

/// 200 with Expires and SIP-ETag (RFC 3903 6 step 6). What is stored never reads as removed.
fn answer<P: Ports>(ports: &mut P, expires: u32, etag: EntityTag<&[u8]>) {
    let shown = (Seconds::from(expires) - ports.config().expires_offset).0.max(1);
    let mut headers = Vec::with_capacity(etag.bytes().len() + 48);
    headers.extend_from_slice(b"Expires: ");
    text::push_number(&mut headers, if expires == 0 { 0 } else { shown });
    headers.extend_from_slice(b"\r\nSIP-ETag: ");
    headers.extend_from_slice(etag.bytes());
    headers.extend_from_slice(b"\r\n");
    ports.reply(200, "OK", &headers);
}

/// The NOTIFYs that a change leaves to be sent.
enum PendingNotify {
    /// No NOTIFY.
    Nothing,
    /// The NOTIFYs that are in the queue.
    Queued {
        /// This process has to send them unless another one has begun to.
        claims: bool,
        /// The documents name another sphere, which rules may depend on: who sends looks at them first.
        judges: bool,
    },
    /// The same, but nothing could be queued before the rules are looked at.
    AfterRules(Option<TransientBody>),
}

/// Puts a change into the queue of its resource. This comes before the answer: a watcher that subscribes after the
/// answer sees the change in the NOTIFY that follows its SUBSCRIBE, and is not notified of it again. The queue is taken
/// after the answer: while that is written to a slow connection, others may send.
fn queue_change<P: Ports>(
    ports: &mut P,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
    transient_body: Option<TransientBody>,
) -> PendingNotify {
    let judges = is_in_another_sphere(ports, new);
    if judges && !ports.shut(new.resource) {
        return PendingNotify::AfterRules(transient_body);
    }
    let change = StateChange::State { sender: request.sender, transient_body };
    PendingNotify::Queued { claims: ports.mark(new.resource, change), judges }
}

/// Sends the NOTIFYs of a change. The change is answered by now: whatever fails here is made up for later.
fn send_pending<P: Ports>(ports: &mut P, request: &PublishRequest<'_>, new: &Document<'_>, pending: PendingNotify) {
    let sends = match pending {
        PendingNotify::Nothing => false,
        PendingNotify::Queued { claims, judges } => {
            if judges {
                judge(ports, new.resource);
            }
            claims && ports.claim(new.resource)
        }
        PendingNotify::AfterRules(transient_body) => {
            judge(ports, new.resource);
            ports.enqueue(new.resource, StateChange::State { sender: request.sender, transient_body })
        }
    };
    if sends {
        notifier::run(ports, new.resource);
    }
}

/// Whether the documents of a presentity may name another sphere than the one that its watchers were judged in. While
/// it is not known which one they name, nobody is allowed what only one of them allows.
fn is_in_another_sphere<P: Ports>(ports: &mut P, new: &Document<'_>) -> bool {
    if !has_sphere(ports, new.description) {
        return false;
    }
    match sphere::of_presentity(ports, new.resource).map(SphereBefore::Known) {
        Ok(SphereBefore::Known(now)) if new.sphere == SphereBefore::Known(now.clone()) => {
            !ports.was_judged_in(new.resource, now.as_deref())
        }
        _ => true,
    }
}

/// Judges the watchers of a presentity of whose change nobody is notified.
pub(super) fn judge_if_in_another_sphere<P: Ports>(ports: &mut P, new: &Document<'_>) {
    if is_in_another_sphere(ports, new) {
        judge(ports, new.resource);
    }
}

/// What fails is noted, and tried again.
fn judge<P: Ports>(ports: &mut P, resource: &Resource) {
    let _ = judgement::authorizations(ports, resource);
}

/// The documents of a resource have changed by themselves, and nobody is notified: the sphere may be another one.
pub(super) fn judged_without_request<P: Ports>(ports: &mut P, resource: &Resource) {
    let description = *ports.packages().get(resource.event);
    judge_if_in_another_sphere(ports, &Document::without_request(&description, resource));
}

/// The documents of a resource have changed by themselves, or behind our back.
pub(super) fn changed_without_request<P: Ports>(ports: &mut P, resource: &Resource) {
    let description = *ports.packages().get(resource.event);
    notify_watchers(ports, &PublishRequest::default(), &Document::without_request(&description, resource), None);
}

/// Notifies the watchers of a change that no answer waits for.
pub(super) fn notify_watchers<P: Ports>(
    ports: &mut P,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
    transient_body: Option<TransientBody>,
) {
    let pending = queue_change(ports, request, new, transient_body);
    send_pending(ports, request, new, pending);
}

/// Whether rules of a package depend on the presentity's sphere, and are evaluated again when it changes.
fn has_sphere<P: Ports>(ports: &P, package: &Package) -> bool {
    ports.config().sphere_check && package.name == b"presence"
}

fn sphere_before<P: Ports>(ports: &mut P, resource: &Resource, package: &Package) -> Result<SphereBefore, Failure> {
    match has_sphere(ports, package) {
        true => Ok(SphereBefore::Known(sphere::of_presentity(ports, resource)?)),
        false => Ok(SphereBefore::Unknown),
    }
}
