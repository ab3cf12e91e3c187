//! The resources for which an entry from the host sends. Each has its queue marked as busy, so that nobody else sends
//! for it;
//! what is dropped here without having been let go of, as after a panic, is open again and tried once more by the
//! timer.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::presence::resource::Resource;
use crate::server::tables::Tables;
use crate::server::tables::resource_entry::Due;
use crate::shm_safe::shm_safe;

/// How many resources may wait to be tried again; further ones wait for their next change.
const MOST: usize = 1024;

/// Resources whose sending was broken off, by hash.
pub struct Interrupted(Lock<ShmVec<u64>>);

shm_safe!(Interrupted(value));

impl Interrupted {
    /// None is; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<Interrupted, NoMemory> {
        let mut list = ShmVec::new_in(Shm);
        // Room from the start: it is needed when things go wrong.
        list.try_reserve_exact(MOST).map_err(|_| NoMemory)?;
        Ok(Interrupted(Lock::new(list)))
    }

    fn add(&self, hash: u64) {
        let mut list = self.0.lock();
        if list.len() < MOST && !list.contains(&hash) {
            list.push(hash);
        }
    }

    /// One that waits, taken off the list.
    pub fn take(&self) -> Option<u64> {
        self.0.lock().pop()
    }

    /// Leaves one that was taken for later: the others are tried before it.
    pub fn put_back(&self, hash: u64) {
        let mut list = self.0.lock();
        if list.len() < MOST && !list.contains(&hash) {
            list.insert(0, hash);
        }
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

/// A few resources, by hash.
#[derive(Default)]
struct Hashes {
    /// The one that most entries have; further ones are in `more`.
    one: Option<u64>,
    more: Vec<u64>,
}

impl Hashes {
    fn add(&mut self, hash: u64) {
        match self.one {
            None => self.one = Some(hash),
            Some(_) => self.more.push(hash),
        }
    }

    fn remove(&mut self, hash: u64) {
        if let Some(at) = self.more.iter().rposition(|known| *known == hash) {
            self.more.swap_remove(at);
        } else if self.one == Some(hash) {
            self.one = None;
        }
    }

    fn take(&mut self) -> impl Iterator<Item = u64> + use<> {
        self.one.take().into_iter().chain(std::mem::take(&mut self.more))
    }
}

/// What this entry holds.
pub struct HeldQueues {
    tables: &'static Tables,
    interrupted: &'static Interrupted,
    unread: &'static Interrupted,
    held: Hashes,
    /// Something is due for these, and the entry will take them unless somebody else does.
    marked: Hashes,
    /// What breaks off now was broken off before: it waits for the next change.
    tries_again: bool,
}

impl HeldQueues {
    /// Nothing is held.
    pub fn new(tables: &'static Tables, interrupted: &'static Interrupted, unread: &'static Interrupted) -> HeldQueues {
        HeldQueues {
            tables,
            interrupted,
            unread,
            held: Hashes::default(),
            marked: Hashes::default(),
            tries_again: false,
        }
    }

    /// From now on nothing is tried a third time.
    pub fn trying_again(&mut self) {
        self.tries_again = true;
    }

    /// Whether what breaks off now is tried again.
    pub fn may_try_again(&self) -> bool {
        !self.tries_again
    }

    /// The queue of this resource was marked as busy for this entry.
    pub fn hold(&mut self, hash: u64) {
        self.held.add(hash);
    }

    /// Something is due for this resource, and this entry takes it once it has answered.
    pub fn mark(&mut self, hash: u64) {
        self.marked.add(hash);
    }

    /// The entry has come to take it.
    pub fn unmark(&mut self, hash: u64) {
        self.marked.remove(hash);
    }

    /// The queue was opened, or handed to another process.
    pub fn forget(&mut self, hash: u64) {
        self.held.remove(hash);
    }

    /// Opens the queue of a resource and leaves it as one for which something is due.
    pub fn break_off(&mut self, resource: &Resource) {
        self.forget(resource.hash);
        self.open(resource.hash);
    }

    /// Opens the queue of a resource whose state cannot be read, and leaves it as one for which something is due.
    pub fn leave_unread(&mut self, resource: &Resource) {
        self.forget(resource.hash);
        self.mark_due(resource.hash);
        self.unread.add(resource.hash);
    }

    fn mark_due(&self, hash: u64) {
        if let Some(entry) = self.tables.shard(hash).entry_by_hash(hash) {
            entry.busy = false;
            entry.due.add(Due::Something);
            // The list of the watchers that changed went with what was broken off.
            entry.due.add(Due::FullList);
        }
    }

    fn open(&self, hash: u64) {
        self.mark_due(hash);
        if !self.tries_again {
            self.interrupted.add(hash);
        }
    }
}

impl Drop for HeldQueues {
    fn drop(&mut self) {
        for hash in self.marked.take() {
            self.interrupted.add(hash);
        }
        for hash in self.held.take() {
            // Which of its watchers were counted up and sent nothing is not known: all hear of the state once more.
            if let Some(entry) = self.tables.shard(hash).entry_by_hash(hash) {
                entry.generation = entry.generation.wrapping_add(1);
            }
            self.open(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::resource::UriComparison;
    use crate::server::tables::resource_entry::Documents;

    #[test]
    fn what_was_marked_and_never_taken_is_tried_again() {
        let rule = UriComparison { ignore_case: false, seed: 7 };
        let resources = [b"sip:a@example.org", b"sip:b@example.org"].map(|uri| rule.resource(uri, PackageId(0)));
        // What the entry does with the second resource before it ends, and what is tried again then.
        for (step, expected) in [("claims", vec![0]), ("holds", vec![0, 1]), ("marks", vec![0, 1])] {
            let tables: &'static Tables = Box::leak(Box::new(Tables::new(rule, true, false).unwrap()));
            let (again, unread) = (Interrupted::new().unwrap(), Interrupted::new().unwrap());
            let (again, unread) = (&*Box::leak(Box::new(again)), &*Box::leak(Box::new(unread)));
            for resource in &resources {
                let documents = Documents::Known(ShmVec::new_in(Shm));
                let mut shard = tables.shard(resource.hash);
                shard.entry_or_new(rule, resource, documents).unwrap().due.add(Due::Something);
            }
            let mut held = HeldQueues::new(tables, again, unread);
            held.mark(resources[0].hash);
            held.mark(resources[1].hash);
            if step != "marks" {
                held.unmark(resources[1].hash);
                held.hold(resources[1].hash);
            }
            if step == "claims" {
                held.forget(resources[1].hash);
            }
            drop(held);
            let mut left: Vec<u64> = std::iter::from_fn(|| again.take()).collect();
            let mut wanted: Vec<u64> = expected.iter().map(|at: &usize| resources[*at].hash).collect();
            left.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(left, wanted, "{step}");
            assert!(unread.is_empty());
        }
    }
}
