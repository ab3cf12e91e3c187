//! What would go to other nodes is kept in a list.
use crate::cluster::clock::{ClusterSecond, Stamp};
use crate::cluster::old_documents::{self, RemovedDocuments};
use crate::presence::ports::cluster::Cluster;
use crate::presence::publication::{Dialogs, Publication, Removed};
use crate::presence::replication::replica::Replica;
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::testing::{MemoryPorts, key};
use crate::sip::entity_tag::EntityTag;
use crate::time::UnixMillis;

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
    fn removed(&self, _resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> Option<Removed> {
        let of_it = |removed: &&(Vec<u8>, u32)| removed.0 == ruid && removed.1 >= etag.changes();
        let known = self.removed.iter().find(|removed| !ruid.is_empty() && of_it(removed))?;
        Some(if known.1 == u32::MAX { Removed::ForGood } else { Removed::AsItWas })
    }
    fn limit_removal(&mut self, _resource: &Resource, removed: &Publication) {
        let of_it = self.removed.iter_mut().filter(|(ruid, _)| *ruid == removed.ruid);
        of_it.for_each(|(_, changes)| *changes = removed.etag.changes());
    }
    fn cluster_second(&self) -> ClusterSecond {
        Stamp::of_time(UnixMillis(self.now.seconds() as u64 * 1_000)).second()
    }
    fn stamp_now(&mut self, _: &Resource, _: Option<EntityTag<&[u8]>>, _: &Dialogs) -> Option<ClusterSecond> {
        self.config.replicates.then(|| self.cluster_second())
    }
    fn is_old(&self, resource: &Resource, dialogs: &Dialogs, stamp: Option<ClusterSecond>) -> bool {
        let ended = self.ended_dialogs.borrow();
        let known = dialogs.marks.iter().map(|mark| ended.get(&(key(resource), mark.id)).copied());
        old_documents::is_old(stamp, known)
    }
    fn note_ended(&self, resource: &Resource, dialogs: &[u64], stamp: Option<ClusterSecond>) {
        let Some(received_at) = stamp else { return };
        for dialog in dialogs {
            let removed = RemovedDocuments { received_at, until: self.now };
            self.ended_dialogs.borrow_mut().insert((key(resource), *dialog), removed);
        }
    }
    fn ended_with(&self, _resource: &Resource, removed: &Publication) -> Vec<u64> {
        removed.dialogs.ids()
    }
    fn served_elsewhere(&mut self, _dialog: DialogId<'_>) -> Option<Vec<u8>> {
        None
    }
}
