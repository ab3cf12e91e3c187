//! Bytes in shared memory that several owners hold, in any process: the last one gives them back.
use super::no_memory::NoMemory;
use super::shm::{self, Shm, ShmBox};
use crate::shm_safe::{ShmSafe, shm_safe};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

struct CountedBytes {
    owners: AtomicUsize,
    bytes: ShmBox<[u8]>,
}

shm_safe!(CountedBytes { owners, bytes });

/// A share of some bytes.
pub struct SharedBytes(NonNull<CountedBytes>);

// SAFETY: it leads to a block in shared memory, which its shares count.
unsafe impl ShmSafe for SharedBytes {}

impl SharedBytes {
    /// Copies bytes into shared memory.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn copy(bytes: &[u8]) -> Result<SharedBytes, NoMemory> {
        let block = shm::boxed(CountedBytes { owners: AtomicUsize::new(1), bytes: shm::copy(bytes)? })?;
        Ok(SharedBytes(NonNull::from(ShmBox::leak(block))))
    }

    fn block(&self) -> &CountedBytes {
        // SAFETY: each owner keeps the block alive, and it is only ever shared.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for SharedBytes {
    fn clone(&self) -> Self {
        // This owner keeps the block from being given back meanwhile.
        self.block().owners.fetch_add(1, Ordering::Relaxed);
        SharedBytes(self.0)
    }
}

impl Deref for SharedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.block().bytes
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        if self.block().owners.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: leaked in `copy`, and this was the last owner.
            drop(unsafe { ShmBox::from_raw_in(self.0.as_ptr(), Shm) });
        }
    }
}

// SAFETY: the bytes are never changed, the count is atomic, and shared memory belongs to no process.
unsafe impl Send for SharedBytes {}
// SAFETY: a shared reference only reads bytes that stay, and counts atomically.
unsafe impl Sync for SharedBytes {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn the_last_owner_gives_the_bytes_back() {
        let before = fake::live_blocks();
        let first = SharedBytes::copy(b"body").unwrap();
        let second = first.clone();
        drop(first);
        assert_eq!(&*second, b"body");
        drop(second);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_nothing_is_kept() {
        let before = fake::live_blocks();
        for n in 0..2 {
            let (copied, failed) = fake::failing_at(n, || SharedBytes::copy(b"body").is_err());
            assert!(copied && failed);
        }
        assert_eq!(fake::live_blocks(), before);
    }
}
