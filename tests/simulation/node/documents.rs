//! Publications at a simulated node.
use super::{Doc, Node, PresentityId, Record};
use crate::layers::cluster::version::received_after;
use crate::time::Moment;

impl Node {
    /// Publishes a value; returns what the phone knows its publication by from then on.
    pub fn publish(&mut self, presentity: PresentityId, known: (u32, u32), fresh: u32, value: u32) -> (u32, u32) {
        let now = (self.clock.millis(self.wall) / 1000) as i64;
        let others = self.docs.values().filter(|doc| doc.presentity == presentity).map(|doc| doc.received_at);
        let others = others.chain(self.removed_at.get(&presentity).copied()).max();
        let mine = self.docs.get(&known.0).filter(|doc| doc.changes == known.1).cloned();
        let (record, changes) = mine.as_ref().map_or((fresh, 0), |doc| (doc.record, doc.changes + 1));
        let received_at = match &mine {
            Some(doc) => now.max(doc.received_at),
            None => received_after(Moment::at(now), others.map(Moment::at)).seconds(),
        };
        let etag = format!("{}.{}", self.id, self.tick().0).into_bytes();
        let doc = Doc { presentity, record, changes, received_at, etag, value };
        self.place(doc.clone());
        self.send_to_holders(presentity, &Record::Doc(doc));
        (record, changes)
    }

    pub fn remove(&mut self, record: u32) {
        if let Some(doc) = self.docs.get(&record).cloned() {
            self.record_removal(record);
            self.note_removal(doc.presentity, Record::Gone(record));
            self.changed(doc.presentity);
        }
    }

    pub(super) fn record_removal(&mut self, record: u32) {
        if let Some(doc) = self.docs.remove(&record) {
            let latest = self.removed_at.entry(doc.presentity).or_default();
            *latest = doc.received_at.max(*latest);
        }
        self.gone.insert(record, ());
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
        let replaced = self.removed_at.get(&doc.presentity).is_some_and(|at| doc.received_at <= *at);
        let is_new = !self.docs.contains_key(&doc.record);
        let (overtaken, older) =
            (!newer.is_empty() || is_new && replaced, older.iter().map(|other| other.record).collect::<Vec<_>>());
        if overtaken {
            self.record_removal(doc.record);
            return false;
        }
        let presentity = doc.presentity;
        for record in older {
            self.record_removal(record);
            self.keep_removal(presentity, Record::Gone(record));
        }
        self.docs.insert(doc.record, doc);
        self.changed(presentity);
        true
    }
}
