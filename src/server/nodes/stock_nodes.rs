//! The nodes of the cluster that run stock's module: they do not know our channel, and take subscriptions in stock's
//! own messages, from Kamailio 6.1 on.
use crate::host::dmq::{self, Address};
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::server::nodes::known_nodes::Lost;
use crate::server::nodes::node_id::NodeId;
use crate::shm_safe::shm_safe;
use crate::time::{Moment, Seconds};
use std::sync::atomic::{AtomicBool, Ordering};

struct StockNode {
    host: ShmBox<[u8]>,
    port: u16,
    state: StockState,
    /// When that changed.
    since: Moment,
    acceptance: Acceptance,
    /// Whether it has to be asked, or answered.
    due: DueMessages,
}

shm_safe!(StockNode { host, port, state, since, acceptance, due });

/// Whether there is a stock node at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StockState {
    /// dmq says that it answers.
    Answering,
    /// dmq says that it does not answer, or does not list it.
    Silent,
    /// One of ours runs at its address now.
    Replaced,
}

shm_safe!(
    enum StockState {
        Answering,
        Silent,
        Replaced,
    }
);

/// Whether a stock node takes subscriptions.
#[derive(Clone, Copy)]
enum Acceptance {
    /// The node has taken none, and has refused this many: nodes before 6.1 refuse all.
    Unknown { refused: u8 },
    /// The node has taken a subscription, or sent one.
    Taking,
}

shm_safe!(
    enum Acceptance {
        Unknown { refused },
        Taking,
    }
);

impl Acceptance {
    /// A node to which nothing was announced yet.
    const UNTRIED: Acceptance = Acceptance::Unknown { refused: 0 };

    /// Whether subscriptions are announced to the node.
    fn allows(self) -> bool {
        match self {
            Acceptance::Unknown { refused } => refused < MOST_REFUSED,
            Acceptance::Taking => true,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct DueMessages {
    question: bool,
    answer: bool,
}

shm_safe!(DueMessages { question, answer });

/// What became of a subscription that was sent to a stock node, or came from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The node has taken it, or sent it.
    Taken,
    /// The node has refused it.
    Refused,
}

/// What a stock node is due.
pub struct Task {
    /// The node.
    pub to: Address,
    /// The subscriptions there are, are announced to it: it was away, and does not ask again by itself.
    pub announce: bool,
    /// The node is asked for its own.
    pub ask: bool,
}

/// The stock nodes that were ever known, in shared memory.
pub struct StockNodes {
    list: Lock<ShmVec<StockNode>>,
    any: AtomicBool,
}

shm_safe!(StockNodes { list, any });

/// More than this is no cluster but an attack.
const MOST_STOCK_NODES: usize = 256;

/// A node that has refused this many subscriptions and taken none is sent no more.
const MOST_REFUSED: u8 = 3;

/// A node is lost when it has not answered dmq for this long.
const LOST_AFTER: Seconds = Seconds(2);

impl StockNodes {
    /// None is known.
    pub fn new() -> StockNodes {
        StockNodes { list: Lock::new(ShmVec::new_in(Shm)), any: AtomicBool::new(false) }
    }

    /// Whether there may be one: cheap, for each change.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// The node at `address` runs stock's module; returns its id.
    ///
    /// # Errors
    ///
    /// Fails when there is no shared memory, or no place, for one node more.
    pub fn note(&self, address: &Address, now: Moment) -> Result<NodeId, NoMemory> {
        let fresh = StockNode {
            host: shm::copy(&address.host)?,
            port: address.port,
            state: StockState::Answering,
            since: now,
            acceptance: Acceptance::UNTRIED,
            due: DueMessages { question: true, answer: false },
        };
        let mut list = self.list.lock();
        if let Some(place) = list.iter().position(|node| node.is_at(address)) {
            if list[place].state == StockState::Replaced {
                list[place] = fresh;
            }
            return Ok(NodeId::of_stock(place));
        }
        if list.len() >= MOST_STOCK_NODES {
            return Err(NoMemory);
        }
        shm::push(&mut list, fresh)?;
        self.any.store(true, Ordering::Relaxed);
        Ok(NodeId::of_stock(list.len() - 1))
    }

    /// One of ours has spoken from `address`: whatever ran there before has ended.
    pub fn replace(&self, address: &Address, now: Moment) {
        if !self.any() {
            return;
        }
        if let Some(node) = self.list.lock().iter_mut().find(|node| node.is_at(address) && !node.is_replaced()) {
            (node.state, node.since) = (StockState::Replaced, now);
        }
    }

    /// Whether the node at `address` runs stock's module.
    pub fn knows(&self, address: &Address) -> bool {
        self.any() && self.list.lock().iter().any(|node| node.is_at(address) && !node.is_replaced())
    }

    /// `host:port` of a node; empty where it is not known.
    pub fn name(&self, id: NodeId) -> Vec<u8> {
        let list = self.list.lock();
        id.stock_place().and_then(|place| list.get(place)).map(|node| node.address().name()).unwrap_or_default()
    }

    /// The node has sent a subscription, or has answered one with this code.
    pub fn note_outcome(&self, address: &Address, outcome: Outcome) {
        if let Some(node) = self.list.lock().iter_mut().find(|node| node.is_at(address)) {
            match (outcome, &mut node.acceptance) {
                (Outcome::Taken, acceptance) => *acceptance = Acceptance::Taking,
                (Outcome::Refused, Acceptance::Unknown { refused }) => *refused = refused.saturating_add(1),
                (Outcome::Refused, Acceptance::Taking) => {}
            }
        }
    }

    /// The nodes that take subscriptions.
    pub fn takers(&self) -> Vec<Address> {
        if !self.any() {
            return Vec::new();
        }
        let list = self.list.lock();
        let takers = list.iter().filter(|node| node.state == StockState::Answering && node.acceptance.allows());
        takers.map(StockNode::address).collect()
    }

    /// Compares with what dmq says now; returns what is due.
    pub fn observe(&self, seen: &[dmq::DmqNode], now: Moment) -> Vec<Task> {
        if !self.any() {
            return Vec::new();
        }
        let mut tasks = Vec::new();
        for node in self.list.lock().iter_mut().filter(|node| !node.is_replaced()) {
            let is_answering = seen.iter().any(|other| other.active && node.is_at(&other.address));
            let state = if is_answering { StockState::Answering } else { StockState::Silent };
            if state != node.state {
                (node.state, node.since) = (state, now);
                if is_answering {
                    node.acceptance = Acceptance::UNTRIED;
                    node.due = DueMessages { question: true, answer: true };
                }
            }
            if is_answering && (node.due.question || node.due.answer) {
                let due = std::mem::take(&mut node.due);
                tasks.push(Task { to: node.address(), announce: due.answer, ask: due.question });
            }
        }
        tasks
    }

    /// The nodes that are lost.
    pub fn lost(&self, now: Moment) -> Vec<Lost> {
        if !self.any() {
            return Vec::new();
        }
        let list = self.list.lock();
        let is_lost = |node: &StockNode| node.state != StockState::Answering && now - node.since >= LOST_AFTER;
        let lost = list.iter().enumerate().filter(|(_, node)| is_lost(node));
        lost.map(|(place, node)| Lost { id: NodeId::of_stock(place), age: now - node.since }).collect()
    }
}

impl Default for StockNodes {
    fn default() -> Self {
        StockNodes::new()
    }
}

impl StockNode {
    fn is_replaced(&self) -> bool {
        self.state == StockState::Replaced
    }

    fn is_at(&self, address: &Address) -> bool {
        self.port == address.port && *self.host == *address.host
    }

    fn address(&self) -> Address {
        Address { host: self.host.to_vec(), port: self.port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::nodes::testing::{at, seen};

    fn due(nodes: &StockNodes, list: &[(u16, bool)], now: Moment) -> Vec<(u16, bool, bool)> {
        nodes.observe(&seen(list), now).into_iter().map(|task| (task.to.port, task.announce, task.ask)).collect()
    }

    #[test]
    fn a_node_is_asked_once_and_answered_when_it_returns() {
        let nodes = StockNodes::new();
        assert!(!nodes.any() && nodes.takers().is_empty());
        let id = nodes.note(&at(1), Moment::at(10)).unwrap();
        assert_eq!(nodes.note(&at(1), Moment::at(10)).unwrap(), id);
        assert_eq!(nodes.name(id), b"10.0.0.1:1");
        assert_eq!(due(&nodes, &[(1, true)], Moment::at(11)), [(1, false, true)]);
        assert!(due(&nodes, &[(1, true)], Moment::at(12)).is_empty());
        assert!(due(&nodes, &[(1, false)], Moment::at(20)).is_empty());
        assert_eq!((nodes.lost(Moment::at(21)).len(), nodes.takers().len()), (0, 0));
        assert_eq!(
            nodes.lost(Moment::at(22)).iter().map(|lost| (lost.id, lost.age)).collect::<Vec<_>>(),
            [(id, Seconds(2))]
        );
        assert_eq!(due(&nodes, &[(1, true)], Moment::at(30)), [(1, true, true)]);
        assert!(nodes.lost(Moment::at(40)).is_empty());
    }

    #[test]
    fn a_node_that_takes_none_is_sent_no_more() {
        let nodes = StockNodes::new();
        nodes.note(&at(1), Moment::at(10)).unwrap();
        nodes.note(&at(2), Moment::at(10)).unwrap();
        nodes.note_outcome(&at(2), Outcome::Taken);
        for refused in 0..300 {
            assert_eq!(nodes.takers().contains(&at(1)), refused < MOST_REFUSED.into(), "{refused}");
            nodes.note_outcome(&at(1), Outcome::Refused);
            nodes.note_outcome(&at(2), Outcome::Refused);
        }
        assert_eq!(nodes.takers(), [at(2)], "an older version; one that lacks a package");
        // It may come back as a newer version.
        due(&nodes, &[(1, false), (2, true)], Moment::at(20));
        due(&nodes, &[(1, true), (2, true)], Moment::at(30));
        assert_eq!(nodes.takers(), [at(1), at(2)]);
    }

    #[test]
    fn a_node_may_be_replaced_by_one_of_ours_and_back() {
        let nodes = StockNodes::new();
        let id = nodes.note(&at(1), Moment::at(10)).unwrap();
        nodes.replace(&at(1), Moment::at(20));
        assert!(!nodes.knows(&at(1)) && nodes.takers().is_empty());
        assert!(due(&nodes, &[(1, true)], Moment::at(21)).is_empty());
        assert_eq!(nodes.lost(Moment::at(30)).len(), 1, "what it had is nobody's");
        assert_eq!(nodes.note(&at(1), Moment::at(40)).unwrap(), id);
        assert!(nodes.knows(&at(1)) && nodes.lost(Moment::at(50)).is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let nodes = StockNodes::new();
        assert!((1..=MOST_STOCK_NODES as u16).all(|port| nodes.note(&at(port), Moment::at(1)).is_ok()));
        assert!(nodes.note(&at(60_000), Moment::at(1)).is_err());
    }
}
