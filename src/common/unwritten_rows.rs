//! How many changes wait for their rows since a timer wrote them last. It writes sooner when they are many, so that the
//! end of the server has little left to write. Where a row is written with its change the count means nothing.
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where this many changed records wait, they are written within a second, however long the period of the timer is.
pub const MOST_UNWRITTEN: usize = 20_000;

/// The count, in shared memory.
#[derive(Debug, Default)]
pub struct UnwrittenRows(AtomicUsize);

shm_safe!(UnwrittenRows(count));

impl UnwrittenRows {
    /// One more change waits for its row.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them are about to be written; what fails is written with the next ones.
    pub fn begin_pass(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether they have to be written before their time.
    pub fn are_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MOST_UNWRITTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_are_written_before_their_time() {
        let rows = UnwrittenRows::default();
        (1..MOST_UNWRITTEN).for_each(|_| rows.note());
        assert!(!rows.are_many());
        rows.note();
        assert!(rows.are_many());
        rows.begin_pass();
        assert!(!rows.are_many());
    }
}
