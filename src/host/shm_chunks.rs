//! A list in shared memory that grows by chunks, up to a bound, while every process reads it: what is in it stays where
//! it is.
use super::no_memory::NoMemory;
use super::shm::{self, Shm, ShmBox, ShmVec};
use crate::shm_safe::ShmSafe;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Values that are added by any process and never removed.
pub struct AppendOnlyList<T> {
    places: ShmVec<AtomicPtr<T>>,
    made: AtomicUsize,
}

// SAFETY: the places lead to values that were made in shared memory.
unsafe impl<T: ShmSafe> ShmSafe for AppendOnlyList<T> {}

impl<T: ShmSafe> AppendOnlyList<T> {
    /// An empty list with room for `bound` values; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(bound: usize) -> Result<AppendOnlyList<T>, NoMemory> {
        let mut places = ShmVec::new_in(Shm);
        places.try_reserve_exact(bound).map_err(|_| NoMemory)?;
        (0..bound).for_each(|_| places.push(AtomicPtr::new(std::ptr::null_mut())));
        Ok(AppendOnlyList { places, made: AtomicUsize::new(0) })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.made.load(Ordering::Acquire)
    }

    /// Whether there is no value yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value.
    pub fn get(&self, at: usize) -> Option<&T> {
        let value = self.places.get(at)?.load(Ordering::Acquire);
        // SAFETY: what is put into a place is a whole value in shared memory that nothing moves or frees while the list
        // lives, and is only ever shared.
        unsafe { value.as_ref() }
    }

    /// Adds a value. `false`: the list is full. Where another process adds one at the same time there is one more all
    /// the same.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out or `make` fails; the list is as before.
    pub fn grow(&self, make: impl FnOnce() -> Result<T, NoMemory>) -> Result<bool, NoMemory> {
        let at = self.len();
        let Some(place) = self.places.get(at) else { return Ok(false) };
        let (value, _) = ShmBox::into_raw_with_allocator(shm::boxed(make()?)?);
        if place.compare_exchange(std::ptr::null_mut(), value, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: made above and shown to nobody.
            drop(unsafe { ShmBox::from_raw_in(value, Shm) });
        }
        // A process that put a value there and was stopped before it counted it does not keep it from being used.
        let _ = self.made.compare_exchange(at, at + 1, Ordering::AcqRel, Ordering::Acquire);
        Ok(true)
    }
}

impl<T> Drop for AppendOnlyList<T> {
    fn drop(&mut self) {
        for place in &mut self.places {
            let value = std::mem::replace(place.get_mut(), std::ptr::null_mut());
            if !value.is_null() {
                // SAFETY: put there by `grow`, and nobody shares the list any more.
                drop(unsafe { ShmBox::from_raw_in(value, Shm) });
            }
        }
    }
}

// SAFETY: the list hands out shared references only, across processes as across threads.
unsafe impl<T: Sync + Send> Sync for AppendOnlyList<T> {}
// SAFETY: its chunks are in shared memory, which belongs to no thread, and what they hold may be sent.
unsafe impl<T: Sync + Send> Send for AppendOnlyList<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn it_grows_up_to_its_bound_and_gives_all_back() {
        let before = fake::live_blocks();
        let list = AppendOnlyList::new(2).unwrap();
        assert!(list.is_empty() && list.get(0).is_none() && list.get(9).is_none());
        for n in 0..2 {
            assert_eq!(list.grow(|| Ok(n)), Ok(true));
        }
        assert_eq!(list.grow(|| Ok(7)), Ok(false));
        assert_eq!((list.len(), list.get(0), list.get(1), list.get(2)), (2, Some(&0), Some(&1), None));
        drop(list);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn no_memory_leaves_it_as_it_is() {
        let list = AppendOnlyList::new(2).unwrap();
        let (grown, failed) = fake::failing_at(0, || list.grow(|| Ok(1u64)));
        assert!(failed && grown == Err(NoMemory) && list.is_empty());
        assert_eq!(list.grow(|| Err(NoMemory)), Err(NoMemory));
        assert_eq!(list.grow(|| Ok(1)), Ok(true));
    }
}
