//! Where this node stands in the cluster: its clock, and whether it may send NOTIFYs.
use crate::cluster::clock::{ClusterSecond, HybridClock, LocalTime, Stamp};
use crate::cluster::lease::Lease;
use crate::host::clock;
use crate::server::nodes::held_lease::Arbitration;
use crate::server::nodes::message_rate::MessageRates;
use crate::server::nodes::open_claims::OpenClaims;
use crate::server::nodes::placing::Placing;
use crate::server::nodes::taken_marks::TakenMarks;
use crate::shm_safe::shm_safe;
use crate::time::{AtomicInstant, AtomicMoment, Instant, Millis, Seconds, UnixMillis};
use std::sync::atomic::AtomicU64;

/// Other nodes may object to what was taken over for at least this long before its watchers are notified.
const OBJECTIONS: Millis = Millis(900);

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
    /// Since when there are subscriptions that were taken over and whose watchers are notified when nobody objects.
    claimed_at: AtomicInstant,
    /// What it has taken from other nodes that have not answered yet.
    pub(crate) open_claims: OpenClaims,
    /// When the node was started, by the wall clock.
    pub started: UnixMillis,
    /// The requests that others have sent on here.
    pub(crate) taken_marks: TakenMarks,
    /// How many messages it has sealed.
    pub messages: AtomicU64,
    /// How many messages of other nodes and of strangers are looked at.
    pub rates: MessageRates,
    /// When a line about messages that are not accepted was written last.
    refusal_at: AtomicMoment,
    /// When the last line about a node was written that refuses the messages of this one.
    refused_at: AtomicMoment,
}

shm_safe!(ClusterState {
    clock,
    lease,
    arbitration,
    placing,
    seen_running,
    claimed_at,
    open_claims,
    started,
    taken_marks,
    messages,
    rates,
    refusal_at,
    refused_at
});

/// What the clocks of this node show.
pub fn local_time() -> LocalTime {
    LocalTime { wall: clock::wall_millis(), steady: clock::steady_millis() }
}

impl ClusterState {
    /// The lease begins now.
    pub fn new() -> ClusterState {
        let (lease, started) = (Lease::new(clock::instant()), clock::wall_millis());
        let taken_marks = TakenMarks::since(Stamp::of_time(started));
        ClusterState { lease, started, taken_marks, ..ClusterState::default() }
    }

    /// A new stamp.
    pub fn tick(&self) -> Stamp {
        self.clock.tick(local_time())
    }

    /// The second by the cluster's clock: never one before those that were.
    pub fn second(&self) -> ClusterSecond {
        self.tick().second()
    }

    /// Whether a line about a message that is not accepted may be written: one a minute.
    pub fn may_write_refusal(&self) -> bool {
        self.refusal_at.begin_again(clock::now(), Seconds(60))
    }

    /// Whether a line about a node that refuses the messages of this one may be written: one a minute.
    pub fn may_write_refused(&self) -> bool {
        self.refused_at.begin_again(clock::now(), Seconds(60))
    }

    /// Notes that watchers of subscriptions that were taken over have to be notified.
    pub fn note_claims(&self, now: Instant) {
        _ = self.claimed_at.begin(now);
    }

    /// Whether other nodes may still object to what was taken over.
    pub fn has_claims(&self) -> bool {
        self.claimed_at.get().is_some()
    }

    /// Whether there are such, and other nodes had the time to object; once. A timer that comes late makes up for it:
    /// its next second may be over at once.
    #[must_use = "the caller notifies the watchers"]
    pub fn take_claims(&self, now: Instant) -> bool {
        let is_due = self.claimed_at.get().is_some_and(|claimed_at| now.since(claimed_at) >= OBJECTIONS);
        if is_due {
            self.claimed_at.set(None);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_the_time_to_object_however_late_the_timer_comes() {
        let state = ClusterState::default();
        assert!(!state.has_claims() && !state.take_claims(Instant::at(5_000)));
        state.note_claims(Instant::at(5_000));
        state.note_claims(Instant::at(5_500));
        assert!(!state.take_claims(Instant::at(5_001)) && !state.take_claims(Instant::at(5_899)));
        assert!(state.has_claims() && state.take_claims(Instant::at(5_900)));
        assert!(!state.has_claims() && !state.take_claims(Instant::at(9_000)));
    }
}
