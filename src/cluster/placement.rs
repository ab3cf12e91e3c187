//! Which nodes hold what, where not every node holds everything: all that belongs to a presentity is held by the first
//! few nodes of an order that each node computes alike (rendezvous hashing). The first of them is the primary of
//! the presentity. Presentities are put together into partitions, so that the order is computed once for each of these
//! whenever a node comes or goes.
use super::digest::mixed;
use super::succession::common_hash;
use crate::shm_safe::shm_safe;
use crate::time::Millis;

/// There are this many partitions.
pub const PARTITIONS: usize = 4096;

/// For this long after a change of the nodes those that held a presentity before learn of it still: what
/// they own and have not handed over goes on.
pub const KEPT: Millis = Millis(30_000);

/// The partition of a presentity, by its URI in any case.
pub fn partition_of(uri: &[u8]) -> usize {
    (mixed(common_hash(&[&uri.to_ascii_lowercase()])) % PARTITIONS as u64) as usize
}

/// A node among which records are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The digest of its name.
    pub key: u64,
    /// The node has all that it should hold, and serves requests.
    pub is_ready: bool,
    /// Whether it did so before the last changes of the nodes, one bit each, the last one lowest.
    pub was_ready: u16,
}

shm_safe!(Candidate { key, is_ready, was_ready });

/// The members after a look at the nodes that are there, each with its key and whether it is ready. `None`: nothing has
/// changed. `age`: how long ago the last change was.
pub fn observed(before: &[Candidate], seen: &[(u64, bool)], age: Millis) -> Option<Observed> {
    let of = |key: u64| before.iter().find(|candidate| candidate.key == key);
    let is_same = |(key, is_ready): &(u64, bool)| of(*key).is_some_and(|candidate| candidate.is_ready == *is_ready);
    let is_change = seen.len() != before.len() || !seen.iter().all(is_same);
    if !is_change && (age < KEPT || before.iter().all(|candidate| candidate.was_ready == 0)) {
        return None;
    }
    let none_was_ready = !before.iter().any(|candidate| candidate.is_ready);
    let was_ready = |key: u64| match of(key).filter(|_| is_change) {
        Some(candidate) if age < KEPT => (candidate.was_ready << 1) | u16::from(candidate.is_ready || none_was_ready),
        Some(candidate) => u16::from(candidate.is_ready || none_was_ready),
        None => 0,
    };
    let candidates =
        seen.iter().map(|(key, is_ready)| Candidate { key: *key, is_ready: *is_ready, was_ready: was_ready(*key) });
    let mut candidates: Vec<Candidate> = candidates.collect();
    candidates.sort_unstable_by_key(|candidate| candidate.key);
    Some(Observed { candidates, is_change })
}

/// What a look at the nodes has shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Observed {
    /// The members from now on, by their keys.
    pub candidates: Vec<Candidate>,
    /// A node has come, gone, or become ready; otherwise former holders are forgotten.
    pub is_change: bool,
}

/// The holders of each partition; nodes are named by their places in the list of members.
#[derive(Debug, Default)]
pub struct Placement {
    nodes: Vec<u16>,
    /// Where the nodes of each partition begin, and how many of them serve it.
    parts: Vec<(u32, u8)>,
}

impl Placement {
    /// The placement of all partitions on these members, with `replicas` copies beside the first.
    pub fn new(candidates: &[Candidate], replicas: usize) -> Placement {
        Placement::of_partitions(PARTITIONS, candidates, replicas)
    }

    /// The placement of `partitions` of them.
    pub fn of_partitions(partitions: usize, candidates: &[Candidate], replicas: usize) -> Placement {
        let former = candidates.iter().fold(0, |bits, candidate| bits | candidate.was_ready);
        let none_is_ready = !candidates.iter().any(|candidate| candidate.is_ready);
        let mut placement = Placement { nodes: Vec::new(), parts: Vec::with_capacity(partitions + 1) };
        let mut ranked: Vec<(u64, u16)> = Vec::with_capacity(candidates.len());
        for partition in 0..partitions as u64 {
            let score = |candidate: &Candidate| mixed(candidate.key ^ mixed(partition + 1));
            ranked.clear();
            ranked.extend(candidates.iter().enumerate().map(|(at, candidate)| (score(candidate), at as u16)));
            ranked.sort_unstable();
            let first = |serves: &dyn Fn(&Candidate) -> bool| -> Vec<u16> {
                let serving = ranked.iter().map(|(_, at)| *at).filter(|at| serves(&candidates[usize::from(*at)]));
                serving.take(replicas + 1).collect()
            };
            let mut nodes = first(&|candidate| candidate.is_ready || none_is_ready);
            let serving = nodes.len();
            let mut others = first(&|_| true);
            for change in (0..u16::BITS).filter(|change| (former >> change) & 1 == 1) {
                others.extend(first(&|candidate| (candidate.was_ready >> change) & 1 == 1));
            }
            for at in others {
                if !nodes.contains(&at) {
                    nodes.push(at);
                }
            }
            placement.parts.push((placement.nodes.len() as u32, serving as u8));
            placement.nodes.extend(nodes);
        }
        placement.parts.push((placement.nodes.len() as u32, 0));
        placement
    }

    /// The nodes that learn of what happens in a partition: those that serve it, those that will, and those that did.
    pub fn holders(&self, partition: usize) -> &[u16] {
        match (self.parts.get(partition), self.parts.get(partition + 1)) {
            (Some((from, _)), Some((end, _))) => &self.nodes[*from as usize..*end as usize],
            _ => &[],
        }
    }

    /// The nodes that serve a partition, its primary first: the others go on in this order when it is lost.
    pub fn serving(&self, partition: usize) -> &[u16] {
        let serving = self.parts.get(partition).map_or(0, |(_, serving)| usize::from(*serving));
        &self.holders(partition)[..serving]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(keys: &[u64]) -> Vec<Candidate> {
        keys.iter().map(|key| Candidate { key: mixed(*key), is_ready: true, was_ready: 0 }).collect()
    }

    fn names(candidates: &[Candidate], nodes: &[u16]) -> Vec<u64> {
        nodes.iter().map(|at| candidates[usize::from(*at)].key).collect()
    }

    #[test]
    fn one_presentity_has_one_partition_in_any_case() {
        assert_eq!(partition_of(b"sip:Alice@Example.org"), partition_of(b"sip:alice@example.org"));
        let partitions: std::collections::BTreeSet<usize> =
            (0..4096).map(|n| partition_of(format!("sip:{n}@example.org").as_bytes())).collect();
        assert!(partitions.len() > 2400, "{}", partitions.len());
    }

    #[test]
    fn each_node_holds_its_share() {
        for (nodes, replicas) in [(4, 1), (30, 1), (30, 2)] {
            let candidates = ready(&(0..nodes).collect::<Vec<_>>());
            let placement = Placement::new(&candidates, replicas);
            let (mut held, mut primaries) = (vec![0; nodes as usize], vec![0; nodes as usize]);
            for partition in 0..PARTITIONS {
                assert_eq!(placement.holders(partition).len(), replicas + 1);
                assert_eq!(placement.holders(partition), placement.serving(partition));
                placement.holders(partition).iter().for_each(|at| held[usize::from(*at)] += 1);
                primaries[usize::from(placement.serving(partition)[0])] += 1;
            }
            let fair = PARTITIONS * (replicas + 1) / nodes as usize;
            assert!(held.iter().all(|count| *count > fair * 3 / 4 && *count < fair * 5 / 4), "{held:?}");
            assert!(primaries.iter().all(|count| *count > fair / (replicas + 1) / 2), "{primaries:?}");
        }
    }

    #[test]
    fn nothing_moves_between_the_nodes_that_stay() {
        let before = ready(&[1, 2, 3, 4, 5]);
        let after = ready(&[1, 2, 3, 5]);
        let (one, two) = (Placement::new(&before, 1), Placement::new(&after, 1));
        for partition in 0..PARTITIONS {
            let (old, new) = (names(&before, one.holders(partition)), names(&after, two.holders(partition)));
            let stayed: Vec<u64> = old.iter().copied().filter(|key| *key != mixed(4)).collect();
            assert!(new.starts_with(&stayed), "who held it before comes first: {old:?} {new:?}");
        }
    }

    #[test]
    fn a_node_that_joins_learns_of_its_share_and_serves_it_when_it_has_it() {
        let former = ready(&[1, 2, 3]);
        let seen = |is_ready| -> Vec<(u64, bool)> {
            vec![(mixed(1), true), (mixed(2), true), (mixed(3), true), (mixed(4), is_ready)]
        };
        let joining = observed(&former, &seen(false), Millis(60_000)).unwrap();
        assert!(joining.is_change && observed(&joining.candidates, &seen(false), Millis(1_000)).is_none());
        let joined = observed(&joining.candidates, &seen(true), Millis(2_000)).unwrap();
        let settled = observed(&joined.candidates, &seen(true), KEPT).unwrap();
        assert!(!settled.is_change && settled.candidates.iter().all(|candidate| candidate.was_ready == 0));
        assert!(observed(&settled.candidates, &seen(true), Millis(2 * KEPT.0)).is_none());
        let of = |candidates: &[Candidate]| Placement::new(candidates, 1);
        let (old, one, two, three) =
            (of(&former), of(&joining.candidates), of(&joined.candidates), of(&settled.candidates));
        let mut moved = 0;
        for partition in 0..PARTITIONS {
            let held = names(&former, old.holders(partition));
            assert_eq!(names(&joining.candidates, one.serving(partition)), held, "it does not serve anything yet");
            let (joining, all) =
                (names(&joining.candidates, one.holders(partition)), names(&joined.candidates, two.holders(partition)));
            let last = names(&settled.candidates, three.holders(partition));
            assert!(last.iter().all(|key| joining.contains(key) && all.contains(key)));
            assert!(held.iter().all(|key| joining.contains(key) && all.contains(key)));
            assert_eq!(names(&joined.candidates, two.serving(partition)), last);
            assert_eq!(last.len(), 2);
            moved += usize::from(last.contains(&mixed(4)));
        }
        assert!(moved > PARTITIONS * 2 / 5 && moved < PARTITIONS * 3 / 5, "{moved}");
    }

    #[test]
    fn where_nobody_is_ready_everybody_serves() {
        let candidates: Vec<Candidate> =
            ready(&[1, 2]).into_iter().map(|candidate| Candidate { is_ready: false, ..candidate }).collect();
        assert_eq!(Placement::new(&candidates, 1).serving(7).len(), 2);
        assert!(Placement::new(&[], 1).serving(7).is_empty() && Placement::default().holders(7).is_empty());
    }

    #[test]
    fn former_holders_are_known_for_sixteen_changes() {
        // The first node is asking for its share anew; others come one after the other.
        let seen = |others: u64| (1..=2 + others).map(|n| (mixed(n), n != 1)).collect::<Vec<_>>();
        let mut members = observed(&ready(&[1, 2]), &seen(0), Millis(60_000)).unwrap().candidates;
        let mut known = Vec::new();
        for others in 1..=20 {
            let first = members.iter().find(|candidate| candidate.key == mixed(1)).unwrap();
            known.push(first.was_ready != 0);
            members = observed(&members, &seen(others), Millis(KEPT.0 - 1)).unwrap().candidates;
        }
        assert_eq!(known.iter().take_while(|is_known| **is_known).count(), 16);
        assert!(known[16..].iter().all(|is_known| !is_known));
        // After a while without a change it counts as one that was never ready.
        let once = observed(&ready(&[1, 2]), &seen(0), Millis(60_000)).unwrap().candidates;
        assert!(once.iter().any(|candidate| candidate.was_ready != 0));
        assert!(observed(&once, &seen(0), Millis(KEPT.0 - 1)).is_none());
        let later = observed(&once, &seen(0), KEPT).unwrap().candidates;
        assert!(later.iter().all(|candidate| candidate.was_ready == 0));
    }
}
