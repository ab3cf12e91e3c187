//! What is announced to stock's nodes of our subscriptions, and whose watchers are left to them.
use crate::common::counters::{self, Counter};
use crate::host::dmq::{self, Address, Channel};
use crate::host::{clock, log};
use crate::limited;
use crate::presence::notification::{ChangeOrigin, Notify, StateChange};
use crate::presence::replication::stock_subscription;
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::subscription::Subscription;
use crate::server::announcing::{ownership, sending};
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::Shard;
use crate::time::Moment;

/// Whether our subscriptions are announced to stock's nodes.
pub(crate) fn shares_with_stock(parts: &Parts) -> bool {
    parts.config.shares_subscriptions && parts.shared.stock_nodes.any()
}

pub(crate) fn send_to_stock(parts: &Parts, to: &[Address], body: &[u8]) {
    for address in to {
        counters::count(Counter::DmqSent);
        if sending::may_receive(parts, address) && !dmq::send(Channel::StockSubscriptions, address, body) {
            limited!(Error, "a subscription could not be sent to node {}", log::show(&address.name()));
        }
    }
}

/// Announces to stock's nodes how a subscription of ours is now, counted up by the NOTIFY that follows at once: two
/// messages that overtake each other say the same. Of a subscription that ends now the end alone is announced.
pub(crate) fn announce_to_stock(parts: &Parts, subscription: &Subscription) {
    let takers = parts.shared.stock_nodes.takers();
    if takers.is_empty() || subscription.state.expires_at <= clock::now() {
        return;
    }
    let mut ahead = subscription.to_private();
    ahead.state.local_cseq += 1;
    ahead.state.version += 1;
    send_to_stock(parts, &takers, &stock_text(parts, &ahead, Some(ahead.state.expires_at)));
}

/// Announces to stock's nodes that a subscription has ended.
pub(crate) fn announce_to_stock_end(parts: &Parts, removed: &Subscription) {
    let takers = parts.shared.stock_nodes.takers();
    if !takers.is_empty() {
        send_to_stock(parts, &takers, &stock_text(parts, removed, None));
    }
}

pub(crate) fn stock_text(parts: &Parts, subscription: &Subscription, end: Option<Moment>) -> Vec<u8> {
    stock_subscription::to_json(subscription, parts.packages(), end)
}

/// Whether the watchers that subscribed at stock's nodes are left out of a change. A stock node notifies all
/// watchers of what happens to it; of what others announce to it, unless it skips that.
pub(crate) fn leaves_stock_watchers(parts: &Parts, event: &StateChange<'_>, origin: ChangeOrigin) -> bool {
    if !shares_with_stock(parts) {
        return false;
    }
    let is_announced = origin == ChangeOrigin::OtherNode;
    let notifies_them = parts.config.replicates && !parts.config.skips_notify_of_replicas;
    match event {
        StateChange::State { .. } => is_announced || notifies_them,
        StateChange::Watchers { .. } => is_announced,
        _ => false,
    }
}

/// Announces how far the subscriptions of a batch are counted: a stock node may send the next NOTIFY of each. Ours
/// learn of those that a stock node brought.
pub(crate) fn announce_to_stock_counted(parts: &Parts, batch: &[Notify]) {
    if !shares_with_stock(parts) {
        return;
    }
    let takers = parts.shared.stock_nodes.takers();
    let now = clock::now();
    let goes_on = |notify: &&Notify| notify.slot.is_some() && notify.subscription.state.expires_at > now;
    for subscription in batch.iter().filter(goes_on).map(|notify| &notify.subscription) {
        let text = stock_text(parts, subscription, Some(subscription.state.expires_at));
        send_to_stock(parts, &takers, &text);
        let of_stock =
            ownership::held_ownership(parts, subscription.dialog()).is_some_and(|held| held.owner.is_stock());
        if of_stock {
            send_to_stock(parts, &parts.shared.nodes.addresses(), &text);
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
