//! Documents that may have been overtaken: they are held back, and shown when nothing has followed them
//! (`presence::composition::late`).
use super::late::{Late, LateSelection};
use crate::presence::error::Failure;
use crate::presence::notification::change_notify::notify_watchers;
use crate::presence::ports::Ports;
use crate::presence::publication::document::{Document, dialogs, shown_if_readable};
use crate::presence::publication::publish_request::PublishRequest;
use crate::presence::publication::{Applied, Change, Keeps, Modification};
use crate::presence::resource::Resource;
use crate::sip::entity_tag::EntityTag;
use std::borrow::Cow;

/// What was held back for a publication is held no longer once a change of it is stored that has refreshed or replaced
/// it.
pub(crate) fn release<P: Ports>(ports: &mut P, held: Option<&Late>, applied: &Applied) {
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
pub(crate) fn hold_back<P: Ports>(
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
    if ports.hold_late(&late) { Ok(()) } else { show_late(ports, &late, LateSelection::Due) }
}

/// A document that was held back becomes the state of its publication, unless that has another one by now. It is held
/// no longer as soon as that is certain: what follows may fail, and must not show it once more.
///
/// # Errors
///
/// Fails when the documents cannot be read or changed.
pub(crate) fn show_late<P: Ports>(ports: &mut P, late: &Late, taken: LateSelection) -> Result<(), Failure> {
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
    if taken == LateSelection::All || applied == Applied::NoMatch {
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
