//! Publications at a simulated node.
use super::{CLOCKED, Doc, Node, PresentityId, Record, Removal};
use crate::layers::cluster::clock::ClusterSecond;
use crate::layers::cluster::old_documents::{RemovedDocuments, is_old};
use crate::layers::cluster::version;
use crate::time::Moment;

impl Node {
    /// Publishes a value; returns what the phone knows its publication by from then on.
    pub fn publish(
        &mut self,
        presentity: PresentityId,
        known: (u32, u32),
        fresh: u32,
        value: u32,
        ends: u64,
    ) -> (u32, u32) {
        let now = self.clock.tick(self.local_time()).second();
        let mine = self.docs.get(&known.0).filter(|doc| doc.changes == known.1).cloned();
        let (record, changes) = mine.as_ref().map_or((fresh, 0), |doc| (doc.record, doc.changes + 1));
        let others = self.docs.values().filter(|doc| doc.presentity == presentity && doc.record != record);
        let others = others.map(|doc| doc.received_at);
        let others = others.chain(self.removed.get(&presentity).map(|removed| removed.received_at)).max();
        let own = mine.as_ref().map(|doc| doc.received_at);
        let received_at = version::received_at(now, own, others);
        let etag = format!("{}.{}", self.id, self.tick().0).into_bytes();
        let doc = Doc { presentity, record, changes, received_at, etag, value, ends };
        self.place(doc.clone());
        self.send_to_holders(presentity, &Record::Doc(doc));
        (record, changes)
    }

    pub fn remove(&mut self, record: u32) {
        if let Some(doc) = self.docs.get(&record).cloned() {
            self.record_removal(record, u32::MAX);
            let removal = self.removal_of(&doc, Some(u32::MAX));
            self.note_removal(doc.presentity, removal);
            self.changed(doc.presentity);
        }
    }

    /// A publication is gone up to this state of it.
    fn record_removal(&mut self, record: u32, states: u32) {
        if let Some(doc) = self.docs.remove(&record) {
            self.note_ended(doc.presentity, doc.received_at);
        }
        let known = self.gone.entry(record).or_insert(states);
        *known = states.max(*known);
    }

    /// What has run out is gone, and what is older than it.
    pub fn pass_time(&mut self) {
        // Messages are under way for some time, and ends are whole seconds.
        let late = self.id as u64 * 211 % 700;
        let is_over = |doc: &&Doc| self.now >= doc.ends.saturating_add(late);
        let over: Vec<Doc> = self.docs.values().filter(is_over).cloned().collect();
        for doc in over {
            self.run_out(&doc);
        }
    }

    /// A document that has run out here may go on elsewhere, where its publisher has refreshed it or the clock is
    /// another one: what is older is gone, of its publication and of its dialog.
    fn run_out(&mut self, doc: &Doc) {
        self.docs.remove(&doc.record);
        self.note_ended(doc.presentity, doc.received_at);
        if let Some(states) = doc.changes.checked_sub(1) {
            self.record_removal(doc.record, states);
        }
        let over = self.removal_of(doc, None);
        self.keep_removal(doc.presentity, over);
        self.changed(doc.presentity);
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
    fn removal_of(&self, doc: &Doc, states: Option<u32>) -> Record {
        let is_named = self.places.replicas.is_some() && self.speaks >= CLOCKED;
        let is_last = !self.docs.values().any(|other| other.presentity == doc.presentity);
        let ended = (is_named && is_last).then_some((doc.presentity, doc.received_at));
        Record::Gone(Removal { record: doc.record, states, ended })
    }

    /// Another node has removed a document, and with it what is older.
    pub(super) fn merge_removal(&mut self, removal: Removal) {
        let presentity = self.docs.get(&removal.record).map(|doc| doc.presentity);
        let mut changed: Vec<PresentityId> = presentity.into_iter().collect();
        let later = |doc: &&Doc| removal.states.is_none_or(|states| doc.changes > states);
        match removal.states {
            Some(states) if self.docs.get(&removal.record).filter(later).is_none() => {
                self.record_removal(removal.record, states);
            }
            _ => {}
        }
        if let Some((presentity, received_at)) = removal.ended.filter(|_| self.speaks >= CLOCKED) {
            let removed = RemovedDocuments { received_at, until: Moment::MAX };
            let known = self.removed.entry(presentity).or_insert(removed);
            *known = known.and(removed);
            let of_presentity = self.docs.values().filter(|doc| doc.presentity == presentity).cloned();
            let old: Vec<Doc> = of_presentity.filter(|doc| self.is_old(doc)).collect();
            for doc in old {
                self.record_removal(doc.record, doc.changes);
                changed.push(presentity);
            }
        }
        changed.dedup();
        changed.into_iter().for_each(|presentity| self.changed(presentity));
    }

    fn is_old(&self, doc: &Doc) -> bool {
        is_old(Some(doc.received_at), [self.removed.get(&doc.presentity).copied()])
    }

    /// Another node holds a document; what it is answered when that is gone.
    pub(super) fn merge_doc(&mut self, doc: Doc) -> Option<Removal> {
        let (record, changes) = (doc.record, doc.changes);
        let gone = |node: &Node| node.gone.get(&record).copied().filter(|states| *states >= changes);
        if gone(self).is_none() && self.place(doc) {
            return None;
        }
        gone(self).map(|states| Removal { record, states: Some(states), ended: None })
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
        let (overtaken, older) = (
            !newer.is_empty() || is_new && replaced,
            older.iter().map(|other| (other.record, other.changes)).collect::<Vec<_>>(),
        );
        if overtaken {
            self.record_removal(doc.record, doc.changes);
            return false;
        }
        let presentity = doc.presentity;
        self.docs.insert(doc.record, doc);
        for (record, changes) in older {
            self.record_removal(record, changes);
            self.keep_removal(presentity, Record::Gone(Removal { record, states: Some(changes), ended: None }));
        }
        self.changed(presentity);
        true
    }
}
