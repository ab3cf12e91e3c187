//! What is around the simulated nodes: the network between them, phones, clocks, and what goes wrong. Everything
//! follows from the seed.
use crate::arbitration::Leases;
use crate::faults::{Arbitration, Fault, Phones, Plan};
use crate::layers::cluster::digest::mixed;
use crate::layers::cluster::version::Version;
use crate::node::{DialogId, Disk, Effect, Node, NodeId, PresentityId, Wire};
use crate::time::UnixMillis;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

mod checks;

/// Random numbers from a seed (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0) % end.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// When the simulation begins, in milliseconds since 1970.
const EPOCH: u64 = 1_700_000_000_000;
/// A node that does not run is sent so many messages that it finds when it goes on; the others are lost.
const BACKLOG: usize = 500;
/// A NOTIFY and its answer take so long, in milliseconds.
const PHONE_DELAY: u64 = 3;
/// A node may not have learnt what the one has said that a phone has left, for so long in milliseconds.
const IN_FLIGHT: u64 = 100;
/// The same where phones roam: so long messages are under way.
const LONGEST_DELAY: u64 = 500;
/// A node that was frozen for less than its lease goes on with what it finds in its queue.
const UNNOTICED: u64 = crate::layers::cluster::lease::LEASE.0 + IN_FLIGHT;
/// Nodes that are started together have found each other by then.
const STARTED: u64 = 12_000;
/// How long after a fault its consequences may show, in milliseconds: the others have to notice, and to compare.
pub const DISTURBED: u64 = 15_000;

#[derive(Debug)]
enum Event {
    Deliver {
        to: NodeId,
        from: NodeId,
        wire: Wire,
    },
    Timer(NodeId, u32),
    Notify {
        from: NodeId,
        dialog: DialogId,
        cseq: u32,
        value: Option<u32>,
        version: Version,
    },
    Refused(NodeId, DialogId),
    Watch,
    /// A phone that roams refreshes at this node.
    Refresh(NodeId, DialogId),
    Publish,
    Begin(usize),
    End(usize),
}

/// A watcher's phone, which keeps RFC 3261 12.2.2 by the letter.
#[derive(Default)]
struct Watcher {
    presentity: PresentityId,
    word: u32,
    cseq: u32,
    shows: Option<u32>,
    is_notified: bool,
    latest: u32,
    latest_at: u64,
    claim: (u32, u32),
    claimed_at: u64,
    refusals: u32,
}

/// A phone that publishes.
#[derive(Default, Clone)]
struct Publisher {
    known: (u32, u32),
    value: u32,
    published: bool,
    at: u64,
    /// What another device has published of the same dialog.
    other: (u32, u32),
    /// When what was published last runs out.
    ends: u64,
}

struct Host {
    node: Node,
    up: bool,
    incarnation: u32,
    up_since: u64,
    frozen: bool,
    backlog: Vec<(NodeId, Wire)>,
    clock_offset: i64,
    shown: BTreeMap<PresentityId, u32>,
}

pub struct Simulation {
    pub seed: u64,
    plan: Plan,
    random: Random,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    hosts: Vec<Host>,
    watchers: BTreeMap<DialogId, Watcher>,
    publishers: BTreeMap<PresentityId, Publisher>,
    next_dialog: DialogId,
    next_record: u32,
    disturbed_until: u64,
    pub messages: u64,
    pub notifies: u64,
    /// How often a node did not know what a phone knew, once all nodes had found each other.
    pub forgotten: u64,
}

impl Simulation {
    /// The same with records on so many nodes beside the first one.
    pub fn with_replicas(seed: u64, replicas: usize) -> Simulation {
        let mut random = Random::new(seed);
        let plan = Plan { replicas: Some(replicas), ..Plan::of(&mut random) };
        Simulation::with_plan(seed, random, plan)
    }

    /// The same where as many nodes as there are copies are killed at once, and nothing else happens.
    pub fn that_loses(seed: u64, replicas: usize) -> Simulation {
        let mut random = Random::new(seed);
        let plan = Plan { replicas: Some(replicas), ..Plan::of(&mut random) }.losing(&mut random, replicas);
        Simulation::with_plan(seed, random, plan)
    }

    pub fn new(seed: u64, arbitration: Arbitration) -> Simulation {
        let (random, plan) = Simulation::plan(seed, arbitration);
        Simulation::with_plan(seed, random, plan)
    }

    /// Phones that go from node to node, while messages come twice and late and nodes are frozen; nothing is lost.
    pub fn roaming(seed: u64, replicas: Option<usize>) -> Simulation {
        let mut random = Random::new(seed);
        let plan = Plan { replicas, ..Plan::of(&mut random) }.roaming(&mut random);
        Simulation::with_plan(seed, random, plan)
    }

    /// Publications that run out, of two devices each, while the network is cut or loses messages and nodes are frozen.
    pub fn running_out(seed: u64, replicas: Option<usize>) -> Simulation {
        let mut random = Random::new(seed);
        let plan = Plan { replicas, ..Plan::of(&mut random) }.running_out(&mut random);
        Simulation::with_plan(seed, random, plan)
    }

    /// The same life with nodes that are upgraded while it is lived.
    pub fn upgraded(seed: u64, arbitration: Arbitration) -> Simulation {
        let (random, plan) = Simulation::plan(seed, arbitration);
        Simulation::with_plan(seed, random, plan.upgraded(&mut Random::new(seed ^ 0x5a5a)))
    }

    fn plan(seed: u64, arbitration: Arbitration) -> (Random, Plan) {
        let mut random = Random::new(seed);
        let plan = Plan::of(&mut random);
        let plan =
            if arbitration == Arbitration::Table { plan.arbitrated(&mut Random::new(seed ^ 0xa5a5)) } else { plan };
        (random, plan)
    }

    fn with_plan(seed: u64, random: Random, plan: Plan) -> Simulation {
        let leases = plan.is_arbitrated().then(Leases::default);
        let ids: Vec<NodeId> = (0..plan.nodes).collect();
        let host = |id: &NodeId| {
            let peers = ids.iter().copied().filter(|peer| peer != id).collect();
            Host {
                node: Node::new(*id, peers, leases.clone(), 1, UnixMillis(EPOCH)).placing(plan.replicas),
                up: true,
                incarnation: 0,
                up_since: 0,
                frozen: false,
                backlog: Vec::new(),
                clock_offset: 0,
                shown: BTreeMap::new(),
            }
        };
        let hosts = ids.iter().map(host).collect();
        let mut simulation = Simulation {
            seed,
            random,
            now: 1,
            order: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            hosts,
            watchers: BTreeMap::new(),
            publishers: (0..plan.presentities).map(|p| (p, Publisher::default())).collect(),
            next_dialog: 1,
            next_record: 1,
            disturbed_until: 0,
            plan,
            messages: 0,
            notifies: 0,
            forgotten: 0,
        };
        for id in ids {
            simulation.hosts[id].node.speaks = simulation.plan.first_version;
            let offset = simulation.random.below(120_000) as i64 - 60_000;
            simulation.hosts[id].clock_offset = if simulation.plan.skewed { offset } else { 0 };
            let first = simulation.random.below(500);
            simulation.after(first, Event::Timer(id, 0));
        }
        for at in 0..simulation.plan.faults.len() {
            simulation.after(simulation.plan.faults[at].at, Event::Begin(at));
            simulation.after(simulation.plan.faults[at].at + simulation.plan.faults[at].lasts, Event::End(at));
        }
        simulation.after(2_000, Event::Watch);
        simulation.after(2_500, Event::Publish);
        simulation
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.order += 1;
        self.events.push(Some(event));
        self.queue.push(Reverse((self.now + millis, self.order, self.events.len() - 1)));
    }

    fn fail(&self, what: String) -> ! {
        panic!("seed {} at {} ms: {what}\n{:?}", self.seed, self.now, self.plan)
    }

    pub fn run(&mut self) {
        let end = self.plan.end();
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now = at;
            if let Some(event) = self.events[event].take() {
                self.happen(event);
            }
        }
        self.check_end();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, from, wire } => self.deliver(to, from, wire),
            Event::Timer(id, incarnation) if self.hosts[id].incarnation == incarnation => {
                if self.is_running(id) {
                    self.at_node(id, Node::on_timer);
                }
                self.after(500, Event::Timer(id, incarnation));
            }
            Event::Timer(..) => {}
            Event::Notify { from, dialog, cseq, value, version } => self.receive(from, dialog, cseq, value, version),
            Event::Refused(id, dialog) if self.is_running(id) => self.at_node(id, |node| node.refused(dialog)),
            Event::Refused(..) => {}
            Event::Watch => self.watch(),
            Event::Refresh(id, dialog) if self.is_running(id) => self.refresh(id, dialog),
            Event::Refresh(..) => {}
            Event::Publish => self.publish(),
            Event::Begin(at) => self.begin(at),
            Event::End(at) => self.end(at),
        }
    }

    fn is_running(&self, id: NodeId) -> bool {
        self.hosts[id].up && !self.hosts[id].frozen
    }

    /// Lets a node do something, and carries out what it does.
    fn at_node(&mut self, id: NodeId, work: impl FnOnce(&mut Node)) {
        let host = &mut self.hosts[id];
        host.node.now = self.now;
        host.node.is_database_away = self.plan.is_database_away(self.now, id);
        host.node.wall = UnixMillis((EPOCH + self.now).saturating_add_signed(host.clock_offset));
        host.node.pass_time();
        work(&mut host.node);
        for effect in std::mem::take(&mut host.node.out) {
            match effect {
                Effect::Send(to, wire) => self.transmit(id, to, wire),
                Effect::Notify { dialog, cseq, value, version } => {
                    self.notifies += 1;
                    self.check_voice(id, dialog);
                    self.after(PHONE_DELAY, Event::Notify { from: id, dialog, cseq, value, version });
                }
            }
        }
        self.check_shown(id);
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, wire: Wire) {
        self.messages += 1;
        let link = self.plan.link(self.now, from, to);
        let lost = link.cut || self.random.below(100) < link.loss;
        for _ in 0..if self.random.below(100) < link.doubled { 2 } else { 1 } {
            let delay = 1 + self.random.below(link.delay);
            if !lost {
                self.after(delay, Event::Deliver { to, from, wire: wire.clone() });
            }
        }
    }

    fn deliver(&mut self, to: NodeId, from: NodeId, wire: Wire) {
        let host = &mut self.hosts[to];
        if host.frozen && host.up && host.backlog.len() < BACKLOG {
            host.backlog.push((from, wire));
        } else if self.is_running(to) {
            self.at_node(to, |node| node.on_wire(from, wire));
        }
    }

    // ---- phones

    fn a_running_node(&mut self) -> Option<NodeId> {
        // A node that has received nothing yet cannot know that its clock is behind.
        let knows_the_time = |id: &NodeId| self.hosts[*id].node.has_received() || !self.plan.skewed;
        let is_settled = |id: &NodeId| self.now > self.hosts[*id].up_since + 1_000 && knows_the_time(id);
        let running: Vec<NodeId> = (0..self.hosts.len()).filter(|id| self.is_running(*id) && is_settled(id)).collect();
        if running.is_empty() { None } else { Some(running[self.random.below(running.len() as u64) as usize]) }
    }

    /// The node that serves a presentity when a phone asks this one: where its primary does not answer, the next one
    /// that goes on for it, which may be the one that was asked. `None`: the phone is asked to come back.
    fn served_by(&self, id: NodeId, presentity: PresentityId) -> Option<NodeId> {
        let candidates = self.hosts[id].node.serving(presentity);
        if candidates.first().is_none_or(|primary| *primary == id) {
            return Some(id);
        }
        let is_cut = |from, to| self.plan.link(self.now, from, to).cut;
        let answers = |node: &NodeId| self.is_running(*node) && !is_cut(id, *node) && !is_cut(*node, id);
        let serves = |node: &NodeId| self.hosts[*node].node.may_serve_others();
        candidates.into_iter().find(|node| answers(node) && serves(node))
    }

    fn is_quiet(&self) -> bool {
        self.now > self.plan.quiet_from()
    }

    fn watch(&mut self) {
        let quiet = self.is_quiet();
        if self.now > self.plan.refreshes_until() {
            return;
        }
        let Some(id) = self.a_running_node() else { return self.after(self.plan.watch_every, Event::Watch) };
        let known: Vec<DialogId> = self.watchers.keys().copied().collect();
        let any = if known.is_empty() { 0 } else { known[self.random.below(known.len() as u64) as usize] };
        if known.len() < self.plan.dialogs && !quiet {
            let dialog = self.next_dialog;
            self.next_dialog += 1;
            let presentity = self.random.below(u64::from(self.plan.presentities)) as u32;
            if let Some(server) = self.served_by(id, presentity) {
                self.watchers.insert(dialog, Watcher { presentity, word: 1, ..Watcher::default() });
                self.at_node(server, |node| node.subscribe(dialog, presentity));
            }
        } else if self.random.one_in(20) && !quiet {
            self.unsubscribe(id, any);
        } else if self.plan.roams() {
            self.roam(any);
        } else {
            self.refresh(id, any);
        }
        let filled = known.len() >= self.plan.dialogs;
        self.after(if filled { self.plan.watch_every } else { 2 }, Event::Watch);
    }

    /// A phone refreshes at two nodes or three, one shortly after the other: each takes the subscription while messages
    /// about the one before are on their way.
    fn roam(&mut self, dialog: DialogId) {
        for _ in 0..2 + self.random.below(2) {
            let (id, later) = (self.random.below(self.hosts.len() as u64) as usize, self.random.below(40));
            self.after(later, Event::Refresh(id, dialog));
        }
    }

    fn unsubscribe(&mut self, id: NodeId, dialog: DialogId) {
        let Some(presentity) = self.watchers.get(&dialog).map(|watcher| watcher.presentity) else { return };
        if let Some(server) = self.served_by(id, presentity) {
            self.watchers.remove(&dialog);
            self.at_node(server, |node| node.unsubscribe(dialog));
        }
    }

    fn refresh(&mut self, id: NodeId, dialog: DialogId) {
        let Some(presentity) = self.watchers.get(&dialog).map(|watcher| watcher.presentity) else { return };
        let Some(server) = self.served_by(id, presentity) else { return };
        let Some(watcher) = self.watchers.get_mut(&dialog) else { return };
        watcher.word += 1;
        let word = watcher.word;
        let mut found = true;
        self.at_node(server, |node| found = node.refresh(dialog, word));
        if !found {
            // 481: the phone begins anew.
            self.forgotten += u64::from(self.now > STARTED);
            let fresh = self.next_dialog;
            self.next_dialog += 1;
            self.watchers.remove(&dialog);
            self.watchers.insert(fresh, Watcher { presentity, word: 1, ..Watcher::default() });
            self.at_node(server, |node| node.subscribe(fresh, presentity));
        }
    }

    fn publish(&mut self) {
        let quiet = self.is_quiet();
        if self.now > self.plan.refreshes_until() {
            return;
        }
        let presentity = self.random.below(u64::from(self.plan.presentities)) as u32;
        let Some(asked) = self.a_running_node() else { return self.after(self.plan.publish_every, Event::Publish) };
        let mut phone = self.publishers[&presentity].clone();
        // A second is what received times can tell apart.
        let server = self.served_by(asked, presentity).filter(|_| self.now >= phone.at + 2_500);
        if let Some(id) = server {
            phone.at = self.now;
            let runs_out = self.plan.phones == Phones::RunOut && !quiet;
            let is_others = runs_out && self.random.one_in(3);
            if is_others {
                std::mem::swap(&mut phone.known, &mut phone.other);
            }
            phone.published &= self.now < phone.ends;
            if phone.published
                && !quiet
                && !is_others
                && self.random.one_in(8)
                && self.hosts[id].node.docs.contains_key(&phone.known.0)
            {
                phone.published = false;
                let (record, _) = std::mem::take(&mut phone.known);
                self.at_node(id, |node| node.remove(record));
            } else if phone.published || !quiet {
                phone.value += u32::from(!quiet);
                phone.published = true;
                let (fresh, value, known) = (self.next_record, phone.value, phone.known);
                self.next_record += 1;
                let mut now_known = known;
                phone.ends = if runs_out { self.life() } else { u64::MAX };
                let ends = phone.ends;
                self.at_node(id, |node| now_known = node.publish(presentity, known, fresh, value, ends));
                let is_forgotten = known.0 > 0 && now_known.0 != known.0;
                self.forgotten += u64::from(is_forgotten && self.now > STARTED);
                phone.known = now_known;
            }
            self.publishers.insert(presentity, phone);
        }
        self.after(self.plan.publish_every, Event::Publish);
    }

    /// Until when a publication lives that is made now. Of those that run out some live longer than the newer one.
    fn life(&mut self) -> u64 {
        if self.random.one_in(2) { self.now + 3_000 + self.random.below(12_000) } else { u64::MAX }
    }

    fn receive(&mut self, from: NodeId, dialog: DialogId, cseq: u32, value: Option<u32>, version: Version) {
        let calm = self.now > self.disturbed_until;
        let late = match self.plan.only_freezes() {
            true => UNNOTICED,
            false if self.plan.roams() => LONGEST_DELAY,
            false => IN_FLIGHT,
        };
        let Some(watcher) = self.watchers.get_mut(&dialog) else { return };
        let is_one_voice = self.plan.roams() || calm && !self.plan.is_arbitrated();
        let strict = is_one_voice || (calm || self.plan.only_freezes()) && self.now > watcher.claimed_at + late;
        let claim = (version.word, version.epoch);
        let mut is_repeated = false;
        let wrong = if cseq <= watcher.cseq {
            watcher.refusals += 1;
            is_repeated = self.plan.is_arbitrated();
            Some("a CSeq that was used")
        } else if claim < watcher.claim {
            Some("a NOTIFY of a node whose subscription another one has taken")
        } else if value.is_some_and(|value| value < watcher.latest) && self.now > watcher.latest_at + late {
            Some("an older state after a newer one")
        } else {
            None
        };
        if claim > watcher.claim {
            (watcher.claim, watcher.claimed_at) = (claim, self.now);
        }
        if let (true, Some(wrong)) = (strict && !self.plan.is_arbitrated() || is_repeated, wrong) {
            let (cseq, before) = (watcher.cseq, watcher.latest);
            self.fail(format!(
                "{wrong}: dialog {dialog} from {from}, {version:?}, value {value:?} after {before}, cseq {cseq}"
            ));
        }
        if cseq <= watcher.cseq {
            return self.after(PHONE_DELAY, Event::Refused(from, dialog));
        }
        (watcher.cseq, watcher.shows, watcher.is_notified) = (cseq, value, true);
        if value.is_some_and(|value| value > watcher.latest) {
            (watcher.latest, watcher.latest_at) = (value.unwrap_or_default(), self.now);
        }
    }

    // ---- faults

    fn begin(&mut self, at: usize) {
        let fault = self.plan.faults[at].clone();
        match fault.fault {
            Fault::Freeze(id) => self.hosts[id].frozen = self.hosts[id].up,
            Fault::Crash { node, .. } => {
                self.hosts[node].up = false;
                self.hosts[node].backlog.clear();
            }
            Fault::Leave(id) | Fault::Upgrade(id, _) => self.leave(&[id]),
            Fault::LeaveTogether(ids) => self.leave(&ids),
            Fault::ClockJump(id, millis) => self.hosts[id].clock_offset += millis,
            _ => {}
        }
        self.disturbed_until = self.disturbed_until.max(self.now + fault.lasts + DISTURBED);
    }

    fn end(&mut self, at: usize) {
        match self.plan.faults[at].fault {
            Fault::Freeze(id) if self.hosts[id].frozen => {
                self.hosts[id].frozen = false;
                for (from, wire) in std::mem::take(&mut self.hosts[id].backlog) {
                    self.at_node(id, |node| node.on_wire(from, wire));
                }
            }
            Fault::Crash { node, disk } => self.restart(node, disk),
            Fault::Leave(id) => self.restart(id, Disk::Lost),
            Fault::Upgrade(id, version) => {
                if !self.hosts[id].up {
                    self.hosts[id].node.speaks = version;
                }
                self.restart(id, Disk::Kept);
            }
            Fault::LeaveTogether(ref ids) => ids.clone().into_iter().for_each(|id| self.restart(id, Disk::Lost)),
            _ => {}
        }
    }

    /// Nodes end, as long as one is left for the phones.
    fn leave(&mut self, ids: &[NodeId]) {
        let was_read = self.hosts[0].node.leases();
        for id in ids {
            let others = (0..self.hosts.len()).filter(|other| other != id && self.is_running(*other)).count();
            if self.is_running(*id) && others > 0 {
                self.at_node(*id, |node| node.leave(was_read.clone()));
                self.hosts[*id].up = false;
            }
        }
    }

    fn restart(&mut self, id: NodeId, disk: Disk) {
        let host = &mut self.hosts[id];
        if host.up {
            return;
        }
        let wall = UnixMillis((EPOCH + self.now).saturating_add_signed(host.clock_offset));
        host.node = host.node.restarted(disk, self.now, wall);
        (host.up, host.frozen, host.incarnation) = (true, false, host.incarnation + 1);
        host.shown.clear();
        host.up_since = self.now;
        let incarnation = host.incarnation;
        self.at_node(id, Node::start);
        self.after(250, Event::Timer(id, incarnation));
    }
}
