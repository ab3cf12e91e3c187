//! The slots of the subscriptions to a resource: most resources have few, which need no memory of their own.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::shm_safe::shm_safe;

/// How many slots lie within the list itself.
const FEW: usize = 3;

/// A list of slots.
pub enum SlotVec {
    /// How many of these there are.
    Few([u32; FEW], u8),
    /// A list that outgrew its place.
    Many(ShmBox<ShmVec<u32>>),
}

shm_safe!(
    enum SlotVec {
        Few(first, second),
        Many(value),
    }
);

impl Default for SlotVec {
    fn default() -> Self {
        SlotVec::Few([0; FEW], 0)
    }
}

impl std::ops::Deref for SlotVec {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        match self {
            SlotVec::Few(slots, count) => &slots[..usize::from(*count)],
            SlotVec::Many(slots) => slots.as_slice(),
        }
    }
}

impl SlotVec {
    /// Appends a slot; nothing is changed when memory runs out.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn push(&mut self, slot: u32) -> Result<(), NoMemory> {
        match self {
            SlotVec::Few(slots, count) if usize::from(*count) < FEW => {
                slots[usize::from(*count)] = slot;
                *count += 1;
                Ok(())
            }
            SlotVec::Few(slots, _) => {
                let mut many = ShmVec::new_in(Shm);
                many.try_reserve(2 * FEW).map_err(|_| NoMemory)?;
                many.extend_from_slice(slots);
                many.push(slot);
                *self = SlotVec::Many(shm::boxed(many)?);
                Ok(())
            }
            SlotVec::Many(slots) => shm::push(slots, slot),
        }
    }

    /// Takes the slot at a place away; the last one takes its place.
    pub fn swap_remove(&mut self, place: usize) {
        match self {
            SlotVec::Few(slots, count) => {
                *count -= 1;
                slots[place] = slots[usize::from(*count)];
            }
            SlotVec::Many(slots) => {
                slots.swap_remove(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn few_and_many_behave_alike() {
        let before = fake::live_blocks();
        let (mut slots, mut wanted) = (SlotVec::default(), Vec::new());
        for slot in 0..40 {
            slots.push(slot).unwrap();
            wanted.push(slot);
            assert_eq!(&slots[..], &wanted[..]);
            assert_eq!(fake::live_blocks() > before, wanted.len() > FEW);
        }
        while let Some(place) = wanted.len().checked_sub(3) {
            slots.swap_remove(place);
            wanted.swap_remove(place);
            assert_eq!(&slots[..], &wanted[..]);
        }
        drop(slots);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_the_list_stays_as_it_was() {
        for n in 0..2 {
            let mut slots = SlotVec::default();
            (0..FEW as u32).for_each(|slot| slots.push(slot).unwrap());
            let (done, failed) = fake::failing_at(n, || slots.push(99));
            assert!(failed && done.is_err());
            assert_eq!(&slots[..], [0, 1, 2]);
        }
    }
}
