//! Whether this node may send NOTIFYs. Others take its subscriptions over when they have received nothing from it for a
//! while; a node that was frozen does not know that. So each process that sends looks at a clock that nobody sets: when
//! no process of the node has looked for longer than a lease, the node asks the others what it has missed before it
//! goes on.
use crate::shm_safe::shm_safe;
use crate::time::{AtomicInstant, Instant, Millis};

/// How long a node may go on without looking at the clock: less than the time after which another node
/// can take its subscriptions over.
pub const LEASE: Millis = Millis(2_000);

/// How long a node that asks waits for an answer; who has not answered by then is not there.
pub const ANSWERS_AFTER: Millis = Millis(3_000);

/// What a node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// The node sends NOTIFYs.
    Speaks,
    /// The node has just found out that it was away, for this time: it has to ask.
    WasAway(Millis),
    /// The node has asked, and waits.
    Asks,
}

/// The lease of a node, shared by its processes.
#[derive(Debug, Default)]
pub struct Lease {
    looked_at: AtomicInstant,
    asking_since: AtomicInstant,
}

shm_safe!(Lease { looked_at, asking_since });

impl Lease {
    /// A lease that begins at `now`.
    pub fn new(now: Instant) -> Lease {
        Lease { looked_at: AtomicInstant::new(Some(now)), asking_since: AtomicInstant::default() }
    }

    /// Looks at the clock.
    pub fn look(&self, now: Instant) -> LeaseState {
        if self.asking_since.get().is_some() {
            return LeaseState::Asks;
        }
        match self.looked_at.get().map(|looked_at| now.since(looked_at)) {
            Some(away) if away > LEASE => {
                return if self.asking_since.begin(now) { LeaseState::WasAway(away) } else { LeaseState::Asks };
            }
            Some(Millis::ZERO) => {}
            _ => self.looked_at.advance(now),
        }
        LeaseState::Speaks
    }

    /// Whether the node would ask if it looked now.
    #[cfg(test)]
    pub fn is_over(&self, now: Instant) -> bool {
        self.asking_since.get().is_some() || self.looked_at.get().is_some_and(|looked_at| now.since(looked_at) > LEASE)
    }

    /// Since when the node asks; `None` while it speaks.
    pub fn asking_since(&self) -> Option<Instant> {
        self.asking_since.get()
    }

    /// All others have answered, or are not there; `false` when another process has said so already.
    #[must_use = "only the process that resumes sends what had to wait"]
    pub fn resume(&self, now: Instant) -> bool {
        self.looked_at.advance(now);
        self.asking_since.replace(None).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_away_asks_before_it_speaks() {
        let lease = Lease::new(Instant::at(1_000));
        assert_eq!(lease.look(Instant::at(2_500)), LeaseState::Speaks);
        assert_eq!(lease.look(Instant::at(4_500)), LeaseState::Speaks);
        assert_eq!(lease.look(Instant::at(6_501)), LeaseState::WasAway(Millis(2_001)));
        assert_eq!(lease.look(Instant::at(6_502)), LeaseState::Asks);
        assert_eq!(lease.asking_since(), Some(Instant::at(6_501)));
        assert!(lease.resume(Instant::at(7_000)) && !lease.resume(Instant::at(7_000)));
        assert_eq!(lease.look(Instant::at(7_001)), LeaseState::Speaks);
    }
}
