//! What a cluster costs that grows: messages and bytes among the nodes for each refresh, each comparison and a node
//! that joins, and the memory of what a node holds. Each part is counted with as many subscriptions as fit a test, and
//! grows with their number alone.
use crate::layers::cluster::exchange::{self, ExchangeMessage};
use crate::node::{Disk, Effect, Node, NodeId, Record, Wire};
use crate::time::{Instant, Millis, UnixMillis};
use std::collections::VecDeque;

/// What the wall clocks show when the nodes begin.
const BEGIN: UnixMillis = UnixMillis(1_700_000_000_000);

/// Bytes of one announcement of a subscription as it was measured on real nodes, with dmq's header and the answer.
const ANNOUNCEMENT: u64 = 1_204 + 402;
/// Bytes of a refresh among nodes that read it, likewise; with `cluster_secret` 40 more.
const REFRESH: u64 = 515 + 402;
/// Bytes of dmq's header and of the answer.
const ENVELOPE: u64 = 440 + 402;
/// Bytes of one record in a page or an answer to a comparison.
const RECORD: u64 = 760;
/// Bytes of what a record is called by.
const NAME: u64 = 90;
/// Bytes of a sum, and of a key with its state, in a comparison.
const SUM: u64 = 17;
const ENTRY: u64 = 28;
/// Bytes of shared memory for a subscription, at its owner as at a node that holds a replica, as measured.
const SUBSCRIPTION: u64 = 412;

/// What was sent among nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    messages: u64,
    bytes: u64,
}

impl Cost {
    fn of(wire: &Wire) -> Cost {
        let (messages, bytes) = match wire {
            // dmq looks itself whether nodes answer; and so seldom do real nodes say how they place records.
            Wire::Beat | Wire::Clock(_) | Wire::Share(_) => (0, 0),
            Wire::Refresh(_) => (1, REFRESH),
            Wire::Record(Record::Sub(_) | Record::Doc(_)) => (1, ANNOUNCEMENT),
            // One of many in a message.
            Wire::Offer { .. } => (0, RECORD),
            Wire::Held(_) => (0, NAME),
            Wire::Exchange(ExchangeMessage::Records(records) | ExchangeMessage::Part(_, _, records)) => {
                (1, ENVELOPE + records.len() as u64 * RECORD)
            }
            Wire::Exchange(ExchangeMessage::Sums(_, sums)) => (1, ENVELOPE + 80 + sums.len() as u64 * SUM),
            Wire::Exchange(ExchangeMessage::Keys(_, entries)) => (1, ENVELOPE + 80 + entries.len() as u64 * ENTRY),
            Wire::Exchange(ExchangeMessage::Want(keys)) => (1, ENVELOPE + 60 + keys.len() as u64 * SUM),
            _ => (1, ENVELOPE + 120),
        };
        Cost { messages, bytes }
    }
}

struct Cluster {
    nodes: Vec<Node>,
    under_way: VecDeque<(NodeId, NodeId, Wire)>,
    cost: Cost,
    notifies: u64,
    now: u64,
    /// The node that does not run.
    absent: Option<NodeId>,
}

impl Cluster {
    fn new(count: usize) -> Cluster {
        let peers = |id: usize| (0..count).filter(|peer| *peer != id).collect();
        let nodes = (0..count).map(|id| Node::new(id, peers(id), None, 1, BEGIN)).collect();
        let (under_way, cost) = (VecDeque::new(), Cost::default());
        let mut cluster = Cluster { nodes, under_way, cost, notifies: 0, now: 1, absent: None };
        (0..count).for_each(|id| cluster.at(id, Node::start));
        cluster
    }

    /// Lets a node do something, and every message that follows from it arrive.
    fn at(&mut self, id: NodeId, work: impl FnOnce(&mut Node)) {
        self.nodes[id].now = self.now;
        work(&mut self.nodes[id]);
        self.collect(id);
        while let Some((from, to, wire)) = self.under_way.pop_front() {
            if self.absent == Some(to) {
                continue;
            }
            self.nodes[to].now = self.now;
            self.nodes[to].on_wire(from, wire);
            self.collect(to);
        }
    }

    fn collect(&mut self, id: NodeId) {
        for effect in std::mem::take(&mut self.nodes[id].out) {
            match effect {
                Effect::Send(to, wire) => {
                    let cost = Cost::of(&wire);
                    self.cost.messages += cost.messages;
                    self.cost.bytes += cost.bytes;
                    self.under_way.push_back((id, to, wire));
                }
                Effect::Notify { .. } => self.notifies += 1,
            }
        }
    }

    /// What something costs.
    fn cost_of(&mut self, work: impl FnOnce(&mut Cluster)) -> Cost {
        let before = self.cost;
        work(self);
        Cost { messages: self.cost.messages - before.messages, bytes: self.cost.bytes - before.bytes }
    }
}

/// Rounds of half a second until nodes that came or went are what all of them see, and what held records before does
/// not learn of them any more.
const SETTLED: usize = 160;

/// Nodes that hold part of everything each.
impl Cluster {
    fn placed(count: usize, replicas: usize) -> Cluster {
        let mut cluster = Cluster::new(count);
        cluster.nodes = cluster.nodes.into_iter().map(|node| node.placing(Some(replicas))).collect();
        cluster.live(SETTLED);
        assert!(cluster.nodes.iter().all(|node| node.places.is_ready));
        cluster
    }

    /// Lets so many half seconds pass.
    fn live(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.now += 500;
            let running = (0..self.nodes.len()).filter(|id| self.absent != Some(*id));
            running.collect::<Vec<_>>().into_iter().for_each(|id| self.at(id, Node::on_timer));
        }
    }

    /// The primary of a presentity.
    fn primary(&self, presentity: u32) -> NodeId {
        self.nodes[0].serving(presentity).first().copied().unwrap_or_default()
    }
}

/// What was counted with so many nodes.
#[derive(Debug)]
struct Figures {
    nodes: u64,
    refresh: Cost,
    comparison: Cost,
    join: Cost,
    subscriptions: u64,
}

/// Subscriptions spread over all nodes but one: each is refreshed once where it is, all pairs compare, and the last
/// node joins.
fn measure(count: usize, subscriptions: u32) -> Figures {
    let mut cluster = Cluster::new(count);
    for dialog in 0..subscriptions {
        cluster.at(dialog as usize % (count - 1), |node| node.subscribe(dialog, dialog % 1000));
    }
    let refresh = cluster.cost_of(|cluster| {
        for dialog in 0..subscriptions {
            cluster.at(dialog as usize % (count - 1), |node| assert!(node.refresh(dialog, 2)));
        }
    });
    assert_eq!(cluster.notifies, u64::from(subscriptions) * 2, "each SUBSCRIBE has one NOTIFY");
    let comparison = cluster.cost_of(|cluster| {
        for id in 0..count {
            for peer in (0..count).filter(|peer| *peer != id) {
                cluster.at(id, |node| exchange::compare(node, peer));
            }
        }
    });
    let last = count - 1;
    let join = cluster.cost_of(|cluster| {
        let fresh = cluster.nodes[last].restarted(Disk::Lost, cluster.now, BEGIN);
        cluster.nodes[last] = fresh;
        // A node that joins asks the first one that answers.
        let now = cluster.now;
        cluster.at(last, |node| exchange::pull(node, 0, Default::default(), Instant::at(now)));
    });
    assert_eq!(cluster.nodes[last].subs.len(), subscriptions as usize, "it holds what all hold");
    Figures { nodes: count as u64, refresh, comparison, join, subscriptions: u64::from(subscriptions) }
}

/// Phones refresh so often, in seconds.
const REFRESH_INTERVAL: u64 = 600;

fn show(figures: &Figures, subscriptions: u64) {
    let Figures { nodes, refresh, comparison, join, subscriptions: counted } = figures;
    let per_second = |cost: u64| cost * (subscriptions / REFRESH_INTERVAL) / counted;
    println!(
        "{nodes} nodes, {subscriptions} subscriptions: a refresh {} messages, {} bytes; in one second {} messages, \
         {} MB in all, {} messages at each node; all pairs compare: {} messages, {} KB; a join {} messages, {} MB; \
         {} MB of memory at each node",
        refresh.messages / counted,
        refresh.bytes / counted,
        per_second(refresh.messages),
        per_second(refresh.bytes) / 1_000_000,
        per_second(refresh.messages) / nodes,
        comparison.messages,
        comparison.bytes / 1_000,
        join.messages * subscriptions / counted,
        join.bytes * subscriptions / counted / 1_000_000,
        subscriptions * SUBSCRIPTION / 1_000_000,
    );
}

/// What was counted where each node holds part of everything.
#[derive(Debug)]
struct PlacedFigures {
    refresh: Cost,
    /// What all nodes say to each other in a minute in which nothing happens.
    quiet: Cost,
    loss: Cost,
    join: Cost,
    /// How many subscriptions a node holds on average, and at most.
    held: u64,
    most: u64,
}

/// Subscriptions that are made at the homes of so many presentities; each is refreshed there once, a node is lost, and
/// a new one joins in its place.
fn measure_placed(count: usize, replicas: usize, subscriptions: u32, presentities: u32) -> PlacedFigures {
    let mut cluster = Cluster::placed(count, replicas);
    for dialog in 0..subscriptions {
        let presentity = dialog % presentities;
        cluster.at(cluster.primary(presentity), |node| node.subscribe(dialog, presentity));
    }
    let refresh = cluster.cost_of(|cluster| {
        for dialog in 0..subscriptions {
            cluster.at(cluster.primary(dialog % presentities), |node| assert!(node.refresh(dialog, 2)));
        }
    });
    let held: Vec<u64> = cluster.nodes.iter().map(|node| node.subs.len() as u64).collect();
    assert_eq!(held.iter().sum::<u64>(), u64::from(subscriptions) * (replicas as u64 + 1), "no more and no less");
    let rounds = |cluster: &mut Cluster| cluster.cost_of(|cluster| cluster.live(SETTLED));
    let idle = rounds(&mut cluster);
    let last = count - 1;
    cluster.absent = Some(last);
    let loss = rounds(&mut cluster);
    cluster.absent = None;
    cluster.nodes[last] = cluster.nodes[last].restarted(Disk::Lost, cluster.now, BEGIN + Millis(cluster.now));
    cluster.at(last, Node::start);
    let join = rounds(&mut cluster);
    let after: Vec<u64> = cluster.nodes.iter().map(|node| node.subs.len() as u64).collect();
    assert_eq!(after, held, "everybody holds what it held before");
    let beyond_idle = |cost: Cost| Cost {
        messages: cost.messages.saturating_sub(idle.messages),
        bytes: cost.bytes.saturating_sub(idle.bytes),
    };
    PlacedFigures {
        refresh,
        quiet: Cost { messages: idle.messages * 120 / SETTLED as u64, bytes: idle.bytes * 120 / SETTLED as u64 },
        loss: beyond_idle(loss),
        join: beyond_idle(join),
        held: held.iter().sum::<u64>() / count as u64,
        most: held.iter().copied().max().unwrap_or_default(),
    }
}

fn show_placed(nodes: u64, replicas: usize, figures: &PlacedFigures, counted: u64, subscriptions: u64) {
    let PlacedFigures { refresh, quiet, loss, join, held, most } = figures;
    let per_second = |cost: u64| cost * (subscriptions / REFRESH_INTERVAL) / counted;
    println!(
        "{nodes} nodes, {replicas} replicas, {subscriptions} subscriptions: a refresh {} messages, {} bytes; in one \
         second {} messages, {} KB in all, {} messages at each node; a quiet minute {} messages, {} KB; a loss {} \
         messages, {} MB; a join {} messages, {} MB; {} MB of memory at each node, {} MB at the fullest",
        refresh.messages / counted,
        refresh.bytes / counted,
        per_second(refresh.messages),
        per_second(refresh.bytes) / 1_000,
        per_second(refresh.messages) / nodes,
        quiet.messages,
        quiet.bytes / 1_000,
        loss.messages * subscriptions / counted,
        loss.bytes * subscriptions / counted / 1_000_000,
        join.messages * subscriptions / counted,
        join.bytes * subscriptions / counted / 1_000_000,
        held * subscriptions / counted * SUBSCRIPTION / 1_000_000,
        most * subscriptions / counted * SUBSCRIPTION / 1_000_000,
    );
}

/// Where each node holds part of everything a refresh costs one message to each replica, however many nodes there are,
/// and a node that joins its share.
#[test]
fn costs_do_not_grow_with_the_nodes_where_each_holds_its_part() {
    for (nodes, replicas) in [(4, 1), (7, 1), (7, 3)] {
        let figures = measure_placed(nodes, replicas, 700, 100);
        let copies = 700 * replicas as u64;
        assert_eq!(figures.refresh, Cost { messages: copies, bytes: copies * REFRESH }, "{figures:?}");
        // While the nodes do not see the same former holders these send again what the others hold already.
        let share = figures.held * RECORD;
        assert!(figures.join.bytes < 16 * share, "{figures:?}");
    }
}

/// A refresh costs one message to each other node, a comparison of nodes that hold the same one for each pair and
/// direction, and a join as many pages as there are records.
#[test]
fn costs_grow_with_the_nodes_as_documented() {
    for nodes in [3, 7] {
        let figures = measure(nodes, 700);
        let others = nodes as u64 - 1;
        assert_eq!(figures.refresh, Cost { messages: 700 * others, bytes: 700 * others * REFRESH });
        assert_eq!(figures.comparison.messages, nodes as u64 * others);
        assert!(figures.join.messages < 700 / 5, "{figures:?}");
    }
}

/// The figures of docs/clustering.md (`make simulate-growth`).
#[test]
#[ignore = "takes a minute"]
fn growth() {
    for (nodes, subscriptions) in [(3, 100_000), (10, 1_000_000), (30, 10_000_000)] {
        show(&measure(nodes, 30_000), subscriptions);
    }
}

#[test]
#[ignore = "takes minutes"]
fn growth_where_each_holds_its_part() {
    for (nodes, subscriptions) in [(3, 100_000), (10, 1_000_000), (30, 10_000_000)] {
        for replicas in [1, 2] {
            let figures = measure_placed(nodes, replicas, 6_000, 2_000);
            show_placed(nodes as u64, replicas, &figures, 6_000, subscriptions);
        }
    }
}
