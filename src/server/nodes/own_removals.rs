//! What was removed at this node, where not every node holds everything (`cluster_replicas`): when the node does not
//! hold it any more it offers the removal to those that do, until one of them has said that it knows.
use crate::cluster::digest::RecordKey;
use crate::host::lock::Lock;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::replication::comparison::RecordKind;
use crate::shm_safe::shm_safe;
use crate::time::Moment;

/// At most this many removals are kept; of more, the oldest are forgotten first.
pub(crate) const MOST_OWN_REMOVALS: usize = 10_000;

struct Removal {
    /// Of a publication; otherwise of a subscription.
    is_document: bool,
    uri: ShmBox<[u8]>,
    /// The digest of what the removed record is called by.
    name: u64,
    /// What is announced.
    text: ShmBox<[u8]>,
    /// When what was removed would have ended by itself.
    until: Moment,
}

shm_safe!(Removal { is_document, uri, name, text, until });

/// The removals, in shared memory, the oldest first.
pub(crate) struct OwnRemovals {
    list: Lock<ShmVec<Removal>>,
}

shm_safe!(OwnRemovals { list });

impl Default for OwnRemovals {
    fn default() -> Self {
        OwnRemovals { list: Lock::new(ShmVec::new_in(Shm)) }
    }
}

fn digest(name: [&[u8]; 3]) -> u64 {
    RecordKey::of_names(&name).0
}

impl OwnRemovals {
    /// Something that belongs to a presentity was removed. Without memory the comparison of the nodes has to do.
    pub(crate) fn note(&self, kind: RecordKind, uri: &[u8], name: [&[u8]; 3], text: &[u8], until: Moment) {
        let (Ok(uri), Ok(text)) = (shm::copy(uri), shm::copy(text)) else { return };
        let is_document = kind == RecordKind::Publications;
        let mut list = self.list.lock();
        if list.len() >= MOST_OWN_REMOVALS {
            list.drain(..MOST_OWN_REMOVALS / 4);
        }
        // Without memory nothing is kept.
        let _ = shm::push(&mut list, Removal { is_document, uri, name: digest(name), text, until });
    }

    /// Another node knows of it.
    pub(crate) fn forget(&self, kind: RecordKind, name: [&[u8]; 3]) {
        let (is_document, name) = (kind == RecordKind::Publications, digest(name));
        self.list.lock().retain(|removal| removal.is_document != is_document || removal.name != name);
    }

    /// The presentities and texts of at most `most` of a kind whose presentity is wanted. What would have ended by now
    /// is forgotten.
    pub(crate) fn wanted(
        &self,
        kind: RecordKind,
        most: usize,
        now: Moment,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let is_document = kind == RecordKind::Publications;
        let mut list = self.list.lock();
        list.retain(|removal| removal.until >= now);
        let found = list.iter().filter(|removal| removal.is_document == is_document && wanted(&removal.uri));
        found.take(most).map(|removal| (removal.uri.to_vec(), removal.text.to_vec())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    fn note(removals: &OwnRemovals, number: usize, until: i64) {
        let id = format!("call{number}");
        let uri = format!("sip:{number}@a");
        removals.note(RecordKind::Subscriptions, uri.as_bytes(), [id.as_bytes(), b"f", b"t"], b"{}", Moment::at(until));
    }

    fn count(removals: &OwnRemovals, kind: RecordKind, now: i64) -> usize {
        removals.wanted(kind, usize::MAX, Moment::at(now), |_| true).len()
    }

    #[test]
    fn a_removal_is_offered_until_another_node_knows_of_it_or_it_is_past() {
        let before = fake::live_blocks();
        let removals = OwnRemovals::default();
        (1..=3).for_each(|number| note(&removals, number, 100 + number as i64));
        let wanted = removals.wanted(RecordKind::Subscriptions, 5, Moment::at(50), |uri| uri != b"sip:2@a");
        assert_eq!(wanted.iter().map(|(uri, _)| uri.as_slice()).collect::<Vec<_>>(), [b"sip:1@a", b"sip:3@a"]);
        assert_eq!(count(&removals, RecordKind::Publications, 50), 0);
        removals.forget(RecordKind::Publications, [b"call1", b"f", b"t"]);
        assert_eq!(count(&removals, RecordKind::Subscriptions, 50), 3);
        removals.forget(RecordKind::Subscriptions, [b"call1", b"f", b"t"]);
        assert_eq!(count(&removals, RecordKind::Subscriptions, 50), 2);
        assert_eq!(count(&removals, RecordKind::Subscriptions, 103), 1);
        drop(removals);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let removals = OwnRemovals::default();
        (0..=MOST_OWN_REMOVALS).for_each(|number| note(&removals, number, 100));
        assert_eq!(count(&removals, RecordKind::Subscriptions, 50), MOST_OWN_REMOVALS - MOST_OWN_REMOVALS / 4 + 1);
        let last = format!("sip:{MOST_OWN_REMOVALS}@a");
        assert_eq!(
            removals.wanted(RecordKind::Subscriptions, 9, Moment::at(50), |uri| uri == last.as_bytes()).len(),
            1
        );
    }

    #[test]
    fn without_memory_nothing_is_kept_and_nothing_is_lost() {
        let removals = OwnRemovals::default();
        let before = fake::live_blocks();
        for at in 0..3 {
            let (_, failed) = fake::failing_at(at, || note(&removals, 1, 100));
            assert!(failed && fake::held_locks() == 0 && count(&removals, RecordKind::Subscriptions, 50) == 0);
        }
        assert_eq!(fake::live_blocks(), before);
    }
}
