//! PUBLISH (RFC 3903 6): checks the request, changes the documents, answers, and notifies the watchers.
use super::document::{Document, dialogs, shared_line, shown_alone, shown_at_the_end, shown_once};
use super::publish_request::PublishRequest;
use super::published_body::{self, Given};
use crate::cluster::clock::ClusterSecond;
use crate::presence::composition::held_back::{hold_back, release};
use crate::presence::error::{Failure, StoreError};
use crate::presence::event_package::bad_event;
use crate::presence::event_package::{BodyCheck, PackageVerdict, Trait};
use crate::presence::expires::Expires;
use crate::presence::limits;
use crate::presence::notification::change_notify::{PendingNotify, queue_change, send_pending, sphere_before};
use crate::presence::ports::Ports;
use crate::presence::publication::{Applied, Change, Dialogs, Keeps, Modification, Publication};
use crate::presence::replication::announcement::{Novelty, announce, announce_modified, announced, announced_removal};
use crate::presence::resource::Resource;
use crate::sip::entity_tag::EntityTag;
use crate::sip::{text, uri};
use crate::time::{Expiry, Moment};
use std::borrow::Cow;

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
    // A request without Expires is granted the package's interval, even below `min_expires`.
    let granted = ports.config().grant(request.expires, description.default_expires);
    let expires = match request.expires {
        Some(_) => granted?,
        None => granted.unwrap_or(description.default_expires),
    };
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
    if !expires.is_end() {
        ports.row_limits().map_or(Ok(()), |limits| limits.check(&request.brought()))?;
    }
    if description.check != BodyCheck::None && ports.check_publish(package) == PackageVerdict::Refused {
        return Err(Failure::Refused("the event package does not take the body"));
    }
    let sphere = sphere_before(ports, &resource, &description)?;
    let new = Document { expires, sphere, description: &description, resource: &resource };
    match (request.etag, expires) {
        (None, Expires::End) => publish_transient(ports, request, &new),
        (None, Expires::For(_)) => insert(ports, request, &new),
        (Some(etag), Expires::End) => remove(ports, etag, request, &new),
        (Some(etag), Expires::For(_)) => modify(ports, etag, request, &new),
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
        expires_at: Expiry::At(now + new.expires.duration()),
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
    answer(ports, Expires::End, etag.view());
    announce(ports, replica);
    send_pending(ports, request, new, pending);
    Ok(())
}

/// Ends what other documents say of these dialogs, of which a document received at this moment speaks.
///
/// # Errors
///
/// Fails when the documents cannot be changed.
pub(crate) fn end_dialogs<P: Ports>(
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
    let new_etag = if new.description.has_trait(Trait::KeepsEntityTag) {
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
        expires_at: Expiry::At(now + new.expires.duration()),
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
            answer(ports, Expires::End, etag);
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
pub(crate) fn ruid_of<P: Ports>(
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

pub(crate) fn no_match(etag: EntityTag<&[u8]>) -> Failure {
    Failure::conditional_failed(format!(
        "no publication under this entity tag: {}",
        String::from_utf8_lossy(etag.bytes())
    ))
}

pub(crate) fn priority<P: Ports>(ports: &P, request: &PublishRequest<'_>, now: Moment) -> i32 {
    request.priority.unwrap_or_else(|| priority_at(ports, now))
}

/// The priority of a document of this moment without a word of the script: seconds since 2015, as in stock, so newer
/// documents come after older ones; 0 where no script gives any.
pub(crate) fn priority_at<P: Ports>(ports: &P, moment: Moment) -> i32 {
    if ports.config().xavp.is_empty() { 0 } else { (moment - EPOCH_OF_PRIORITIES).0 as i32 }
}

/// 200 with Expires and SIP-ETag (RFC 3903 6 step 6). What is stored never reads as removed.
fn answer<P: Ports>(ports: &mut P, expires: Expires, etag: EntityTag<&[u8]>) {
    let shown = match expires {
        Expires::End => 0,
        Expires::For(_) => (expires.duration() - ports.config().expires_offset).0.max(1),
    };
    let mut headers = Vec::with_capacity(etag.bytes().len() + 48);
    headers.extend_from_slice(b"Expires: ");
    text::push_number(&mut headers, shown);
    headers.extend_from_slice(b"\r\nSIP-ETag: ");
    headers.extend_from_slice(etag.bytes());
    headers.extend_from_slice(b"\r\n");
    ports.reply(200, "OK", &headers);
}
