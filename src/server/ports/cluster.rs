//! The ports of other nodes: changes of publications are announced to them.
use crate::cluster::clock::{ClusterSecond, MOST_AHEAD, Stamp};
use crate::cluster::version;
use crate::host::log;
use crate::host::{clock, dmq};
use crate::limited;
use crate::presence::ports::cluster::Cluster;
use crate::presence::publication::{Dialogs, Publication, Removed, StoredDocument};
use crate::presence::replication::comparison::RecordKind;
use crate::presence::replication::replica::Replica;
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::server::announcing::{holders, ownership};
use crate::server::context::Context;
use crate::server::shared::Parts;
use crate::server::tables::resource_entry::Documents;
use crate::sip::entity_tag::EntityTag;
use crate::sip::uri;

impl Cluster for Context<'_> {
    fn replicates(&self) -> bool {
        self.config.replicates
    }
    fn announce(&mut self, replica: &Replica) {
        let (uri, text) = (uri::join(&replica.user, &replica.domain), replica.to_json());
        if replica.is_removal() {
            let until = clock::now() + self.config.max_expires;
            let name = [&uri[..], &replica.event, replica.last_etag().bytes()];
            holders::note_removal(self, RecordKind::Publications, &uri, name, &text, until);
        }
        if !holders::send_to_holders(self, dmq::Channel::Publications, &uri, &text) {
            limited!(Error, "a change for {} could not be sent to the other nodes", log::show(&replica.user));
        }
    }
    fn is_held_elsewhere(&self, resource: &Resource) -> bool {
        holders::view(self).is_some_and(|view| !view.is_held_here(&resource.uri))
    }
    fn expects_answers(&self) -> bool {
        self.shared.nodes.joining.may_be_answered(clock::now())
    }
    fn removed(&self, resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> Option<Removed> {
        self.shared.tombstones.of_removed(resource, ruid, etag)
    }
    fn limit_removal(&mut self, resource: &Resource, removed: &Publication) {
        self.shared.tombstones.limit_publication_removal(resource, removed);
    }
    fn cluster_second(&self) -> ClusterSecond {
        self.shared.cluster_state.second()
    }
    fn stamp_now(
        &mut self,
        resource: &Resource,
        etag: Option<EntityTag<&[u8]>>,
        dialogs: &Dialogs,
    ) -> Option<ClusterSecond> {
        self.config.replicates.then(|| {
            // A change is newer than what was not read since the start. What cannot be read cannot be changed either.
            _ = self.storage.publications.read_unknown(resource);
            let (own, others) = received_before(self, resource, etag, dialogs);
            version::received_at(self.shared.cluster_state.second(), own, others)
        })
    }
    fn is_old(&self, resource: &Resource, dialogs: &Dialogs, stamp: Option<ClusterSecond>) -> bool {
        let latest = Stamp::of_time(self.shared.cluster_state.tick().time() + MOST_AHEAD).second();
        self.shared.old_documents.is_old(resource, dialogs, stamp, latest)
    }
    fn note_ended(&self, resource: &Resource, dialogs: &[u64], stamp: Option<ClusterSecond>) {
        holders::note_ended_dialogs(self, resource, dialogs, stamp);
    }
    fn ended_with(&self, resource: &Resource, removed: &Publication) -> Vec<u64> {
        holders::dialogs_ended_with(self, resource, removed)
    }
    fn served_elsewhere(&mut self, dialog: DialogId<'_>) -> Option<Vec<u8>> {
        (!ownership::is_owned(self, dialog)).then(|| ownership::node_of(self, dialog))
    }
}

/// When the document of an entity tag was received, and the latest of the others, held or removed, that speak of
/// some of these dialogs.
fn received_before(
    parts: &Parts,
    resource: &Resource,
    etag: Option<EntityTag<&[u8]>>,
    dialogs: &Dialogs,
) -> (Option<ClusterSecond>, Option<ClusterSecond>) {
    let removed = dialogs.marks.iter().filter_map(|mark| parts.shared.old_documents.of_dialog(resource, mark.id));
    let (mut own, mut others) = (None, removed.map(|removed| removed.received_at).max());
    let tables = &parts.shared.tables;
    let mut shard = tables.shard(resource.hash);
    if let Some(Documents::Known(list)) = shard.entry(tables.rule(), resource).map(|entry| &entry.documents) {
        for document in list.iter() {
            if etag.is_some_and(|etag| document.etag() == etag) {
                own = document.stamp();
            } else if document.dialogs().share_any(&dialogs.view()) {
                others = others.max(document.stamp());
            }
        }
    }
    (own, others)
}
