//! Where this node stands in the cluster: its clock, and whether it may send NOTIFYs.
use crate::cluster::clock::{HybridClock, Stamp};
use crate::cluster::lease::Lease;
use crate::host::clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the processes of this node share about its standing; in shared memory.
#[derive(Default)]
pub struct Standing {
    /// The cluster's clock.
    pub clock: HybridClock,
    /// Whether it may send NOTIFYs.
    pub lease: Lease,
    /// The clock when the node was last known to run.
    pub seen_running: AtomicU64,
    /// Subscriptions were taken over whose watchers are notified when nobody objects.
    claims: AtomicBool,
}

impl Standing {
    /// The lease begins now.
    pub fn new() -> Standing {
        Standing { lease: Lease::new(clock::monotonic_millis()), ..Standing::default() }
    }

    /// A new stamp.
    pub fn tick(&self) -> Stamp {
        self.clock.tick(clock::wall_millis())
    }

    /// Notes that watchers of subscriptions that were taken over have to be notified.
    pub fn note_claims(&self) {
        self.claims.store(true, Ordering::Relaxed);
    }

    /// Whether there are such; once.
    pub fn take_claims(&self) -> bool {
        self.claims.swap(false, Ordering::Relaxed)
    }
}
