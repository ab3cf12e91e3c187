//! A robust mutex that processes share: the next process goes on when its holder has died.
use super::clock;
use super::last_process::ALONE;
use super::measured;
use crate::shm_safe::ShmSafe;
use crate::time::Seconds;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

/// A lock for slow work (a database statement): waiters sleep, and it survives the death of its holder.
pub struct ProcessMutex {
    pub(crate) raw: UnsafeCell<libc::pthread_mutex_t>,
}

// SAFETY: the system's mutex is made for processes that share it, and leads to nothing of one of them.
unsafe impl ShmSafe for ProcessMutex {}

// SAFETY: a process-shared mutex is made for use from several processes.
unsafe impl Sync for ProcessMutex {}

// SAFETY: the mutex is moved only before its first use, which is no other thread's.
unsafe impl Send for ProcessMutex {}

impl ProcessMutex {
    /// An open lock at a fixed address in shared memory.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn leak() -> Result<&'static ProcessMutex, crate::host::no_memory::NoMemory> {
        let lock: &'static ProcessMutex =
            crate::host::shm::leak(ProcessMutex { raw: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER) })?;
        // SAFETY: bytes that the next call fills; zeroes are valid.
        let mut attributes: libc::pthread_mutexattr_t = unsafe { std::mem::zeroed() };
        // SAFETY: the attributes are a local variable, which nobody else has a pointer to.
        unsafe { libc::pthread_mutexattr_init(&mut attributes) };
        // SAFETY: initialised above, until they are destroyed below.
        unsafe { libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: the attributes are initialised, and nobody else has them.
        unsafe { libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST) };
        // SAFETY: `lock` has its final address and nobody else knows it yet.
        unsafe { libc::pthread_mutex_init(lock.raw.get(), &attributes) };
        // SAFETY: initialised above, and not used again.
        unsafe { libc::pthread_mutexattr_destroy(&mut attributes) };
        Ok(lock)
    }

    /// The lock, if nobody holds it.
    #[must_use]
    pub fn lock_if_free(&'static self) -> Option<ProcessMutexGuard> {
        let guard = self.guard(self.try_lock());
        guard.taken.then_some(guard)
    }

    /// What `pthread_mutex_trylock` says.
    fn try_lock(&self) -> i32 {
        // SAFETY: a mutex exists only where `leak` has initialised it, and is never destroyed.
        unsafe { libc::pthread_mutex_trylock(self.raw.get()) }
    }

    /// The guard of a lock that was tried with this result.
    fn guard(&'static self, result: i32) -> ProcessMutexGuard {
        if result == libc::EOWNERDEAD {
            // SAFETY: this process holds the mutex, whose last holder has died.
            unsafe { libc::pthread_mutex_consistent(self.raw.get()) };
        }
        let taken = result == 0 || result == libc::EOWNERDEAD;
        ProcessMutexGuard { lock: self, taken, not_send: PhantomData }
    }

    /// Waits for the lock. What it protects is kept right by the database, so a dead holder leaves nothing to repair.
    #[must_use]
    pub fn lock(&'static self) -> ProcessMutexGuard {
        let taken = match ALONE.load(Ordering::Relaxed) {
            false => self.lock_or_wait(),
            true => self.lock_within(ORPHAN_WAIT),
        };
        let guard = self.guard(taken);
        fault_point!("lock-sleep");
        guard
    }
}

impl ProcessMutex {
    /// Takes the lock, and measures how long another process had it; what `pthread_mutex_lock` says.
    fn lock_or_wait(&self) -> i32 {
        let tried = self.try_lock();
        if tried != libc::EBUSY {
            return tried;
        }
        let began = clock::micro_tick();
        // SAFETY: the mutex was initialised by `leak`; another process holds it, and the system waits for that.
        let taken = unsafe { libc::pthread_mutex_lock(self.raw.get()) };
        measured::database_waited(clock::micro_tick().since(began));
        taken
    }

    /// Waits no longer than this; what `pthread_mutex_timedlock` says.
    pub(crate) fn lock_within(&self, interval: Seconds) -> i32 {
        let until = clock::system_time_in(interval);
        // SAFETY: `leak` has initialised it, and the time is a local variable that is only read.
        unsafe { libc::pthread_mutex_timedlock(self.raw.get(), &until) }
    }
}

/// Proof that a [`ProcessMutex`] is held, or that the last process could not get it and goes on alone.
pub struct ProcessMutexGuard {
    pub(crate) lock: &'static ProcessMutex,
    pub(crate) taken: bool,
    pub(crate) not_send: PhantomData<*mut ()>,
}

impl Drop for ProcessMutexGuard {
    fn drop(&mut self) {
        if self.taken {
            // SAFETY: this guard took the lock.
            unsafe { libc::pthread_mutex_unlock(self.lock.raw.get()) };
        }
    }
}

/// How long it waits for a lock for slow work, in seconds.
pub(crate) const ORPHAN_WAIT: Seconds = Seconds(2);
