//! Changes that wait in a resource entry for the next pass over its watchers.
use crate::host::shm::ShmBox;
use crate::presence::winfo::Extent;
use crate::presence::winfo::MOST_CHANGES;
use crate::server::tables::lazy_vec::LazyVec;
use crate::server::tables::resource_entry::{DueNotify, ResourceEntry};
use crate::server::tables::watched::{ChangedWatcher, SharedTransientBody};
use crate::time::MicroTick;

/// What changes leave to be freed when the lock is open.
#[derive(Default)]
pub struct Outdated {
    transient_body: Option<ShmBox<SharedTransientBody>>,
    changes: LazyVec<ChangedWatcher>,
    change: Option<ChangedWatcher>,
}

/// What one pass carries beside the state of its resource.
#[derive(Default)]
pub struct Carried {
    /// A document that is shown in it only.
    pub transient_body: Option<ShmBox<SharedTransientBody>>,
    /// For winfo: the watchers that changed.
    pub changes: LazyVec<ChangedWatcher>,
    /// For winfo: which watchers are listed.
    pub extent: Extent,
    /// See [`Watched::changed_at`](crate::server::tables::watched::Watched::changed_at).
    pub changed_at: Option<MicroTick>,
}

impl ResourceEntry {
    /// The documents have changed, in an entry from the host that began at this time. What is shown
    /// once is shown to those who watch now: where there are none no later watcher takes it for the state.
    pub fn note_documents(
        &mut self,
        transient_body: Option<ShmBox<SharedTransientBody>>,
        began: MicroTick,
    ) -> Outdated {
        // A watcher that saw the new documents before, in the answer to a SUBSCRIBE, is notified of the change all the
        // same.
        self.generation = self.generation.wrapping_add(1);
        let mut outdated = Outdated::default();
        let Some(watched) = &mut self.watched else { return outdated };
        if watched.subscriptions.is_empty() {
            outdated.transient_body = watched.transient_body.take();
            return outdated;
        }
        self.due.add(DueNotify::Something);
        self.due.add(DueNotify::ForAll);
        watched.changed_at.get_or_insert(began);
        outdated.transient_body = std::mem::replace(&mut watched.transient_body, transient_body);
        outdated
    }

    /// A watcher of the presentity that this winfo resource reports on has changed. Without it, and for the full
    /// extent, the next pass lists all of them. It names each watcher once (RFC 3858 4.2: ids are unique), as it is
    /// then, and at most [`MOST_CHANGES`]: more become the whole list.
    pub fn note_watcher(&mut self, changed: Option<ChangedWatcher>, extent: Extent) -> Outdated {
        self.generation = self.generation.wrapping_add(1);
        self.due.add(DueNotify::Something);
        self.due.add(DueNotify::ForAll);
        let mut outdated = Outdated::default();
        let is_listed = extent == Extent::Partial && !self.due.contains(DueNotify::FullList);
        let Ok(watched) = self.watched_or_new() else {
            self.due.add(DueNotify::FullList);
            return outdated;
        };
        if let Some(changed) = changed.filter(|_| is_listed) {
            let is_same = |other: &ChangedWatcher| other.strings.all::<2>() == changed.strings.all::<2>();
            outdated.change = watched.changes.take_where(is_same);
            if watched.changes.len() < MOST_CHANGES && watched.changes.push(changed).is_ok() {
                return outdated;
            }
        }
        outdated.changes = watched.changes.take();
        self.due.add(DueNotify::FullList);
        outdated
    }

    /// A pass begins: what was due until now goes out with it.
    pub fn carry(&mut self) -> Carried {
        for due in [DueNotify::Something, DueNotify::ForAll, DueNotify::Asked] {
            self.due.take(due);
        }
        let extent = if self.due.take(DueNotify::FullList) { Extent::Full } else { Extent::Partial };
        let Some(watched) = &mut self.watched else { return Carried { extent, ..Carried::default() } };
        Carried {
            transient_body: watched.transient_body.take(),
            changes: watched.changes.take(),
            extent,
            changed_at: watched.changed_at.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;
    use crate::host::shm;
    use crate::presence::subscription::Status;
    use crate::presence::winfo::{WatcherEvent, WatcherTimes};
    use crate::sip::packed::Strings;

    fn changed(name: &str, status: Status) -> Option<ChangedWatcher> {
        let strings = Strings::joined(&[name.as_bytes(), b"call"], shm::concat).expect("memory");
        let (event, times) = (WatcherEvent::Subscribe, WatcherTimes::default());
        Some(ChangedWatcher { strings, status, event, times })
    }

    fn names(carried: &Carried) -> Vec<(String, Status)> {
        let name = |change: &ChangedWatcher| String::from_utf8_lossy(change.strings.get(0)).into_owned();
        carried.changes.iter().map(|change| (name(change), change.status)).collect()
    }

    #[test]
    fn a_watcher_is_named_once_as_it_is_last() {
        let before = fake::live_blocks();
        let mut entry = ResourceEntry::without_documents();
        for (name, status) in [("bob", Status::Active), ("carol", Status::Active), ("bob", Status::Terminated)] {
            entry.note_watcher(changed(name, status), Extent::Partial);
        }
        let carried = entry.carry();
        assert_eq!(names(&carried), [("carol".into(), Status::Active), ("bob".into(), Status::Terminated)]);
        assert_eq!(carried.extent, Extent::Partial);
        drop((entry, carried));
        assert_eq!(fake::live_blocks(), before);
    }

    /// First `first` other watchers change, then the whole list may be asked for, then `then` more change.
    fn more_changes_than_one_document_names_become_the_list((first, whole, then, wanted): (usize, bool, usize, usize)) {
        let mut entry = ResourceEntry::without_documents();
        let some = |entry: &mut ResourceEntry, count: usize| {
            for n in 0..count {
                entry.note_watcher(changed(&n.to_string(), Status::Active), Extent::Partial);
                assert!(entry.watched_or_new().expect("memory").changes.len() <= MOST_CHANGES);
            }
        };
        some(&mut entry, first);
        if whole {
            entry.note_watcher(changed("bob", Status::Terminated), Extent::Full);
        }
        some(&mut entry, then);
        let carried = entry.carry();
        let extent = if wanted == 0 { Extent::Full } else { Extent::Partial };
        assert_eq!((carried.changes.len(), carried.extent), (wanted, extent));
        some(&mut entry, 1);
        let next = entry.carry();
        assert_eq!((next.changes.len(), next.extent), (1, Extent::Partial), "the next pass begins anew");
    }

    table! { more_changes_than_one_document_names_become_the_list:
        one => (1, false, 0, 1);
        as_many_as_it_names => (MOST_CHANGES, false, 0, MOST_CHANGES);
        the_same_again => (MOST_CHANGES, false, MOST_CHANGES, MOST_CHANGES);
        one_more => (MOST_CHANGES + 1, false, 0, 0);
        many_more => (10 * MOST_CHANGES, false, 0, 0);
        the_list_is_asked_for => (1, true, 0, 0);
        the_list_is_asked_for_before => (0, true, 3, 0);
    }

    #[test]
    fn a_change_that_finds_no_memory_becomes_the_list() {
        let mut entry = ResourceEntry::without_documents();
        entry.note_watcher(None, Extent::Partial);
        assert_eq!(entry.carry().extent, Extent::Full);
    }

    #[test]
    fn what_is_shown_once_is_kept_for_those_who_watch() {
        let before = fake::live_blocks();
        for is_watched in [false, true] {
            let mut entry = ResourceEntry::without_documents();
            if is_watched {
                entry.watched_or_new().expect("memory").subscriptions.push(3).expect("memory");
            }
            // A process is sending meanwhile.
            entry.busy = true;
            let shown = || shm::boxed(SharedTransientBody::Body(shm::copy(b"shown once").expect("memory"))).ok();
            entry.note_documents(shown(), MicroTick::at(5));
            assert_eq!(entry.due.contains(DueNotify::Something), is_watched);
            let carried = entry.carry();
            assert_eq!(carried.transient_body.is_some(), is_watched);
            assert_eq!(carried.changed_at, is_watched.then_some(MicroTick::at(5)));
            entry.note_documents(shown(), MicroTick::at(6));
            entry.note_documents(None, MicroTick::at(7));
            assert!(entry.carry().transient_body.is_none(), "a later change takes its place");
        }
        assert_eq!(fake::live_blocks(), before);
    }
}
