//! Whose a subscription is, as this node knows it.
use crate::cluster::numbers::{BLOCK, Ceiling, HIGHEST, above_takeover_margin};
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::{Subscription, SubscriptionState};
use crate::server::announcing::{arbitration, node_names};
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::Tables;
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use std::num::NonZeroU32;

/// Moves the numbers on beyond what another node can have sent: above what it has reserved, or a block where that is
/// not known.
pub(crate) fn skip_sequence_numbers(state: &mut SubscriptionState, ceiling: Ceiling) {
    let step = ceiling.known().map_or(BLOCK, |number| number.saturating_sub(state.local_cseq));
    state.local_cseq = state.local_cseq.saturating_add(step).min(HIGHEST);
    state.version = state.version.saturating_add(step).min(HIGHEST);
}

/// Makes a replica ours, under our lease where there is an arbiter, after `steps` changes of hands.
pub(crate) fn take_over(tables: &Tables, stored: &mut SubscriptionEntry, lease: Option<NonZeroU32>, steps: u32) {
    stored.catches_up = true;
    let mut ownership = stored.ownership;
    if lease.is_some() {
        let known = ownership.ceiling.above(stored.subscription.state.local_cseq);
        ownership.ceiling = Ceiling::at(above_takeover_margin(known, steps));
    }
    skip_sequence_numbers(&mut stored.subscription.state, ownership.ceiling);
    let epoch = ownership.epoch.saturating_add(steps);
    stored.ownership = Ownership { owner: NodeId::HERE, epoch, lease, ..ownership };
    tables.mark_replaced(&mut stored.subscription.state);
}

/// A subscription that is here, and whose it is.
pub(crate) fn owned_subscription(parts: &Parts, dialog: DialogId<'_>) -> Option<(Subscription, Ownership)> {
    let tables = &parts.shared.tables;
    let hash = tables.dialog_hash(dialog);
    let mut shard = tables.shard_of_dialog(hash)?;
    shard.find(dialog).map(|stored| (stored.subscription.to_private(), stored.ownership))
}

/// Whether this node sends the NOTIFYs of a subscription.
pub(crate) fn is_owned(parts: &Parts, dialog: DialogId<'_>) -> bool {
    !parts.config.shares_subscriptions
        || held_ownership(parts, dialog).is_none_or(|ownership| arbitration::owns(parts, &ownership))
}

/// The name of the node that sends the NOTIFYs of a subscription; empty where nodes do not share them.
pub fn node_of(parts: &Parts, dialog: DialogId<'_>) -> Vec<u8> {
    match parts.config.shares_subscriptions {
        true => owned_subscription(parts, dialog)
            .map(|(_, ownership)| node_names::owner_name(parts, ownership.owner))
            .unwrap_or_default(),
        false => Vec::new(),
    }
}

pub(crate) fn held_ownership(parts: &Parts, dialog: DialogId<'_>) -> Option<Ownership> {
    let tables = &parts.shared.tables;
    tables.shard_of_dialog(tables.dialog_hash(dialog))?.find(dialog).map(|stored| stored.ownership)
}

/// Whether this node sends the NOTIFYs of a subscription: it is ours, or nobody's in particular.
pub(crate) fn is_served_here(parts: &Parts, dialog: DialogId<'_>) -> bool {
    is_owned(parts, dialog) || held_ownership(parts, dialog).is_some_and(|ownership| ownership.owner.is_stock())
}
