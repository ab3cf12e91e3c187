//! Documents that were removed, by their dialogs: an older document of the same dialogs, which a node that was out of
//! reach holds still, was replaced before, and does not come back.
use super::clock::ClusterSecond;
use crate::shm_safe::shm_safe;
use crate::time::Moment;

/// What is known of the removed documents of one dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedDocuments {
    /// When the latest of them was received.
    pub received_at: ClusterSecond,
    /// No older document lives longer.
    pub until: Moment,
}

shm_safe!(RemovedDocuments { received_at, until });

impl RemovedDocuments {
    /// With another one.
    pub fn and(self, other: RemovedDocuments) -> RemovedDocuments {
        RemovedDocuments { received_at: self.received_at.max(other.received_at), until: self.until.max(other.until) }
    }

    /// Whether a document of the dialog is older than the latest of them. One of the same second may be newer.
    pub fn is_after(&self, received_at: Option<ClusterSecond>) -> bool {
        received_at.is_some_and(|received_at| received_at < self.received_at)
    }
}

/// Whether a document is old: it speaks of dialogs, and a newer document of each of them was removed.
pub fn is_old(received_at: Option<ClusterSecond>, dialogs: impl IntoIterator<Item = Option<RemovedDocuments>>) -> bool {
    let mut dialogs = dialogs.into_iter().peekable();
    dialogs.peek().is_some() && dialogs.all(|removed| removed.is_some_and(|removed| removed.is_after(received_at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<ClusterSecond> {
        ClusterSecond::at(second)
    }

    fn removed(received_at: i64) -> Option<RemovedDocuments> {
        Some(RemovedDocuments { received_at: at(received_at)?, until: Moment::at(received_at + 100) })
    }

    #[test]
    fn a_document_is_old_when_a_newer_one_of_each_of_its_dialogs_was_removed() {
        assert!(is_old(at(10), [removed(11)]) && is_old(at(10), [removed(11), removed(12)]));
        assert!(!is_old(at(10), [removed(10)]), "both may be of the same second");
        assert!(!is_old(at(10), [removed(11), None]) && !is_old(at(10), [removed(11), removed(9)]));
        assert!(!is_old(at(10), []) && !is_old(None, [removed(11)]));
    }

    #[test]
    fn the_latest_removal_counts_as_long_as_either_would() {
        let (one, two) = (removed(10).unwrap(), RemovedDocuments { until: Moment::at(500), ..removed(9).unwrap() });
        let both = RemovedDocuments { received_at: at(10).unwrap(), until: Moment::at(500) };
        assert_eq!((one.and(two), two.and(one)), (both, both));
    }
}
