//! Which of two states of a record is the newer one. Every node comes to the same answer, whatever it receives first.
use super::clock::{ClusterSecond, Stamp};
use crate::shm_safe::shm_safe;

/// The version of a subscription: the larger one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version {
    /// The CSeq of the watcher's last SUBSCRIBE; [`Version::ENDED`] once the subscription has ended for good.
    pub word: u32,
    /// How often the subscription has changed hands.
    pub epoch: u32,
    /// When its owner changed it last.
    pub stamp: Stamp,
    /// The owner, as a digest of its name.
    pub owner: u64,
}

shm_safe!(Version { word, epoch, stamp, owner });

impl Version {
    /// No CSeq is as high (RFC 3261 8.1.1.5): what has ended stays ended.
    pub const ENDED: u32 = u32::MAX;
}

/// The version of a published document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentVersion<'a> {
    /// How often its publication has changed.
    pub changes: u32,
    /// When it was received by the cluster's clock, where that is known.
    pub received_at: Option<ClusterSecond>,
    /// The publication's entity tag.
    pub etag: &'a [u8],
    /// A digest of its body.
    pub body: u64,
}

impl DocumentVersion<'_> {
    /// Whether it is newer than another document of the same publication.
    pub fn is_newer(&self, other: &DocumentVersion<'_>) -> bool {
        let order = |v: &DocumentVersion<'_>| (v.changes, v.received_at);
        order(self)
            .cmp(&order(other))
            .then_with(|| self.etag.cmp(other.etag))
            .then_with(|| self.body.cmp(&other.body))
            .is_gt()
    }

    /// Whether it takes the place of a document of another publication about the same dialog.
    pub fn replaces(&self, other: &DocumentVersion<'_>) -> bool {
        let order = |v: &DocumentVersion<'_>| (v.received_at, v.changes);
        order(self).cmp(&order(other)).then_with(|| self.etag.cmp(other.etag)).is_gt()
    }
}

/// When a change of a document counts as received: `now` by the cluster's clock, not before what the document was
/// (`own`), and after the `others` of the same dialogs that it replaces, held or removed, however far ahead the clock
/// was that these were received by: what replaces them is newer on every node.
pub fn received_at(now: ClusterSecond, own: Option<ClusterSecond>, others: Option<ClusterSecond>) -> ClusterSecond {
    now.max(own.unwrap_or(now)).max(others.map_or(now, ClusterSecond::next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> ClusterSecond {
        ClusterSecond::at(second).expect("a second")
    }

    #[test]
    fn the_watchers_word_decides_then_the_hands_then_the_time() {
        let version = |word, epoch, stamp, owner| Version { word, epoch, stamp: Stamp(stamp), owner };
        assert!(version(2, 0, 1, 1) > version(1, 5, 9, 9));
        assert!(version(1, 1, 1, 1) > version(1, 0, 9, 9));
        assert!(version(1, 1, 2, 1) > version(1, 1, 1, 9));
        assert!(version(Version::ENDED, 0, 0, 0) > version(Version::ENDED - 1, 9, 9, 9));
    }

    #[test]
    fn two_changes_of_one_publication_are_decided_alike_everywhere() {
        let document =
            |changes, received_at, etag: &'static [u8]| DocumentVersion { changes, received_at, etag, body: 0 };
        let (a, b) = (document(1, Some(at(10)), b"a"), document(1, Some(at(10)), b"b"));
        assert!(b.is_newer(&a) && !a.is_newer(&b) && !a.is_newer(&a));
        assert!(document(2, Some(at(1)), b"a").is_newer(&document(1, Some(at(9)), b"z")));
        assert!(document(0, Some(at(9)), b"a").replaces(&document(7, Some(at(8)), b"z")));
        assert!(!document(0, Some(at(8)), b"z").replaces(&document(7, Some(at(8)), b"a")));
    }

    #[test]
    fn what_replaces_a_document_is_received_later() {
        let known = ClusterSecond::at;
        let received = |own, others| received_at(at(100), own, others);
        assert_eq!(received(None, None), at(100));
        assert_eq!(received(None, known(160)), at(161));
        assert_eq!(received(None, known(90)), at(100));
        assert_eq!(received(known(130), None), at(130));
        assert_eq!(received(known(130), known(130)), at(131));
        assert_eq!(received(None, known(9_000)), at(9_001), "as far ahead as its clock was");
    }
}
