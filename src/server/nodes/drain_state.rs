//! A drain under way, in shared memory.
use crate::shm_safe::shm_safe;
use crate::time::{AtomicMoment, Moment};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A drain that is under way, in shared memory.
#[derive(Default)]
pub struct Drain {
    /// When it is to be done, where there is one.
    pub(crate) until: AtomicMoment,
    /// How many, the first ones, could not be ended: they are passed over until all others are.
    pub(crate) passed_over: AtomicUsize,
}

shm_safe!(Drain { until, passed_over });

impl Drain {
    /// Begins a drain that is done at `until`.
    pub fn begin(&self, until: Moment) {
        self.passed_over.store(0, Ordering::Relaxed);
        self.until.set(until);
    }
}
