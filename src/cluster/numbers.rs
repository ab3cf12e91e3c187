//! The numbers of a dialog (CSeq, version of the document) when more than one node may send: its owner reserves them
//! ahead in blocks and says so before it comes to them; who goes on for it begins above what was reserved.
use super::version::Version;
use crate::shm_safe::shm_safe;
use std::num::NonZeroU32;

/// An owner reserves this many numbers at once; it reserves again when half of them are left.
pub const BLOCK: u32 = 1000;

/// So far above what was reserved goes on who takes over under an arbiter: the owner before it may have reserved more
/// while nobody received it.
pub const TAKEOVER_MARGIN: u32 = 100 * BLOCK;

/// The ceiling from which a node goes on that takes over under an arbiter. `steps`: how many nodes have taken over, one
/// after the other, until it came here; each of them began higher than the one before, and may have sent
/// NOTIFYs though nobody here has learnt of it.
pub fn above_takeover_margin(ceiling: u32, steps: u32) -> u32 {
    ceiling.saturating_add(TAKEOVER_MARGIN.saturating_mul(steps)).min(HIGHEST)
}

/// No dialog comes so far; a CSeq ends at 2^31 (RFC 3261 8.1.1.5).
pub const HIGHEST: u32 = 1 << 30;

/// The ceiling to be announced when the CSeq is `local`; `None` while the one announced is far enough.
pub fn reserve(local: u32, announced: Ceiling) -> Option<u32> {
    let ceiling = announced.known().unwrap_or_default();
    (local.saturating_add(BLOCK / 2) > ceiling).then(|| local.saturating_add(BLOCK).min(HIGHEST).max(ceiling))
}

/// The number above which no node has used one for a dialog, as far as any of them has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ceiling(Option<NonZeroU32>);

shm_safe!(Ceiling(number));

impl Ceiling {
    /// The ceiling at this number; no CSeq is below 1.
    pub fn at(number: u32) -> Ceiling {
        Ceiling(NonZeroU32::new(number))
    }

    /// The number, where something was said.
    pub fn known(self) -> Option<u32> {
        self.0.map(NonZeroU32::get)
    }

    /// The ceiling of a dialog whose CSeq here is `local`.
    pub fn above(self, local: u32) -> u32 {
        self.known().map_or(local, |number| number.max(local))
    }
}

/// What a node is for a subscription that another node speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The node has sent the NOTIFYs until now.
    Owner,
    /// The node keeps a copy.
    Replica,
}

/// What two nodes compare of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldNumbers {
    /// The subscription's version.
    pub version: Version,
    /// The CSeq it has come to, as far as is known.
    pub local: u32,
    /// No node has used a CSeq above this one, as far as is known.
    pub ceiling: u32,
}

/// Whose word counts of two nodes that say something of the same subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The word of this node counts.
    Mine,
    /// The other node's word counts.
    Theirs,
}

impl Side {
    /// The side of the newer of two.
    fn newer<T: PartialOrd>(mine: &T, theirs: &T) -> Side {
        if theirs > mine { Side::Theirs } else { Side::Mine }
    }

    /// Whether it is the other node.
    pub fn is_theirs(self) -> bool {
        self == Side::Theirs
    }

    /// The word of this side.
    fn choose<T>(self, mine: T, theirs: T) -> T {
        if self.is_theirs() { theirs } else { mine }
    }
}

/// What becomes of a subscription when another node says how it holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// The side that says what the watcher asks for.
    pub said_by: Side,
    /// The side that says to which node the subscription belongs.
    pub owned_by: Side,
    /// The ceiling from now on.
    pub ceiling: u32,
    /// The subscription is ours, and another node may have sent NOTIFYs with higher numbers: it goes on above them, and
    /// the watcher is notified of the present state.
    pub speak: bool,
    /// The other node lacks something that we know.
    pub answers: bool,
}

impl HeldNumbers {
    /// Merges what another node says of a subscription for which this node has a role.
    pub fn merge(&self, role: Role, other: &HeldNumbers) -> Merge {
        let (newer, ceiling) = (Side::newer(&self.version, &other.version), self.ceiling_with(other));
        Merge {
            said_by: newer,
            owned_by: newer,
            ceiling,
            speak: !newer.is_theirs() && role == Role::Owner && ceiling > self.ceiling,
            answers: other.version < self.version || other.ceiling < ceiling,
        }
    }

    /// The same under an arbiter, where the watcher's next SUBSCRIBE does not move a subscription: what the watcher
    /// asks for is as the node says that knows its last SUBSCRIBE, and the owner as the node says that knows of the
    /// last change of hands. Neither may undo the other.
    pub fn merge_arbitrated(&self, role: Role, other: &HeldNumbers) -> Merge {
        let (mine, theirs) = (self.version, other.version);
        let said = |v: &Version| (v.word, v.stamp);
        let owned = |v: &Version| (v.epoch, v.owner);
        let said_by = Side::newer(&said(&mine), &said(&theirs));
        let owned_by = Side::newer(&owned(&mine), &owned(&theirs));
        let lacks = said(&theirs) < said(&mine) || owned(&theirs) < owned(&mine);
        let ceiling = self.ceiling_with(other);
        Merge {
            said_by,
            owned_by,
            ceiling,
            speak: !owned_by.is_theirs() && role == Role::Owner && ceiling > self.ceiling,
            answers: lacks || other.ceiling < ceiling,
        }
    }

    /// The ceiling of both. Two owners that went on without learning of each other may have reserved the same numbers:
    /// the one that goes on has to go above all of them, and learns of that from every node.
    fn ceiling_with(&self, other: &HeldNumbers) -> u32 {
        let is_another_owner = other.version.owner != self.version.owner;
        let ceiling = self.ceiling.max(other.ceiling);
        match is_another_owner && self.local < other.ceiling && other.local < self.ceiling {
            true => ceiling.saturating_add(1).min(HIGHEST),
            false => ceiling,
        }
    }

    /// Whether a merge has found that two owners may have used the same numbers: none goes on below the ceiling.
    pub fn is_overtaken(&self, other: &HeldNumbers, merge: &Merge) -> bool {
        merge.ceiling > self.ceiling.max(other.ceiling)
    }

    /// What is held after a merge.
    pub fn merged(&self, other: &HeldNumbers, merge: &Merge) -> HeldNumbers {
        let (said, owned) = (merge.said_by.choose(self, other), merge.owned_by.choose(self, other));
        let Version { epoch, owner, .. } = owned.version;
        let is_overtaken = self.is_overtaken(other, merge);
        let local = if is_overtaken { merge.ceiling } else { self.local.max(other.local) };
        HeldNumbers { version: Version { epoch, owner, ..said.version }, local, ceiling: merge.ceiling }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Stamp;
    use super::*;

    fn held(epoch: u32, ceiling: u32) -> HeldNumbers {
        HeldNumbers { version: Version { word: 1, epoch, stamp: Stamp(5), owner: 7 }, local: 1, ceiling }
    }

    #[test]
    fn numbers_are_reserved_before_they_are_reached() {
        assert_eq!(reserve(1, Ceiling::default()), Some(1001));
        assert_eq!(reserve(501, Ceiling::at(1001)), None);
        assert_eq!(reserve(502, Ceiling::at(1001)), Some(1502));
        assert_eq!(reserve(HIGHEST, Ceiling::at(HIGHEST)), Some(HIGHEST));
    }

    #[test]
    fn a_block_that_two_owners_have_reserved_is_known_to_be_used_everywhere() {
        let of = |owner, word| HeldNumbers { version: Version { owner, word, ..held(1, 0).version }, ..held(1, 1000) };
        let (loser, winner) = (of(7, 1), of(8, 2));
        for merge in [HeldNumbers::merge, HeldNumbers::merge_arbitrated] {
            // A third node that has learnt of both, in either order, and the winner, who learns it from there.
            let third = winner.merged(&loser, &merge(&winner, Role::Replica, &loser));
            assert_eq!(third, loser.merged(&winner, &merge(&loser, Role::Replica, &winner)));
            assert_eq!(third, HeldNumbers { local: 1001, ceiling: 1001, ..winner });
            let received = merge(&winner, Role::Owner, &third);
            assert!(received.speak && received.ceiling == 1001);
            // A second time it changes nothing.
            assert_eq!(third.merged(&loser, &merge(&third, Role::Replica, &loser)), third);
        }
    }

    #[test]
    fn blocks_that_overlap_are_found_wherever_they_begin_and_end() {
        let of = |owner, epoch, local, ceiling| HeldNumbers {
            version: Version { owner, ..held(epoch, 0).version },
            local,
            ceiling,
        };
        let cases = [
            // The owner before has announced all that it reserved.
            (of(7, 0, 7, 1001), of(8, 1, 1001, 2001), 2001),
            // It had reserved more: the one that went on has begun within.
            (of(7, 0, 900, 1502), of(8, 1, 1001, 2001), 2002),
            // Both went on, from not quite the same.
            (of(7, 1, 1003, 2001), of(8, 1, 1002, 2002), 2003),
            // The second one has come to know of the first.
            (of(7, 1, 1003, 2001), of(8, 1, 2001, 3001), 3001),
            // A node speaks of itself.
            (of(7, 0, 7, 1001), of(7, 1, 900, 2001), 2001),
        ];
        for (one, two, ceiling) in cases {
            for (a, b) in [(one, two), (two, one)] {
                let merge = a.merge(Role::Owner, &b);
                assert_eq!(
                    (merge.ceiling, merge.speak),
                    (ceiling, !merge.said_by.is_theirs() && ceiling > a.ceiling),
                    "{a:?} {b:?}"
                );
                assert_eq!(a.is_overtaken(&b, &merge), ceiling > a.ceiling.max(b.ceiling));
            }
        }
    }

    #[test]
    fn merging_knows_no_order() {
        let states = [held(0, 1000), held(0, 3000), held(1, 2000), held(1, 2500), held(2, 100)];
        let spoken =
            HeldNumbers { version: Version { word: 2, stamp: Stamp(4), ..held(0, 0).version }, ..held(0, 1000) };
        let states = states.into_iter().chain([spoken]).collect::<Vec<_>>();
        for merge in [HeldNumbers::merge, HeldNumbers::merge_arbitrated] {
            let join = |a: HeldNumbers, b: HeldNumbers| a.merged(&b, &merge(&a, Role::Replica, &b));
            for a in &states {
                assert_eq!(join(*a, *a), *a);
                for b in &states {
                    assert_eq!(join(*a, *b), join(*b, *a));
                    for c in &states {
                        assert_eq!(join(join(*a, *b), *c), join(*a, join(*b, *c)));
                    }
                }
            }
        }
    }

    #[test]
    fn under_an_arbiter_a_subscribe_elsewhere_does_not_undo_a_change_of_hands() {
        let taken_over = held(1, 2000);
        let spoken =
            HeldNumbers { version: Version { word: 2, stamp: Stamp(9), ..held(0, 0).version }, ..held(0, 1000) };
        let merge = taken_over.merge_arbitrated(Role::Owner, &spoken);
        assert_eq!(
            merge,
            Merge { said_by: Side::Theirs, owned_by: Side::Mine, ceiling: 2000, speak: false, answers: true }
        );
        let merged = taken_over.merged(&spoken, &merge);
        assert_eq!((merged.version.word, merged.version.epoch), (2, 1));
        // An older node takes the result, too, which decides by all of a version at once.
        assert!(merged.version > spoken.version && merged.version > taken_over.version);
    }

    #[test]
    fn each_change_of_hands_that_was_not_announced_counts() {
        let first = above_takeover_margin(1001, 1);
        let second = above_takeover_margin(first + BLOCK, 1);
        // A node that has learnt of neither begins where the second would, and the second is a step above the first.
        assert!(above_takeover_margin(1001, 2) > first + 50 * BLOCK && second > above_takeover_margin(1001, 2));
        assert_eq!(above_takeover_margin(HIGHEST, 3), HIGHEST);
    }

    #[test]
    fn the_owner_goes_above_what_another_may_have_sent() {
        let mine = held(1, 2000);
        assert_eq!(
            mine.merge(Role::Owner, &held(0, 3000)),
            Merge { said_by: Side::Mine, owned_by: Side::Mine, ceiling: 3000, speak: true, answers: true }
        );
        assert_eq!(
            mine.merge(Role::Replica, &held(0, 3000)),
            Merge { said_by: Side::Mine, owned_by: Side::Mine, ceiling: 3000, speak: false, answers: true }
        );
        // The successor learns how far the owner before it had come.
        assert_eq!(
            held(0, 3000).merge(Role::Owner, &mine),
            Merge { said_by: Side::Theirs, owned_by: Side::Theirs, ceiling: 3000, speak: false, answers: true }
        );
        assert_eq!(
            mine.merge(Role::Owner, &mine),
            Merge { said_by: Side::Mine, owned_by: Side::Mine, ceiling: 2000, speak: false, answers: false }
        );
    }
}
