//! A semaphore that processes share.
use crate::shm_safe::ShmSafe;
use crate::time::Seconds;
use std::cell::UnsafeCell;

/// A semaphore in shared memory: processes of our own sleep until another process wakes them.
pub struct Semaphore {
    pub(crate) raw: UnsafeCell<libc::sem_t>,
}

// SAFETY: the system's semaphore is made for processes that share it, and leads to nothing of one of them.
unsafe impl ShmSafe for Semaphore {}
// SAFETY: a semaphore is made in shared memory alone, where it lives for ever.
unsafe impl ShmSafe for &'static Semaphore {}

// SAFETY: a process-shared semaphore is made for use from several processes.
unsafe impl Sync for Semaphore {}

// SAFETY: the semaphore is moved only before its first use, which is no other thread's.
unsafe impl Send for Semaphore {}

impl Semaphore {
    /// A semaphore of count 0 at a fixed address in shared memory.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn leak() -> Result<&'static Semaphore, crate::host::no_memory::NoMemory> {
        // SAFETY: a semaphore is plain memory until it is initialised; zeroes are valid.
        let raw = unsafe { std::mem::zeroed() };
        let semaphore: &'static Semaphore = crate::host::shm::leak(Semaphore { raw: UnsafeCell::new(raw) })?;
        // SAFETY: `semaphore` has its final address and nobody else knows it yet.
        unsafe { libc::sem_init(semaphore.raw.get(), 1, 0) };
        Ok(semaphore)
    }

    /// Wakes one sleeper, now or when it next looks.
    pub fn wake(&self) {
        // SAFETY: a semaphore exists only where `leak` has initialised it, and is never destroyed.
        unsafe { libc::sem_post(self.raw.get()) };
    }

    /// Sleeps until another process wakes this one, a second at most.
    pub fn wait(&self) {
        let until = crate::host::clock::system_time_in(Seconds(1));
        // SAFETY: `leak` has initialised it, and the time is a local variable that is only read.
        unsafe { libc::sem_timedwait(self.raw.get(), &until) };
    }
}
