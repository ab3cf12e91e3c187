//! What is known of the messages of other nodes: their version, and what was asked of each node page by page.
use crate::cluster::clock::Stamp;
use crate::cluster::exchange::{Message, Pull, Pulling};
use crate::host::clock;
use crate::host::dmq::Address;
use crate::presence::comparison::{Comparison, Kind};
use crate::server::cluster::node_id::NodeId;
use crate::server::cluster::nodes::Nodes;
use crate::time::Seconds;

impl Nodes {
    /// A node has said which kinds of records it compares, and the version of its messages: it is here, and has not
    /// left.
    pub fn note_hello(&self, id: NodeId, kinds: u8, speaks: u8) {
        self.change(id, |node| (node.compares, node.speaks, node.has_left) = (kinds, speaks, false));
    }

    /// The version of the messages of the node at an address; 0 while it is not known.
    pub fn speaks(&self, address: &Address) -> u8 {
        self.list.lock().iter().find(|node| node.is_at(address)).map_or(0, |node| node.speaks)
    }

    /// The node at an address could not read a message: until it says again what it speaks it is sent the oldest.
    pub fn note_unread(&self, address: &Address) {
        if let Some(node) = self.list.lock().iter_mut().find(|node| node.is_at(address)) {
            node.speaks = 0;
        }
    }

    /// What is asked of a node page by page.
    pub fn pulling(&self, from: NodeId, kind: Kind) -> Option<Pulling> {
        self.with_pulling(from, kind, |pulling| *pulling)
    }

    /// The same, looked at and changed before another process does. Of a node that is not known nothing is kept.
    pub fn with_pulling<T>(&self, from: NodeId, kind: Kind, work: impl FnOnce(&mut Option<Pulling>) -> T) -> T {
        let mut list = self.list.lock();
        match from.place().and_then(|at| list.get_mut(at)) {
            Some(node) => work(&mut node.pulling[kind as usize]),
            None => work(&mut None),
        }
    }

    /// A node holds the same subscriptions at this moment, or nearly so.
    pub fn note_agreed(&self, with: NodeId, now: Stamp) {
        self.change(with, |node| node.agreed_at = Some(now));
    }

    /// When a node held the same last, unless it was asked since for what it has changed: it counts as asked.
    pub fn take_catch_up(&self, with: NodeId) -> Option<Stamp> {
        self.change(with, |node| node.agreed_at.take()).flatten()
    }

    /// The next comparison with a node is `earlier` than it would be.
    pub fn compare_earlier(&self, with: NodeId, kind: Kind, earlier: Seconds) {
        self.change(with, |node| {
            let compared_at = &mut node.compared_at[kind as usize];
            *compared_at = compared_at.map(|at| at.min(clock::now() - earlier));
        });
    }

    /// Begins to ask a node for what was changed since a moment; returns the question.
    pub fn begin_pull(&self, from: NodeId, kind: Kind, since: Stamp) -> Comparison {
        let (pull, now) = (Pull { cursor: 0, since }, clock::monotonic_millis());
        self.with_pulling(from, kind, |pulling| *pulling = Some(Pulling::of(pull, now)));
        Message::Pull(pull)
    }
}
