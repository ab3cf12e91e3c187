//! The numbers of a dialog (CSeq, version of the document) when more than one node may send: its owner reserves them
//! ahead in blocks and says so before it comes to them; who goes on for it begins above what was reserved.
use super::version::Version;

/// So many numbers an owner reserves at once; it reserves again when half of them are left.
pub const BLOCK: u32 = 1000;

/// So far above what was reserved goes on who takes over under an arbiter: the owner before it may have reserved more
/// while nobody heard it.
pub const UNHEARD: u32 = 100 * BLOCK;

/// No dialog comes so far; a CSeq ends at 2^31 (RFC 3261 8.1.1.5).
pub const HIGHEST: u32 = 1 << 30;

/// The ceiling to be announced when the CSeq is `local`; `None` while the one announced is far enough.
pub fn reserve(local: u32, ceiling: u32) -> Option<u32> {
    (local.saturating_add(BLOCK / 2) > ceiling).then(|| local.saturating_add(BLOCK).min(HIGHEST).max(ceiling))
}

/// What two nodes compare of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its version.
    pub version: Version,
    /// No node has used a CSeq above this one, as far as is known.
    pub ceiling: u32,
}

/// What becomes of a subscription when another node says how it holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// It is as the other node says.
    pub take: bool,
    /// The ceiling from now on.
    pub ceiling: u32,
    /// It is ours, and another node may have sent NOTIFYs with higher numbers: it goes on above them, and the watcher
    /// is notified of the present state.
    pub speak: bool,
    /// The other node lacks something that we know.
    pub answers: bool,
}

impl Held {
    /// Merges what another node says; `is_owned`: this node has sent the NOTIFYs until now.
    pub fn merge(&self, is_owned: bool, other: &Held) -> Merge {
        let take = other.version > self.version;
        Merge {
            take,
            ceiling: self.ceiling.max(other.ceiling),
            speak: !take && is_owned && other.ceiling > self.ceiling,
            answers: other.version < self.version || other.ceiling < self.ceiling,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Stamp;
    use super::*;

    fn held(epoch: u32, ceiling: u32) -> Held {
        Held { version: Version { word: 1, epoch, stamp: Stamp(5), owner: 7 }, ceiling }
    }

    #[test]
    fn numbers_are_reserved_before_they_are_reached() {
        assert_eq!(reserve(1, 0), Some(1001));
        assert_eq!(reserve(501, 1001), None);
        assert_eq!(reserve(502, 1001), Some(1502));
        assert_eq!(reserve(HIGHEST, HIGHEST), Some(HIGHEST));
    }

    #[test]
    fn merging_knows_no_order() {
        let states = [held(0, 1000), held(0, 3000), held(1, 2000), held(1, 2500), held(2, 100)];
        let join = |a: Held, b: Held| {
            let merge = a.merge(false, &b);
            Held { version: if merge.take { b.version } else { a.version }, ceiling: merge.ceiling }
        };
        for a in states {
            assert_eq!(join(a, a), a);
            for b in states {
                assert_eq!(join(a, b), join(b, a));
                for c in states {
                    assert_eq!(join(join(a, b), c), join(a, join(b, c)));
                }
            }
        }
    }

    #[test]
    fn the_owner_goes_above_what_another_may_have_sent() {
        let mine = held(1, 2000);
        assert_eq!(mine.merge(true, &held(0, 3000)), Merge { take: false, ceiling: 3000, speak: true, answers: true });
        assert_eq!(
            mine.merge(false, &held(0, 3000)),
            Merge { take: false, ceiling: 3000, speak: false, answers: true }
        );
        // The heir hears how far the owner before it had come.
        assert_eq!(held(0, 3000).merge(true, &mine), Merge { take: true, ceiling: 3000, speak: false, answers: true });
        assert_eq!(mine.merge(true, &mine), Merge { take: false, ceiling: 2000, speak: false, answers: false });
    }
}
