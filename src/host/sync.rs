//! A value that lives inside its lock, in shared memory, guarded by the host's own lock (`core/locking.h`).
use crate::sys;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

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
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        if ALONE.load(Ordering::Relaxed) {
            self.lock_alone();
        } else {
            // SAFETY: `raw` was initialised in `new`.
            unsafe { sys::kr_lock_get(self.raw.get() as *mut _) };
        }
        #[cfg(feature = "fault-injection")]
        super::fault::at_lock::<T>();
        Guard { lock: self, not_send: PhantomData }
    }
}

impl<T> Lock<T> {
    /// Takes the lock if nobody has it.
    fn try_lock(&self) -> bool {
        // SAFETY: `raw` was initialised in `new`.
        unsafe { sys::kr_lock_try(self.raw.get() as *mut _) == 0 }
    }

    /// Takes the lock as the last process: one that another process took with it is made anew.
    #[cold]
    fn lock_alone(&self) {
        for _ in 0..ORPHAN_STEPS {
            if self.try_lock() {
                return;
            }
            super::process::sleep_millis(1);
        }
        let of = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
        crate::limited!(Error, "a process has ended while it changed {of}: its last change may be half done");
        // SAFETY: no other process is left, and this one waits here: nobody holds the lock or waits for it.
        unsafe {
            sys::kr_lock_init(self.raw.get() as *mut _);
            sys::kr_lock_get(self.raw.get() as *mut _);
        }
    }

    /// Whether a process has ended while it held the lock; known in the last process only.
    pub fn is_orphaned(&self) -> bool {
        if !ALONE.load(Ordering::Relaxed) {
            return false;
        }
        if !self.try_lock() {
            return true;
        }
        // SAFETY: taken above.
        unsafe { sys::kr_lock_release(self.raw.get() as *mut _) };
        false
    }
}

/// All other processes have ended.
static ALONE: AtomicBool = AtomicBool::new(false);

/// How long the last process waits for a lock, in milliseconds.
const ORPHAN_STEPS: u32 = 50;

/// How long it waits for a lock for slow work, in seconds.
const ORPHAN_SECONDS: i64 = 2;

/// Call in the main process at the end, when its children are gone: the host's children end inside their signal handler, at
/// any instruction, and may leave locks that nobody opens any more. From now on none is waited for without a bound.
pub fn be_the_last_process() {
    ALONE.store(true, Ordering::Relaxed);
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
        let taken = unsafe {
            let taken = match ALONE.load(Ordering::Relaxed) {
                false => libc::pthread_mutex_lock(self.raw.get()),
                true => self.lock_within(ORPHAN_SECONDS),
            };
            if taken == libc::EOWNERDEAD {
                libc::pthread_mutex_consistent(self.raw.get());
            }
            taken == 0 || taken == libc::EOWNERDEAD
        };
        fault_point!("lock-sleep");
        SleepGuard { lock: self, taken, not_send: PhantomData }
    }
}

impl SleepLock {
    /// Waits at most so many seconds; what `pthread_mutex_timedlock` says.
    fn lock_within(&self, seconds: i64) -> i32 {
        let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: made by `leak`; `until` is filled before it is used.
        unsafe {
            libc::clock_gettime(libc::CLOCK_REALTIME, &mut until);
            until.tv_sec += seconds;
            libc::pthread_mutex_timedlock(self.raw.get(), &until)
        }
    }
}

/// Proof that a [`SleepLock`] is held, or that the last process could not get it and goes on alone.
pub struct SleepGuard {
    lock: &'static SleepLock,
    taken: bool,
    not_send: PhantomData<*mut ()>,
}

impl Drop for SleepGuard {
    fn drop(&mut self) {
        if self.taken {
            // SAFETY: this guard took the lock.
            unsafe { libc::pthread_mutex_unlock(self.lock.raw.get()) };
        }
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
