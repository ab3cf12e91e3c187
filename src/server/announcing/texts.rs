//! What this node says to others: how a subscription is, and how far two nodes know the same.
use crate::host::clock;
use crate::presence::replication::comparison::{Comparison, RecordKind};
use crate::presence::replication::node_messages::{self, Announcement, OwnershipClaim};
use crate::presence::subscription::Subscription;
use crate::server::announcing::node_names;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::Ownership;

pub(crate) fn announcement(parts: &Parts, subscription: Subscription, ownership: Ownership) -> Announcement {
    let (remote_cseq, local_cseq) = (subscription.state.remote_cseq, subscription.state.local_cseq);
    let Ownership { owner, epoch, stamp, ceiling, lease, .. } = ownership;
    let claim = OwnershipClaim {
        remote_cseq,
        epoch,
        owner: node_names::owner_name(parts, owner),
        stamp,
        lease,
        ceiling: ceiling.above(local_cseq),
        local_cseq,
    };
    Announcement { subscription, claim }
}

pub(crate) fn announcement_text(parts: &Parts, subscription: Subscription, ownership: Ownership) -> Vec<u8> {
    announcement(parts, subscription, ownership).to_json(node_names::node_name(parts), parts.packages(), clock::now())
}

/// A comparison message of this node.
pub(crate) fn comparison_text(parts: &Parts, kind: RecordKind, message: &Comparison) -> Vec<u8> {
    node_messages::compare(node_names::node_name(parts), kind, message, parts.shared.cluster_state.tick())
}
