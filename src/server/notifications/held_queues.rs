//! The resources for which an entry from the host sends. Each has its queue marked as busy, so that nobody else sends
//! for it; what is dropped here without having been let go of, as after a panic, is open again and tried once more by
//! the timer.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::presence::resource::Resource;
use crate::server::notifications::unread::{MOST_UNREAD, UnreadResources, waiting_in};
use crate::server::tables::Tables;
use crate::server::tables::resource_entry::DueNotify;
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicBool, Ordering};

/// Resources whose sending was broken off, by hash.
pub struct Interrupted {
    named: Lock<ShmVec<u64>>,
    /// There are others, which something is due for and nobody sends.
    has_more: AtomicBool,
}

shm_safe!(Interrupted { named, has_more });

impl Interrupted {
    /// None is; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<Interrupted, NoMemory> {
        let mut list = ShmVec::new_in(Shm);
        // Room from the start: it is needed when things go wrong.
        list.try_reserve_exact(MOST_UNREAD).map_err(|_| NoMemory)?;
        Ok(Interrupted { named: Lock::new(list), has_more: AtomicBool::new(false) })
    }

    fn add(&self, hash: u64) {
        let mut list = self.named.lock();
        if list.contains(&hash) {
            return;
        }
        if list.len() >= MOST_UNREAD {
            return self.has_more.store(true, Ordering::Relaxed);
        }
        list.push(hash);
    }

    /// One that waits, taken off the list.
    pub fn take(&self) -> Option<u64> {
        self.named.lock().pop()
    }

    /// Looks for those that could not be named, once all others have been tried: whatever is due and nobody sends.
    pub fn find_more(&self, tables: &Tables) {
        if !self.is_empty() || !self.has_more.swap(false, Ordering::Relaxed) {
            return;
        }
        waiting_in(tables, |hash| {
            self.add(hash);
            !self.has_more.load(Ordering::Relaxed)
        });
    }

    /// How many wait by name.
    pub fn len(&self) -> usize {
        self.named.lock().len()
    }

    /// Whether none waits by name.
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

    /// `true` when it was there.
    fn remove(&mut self, hash: u64) -> bool {
        if let Some(at) = self.more.iter().rposition(|known| *known == hash) {
            self.more.swap_remove(at);
            return true;
        }
        self.one.take_if(|one| *one == hash).is_some()
    }

    fn take(&mut self) -> impl Iterator<Item = u64> + use<> {
        self.one.take().into_iter().chain(std::mem::take(&mut self.more))
    }
}

/// What this entry holds.
pub struct HeldQueues {
    tables: &'static Tables,
    interrupted: &'static Interrupted,
    unread: &'static UnreadResources,
    held: Hashes,
    /// Something is due for these, and the entry will take them unless somebody else does.
    marked: Hashes,
    /// What breaks off now was broken off before: it waits for the next change.
    tries_again: bool,
}

impl HeldQueues {
    /// Holds no queue yet.
    pub fn new(
        tables: &'static Tables,
        interrupted: &'static Interrupted,
        unread: &'static UnreadResources,
    ) -> HeldQueues {
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

    /// Something went wrong for a resource, which may be in other hands: all its watchers learn of its state once more.
    pub fn break_off_all(&mut self, resource: &Resource) {
        self.marked.remove(resource.hash);
        let is_held = self.held.remove(resource.hash);
        if let Some(entry) = self.tables.shard(resource.hash).entry_by_hash(resource.hash) {
            entry.generation = entry.generation.wrapping_add(1);
            entry.due.add(DueNotify::Something);
        }
        match is_held {
            true => self.open(resource.hash),
            false => self.interrupted.add(resource.hash),
        }
    }

    /// Something is due for a resource again, which may be in other hands.
    pub fn try_again(&self, hash: u64) {
        self.interrupted.add(hash);
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
            entry.due.add(DueNotify::Something);
            // The list of the watchers that changed went with what was broken off.
            entry.due.add(DueNotify::FullList);
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
            // Which of its watchers were counted up and sent nothing is not known: all learn of the state once more.
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
    use crate::server::tables::Sharing;
    use crate::server::tables::resource_entry::Documents;
    use crate::server::tables::watcher_counts::Counting;
    use crate::time::Instant;

    #[test]
    fn more_resources_wait_than_can_be_named() {
        let rule = UriComparison { ignore_case: false, seed: 7 };
        let tables: &'static Tables =
            Box::leak(Box::new(Tables::new(rule, Counting::PerWatcher, Sharing::None).unwrap()));
        let (again, unread) = (Interrupted::new().unwrap(), UnreadResources::new().unwrap());
        let (again, unread) = (&*Box::leak(Box::new(again)), &*Box::leak(Box::new(unread)));
        let mut held = HeldQueues::new(tables, again, unread);
        let count = 2 * MOST_UNREAD + 100;
        for n in 0..count {
            let resource = rule.resource(format!("sip:{n}@example.org").as_bytes(), PackageId(0));
            let documents = Documents::Known(ShmVec::new_in(Shm));
            tables.shard(resource.hash).entry_or_new(rule, &resource, documents).unwrap().busy = true;
            held.hold(resource.hash);
            held.leave_unread(&resource);
        }
        assert_eq!((unread.len(), again.len()), (MOST_UNREAD, 0));
        let mut found = 0;
        for second in 0..8 {
            let mut pass = unread.begin_pass(tables, Instant::at(second * 1_000));
            // The state can be read again: what is due is sent.
            while let Some(hash) = unread.next(&mut pass) {
                let mut shard = tables.shard(hash);
                let entry = shard.entry_by_hash(hash).unwrap();
                assert!(entry.due.contains(DueNotify::Something) && !entry.busy);
                entry.due = Default::default();
                drop(shard);
                unread.is_read(hash);
                found += 1;
            }
        }
        assert_eq!(found, count);
        // What others have in their hands is left to them.
        let resource = rule.resource(b"sip:0@example.org", PackageId(0));
        let mut shard = tables.shard(resource.hash);
        let entry = shard.entry(rule, &resource).unwrap();
        entry.busy = true;
        entry.due.add(DueNotify::Something);
        drop(shard);
        let again = Interrupted::new().unwrap();
        again.has_more.store(true, Ordering::Relaxed);
        again.find_more(tables);
        assert!(again.is_empty());
    }

    #[test]
    fn what_was_marked_and_never_taken_is_tried_again() {
        let rule = UriComparison { ignore_case: false, seed: 7 };
        let resources = [b"sip:a@example.org", b"sip:b@example.org"].map(|uri| rule.resource(uri, PackageId(0)));
        // What the entry does with the second resource before it ends, and what is tried again then.
        for (step, expected) in [("claims", vec![0]), ("holds", vec![0, 1]), ("marks", vec![0, 1])] {
            let tables: &'static Tables =
                Box::leak(Box::new(Tables::new(rule, Counting::PerWatcher, Sharing::None).unwrap()));
            let (again, unread) = (Interrupted::new().unwrap(), UnreadResources::new().unwrap());
            let (again, unread) = (&*Box::leak(Box::new(again)), &*Box::leak(Box::new(unread)));
            for resource in &resources {
                let documents = Documents::Known(ShmVec::new_in(Shm));
                let mut shard = tables.shard(resource.hash);
                shard.entry_or_new(rule, resource, documents).unwrap().due.add(DueNotify::Something);
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
