//! The dialogs of documents that were removed: what other nodes still announce of them and is older is not taken.
use crate::cluster::clock::ClusterSecond;
use crate::cluster::old_documents::{self, RemovedDocuments};
use crate::host::lock::Lock;
use crate::host::shm::Shm;
use crate::presence::publication::Dialogs;
use crate::presence::resource::{Resource, UriComparison};
use crate::shm_safe::shm_safe;
use crate::time::Moment;
use hashbrown::HashTable;

/// At most this many dialogs are remembered; of more, those are forgotten first that would have been first.
pub const MOST_OLD_DOCUMENTS: usize = 100_000;

struct RemovedDialog {
    hash: u64,
    removed: RemovedDocuments,
}

shm_safe!(RemovedDialog { hash, removed });

/// Dialogs whose documents were removed and may still live on other nodes, in shared memory.
pub struct OldDocuments {
    list: Lock<HashTable<RemovedDialog, Shm>>,
    rule: UriComparison,
}

shm_safe!(OldDocuments { list, rule });

impl OldDocuments {
    /// Makes an empty list; call before the processes fork.
    pub fn new(rule: UriComparison) -> OldDocuments {
        OldDocuments { list: Lock::new(HashTable::new_in(Shm)), rule }
    }

    fn hash(&self, resource: &Resource, dialog: u64) -> u64 {
        self.rule.exact_hash(&[&resource.uri, &resource.event.0.to_be_bytes(), &dialog.to_be_bytes()])
    }

    /// Remembers that documents of these dialogs were removed; without memory that is not remembered.
    pub fn note(&self, resource: &Resource, dialogs: impl IntoIterator<Item = u64>, removed: RemovedDocuments) {
        for dialog in dialogs {
            let hash = self.hash(resource, dialog);
            let mut list = self.list.lock();
            if list.len() >= MOST_OLD_DOCUMENTS {
                make_room(&mut list);
            }
            if let Some(known) = list.find_mut(hash, |ended| ended.hash == hash) {
                known.removed = known.removed.and(removed);
            } else if list.try_reserve(1, |ended| ended.hash).is_ok() {
                list.insert_unique(hash, RemovedDialog { hash, removed }, |ended| ended.hash);
            }
        }
    }

    /// A document that was received then has not ended: it goes on, on other nodes. An earlier state of it is not old.
    pub fn forget(&self, resource: &Resource, dialogs: &[u64], received_at: Option<ClusterSecond>) {
        for dialog in dialogs {
            let hash = self.hash(resource, *dialog);
            let mut list = self.list.lock();
            let is_of_it = |known: &RemovedDialog| known.hash == hash && Some(known.removed.received_at) == received_at;
            if let Ok(found) = list.find_entry(hash, is_of_it) {
                found.remove();
            }
        }
    }

    /// What was removed of a dialog.
    pub fn of_dialog(&self, resource: &Resource, dialog: u64) -> Option<RemovedDocuments> {
        let hash = self.hash(resource, dialog);
        self.list.lock().find(hash, |ended| ended.hash == hash).map(|ended| ended.removed)
    }

    /// Whether newer documents of all these dialogs were removed. Those that were received after `latest` do not count:
    /// the clock they were received by is wrong.
    pub fn is_old(
        &self,
        resource: &Resource,
        dialogs: &Dialogs,
        received_at: Option<ClusterSecond>,
        latest: ClusterSecond,
    ) -> bool {
        let of_dialog = |id| self.of_dialog(resource, id).filter(|removed| removed.received_at <= latest);
        let known = dialogs.marks.iter().map(|mark| of_dialog(mark.id));
        dialogs.marks.len() == dialogs.sum.count as usize && old_documents::is_old(received_at, known)
    }

    /// Forgets the dialogs of which nothing older lives any more.
    pub fn forget_past(&self, now: Moment) {
        let mut list = self.list.lock();
        list.retain(|ended| ended.removed.until >= now);
        if list.is_empty() {
            *list = HashTable::new_in(Shm);
        }
    }
}

/// Forgets at least a quarter.
fn make_room(list: &mut HashTable<RemovedDialog, Shm>) {
    let mut ends: Vec<Moment> = list.iter().map(|ended| ended.removed.until).collect();
    let quarter = ends.len() / 4;
    let (_, first_to_stay, _) = ends.select_nth_unstable(quarter);
    let first_to_stay = *first_to_stay;
    let mut left = ends.len() - quarter;
    list.retain(|ended| {
        let stays = ended.removed.until >= first_to_stay && left > 0;
        left -= usize::from(stays);
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;
    use crate::presence::event_package::PackageId;

    const RULE: UriComparison = UriComparison { ignore_case: false, seed: 7 };

    fn resource(uri: &[u8]) -> Resource {
        RULE.resource(uri, PackageId(0))
    }

    fn second(number: i64) -> ClusterSecond {
        ClusterSecond::at(number).expect("a second")
    }

    fn removed(received_at: i64, until: i64) -> RemovedDocuments {
        RemovedDocuments { received_at: second(received_at), until: Moment::at(until) }
    }

    fn dialogs(ids: &[&str]) -> Dialogs {
        let dialog = |id: &&str| format!("<dialog id=\"{id}\"><state>confirmed</state></dialog>");
        Dialogs::of_document(
            format!("<dialog-info>{}</dialog-info>", ids.iter().map(dialog).collect::<String>()).as_bytes(),
        )
    }

    #[test]
    fn older_documents_of_dialogs_that_have_ended_are_known_as_long_as_they_may_live() {
        let before = fake::live_blocks();
        let old = OldDocuments::new(RULE);
        let resource_of = resource(b"sip:a@b");
        old.note(&resource_of, dialogs(&["x", "y"]).ids(), removed(50, 100));
        let is_old = |ids: &[&str], at| old.is_old(&resource_of, &dialogs(ids), ClusterSecond::at(at), second(60));
        assert!(is_old(&["x"], 49) && is_old(&["x", "y"], 49));
        assert!(!is_old(&["x"], 50) && !is_old(&["x", "z"], 49) && !is_old(&[], 49));
        assert!(!old.is_old(&resource(b"sip:b@b"), &dialogs(&["x"]), ClusterSecond::at(49), second(60)));
        assert!(!old.is_old(&resource_of, &dialogs(&["x"]), ClusterSecond::at(48), second(49)), "by a wrong clock");
        old.forget_past(Moment::at(100));
        assert!(is_old(&["x"], 49));
        old.forget_past(Moment::at(101));
        assert!(!is_old(&["x"], 49));
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn a_document_that_goes_on_elsewhere_has_not_ended() {
        let (old, resource) = (OldDocuments::new(RULE), resource(b"sip:a@b"));
        let ids = dialogs(&["x", "y"]).ids();
        old.note(&resource, ids.clone(), removed(50, 100));
        old.note(&resource, [ids[0]], removed(60, 100));
        old.forget(&resource, &ids, Some(second(50)));
        assert_eq!(old.of_dialog(&resource, ids[0]), Some(removed(60, 100)), "a newer one has ended");
        assert_eq!(old.of_dialog(&resource, ids[1]), None);
    }

    #[test]
    fn no_more_dialogs_are_remembered_than_there_is_room_for() {
        let old = OldDocuments::new(RULE);
        let resource = resource(b"sip:a@b");
        (0..MOST_OLD_DOCUMENTS as u64 + 10).for_each(|n| old.note(&resource, [n], removed(5, n as i64 / 2)));
        assert!(old.list.lock().len() <= MOST_OLD_DOCUMENTS * 3 / 4 + 10);
        assert!(
            old.of_dialog(&resource, 0).is_none() && old.of_dialog(&resource, MOST_OLD_DOCUMENTS as u64 + 9).is_some()
        );
    }

    #[test]
    fn without_memory_no_dialog_is_remembered() {
        let old = OldDocuments::new(RULE);
        let resource = resource(b"sip:a@b");
        let (_, failed) = fake::failing_at(0, || old.note(&resource, [5], removed(5, 10)));
        assert!(failed && old.of_dialog(&resource, 5).is_none() && fake::held_locks() == 0);
    }
}
