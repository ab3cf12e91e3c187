//! Where the subscription of each dialog is, by the hash of the dialog. Its locks are innermost: they may be taken
//! while a shard of the tables is locked, and no shard is locked while one of them is held.
use crate::host::lock::{Guard, Lock};
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::server::tables::sharding::{FIRST, SHARDS, index};
use crate::shm_safe::shm_safe;
use hashbrown::HashTable;

/// The slot of a subscription that is on its way into its shard: beyond all that a shard may have.
const NOT_YET: u32 = SLOTS - 1;

/// How many slots there may be in a shard.
const SLOTS: u32 = 1 << 24;

/// Where the subscription of a dialog is.
#[derive(Clone, Copy)]
pub struct Place {
    /// The dialog's shard.
    pub shard: u32,
    /// The dialog's slot there.
    pub slot: u32,
}

/// A dialog and its place, in twelve bytes: there is one for each subscription.
#[derive(Clone, Copy)]
struct DialogEntry {
    hash: [u32; 2],
    /// Shard and slot.
    place: u32,
}

shm_safe!(DialogEntry { hash, place });

impl DialogEntry {
    fn new(hash: u64, place: Place) -> DialogEntry {
        DialogEntry { hash: [(hash >> 32) as u32, hash as u32], place: place.shard * SLOTS + place.slot.min(NOT_YET) }
    }

    fn hash(&self) -> u64 {
        (u64::from(self.hash[0]) << 32) | u64::from(self.hash[1])
    }

    fn place(&self) -> Place {
        Place { shard: self.place / SLOTS, slot: self.place % SLOTS }
    }
}

type DialogTable = HashTable<DialogEntry, Shm>;

/// The places of all dialogs.
pub struct DialogIndex(ShmVec<Lock<DialogTable>>);

impl DialogIndex {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<DialogIndex, NoMemory> {
        let mut parts = ShmVec::new_in(Shm);
        parts.try_reserve_exact(SHARDS).map_err(|_| NoMemory)?;
        for _ in 0..SHARDS {
            let mut part = DialogTable::new_in(Shm);
            part.try_reserve(FIRST, DialogEntry::hash).map_err(|_| NoMemory)?;
            parts.push(Lock::new(part));
        }
        Ok(DialogIndex(parts))
    }

    fn part(&self, hash: u64) -> Guard<'_, DialogTable> {
        self.0[index(hash)].lock()
    }

    /// The place of a dialog.
    pub fn find(&self, hash: u64) -> Option<Place> {
        self.part(hash).find(hash, |entry| entry.hash() == hash).map(DialogEntry::place)
    }

    /// Notes in which shard a dialog is going to live, so that its slot can be set without fail; `false` when the
    /// dialog is known, and nothing is changed.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out; nothing is noted then.
    pub fn announce(&self, hash: u64, shard: u32) -> Result<bool, NoMemory> {
        let mut part = self.part(hash);
        if part.find(hash, |entry| entry.hash() == hash).is_some() {
            return Ok(false);
        }
        part.try_reserve(1, DialogEntry::hash).map_err(|_| NoMemory)?;
        part.insert_unique(hash, DialogEntry::new(hash, Place { shard, slot: NOT_YET }), DialogEntry::hash);
        Ok(true)
    }

    /// Notes the slot of an announced dialog.
    pub fn set_slot(&self, hash: u64, slot: u32) {
        if let Some(entry) = self.part(hash).find_mut(hash, |entry| entry.hash() == hash) {
            *entry = DialogEntry::new(hash, Place { slot, ..entry.place() });
        }
    }

    /// Forgets a dialog.
    pub fn remove(&self, hash: u64) {
        if let Ok(entry) = self.part(hash).find_entry(hash, |entry| entry.hash() == hash) {
            entry.remove();
        }
    }
}
