//! Where the records of a simulated node are, when not every node holds everything (`cluster::placement`): what it asks
//! for when it joins, what it hands over and forgets when others come.
use super::{DialogId, LOST_AFTER, Node, NodeId, PresentityId, Record, Sub, Wire};
use crate::layers::cluster::clock::Stamp;
use crate::layers::cluster::digest::mixed;
use crate::layers::cluster::exchange;
use crate::layers::cluster::placement::{Candidate, KEPT, Placement, observed};
use crate::time::{Instant, Millis};
use std::collections::BTreeSet;

/// There are so many partitions: presentities are few.
const PARTITIONS: usize = 32;
/// A node that sees no other is ready so long after its start.
const ALONE_AFTER: u64 = 1_500;
/// For so long after a change of the nodes every node learns of everything: others may see other nodes than this one.
const UNSETTLED: u64 = 3_000;
/// Records are not moved before the nodes have been the same for so long.
const STABLE: u64 = 2_000;
/// So often what is not in its place is offered.
const OFFER_EVERY: u64 = 5_000;

/// What a node knows of the places of records.
#[derive(Default)]
pub struct Places {
    /// With how many copies; `None`: every node holds everything.
    pub replicas: Option<usize>,
    candidates: Vec<Candidate>,
    changed_at: u64,
    placement: Placement,
    pub is_ready: bool,
    /// The others that are ready, and those that have said whether they are.
    ready: BTreeSet<NodeId>,
    sharing: BTreeSet<NodeId>,
    filled: BTreeSet<NodeId>,
    filling_since: u64,
    /// What was removed here at the request of a phone, until those have learnt of it that hold such records.
    removals: Vec<(PresentityId, Record)>,
    offered_at: u64,
    /// The node that records are exchanged with.
    pub with: Option<NodeId>,
}

fn partition_of(presentity: PresentityId) -> usize {
    (mixed(u64::from(presentity) + 77) % PARTITIONS as u64) as usize
}

fn key_of(node: NodeId) -> u64 {
    mixed(node as u64 + 1)
}

impl Places {
    fn nodes(&self, at: &[u16]) -> Vec<NodeId> {
        let node = |candidate: &Candidate| (0..64).find(|node| key_of(*node) == candidate.key);
        at.iter().filter_map(|at| self.candidates.get(usize::from(*at)).and_then(node)).collect()
    }

    fn holders(&self, presentity: PresentityId) -> Vec<NodeId> {
        self.nodes(self.placement.holders(partition_of(presentity)))
    }

    fn is_held_by(&self, presentity: PresentityId, node: NodeId) -> bool {
        let holders = self.holders(presentity);
        self.replicas.is_none() || holders.is_empty() || holders.contains(&node)
    }
}

impl Node {
    /// The same node with so many copies of its records on others.
    pub fn placing(mut self, replicas: Option<usize>) -> Node {
        self.places.replicas = replicas;
        self
    }

    /// The nodes that serve a presentity, its primary first; empty: this one does.
    pub fn serving(&self, presentity: PresentityId) -> Vec<NodeId> {
        self.places.nodes(self.places.placement.serving(partition_of(presentity)))
    }

    /// Whether this node holds what belongs to a presentity, as far as it knows.
    pub fn holds(&self, presentity: PresentityId) -> bool {
        self.places.is_held_by(presentity, self.id)
    }

    /// Whether it answers a request that another node has sent on to it, as `Placing::may_serve`.
    pub fn may_serve_others(&self) -> bool {
        let candidates = &self.places.candidates;
        let none_is_ready = candidates.len() > 1 && candidates.iter().all(|candidate| !candidate.is_ready);
        self.places.replicas.is_none() || self.places.is_ready || none_is_ready
    }

    pub fn serves(&self, presentity: PresentityId) -> bool {
        self.places.replicas.is_none() || self.serving(presentity).contains(&self.id)
    }

    /// Whether both this node and the one that it exchanges records with hold what belongs to a presentity.
    pub fn is_common(&self, presentity: PresentityId) -> bool {
        let with = self.places.with.unwrap_or(self.id);
        self.places.replicas.is_none()
            || [self.id, with].iter().all(|node| self.places.holders(presentity).contains(node))
    }

    pub fn knows(&self, peer: NodeId) -> bool {
        let is_peer = |candidate: &Candidate| candidate.key == key_of(peer);
        self.places.replicas.is_none() || self.places.candidates.iter().any(is_peer)
    }

    /// The other nodes that hold what belongs to a presentity.
    pub fn other_holders(&self, presentity: PresentityId) -> Vec<NodeId> {
        if self.places.replicas.is_none() || self.now - self.places.changed_at < UNSETTLED {
            return self.peers.clone();
        }
        let own = self.id;
        self.places.holders(presentity).into_iter().filter(|peer| *peer != own).collect()
    }

    /// Sends a record to the nodes that hold it.
    pub fn send_to_holders(&mut self, presentity: PresentityId, record: &Record) {
        for peer in self.other_holders(presentity) {
            self.send(peer, Wire::Record(record.clone()));
        }
    }

    /// Something was removed at the request of a phone.
    pub fn note_removal(&mut self, presentity: PresentityId, removal: Record) {
        self.send_to_holders(presentity, &removal);
        self.keep_removal(presentity, removal);
    }

    /// Nodes that hold such records learn of a removal, even when this node is none of them by then.
    pub fn keep_removal(&mut self, presentity: PresentityId, removal: Record) {
        if self.places.replicas.is_some() {
            self.places.removals.push((presentity, removal));
        }
    }

    /// Whether it has what the nodes that hold its records know.
    pub fn knows_its_share(&self) -> bool {
        self.places.replicas.is_none() || self.places.is_ready
    }

    /// The node that owned a subscription is notified that it no longer does, wherever records are.
    pub fn send_to_former(&mut self, dialog: DialogId, owner: NodeId) {
        let Some(sub) = self.subs.get(&dialog).filter(|sub| sub.owner != owner && owner != self.id) else { return };
        if !self.other_holders(sub.presentity).contains(&owner) {
            let record = Record::Sub(sub.clone());
            self.send(owner, Wire::Record(record));
        }
    }

    /// A node has said that it places records, and has all that it should hold.
    pub fn note_ready(&mut self, node: NodeId) {
        self.places.sharing.insert(node);
        self.places.ready.insert(node);
    }

    /// A node has said that it places records, and lacks some that it should hold.
    pub fn note_unready(&mut self, node: NodeId) {
        self.places.sharing.insert(node);
        self.places.ready.remove(&node);
    }

    pub fn note_filled(&mut self, by: NodeId, since: Stamp) {
        if since == Stamp::default() {
            self.places.filled.insert(by);
        }
    }

    /// The node was frozen: others serve what it holds until it has learnt what it missed.
    pub fn note_away(&mut self) {
        self.places.is_ready = false;
        self.places.filling_since = self.now;
        self.places.filled.clear();
    }

    /// What a node does of this in each round.
    pub fn place_records(&mut self) {
        let Some(replicas) = self.places.replicas else { return };
        self.observe_members(replicas);
        self.fill();
        for peer in self.peers.clone() {
            self.send(peer, Wire::Share(self.places.is_ready));
        }
        let is_stable = self.now - self.places.changed_at >= STABLE;
        if self.places.is_ready && is_stable && self.lease.asking_since().is_none() {
            self.hand_over();
            if self.now - self.places.offered_at >= OFFER_EVERY {
                self.places.offered_at = self.now;
                self.offer();
            }
        }
    }

    fn is_there(&self, peer: NodeId) -> bool {
        let silent = self.now.saturating_sub(self.received.get(&peer).copied().unwrap_or_default());
        silent < LOST_AFTER && self.places.sharing.contains(&peer)
    }

    fn observe_members(&mut self, replicas: usize) {
        let lost: Vec<NodeId> = self.peers.iter().copied().filter(|peer| !self.is_there(*peer)).collect();
        for lost in lost {
            // When it comes back it says anew whether it has all that it should.
            self.places.ready.remove(&lost);
            self.places.sharing.remove(&lost);
        }
        let others = self.peers.iter().copied().filter(|peer| self.is_there(*peer));
        let mut seen: Vec<(u64, bool)> = others.map(|peer| (key_of(peer), self.places.ready.contains(&peer))).collect();
        seen.push((key_of(self.id), self.places.is_ready));
        let age = Millis(self.now - self.places.changed_at);
        if let Some(after) = observed(&self.places.candidates, &seen, age) {
            if after.is_change {
                self.places.changed_at = self.now;
            }
            self.places.placement = Placement::of_partitions(PARTITIONS, &after.candidates, replicas);
            self.places.candidates = after.candidates;
        }
    }

    fn fill(&mut self) {
        if self.places.is_ready {
            return;
        }
        let now = Instant::at(self.now);
        let others: Vec<NodeId> = self.peers.iter().copied().filter(|peer| self.is_there(*peer)).collect();
        let lacking: Vec<NodeId> = others.into_iter().filter(|peer| !self.places.filled.contains(peer)).collect();
        for peer in lacking.iter().filter(|peer| !self.pulling.contains_key(peer)).copied().collect::<Vec<_>>() {
            self.places.with = Some(peer);
            exchange::pull(self, peer, Stamp::default(), now);
        }
        let since = self.places.filling_since.max(self.started);
        self.places.is_ready = lacking.is_empty() && self.now - since >= ALONE_AFTER;
    }

    /// Gives what this node owns and does not serve to its primary; once the nodes have been the same for long, what it
    /// serves for another one, too.
    fn hand_over(&mut self) {
        let is_kept = self.now - self.places.changed_at >= KEPT.0 && self.now - self.places.offered_at >= OFFER_EVERY;
        let stays = |presentity| match is_kept {
            true => self.serving(presentity).first().is_none_or(|primary| *primary == self.id),
            false => self.serves(presentity),
        };
        let is_own = |sub: &&Sub| sub.owner == self.id && !stays(sub.presentity);
        let moved: Vec<(DialogId, PresentityId)> =
            self.subs.values().filter(is_own).map(|sub| (sub.dialog, sub.presentity)).collect();
        for (dialog, presentity) in moved {
            let (primary, stamp) = (self.serving(presentity).first().copied(), self.tick());
            let (Some(primary), Some(sub)) = (primary, self.subs.get_mut(&dialog)) else { continue };
            // It goes on above all that this node has reserved.
            (sub.owner, sub.local) = (primary, sub.ceiling);
            (sub.version.owner, sub.version.stamp) = (primary as u64, stamp);
            let record = Record::Sub(sub.clone());
            self.restored.remove(&dialog);
            self.claimed.remove(&dialog);
            self.send_to_holders(presentity, &record);
        }
    }

    fn offer(&mut self) {
        let subs = self.subs.values().filter(|sub| !self.holds(sub.presentity) && sub.owner != self.id);
        let subs: Vec<_> = subs.map(|sub| (sub.presentity, Record::Sub(sub.clone()))).collect();
        let docs = self.docs.values().filter(|doc| !self.holds(doc.presentity));
        let docs: Vec<_> = docs.map(|doc| (doc.presentity, Record::Doc(doc.clone()))).collect();
        // Those that serve the same learn of a removal when they compare.
        let removals = self.places.removals.clone().into_iter().filter(|(presentity, _)| !self.serves(*presentity));
        let removals: Vec<_> = removals.collect();
        for (presentity, record) in subs.into_iter().chain(docs).chain(removals) {
            let candidates: Vec<NodeId> =
                self.serving(presentity).into_iter().filter(|node| *node != self.id).collect();
            if let Some((to, rest)) = candidates.split_first() {
                self.send(*to, Wire::Offer { record, first: self.id, rest: rest.to_vec() });
            }
        }
    }

    /// Takes what another node holds and should not, and passes it on to the next that should; the last one says so.
    pub fn on_offer(&mut self, record: Record, first: NodeId, rest: Vec<NodeId>) {
        exchange::ExchangePorts::merge(self, first, record.clone());
        match rest.split_first() {
            Some((next, rest)) if *next != self.id => {
                self.send(*next, Wire::Offer { record, first, rest: rest.to_vec() });
            }
            _ => self.send(first, Wire::Held(record)),
        }
    }

    /// Another node holds this now.
    pub fn on_held(&mut self, record: &Record) {
        match record {
            Record::Sub(held) => {
                let is_moved = |sub: &Sub| !self.holds(sub.presentity) && sub.owner != self.id;
                if self.subs.get(&held.dialog).is_some_and(is_moved) {
                    self.subs.remove(&held.dialog);
                    self.due.remove(&held.dialog);
                }
            }
            Record::Doc(held) => {
                let is_watched = self.subs.values().any(|sub| sub.presentity == held.presentity);
                let is_same = self.docs.get(&held.record).is_some_and(|doc| doc.etag == held.etag);
                if is_same && !is_watched && !self.holds(held.presentity) {
                    // It was not removed: it goes on elsewhere, and may come back as others know it.
                    self.docs.remove(&held.record);
                }
            }
            Record::End(..) | Record::Gone(..) => self.places.removals.retain(|(_, removal)| removal != record),
        }
    }

    /// Whether what a lost node owned falls to this one.
    pub fn is_successor(&self, presentity: PresentityId, turn: usize, is_lost: impl Fn(NodeId) -> bool) -> bool {
        let candidates: Vec<NodeId> = self.serving(presentity).into_iter().filter(|node| !is_lost(*node)).collect();
        !candidates.is_empty() && candidates[turn % candidates.len()] == self.id
    }
}
