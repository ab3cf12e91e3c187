//! A ring of entries of one size in shared memory: the newest takes the place of the oldest.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::shm_safe::{ShmSafe, shm_safe};

/// The last `size` entries.
pub struct Ring<E> {
    entries: ShmVec<E>,
    size: usize,
    /// How many there have been.
    count: usize,
}

shm_safe!([E: ShmSafe] Ring<E> { entries, size, count });

/// Numbers of entries begin anew after this one, so that they and what goes with them fit a word.
const LAST_NUMBER: usize = (1 << 28) - 1;

impl<E: Copy> Ring<E> {
    /// Room for `size` entries, taken now.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(size: usize) -> Result<Ring<E>, NoMemory> {
        let mut entries = ShmVec::new_in(Shm);
        entries.try_reserve_exact(size).map_err(|_| NoMemory)?;
        Ok(Ring { entries, size, count: 0 })
    }

    /// Adds an entry that is written in its place: over the oldest one, or over `empty` while there is room; returns
    /// its number. A ring of no size forgets it at once.
    pub fn push_with(&mut self, empty: impl FnOnce() -> E, write: impl FnOnce(&mut E)) -> usize {
        let number = self.count & LAST_NUMBER;
        if self.size > 0 {
            let place = self.count % self.size;
            self.count += 1;
            if place == self.entries.len() {
                // The room was reserved.
                self.entries.push(empty());
            }
            if let Some(entry) = self.entries.get_mut(place) {
                write(entry);
            }
        }
        number
    }

    /// The entry with this number, while it is kept.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut E> {
        let age = self.count.wrapping_sub(number) & LAST_NUMBER;
        if age == 0 || age > self.entries.len() {
            return None;
        }
        self.entries.get_mut((self.count - age) % self.size)
    }

    /// A copy of all of them, the oldest first.
    pub fn to_vec(&self) -> Vec<E> {
        let start = if self.entries.len() < self.size { 0 } else { self.count % self.size.max(1) };
        let (newer, older) = self.entries.split_at(start);
        [older, newer].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<E: Copy> Ring<E> {
        fn push(&mut self, entry: E) -> usize {
            self.push_with(|| entry, |place| *place = entry)
        }
    }

    #[test]
    fn it_keeps_the_newest_in_order() {
        let mut ring = Ring::new(3).unwrap();
        for n in 0..5 {
            assert_eq!(ring.push(n), n);
            assert_eq!(ring.to_vec(), (n.saturating_sub(2)..=n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_written_in_place_is_what_is_pushed() {
        let (mut pushed, mut written) = (Ring::new(3).unwrap(), Ring::new(3).unwrap());
        for n in 0..7 {
            assert_eq!(pushed.push(n), written.push_with(|| 100, |entry| *entry = n));
            assert_eq!(pushed.to_vec(), written.to_vec());
        }
        assert_eq!(Ring::new(0).unwrap().push_with(|| 1, |_| panic!("there is no room")), 0);
    }

    #[test]
    fn an_entry_is_found_by_its_number_while_it_is_kept() {
        let mut ring = Ring::new(2).unwrap();
        assert_eq!(ring.get_mut(0), None);
        for n in [10, 11, 12] {
            ring.push(n);
        }
        assert_eq!([0, 1, 2, 3].map(|n| ring.get_mut(n).copied()), [None, Some(11), Some(12), None]);
    }

    #[test]
    fn numbers_begin_anew_and_still_lead_to_their_entries() {
        let mut ring = Ring::new(3).unwrap();
        ring.count = LAST_NUMBER - 2;
        // As if it had been full all the time.
        (0..3).for_each(|_| ring.entries.push(0));
        let numbers: Vec<usize> = (1..=6).map(|n| ring.push(n)).collect();
        assert_eq!(numbers[2..5], [LAST_NUMBER, 0, 1]);
        let found: Vec<_> = numbers.iter().map(|number| ring.get_mut(*number).copied()).collect();
        assert_eq!(found, [None, None, None, Some(4), Some(5), Some(6)]);
        assert_eq!(ring.to_vec(), [4, 5, 6]);
    }

    #[test]
    fn a_ring_of_no_size_keeps_nothing() {
        let mut ring = Ring::new(0).unwrap();
        let number = ring.push(1);
        assert!(ring.get_mut(number).is_none() && ring.to_vec().is_empty());
    }
}
