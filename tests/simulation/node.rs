//! A node of the simulated cluster: what the server does with `cluster`, over plain collections.
use crate::arbitration::{Leases, Registry};
use crate::layers::cluster::arbiter::{self, Arbiter, LeaseChange};
use crate::layers::cluster::clock::{HybridClock, LocalTime, Stamp};
use crate::layers::cluster::consent::{self, NodeSet, OpenClaim};
use crate::layers::cluster::exchange::{self, Pulling};
use crate::layers::cluster::inheritance::{LeaseOutcome, LeaseRow, Successor, resolve};
use crate::layers::cluster::lease::{ANSWERS_AFTER, Lease, LeaseState};
use crate::layers::cluster::numbers::{BLOCK, Ceiling, above_takeover_margin, reserve};
use crate::layers::cluster::old_documents::RemovedDocuments;
use crate::layers::cluster::succession::candidates;
use crate::layers::cluster::unsettled::{self, Difference};
use crate::layers::cluster::version::Version;
use crate::time::{Instant, Millis, UnixMillis};
use crate::wire::{HelloReply, REFRESHES, unchanged_of};
use placing::Places;
use std::collections::BTreeMap;

mod consenting;
mod documents;
mod merging;
mod placing;
mod takeover;

pub use crate::wire::{CLOCKED, DialogId, Doc, MESSAGES, NodeId, PresentityId, Record, Refresh, Removal, Sub, Wire};

/// A node that has not been seen for so long is lost, in milliseconds.
pub const LOST_AFTER: u64 = 3_000;
/// When nobody goes on for a lost node, the next candidate does after so long.
const TURN: u64 = 15_000;
/// Nodes compare what they hold so often.
pub const COMPARE_EVERY: u64 = 4_000;
/// How long after a restart what was on disk belongs to nobody.
const SETTLED_AFTER: u64 = 10_000;
/// Stamps of others may have been lost for so long when a node is frozen.
const ASK_MARGIN: Millis = Millis(15_000);
const PAGE: usize = 50;
/// Records in one message of an exchange.
pub const RECORDS_A_MESSAGE: usize = 16;
/// A node that takes over waits so long for objections before it sends.
const OBJECTIONS: u64 = 250;

/// What a node does to what is around it.
#[derive(Debug)]
pub enum Effect {
    Send(NodeId, Wire),
    Notify { dialog: DialogId, cseq: u32, value: Option<u32>, version: Version },
}

/// What a node finds on its disk when it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// What was on it.
    Kept,
    /// Nothing.
    Lost,
}

pub struct Node {
    pub id: NodeId,
    pub peers: Vec<NodeId>,
    clock: HybridClock,
    lease: Lease,
    /// The node's side of the arbiter, where there is one.
    arbiter: Option<Arbiter>,
    leases: Leases,
    successors: Vec<Successor>,
    /// The node does not reach the arbiter's table.
    pub is_database_away: bool,
    pub subs: BTreeMap<DialogId, Sub>,
    pub docs: BTreeMap<u32, Doc>,
    ended: BTreeMap<DialogId, Version>,
    /// Publications that were removed, up to which of their states.
    gone: BTreeMap<u32, u32>,
    /// What is known of the removed documents of each presentity: all of them are about one dialog.
    removed: BTreeMap<PresentityId, RemovedDocuments>,
    due: BTreeMap<DialogId, ()>,
    /// Since when it claims what it has taken over; others may object.
    claimed: BTreeMap<DialogId, u64>,
    /// What it has taken from another node, and sends for once all others know.
    consenting: BTreeMap<DialogId, ()>,
    open_claims: Vec<OpenClaim>,
    /// Nodes that have not answered when they should have.
    silent: NodeSet,
    /// What was read from disk and may have gone to others.
    restored: BTreeMap<DialogId, ()>,
    /// Hands over nothing any more: it has announced that it leaves.
    pub left: bool,
    /// The version of its messages.
    pub speaks: u8,
    /// The version of the messages of the others, as far as they have said.
    speak: BTreeMap<NodeId, u8>,
    /// What a refresh leaves as it is of each subscription, as it was announced last.
    announced: BTreeMap<DialogId, u64>,
    received: BTreeMap<NodeId, u64>,
    /// When another node has said something first since it started.
    first_message_at: Option<u64>,
    answered: BTreeMap<NodeId, u64>,
    pulling: BTreeMap<NodeId, Pulling>,
    compared_at: BTreeMap<NodeId, u64>,
    /// Nodes with which nothing was exchanged since more differed than one comparison settles.
    idle: BTreeMap<NodeId, ()>,
    differences: Vec<Difference>,
    /// When a node held the same last, until it is asked for what it has changed since.
    agreed: BTreeMap<NodeId, Stamp>,
    last_stamp: Stamp,
    pub places: Places,
    started: u64,
    wall_at_start: UnixMillis,
    pub wall: UnixMillis,
    pub now: u64,
    pub out: Vec<Effect>,
}

fn node_of(name: &[u8]) -> u64 {
    name.try_into().map(u64::from_be_bytes).unwrap_or_default()
}

/// What has become of the leases that were taken over.
fn successors_of<'a>(rows: impl Iterator<Item = &'a LeaseRow>) -> Vec<Successor> {
    let successor = |row: &LeaseRow| match &row.outcome {
        LeaseOutcome::TakenOver(node, lease) => {
            Some(Successor { lost: (node_of(&row.node), row.lease), by: (node_of(node), *lease) })
        }
        _ => None,
    };
    let mut successors: Vec<Successor> = rows.filter_map(successor).collect();
    successors.sort_unstable();
    successors
}

impl Node {
    pub fn new(id: NodeId, peers: Vec<NodeId>, leases: Option<Leases>, now: u64, wall: UnixMillis) -> Node {
        Node {
            id,
            received: peers.iter().map(|peer| (*peer, now)).collect(),
            peers,
            first_message_at: None,
            clock: HybridClock::new(),
            lease: Lease::new(Instant::at(now)),
            arbiter: leases.is_some().then(Arbiter::default),
            leases: leases.unwrap_or_default(),
            successors: Vec::new(),
            is_database_away: false,
            subs: BTreeMap::new(),
            docs: BTreeMap::new(),
            ended: BTreeMap::new(),
            gone: BTreeMap::new(),
            removed: BTreeMap::new(),
            due: BTreeMap::new(),
            claimed: BTreeMap::new(),
            consenting: BTreeMap::new(),
            open_claims: vec![OpenClaim::default(); consent::MOST_CLAIMS],
            silent: NodeSet::NONE,
            restored: BTreeMap::new(),
            left: false,
            speaks: MESSAGES,
            speak: BTreeMap::new(),
            announced: BTreeMap::new(),
            answered: BTreeMap::new(),
            pulling: BTreeMap::new(),
            compared_at: BTreeMap::new(),
            idle: BTreeMap::new(),
            differences: vec![Difference::default(); unsettled::MOST_DIFFERENCES],
            agreed: BTreeMap::new(),
            last_stamp: Stamp::default(),
            places: Places::default(),
            started: now,
            wall_at_start: wall,
            wall,
            now,
            out: Vec::new(),
        }
    }

    /// The node as it comes back: with what was on its disk, or without.
    pub fn restarted(&self, disk: Disk, now: u64, wall: UnixMillis) -> Node {
        let leases = self.arbiter.as_ref().map(|_| self.leases.clone());
        let mut node = Node::new(self.id, self.peers.clone(), leases, now, wall);
        (node.speaks, node.places.replicas) = (self.speaks, self.places.replicas);
        if disk == Disk::Kept {
            node.docs = self.docs.clone();
            node.subs = self.subs.iter().filter(|(_, s)| s.owner == self.id).map(|(d, s)| (*d, s.clone())).collect();
            for sub in node.subs.values_mut() {
                sub.local = sub.ceiling;
                // With an arbiter it belongs to the node that has taken over the lease it was owned under.
                if node.arbiter.is_none() {
                    node.restored.insert(sub.dialog, ());
                }
            }
        }
        node
    }

    /// Whether another node has said something since it started.
    pub fn has_received(&self) -> bool {
        self.first_message_at.is_some()
    }

    pub fn start(&mut self) {
        let now = Instant::at(self.now);
        for peer in self.peers.clone() {
            self.greet(peer, HelloReply::Wanted);
            self.places.with = Some(peer);
            exchange::pull(self, peer, Stamp::default(), now);
        }
    }

    /// dmq finds its nodes again when they answer: who has not said what it speaks is asked.
    fn greet(&mut self, peer: NodeId, reply: HelloReply) {
        self.send(peer, Wire::Hello { speaks: self.speaks, reply });
        self.say_clock(peer);
    }

    /// Nodes that read it learn the cluster's clock.
    fn say_clock(&mut self, peer: NodeId) {
        if self.speaks >= CLOCKED {
            let stamp = self.tick();
            self.send(peer, Wire::Clock(stamp));
        }
    }

    fn send(&mut self, to: NodeId, wire: Wire) {
        self.out.push(Effect::Send(to, wire));
    }

    /// Announces a subscription: in short where only what a refresh says has changed, to those that read that.
    fn announce(&mut self, dialog: DialogId) {
        let Some(sub) = self.subs.get(&dialog).cloned() else { return };
        let (unchanged, version) = (unchanged_of(&sub), sub.version);
        let is_short = self.announced.insert(dialog, unchanged) == Some(unchanged) && self.speaks >= REFRESHES;
        for peer in self.other_holders(sub.presentity) {
            let reads = self.speak.get(&peer).is_some_and(|speaks| *speaks >= REFRESHES);
            let refresh = Refresh { dialog, unchanged, word: version.word, stamp: version.stamp };
            self.send(
                peer,
                if is_short && reads { Wire::Refresh(refresh) } else { Wire::Record(Record::Sub(sub.clone())) },
            );
        }
    }

    /// What its clocks show.
    fn local_time(&self) -> LocalTime {
        LocalTime { wall: self.wall, steady: UnixMillis(self.wall_at_start.0 + self.now - self.started) }
    }

    fn tick(&self) -> Stamp {
        self.clock.tick(self.local_time())
    }

    /// Whether it sends the NOTIFYs of a dialog, as far as it knows.
    pub fn speaks_for(&self, dialog: DialogId) -> bool {
        let is_allowed = self.lease.asking_since().is_none() && !self.left && self.holds_lease(self.now);
        self.owns(dialog) && !self.waits(dialog) && is_allowed
    }

    /// Whether it would send one at that time, if it were asked to.
    pub fn would_speak_for(&self, dialog: DialogId, now: u64) -> bool {
        self.speaks_for(dialog) && self.holds_lease(now) && !self.lease.is_over(Instant::at(now))
    }

    fn holds_lease(&self, now: u64) -> bool {
        self.arbiter.as_ref().is_none_or(|arbiter| arbiter.own().is_some_and(|own| own.is_held(Instant::at(now))))
    }

    fn own_lease(&self) -> u32 {
        self.arbiter.as_ref().and_then(Arbiter::own).map(|own| own.lease).unwrap_or_default()
    }

    /// How many changes of hands away from us is what is owned so, where it is ours or may become ours: always without
    /// an arbiter.
    fn steps_to_us(&self, owner: NodeId, lease: u32) -> Option<u32> {
        if self.arbiter.is_none() {
            return Some(1);
        }
        let own = self.own_lease();
        if owner == self.id && lease == 0 {
            return (own > 0).then_some(1);
        }
        let (holder, steps) = resolve(&self.successors, (owner as u64, lease));
        (own > 0 && holder == (self.id as u64, own)).then_some(steps)
    }

    fn owns(&self, dialog: DialogId) -> bool {
        let is_ours = |sub: &Sub| sub.owner == self.id && sub.lease == self.own_lease();
        self.subs.get(&dialog).is_some_and(is_ours) && !self.restored.contains_key(&dialog)
    }

    pub fn shown(&self, presentity: PresentityId) -> Option<u32> {
        let docs = self.docs.values().filter(|doc| doc.presentity == presentity);
        docs.reduce(|a, b| if b.version().replaces(&a.version()) { b } else { a }).map(|doc| doc.value)
    }

    // ---- phones

    pub fn subscribe(&mut self, dialog: DialogId, presentity: PresentityId) {
        let version = Version { word: 1, epoch: 0, stamp: self.tick(), owner: self.id as u64 };
        let (owner, lease) = (self.id, self.own_lease());
        let sub = Sub { dialog, presentity, owner, lease, version, ceiling: 1 + BLOCK, local: 1 };
        self.subs.insert(dialog, sub);
        self.announce(dialog);
        self.notify(dialog);
    }

    /// A refresh; `false`: there is no such dialog (481).
    pub fn refresh(&mut self, dialog: DialogId, word: u32) -> bool {
        let stamp = self.tick();
        let (is_owned, lease) = (self.owns(dialog), self.own_lease());
        let Some((owner, owners_lease)) = self.subs.get(&dialog).map(|sub| (sub.owner, sub.lease)) else {
            return false;
        };
        let steps = if is_owned { Some(0) } else { self.steps_to_us(owner, owners_lease) };
        let is_arbitrated = self.arbiter.is_some();
        let takes = !is_arbitrated && (!is_owned || self.waits(dialog));
        let Some(sub) = self.subs.get_mut(&dialog) else { return false };
        if sub.version.word >= word {
            return true;
        }
        let Some(steps) = steps else {
            // Its owner sends the NOTIFY when it learns of it.
            (sub.version.word, sub.version.stamp) = (word, stamp);
            self.announce(dialog);
            return true;
        };
        sub.lease = lease;
        if is_arbitrated {
            sub.ceiling = above_takeover_margin(sub.ceiling, steps);
        }
        if !is_owned {
            (sub.local, sub.version.epoch) = (sub.ceiling, sub.version.epoch + steps);
        }
        sub.ceiling = reserve(sub.local, Ceiling::at(sub.ceiling)).unwrap_or(sub.ceiling);
        (sub.owner, sub.version.owner) = (self.id, self.id as u64);
        (sub.version.word, sub.version.stamp) = (word, stamp);
        self.restored.remove(&dialog);
        self.claimed.remove(&dialog);
        if takes {
            self.claim(dialog, owner);
        } else {
            self.announce(dialog);
            self.send_to_former(dialog, owner);
        }
        self.notify(dialog);
        true
    }

    pub fn unsubscribe(&mut self, dialog: DialogId) {
        let Some(mut sub) = self.subs.remove(&dialog) else { return };
        sub.version.word = Version::ENDED;
        self.ended.insert(dialog, sub.version);
        self.note_removal(sub.presentity, Record::End(dialog, sub.version));
    }

    /// A strict phone has answered 500: its count is ahead of ours.
    pub fn refused(&mut self, dialog: DialogId) {
        if !self.owns(dialog) {
            return;
        }
        let Some(sub) = self.subs.get_mut(&dialog) else { return };
        sub.local = sub.ceiling;
        self.notify(dialog);
    }

    // ---- NOTIFYs

    fn changed(&mut self, presentity: PresentityId) {
        let dialogs: Vec<DialogId> =
            self.subs.values().filter(|s| s.presentity == presentity).map(|s| s.dialog).collect();
        for dialog in dialogs {
            self.notify(dialog);
        }
    }

    fn notify(&mut self, dialog: DialogId) {
        if !self.owns(dialog) || self.left || self.waits(dialog) {
            return;
        }
        if !self.holds_lease(self.now) {
            self.due.insert(dialog, ());
            return;
        }
        match self.lease.look(Instant::at(self.now)) {
            LeaseState::Speaks => {}
            LeaseState::WasAway(_) => {
                self.due.insert(dialog, ());
                return self.ask();
            }
            LeaseState::Asks => {
                self.due.insert(dialog, ());
                return;
            }
        }
        self.due.remove(&dialog);
        let stamp = self.tick();
        let Some(sub) = self.subs.get_mut(&dialog) else { return };
        sub.local += 1;
        let (cseq, presentity) = (sub.local, sub.presentity);
        let reserved = reserve(cseq, Ceiling::at(sub.ceiling));
        if let Some(ceiling) = reserved {
            (sub.ceiling, sub.version.stamp) = (ceiling, stamp);
        }
        let version = sub.version;
        if reserved.is_some() {
            self.announce(dialog);
        }
        let value = self.shown(presentity);
        self.out.push(Effect::Notify { dialog, cseq, value, version });
    }

    fn ask(&mut self) {
        self.note_away();
        let (now, since) = (Instant::at(self.now), self.last_stamp.before(ASK_MARGIN));
        for peer in self.peers.clone() {
            self.places.with = Some(peer);
            exchange::pull(self, peer, since, now);
        }
    }

    fn may_resume(&mut self) {
        let Some(since) = self.lease.asking_since() else { return };
        let late = Instant::at(self.now).since(since) >= ANSWERS_AFTER;
        let all = self.peers.iter().all(|peer| {
            let received = self.received.get(peer).is_some_and(|at| Instant::at(*at) >= since);
            let pulls = self.pulling.get(peer).is_some_and(|p| p.pull.cursor > 0);
            self.answered.get(peer).is_some_and(|at| Instant::at(*at) >= since) || late && !(received && pulls)
        });
        let knows_documents = late || self.knows_its_share();
        if all && knows_documents && self.lease.resume(Instant::at(self.now)) {
            for dialog in std::mem::take(&mut self.due).into_keys() {
                self.notify(dialog);
            }
        }
    }

    // ---- other nodes

    pub fn on_timer(&mut self) {
        if self.left {
            return;
        }
        if let LeaseState::WasAway(_) = self.lease.look(Instant::at(self.now)) {
            self.ask();
        }
        self.arbitrate();
        self.may_resume();
        self.speak_for_claimed();
        self.end_waiting();
        self.place_records();
        let stamp = self.tick();
        let now = Instant::at(self.now);
        for peer in self.peers.clone() {
            self.send(peer, Wire::Beat);
            if !self.speak.contains_key(&peer) {
                self.greet(peer, HelloReply::Wanted);
            }
            self.places.with = Some(peer);
            if exchange::go_on(self, peer, now) {
                continue;
            }
            if self.now.saturating_sub(self.compared_at.get(&peer).copied().unwrap_or_default()) >= COMPARE_EVERY {
                self.compared_at.insert(peer, self.now);
                self.say_clock(peer);
                exchange::compare(self, peer);
            }
        }
        if self.lease.asking_since().is_none() {
            // A node that asks has not looked at the other nodes since.
            self.last_stamp = stamp;
            if self.now - self.started >= SETTLED_AFTER {
                let is_settled =
                    |dialog: &DialogId| self.subs.get(dialog).is_none_or(|sub| self.serves(sub.presentity));
                let settled: Vec<DialogId> = self.restored.keys().copied().filter(is_settled).collect();
                for dialog in settled {
                    self.restored.remove(&dialog);
                    self.notify(dialog);
                }
            }
            self.take_over_lost();
        }
    }

    /// Beats, looks at the others, and notifies the watchers that had to wait while it held no lease.
    fn arbitrate(&mut self) {
        let Some(mut arbiter) = self.arbiter.take() else { return };
        let held = arbiter.own().is_some_and(|own| own.is_held(Instant::at(self.now)));
        let name = (self.id as u64).to_be_bytes();
        let mut registry = Registry { leases: self.leases.clone(), is_away: self.is_database_away, was_read: None };
        let changes = arbiter.step(&mut registry, &name, || Instant::at(self.now)).unwrap_or_default();
        self.successors = successors_of(arbiter.rows());
        self.arbiter = Some(arbiter);
        if self.holds_lease(self.now) && (!held || changes.iter().any(|c| matches!(c, LeaseChange::Begun(_)))) {
            for dialog in std::mem::take(&mut self.due).into_keys() {
                self.notify(dialog);
            }
        }
    }

    fn is_present(&self, peer: NodeId) -> bool {
        self.now.saturating_sub(self.received.get(&peer).copied().unwrap_or_default()) < LOST_AFTER
    }

    /// The table of leases as it is now.
    pub fn leases(&self) -> Vec<LeaseRow> {
        self.leases.borrow().clone()
    }

    /// The node ends, and hands its lease over by what it has read.
    pub fn leave(&mut self, was_read: Vec<LeaseRow>) {
        self.left = true;
        let (leases, is_away) = (self.leases.clone(), self.is_database_away);
        let mut registry = Registry { leases, is_away, was_read: Some(was_read) };
        let name = |id: NodeId| (id as u64).to_be_bytes();
        let names: Vec<[u8; 8]> = self.peers.iter().filter(|p| self.is_present(**p)).map(|p| name(*p)).collect();
        let present: Vec<&[u8]> = names.iter().map(<[u8; 8]>::as_slice).collect();
        let own = (name(self.id), self.own_lease());
        // Who cannot give it back lets it end.
        let successor = match own.1 {
            0 => None,
            lease => arbiter::end(&mut registry, (&own.0, lease), &candidates(&present, &[&own.0])).ok().flatten(),
        };
        let successor = successor.map(|name| node_of(name) as NodeId);
        for peer in self.peers.clone() {
            self.send(peer, Wire::Leave(successor));
        }
    }

    pub fn on_wire(&mut self, from: NodeId, wire: Wire) {
        if self.left {
            return;
        }
        self.first_message_at.get_or_insert(self.now);
        self.silent.remove(from);
        match &wire {
            Wire::Leave(successor) => {
                self.received.insert(from, 0);
                if *successor == Some(self.id) && !self.is_database_away {
                    self.successors = successors_of(self.leases.borrow().iter());
                }
                if self.lease.asking_since().is_none() {
                    self.take_over_lost();
                }
                return;
            }
            _ => self.received.insert(from, self.now),
        };
        match wire {
            Wire::Beat => {}
            Wire::Clock(_) if self.speaks < CLOCKED => {}
            Wire::Clock(stamp) => _ = self.clock.observe(stamp, self.local_time()),
            Wire::Share(true) => self.note_ready(from),
            Wire::Share(false) => self.note_unready(from),
            Wire::Offer { record, first, rest } => self.on_offer(record, first, rest),
            Wire::Held(record) => self.on_held(&record),
            Wire::Record(record) => exchange::ExchangePorts::merge(self, from, record),
            Wire::Claim { sub, ticket } => self.on_claim(from, sub, ticket),
            Wire::Taken(ticket, true) => self.on_taken(from, ticket),
            Wire::Taken(ticket, false) => self.on_refused(from, ticket),
            Wire::Exchange(message) => {
                let now = Instant::at(self.now);
                self.places.with = Some(from);
                exchange::on_message(self, from, message, now);
            }
            Wire::Hello { speaks, reply } => {
                self.speak.insert(from, speaks);
                if reply == HelloReply::Wanted {
                    self.greet(from, HelloReply::Given);
                }
            }
            // A node of an older version cannot read it.
            Wire::Refresh(_) if self.speaks < REFRESHES => self.send(from, Wire::Unread),
            Wire::Refresh(refresh) => self.merge_refresh(from, refresh),
            Wire::Unread => _ = self.speak.insert(from, 0),
            Wire::Leave(_) => {}
        }
        self.may_resume();
    }
}
