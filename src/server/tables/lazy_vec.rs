//! Lists that are empty nearly always: one word while they are.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::shm_safe::{ShmSafe, shm_safe};

/// A list in shared memory that takes one word while nothing was ever put into it.
pub struct LazyVec<T>(Option<ShmBox<ShmVec<T>>>);

shm_safe!([T: ShmSafe] LazyVec<T>(value));

impl<T> Default for LazyVec<T> {
    fn default() -> Self {
        LazyVec(None)
    }
}

impl<T> std::ops::Deref for LazyVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |list| list.as_slice())
    }
}

impl<T> std::ops::DerefMut for LazyVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_mut().map_or(&mut [], |list| list.as_mut_slice())
    }
}

impl<T: ShmSafe> LazyVec<T> {
    /// Makes room for `more` elements, so that they can be pushed without fail.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn try_reserve(&mut self, more: usize) -> Result<(), NoMemory> {
        if more == 0 {
            return Ok(());
        }
        let list = match &mut self.0 {
            Some(list) => list,
            none => none.insert(shm::boxed(ShmVec::new_in(Shm))?),
        };
        list.try_reserve(more).map_err(|_| NoMemory)
    }

    /// Appends; nothing is changed when memory runs out.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn push(&mut self, value: T) -> Result<(), NoMemory> {
        self.try_reserve(1)?;
        if let Some(list) = &mut self.0 {
            list.push(value);
        }
        Ok(())
    }

    /// Takes all of them.
    pub fn take(&mut self) -> LazyVec<T> {
        std::mem::take(self)
    }

    /// Takes the last `count` elements, in their order.
    pub fn take_last(&mut self, count: usize) -> Vec<T> {
        let Some(list) = self.0.as_mut() else { return Vec::new() };
        let first = list.len().saturating_sub(count);
        let taken = list.drain(first..).collect();
        if list.is_empty() {
            self.0 = None;
        }
        taken
    }

    /// Takes the first that is `wanted`.
    pub fn take_where(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let list = self.0.as_mut()?;
        let at = list.iter().position(wanted)?;
        let taken = list.remove(at);
        if list.is_empty() {
            self.0 = None;
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn nothing_is_left_of_a_list_that_was_taken() {
        let before = fake::live_blocks();
        let mut list = LazyVec::default();
        assert_eq!(size_of::<LazyVec<[u64; 20]>>(), size_of::<usize>());
        (0..7).for_each(|n| list.push(n).unwrap());
        assert_eq!(list.take_where(|n| *n > 2), Some(3));
        assert_eq!(&list[..], [0, 1, 2, 4, 5, 6]);
        assert_eq!(list.take_where(|n| *n > 6), None);
        (0..6).for_each(|_| assert!(list.take_where(|_| true).is_some()));
        assert!(list.is_empty());
        assert_eq!(fake::live_blocks(), before);
        (1..4).for_each(|n| list.push(n).unwrap());
        assert_eq!((list.take_last(2), &list[..]), (vec![2, 3], &[1][..]));
        assert_eq!((list.take_last(2), list.take_last(2)), (vec![1], vec![]));
        list.push(1).unwrap();
        drop(list.take());
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_nothing_is_pushed() {
        for n in 0..2 {
            let mut list = LazyVec::default();
            let (pushed, failed) = fake::failing_at(n, || list.push(1));
            assert!(failed && pushed.is_err() && list.is_empty());
        }
    }
}
