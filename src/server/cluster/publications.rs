//! Publications among nodes: what another one announces, and what this node holds for the others.
use crate::cluster::digest::RecordKey;
use crate::host::dmq::{Address, Channel};
use crate::host::{clock, log};
use crate::limited;
use crate::presence::error::Failure;
use crate::presence::ports::publications::Publications;
use crate::presence::publication::Publication;
use crate::presence::replication::replica::Replica;
use crate::presence::replication::{self, NotifiedBy, Reader, ReceiptClock};
use crate::presence::resource::Resource;
use crate::server::announcing::{holders, sending};
use crate::server::context::Context;
use crate::server::shared::Parts;
use crate::server::tables::resource_entry::ResourceEntry;
use crate::sip::uri;

/// Says which node notifies the watchers of a change that is announced: with `skip_notify_dmq` the node that announces
/// it. Where ours share subscriptions each notifies its own watchers and no others, so that a change of ours is never
/// left to it.
fn notified_by(parts: &Parts, from: Option<&Address>) -> NotifiedBy {
    let by_stock = from.is_none_or(|from| parts.shared.stock_nodes.knows(from));
    match parts.config.skips_notify_of_replicas && (by_stock || !parts.config.shares_subscriptions) {
        true => NotifiedBy::Announcer,
        false => NotifiedBy::ThisNode,
    }
}

/// By which clock a node says when it has received a publication.
fn receipt_clock(parts: &Parts, from: Option<&Address>) -> ReceiptClock {
    from.map_or(ReceiptClock::Own, |from| parts.shared.nodes.receipt_clock(from))
}

/// Another node announces a publication; it is answered where we know better.
///
/// # Errors
///
/// Fails when a store fails, and when the event package is not known here.
pub fn apply(context: &mut Context<'_>, replica: &Replica, from: Option<&Address>) -> Result<(), Failure> {
    let correction = replication::apply(context, replica, notified_by(context, from), receipt_clock(context, from))?;
    holders::note_replica_of(context, &uri::join(&replica.user, &replica.domain));
    if let (Some(correction), Some(from)) = (correction, from) {
        sending::send_on(context, Channel::Publications, from, &correction.to_json());
    }
    Ok(())
}

/// The resources with documents in one part of the tables.
fn resources_of_part(parts: &Parts, part: usize) -> Vec<Resource> {
    parts.shared.tables.nth_shard(part).entries().map(ResourceEntry::resource).collect()
}

/// Each live document of the wanted presentities in one part of the tables.
pub(super) fn each(
    context: &mut Context<'_>,
    part: usize,
    wanted: impl Fn(&[u8]) -> bool,
    mut take: impl FnMut(&Context, &Resource, &Publication),
) {
    let now = clock::now();
    for resource in resources_of_part(context, part).into_iter().filter(|resource| wanted(&resource.uri)) {
        match context.documents(&resource) {
            Ok(documents) => {
                documents
                    .iter()
                    .filter(|d| d.expires_at.moment().is_some_and(|end| end > now))
                    .for_each(|d| take(context, &resource, d));
            }
            Err(error) => {
                limited!(Warn, "the publications of {} are not compared: {error}", log::show(&resource.uri))
            }
        }
    }
}

/// A document as it is announced to another node.
pub(super) fn text(parts: &Parts, resource: &Resource, document: &Publication) -> Vec<u8> {
    let event = parts.packages().get(resource.event).name;
    replication::of_stored(resource, event, document, holders::two_clocks(parts), Reader::Ours).to_json()
}

/// The key of a document.
pub(super) fn key(parts: &Parts, resource: &Resource, document: &Publication) -> RecordKey {
    let record = if document.ruid.is_empty() { document.etag.bytes() } else { &document.ruid };
    RecordKey::of_names(&[&resource.uri, parts.packages().get(resource.event).name, record])
}
