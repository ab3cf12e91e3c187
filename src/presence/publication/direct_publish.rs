//! Publications that other modules make (`bind_presence`) and that operators remove: no request, no checks of the body,
//! the same stores and watchers as those of a PUBLISH.
use super::document::{Document, dialogs, shown_at_the_end, shown_if_readable};
use super::publish::{no_match, priority, ruid_of};
use super::publish_request::PublishRequest;
use crate::cluster::digest::RecordKey;
use crate::presence::composition::held_back::release;
use crate::presence::error::Failure;
use crate::presence::event_package::PackageId;
use crate::presence::expires::Expires;
use crate::presence::notification::change_notify::notify_watchers;
use crate::presence::ports::Ports;
use crate::presence::publication::{Applied, Change, Dialogs, Keeps, Modification, Publication};
use crate::presence::replication::announcement::{Novelty, announce, announce_modified, announced, announced_removal};
use crate::presence::replication::replica::Replica;
use crate::sip::entity_tag::EntityTag;
use crate::sip::uri;
use crate::time::Expiry;
use std::borrow::Cow;

/// What another module does to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectKind {
    /// A new one.
    Insert,
    /// The one under this entity tag.
    Update,
    /// The one under this entity tag, or a new one.
    Replace,
}

/// A document that another module publishes, under an entity tag of its own.
#[derive(Debug, Clone, Copy)]
pub struct Direct<'a> {
    /// The event package.
    pub event: PackageId,
    /// User part of the presentity.
    pub user: &'a [u8],
    /// Host part of the presentity.
    pub domain: &'a [u8],
    /// The entity tag; empty for a new document lets us choose.
    pub etag: EntityTag<&'a [u8]>,
    /// The Contact of the watcher that gets no NOTIFY.
    pub sender: &'a [u8],
    /// The document.
    pub body: &'a [u8],
    /// How long it stays, or that it is removed.
    pub expires: Expires,
    /// What is done.
    pub kind: DirectKind,
}

/// Publishes for another module: no request, no checks of the body, the same stores and watchers.
///
/// # Errors
///
/// Fails with 412 when [`DirectKind::Update`] finds no publication of this entity tag, and when a store fails.
pub fn publish<P: Ports>(ports: &mut P, direct: &Direct<'_>) -> Result<(), Failure> {
    let description = *ports.packages().get(direct.event);
    let resource = ports.uri_rule().resource(&uri::join(direct.user, direct.domain), direct.event);
    let expires = direct.expires.at_most(ports.config().max_expires);
    let new = Document { expires, ..Document::without_request(&description, &resource) };
    if ports.is_held_elsewhere(&resource) {
        let replica = announced_elsewhere(ports, direct, &new);
        announce(ports, Some(replica));
        return Ok(());
    }
    if expires.is_end() {
        return remove(ports, direct, &new);
    }
    if direct.kind != DirectKind::Insert {
        match modify(ports, direct, &new)? {
            Applied::Modified { .. } => return Ok(()),
            _ if direct.kind == DirectKind::Update => return Err(no_match(direct.etag)),
            _ => {}
        }
    }
    insert(ports, direct, &new)
}

impl<'a> Direct<'a> {
    /// What stands for the request that there is none of.
    fn request(&self) -> PublishRequest<'a> {
        PublishRequest { sender: self.sender, ..PublishRequest::default() }
    }
}

/// Removes the document; that there is none is no failure.
fn remove<P: Ports>(ports: &mut P, direct: &Direct<'_>, new: &Document<'_>) -> Result<(), Failure> {
    let Applied::Removed(removed, place) = ports.publish(new.resource, Change::Remove(direct.etag.to_owned_tag()))?
    else {
        return Ok(());
    };
    let request = direct.request();
    let replica = ports.replicates().then(|| announced_removal(ports, new, &request, &removed, direct.body));
    announce(ports, replica);
    let shown = shown_at_the_end(ports, new, direct.body, removed, place);
    notify_watchers(ports, &request, new, Some(shown));
    Ok(())
}

/// Changes the document under this entity tag.
fn modify<P: Ports>(ports: &mut P, direct: &Direct<'_>, new: &Document<'_>) -> Result<Applied, Failure> {
    let (request, now) = (direct.request(), ports.now());
    // As for a PUBLISH: what is held back is refreshed, or replaced.
    let held = ports.find_late(new.resource, direct.etag);
    let body = Some(direct.body).filter(|body| !body.is_empty());
    let body = body.or(held.as_ref().map(|late| late.body.as_slice()));
    // The caller knows in which order it calls.
    let dialogs = dialogs(new.description, body.unwrap_or_default()).in_order();
    let stamp = ports.stamp_now(new.resource, Some(direct.etag), &dialogs);
    let change = Change::Modify(Modification {
        etag: direct.etag.to_owned_tag(),
        new_etag: direct.etag.to_owned_tag(),
        body: body.map(Cow::Borrowed),
        dialogs,
        expires_at: Expiry::At(now + new.expires.duration()),
        received_at: Some(now),
        stamp,
        priority: priority(ports, &request, now),
        sender: direct.sender.to_vec(),
        line: None,
    });
    let applied = ports.publish(new.resource, change)?;
    release(ports, held.as_ref(), &applied);
    let Applied::Modified { keeps } = &applied else { return Ok(applied) };
    if ports.replicates() {
        let ruid = ruid_of(ports, new.resource, direct.etag)?;
        let (etag, body) = (direct.etag.to_owned_tag(), direct.body.to_vec());
        let publication = Publication { etag: etag.clone(), ruid, body, stamp, ..Publication::default() };
        announce_modified(ports, &request, new, &publication, etag);
    }
    if *keeps == Keeps::Nothing {
        let transient_body = shown_if_readable(ports, new, body);
        notify_watchers(ports, &request, new, transient_body);
    }
    Ok(applied)
}

/// Adds a document.
fn insert<P: Ports>(ports: &mut P, direct: &Direct<'_>, new: &Document<'_>) -> Result<(), Failure> {
    let (request, now) = (direct.request(), ports.now());
    let dialogs = dialogs(new.description, direct.body).in_order();
    let publication = Publication {
        etag: if direct.etag.is_empty() { ports.new_entity_tag(0) } else { direct.etag.to_owned_tag() },
        ruid: ports.new_ruid(),
        sender: direct.sender.to_vec(),
        body: direct.body.to_vec(),
        expires_at: Expiry::At(now + new.expires.duration()),
        received_at: Some(now),
        stamp: ports.stamp_now(new.resource, None, &dialogs),
        priority: priority(ports, &request, now),
        dialogs,
    };
    let replica = ports.replicates().then(|| announced(new, &request, &publication, Novelty::New));
    ports.publish(new.resource, Change::Insert(publication))?;
    announce(ports, replica);
    let transient_body = shown_if_readable(ports, new, Some(direct.body));
    notify_watchers(ports, &request, new, transient_body);
    Ok(())
}

/// The record id of a publication that its entity tag alone names: the same on every node.
fn id_of(new: &Document<'_>, etag: EntityTag<&[u8]>) -> Vec<u8> {
    let key = RecordKey::of_names(&[&new.resource.uri, new.description.name, etag.bytes()]);
    format!("pres-{:016x}", key.0).into_bytes()
}

/// What is announced to the nodes that hold a presentity of a change that is made on another one: they know what it
/// changes.
fn announced_elsewhere<P: Ports>(ports: &mut P, direct: &Direct<'_>, new: &Document<'_>) -> Replica {
    let is_insert = direct.kind == DirectKind::Insert && !new.expires.is_end();
    let etag = match direct.etag.is_empty() {
        true => ports.new_entity_tag(0),
        false => direct.etag.to_owned_tag(),
    };
    let publication = Publication {
        etag: etag.clone(),
        ruid: if is_insert { ports.new_ruid() } else { id_of(new, etag.view()) },
        body: if new.expires.is_end() { Vec::new() } else { direct.body.to_vec() },
        stamp: ports.stamp_now(new.resource, Some(etag.view()), &Dialogs::default()),
        ..Publication::default()
    };
    let novelty = if is_insert { Novelty::New } else { Novelty::Changed };
    let replica = announced(new, &direct.request(), &publication, novelty);
    Replica { new_etag: (!is_insert && !new.expires.is_end()).then_some(etag), ..replica }
}
