//! A value that lives inside its lock, in shared memory, guarded by the host's own lock (`core/locking.h`).
use crate::sys;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Room for a `gen_lock_t` of any build.
const LOCK_BYTES: usize = 64;

/// A value and its lock. While a [`Guard`] lives there is no SQL, no tm, no sl, no callback, no formatted log line.
pub struct Lock<T> {
    raw: UnsafeCell<[u64; LOCK_BYTES / 8]>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `lock()` only, which excludes every other process and thread.
unsafe impl<T> Sync for Lock<T> {}
// SAFETY: as above; the lock has no tie to the process that made it.
unsafe impl<T> Send for Lock<T> {}

impl<T> Lock<T> {
    /// An open lock around `value`. The lock word needs no fixed address, so it may be moved until it is first used.
    pub fn new(value: T) -> Self {
        let lock = Lock { raw: UnsafeCell::new([0; LOCK_BYTES / 8]), value: UnsafeCell::new(value) };
        // SAFETY: the bytes are ours, large enough (asserted) and not shared yet.
        unsafe {
            assert!(sys::kr_lock_size() <= LOCK_BYTES, "the host's lock is larger than {LOCK_BYTES} bytes");
            sys::kr_lock_init(lock.raw.get() as *mut _);
        }
        lock
    }

    /// Waits for the lock.
    #[must_use]
    pub fn lock(&self) -> Guard<'_, T> {
        // SAFETY: `raw` was initialised in `new`.
        unsafe { sys::kr_lock_get(self.raw.get() as *mut _) };
        #[cfg(feature = "fault-injection")]
        super::fault::at_lock::<T>();
        Guard { lock: self, not_send: PhantomData }
    }
}

/// Proof that the lock is held; lets go of it when dropped, in a panic too.
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
    not_send: PhantomData<*mut ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this process alone holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this process alone holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this guard took the lock and nobody else let it go.
        unsafe { sys::kr_lock_release(self.lock.raw.get() as *mut _) };
    }
}

/// A lock for slow work (a database statement): waiters sleep, and it survives the death of its holder.
pub struct SleepLock {
    raw: UnsafeCell<libc::pthread_mutex_t>,
}

// SAFETY: a process-shared mutex is made for use from several processes.
unsafe impl Sync for SleepLock {}
// SAFETY: as above; it is moved only before its first use.
unsafe impl Send for SleepLock {}

impl SleepLock {
    /// An open lock at a fixed address in shared memory.
    pub fn leak() -> Result<&'static SleepLock, crate::host::shm::NoMemory> {
        let lock: &'static SleepLock =
            crate::host::shm::leak(SleepLock { raw: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER) })?;
        // SAFETY: `lock` has its final address and nobody else knows it yet.
        unsafe {
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(lock.raw.get(), &attributes);
            libc::pthread_mutexattr_destroy(&mut attributes);
        }
        Ok(lock)
    }

    /// Waits for the lock. What it protects is kept right by the database, so a dead holder leaves nothing to repair.
    #[must_use]
    pub fn lock(&'static self) -> SleepGuard {
        // SAFETY: made by `leak`.
        unsafe {
            if libc::pthread_mutex_lock(self.raw.get()) == libc::EOWNERDEAD {
                libc::pthread_mutex_consistent(self.raw.get());
            }
        }
        fault_point!("lock-sleep");
        SleepGuard { lock: self, not_send: PhantomData }
    }
}

/// Proof that a [`SleepLock`] is held.
pub struct SleepGuard {
    lock: &'static SleepLock,
    not_send: PhantomData<*mut ()>,
}

impl Drop for SleepGuard {
    fn drop(&mut self) {
        // SAFETY: this guard took the lock.
        unsafe { libc::pthread_mutex_unlock(self.lock.raw.get()) };
    }
}

/// A bell in shared memory: processes of our own sleep until somebody rings.
pub struct Bell {
    raw: UnsafeCell<libc::sem_t>,
}

// SAFETY: a process-shared semaphore is made for use from several processes.
unsafe impl Sync for Bell {}
// SAFETY: as above; it is moved only before its first use.
unsafe impl Send for Bell {}

impl Bell {
    /// A silent bell at a fixed address in shared memory.
    pub fn leak() -> Result<&'static Bell, crate::host::shm::NoMemory> {
        // SAFETY: a semaphore is plain memory until it is initialised.
        let bell: &'static Bell = crate::host::shm::leak(Bell { raw: UnsafeCell::new(unsafe { std::mem::zeroed() }) })?;
        // SAFETY: `bell` has its final address and nobody else knows it yet.
        unsafe { libc::sem_init(bell.raw.get(), 1, 0) };
        Ok(bell)
    }

    /// Wakes one sleeper, now or when it next looks.
    pub fn ring(&self) {
        // SAFETY: made by `leak`.
        unsafe { libc::sem_post(self.raw.get()) };
    }

    /// Sleeps until somebody rings, a second at most.
    pub fn wait(&self) {
        // SAFETY: made by `leak`; `until` is filled before it is used.
        unsafe {
            let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::clock_gettime(libc::CLOCK_REALTIME, &mut until);
            until.tv_sec += 1;
            libc::sem_timedwait(self.raw.get(), &until);
        }
    }
}
