//! Where the records of a presentity are, where not every node holds everything (`cluster_replicas`).
use crate::caught::caught;
use crate::cluster::placement::{Candidate, Placement, observed, partition_of};
use crate::host::clock;
use crate::host::lock::Lock;
use crate::host::shm::{self, Shm, ShmVec};
use crate::server::nodes::node_id::NodeId;
use crate::server::nodes::node_messages::SharingNode;
use crate::server::nodes::own_removals::OwnRemovals;
use crate::shm_safe::shm_safe;
use crate::time::{AtomicInstant, Instant, Millis, Seconds};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// For this long after a change of the nodes every node learns of everything: others may see other nodes than this one.
const UNSETTLED: Millis = Millis(3_000);

/// How long a node waits before it looks again for records that are not in their place: while records that it has
/// offered are on their way, and when there were none.
pub(crate) const NEXT_OFFER: Millis = Millis(5_000);
pub(crate) const NEXT_LOOK: Millis = Millis(60_000);

#[derive(Clone, Copy)]
struct PlacedNode {
    node: NodeId,
    candidate: Candidate,
}

shm_safe!(PlacedNode { node, candidate });

/// The nodes among which records are placed, as all processes see them; in shared memory.
pub struct Placing {
    /// Counts up whenever they change.
    generation: AtomicU32,
    /// When one of them came, went, or became ready last.
    changed_at: AtomicInstant,
    /// Whether this node has all that it should hold.
    is_ready: AtomicBool,
    /// Since when it asks for that.
    filling_since: AtomicInstant,
    /// When records that are not in their place are looked for next; `None`: at once.
    look_at: AtomicInstant,
    list: Lock<ShmVec<PlacedNode>>,
    /// What was removed here.
    pub(crate) removals: OwnRemovals,
}

shm_safe!(Placing { generation, changed_at, is_ready, filling_since, look_at, list, removals });

impl Default for Placing {
    fn default() -> Self {
        Placing {
            generation: AtomicU32::new(0),
            changed_at: AtomicInstant::new(Some(clock::instant())),
            is_ready: AtomicBool::new(false),
            filling_since: AtomicInstant::new(Some(clock::instant())),
            look_at: AtomicInstant::default(),
            list: Lock::new(ShmVec::new_in(Shm)),
            removals: OwnRemovals::default(),
        }
    }
}

impl Placing {
    /// Whether this node has all that it should hold.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    /// Whether this node serves what others send it: it has all that it should hold, or knows others of which none has.
    /// One that knows no other yet cannot tell.
    pub fn may_serve(&self) -> bool {
        let is_unready = |placed: &PlacedNode| !placed.candidate.is_ready;
        let none_is_ready = || {
            let list = self.list.lock();
            list.len() > 1 && list.iter().all(is_unready)
        };
        self.is_ready() || none_is_ready()
    }

    /// Notes that this node has all that it should hold.
    pub fn note_ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// The node was frozen, and asks anew.
    pub fn note_away(&self, now: Instant) {
        self.filling_since.set(Some(now));
        self.is_ready.store(false, Ordering::Relaxed);
    }

    /// For how long this node has asked for what it should hold.
    pub fn filling_age(&self, now: Instant) -> Seconds {
        self.filling_since.get().map_or(Seconds::ZERO, |since| now.since(since).seconds())
    }

    /// How long the nodes have been the same.
    pub fn age(&self, now: Instant) -> Millis {
        self.changed_at.get().map_or(Millis::ZERO, |changed_at| now.since(changed_at))
    }

    /// Whether the nodes have been the same for long enough that the others see the same ones.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.age(now) >= UNSETTLED
    }

    /// Whether it is time to look for records that are not in their place.
    pub fn is_look_due(&self, now: Instant) -> bool {
        self.look_at.get().is_none_or(|look_at| now >= look_at)
    }

    /// Lets the records be looked for as soon as possible.
    pub fn look_now(&self) {
        self.look_at.set(None);
    }

    /// Lets the records be looked for again then, or as soon as the nodes are others.
    pub fn look_after(&self, instant: Instant) {
        self.look_at.set(Some(instant));
    }

    /// Lets the records be looked for again then at the latest.
    pub fn look_by(&self, instant: Instant) {
        self.look_at.bring_forward(instant);
    }

    /// Looks for records that are not in their place with `work`, which says how long there is to wait for the next
    /// look; after a panic in it that is [`NEXT_OFFER`].
    ///
    /// # Errors
    ///
    /// Fails with what a panic in `work` has said.
    pub(crate) fn look(&self, now: Instant, work: impl FnOnce() -> Millis) -> Result<(), String> {
        // What comes while the tables are looked through is looked for again.
        self.look_after(now + NEXT_LOOK);
        let wait = caught(work);
        self.look_by(now + *wait.as_ref().unwrap_or(&NEXT_OFFER));
        wait.map(|_| ())
    }

    /// Compares with the nodes that are there now. Without memory for them those that were known are kept.
    pub fn observe(&self, seen: &[SharingNode], now: Instant) {
        let mut list = self.list.lock();
        let before: Vec<Candidate> = list.iter().map(|placed| placed.candidate).collect();
        let keys: Vec<(u64, bool)> = seen.iter().map(|node| (node.key, node.is_ready)).collect();
        let Some(after) = observed(&before, &keys, self.age(now)) else { return };
        let mut fresh = ShmVec::new_in(Shm);
        for candidate in after.candidates {
            let Some(SharingNode { id: node, .. }) = seen.iter().copied().find(|node| node.key == candidate.key) else {
                continue;
            };
            if shm::push(&mut fresh, PlacedNode { node, candidate }).is_err() {
                return;
            }
        }
        *list = fresh;
        if after.is_change {
            self.changed_at.set(Some(now));
        }
        self.look_now();
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The placement as one process has computed it.
#[derive(Default)]
pub struct View {
    generation: u32,
    placement: Placement,
    nodes: Vec<NodeId>,
}

impl View {
    /// The placement as it is now.
    pub fn of_placing(placing: &Placing, replicas: usize) -> View {
        let list = placing.list.lock();
        let generation = placing.generation.load(Ordering::Acquire);
        let (nodes, candidates): (Vec<NodeId>, Vec<Candidate>) =
            list.iter().map(|placed| (placed.node, placed.candidate)).unzip();
        drop(list);
        View { generation, placement: Placement::new(&candidates, replicas), nodes }
    }

    /// Whether the nodes are the same still.
    pub fn is_current(&self, placing: &Placing) -> bool {
        self.generation == placing.generation.load(Ordering::Acquire)
    }

    fn node(&self, at: u16) -> NodeId {
        self.nodes.get(usize::from(at)).copied().unwrap_or(NodeId::ELSEWHERE)
    }

    /// The other nodes that learn of what happens to a presentity.
    pub fn others(&self, uri: &[u8]) -> impl Iterator<Item = NodeId> {
        let holders = self.placement.holders(partition_of(uri)).iter();
        holders.map(|at| self.node(*at)).filter(|node| !node.is_here())
    }

    /// The nodes that serve a presentity, its primary first.
    pub fn serving(&self, uri: &[u8]) -> impl Iterator<Item = NodeId> {
        self.placement.serving(partition_of(uri)).iter().map(|at| self.node(*at))
    }

    /// Whether both this node and another one hold what belongs to a presentity.
    pub fn is_shared_with(&self, uri: &[u8], other: NodeId) -> bool {
        let holders = self.placement.holders(partition_of(uri));
        let is_held = |node: NodeId| holders.iter().any(|at| self.node(*at) == node);
        is_held(NodeId::HERE) && is_held(other)
    }

    /// Whether this node holds what belongs to a presentity; so it does while it knows of no nodes at all.
    pub fn is_held_here(&self, uri: &[u8]) -> bool {
        let holders = self.placement.holders(partition_of(uri));
        holders.is_empty() || holders.iter().any(|at| self.node(*at).is_here())
    }

    /// Whether this node serves a presentity.
    pub fn is_served_here(&self, uri: &[u8]) -> bool {
        self.serving(uri).any(NodeId::is_here)
    }

    /// Whether what lost nodes served falls to this one: it is the first of those that are left, or has this turn.
    pub(crate) fn is_successor(&self, uri: &[u8], turn: usize, is_lost: impl Fn(NodeId) -> bool) -> bool {
        let nodes: Vec<NodeId> = self.serving(uri).filter(|node| !is_lost(*node)).collect();
        !nodes.is_empty() && nodes[turn % nodes.len()].is_here()
    }

    /// Whether it knows of no nodes at all.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether records are placed on a node.
    pub fn has_node(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }
}

/// The placement that a process has computed last.
pub type CachedView = RefCell<Rc<View>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::digest::RecordKey;
    use crate::host::fake;

    fn ready(id: NodeId, key: u64) -> SharingNode {
        SharingNode { id, key, is_ready: true }
    }

    fn placing(nodes: usize) -> Placing {
        let placing = Placing::default();
        let seen: Vec<SharingNode> = (0..nodes)
            .map(|at| if at == 0 { NodeId::HERE } else { NodeId::at(at) })
            .map(|id| (id, RecordKey::of_names(&[&[id.place().unwrap_or(99) as u8]]).0))
            .map(|(id, key)| ready(id, key))
            .collect();
        placing.observe(&seen, Instant::at(50_000));
        placing
    }

    #[test]
    fn what_two_nodes_hold_is_compared_by_them_alone() {
        let before = fake::live_blocks();
        let placing = placing(4);
        let view = View::of_placing(&placing, 1);
        let mut counts = [0; 3];
        for n in 0..1000 {
            let uri = format!("sip:{n}@example.org");
            let uri = uri.as_bytes();
            let shared = (1..4).filter(|at| view.is_shared_with(uri, NodeId::at(*at))).count();
            assert_eq!(shared, usize::from(view.is_held_here(uri)));
            assert_eq!(view.others(uri).count(), 2 - usize::from(view.is_held_here(uri)));
            assert_eq!(view.serving(uri).count(), 2);
            counts[shared] += 1;
        }
        assert!(counts[1] > 400 && counts[1] < 600, "{counts:?}");
        assert!(view.has_node(NodeId::HERE) && view.has_node(NodeId::at(3)) && !view.has_node(NodeId::at(9)));
        drop((view, placing));
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn a_node_that_knows_no_other_holds_everything() {
        let view = View::of_placing(&Placing::default(), 1);
        assert!(view.is_held_here(b"sip:a@b") && view.serving(b"sip:a@b").next().is_none());
        assert!(View::of_placing(&placing(1), 3).is_held_here(b"sip:a@b"));
    }

    #[test]
    fn a_node_without_its_share_serves_what_others_send_it_where_none_has_its_own() {
        let (placing, at) = (Placing::default(), Instant::at(50_000));
        assert!(!placing.may_serve(), "it knows no other");
        for (seen, may_serve) in [(vec![false], false), (vec![false, true], false), (vec![false, false], true)] {
            let of = |(at, is_ready): (usize, &bool)| SharingNode {
                id: if at == 0 { NodeId::HERE } else { NodeId::at(at) },
                key: at as u64,
                is_ready: *is_ready,
            };
            placing.observe(&seen.iter().enumerate().map(of).collect::<Vec<_>>(), at);
            assert_eq!(placing.may_serve(), may_serve, "{seen:?}");
        }
        placing.note_ready();
        placing.observe(&[ready(NodeId::HERE, 0), ready(NodeId::at(1), 1)], at);
        assert!(placing.may_serve());
        placing.note_away(at);
        assert!(!placing.may_serve());
    }

    #[test]
    fn what_is_found_out_of_place_is_not_left_until_the_next_look() {
        let placing = placing(2);
        let at = Instant::at;
        placing.look_after(at(60_000));
        placing.look_by(at(5_000));
        placing.look_by(at(9_000));
        assert!(!placing.is_look_due(at(4_999)) && placing.is_look_due(at(5_000)));
        placing.look_now();
        placing.look_by(at(9_000));
        assert!(placing.is_look_due(at(1)), "it is due already");
    }

    #[test]
    fn a_look_that_panics_is_begun_again_soon() {
        let placing = placing(2);
        let at = |millis: u64| Instant::at(100_000 + millis);
        placing.look(at(0), || NEXT_LOOK).unwrap();
        assert!(!placing.is_look_due(at(59_999)) && placing.is_look_due(at(60_000)));
        let why = placing.look(at(60_000), || panic!("asked for by the test")).unwrap_err();
        assert_eq!(why, "asked for by the test");
        assert!(!placing.is_look_due(at(64_999)) && placing.is_look_due(at(65_000)));
        // What another process finds meanwhile is looked for when it says.
        let found = || {
            placing.look_by(at(70_000));
            NEXT_LOOK
        };
        placing.look(at(65_000), found).unwrap();
        assert!(!placing.is_look_due(at(69_999)) && placing.is_look_due(at(70_000)));
    }

    #[test]
    fn without_memory_the_nodes_that_were_known_are_kept() {
        let placing = placing(2);
        let generation = placing.generation.load(Ordering::Relaxed);
        let (_, failed) = fake::failing_at(0, || placing.observe(&[ready(NodeId::HERE, 1)], Instant::at(60_000)));
        assert!(failed && placing.list.lock().len() == 2 && fake::held_locks() == 0);
        assert_eq!(placing.generation.load(Ordering::Relaxed), generation);
    }

    #[test]
    fn others_see_the_same_nodes_after_three_seconds() {
        let (placing, changed_at) = (placing(2), Instant::at(50_000));
        assert!(!placing.is_settled(changed_at) && !placing.is_settled(changed_at + Millis(UNSETTLED.0 - 1)));
        assert!(placing.is_settled(changed_at + UNSETTLED));
    }
}
