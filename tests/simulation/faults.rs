//! What goes wrong in a simulated life, and when: made from the seed.
use crate::node::{Disk, MESSAGES, NodeId};
use crate::simulation::Random;
use crate::wire::REFRESHES;

/// Which ways between two groups are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutWays {
    /// Messages from the first group to the second are lost.
    One,
    /// Messages are lost both ways.
    Both,
}

/// Whether owners are known by leases in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arbitration {
    /// There is no such table.
    None,
    /// There is one.
    Table,
}

/// What is special about the phones of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phones {
    /// Nothing.
    Stay,
    /// Phones refresh at several nodes at almost the same time, and there is one voice all the time.
    Roam,
    /// Publications run out, and two devices publish about the same dialog.
    RunOut,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// No message goes from a node of the first group to one of the second.
    Cut { from: Vec<NodeId>, to: Vec<NodeId>, ways: CutWays },
    /// Messages are lost, doubled and late; in percent, percent, milliseconds.
    Bad { loss: u64, doubled: u64, delay: u64 },
    /// A node does not run, and does not know it.
    Freeze(NodeId),
    /// A node is killed, and comes back with or without what was on its disk.
    Crash { node: NodeId, disk: Disk },
    /// A node announces that it leaves, and comes back later.
    Leave(NodeId),
    /// A node announces that it leaves, and comes back with another version of the messages.
    Upgrade(NodeId, u8),
    /// Nodes are stopped at the same instant: each reads the table of the arbiter before another one has changed it.
    LeaveTogether(Vec<NodeId>),
    /// Nodes do not reach the table of the arbiter.
    DatabaseAway(Vec<NodeId>),
    /// A node's wall clock is set.
    ClockJump(NodeId, i64),
}

#[derive(Debug, Clone)]
pub struct Timed {
    pub fault: Fault,
    pub at: u64,
    pub lasts: u64,
}

#[derive(Debug)]
pub struct Plan {
    pub nodes: usize,
    /// Records are on so many nodes beside the first one; `None`: on all.
    pub replicas: Option<usize>,
    pub arbitration: Arbitration,
    pub presentities: u32,
    pub dialogs: usize,
    pub skewed: bool,
    pub phones: Phones,
    /// The version of the messages of all nodes at first.
    pub first_version: u8,
    pub watch_every: u64,
    pub publish_every: u64,
    pub faults: Vec<Timed>,
}

/// The state of the network from one node to another.
pub struct Link {
    pub cut: bool,
    pub loss: u64,
    pub doubled: u64,
    pub delay: u64,
}

/// How long after the last fault everything is right again, in milliseconds: lost nodes are noticed, all nodes compare
/// with all, and what differs is exchanged.
pub const HEALED_AFTER: u64 = 30_000;
/// How long after the last fault every record is where it belongs, and nowhere else: nodes that were lost have what
/// they should hold, and those that stood in for them have handed over what they held.
const MOVED_AFTER: u64 = 75_000;
/// Where a node lost what nobody else had the phones' next refreshes say it again, all of them within this time.
const REFRESHED_AFTER: u64 = 40_000;
const FAULTS_FROM: u64 = 8_000;

impl Plan {
    pub fn is_arbitrated(&self) -> bool {
        self.arbitration == Arbitration::Table
    }

    pub fn roams(&self) -> bool {
        self.phones == Phones::Roam
    }

    pub fn of(random: &mut Random) -> Plan {
        let nodes = 3 + random.below(5) as usize;
        let large = random.one_in(50);
        let mut plan = Plan {
            nodes,
            replicas: None,
            arbitration: Arbitration::None,
            presentities: 3 + random.below(8) as u32,
            dialogs: if large { 1_500 } else { 10 + random.below(40) as usize },
            skewed: random.one_in(2),
            phones: Phones::Stay,
            first_version: MESSAGES,
            watch_every: 100 + random.below(200),
            publish_every: 100 + random.below(300),
            faults: Vec::new(),
        };
        let kind = random.below(8);
        for _ in 0..1 + random.below(4) {
            let at = plan.quiet_from().max(FAULTS_FROM) + 6_000 + random.below(4_000);
            let lasts = 500 + random.below(20_000);
            let fault = plan.fault(random, kind);
            plan.faults.push(Timed { fault: fault.clone(), at, lasts });
            // Two things at once: only those that leave what was accepted somewhere.
            if kind == 7 && matches!(fault, Fault::Cut { .. } | Fault::Freeze(_)) {
                let bad = Fault::Bad { loss: 30, doubled: 20, delay: 400 };
                plan.faults.push(Timed { fault: bad, at: at + 1_000, lasts: lasts / 2 });
            }
        }
        plan
    }

    /// The same life while the nodes are upgraded from an earlier version, one after the other; some of them go back
    /// once more.
    pub fn upgraded(mut self, random: &mut Random) -> Plan {
        // From the version before, and from the one that reads no refreshes.
        self.first_version = if self.presentities % 2 == 0 { REFRESHES - 1 } else { MESSAGES - 1 };
        let mut upgrades: Vec<(NodeId, u8)> = (0..self.nodes).map(|node| (node, MESSAGES)).collect();
        for at in 1..self.nodes {
            upgrades.swap(at, random.below(at as u64 + 1) as usize);
        }
        if random.one_in(2) {
            let node = random.below(self.nodes as u64) as usize;
            upgrades.extend([(node, self.first_version), (node, MESSAGES)]);
        }
        let mut at = FAULTS_FROM;
        for (node, version) in upgrades {
            let lasts = 500 + random.below(4_000);
            self.faults.push(Timed { fault: Fault::Upgrade(node, version), at, lasts });
            at += lasts + 3_000 + random.below(6_000);
        }
        self
    }

    /// The same life with an arbiter, whose table is out of reach for some nodes while other things go wrong, or for
    /// all.
    pub fn arbitrated(mut self, random: &mut Random) -> Plan {
        self.arbitration = Arbitration::Table;
        for fault in &mut self.faults {
            if let Fault::Leave(node) = fault.fault {
                let others = (1..self.nodes - 1).filter(|_| random.one_in(2)).map(|n| (node + n) % self.nodes);
                fault.fault = Fault::LeaveTogether([node].into_iter().chain(others).collect());
            }
        }
        for at in 0..self.faults.len() {
            let Timed { at, lasts, .. } = self.faults[at];
            if random.one_in(2) {
                let away = (0..self.nodes).filter(|_| random.one_in(2)).collect();
                self.faults.push(Timed { fault: Fault::DatabaseAway(away), at: at + random.below(2_000), lasts });
            }
        }
        self
    }

    /// The same life with phones that roam, where no message is lost.
    pub fn roaming(mut self, random: &mut Random) -> Plan {
        (self.phones, self.watch_every, self.publish_every) =
            (Phones::Roam, 20 + random.below(60), 10 + random.below(40));
        let mut at = FAULTS_FROM;
        self.faults = (0..2 + random.below(3))
            .map(|_| {
                at += 8_000 + random.below(6_000);
                let node = random.below(self.nodes as u64) as usize;
                let late = Fault::Bad { loss: 0, doubled: random.below(40), delay: 50 + random.below(400) };
                let fault = if random.one_in(2) { Fault::Freeze(node) } else { late };
                Timed { fault, at, lasts: 300 + random.below(6_000) }
            })
            .collect();
        self
    }

    /// The same life where publications run out, and no node forgets what it knows.
    pub fn running_out(mut self, random: &mut Random) -> Plan {
        (self.phones, self.publish_every) = (Phones::RunOut, 40 + random.below(100));
        self.faults.clear();
        for _ in 0..1 + random.below(4) {
            let at = self.quiet_from().max(FAULTS_FROM) + 6_000 + random.below(4_000);
            let lasts = 2_000 + random.below(20_000);
            let kind = [0, 0, 0, 1, 2, 3, 6][random.below(7) as usize];
            let fault = self.fault(random, kind);
            self.faults.push(Timed { fault, at, lasts });
        }
        self
    }

    /// The same life where so many nodes are killed at once, without their disks.
    pub fn losing(mut self, random: &mut Random, nodes: usize) -> Plan {
        let first = random.below(self.nodes as u64) as usize;
        let (at, lasts) = (20_000 + random.below(10_000), 5_000 + random.below(40_000));
        let crash = |n: usize| Fault::Crash { node: (first + n) % self.nodes, disk: Disk::Lost };
        self.faults = (0..nodes).map(|n| Timed { fault: crash(n), at, lasts }).collect();
        self
    }

    pub fn is_database_away(&self, now: u64, node: NodeId) -> bool {
        let under_way = self.faults.iter().filter(|fault| fault.at <= now && now < fault.at + fault.lasts);
        under_way.into_iter().any(|f| matches!(&f.fault, Fault::DatabaseAway(nodes) if nodes.contains(&node)))
    }

    fn fault(&self, random: &mut Random, kind: u64) -> Fault {
        let node = random.below(self.nodes as u64) as usize;
        match if kind == 7 { random.below(7) } else { kind } {
            0 => self.cut(random, CutWays::Both),
            1 => self.cut(random, CutWays::One),
            2 => Fault::Bad { loss: 5 + random.below(40), doubled: random.below(30), delay: 50 + random.below(900) },
            3 => Fault::Freeze(node),
            4 => Fault::Crash { node, disk: if random.one_in(2) { Disk::Kept } else { Disk::Lost } },
            5 => Fault::Leave(node),
            _ => Fault::ClockJump(node, random.below(200_000) as i64 - 100_000),
        }
    }

    fn cut(&self, random: &mut Random, ways: CutWays) -> Fault {
        let size = 1 + random.below(self.nodes as u64 - 1) as usize;
        let first = random.below(self.nodes as u64) as usize;
        let turned = |at: usize| (first + at) % self.nodes;
        let from = (0..size).map(turned).collect();
        // A partial cut leaves a node that reaches both sides.
        let end = if random.one_in(2) { self.nodes } else { self.nodes.max(size + 2) - 1 };
        Fault::Cut { from, to: (size..end).map(turned).collect(), ways }
    }

    /// When the last fault is over.
    pub fn quiet_from(&self) -> u64 {
        self.faults.iter().map(|fault| fault.at + fault.lasts).max().unwrap_or(FAULTS_FROM)
    }

    pub fn end(&self) -> u64 {
        let moved = if self.replicas.is_some() { MOVED_AFTER } else { 0 };
        self.refreshes_until() + HEALED_AFTER.max(moved)
    }

    /// Until when phones refresh: where a node has lost what no other had, each has to do so once more.
    pub fn refreshes_until(&self) -> u64 {
        self.quiet_from() + if self.heals_by_refresh() { REFRESHED_AFTER } else { 0 }
    }

    /// Whether a node may have lost what no other had.
    pub fn heals_by_refresh(&self) -> bool {
        self.faults.iter().any(|fault| {
            matches!(fault.fault, Fault::Crash { .. } | Fault::Leave(_) | Fault::LeaveTogether(_) | Fault::Upgrade(..))
        })
    }

    pub fn only_freezes(&self) -> bool {
        self.faults.iter().all(|fault| matches!(fault.fault, Fault::Freeze(_)))
    }

    pub fn link(&self, now: u64, from: NodeId, to: NodeId) -> Link {
        let mut link = Link { cut: false, loss: 0, doubled: 0, delay: 20 };
        for fault in self.faults.iter().filter(|fault| fault.at <= now && now < fault.at + fault.lasts) {
            match &fault.fault {
                Fault::Cut { from: one, to: other, ways } => {
                    link.cut |= one.contains(&from) && other.contains(&to);
                    link.cut |= *ways == CutWays::Both && one.contains(&to) && other.contains(&from);
                }
                Fault::Bad { loss, doubled, delay } => {
                    (link.loss, link.doubled, link.delay) = (*loss, *doubled, *delay);
                }
                _ => {}
            }
        }
        link
    }
}
