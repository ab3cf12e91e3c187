//! What would go to other nodes is kept in a list.
use crate::presence::dialog::DialogId;
use crate::presence::ports::cluster::Cluster;
use crate::presence::replica::Replica;
use crate::presence::resource::Resource;
use crate::presence::testing::MemoryPorts;
use crate::sip::entity_tag::EntityTag;

impl Cluster for MemoryPorts {
    fn replicates(&self) -> bool {
        self.config.replicates
    }
    fn is_held_elsewhere(&self, _resource: &Resource) -> bool {
        self.is_elsewhere
    }
    fn announce(&mut self, replica: &Replica) {
        self.announced.push(replica.clone());
    }
    fn expects_answers(&self) -> bool {
        false
    }
    fn was_removed(&self, _resource: &Resource, ruid: &[u8], _etag: EntityTag<&[u8]>) -> bool {
        !ruid.is_empty() && self.removed.iter().any(|removed| removed == ruid)
    }
    fn served_elsewhere(&mut self, _dialog: DialogId<'_>) -> Option<Vec<u8>> {
        None
    }
}
