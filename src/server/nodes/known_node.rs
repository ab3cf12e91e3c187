//! What is known of one node of the cluster.
use crate::cluster::clock::Stamp;
use crate::cluster::exchange::Pulling;
use crate::cluster::seal::ReplayWindow;
use crate::host::dmq::{Address, DmqNode};
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, ShmBox};
use crate::presence::replication::comparison::RecordKind;
use crate::shm_safe::shm_safe;
use crate::time::{Instant, Moment, Seconds};

/// A node that dmq has given up is believed to be there for this long after it spoke: dmq's next look at it
/// may take its time.
const PRESUMED_ALIVE: Seconds = Seconds(90);

/// What dmq says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DmqView {
    /// The node answers.
    Answering,
    /// The node does not answer, or is not in dmq's list.
    Silent,
}

impl DmqView {
    pub(super) fn of_node(node: &DmqNode) -> DmqView {
        if node.active { DmqView::Answering } else { DmqView::Silent }
    }
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reachability {
    /// dmq says that it answers, and sends it what is broadcast.
    Answers,
    /// The node has spoken, or was there when this node was frozen, whatever dmq says.
    Presumed,
    /// The node does not answer.
    Away,
}

shm_safe!(
    enum Reachability {
        Answers,
        Presumed,
        Away,
    }
);

/// By which time a node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeTime {
    /// By the clock that nodes share.
    Shared,
    /// By one that is more than five minutes away from ours.
    Other,
}

shm_safe!(
    enum NodeTime {
        Shared,
        Other,
    }
);

/// How a node places records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePlacing {
    /// With how many copies.
    pub replicas: u8,
    /// The node has all that it should hold.
    pub is_ready: bool,
}

shm_safe!(NodePlacing { replicas, is_ready });

/// One node, as it is known.
pub(super) struct Node {
    /// How it calls itself; empty until it says so.
    pub(super) name: ShmBox<[u8]>,
    /// Where dmq reaches it.
    pub(super) host: ShmBox<[u8]>,
    /// `None`: it is known by its name alone.
    pub(super) port: Option<u16>,
    /// Whether it is there.
    pub(super) reach: Reachability,
    /// When that changed.
    pub(super) since: Moment,
    /// When it spoke though dmq said that it does not answer; `None`: dmq knows.
    pub(super) last_message_at: Option<Moment>,
    /// Until when it counts as there whatever dmq says: dmq's word is from before this node was frozen.
    pub(super) presumed_until: Option<Moment>,
    /// The node may have missed something: it is to be sent what we have.
    pub(super) needs_sync: bool,
    /// When it was last sent everything.
    pub(super) notified_at: Option<Moment>,
    /// Which kinds of records it compares, as bits.
    pub(super) compares: u8,
    /// The version of its messages; `None`: it has not said, or could not read one of ours.
    pub(super) speaks: Option<u8>,
    /// How it places records; `None`: every node holds everything, or it has not said.
    pub(super) placing: Option<NodePlacing>,
    /// Which kinds of records it has sent us all of since we started, as bits.
    pub(super) filled: u8,
    /// What was asked of it page by page.
    pub(super) pulling: [Option<Pulling>; 2],
    /// When it was compared with last.
    pub(super) compared_at: [Option<Moment>; 2],
    /// Records that differ were exchanged with it since more was found than one comparison settles.
    pub(super) exchanged: [bool; 2],
    /// When it was found to hold the same subscriptions last; `None`: it never was, or it was asked since for
    /// what it has changed.
    pub(super) agreed_at: Option<Stamp>,
    /// When it has said all that we had missed.
    pub(super) answered_at: [Option<Instant>; 2],
    /// The node has announced that it leaves.
    pub(super) has_left: bool,
    /// Whether it shares our clock, by what it has said last.
    pub(super) time: NodeTime,
    /// Which of its sealed messages have come.
    pub(super) window: ReplayWindow,
}

shm_safe!(Node {
    name,
    host,
    port,
    reach,
    since,
    last_message_at,
    presumed_until,
    needs_sync,
    notified_at,
    compares,
    speaks,
    placing,
    filled,
    pulling,
    compared_at,
    exchanged,
    agreed_at,
    answered_at,
    has_left,
    time,
    window
});

impl Node {
    /// A node of which nothing is known but its name and address.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub(super) fn new(name: &[u8], address: Option<&Address>, now: Moment) -> Result<Node, NoMemory> {
        let (host, port) = address.map(|address| (&*address.host, address.port)).unzip();
        let (name, host) = (shm::copy(name)?, shm::copy(host.unwrap_or_default())?);
        Ok(Node {
            name,
            host,
            port,
            reach: Reachability::Away,
            since: now,
            last_message_at: None,
            presumed_until: None,
            needs_sync: false,
            notified_at: None,
            compares: 0,
            speaks: None,
            placing: None,
            filled: 0,
            pulling: [None; 2],
            compared_at: [None; 2],
            exchanged: [true; 2],
            agreed_at: None,
            answered_at: [None; 2],
            has_left: false,
            time: NodeTime::Shared,
            window: ReplayWindow::default(),
        })
    }

    pub(super) fn is_at(&self, address: &Address) -> bool {
        self.port == Some(address.port) && *self.host == *address.host
    }

    pub(super) fn is_present(&self) -> bool {
        self.is_there() && !self.has_left && !self.name.is_empty()
    }

    /// Whether it places each record on `replicas` nodes.
    pub(super) fn places_with(&self, replicas: usize) -> bool {
        self.placing.is_some_and(|placing| usize::from(placing.replicas) == replicas)
    }

    pub(super) fn shares(&self, kind: RecordKind) -> bool {
        self.compares & kind.bit() != 0
    }

    /// Where it is, if that is known.
    pub(super) fn address(&self) -> Option<Address> {
        Some(Address { host: self.host.to_vec(), port: self.port? })
    }

    /// Whether it is there, as far as is known.
    pub(super) fn is_there(&self) -> bool {
        self.reach != Reachability::Away
    }

    /// Whether it is one of our kind that may have to be asked: it is there, or was when this node was frozen.
    pub(super) fn may_answer(&self) -> bool {
        self.is_there() && !self.has_left && !self.name.is_empty() && self.port.is_some()
    }

    /// Whether it is one of our kind and there.
    pub(super) fn answers(&self) -> bool {
        self.reach == Reachability::Answers && !self.name.is_empty() && self.port.is_some()
    }

    /// What dmq said of it last.
    pub(super) fn dmq_view(&self) -> DmqView {
        if self.reach == Reachability::Answers { DmqView::Answering } else { DmqView::Silent }
    }

    /// dmq says whether it answers; a node that has just sent something does, whatever dmq says.
    pub(super) fn set_reached(&mut self, view: DmqView, now: Moment) {
        if view == DmqView::Answering {
            self.last_message_at = None;
        }
        let has_sent_lately = self.last_message_at.is_some_and(|at| now - at < PRESUMED_ALIVE);
        let is_presumed = has_sent_lately || self.presumed_until.is_some_and(|until| now < until);
        let before = self.is_there();
        self.reach = match (view, is_presumed) {
            (DmqView::Answering, _) => Reachability::Answers,
            (DmqView::Silent, true) => Reachability::Presumed,
            (DmqView::Silent, false) => Reachability::Away,
        };
        if self.is_there() != before {
            self.since = now;
            // When it comes back it says anew whether it has all that it should hold.
            let is_there = self.is_there();
            self.placing.iter_mut().for_each(|placing| placing.is_ready &= is_there);
        }
    }
}
