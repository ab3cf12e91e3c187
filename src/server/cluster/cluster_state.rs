//! Where this node stands in the cluster: its clock, and whether it may send NOTIFYs.
use crate::cluster::clock::{HybridClock, Stamp};
use crate::cluster::lease::Lease;
use crate::host::clock;
use crate::server::cluster::held_lease::Arbitration;
use crate::server::cluster::message_rate::MessageRates;
use crate::server::cluster::placing::Placing;
use crate::shm_safe::shm_safe;
use crate::time::{AtomicMoment, Seconds};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the processes of this node share about their part in the cluster; in shared memory.
#[derive(Default)]
pub struct ClusterState {
    /// The cluster's clock.
    pub clock: HybridClock,
    /// Whether it may send NOTIFYs.
    pub lease: Lease,
    /// The node's lease in the table of the arbiter.
    pub arbitration: Arbitration,
    /// Which nodes records are placed on.
    pub placing: Placing,
    /// The clock when the node was last known to run.
    pub seen_running: AtomicU64,
    /// Subscriptions were taken over whose watchers are notified when nobody objects.
    claims: AtomicBool,
    /// When the node was started, in milliseconds since 1970.
    pub started: u64,
    /// How many messages it has sealed.
    pub messages: AtomicU64,
    /// How many messages of other nodes and of strangers are looked at.
    pub rates: MessageRates,
    /// When a line about messages that are not accepted was written last.
    refusal_at: AtomicMoment,
}

shm_safe!(ClusterState {
    clock,
    lease,
    arbitration,
    placing,
    seen_running,
    claims,
    started,
    messages,
    rates,
    refusal_at
});

impl ClusterState {
    /// The lease begins now.
    pub fn new() -> ClusterState {
        let (lease, started) = (Lease::new(clock::instant()), clock::wall_millis());
        ClusterState { lease, started, ..ClusterState::default() }
    }

    /// A new stamp.
    pub fn tick(&self) -> Stamp {
        self.clock.tick(clock::wall_millis())
    }

    /// Whether a line about a message that is not accepted may be written: one a minute.
    pub fn may_write_refusal(&self) -> bool {
        self.refusal_at.begin_again(clock::now(), Seconds(60))
    }

    /// Notes that watchers of subscriptions that were taken over have to be notified.
    pub fn note_claims(&self) {
        self.claims.store(true, Ordering::Relaxed);
    }

    /// Whether there are such; once.
    #[must_use = "the caller notifies the watchers"]
    pub fn take_claims(&self) -> bool {
        self.claims.swap(false, Ordering::Relaxed)
    }
}
