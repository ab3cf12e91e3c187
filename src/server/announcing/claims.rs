//! Subscriptions whose watchers have come to this node from another one: the others are asked whether they know.
use crate::cluster::consent::Ticket;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::limited;
use crate::presence::cluster::dialog_key;
use crate::presence::dialog::DialogId;
use crate::presence::subscription::Subscription;
use crate::presence::subscription_field::Field;
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

impl Parts {
    /// Whether a SUBSCRIBE takes a subscription from another node, so that the others have to answer before its
    /// watcher is notified. An arbiter says whose it is without them.
    pub(crate) fn has_to_claim(&self, ownership: &Ownership) -> bool {
        let is_settled = || ownership.speaks_here() || ownership.owner.is_stock();
        self.config.shares_subscriptions && !self.config.has_arbiter() && !is_settled()
    }

    /// What the others are asked when a SUBSCRIBE takes this subscription; `None`: nothing.
    pub(crate) fn claim_of(&self, subscription: &Subscription) -> Option<SubscriptionClaim> {
        if !self.config.shares_subscriptions || self.config.has_arbiter() {
            return None;
        }
        let ownership = self.held_ownership(subscription.dialog())?;
        self.has_to_claim(&ownership).then(|| self.open_claim(subscription, ownership.owner))
    }

    /// The nodes that hold a subscription, and its `former` owner, will be asked.
    pub(crate) fn open_claim(&self, subscription: &Subscription, former: NodeId) -> SubscriptionClaim {
        let (state, now) = (self.shared.cluster_state, clock::instant());
        let receivers = self.receivers(subscription.get(Field::PresUri));
        let former = self.shared.nodes.address(former);
        let holds = |to: &Address| receivers.as_ref().is_none_or(|holders| holders.contains(to));
        let is_asked = |to: &Address| (holds(to) || former.as_ref() == Some(to)) && self.may_receive(to);
        let others = dmq::nodes().into_iter().filter(|node| node.active && !node.local && is_asked(&node.address));
        let receivers: Vec<Address> = others.map(|node| node.address).collect();
        let awaited = self.shared.nodes.places_at(&receivers);
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
    pub(crate) fn announce_claim(&self, dialog: DialogId<'_>, claim: &SubscriptionClaim, ticket: Ticket) {
        let Some((subscription, ownership, _)) = self.stamped(dialog) else { return };
        self.announce_to_stock(&subscription);
        self.note_place_of(subscription.get(Field::PresUri));
        let announced = NonZeroU64::new(self.unchanged_of(&subscription, &ownership));
        self.shared.tables.with_key(dialog_key(dialog), |stored| stored.announced = announced);
        counters::count(Counter::DmqSent);
        let text = self.sealed(Channel::Nodes, &self.announcement_text(subscription, ownership));
        // Each of them is sent it, whatever became of the one before.
        let sent = |to: &&Address| dmq::send_with_ticket(Channel::Nodes, to, &text, ticket.number());
        if claim.receivers.iter().filter(|to| !sent(to)).count() > 0 {
            limited!(Error, "a subscription that has come here could not be sent to all other nodes");
        }
    }
}
