//! How far this node has come into the cluster: whether dmq has found the others, what was asked of them, what waits
//! for their answers, and whose the subscriptions are that were read from the table at the start.
use crate::host::dmq;
use crate::shm_safe::shm_safe;
use crate::time::{AtomicMoment, Moment, Seconds};
use std::sync::atomic::{AtomicBool, Ordering};

/// For this long after we found the cluster, its nodes are new to us, not we to them.
const NODES_ARE_NEW_FOR: Seconds = Seconds(10);

/// How long after the question to all what comes may be an answer to it.
const SYNC_MAY_BE_ANSWERED_FOR: Seconds = Seconds(60);

/// For this long after we found the cluster, watchers wait for what is published elsewhere.
const INITIAL_SYNC_TIME: Seconds = Seconds(2);

/// A node that sees no other begins to serve what it read from the table this long after its start.
const ALONE_AFTER: Seconds = Seconds(3);

/// The others have said what they serve this long after the start.
const SETTLED_AFTER: Seconds = Seconds(10);

/// What all processes know of it; in shared memory.
#[derive(Default)]
pub struct Joining {
    /// Somebody was asked for all there is.
    asked: AtomicBool,
    /// When all nodes were asked.
    asked_all_at: AtomicMoment,
    /// When dmq found the cluster.
    joined_at: AtomicMoment,
    /// Subscriptions read from the table at start are ours, or somebody else has said so.
    settled: AtomicBool,
    /// Watchers wait for what is published elsewhere.
    waiting: AtomicBool,
}

shm_safe!(Joining { asked, asked_all_at, joined_at, settled, waiting });

impl Joining {
    /// dmq has found the cluster.
    pub fn note_joined(&self, now: Moment) {
        self.joined_at.set(now);
    }

    /// Whether what we asked the others for may still be on its way.
    pub fn has_just_joined(&self, now: Moment, started: Moment) -> bool {
        // Others may announce subscriptions to us before dmq has notified us that we joined.
        now - self.joined_at.get().unwrap_or(started).max(started) < INITIAL_SYNC_TIME
    }

    /// All nodes were asked what there is: none is of our kind.
    pub fn note_asked_all(&self, now: Moment) {
        self.asked_all_at.set(now);
    }

    /// Whether a message may be a node's answer to the question to all.
    pub fn may_be_answered(&self, now: Moment) -> bool {
        self.asked_all_at.get().is_some_and(|asked_at| now - asked_at < SYNC_MAY_BE_ANSWERED_FOR)
    }

    /// Watchers wait for what is published elsewhere.
    pub fn note_waiting(&self) {
        self.waiting.store(true, Ordering::Relaxed);
    }

    /// Whether watchers wait; the caller notifies them.
    #[must_use = "the caller notifies the watchers"]
    pub fn take_waiting(&self) -> bool {
        self.waiting.swap(false, Ordering::Relaxed)
    }

    /// Whether the caller shall ask for all there is: once, and only it.
    #[must_use = "the caller asks"]
    pub fn take_question(&self) -> bool {
        self.joined_at.get().is_some() && !self.asked.swap(true, Ordering::Relaxed)
    }

    /// Whether none of our kind has answered for a while after the cluster was found.
    pub fn is_alone_since_joining(&self, now: Moment) -> bool {
        self.joined_at.get().is_some_and(|joined_at| now - joined_at >= ALONE_AFTER)
    }

    /// Whether the time has come to take what was read from the table as ours: once, `age` seconds after the start,
    /// sooner without other nodes.
    #[must_use = "the caller goes on with what was read"]
    pub fn take_settling(&self, seen: &[dmq::DmqNode], age: Seconds) -> bool {
        let alone = !seen.iter().any(|node| node.active && !node.local);
        let due = age >= if alone { ALONE_AFTER } else { SETTLED_AFTER };
        due && !self.settled.swap(true, Ordering::Relaxed)
    }

    /// Whether the nodes that are seen now are new to us, not we to them.
    pub(crate) fn are_others_new(&self, now: Moment) -> bool {
        self.joined_at.get().is_some_and(|joined_at| now - joined_at <= NODES_ARE_NEW_FOR)
    }
}
