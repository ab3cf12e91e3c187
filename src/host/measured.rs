//! What the wrappers of the host measure by themselves, in shared memory: waits for locks, and lines that the log
//! lacks.
use super::histogram::Histogram;
use crate::shm_safe::shm_safe;
use crate::time::Micros;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// What all processes add to.
#[derive(Debug, Default)]
pub struct Measured {
    /// Waits for locks around structures in shared memory.
    pub memory_locks: Histogram,
    /// Waits for locks around slow work: statements of the database.
    pub database_locks: Histogram,
    /// Lines that were left out of the log, see `log_rate.rs`.
    pub lines_left_out: AtomicU64,
}

shm_safe!(Measured { memory_locks, database_locks, lines_left_out });

static MEASURED: OnceLock<&'static Measured> = OnceLock::new();

/// From now on it is kept there; `place` lies in shared memory. Call before the processes fork.
pub fn keep_in(place: &'static Measured) {
    let _ = MEASURED.set(place);
}

/// What was measured; `None` before [`keep_in`].
pub fn measured() -> Option<&'static Measured> {
    MEASURED.get().copied()
}

/// Notes how long a process has waited for others that write.
pub fn database_waited(duration: Micros) {
    if let Some(measured) = measured() {
        measured.database_locks.record(duration);
    }
}
