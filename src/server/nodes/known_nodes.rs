//! The nodes of the cluster that run this module: their names, whether they answer, and what they still have to be
//! sent.
use crate::cluster::consent::NodeSet;
use crate::cluster::digest::RecordKey;
use crate::cluster::seal::Sealed;
use crate::cluster::unsettled::Difference;
use crate::host::dmq::{self, Address};
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmVec};
use crate::presence::replication::comparison::RecordKind;
use crate::server::nodes::joining::Joining;
use crate::server::nodes::known_node::{DmqView, Node, Reachability};
use crate::server::nodes::node_id::NodeId;
use crate::shm_safe::shm_safe;
use crate::time::{Instant, Moment, Seconds};

/// All nodes that were ever known, in shared memory.
pub struct Nodes {
    pub(super) list: Lock<ShmVec<Node>>,
    /// How far this node has come into the cluster.
    pub joining: Joining,
    /// Differences that exchanging records did not settle.
    pub(crate) differences: Lock<ShmVec<Difference>>,
}

shm_safe!(Nodes { list, joining, differences });

/// More than this is no cluster but an attack.
const MOST_NODES: usize = 256;

/// A node that misses messages again and again is sent everything this often at most.
const FULL_STATE_INTERVAL: Seconds = Seconds(5);

/// The time without an answer after which a node is lost; dmq has tried for a while before.
const LOST_AFTER: Seconds = Seconds(2);

/// A node that was given up no longer than this before the freeze counts as one that was there when it began.
const FROZEN_MARGIN: Seconds = Seconds(3);

/// The time that nodes have to answer the questions of a node that was frozen.
const ANSWER_TIME: Seconds = Seconds(5);

/// A node that others speak of is lost when it has not been seen for this long.
const UNSEEN_AFTER: Seconds = Seconds(10);

/// How long a node that asks waits for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// All that are there still have time to answer.
    GoesOn,
    /// Nodes that have not begun to answer are not there.
    Ended,
}

/// A node that does not answer.
pub struct Lost {
    /// The node's place.
    pub id: NodeId,
    /// For how long.
    pub age: Seconds,
}

impl Nodes {
    /// None is known.
    pub fn new() -> Nodes {
        Nodes {
            list: Lock::new(ShmVec::new_in(Shm)),
            joining: Joining::default(),
            differences: Lock::new(ShmVec::new_in(Shm)),
        }
    }

    /// The place of a node, made when it is new.
    ///
    /// # Errors
    ///
    /// Fails when there is no shared memory, or no place, for one node more.
    pub fn of_name(&self, name: &[u8], now: Moment) -> Result<NodeId, NoMemory> {
        let fresh = Node::new(name, None, now)?;
        let mut list = self.list.lock();
        if let Some(at) = list.iter().position(|node| *node.name == *name) {
            return Ok(NodeId::at(at));
        }
        add(&mut list, fresh)
    }

    /// The name of a node.
    pub fn name(&self, id: NodeId) -> Vec<u8> {
        let list = self.list.lock();
        id.place().and_then(|at| list.get(at)).map(|node| node.name.to_vec()).unwrap_or_default()
    }

    /// A node has spoken.
    pub fn mark_alive(&self, name: &[u8], now: Moment) {
        if let Some(node) =
            self.list.lock().iter_mut().find(|node| *node.name == *name && node.reach == Reachability::Away)
        {
            node.last_message_at = Some(now);
            node.set_reached(DmqView::Silent, now);
        }
    }

    /// A message came: the node at `address` calls itself `name`.
    ///
    /// # Errors
    ///
    /// Fails when there is no shared memory, or no place, for one node more.
    pub fn note_message_of(&self, name: &[u8], address: &Address, now: Moment) -> Result<(), NoMemory> {
        let fresh = Node::new(name, Some(address), now)?;
        let mut list = self.list.lock();
        let known = list.iter().position(|node| node.is_at(address));
        let named = list.iter().position(|node| *node.name == *name);
        let at = match (known, named) {
            (Some(known), Some(named)) if known == named => return Ok(()),
            (Some(known), None) if list[known].name.is_empty() => {
                list[known].name = fresh.name;
                return Ok(());
            }
            (_, Some(named)) => named,
            (_, None) => {
                add(&mut list, Node::new(name, None, now)?)?;
                list.len() - 1
            }
        };
        // What was known of the address goes on under this name.
        let (reach, since, needs_sync) = match known {
            Some(old) => {
                list[old].port = None;
                (list[old].reach, list[old].since, list[old].needs_sync)
            }
            None => (Reachability::Away, now, true),
        };
        let node = &mut list[at];
        (node.host, node.port) = (fresh.host, fresh.port);
        let reach = if reach == Reachability::Answers { reach } else { Reachability::Presumed };
        (node.reach, node.since, node.needs_sync) = (reach, since, needs_sync);
        Ok(())
    }

    /// Compares with what dmq says now; returns the nodes that have just begun to answer.
    pub fn observe(&self, seen: &[dmq::DmqNode], now: Moment) -> Vec<Address> {
        let mut returned = Vec::new();
        // A node that joins after us asks for the subscriptions; a node that we find, or find again, gets ours.
        let new_here = self.joining.are_others_new(now);
        for other in seen.iter().filter(|node| !node.local) {
            let Ok(fresh) = Node::new(b"", Some(&other.address), now) else { continue };
            let mut list = self.list.lock();
            let node = match list.iter().position(|node| node.is_at(&other.address)) {
                Some(at) => {
                    list[at].needs_sync |= other.active && list[at].reach != Reachability::Answers;
                    &mut list[at]
                }
                None => match add(&mut list, fresh) {
                    Ok(_) => {
                        let at = list.len() - 1;
                        list[at].needs_sync = new_here;
                        &mut list[at]
                    }
                    Err(NoMemory) => continue,
                },
            };
            if other.active && node.reach != Reachability::Answers {
                returned.push(other.address.clone());
            }
            node.set_reached(DmqView::of_node(other), now);
        }
        let mut list = self.list.lock();
        for node in list.iter_mut().filter(|node| node.port.is_some()) {
            if !seen.iter().any(|other| node.is_at(&other.address)) {
                node.set_reached(DmqView::Silent, now);
            }
        }
        returned
    }

    /// A message to a node was lost: everything is announced to it again.
    pub fn note_missed(&self, address: &Address) {
        if let Some(node) = self.list.lock().iter_mut().find(|node| node.is_at(address)) {
            node.needs_sync = true;
        }
    }

    /// A node was sent everything.
    pub fn record_notified(&self, address: &Address, now: Moment) {
        if let Some(node) = self.list.lock().iter_mut().find(|node| node.is_at(address)) {
            node.needs_sync = false;
            node.notified_at = Some(now);
        }
    }

    /// The nodes that are to be sent what we have.
    pub fn take_needing_sync(&self, now: Moment) -> Vec<(Address, u8)> {
        let mut list = self.list.lock();
        let rests = |node: &Node| node.notified_at.is_some_and(|at| now - at < FULL_STATE_INTERVAL);
        let due = list.iter_mut().filter(|node| node.needs_sync && node.answers() && !rests(node));
        due.filter_map(|node| {
            node.needs_sync = false;
            node.notified_at = Some(now);
            node.compared_at = [None; 2];
            Some((node.address()?, node.compares))
        })
        .collect()
    }

    /// Whether `own` comes first among the nodes of our kind that answer: it speaks for all.
    pub fn is_first(&self, own: &[u8]) -> bool {
        self.list.lock().iter().filter(|node| node.answers()).all(|node| own < &*node.name)
    }

    /// The nodes that compare records of a kind and are there.
    pub fn peers(&self, kind: RecordKind) -> Vec<(NodeId, Address)> {
        let list = self.list.lock();
        let peers = list.iter().enumerate().filter(|(_, node)| node.answers() && node.compares & kind.bit() != 0);
        peers.filter_map(|(at, node)| Some((NodeId::at(at), node.address()?))).collect()
    }

    /// Where a node is.
    pub fn address(&self, id: NodeId) -> Option<Address> {
        let list = self.list.lock();
        list.get(id.place()?).and_then(Node::address)
    }

    /// The places of those at these addresses that are ours, and there.
    pub(crate) fn places_at(&self, addresses: &[Address]) -> NodeSet {
        let (list, mut places) = (self.list.lock(), NodeSet::NONE);
        let is_awaited = |node: &Node| !node.has_left && node.answers() && addresses.iter().any(|at| node.is_at(at));
        let awaited = list.iter().enumerate().filter(|(_, node)| is_awaited(node));
        awaited.for_each(|(place, _)| places.add(place));
        places
    }

    /// The place of the node at an address.
    pub(crate) fn place_at(&self, address: &Address) -> Option<usize> {
        self.list.lock().iter().position(|node| node.is_at(address))
    }

    pub(super) fn change<R>(&self, id: NodeId, change: impl FnOnce(&mut Node) -> R) -> Option<R> {
        let mut list = self.list.lock();
        list.get_mut(id.place()?).map(change)
    }

    /// Whether a sealed message is new; it is not from then on. Without room for another node it counts as old.
    #[must_use = "a message that is not new is not carried out"]
    pub fn take_number(&self, by: &Sealed, now: Moment) -> bool {
        let Ok(id) = self.of_name(&by.sender, now) else { return false };
        self.change(id, |node| node.window.take(by)).unwrap_or_default()
    }

    /// Whether the node at an address has shown that it knows the secret.
    pub fn is_authenticated(&self, address: &Address) -> bool {
        self.list.lock().iter().any(|node| node.is_at(address) && !node.window.is_empty())
    }

    /// A node announces that it leaves.
    pub fn note_left(&self, id: NodeId) {
        self.change(id, |node| node.has_left = true);
    }

    /// Notes that this node was frozen for `time`. What dmq says of the others is from before, or of messages whose
    /// answers nobody read: who was there then is there until it has had the time to answer.
    pub fn on_freeze(&self, now: Moment, time: Seconds) {
        for node in self.list.lock().iter_mut() {
            if node.is_there() || now - node.since <= time + FROZEN_MARGIN {
                node.presumed_until = Some(now + ANSWER_TIME);
                node.set_reached(node.dmq_view(), now);
            }
        }
    }

    /// A node has said all that we had missed.
    pub fn note_answered(&self, from: NodeId, kind: RecordKind, now: Instant) {
        self.change(from, |node| node.answered_at[kind as usize] = Some(now));
    }

    /// The nodes of our kind that were to be asked.
    pub fn asked(&self, kind: RecordKind) -> Vec<(NodeId, Address)> {
        let list = self.list.lock();
        let asked = list.iter().enumerate().filter(|(_, node)| node.may_answer() && node.shares(kind));
        asked.filter_map(|(at, node)| Some((NodeId::at(at), node.address()?))).collect()
    }

    /// Where nodes of our kind are that dmq has just given up: they are asked whether they are there.
    pub fn doubted(&self, now: Moment) -> Vec<Address> {
        let list = self.list.lock();
        let is_doubted = |node: &&Node| !node.is_there() && !node.has_left && now - node.since <= LOST_AFTER;
        let doubted = list.iter().filter(|node| !node.name.is_empty()).filter(is_doubted);
        doubted.filter_map(Node::address).collect()
    }

    /// Whether all nodes that are there have said, since `asked_at`, what we had missed.
    pub fn has_answers(&self, kind: RecordKind, asked_at: Instant, wait: Wait) -> bool {
        let list = self.list.lock();
        let mut others = list.iter().filter(|node| node.may_answer() && node.shares(kind));
        let has_answered = |node: &Node| {
            let is_announcing = node.pulling[kind as usize].is_some_and(|pulling| pulling.pull.cursor > 0);
            node.answered_at[kind as usize] >= Some(asked_at) || wait == Wait::Ended && !is_announcing
        };
        others.all(has_answered)
    }

    /// Whether it is time to compare with a node, which the caller does.
    #[must_use = "the caller compares"]
    pub fn take_comparison(&self, with: NodeId, kind: RecordKind, now: Moment, interval: Seconds) -> bool {
        let due = |node: &mut Node| {
            let compared_at = &mut node.compared_at[kind as usize];
            let is_due = compared_at.is_none_or(|at| now - at >= interval);
            *compared_at = if is_due { Some(now) } else { *compared_at };
            is_due
        };
        self.change(with, due).unwrap_or_default()
    }

    /// The digests of the names of owners.
    pub fn owner_keys(&self, own: &[u8]) -> OwnerKeys {
        let list = self.list.lock();
        OwnerKeys {
            own: RecordKey::of_names(&[own]).0,
            others: list.iter().map(|node| RecordKey::of_names(&[&node.name]).0).collect(),
        }
    }

    /// The node at `address` runs stock's module now: what ran there under a name of ours is gone.
    pub fn note_stock(&self, address: &Address, now: Moment) {
        let mut list = self.list.lock();
        if let Some(node) = list.iter_mut().find(|node| !node.name.is_empty() && node.is_at(address)) {
            node.port = None;
            node.last_message_at = None;
            node.set_reached(DmqView::Silent, now);
        }
    }

    /// Whether one of our kind has spoken from `address`.
    pub fn is_ours(&self, address: &Address) -> bool {
        self.list.lock().iter().any(|node| !node.name.is_empty() && node.is_at(address))
    }

    /// Where nodes answer dmq that have not said who they are, or which messages they read: a node that could not read
    /// one may read the next.
    pub fn unknown(&self) -> Vec<Address> {
        let list = self.list.lock();
        list.iter()
            .filter(|node| node.reach == Reachability::Answers)
            .filter(|node| node.name.is_empty() || node.speaks.is_none())
            .filter_map(Node::address)
            .collect()
    }

    /// Where the nodes of our kind listen that answer.
    pub fn addresses(&self) -> Vec<Address> {
        self.list.lock().iter().filter(|node| node.answers()).filter_map(Node::address).collect()
    }

    /// The names of the nodes of our kind that are there.
    pub fn present(&self) -> Vec<Vec<u8>> {
        let list = self.list.lock();
        let present = list.iter().filter(|node| node.is_present());
        present.map(|node| node.name.to_vec()).collect()
    }

    /// All nodes of our kind that were ever known: their names, and whether they are there.
    pub fn known(&self) -> Vec<(Vec<u8>, bool)> {
        let list = self.list.lock();
        let named = list.iter().filter(|node| !node.name.is_empty());
        named.map(|node| (node.name.to_vec(), node.is_there())).collect()
    }

    /// The nodes that are lost.
    pub fn lost(&self, now: Moment) -> Vec<Lost> {
        let list = self.list.lock();
        let lost =
            list.iter().enumerate().filter(|(_, node)| !node.name.is_empty() && (!node.is_there() || node.has_left));
        let lost_after = |node: &Node| if node.port.is_some() { LOST_AFTER } else { UNSEEN_AFTER };
        lost.filter(|(_, node)| node.has_left || now - node.since >= lost_after(node))
            .map(|(at, node)| Lost { id: NodeId::at(at), age: now - node.since })
            .collect()
    }
}

/// The digests of the names of all nodes.
pub struct OwnerKeys {
    own: u64,
    others: Vec<u64>,
}

impl OwnerKeys {
    /// Returns the key of an owner; what is not settled yet is ours.
    pub fn key_of(&self, owner: NodeId) -> u64 {
        let other = owner.place().and_then(|at| self.others.get(at));
        other.copied().unwrap_or(self.own)
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Nodes::new()
    }
}

fn add(list: &mut ShmVec<Node>, node: Node) -> Result<NodeId, NoMemory> {
    if list.len() >= MOST_NODES {
        return Err(NoMemory);
    }
    shm::push(list, node)?;
    Ok(NodeId::at(list.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::nodes::testing::{at, seen};

    #[test]
    fn nodes_come_go_and_return() {
        let nodes = Nodes::new();
        nodes.joining.note_joined(Moment::at(5));
        assert_eq!(nodes.observe(&seen(&[(1, true)]), Moment::at(10)), [at(1)]);
        assert!(nodes.present().is_empty(), "it has not said who it is");
        nodes.note_message_of(b"b", &at(1), Moment::at(10)).unwrap();
        assert_eq!(nodes.present(), [b"b".to_vec()]);
        assert_eq!(nodes.take_needing_sync(Moment::at(10)), [(at(1), 0)]);
        assert!(nodes.take_needing_sync(Moment::at(20)).is_empty());
        assert!(nodes.observe(&seen(&[(1, false)]), Moment::at(20)).is_empty());
        assert!(nodes.lost(Moment::at(21)).is_empty());
        assert_eq!(nodes.known(), [(b"b".to_vec(), false)]);
        assert_eq!(
            nodes.lost(Moment::at(22)).iter().map(|lost| nodes.name(lost.id)).collect::<Vec<_>>(),
            [b"b".to_vec()]
        );
        assert_eq!(nodes.observe(&seen(&[(1, true)]), Moment::at(30)), [at(1)]);
        assert_eq!(nodes.known(), [(b"b".to_vec(), true)]);
        assert_eq!(nodes.take_needing_sync(Moment::at(30)), [(at(1), 0)]);
        nodes.observe(&[], Moment::at(40));
        assert_eq!(nodes.lost(Moment::at(50)).len(), 1);
        nodes.mark_alive(b"b", Moment::at(50));
        nodes.observe(&[], Moment::at(130));
        assert!(nodes.lost(Moment::at(139)).is_empty(), "it has spoken");
        nodes.observe(&[], Moment::at(140));
        assert_eq!(nodes.lost(Moment::at(142)).len(), 1);
    }

    #[test]
    fn what_a_node_speaks_is_known_from_its_last_hello() {
        let nodes = Nodes::new();
        nodes.note_message_of(b"b", &at(1), Moment::at(10)).unwrap();
        let id = nodes.of_name(b"b", Moment::at(10)).unwrap();
        assert_eq!((nodes.speaks(&at(1)), nodes.speaks(&at(2))), (None, None));
        nodes.note_hello(id, 3, 3);
        assert_eq!(nodes.speaks(&at(1)), Some(3));
        // It was replaced by an older version, and says so later.
        nodes.note_unread(&at(1));
        assert_eq!(nodes.speaks(&at(1)), None);
        nodes.note_hello(id, 3, 2);
        assert_eq!(nodes.speaks(&at(1)), Some(2));
    }

    #[test]
    fn after_a_freeze_dmq_is_not_believed_at_once() {
        let nodes = Nodes::new();
        nodes.observe(&seen(&[(1, true), (2, true)]), Moment::at(10));
        for (name, port) in [(b"b", 1), (b"c", 2)] {
            nodes.note_message_of(name, &at(port), Moment::at(10)).unwrap();
            nodes.note_hello(nodes.of_name(name, Moment::at(10)).unwrap(), RecordKind::Subscriptions.bit(), 2);
        }
        // c was lost long before; of b dmq has had no answer, because nobody read it.
        nodes.observe(&seen(&[(1, true), (2, false)]), Moment::at(20));
        nodes.observe(&seen(&[(1, false), (2, false)]), Moment::at(60));
        nodes.on_freeze(Moment::at(60), Seconds(12));
        assert_eq!(
            nodes.asked(RecordKind::Subscriptions).into_iter().map(|(_, address)| address).collect::<Vec<_>>(),
            [at(1)]
        );
        assert!(
            !nodes.has_answers(RecordKind::Subscriptions, Instant::at(60_000), Wait::GoesOn)
                && nodes.has_answers(RecordKind::Subscriptions, Instant::at(60_000), Wait::Ended)
        );
        nodes.observe(&seen(&[(1, false), (2, false)]), Moment::at(62));
        assert_eq!(nodes.present(), [b"b".to_vec()]);
        nodes.note_answered(
            nodes.of_name(b"b", Moment::at(62)).unwrap(),
            RecordKind::Subscriptions,
            Instant::at(62_000),
        );
        assert!(nodes.has_answers(RecordKind::Subscriptions, Instant::at(60_000), Wait::GoesOn));
        // Whether it is there still it is asked again.
        nodes.observe(&seen(&[(1, false), (2, false)]), Moment::at(66));
        assert_eq!(nodes.doubted(Moment::at(66)), [at(1)]);
        nodes.mark_alive(b"b", Moment::at(66));
        assert!(nodes.doubted(Moment::at(66)).is_empty() && nodes.lost(Moment::at(70)).len() == 1);
    }

    #[test]
    fn who_comes_later_asks_and_who_missed_something_is_answered() {
        let nodes = Nodes::new();
        nodes.observe(&seen(&[(1, true), (2, true)]), Moment::at(100));
        nodes.note_message_of(b"b", &at(1), Moment::at(100)).unwrap();
        nodes.note_message_of(b"c", &at(2), Moment::at(100)).unwrap();
        assert!(nodes.take_needing_sync(Moment::at(100)).is_empty());
        assert!(nodes.is_first(b"a") && !nodes.is_first(b"bb"));
        nodes.note_missed(&at(2));
        assert_eq!(nodes.take_needing_sync(Moment::at(100)), [(at(2), 0)]);
        nodes.note_missed(&at(2));
        assert!(nodes.take_needing_sync(Moment::at(104)).is_empty(), "not so soon");
        assert_eq!(nodes.take_needing_sync(Moment::at(105)), [(at(2), 0)]);
    }

    #[test]
    fn a_name_known_from_others_gets_its_address() {
        let nodes = Nodes::new();
        let id = nodes.of_name(b"b", Moment::at(5)).unwrap();
        assert_eq!((nodes.lost(Moment::at(10)).len(), nodes.lost(Moment::at(15)).len()), (0, 1));
        nodes.observe(&seen(&[(1, true)]), Moment::at(10));
        nodes.note_message_of(b"b", &at(1), Moment::at(10)).unwrap();
        assert_eq!(nodes.of_name(b"b", Moment::at(10)).unwrap(), id);
        assert!(nodes.lost(Moment::at(20)).is_empty());
        nodes.note_message_of(b"b", &at(3), Moment::at(20)).unwrap();
        nodes.observe(&seen(&[(3, true)]), Moment::at(20));
        assert_eq!(nodes.take_needing_sync(Moment::at(20)), [(at(3), 0)]);
    }

    #[test]
    fn a_node_that_runs_stock_now_is_lost_under_its_name() {
        let nodes = Nodes::new();
        nodes.observe(&seen(&[(1, true)]), Moment::at(10));
        assert_eq!(nodes.unknown(), [at(1)]);
        nodes.note_message_of(b"b", &at(1), Moment::at(10)).unwrap();
        let id = nodes.of_name(b"b", Moment::at(10)).unwrap();
        nodes.note_hello(id, 3, 3);
        assert!(nodes.is_ours(&at(1)) && nodes.unknown().is_empty());
        nodes.note_unread(&at(1));
        assert_eq!(nodes.unknown(), [at(1)]);
        nodes.note_hello(id, 3, 3);
        assert!(nodes.name(NodeId::of_stock(0)).is_empty());
        assert_eq!(nodes.addresses(), [at(1)]);
        nodes.note_stock(&at(1), Moment::at(20));
        assert!(!nodes.is_ours(&at(1)) && nodes.addresses().is_empty());
        assert_eq!(nodes.lost(Moment::at(40)).len(), 1);
    }

    #[test]
    fn no_more_are_known_than_there_is_room_for() {
        let nodes = Nodes::new();
        let name = |n: usize| format!("node{n}").into_bytes();
        assert!((0..MOST_NODES).all(|n| nodes.of_name(&name(n), Moment::at(1)).is_ok()));
        assert!(nodes.of_name(&name(MOST_NODES), Moment::at(1)).is_err());
        assert!(nodes.note_message_of(&name(MOST_NODES), &at(7), Moment::at(1)).is_err());
        assert!(nodes.observe(&seen(&[(7, true)]), Moment::at(1)).is_empty());
        // Those that are known are known still.
        assert!(nodes.of_name(&name(MOST_NODES - 1), Moment::at(2)).is_ok());
        assert_eq!(nodes.known().len(), MOST_NODES);
    }
}
