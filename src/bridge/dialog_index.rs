//! Where the subscription of each dialog is, by the hash of the dialog. Its locks are innermost: they may be taken while a shard
//! of the tables is locked, and no shard is locked while one of them is held.
use crate::host::shm::{NoMemory, Shm, ShmVec};
use crate::host::sync::{Guard, Lock};
use hashbrown::HashTable;

/// The slot of a subscription that is on its way into its shard.
const NOT_YET: u32 = u32::MAX;

/// Where the subscription of a dialog is.
#[derive(Clone, Copy)]
pub struct Place {
    hash: u64,
    /// Its shard.
    pub shard: u32,
    /// Its slot there.
    pub slot: u32,
}

type Part = HashTable<Place, Shm>;

/// The places of all dialogs.
pub struct DialogIndex(ShmVec<Lock<Part>>);

impl DialogIndex {
    /// An empty one.
    pub fn new() -> Result<DialogIndex, NoMemory> {
        let mut parts = ShmVec::new_in(Shm);
        parts.try_reserve_exact(super::tables::SHARDS).map_err(|_| NoMemory)?;
        for _ in 0..super::tables::SHARDS {
            let mut part = Part::new_in(Shm);
            part.try_reserve(super::tables::FIRST, |place| place.hash).map_err(|_| NoMemory)?;
            parts.push(Lock::new(part));
        }
        Ok(DialogIndex(parts))
    }

    fn part(&self, hash: u64) -> Guard<'_, Part> {
        self.0[super::tables::index(hash)].lock()
    }

    /// The place of a dialog.
    pub fn find(&self, hash: u64) -> Option<Place> {
        self.part(hash).find(hash, |place| place.hash == hash).copied()
    }

    /// Notes in which shard a dialog is going to live, so that its slot can be set without fail.
    pub fn announce(&self, hash: u64, shard: u32) -> Result<(), NoMemory> {
        let mut part = self.part(hash);
        if part.find(hash, |place| place.hash == hash).is_some() {
            return Ok(());
        }
        part.try_reserve(1, |place| place.hash).map_err(|_| NoMemory)?;
        part.insert_unique(hash, Place { hash, shard, slot: NOT_YET }, |place| place.hash);
        Ok(())
    }

    /// Notes the slot of an announced dialog.
    pub fn set_slot(&self, hash: u64, slot: u32) {
        if let Some(place) = self.part(hash).find_mut(hash, |place| place.hash == hash) {
            place.slot = slot;
        }
    }

    /// Forgets a dialog.
    pub fn remove(&self, hash: u64) {
        if let Ok(entry) = self.part(hash).find_entry(hash, |place| place.hash == hash) {
            entry.remove();
        }
    }
}
