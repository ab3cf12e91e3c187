//! Whether this node may send NOTIFYs. Others take its subscriptions over when they have not heard of it for a while; a
//! node that was frozen does not know that. So each process that sends looks at a clock that nobody sets: when no
//! process of the node has looked for longer than a lease, the node asks the others what it has missed before it goes
//! on.
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long a node may go on without looking at the clock, in milliseconds: less than the time after which another node
/// can take its subscriptions over.
pub const LEASE: u64 = 2_000;

/// How long a node that asks waits for an answer, in milliseconds; who has not answered by then is not there.
pub const ANSWERS_AFTER: u64 = 3_000;

/// What a node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// It sends NOTIFYs.
    Speaks,
    /// It has just found out that it was away for so many milliseconds: it has to ask.
    WasAway(u64),
    /// It has asked, and waits.
    Asks,
}

/// The lease of a node, shared by its processes.
#[derive(Debug, Default)]
pub struct Lease {
    looked_at: AtomicU64,
    asking_since: AtomicU64,
}

shm_safe!(Lease { looked_at, asking_since });

impl Lease {
    /// A lease that begins at `now`, in milliseconds of a clock that nobody sets.
    pub const fn new(now: u64) -> Lease {
        Lease { looked_at: AtomicU64::new(now), asking_since: AtomicU64::new(0) }
    }

    /// Looks at the clock.
    pub fn look(&self, now: u64) -> LeaseState {
        if self.asking_since.load(Ordering::Relaxed) > 0 {
            return LeaseState::Asks;
        }
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        let away = now.saturating_sub(looked_at);
        if looked_at > 0 && away > LEASE {
            let first = self.asking_since.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
            return if first.is_ok() { LeaseState::WasAway(away) } else { LeaseState::Asks };
        }
        if away > 0 {
            self.looked_at.fetch_max(now, Ordering::Relaxed);
        }
        LeaseState::Speaks
    }

    /// Since when the node asks; `None` while it speaks.
    pub fn asking_since(&self) -> Option<u64> {
        Some(self.asking_since.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    /// All others have answered, or are not there; `false` when another process has said so already.
    pub fn resume(&self, now: u64) -> bool {
        self.looked_at.fetch_max(now, Ordering::Relaxed);
        self.asking_since.swap(0, Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_away_asks_before_it_speaks() {
        let lease = Lease::new(1_000);
        assert_eq!(lease.look(2_500), LeaseState::Speaks);
        assert_eq!(lease.look(4_500), LeaseState::Speaks);
        assert_eq!(lease.look(6_501), LeaseState::WasAway(2_001));
        assert_eq!(lease.look(6_502), LeaseState::Asks);
        assert_eq!(lease.asking_since(), Some(6_501));
        assert!(lease.resume(7_000) && !lease.resume(7_000));
        assert_eq!(lease.look(7_001), LeaseState::Speaks);
    }
}
