//! What is announced to stock's nodes of our subscriptions, and whose watchers are left to them.
use crate::common::counters::{self, Counter};
use crate::host::dmq::{self, Address, Channel};
use crate::host::{clock, log};
use crate::limited;
use crate::presence::dialog::DialogId;
use crate::presence::notification::{ChangeOrigin, Notify, StateChange};
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::stock_subscription;
use crate::presence::subscription::Subscription;
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::Shard;
use crate::server::tables::subscription_entry::Ownership;
use crate::time::Moment;

impl Parts {
    /// Whether our subscriptions are announced to stock's nodes.
    pub(crate) fn shares_with_stock(&self) -> bool {
        self.config.shares_subscriptions && self.shared.stock_nodes.any()
    }

    /// Whether this node sends the NOTIFYs of a subscription: it is ours, or nobody's in particular.
    pub(crate) fn is_served_here(&self, dialog: DialogId<'_>) -> bool {
        self.is_owned(dialog) || self.held_ownership(dialog).is_some_and(|ownership| ownership.owner.is_stock())
    }

    pub(crate) fn held_ownership(&self, dialog: DialogId<'_>) -> Option<Ownership> {
        let tables = &self.shared.tables;
        tables.shard_of_dialog(tables.dialog_hash(dialog))?.find(dialog).map(|stored| stored.ownership)
    }

    pub(crate) fn send_to_stock(&self, to: &[Address], body: &[u8]) {
        for address in to {
            counters::count(Counter::DmqSent);
            if self.may_receive(address) && !dmq::send(Channel::StockSubscriptions, address, body) {
                limited!(Error, "a subscription could not be sent to node {}", log::show(&address.name()));
            }
        }
    }

    /// Announces to stock's nodes how a subscription of ours is now, counted up by the NOTIFY that follows at once: two
    /// messages that overtake each other say the same. Of a subscription that ends now the end alone is announced.
    pub(crate) fn announce_to_stock(&self, subscription: &Subscription) {
        let takers = self.shared.stock_nodes.takers();
        if takers.is_empty() || subscription.state.expires_at <= clock::now() {
            return;
        }
        let mut ahead = subscription.to_private();
        ahead.state.local_cseq += 1;
        ahead.state.version += 1;
        self.send_to_stock(&takers, &self.stock_text(&ahead, Some(ahead.state.expires_at)));
    }

    /// Announces to stock's nodes that a subscription has ended.
    pub(crate) fn announce_to_stock_end(&self, removed: &Subscription) {
        let takers = self.shared.stock_nodes.takers();
        if !takers.is_empty() {
            self.send_to_stock(&takers, &self.stock_text(removed, None));
        }
    }

    pub(crate) fn stock_text(&self, subscription: &Subscription, end: Option<Moment>) -> Vec<u8> {
        stock_subscription::to_json(subscription, self.packages(), end)
    }

    /// Whether the watchers that subscribed at stock's nodes are left out of a change. A stock node notifies all
    /// watchers of what happens to it; of what others announce to it, unless it skips that.
    pub(crate) fn leaves_stock_watchers(&self, event: &StateChange<'_>, origin: ChangeOrigin) -> bool {
        if !self.shares_with_stock() {
            return false;
        }
        let is_announced = origin == ChangeOrigin::OtherNode;
        let notifies_them = self.config.replicates && !self.config.skips_notify_of_replicas;
        match event {
            StateChange::State { .. } => is_announced || notifies_them,
            StateChange::Watchers { .. } => is_announced,
            _ => false,
        }
    }

    /// Announces how far the subscriptions of a batch are counted: a stock node may send the next NOTIFY of each. Ours
    /// learn of those that a stock node brought.
    pub(crate) fn announce_to_stock_counted(&self, batch: &[Notify]) {
        if !self.shares_with_stock() {
            return;
        }
        let takers = self.shared.stock_nodes.takers();
        let now = clock::now();
        let goes_on = |notify: &&Notify| notify.slot.is_some() && notify.subscription.state.expires_at > now;
        for subscription in batch.iter().filter(goes_on).map(|notify| &notify.subscription) {
            let text = self.stock_text(subscription, Some(subscription.state.expires_at));
            self.send_to_stock(&takers, &text);
            let of_stock = self.held_ownership(subscription.dialog()).is_some_and(|held| held.owner.is_stock());
            if of_stock {
                self.send_to_stock(&self.shared.nodes.addresses(), &text);
            }
        }
    }
}

/// The watchers that subscribed at stock's nodes count as notified of what has just happened.
pub(crate) fn skip_stock_watchers(shard: &mut Shard, rule: UriComparison, resource: &Resource) {
    let Some(entry) = shard.entry(rule, resource) else { return };
    let (generation, slots) = (entry.generation, entry.subscriptions().to_vec());
    for slot in slots {
        if let Some(stored) = shard.stored(slot).filter(|stored| stored.ownership.owner.is_stock()) {
            if stored.ownership.owner != NodeId::SOME_STOCK {
                stored.seen.pass_over(generation);
            }
        }
    }
}
