//! The other nodes, which hold the same publications and subscriptions.
use crate::cluster::clock::ClusterSecond;
use crate::presence::publication::{Dialogs, Publication, Removed};
use crate::presence::replication::replica::Replica;
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
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
    /// What is known of a publication that another node speaks of and that is gone here, as it is there.
    fn removed(&self, resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> Option<Removed>;
    /// A publication was removed as it was, because something newer had replaced it: a later state of it was not.
    fn limit_removal(&mut self, resource: &Resource, removed: &Publication);
    /// Now, by the clock that nodes share.
    fn cluster_second(&self) -> ClusterSecond;
    /// When a change counts as received that is made now, by the clock that nodes share: of the document of this entity
    /// tag, if there is one, which speaks of these dialogs from then on; `None` where no node shares it.
    fn stamp_now(
        &mut self,
        resource: &Resource,
        etag: Option<EntityTag<&[u8]>>,
        dialogs: &Dialogs,
    ) -> Option<ClusterSecond>;
    /// Whether newer documents of all these dialogs were removed here.
    fn is_old(&self, resource: &Resource, dialogs: &Dialogs, stamp: Option<ClusterSecond>) -> bool;
    /// Dialogs, by the hashes of their ids, have ended with a document that was received then.
    fn note_ended(&self, resource: &Resource, dialogs: &[u64], stamp: Option<ClusterSecond>);
    /// The dialogs that have ended with a document that was removed here, for nodes that may hold older ones of them.
    fn ended_with(&self, resource: &Resource, removed: &Publication) -> Vec<u64>;
    /// The node that sends the NOTIFYs of a subscription, where that is another one.
    fn served_elsewhere(&mut self, dialog: DialogId<'_>) -> Option<Vec<u8>>;
}
