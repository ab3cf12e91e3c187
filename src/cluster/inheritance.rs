//! The rows of the arbiter's table, and to whom a lease has come that was taken over, by one node after the other.

use crate::shm_safe::shm_safe;
use std::collections::BTreeMap;

/// A lease in its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// The node that held it first.
    pub node: Vec<u8>,
    /// The lease's number: a node begins a new one whenever it starts, and when its last one was taken over.
    pub lease: u32,
    /// Counts up while it is held.
    pub beat: u32,
    /// What became of it.
    pub outcome: LeaseOutcome,
}

/// What became of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The lease's node holds it.
    Held,
    /// The lease's node has given it back: it need not be waited for.
    Released,
    /// What was owned under it is owned under another lease now: the node, and the number.
    TakenOver(Vec<u8>, u32),
}

/// A lease that was taken over, small enough to be looked up for each subscription: the digests of the names of both
/// nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Successor {
    /// What was taken over.
    pub lost: (u64, u32),
    /// The lease that has taken its place.
    pub by: (u64, u32),
}
shm_safe!(Successor { lost, by });

/// Under which lease that is held belongs what was owned under `lease`, and how often it was taken over on its way
/// there. `successors` are sorted.
pub fn resolve(successors: &[Successor], lease: (u64, u32)) -> ((u64, u32), u32) {
    let (mut at, mut steps) = (lease, 0);
    // As many steps as there are leases: a ring of nodes that ended together has no end.
    for _ in 0..successors.len() {
        match successors
            .binary_search_by_key(&at, |successor| successor.lost)
            .ok()
            .and_then(|place| successors.get(place))
        {
            Some(successor) => (at, steps) = (successor.by, steps + 1),
            None => break,
        }
        if at == lease {
            break;
        }
    }
    (at, steps)
}

/// Where the row is that each row has come to, over all nodes that have taken it over one after the other: one that is
/// held or given back. `None` where there is none.
pub(super) fn ends(rows: &[&LeaseRow]) -> Vec<Option<usize>> {
    let places: BTreeMap<(&[u8], u32), usize> =
        rows.iter().enumerate().map(|(at, row)| ((row.node.as_slice(), row.lease), at)).collect();
    let next = |(at, row): (usize, &&LeaseRow)| match &row.outcome {
        LeaseOutcome::TakenOver(node, lease) => places.get(&(node.as_slice(), *lease)).copied(),
        _ => Some(at),
    };
    let mut ends: Vec<Option<usize>> = rows.iter().enumerate().map(next).collect();
    // Each round doubles the steps: in the end there are more than rows.
    for _ in 0..=rows.len().checked_ilog2().unwrap_or_default() {
        ends = ends.iter().map(|end| end.and_then(|end| ends.get(end).copied().flatten())).collect();
    }
    let is_end = |end: &usize| rows.get(*end).is_some_and(|row| !matches!(row.outcome, LeaseOutcome::TakenOver(..)));
    ends.into_iter().map(|end| end.filter(is_end)).collect()
}

/// Whether all earlier leases of a node that are in the table have come to its present one.
pub fn has_inherited_own(rows: &[&LeaseRow], own: (&[u8], u32)) -> bool {
    let is_present = |row: &LeaseRow| row.node == own.0 && row.lease == own.1;
    let earlier = rows.iter().zip(ends(rows)).filter(|(row, _)| row.node == own.0 && row.lease < own.1);
    own.1 > 0
        && earlier.map(|(_, end)| end).all(|end| end.and_then(|end| rows.get(end)).is_some_and(|row| is_present(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_removed_keep_no_node_from_its_own() {
        let row = |node: &[u8], lease, outcome| LeaseRow { node: node.to_vec(), lease, beat: 1, outcome };
        let by = |node: &[u8], lease| LeaseOutcome::TakenOver(node.to_vec(), lease);
        let has = |rows: &[LeaseRow]| has_inherited_own(&rows.iter().collect::<Vec<_>>(), (b"a", 4));
        let own = row(b"a", 4, LeaseOutcome::Held);
        assert!(has(std::slice::from_ref(&own)));
        assert!(has(&[row(b"a", 2, by(b"a", 3)), row(b"a", 3, by(b"a", 4)), own.clone()]));
        assert!(has(&[row(b"a", 2, by(b"b", 3)), row(b"b", 3, by(b"a", 4)), own.clone()]));
        assert!(!has(&[row(b"a", 2, by(b"b", 3)), row(b"b", 3, LeaseOutcome::Held), own.clone()]));
        assert!(!has(&[row(b"a", 3, LeaseOutcome::Held), own.clone()]));
        // Its way to ours is lost until somebody takes it over.
        assert!(!has(&[row(b"a", 2, by(b"a", 3)), own]));
    }

    #[test]
    fn chains_of_any_length_have_one_end() {
        let row = |lease, outcome| LeaseRow { node: b"a".to_vec(), lease, beat: 1, outcome };
        let mut rows: Vec<LeaseRow> =
            (1..1000).map(|n| row(n, LeaseOutcome::TakenOver(b"a".to_vec(), n + 1))).collect();
        assert!(ends(&rows.iter().collect::<Vec<_>>()).iter().all(Option::is_none));
        rows.push(row(1000, LeaseOutcome::Held));
        assert!(ends(&rows.iter().collect::<Vec<_>>()).iter().all(|end| *end == Some(999)));
        rows[999].outcome = LeaseOutcome::TakenOver(b"a".to_vec(), 500);
        assert!(ends(&rows.iter().collect::<Vec<_>>()).iter().all(Option::is_none));
        assert!(ends(&[]).is_empty());
    }

    #[test]
    fn a_successor_of_a_successor_owns_both() {
        let successor = |lost: (u64, u32), by| Successor { lost, by };
        let successors = [successor((1, 1), (2, 1)), successor((2, 1), (3, 4)), successor((4, 1), (4, 1))];
        assert_eq!(resolve(&successors, (1, 1)), ((3, 4), 2));
        assert_eq!(resolve(&successors, (2, 1)), ((3, 4), 1));
        assert_eq!(resolve(&successors, (1, 2)), ((1, 2), 0));
        assert_eq!(resolve(&[successor((1, 1), (2, 1)), successor((2, 1), (1, 1))], (1, 1)).0, (1, 1));
    }
}
