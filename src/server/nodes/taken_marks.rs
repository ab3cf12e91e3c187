//! The marks of requests that other nodes have sent on here, each good once; in shared memory.
use crate::cluster::clock::Stamp;
use crate::cluster::digest::RecordKey;
use crate::cluster::mark::RelayMark;
use crate::cluster::taken_marks::{self, MOST_MARKS, TakenMark};
use crate::host::lock::Lock;
use crate::host::shm::{Shm, ShmVec};
use crate::shm_safe::shm_safe;
use crate::time::Instant;

/// What was taken.
pub(crate) struct TakenMarks(Lock<TakenList>);

shm_safe!(TakenMarks(list));

struct TakenList {
    /// Empty until the first one comes.
    marks: ShmVec<TakenMark>,
    floor: Stamp,
}

shm_safe!(TakenList { marks, floor });

impl Default for TakenMarks {
    fn default() -> Self {
        TakenMarks::since(Stamp::default())
    }
}

impl TakenMarks {
    /// Starts with no mark taken; what was made before `floor` may have been, before this node was started.
    pub(crate) fn since(floor: Stamp) -> TakenMarks {
        TakenMarks(Lock::new(TakenList { marks: ShmVec::new_in(Shm), floor }))
    }

    /// Takes a mark; `false`: it was taken before. Without memory each is taken.
    pub(crate) fn take(&self, mark: &RelayMark, now: Instant) -> bool {
        let digest = RecordKey::of_names(&[&mark.node, &mark.at.0.to_be_bytes()]).0;
        let taken = &mut *self.0.lock();
        if taken.marks.is_empty() && taken.marks.try_reserve_exact(MOST_MARKS).is_ok() {
            taken.marks.resize(MOST_MARKS, TakenMark::default());
        }
        taken_marks::take(&mut taken.marks, &mut taken.floor, (digest, mark.at), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::taken_marks::SENT_AGAIN;
    use crate::host::fake;
    use crate::time::{Millis, UnixMillis};

    fn mark(node: &[u8], millis: u64) -> RelayMark {
        RelayMark { node: node.to_vec(), at: Stamp::of_time(UnixMillis(millis)) }
    }

    #[test]
    fn each_nodes_marks_are_taken_once_since_the_start() {
        let before = fake::live_blocks();
        let taken = TakenMarks::since(Stamp::of_time(UnixMillis(10_000)));
        let (now, later) = (Instant::at(5_000), Instant::at(5_001) + SENT_AGAIN);
        assert!(!taken.take(&mark(b"a:1", 10_000), now), "it may have been taken before the start");
        assert!(taken.take(&mark(b"a:1", 10_001), now) && taken.take(&mark(b"b:1", 10_001), now));
        assert!(taken.take(&mark(b"a:1", 10_001), now + Millis(500)), "sent again");
        assert!(!taken.take(&mark(b"a:1", 10_001), later) && !taken.take(&mark(b"b:1", 10_001), later));
        drop(taken);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_each_mark_is_taken() {
        let taken = TakenMarks::default();
        let (is_taken, failed) = fake::failing_at(0, || taken.take(&mark(b"a:1", 10_001), Instant::at(5_000)));
        assert!(is_taken && failed && fake::held_locks() == 0);
    }
}
