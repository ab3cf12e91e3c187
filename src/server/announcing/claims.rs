//! Subscriptions whose watchers have come to this node from another one: the others are asked whether they know.
use crate::cluster::consent::Ticket;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::limited;
use crate::presence::replication::node_messages::dialog_key;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::server::announcing::{holders, ownership, refreshes, sending, stock_announce, subscriptions, texts};
use crate::server::nodes::node_id::NodeId;
use crate::server::nodes::open_claims::Opened;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::{Awaited, Ownership};
use std::num::NonZeroU64;

/// What the other nodes are asked, and what is waited for meanwhile.
pub(crate) struct SubscriptionClaim {
    /// What their answers are known by; `None`: none is waited for.
    pub ticket: Option<Ticket>,
    /// What the subscription waits for.
    pub awaits: Awaited,
    receivers: Vec<Address>,
}

/// Whether a SUBSCRIBE takes a subscription from another node, so that the others have to answer before its
/// watcher is notified. An arbiter says whose it is without them.
pub(crate) fn has_to_claim(parts: &Parts, ownership: &Ownership) -> bool {
    let is_settled = || ownership.speaks_here() || ownership.owner.is_stock();
    parts.config.shares_subscriptions && !parts.config.has_arbiter() && !is_settled()
}

/// What the others are asked when a SUBSCRIBE takes this subscription; `None`: nothing.
pub(crate) fn claim_of(parts: &Parts, subscription: &Subscription) -> Option<SubscriptionClaim> {
    if !parts.config.shares_subscriptions || parts.config.has_arbiter() {
        return None;
    }
    let ownership = ownership::held_ownership(parts, subscription.dialog())?;
    has_to_claim(parts, &ownership).then(|| open_claim(parts, subscription, ownership.owner))
}

/// The nodes that hold a subscription, and its `former` owner, will be asked.
pub(crate) fn open_claim(parts: &Parts, subscription: &Subscription, former: NodeId) -> SubscriptionClaim {
    let (state, now) = (parts.shared.cluster_state, clock::instant());
    let receivers = holders::receivers(parts, subscription.get(Field::PresUri));
    let former = parts.shared.nodes.address(former);
    let holds = |to: &Address| receivers.as_ref().is_none_or(|holders| holders.contains(to));
    let is_asked = |to: &Address| (holds(to) || former.as_ref() == Some(to)) && sending::may_receive(parts, to);
    let others = dmq::nodes().into_iter().filter(|node| node.active && !node.local && is_asked(&node.address));
    let receivers: Vec<Address> = others.map(|node| node.address).collect();
    let awaited = parts.shared.nodes.places_at(&receivers);
    let (ticket, awaits) = match state.open_claims.open(dialog_key(subscription.dialog()), awaited, now) {
        Opened::Alone => (None, Awaited::Nothing),
        Opened::Waits(ticket) => (Some(ticket), Awaited::Answers),
        Opened::Full => {
            state.note_claims(now);
            (None, Awaited::Objections)
        }
    };
    SubscriptionClaim { ticket, awaits, receivers }
}

/// Asks the other nodes: they are sent the whole subscription, and their answers are known by the ticket.
pub(crate) fn announce_claim(parts: &Parts, dialog: DialogId<'_>, claim: &SubscriptionClaim, ticket: Ticket) {
    let Some((subscription, ownership, _)) = subscriptions::stamped(parts, dialog) else { return };
    stock_announce::announce_to_stock(parts, &subscription);
    holders::note_place_of(parts, subscription.get(Field::PresUri));
    let announced = NonZeroU64::new(refreshes::unchanged_of(parts, &subscription, &ownership));
    parts.shared.tables.with_key(dialog_key(dialog), |stored| stored.announced = announced);
    counters::count(Counter::DmqSent);
    let text = sending::sealed(parts, Channel::Nodes, &texts::announcement_text(parts, subscription, ownership));
    // Each of them is sent it, whatever became of the one before.
    let sent = |to: &&Address| dmq::send_with_ticket(Channel::Nodes, to, &text, ticket.number());
    if claim.receivers.iter().filter(|to| !sent(to)).count() > 0 {
        limited!(Error, "a subscription that has come here could not be sent to all other nodes");
    }
}
