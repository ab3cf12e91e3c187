//! The other nodes, which hold the same publications and subscriptions.
use crate::presence::dialog::DialogId;
use crate::presence::replica::Replica;
use crate::presence::resource::Resource;
use crate::sip::entity_tag::EntityTag;

/// What goes to other nodes, and what is known of them.
pub trait Cluster {
    /// Whether changes of publications are announced to other nodes.
    fn replicates(&self) -> bool;
    /// Whether what belongs to a presentity is held by other nodes alone.
    fn is_held_elsewhere(&self, _resource: &Resource) -> bool {
        false
    }
    /// Announces a change to the other nodes.
    fn announce(&mut self, replica: &Replica);
    /// Whether all nodes have lately been asked what there is, so that answers may be on their way.
    fn expects_answers(&self) -> bool;
    /// Whether a publication that another node speaks of was removed here, and would still live.
    fn was_removed(&self, resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> bool;
    /// The node that sends the NOTIFYs of a subscription, where that is another one.
    fn served_elsewhere(&mut self, dialog: DialogId<'_>) -> Option<Vec<u8>>;
}
