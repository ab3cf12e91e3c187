//! How long a publication lives that another node announces: from when its `expires` counts, and by which clock.
use super::replica::Replica;
use crate::cluster::clock::ClusterSecond;
use crate::presence::ports::Ports;
use crate::presence::publication::Publication;
use crate::time::{Moment, Seconds};

/// From when the `expires` of a message counts. Nodes of stock's before Kamailio 6.1 and from 6.1 on do not agree, and
/// a cluster may have both while it is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// From the moment the message arrives: before Kamailio 6.1, and between nodes of our kind.
    FromArrival,
    /// From the moment the publication was received (`recv`), by its owner's clock: from 6.1 on.
    FromReceipt,
}

/// Whether this node has asked others what there is, and takes answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// The node has asked, and takes answers.
    Open,
    /// The node has asked nothing.
    None,
}

impl Question {
    pub(crate) fn of_cluster<P: Ports>(ports: &P) -> Question {
        if ports.expects_answers() { Question::Open } else { Question::None }
    }
}

impl Life {
    /// What stock's nodes of the host's own version do.
    pub const OF_HOST: Life = Life::of_version(crate::HOST_VERSION);

    /// By the host's `VERSIONVAL`, 6001004 for 6.1.4.
    const fn of_version(version: u32) -> Life {
        if version >= 6_001_000 { Life::FromReceipt } else { Life::FromArrival }
    }

    /// How a message counts. Before 6.1 no node of stock's announces to one that joins what there is: what may be an
    /// answer to this node's question is of a newer one.
    pub(crate) fn of_message(self, replica: &Replica, question: Question) -> Life {
        match self {
            _ if replica.again => Life::FromArrival,
            Life::FromArrival if replica.is_new && question == Question::Open => Life::FromReceipt,
            _ => self,
        }
    }

    /// The `expires` and the `recv` of a message about a publication; `expires` is at least 1: the publication goes on.
    /// What counts from the arrival says that it was received now, so that all nodes understand the same.
    pub(crate) fn announced(self, publication: &Publication, now: TwoClocks) -> (Seconds, ClusterSecond) {
        let received_at = publication.received_at.filter(|_| self == Life::FromReceipt).unwrap_or(now.own);
        let left = publication.expires_at.moment().map_or(SHORTEST, |end| end - received_at);
        (left.max(SHORTEST), now.shared_of(received_at))
    }

    /// When what a message announces expires. An owner whose clock is ahead does not make it live longer than it says;
    /// one whose clock is behind, or who counts from the arrival, does not make it end before it has begun.
    pub(crate) fn end(self, replica: &Replica, now: TwoClocks) -> Moment {
        let latest = now.own + replica.expires;
        let by_owner = replica.stamp.filter(|_| self == Life::FromReceipt).map(|at| now.own_of(at) + replica.expires);
        by_owner.filter(|end| *end > now.own).map_or(latest, |end| end.min(latest))
    }
}

/// The same moment by the node's own clock, by which documents end, and by the one that nodes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoClocks {
    /// The node's own time, which nobody sets.
    pub own: Moment,
    /// The cluster's.
    pub shared: ClusterSecond,
}

impl TwoClocks {
    pub(crate) fn of_cluster<P: Ports>(ports: &P) -> TwoClocks {
        TwoClocks { own: ports.now(), shared: ports.cluster_second() }
    }

    /// The node's own time of a second of the cluster, as long ago by the one as by the other; what is ahead is now.
    pub(crate) fn own_of(self, stamp: ClusterSecond) -> Moment {
        self.own - self.shared.since(stamp)
    }

    /// The second of the cluster at a moment of the node; now where that is before 1970, or ahead.
    fn shared_of(self, moment: Moment) -> ClusterSecond {
        let age = (self.own - moment).max(Seconds::ZERO);
        ClusterSecond::at(self.shared.seconds() - age.0).unwrap_or(self.shared)
    }
}

/// What goes on is announced to live at least this long.
const SHORTEST: Seconds = Seconds(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Expiry;

    /// Returns both clocks; the cluster's is 200 seconds ahead.
    fn now(second: i64) -> TwoClocks {
        TwoClocks { own: Moment::at(second), shared: ClusterSecond::at(second + 200).expect("a second") }
    }

    fn replica() -> Replica {
        Replica { is_new: true, ..Replica::default() }
    }

    #[test]
    fn a_publication_that_is_announced_later_ends_when_its_owner_says() {
        assert_eq!(Life::of_version(6_000_001), Life::FromArrival);
        assert_eq!(Life::of_version(6_001_005), Life::FromReceipt);
        let owned = Publication {
            expires_at: Expiry::At(Moment::at(1_060)),
            received_at: Some(Moment::at(1_000)),
            ..Publication::default()
        };
        let announced = |life: Life| {
            let (expires, received) = life.announced(&owned, now(1_045));
            Replica { expires, stamp: Some(received), ..replica() }
        };
        // What is left, received now, means the same to all; all of it is right from 6.1 on.
        for (sender, reader) in [
            (Life::FromArrival, Life::FromArrival),
            (Life::FromArrival, Life::FromReceipt),
            (Life::FromReceipt, Life::FromReceipt),
        ] {
            assert_eq!(reader.end(&announced(sender), now(1_045)), Moment::at(1_060), "{sender:?} {reader:?}");
        }
        assert_eq!(Life::FromReceipt.announced(&owned, now(1_045)), (Seconds(60), now(1_000).shared));
    }

    #[test]
    fn a_node_that_joins_takes_what_newer_nodes_of_stock_answer() {
        let announced = Replica { expires: Seconds(60), stamp: ClusterSecond::at(1_000), ..replica() };
        for (question, is_new, life) in [
            (Question::Open, true, Life::FromReceipt),
            (Question::Open, false, Life::FromArrival),
            (Question::None, true, Life::FromArrival),
        ] {
            assert_eq!(Life::FromArrival.of_message(&Replica { is_new, ..announced.clone() }, question), life);
        }
        assert_eq!(Life::FromReceipt.of_message(&announced, Question::None), Life::FromReceipt);
        let ours = Replica { again: true, ..announced };
        assert_eq!(Life::FromReceipt.of_message(&ours, Question::Open), Life::FromArrival);
    }

    #[test]
    fn clocks_that_differ_neither_end_nor_prolong_a_life() {
        let announced = |expires, received_at| Replica { expires, stamp: ClusterSecond::at(received_at), ..replica() };
        // The owner's clock is ahead, far ahead, or unknown: no longer than said.
        for received_at in [1_030, 90_000, 0, -5, i64::MAX] {
            assert_eq!(
                Life::FromReceipt.end(&announced(Seconds(60), received_at), now(1_000)),
                Moment::at(1_060),
                "{received_at}"
            );
        }
        // Far behind, or what is left with the time of the receipt, as nodes before 6.1 say it.
        assert_eq!(Life::FromReceipt.end(&announced(Seconds(60), 100), now(1_000)), Moment::at(1_060));
        assert_eq!(Life::FromReceipt.end(&announced(Seconds(15), 955), now(1_000)), Moment::at(1_015));
    }
}
