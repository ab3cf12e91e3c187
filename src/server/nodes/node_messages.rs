//! What is known of the messages of other nodes: their version, and what was asked of each node page by page.
use crate::cluster::clock::Stamp;
use crate::cluster::digest::{RecordKey, mixed};
use crate::cluster::exchange::{ExchangeMessage, Pull, Pulling};
use crate::cluster::unsettled::{self, Difference, ExchangeVerdict};
use crate::host::clock;
use crate::host::dmq::Address;
use crate::presence::replication::ReceiptClock;
use crate::presence::replication::comparison::{Comparison, RecordKind};
use crate::presence::replication::node_messages::CLOCKED;
use crate::server::nodes::known_node::{Node, NodePlacing, NodeTime};
use crate::server::nodes::known_nodes::Nodes;
use crate::server::nodes::node_id::NodeId;
use crate::time::{Instant, Seconds};

/// A node among those that records are placed on.
#[derive(Debug, Clone, Copy)]
pub struct SharingNode {
    /// The node.
    pub id: NodeId,
    /// The digest of its name.
    pub key: u64,
    /// The node has all that it should hold.
    pub is_ready: bool,
}

impl Nodes {
    /// A node has said which kinds of records it compares, and the version of its messages: it is here, and has not
    /// left.
    pub fn note_hello(&self, id: NodeId, kinds: u8, speaks: u8) {
        self.change(id, |node| (node.compares, node.speaks, node.has_left) = (kinds, Some(speaks), false));
    }

    /// The version of the messages of the node at an address, if it is known.
    pub fn speaks(&self, address: &Address) -> Option<u8> {
        self.list.lock().iter().find(|node| node.is_at(address))?.speaks
    }

    /// A node has said its clock, which is near enough to ours to be shared, or not.
    pub fn note_time(&self, id: NodeId, time: NodeTime) {
        self.change(id, |node| node.time = time);
    }

    /// By which clock the node at an address says when it has received a publication.
    pub fn receipt_clock(&self, address: &Address) -> ReceiptClock {
        let list = self.list.lock();
        match list.iter().find(|node| node.is_at(address)) {
            Some(node) if node.speaks.is_none_or(|speaks| speaks < CLOCKED) => ReceiptClock::Own,
            Some(node) if node.time == NodeTime::Other => ReceiptClock::Wrong,
            Some(_) => ReceiptClock::Shared,
            None => ReceiptClock::Own,
        }
    }

    /// The node at an address could not read a message: until it says again what it speaks it is sent the oldest.
    pub fn note_unread(&self, address: &Address) {
        if let Some(node) = self.list.lock().iter_mut().find(|node| node.is_at(address)) {
            node.speaks = None;
        }
    }

    /// A node has said how it places records.
    pub fn note_placing(&self, id: NodeId, placing: NodePlacing) {
        self.change(id, |node| node.placing = Some(placing));
    }

    /// Where the node of this name is.
    pub fn address_of_name(&self, name: &[u8]) -> Option<Address> {
        let list = self.list.lock();
        list.iter().filter(|node| &*node.name == name).find_map(Node::address)
    }

    /// The nodes that are there and place records as this one does.
    pub fn sharing(&self, replicas: usize) -> Vec<SharingNode> {
        let list = self.list.lock();
        let sharing = list.iter().enumerate().filter(|(_, node)| node.is_present() && node.places_with(replicas));
        let named = sharing.map(|(at, node)| SharingNode {
            id: NodeId::at(at),
            key: RecordKey::of_names(&[&node.name]).0,
            is_ready: node.placing.is_some_and(|placing| placing.is_ready),
        });
        named.collect()
    }

    /// The nodes of our kind that are there and place records differently, or have not said how.
    pub fn not_sharing(&self, replicas: usize) -> Vec<Vec<u8>> {
        let list = self.list.lock();
        let others = list.iter().filter(|node| node.is_present() && !node.places_with(replicas));
        others.map(|node| node.name.to_vec()).collect()
    }

    /// A node has sent all its records of a kind.
    pub fn note_filled(&self, by: NodeId, kind: RecordKind) {
        self.change(by, |node| node.filled |= kind.bit());
    }

    /// Forgets which nodes were filled.
    pub fn clear_filled(&self) {
        self.list.lock().iter_mut().for_each(|node| node.filled = 0);
    }

    /// Whether a node has sent all its records of a kind since this one started.
    pub fn has_filled(&self, by: NodeId, kind: RecordKind) -> bool {
        self.change(by, |node| node.filled & kind.bit() != 0).unwrap_or_default()
    }

    /// What is asked of a node page by page.
    pub fn pulling(&self, from: NodeId, kind: RecordKind) -> Option<Pulling> {
        self.with_pulling(from, kind, |pulling| *pulling)
    }

    /// The same, looked at and changed before another process does. Of a node that is not known nothing is kept.
    pub fn with_pulling<T>(&self, from: NodeId, kind: RecordKind, work: impl FnOnce(&mut Option<Pulling>) -> T) -> T {
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

    /// Records that differ are exchanged with a node.
    pub fn note_exchanged(&self, with: NodeId, kind: RecordKind) {
        self.change(with, |node| node.exchanged[kind as usize] = true);
    }

    /// The next comparison with a node is `earlier` than it would be, if records were exchanged with it since this was
    /// last said: what does not settle is not compared more often.
    pub fn compare_earlier(&self, with: NodeId, kind: RecordKind, earlier: Seconds) {
        self.change(with, |node| {
            if !std::mem::take(&mut node.exchanged[kind as usize]) {
                return;
            }
            let compared_at = &mut node.compared_at[kind as usize];
            *compared_at = compared_at.map(|at| at.min(clock::now() - earlier));
        });
    }

    /// What is done about a record that both hold differently; without memory it is exchanged each time.
    pub fn judge_difference(
        &self,
        with: NodeId,
        kind: RecordKind,
        key: RecordKey,
        states: u64,
        now: Instant,
    ) -> ExchangeVerdict {
        // With a node that was away in the meantime everything is exchanged anew.
        let since = self.change(with, |node| node.since.seconds() as u64).unwrap_or_default();
        let mut list = self.differences.lock();
        if list.is_empty() && list.try_reserve_exact(unsettled::MOST_DIFFERENCES).is_ok() {
            list.resize(unsettled::MOST_DIFFERENCES, Difference::default());
        }
        let node = mixed(2 * with.place().unwrap_or_default() as u64 + kind as u64);
        unsettled::judge(&mut list, key.0 ^ mixed(node ^ since), states, now)
    }

    /// Begins to ask a node for what was changed since a moment; returns the question.
    pub fn begin_pull(&self, from: NodeId, kind: RecordKind, since: Stamp) -> Comparison {
        let (pull, now) = (Pull { cursor: 0, since }, clock::instant());
        self.with_pulling(from, kind, |pulling| *pulling = Some(Pulling::begun(pull, now)));
        ExchangeMessage::Pull(pull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::nodes::testing::{at, seen};
    use crate::time::Moment;

    /// Nodes at these ports that answer, and have said with how many copies they place records, if at all; the first
    /// one is ready.
    fn nodes(list: &[(&[u8], u16, Option<u8>)]) -> Nodes {
        let nodes = Nodes::new();
        nodes.observe(&seen(&list.iter().map(|(_, port, _)| (*port, true)).collect::<Vec<_>>()), Moment::at(10));
        for (name, port, replicas) in list {
            nodes.note_message_of(name, &at(*port), Moment::at(10)).unwrap();
            let id = nodes.of_name(name, Moment::at(10)).unwrap();
            let placing = replicas.map(|replicas| NodePlacing { replicas, is_ready: *port == 1 });
            placing.into_iter().for_each(|placing| nodes.note_placing(id, placing));
        }
        nodes
    }

    #[test]
    fn records_are_placed_on_nodes_that_place_them_alike_and_are_there() {
        let nodes = nodes(&[(b"b", 1, Some(2)), (b"c", 2, Some(2)), (b"d", 3, Some(1)), (b"e", 4, None)]);
        let names = |list: Vec<SharingNode>| -> Vec<(Vec<u8>, bool)> {
            let known = |node: SharingNode| {
                assert_eq!(node.key, RecordKey::of_names(&[&nodes.name(node.id)]).0);
                (nodes.name(node.id), node.is_ready)
            };
            list.into_iter().map(known).collect()
        };
        assert_eq!(names(nodes.sharing(2)), [(b"b".to_vec(), true), (b"c".to_vec(), false)]);
        assert_eq!(names(nodes.sharing(1)), [(b"d".to_vec(), false)]);
        assert_eq!(nodes.not_sharing(2), [b"d".to_vec(), b"e".to_vec()]);
        let first = nodes.of_name(b"b", Moment::at(11)).unwrap();
        nodes.note_left(first);
        assert_eq!(names(nodes.sharing(2)), [(b"c".to_vec(), false)]);
    }

    #[test]
    fn what_did_not_settle_is_exchanged_anew_with_a_node_that_comes_back() {
        let nodes = nodes(&[(b"b", 1, Some(2))]);
        let id = nodes.of_name(b"b", Moment::at(10)).unwrap();
        let exchanges = |from: u64| {
            let judge = |second: u64| {
                nodes.judge_difference(
                    id,
                    RecordKind::Subscriptions,
                    RecordKey(7),
                    1,
                    Instant::at((from + second) * 1000),
                )
            };
            (0..10).filter(|second| judge(*second) != ExchangeVerdict::LeaveAlone).count()
        };
        assert_eq!([exchanges(0), exchanges(10)], [8, 1]);
        nodes.observe(&[], Moment::at(200));
        nodes.observe(&seen(&[(1, true)]), Moment::at(230));
        assert_eq!(exchanges(20), 8);
    }

    #[test]
    fn a_node_that_comes_back_says_anew_whether_it_is_ready() {
        let nodes = nodes(&[(b"b", 1, Some(2))]);
        assert!(nodes.sharing(2)[0].is_ready);
        nodes.observe(&[], Moment::at(20));
        assert!(nodes.sharing(2).is_empty());
        nodes.observe(&seen(&[(1, true)]), Moment::at(30));
        assert!(!nodes.sharing(2)[0].is_ready);
    }

    #[test]
    fn what_a_node_has_sent_is_known_by_kind_until_it_is_asked_anew() {
        let nodes = nodes(&[(b"b", 1, Some(1))]);
        let id = nodes.of_name(b"b", Moment::at(11)).unwrap();
        nodes.note_filled(id, RecordKind::Publications);
        assert!(nodes.has_filled(id, RecordKind::Publications) && !nodes.has_filled(id, RecordKind::Subscriptions));
        nodes.clear_filled();
        assert!(
            !nodes.has_filled(id, RecordKind::Publications)
                && !nodes.has_filled(NodeId::HERE, RecordKind::Publications)
        );
    }
}
