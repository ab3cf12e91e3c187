//! What the other nodes are sent of a changed document.
use super::replica::Replica;
use crate::presence::ports::Ports;
use crate::presence::publication::Publication;
use crate::presence::publication::document::Document;
use crate::presence::publication::publish_request::PublishRequest;
use crate::sip::entity_tag::EntityTag;
use crate::sip::uri;

/// Whether a publication is announced for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    New,
    Changed,
}

/// What is announced to the other nodes of a change; `etag` of the publication is the one after it.
pub(crate) fn announced(
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
        expires: new.expires.duration(),
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
pub(crate) fn announced_removal<P: Ports>(
    ports: &P,
    new: &Document<'_>,
    request: &PublishRequest<'_>,
    removed: &Publication,
    body: &[u8],
) -> Replica {
    let ended = ports.ended_with(new.resource, removed);
    Replica { body: body.to_vec(), ended, ..announced(new, request, removed, Novelty::Changed) }
}

pub(crate) fn announce<P: Ports>(ports: &mut P, replica: Option<Replica>) {
    if let Some(replica) = replica {
        ports.announce(&replica);
    }
}

/// Announces a changed publication, which has been found under the entity tag that it had before.
pub(crate) fn announce_modified<P: Ports>(
    ports: &mut P,
    request: &PublishRequest<'_>,
    new: &Document<'_>,
    publication: &Publication,
    new_etag: EntityTag,
) {
    let replica = announced(new, request, publication, Novelty::Changed);
    announce(ports, Some(Replica { new_etag: Some(new_etag), ..replica }));
}
