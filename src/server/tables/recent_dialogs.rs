//! The dialogs made last, where subscriptions live in the database only: a SUBSCRIBE that comes again finds its row,
//! and all others need not be looked for.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many are remembered: 8 bytes each. One is forgotten when another falls on its place; the database then refuses
/// the second row of its dialog.
const PLACES: usize = 4096;

/// Whether there is room to remember anything in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// There is, from the start.
    Reserved,
    /// There is none, and nothing is remembered.
    None,
}

/// The hashes of dialogs, in shared memory.
pub struct RecentDialogs(ShmVec<AtomicU64>);

impl RecentDialogs {
    /// None yet; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(room: Places) -> Result<RecentDialogs, NoMemory> {
        let mut places = ShmVec::new_in(Shm);
        if room == Places::Reserved {
            places.try_reserve_exact(PLACES).map_err(|_| NoMemory)?;
            places.extend((0..PLACES).map(|_| AtomicU64::new(0)));
        }
        Ok(RecentDialogs(places))
    }

    fn place(&self, hash: u64) -> Option<&AtomicU64> {
        self.0.get(hash as usize % PLACES)
    }

    /// Remembers a dialog; `true` when it was remembered already: another process makes it, or has made it.
    pub fn note(&self, hash: u64) -> bool {
        self.place(hash).is_some_and(|place| place.swap(hash, Ordering::Relaxed) == hash)
    }

    /// Forgets what was noted; `true` when it was remembered until now: of several processes one alone is answered so.
    pub fn take(&self, hash: u64) -> bool {
        let taken = |place: &AtomicU64| place.compare_exchange(hash, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        self.place(hash).is_some_and(taken)
    }

    /// Whether a dialog may have been made here lately; `false` where that is not known.
    pub fn may_have(&self, hash: u64) -> bool {
        self.place(hash).is_some_and(|place| place.load(Ordering::Relaxed) == hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_last_is_known() {
        let recent = RecentDialogs::new(Places::Reserved).unwrap();
        assert!(!recent.note(7) && recent.note(7));
        assert!(recent.may_have(7) && !recent.may_have(8));
        assert!(!recent.note(7 + PLACES as u64));
        assert!(!recent.may_have(7));
        assert!(!recent.note(9) && recent.take(9) && !recent.take(9) && !recent.may_have(9));
        let none = RecentDialogs::new(Places::None).unwrap();
        assert!(!none.note(7) && !none.note(7));
        assert!(!none.may_have(7));
    }
}
