//! Publications and subscriptions that were removed while nodes could not reach each other: what they still announce of
//! them is old.
use crate::cluster::clock::Stamp;
use crate::cluster::version::Version;
use crate::host::lock::Lock;
use crate::host::shm::Shm;
use crate::presence::publication::{Publication, Removed};
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::subscription::dialog::DialogId;
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Moment, Seconds};
use hashbrown::HashTable;

struct Tombstone {
    hash: u64,
    /// When what was removed would have ended by itself.
    until: Moment,
    /// What it was when it was removed; what is newer was not removed.
    version: Version,
}

shm_safe!(Tombstone { hash, until, version });

/// At most this many removals are remembered; of more, those are forgotten first that would have ended first.
pub const MOST_REMOVALS: usize = 200_000;

/// How long the removal of a document that never ends is remembered.
const HARD_STATE_KEPT: Seconds = Seconds(3600);

/// A publication that was removed by its publisher was removed in each of its states.
const ANY_STATE: Version = Version { word: Version::ENDED, epoch: 0, stamp: Stamp(0), owner: 0 };

/// The state that an entity tag names: how often the publication had changed.
fn state_of(etag: EntityTag<&[u8]>) -> Version {
    Version { word: etag.changes(), ..Version::default() }
}

/// What was removed and would still live, in shared memory.
pub struct Tombstones {
    list: Lock<HashTable<Tombstone, Shm>>,
    rule: UriComparison,
}

shm_safe!(Tombstones { list, rule });

impl Tombstones {
    /// Makes an empty list; call before the processes fork.
    pub fn new(rule: UriComparison) -> Tombstones {
        Tombstones { list: Lock::new(HashTable::new_in(Shm)), rule }
    }

    /// What a publication is known by: its record id, or where an old node gives none, its entity tag.
    pub fn of_publication(&self, resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> u64 {
        match ruid {
            [] => self.rule.exact_hash(&[&resource.uri, b"etag", etag.bytes()]),
            ruid => self.rule.exact_hash(&[&resource.uri, b"ruid", ruid]),
        }
    }

    /// What a subscription is known by.
    pub fn of_dialog(&self, dialog: DialogId<'_>) -> u64 {
        self.rule.exact_hash(&[b"dialog", dialog.call_id, dialog.from_tag, dialog.to_tag])
    }

    /// Remembers a publication that was removed, by both its names, for at least so long: another state of it may live
    /// longer elsewhere.
    pub fn record_publication_removal(&self, resource: &Resource, removed: &Publication, now: Moment, least: Seconds) {
        let until = removed.expires_at.moment().unwrap_or(now + HARD_STATE_KEPT).max(now + least);
        let of = |ruid, etag| self.of_publication(resource, ruid, etag);
        self.record_removal(of(b"", removed.etag.view()), until, ANY_STATE);
        if !removed.ruid.is_empty() {
            self.record_removal(of(&removed.ruid, EntityTag::new(b"")), until, ANY_STATE);
        }
    }

    /// Remembers a publication that another one has replaced, as it was: what has changed more often was not replaced.
    pub fn record_replacement(&self, resource: &Resource, replaced: &Publication, now: Moment, least: Seconds) {
        let until = replaced.expires_at.moment().unwrap_or(now + HARD_STATE_KEPT).max(now + least);
        let names = [(&b""[..], replaced.etag.view()), (&replaced.ruid[..], EntityTag::new(&b""[..]))];
        for (ruid, etag) in names.into_iter().filter(|(ruid, etag)| !ruid.is_empty() || !etag.is_empty()) {
            let hash = self.of_publication(resource, ruid, etag);
            self.record_removal(hash, until, state_of(replaced.etag.view()));
        }
    }

    /// Remembers a publication that has run out: what had changed less often is older. The same state may live on
    /// elsewhere, by another clock, and a later one does.
    pub fn record_end(&self, resource: &Resource, ended: &Publication, until: Moment) {
        let Some(word) = ended.etag.changes().checked_sub(1).filter(|_| !ended.ruid.is_empty()) else { return };
        let hash = self.of_publication(resource, &ended.ruid, EntityTag::new(b""));
        self.record_removal(hash, until, Version { word, ..Version::default() });
    }

    /// A publication whose removal was remembered was removed as it was: what has changed more often goes on.
    pub fn limit_publication_removal(&self, resource: &Resource, removed: &Publication) {
        if removed.ruid.is_empty() {
            return;
        }
        let hash = self.of_publication(resource, &removed.ruid, EntityTag::new(b""));
        if let Some(known) = self.list.lock().find_mut(hash, |t| t.hash == hash) {
            known.version = state_of(removed.etag.view());
        }
    }

    /// What is known of a publication that was removed here when it had changed as often, or more often.
    pub fn of_removed(&self, resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> Option<Removed> {
        let hash = self.of_publication(resource, ruid, etag);
        let version = self.list.lock().find(hash, |t| t.hash == hash).map(|t| t.version)?;
        (version >= state_of(etag)).then_some(match version == ANY_STATE {
            true => Removed::ForGood,
            false => Removed::AsItWas,
        })
    }

    /// Forgets the removal of a publication that could not be carried out.
    pub fn forget_publication_removal(&self, resource: &Resource, kept: &Publication) {
        let mut list = self.list.lock();
        let names = [(&b""[..], kept.etag.view()), (&kept.ruid[..], EntityTag::new(&b""[..]))];
        for (ruid, etag) in names.into_iter().filter(|(ruid, etag)| !ruid.is_empty() || !etag.is_empty()) {
            let hash = self.of_publication(resource, ruid, etag);
            if let Ok(found) = list.find_entry(hash, |t| t.hash == hash) {
                found.remove();
            }
        }
    }

    /// Remembers a removal of what had this version; without memory it is not remembered.
    pub fn record_removal(&self, hash: u64, until: Moment, version: Version) {
        let mut list = self.list.lock();
        if list.len() >= MOST_REMOVALS {
            make_room(&mut list);
        }
        if let Some(known) = list.find_mut(hash, |t| t.hash == hash) {
            (known.until, known.version) = (known.until.max(until), known.version.max(version));
        } else if list.try_reserve(1, |t| t.hash).is_ok() {
            list.insert_unique(hash, Tombstone { hash, until, version }, |t| t.hash);
        }
    }

    /// Whether it was removed here when it had this version or a newer one.
    pub fn has_version(&self, hash: u64, version: &Version) -> bool {
        self.list.lock().find(hash, |t| t.hash == hash).is_some_and(|t| t.version >= *version)
    }

    /// Forgets what would have ended by now.
    pub fn forget_old(&self, now: Moment) {
        let mut list = self.list.lock();
        list.retain(|t| t.until >= now);
        if list.is_empty() {
            *list = HashTable::new_in(Shm);
        }
    }
}

/// Forgets at least a quarter.
fn make_room(list: &mut HashTable<Tombstone, Shm>) {
    let mut ends: Vec<Moment> = list.iter().map(|t| t.until).collect();
    let quarter = ends.len() / 4;
    let (_, first_to_stay, _) = ends.select_nth_unstable(quarter);
    let first_to_stay = *first_to_stay;
    let mut left = ends.len() - quarter;
    list.retain(|t| {
        let stays = t.until >= first_to_stay && left > 0;
        left -= usize::from(stays);
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;
    use crate::presence::event_package::PackageId;
    use crate::time::Expiry;

    const RULE: UriComparison = UriComparison { ignore_case: false, seed: 7 };

    #[test]
    fn the_dead_are_remembered_as_long_as_they_would_have_lived() {
        let before = fake::live_blocks();
        let dead = Tombstones::new(RULE);
        let resource = RULE.resource(b"sip:a@b", PackageId(0));
        let removed = Publication {
            etag: "e".into(),
            ruid: b"r".to_vec(),
            expires_at: Expiry::At(Moment::at(100)),
            ..Publication::default()
        };
        dead.record_publication_removal(&resource, &removed, Moment::at(10), Seconds(50));
        assert!(dead.of_removed(&resource, b"r", EntityTag::new(b"other")).is_some());
        assert!(dead.of_removed(&resource, b"", EntityTag::new(b"e")).is_some());
        assert!(dead.of_removed(&resource, b"", EntityTag::new(b"f")).is_none());
        dead.forget_old(Moment::at(100));
        assert!(dead.of_removed(&resource, b"r", EntityTag::new(b"")).is_some());
        dead.forget_old(Moment::at(101));
        assert!(dead.of_removed(&resource, b"r", EntityTag::new(b"")).is_none());
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn what_was_removed_as_it_was_may_have_changed_elsewhere() {
        let dead = Tombstones::new(RULE);
        let resource = RULE.resource(b"sip:a@b", PackageId(0));
        let removed = Publication {
            etag: "a.1.1.1.2".into(),
            ruid: b"r".to_vec(),
            expires_at: Expiry::At(Moment::at(100)),
            ..Publication::default()
        };
        let has = |changes: &str| dead.of_removed(&resource, b"r", EntityTag::new(changes.as_bytes())).is_some();
        let limit = || dead.limit_publication_removal(&resource, &removed);
        limit();
        assert!(!has("a.1.1.1.1"), "nothing was removed");
        dead.record_publication_removal(&resource, &removed, Moment::at(10), Seconds(50));
        assert!(has("a.1.1.1.2") && has("a.1.1.1.3"), "its publisher has removed it");
        limit();
        assert!(has("a.1.1.1.1") && has("a.1.1.1.2") && !has("a.1.1.1.3"));
        dead.record_publication_removal(&resource, &removed, Moment::at(10), Seconds(50));
        assert!(has("a.1.1.1.3"), "its publisher has removed it afterwards");
    }

    #[test]
    fn what_was_replaced_or_has_run_out_may_be_newer_elsewhere() {
        let resource = RULE.resource(b"sip:a@b", PackageId(0));
        let of = |changes: u32, ruid: &[u8]| Publication {
            etag: format!("a.1.1.1.{changes}").as_str().into(),
            ruid: ruid.to_vec(),
            expires_at: Expiry::At(Moment::at(10)),
            ..Publication::default()
        };
        let known = |dead: &Tombstones| {
            let of_state = |changes: u32| format!("a.1.1.1.{changes}").into_bytes();
            (1..4).map(|n| dead.of_removed(&resource, b"r", EntityTag::new(&of_state(n)[..]))).collect::<Vec<_>>()
        };
        let dead = Tombstones::new(RULE);
        dead.record_end(&resource, &of(0, b"r"), Moment::at(100));
        dead.record_end(&resource, &of(2, b""), Moment::at(100));
        assert_eq!(dead.list.lock().len(), 0, "nothing is older");
        dead.record_end(&resource, &of(2, b"r"), Moment::at(100));
        assert_eq!(known(&dead), [Some(Removed::AsItWas), None, None]);
        dead.record_replacement(&resource, &of(2, b"r"), Moment::at(10), Seconds(50));
        assert_eq!(known(&dead), [Some(Removed::AsItWas), Some(Removed::AsItWas), None]);
        dead.record_publication_removal(&resource, &of(2, b"r"), Moment::at(10), Seconds(50));
        assert_eq!(known(&dead), [Some(Removed::ForGood); 3]);
        dead.record_replacement(&resource, &of(2, b"r"), Moment::at(10), Seconds(50));
        assert_eq!(known(&dead), [Some(Removed::ForGood); 3], "its publisher has removed it before");
    }

    #[test]
    fn a_removal_is_remembered_as_long_as_another_state_may_live() {
        let dead = Tombstones::new(RULE);
        let resource = RULE.resource(b"sip:a@b", PackageId(0));
        let expires_at = Expiry::At(Moment::at(11));
        let removed = Publication { etag: "e".into(), ruid: b"r".to_vec(), expires_at, ..Publication::default() };
        dead.record_publication_removal(&resource, &removed, Moment::at(10), Seconds(50));
        for (now, is_known) in [(60, true), (61, false)] {
            dead.forget_old(Moment::at(now));
            assert_eq!(dead.of_removed(&resource, b"r", EntityTag::new(b"")).is_some(), is_known, "{now}");
        }
    }

    #[test]
    fn without_memory_nothing_is_remembered() {
        let dead = Tombstones::new(RULE);
        let (_, failed) = fake::failing_at(0, || dead.record_removal(5, Moment::at(10), Version::default()));
        assert!(failed && !dead.has_version(5, &Version::default()) && fake::held_locks() == 0);
    }

    #[test]
    fn what_is_newer_than_its_removal_was_not_removed() {
        let dead = Tombstones::new(RULE);
        let version = |word, epoch| Version { word, epoch, ..Version::default() };
        dead.record_removal(5, Moment::at(10), version(2, 1));
        assert!(dead.has_version(5, &version(2, 0)) && dead.has_version(5, &version(2, 1)));
        assert!(!dead.has_version(5, &version(3, 0)) && !dead.has_version(6, &version(0, 0)));
        dead.record_removal(5, Moment::at(10), version(Version::ENDED, 0));
        assert!(dead.has_version(5, &version(Version::ENDED - 1, 9)));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let dead = Tombstones::new(RULE);
        (0..MOST_REMOVALS as u64 + 10)
            .for_each(|n| dead.record_removal(n, Moment::at(n as i64 / 2), Version::default()));
        assert!(dead.list.lock().len() <= MOST_REMOVALS * 3 / 4 + 10);
        assert!(
            !dead.has_version(0, &Version::default())
                && dead.has_version(MOST_REMOVALS as u64 + 9, &Version::default())
        );
    }

    #[test]
    fn hard_state_is_remembered_for_an_hour() {
        let dead = Tombstones::new(RULE);
        let resource = RULE.resource(b"sip:a@b", PackageId(0));
        let removed =
            Publication { etag: "e".into(), ruid: b"r".to_vec(), expires_at: Expiry::Never, ..Publication::default() };
        dead.record_publication_removal(&resource, &removed, Moment::at(10), Seconds(50));
        let is_known = || dead.of_removed(&resource, b"r", EntityTag::new(b"")).is_some();
        dead.forget_old(Moment::at(10) + HARD_STATE_KEPT);
        assert!(is_known());
        dead.forget_old(Moment::at(11) + HARD_STATE_KEPT);
        assert!(!is_known());
    }
}
