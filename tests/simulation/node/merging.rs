//! What a simulated node makes of what the others say, and what it compares with them.
use super::{ASK_MARGIN, Node, NodeId, PAGE, RECORDS_A_MESSAGE, Record, Refresh, Sub, Wire};
use crate::layers::cluster::clock::{MOST_AHEAD, Stamp};
use crate::layers::cluster::digest::{DigestEntry, KeyRange, RecordKey, mixed, state_of};
use crate::layers::cluster::exchange::{self, ExchangeMessage, Pull, Pulling, RecordPage};
use crate::layers::cluster::numbers::HeldNumbers;
use crate::layers::cluster::numbers::Role;
use crate::layers::cluster::unsettled::{self, ExchangeVerdict};
use crate::layers::cluster::version::Version;
use crate::wire::{DialogId, PresentityId, unchanged_of};

fn dialog_key(dialog: DialogId) -> RecordKey {
    RecordKey(mixed(u64::from(dialog) + 1))
}

fn doc_key(record: u32) -> RecordKey {
    RecordKey(mixed(u64::from(record) | (1 << 40)))
}

impl Node {
    pub(super) fn merge_sub(&mut self, from: NodeId, theirs: Sub) {
        let dialog = theirs.dialog;
        self.clock.observe(theirs.version.stamp, self.local_time());
        if let Some(ended) = self.ended.get(&dialog).filter(|ended| **ended >= theirs.version) {
            let wire = Wire::Record(Record::End(dialog, *ended));
            return self.send(from, wire);
        }
        let is_owned = self.owns(dialog);
        let Some(mine) = self.subs.get_mut(&dialog) else {
            let here = theirs.owner == self.id;
            self.subs.insert(dialog, theirs);
            if here {
                // What others hold for us was lost here.
                self.take_over(dialog);
            }
            return;
        };
        let held = HeldNumbers { version: mine.version, local: mine.local, ceiling: mine.ceiling };
        let other = HeldNumbers { version: theirs.version, local: theirs.local, ceiling: theirs.ceiling };
        let role = if is_owned { Role::Owner } else { Role::Replica };
        let merge = match self.arbiter {
            None => held.merge(role, &other),
            Some(_) => held.merge_arbitrated(role, &other),
        };
        let merged = held.merged(&other, &merge);
        if held.is_overtaken(&other, &merge) {
            mine.local = merged.local;
        }
        if merge.said_by.is_theirs() || merge.owned_by.is_theirs() {
            let local = merged.local;
            let owned = if merge.owned_by.is_theirs() { &theirs } else { &*mine };
            let (owner, lease) = (owned.owner, owned.lease);
            *mine = Sub { local, version: merged.version, ceiling: merged.ceiling, owner, lease, ..theirs };
            self.restored.remove(&dialog);
            self.consenting.remove(&dialog);
        }
        mine.ceiling = merge.ceiling;
        let (now_ours, record) = (mine.owner == self.id, Record::Sub(mine.clone()));
        if merge.said_by.is_theirs() && self.arbiter.is_some() && self.owns(dialog) {
            // A phone has spoken to another node: the subscription stays where it was.
            self.notify(dialog);
        } else if merge.owned_by.is_theirs() && now_ours {
            // It was ours before we lost what we knew.
            return self.take_over(dialog);
        } else if merge.speak {
            return self.raise(dialog);
        }
        if merge.answers {
            self.send(from, Wire::Record(record));
        }
    }

    /// A replica that is as the refresh says is refreshed; another one is asked for.
    pub(super) fn merge_refresh(&mut self, from: NodeId, refresh: Refresh) {
        self.clock.observe(refresh.stamp, self.local_time());
        let dialog = refresh.dialog;
        let is_owned = self.owns(dialog);
        let mine = self.subs.get_mut(&dialog).filter(|sub| unchanged_of(sub) == refresh.unchanged);
        let Some(mine) = mine else {
            if !self.pulling.contains_key(&from) {
                self.send(from, Wire::Exchange(ExchangeMessage::Want(vec![dialog_key(dialog)])));
            }
            return;
        };
        let (known, said) = ((mine.version.word, mine.version.stamp), (refresh.word, refresh.stamp));
        if said < known {
            let record = Record::Sub(mine.clone());
            return self.send(from, Wire::Record(record));
        }
        (mine.version.word, mine.version.stamp) = said;
        if is_owned && said > known {
            self.notify(dialog);
        }
    }

    fn merge_end(&mut self, dialog: DialogId, version: Version) {
        if self.subs.get(&dialog).is_some_and(|mine| mine.version >= version) {
            return;
        }
        self.subs.remove(&dialog);
        self.restored.remove(&dialog);
        self.due.remove(&dialog);
        let known = self.ended.entry(dialog).or_insert(version);
        *known = version.max(*known);
    }

    pub fn all_entries(&self) -> Vec<DigestEntry> {
        self.entries_of(|_| true)
    }

    fn entries_of(&self, wanted: impl Fn(PresentityId) -> bool) -> Vec<DigestEntry> {
        let subs = self.subs.values().filter(|sub| wanted(sub.presentity));
        let subs = subs.map(|s| DigestEntry { key: dialog_key(s.dialog), state: state_of(&s.version, s.ceiling) });
        let docs = self.docs.values().filter(|doc| wanted(doc.presentity)).map(|doc| {
            let state = (u64::from(doc.changes) << 32) ^ u64::from(doc.value) ^ doc.received_at.seconds() as u64;
            DigestEntry { key: doc_key(doc.record), state: mixed(state) as u32 }
        });
        subs.chain(docs).collect()
    }
}

impl exchange::ExchangePorts for Node {
    type Peer = NodeId;
    type Record = Record;

    fn entries(&mut self, range: KeyRange) -> Vec<DigestEntry> {
        let common = self.entries_of(|presentity| self.is_common(presentity));
        common.into_iter().filter(|entry| range.contains(entry.key)).collect()
    }

    fn records(&mut self, keys: &[RecordKey]) -> Vec<Record> {
        let subs = self.subs.values().filter(|s| keys.contains(&dialog_key(s.dialog))).cloned().map(Record::Sub);
        let docs = self.docs.values().filter(|doc| keys.contains(&doc_key(doc.record))).cloned().map(Record::Doc);
        subs.chain(docs).collect()
    }

    fn page(&mut self, pull: Pull) -> RecordPage<Record> {
        let begin = pull.cursor as u32;
        let all: Vec<u32> = self.subs.range(begin..).map(|(dialog, _)| *dialog).take(PAGE + 1).collect();
        let next = all.get(PAGE).map(|dialog| u64::from(*dialog));
        let subs = all.iter().take(PAGE).filter_map(|dialog| self.subs.get(dialog));
        let mut records: Vec<Record> = subs
            .filter(|s| s.version.stamp >= pull.since && self.is_common(s.presentity))
            .cloned()
            .map(Record::Sub)
            .collect();
        if next.is_none() {
            let since = pull.since.before(MOST_AHEAD).second();
            let docs = self.docs.values().filter(|doc| self.is_common(doc.presentity) && doc.received_at >= since);
            records.extend(docs.cloned().map(Record::Doc));
        }
        RecordPage { records, next }
    }

    fn merge(&mut self, from: NodeId, record: Record) {
        match record {
            Record::Sub(sub) => self.merge_sub(from, sub),
            Record::End(dialog, version) => self.merge_end(dialog, version),
            Record::Doc(doc) => {
                if let Some(removal) = self.merge_doc(doc) {
                    self.send(from, Wire::Record(Record::Gone(removal)));
                }
            }
            Record::Gone(removal) => self.merge_removal(removal),
        }
    }

    fn parts(&mut self, records: Vec<Record>) -> Vec<Vec<Record>> {
        records.chunks(RECORDS_A_MESSAGE).map(<[Record]>::to_vec).collect()
    }

    fn send(&mut self, to: NodeId, message: ExchangeMessage<Record>) {
        Node::send(self, to, Wire::Exchange(message));
    }

    fn has_room(&mut self) -> bool {
        self.places.with.is_none_or(|with| self.knows(with))
    }

    fn with_pulling<T>(&mut self, from: NodeId, work: impl FnOnce(&mut Option<Pulling>) -> T) -> T {
        let mut pulling = self.pulling.remove(&from);
        let done = work(&mut pulling);
        self.pulling.extend(pulling.map(|pulling| (from, pulling)));
        done
    }

    fn note_agreed(&mut self, with: NodeId) {
        let now = self.tick();
        self.agreed.insert(with, now);
    }

    fn take_catch_up(&mut self, with: NodeId) -> Option<Stamp> {
        self.agreed.remove(&with).map(|since| since.before(ASK_MARGIN))
    }

    fn note_more(&mut self, with: NodeId) {
        if self.idle.insert(with, ()).is_none() {
            self.compared_at.remove(&with);
        }
    }

    fn note_exchanged(&mut self, with: NodeId) {
        self.idle.remove(&with);
    }

    fn may_exchange(&mut self, with: NodeId, key: RecordKey, states: u64, now: crate::time::Instant) -> bool {
        let which = key.0 ^ mixed(with as u64);
        unsettled::judge(&mut self.differences, which, states, now) != ExchangeVerdict::LeaveAlone
    }

    fn on_answered(&mut self, from: NodeId, since: Stamp) {
        self.note_filled(from, since);
        self.answered.insert(from, self.now);
    }
}
