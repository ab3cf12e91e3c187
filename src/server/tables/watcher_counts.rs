//! How many subscriptions each watcher has, by the hash of the watcher, where that is limited (`max_subscriptions`).
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox};
use crate::shm_safe::shm_safe;
use hashbrown::HashTable;

struct WatcherCount {
    hash: u64,
    count: usize,
}

shm_safe!(WatcherCount { hash, count });

/// Whether the subscriptions of each watcher are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// The subscriptions of each watcher are counted, because they are limited.
    PerWatcher,
    /// Nobody's.
    Off,
}

/// The counts; none where nothing is limited.
pub struct WatcherCounts(Option<ShmBox<Lock<HashTable<WatcherCount, Shm>>>>);

impl WatcherCounts {
    /// No subscription is counted yet.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(counting: Counting) -> Result<WatcherCounts, NoMemory> {
        Ok(WatcherCounts(match counting {
            Counting::PerWatcher => Some(shm::boxed(Lock::new(HashTable::new_in(Shm)))?),
            Counting::Off => None,
        }))
    }

    /// Whether anything is counted.
    pub fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// A watcher has one subscription more; nothing is counted without memory.
    pub fn add(&self, hash: u64) {
        let Some(table) = &self.0 else { return };
        let mut table = table.lock();
        if let Some(entry) = table.find_mut(hash, |entry| entry.hash == hash) {
            entry.count += 1;
        } else if table.try_reserve(1, |entry| entry.hash).is_ok() {
            table.insert_unique(hash, WatcherCount { hash, count: 1 }, |entry| entry.hash);
        }
    }

    /// A watcher has one subscription less.
    pub fn subtract(&self, hash: u64) {
        let Some(table) = &self.0 else { return };
        if let Ok(mut entry) = table.lock().find_entry(hash, |entry| entry.hash == hash) {
            entry.get_mut().count -= 1;
            if entry.get().count == 0 {
                entry.remove();
            }
        }
    }

    /// How many subscriptions a watcher has.
    pub fn count_of(&self, hash: u64) -> usize {
        let Some(table) = &self.0 else { return 0 };
        table.lock().find(hash, |entry| entry.hash == hash).map_or(0, |entry| entry.count)
    }
}
