//! Changes of which not all watchers could be notified where subscriptions are rows (database-only mode): their rows
//! could not be read, marked or counted up. The timer notifies the watchers of the resource again.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::event_package::PackageId;
use crate::presence::resource::Resource;
use crate::shm_safe::shm_safe;

/// How many resources may wait; the watchers of further ones are notified of the next change.
const MOST: usize = 1024;

struct Missed {
    uri: ShmBox<[u8]>,
    event: PackageId,
}

shm_safe!(Missed { uri, event });

/// The resources that wait, in shared memory.
pub struct MissedChanges(Lock<ShmVec<Missed>>);

shm_safe!(MissedChanges(value));

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
        Ok(MissedChanges(Lock::new(list)))
    }

    /// Not all watchers of a resource could be notified; `false`: it cannot be remembered.
    pub fn note(&self, resource: &Resource) -> bool {
        let Ok(uri) = shm::copy(&resource.uri) else { return false };
        let mut list = self.0.lock();
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
        let mut list = self.0.lock();
        let first = if list.is_empty() { None } else { Some(list.remove(0)) };
        first.map(|missed| (missed.uri.to_vec(), missed.event))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
            assert!(missed.note(&resource(name, event)));
        }
        let taken: Vec<_> = std::iter::from_fn(|| missed.take()).collect();
        let expected = [("sip:a@b", 1), ("sip:b@b", 1), ("sip:a@b", 2)];
        assert_eq!(taken, expected.map(|(name, event)| (name.as_bytes().to_vec(), PackageId(event))));
        for n in 0..MOST {
            assert!(missed.note(&resource(&format!("sip:{n}@b"), 1)));
        }
        assert!(!missed.note(&resource("sip:more@b", 1)) && missed.note(&resource("sip:0@b", 1)));
        assert_eq!((missed.len(), missed.is_empty()), (MOST, false));
    }
}
