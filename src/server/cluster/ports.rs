//! The ports of other nodes: changes of publications are announced to them.
use crate::host::log;
use crate::host::{clock, dmq};
use crate::limited;
use crate::presence::comparison::RecordKind;
use crate::presence::dialog::DialogId;
use crate::presence::ports::cluster::Cluster;
use crate::presence::replica::Replica;
use crate::presence::resource::Resource;
use crate::server::context::Context;
use crate::sip::entity_tag::EntityTag;
use crate::sip::uri;
use crate::time::Seconds;

impl Cluster for Context<'_> {
    fn replicates(&self) -> bool {
        self.config.replicates
    }
    fn announce(&mut self, replica: &Replica) {
        let (uri, text) = (uri::join(&replica.user, &replica.domain), replica.to_json());
        if replica.is_removal() {
            let until = clock::now() + Seconds::from(self.config.max_expires);
            let name = [&uri[..], &replica.event, replica.last_etag().bytes()];
            self.note_removal(RecordKind::Publications, &uri, name, &text, until);
        }
        if !self.send_to_holders(dmq::Channel::Publications, &uri, &text) {
            limited!(Error, "a change for {} could not be sent to the other nodes", log::show(&replica.user));
        }
    }
    fn is_held_elsewhere(&self, resource: &Resource) -> bool {
        self.view().is_some_and(|view| !view.is_held_here(&resource.uri))
    }
    fn expects_answers(&self) -> bool {
        self.shared.nodes.joining.may_be_answered(clock::now())
    }
    fn was_removed(&self, resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> bool {
        let tombstones = self.shared.tombstones;
        tombstones.has(tombstones.of_publication(resource, ruid, etag))
    }
    fn served_elsewhere(&mut self, dialog: DialogId<'_>) -> Option<Vec<u8>> {
        (!self.is_owned(dialog)).then(|| self.node_of(dialog))
    }
}
