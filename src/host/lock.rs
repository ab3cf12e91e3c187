//! A value that lives inside its lock, in shared memory, guarded by the host's own lock (`core/locking.h`).
use super::clock;
use super::last_process::ALONE;
use super::measured::measured;
use crate::shm_safe::ShmSafe;
use crate::sys;
use crate::time::Millis;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

/// Room for a `gen_lock_t` of any build.
const LOCK_BYTES: usize = 64;

/// A value and its lock. While a [`Guard`] lives there is no SQL, no tm, no sl, no callback, no formatted log line.
pub struct Lock<T> {
    raw: UnsafeCell<[u64; LOCK_BYTES / 8]>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `lock()` only, which excludes every other process and thread, so that it is
// handed from one to the other; that is what `Send` allows.
unsafe impl<T: Send> Sync for Lock<T> {}
// SAFETY: what it guards may be sent, and the lock has no tie to the process that made it.
unsafe impl<T: Send> Send for Lock<T> {}

// SAFETY: a word of the host's lock beside a value that may live there.
unsafe impl<T: ShmSafe> ShmSafe for Lock<T> {}

impl<T: ShmSafe> Lock<T> {
    /// An open lock around `value`. The lock word needs no fixed address, so it may be moved until it is first used.
    ///
    /// # Panics
    ///
    /// Panics when the host's lock is larger than the room for it: the module was built for another host.
    pub fn new(value: T) -> Self {
        let lock = Lock { raw: UnsafeCell::new([0; LOCK_BYTES / 8]), value: UnsafeCell::new(value) };
        // SAFETY: the host names the size of its type.
        let wanted = unsafe { sys::kr_lock_size() };
        assert!(wanted <= LOCK_BYTES, "the host's lock is larger than {LOCK_BYTES} bytes");
        // SAFETY: the bytes are ours, large enough and not shared yet.
        unsafe { sys::kr_lock_init(lock.raw.get() as *mut _) };
        lock
    }
}

impl<T> Lock<T> {
    /// Waits for the lock.
    #[must_use]
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        if ALONE.load(Ordering::Relaxed) {
            self.lock_alone();
        } else if !self.try_lock() {
            self.wait();
        }
        self.held()
    }
}

impl<T> Lock<T> {
    /// The value, if nobody holds the lock.
    #[must_use]
    pub fn lock_if_free(&self) -> Option<Guard<'_, T>> {
        if !self.try_lock() {
            return None;
        }
        Some(self.held())
    }

    /// The guard of the lock that was taken.
    #[inline]
    fn held(&self) -> Guard<'_, T> {
        let guard = Guard { lock: self, not_send: PhantomData };
        #[cfg(feature = "fault-injection")]
        super::fault::at_lock::<T>();
        guard
    }

    /// Takes the lock if nobody has it.
    #[inline]
    fn try_lock(&self) -> bool {
        // SAFETY: `raw` was initialised in `new`.
        unsafe { sys::kr_lock_try(self.raw.get() as *mut _) == 0 }
    }

    /// Waits for the lock that another process has, and measures how long.
    #[cold]
    fn wait(&self) {
        let began = clock::micro_tick();
        // SAFETY: `raw` was initialised in `new`.
        unsafe { sys::kr_lock_get(self.raw.get() as *mut _) };
        if let Some(measured) = measured() {
            measured.memory_locks.record(clock::micro_tick().since(began));
        }
    }

    /// Takes the lock as the last process: one that another process took with it is made anew.
    #[cold]
    fn lock_alone(&self) {
        for _ in 0..ORPHAN_STEPS {
            if self.try_lock() {
                return;
            }
            super::process::sleep(Millis(1));
        }
        let of = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
        crate::limited!(Error, "a process has ended while it changed {of}: its last change may be half done");
        // SAFETY: no other process is left, and this one waits here: nobody holds the lock or waits for it.
        unsafe { sys::kr_lock_init(self.raw.get() as *mut _) };
        // SAFETY: the line above has initialised the lock, at the address at which it stays.
        unsafe { sys::kr_lock_get(self.raw.get() as *mut _) };
    }

    /// Whether a process has ended while it held the lock; known in the last process only.
    pub fn is_orphaned(&self) -> bool {
        if !ALONE.load(Ordering::Relaxed) {
            return false;
        }
        if !self.try_lock() {
            return true;
        }
        // SAFETY: this process has taken the lock in `try_lock` above, and releases it once.
        unsafe { sys::kr_lock_release(self.raw.get() as *mut _) };
        false
    }
}

/// How long the last process waits for a lock, in milliseconds.
const ORPHAN_STEPS: u32 = 50;

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
