//! Changes of which not all watchers could be notified where subscriptions are rows (database-only mode): their rows
//! could not be read, marked or counted up. The timer notifies the watchers of the resource again. When too many wait
//! to be named, it goes through all that are watched.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::event_package::PackageId;
use crate::presence::resource::Resource;
use crate::shm_safe::shm_safe;

/// How many resources may wait by name; for further ones all that are watched are gone through.
const MOST: usize = 1024;

struct Missed {
    uri: ShmBox<[u8]>,
    event: PackageId,
}

shm_safe!(Missed { uri, event });

/// How far the watched resources are gone through.
#[derive(Debug, Default, Clone, Copy)]
struct Sweep {
    /// Something was missed since it began: it begins again.
    is_wanted: bool,
    is_under_way: bool,
    /// The key of the last row that was seen.
    after: Option<i64>,
}

shm_safe!(Sweep { is_wanted, is_under_way, after });

/// The resources that wait, in shared memory.
pub struct MissedChanges {
    named: Lock<ShmVec<Missed>>,
    sweep: Lock<Sweep>,
}

shm_safe!(MissedChanges { named, sweep });

impl MissedChanges {
    /// None waits; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<MissedChanges, NoMemory> {
        let mut list = ShmVec::new_in(Shm);
        // Room from the start: it is needed when things go wrong.
        list.try_reserve_exact(MOST).map_err(|_| NoMemory)?;
        Ok(MissedChanges { named: Lock::new(list), sweep: Lock::new(Sweep::default()) })
    }

    /// Not all watchers of a resource could be notified.
    pub fn note(&self, resource: &Resource) {
        if !self.note_by_name(resource) {
            self.sweep.lock().is_wanted = true;
        }
    }

    fn note_by_name(&self, resource: &Resource) -> bool {
        let Ok(uri) = shm::copy(&resource.uri) else { return false };
        let mut list = self.named.lock();
        let is_known = |missed: &Missed| missed.event == resource.event && *missed.uri == *resource.uri;
        if list.iter().any(is_known) {
            return true;
        }
        if list.len() >= MOST {
            return false;
        }
        list.push(Missed { uri, event: resource.event });
        true
    }

    /// The one that has waited longest, taken off the list.
    pub fn take(&self) -> Option<(Vec<u8>, PackageId)> {
        let mut list = self.named.lock();
        let first = if list.is_empty() { None } else { Some(list.remove(0)) };
        first.map(|missed| (missed.uri.to_vec(), missed.event))
    }

    /// How many wait by name.
    pub fn len(&self) -> usize {
        self.named.lock().len()
    }

    /// Whether none waits by name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// After which row the next portion of all that are watched begins; `None` when none is to be gone through.
    pub(super) fn next_portion(&self) -> Option<Option<i64>> {
        let mut sweep = self.sweep.lock();
        if !sweep.is_under_way && sweep.is_wanted {
            *sweep = Sweep { is_under_way: true, ..Sweep::default() };
        }
        sweep.is_under_way.then_some(sweep.after)
    }

    /// All up to this row are gone through; `None`: all that there are.
    pub(super) fn is_swept_up_to(&self, last: Option<i64>) {
        let mut sweep = self.sweep.lock();
        (sweep.is_under_way, sweep.after) = (last.is_some(), last);
    }

    /// The portion that begins after this row has to be gone through again.
    pub(super) fn sweep_again_from(&self, after: Option<i64>) {
        let mut sweep = self.sweep.lock();
        (sweep.is_under_way, sweep.after) = (true, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::resource::UriComparison;

    #[test]
    fn each_resource_waits_once_and_the_list_is_bounded() {
        let missed = MissedChanges::new().unwrap();
        let rule = UriComparison { ignore_case: false, seed: 1 };
        let resource = |name: &str, event| rule.resource(name.as_bytes(), PackageId(event));
        for (name, event) in [("sip:a@b", 1), ("sip:b@b", 1), ("sip:a@b", 1), ("sip:a@b", 2)] {
            missed.note(&resource(name, event));
        }
        let taken: Vec<_> = std::iter::from_fn(|| missed.take()).collect();
        let expected = [("sip:a@b", 1), ("sip:b@b", 1), ("sip:a@b", 2)];
        assert_eq!(taken, expected.map(|(name, event)| (name.as_bytes().to_vec(), PackageId(event))));
        for n in (0..MOST).chain([0]) {
            missed.note(&resource(&format!("sip:{n}@b"), 1));
        }
        assert_eq!((missed.len(), missed.is_empty(), missed.next_portion()), (MOST, false, None));
    }

    #[test]
    fn what_cannot_be_named_has_all_gone_through_once() {
        let missed = MissedChanges::new().unwrap();
        let rule = UriComparison { ignore_case: false, seed: 1 };
        let note = |n: usize| missed.note(&rule.resource(format!("sip:{n}@b").as_bytes(), PackageId(1)));
        (0..=MOST).for_each(note);
        assert_eq!(missed.len(), MOST);
        assert_eq!(missed.next_portion(), Some(None));
        missed.is_swept_up_to(Some(40));
        assert_eq!(missed.next_portion(), Some(Some(40)));
        // The database was away.
        missed.is_swept_up_to(Some(80));
        missed.sweep_again_from(Some(40));
        assert_eq!(missed.next_portion(), Some(Some(40)));
        // What is missed meanwhile may be of a row that was seen already.
        note(MOST + 1);
        missed.is_swept_up_to(None);
        assert_eq!(missed.next_portion(), Some(None));
        missed.is_swept_up_to(None);
        assert_eq!(missed.next_portion(), None);
    }
}
