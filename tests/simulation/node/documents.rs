//! Publications at a simulated node.
use super::{CLOCKED, Doc, Node, PresentityId, Record, Removal};
use crate::layers::cluster::clock::ClusterSecond;
use crate::layers::cluster::old_documents::{RemovedDocuments, is_old};
use crate::layers::cluster::version;
use crate::time::Moment;

impl Node {
    /// Publishes a value; returns what the phone knows its publication by from then on.
    pub fn publish(&mut self, presentity: PresentityId, known: (u32, u32), fresh: u32, value: u32) -> (u32, u32) {
        let now = self.clock.tick(self.local_time()).second();
        let mine = self.docs.get(&known.0).filter(|doc| doc.changes == known.1).cloned();
        let (record, changes) = mine.as_ref().map_or((fresh, 0), |doc| (doc.record, doc.changes + 1));
        let others = self.docs.values().filter(|doc| doc.presentity == presentity && doc.record != record);
        let others = others.map(|doc| doc.received_at);
        let others = others.chain(self.removed.get(&presentity).map(|removed| removed.received_at)).max();
        let own = mine.as_ref().map(|doc| doc.received_at);
        let received_at = version::received_at(now, own, others);
        let etag = format!("{}.{}", self.id, self.tick().0).into_bytes();
        let doc = Doc { presentity, record, changes, received_at, etag, value };
        self.place(doc.clone());
        self.send_to_holders(presentity, &Record::Doc(doc));
        (record, changes)
    }

    pub fn remove(&mut self, record: u32) {
        if let Some(doc) = self.docs.get(&record).cloned() {
            self.record_removal(record);
            let removal = self.removal_of(&doc);
            self.note_removal(doc.presentity, removal);
            self.changed(doc.presentity);
        }
    }

    pub(super) fn record_removal(&mut self, record: u32) {
        if let Some(doc) = self.docs.remove(&record) {
            self.note_ended(doc.presentity, doc.received_at);
        }
        self.gone.insert(record, ());
    }

    /// A document that was received then has ended; of one that another replaces, that one is known.
    fn note_ended(&mut self, presentity: PresentityId, received_at: ClusterSecond) {
        if self.docs.values().any(|doc| doc.presentity == presentity) {
            return;
        }
        let removed = RemovedDocuments { received_at, until: Moment::MAX };
        let known = self.removed.entry(presentity).or_insert(removed);
        *known = known.and(removed);
    }

    /// What is said of the removal of a document.
    fn removal_of(&self, doc: &Doc) -> Record {
        let is_named = self.places.replicas.is_some() && self.speaks >= CLOCKED;
        let is_last = !self.docs.values().any(|other| other.presentity == doc.presentity);
        let ended = (is_named && is_last).then_some((doc.presentity, doc.received_at));
        Record::Gone(Removal { record: doc.record, ended })
    }

    /// Another node has removed a document, and with it what is older.
    pub(super) fn merge_removal(&mut self, removal: Removal) {
        let presentity = self.docs.get(&removal.record).map(|doc| doc.presentity);
        let mut changed: Vec<PresentityId> = presentity.into_iter().collect();
        self.record_removal(removal.record);
        if let Some((presentity, received_at)) = removal.ended.filter(|_| self.speaks >= CLOCKED) {
            let removed = RemovedDocuments { received_at, until: Moment::MAX };
            let known = self.removed.entry(presentity).or_insert(removed);
            *known = known.and(removed);
            let of_presentity = self.docs.values().filter(|doc| doc.presentity == presentity).cloned();
            let old: Vec<Doc> = of_presentity.filter(|doc| self.is_old(doc)).collect();
            for doc in old {
                self.record_removal(doc.record);
                changed.push(presentity);
            }
        }
        changed.dedup();
        changed.into_iter().for_each(|presentity| self.changed(presentity));
    }

    fn is_old(&self, doc: &Doc) -> bool {
        is_old(Some(doc.received_at), [self.removed.get(&doc.presentity).copied()])
    }

    /// Stores a document that is newer than what there is; `false`: it is not.
    pub(super) fn place(&mut self, doc: Doc) -> bool {
        if self.docs.get(&doc.record).is_some_and(|mine| !doc.version().is_newer(&mine.version())) {
            return false;
        }
        let (newer, older): (Vec<&Doc>, Vec<&Doc>) = self
            .docs
            .values()
            .filter(|other| other.presentity == doc.presentity && other.record != doc.record)
            .partition(|other| other.version().replaces(&doc.version()));
        let replaced = self.is_old(&doc);
        let is_new = !self.docs.contains_key(&doc.record);
        let (overtaken, older) =
            (!newer.is_empty() || is_new && replaced, older.iter().map(|other| other.record).collect::<Vec<_>>());
        if overtaken {
            self.record_removal(doc.record);
            return false;
        }
        let presentity = doc.presentity;
        self.docs.insert(doc.record, doc);
        for record in older {
            self.record_removal(record);
            self.keep_removal(presentity, Record::Gone(Removal { record, ended: None }));
        }
        self.changed(presentity);
        true
    }
}
