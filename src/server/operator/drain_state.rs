//! A drain under way, in shared memory.
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// A drain that is under way, in shared memory.
#[derive(Default)]
pub struct Drain {
    /// When it is to be done; 0: there is none.
    pub(crate) until: AtomicI64,
    /// How many, the first ones, could not be ended: they are passed over until all others are.
    pub(crate) passed_over: AtomicUsize,
}

shm_safe!(Drain { until, passed_over });

impl Drain {
    /// Begins a drain that is done at `until`.
    pub fn begin(&self, until: i64) {
        self.passed_over.store(0, Ordering::Relaxed);
        self.until.store(until.max(1), Ordering::Relaxed);
    }
}
