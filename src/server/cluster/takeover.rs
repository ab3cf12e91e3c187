//! Subscriptions that this node goes on with: those of lost nodes, and those of leases that it has taken over.
use crate::cluster::arbiter::{LeaseChange, LeaseTable};
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::limited;
use crate::presence::replication::node_messages;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::server::announcing::arbitration::{self, write_change};
use crate::server::announcing::leases_table::LeasesTable;
use crate::server::announcing::{holders, node_names, subscriptions};
use crate::server::cluster::activation::{self, Objections};
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use crate::time::{Moment, Seconds};

/// At most this many subscriptions are taken over in one second.
const LARGEST_STEP: usize = 1000;

/// Subscriptions of leases that were taken over are looked for once in this many seconds.
const LOOK_AGAIN: Seconds = Seconds(10);

/// When nobody goes on with a lost node's subscription for this long, the next candidate does.
const TAKEOVER_TIMEOUT: Seconds = Seconds(15);

/// Goes on with the subscriptions of lost nodes, as far as they fall to us.
pub(super) fn of_lost_nodes(context: &mut Context<'_>, objections: Objections) {
    let now = clock::now();
    let mut lost = context.shared.nodes.lost(now);
    lost.extend(context.shared.stock_nodes.lost(now));
    if lost.is_empty() {
        return;
    }
    let mut names = context.shared.nodes.present();
    names.push(node_names::node_name(context).to_vec());
    let candidates: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let is_lost = |node: NodeId| lost.iter().any(|lost| lost.id == node);
    let view = holders::view(context);
    let ours = context.shared.tables.live(now, LARGEST_STEP, |stored| {
        let Some(lost) = lost.iter().find(|lost| lost.id == stored.ownership.owner) else { return false };
        let turn = turn_after(lost.age);
        match &view {
            None => {
                node_messages::successor(&candidates, stored.subscription.dialog(), turn)
                    == Some(node_names::node_name(context))
            }
            Some(view) => view.is_successor(stored.subscription.get(Field::PresUri), turn, is_lost),
        }
    });
    let ours: Vec<Subscription> = ours.into_iter().map(|(subscription, _)| subscription).collect();
    serve_from_now_on(context, &ours, "lost nodes", objections);
}

/// Goes on with what was owned under leases that this node has taken over. What another node still held back comes
/// later: it is looked for again and again.
pub(super) fn of_inherited_leases(context: &mut Context<'_>, now: Moment) {
    let arbitration = &context.shared.cluster_state.arbitration;
    if !arbitration.take_news() && !now.is_each(LOOK_AGAIN) {
        return;
    }
    bind_unleased(context);
    let (tables, mut ours) = (&context.shared.tables, Vec::new());
    for index in 0..tables.shard_count() {
        let foreign: Vec<(Subscription, Ownership)> = {
            let shard = tables.nth_shard(index);
            let is_settled =
                |o: &Ownership| arbitration::owns(context, o) || o.owner == NodeId::ELSEWHERE || o.owner.is_stock();
            let live = |stored: &&SubscriptionEntry| {
                stored.subscription.state.expires_at > now
                    && stored.subscription.state.status != Status::Terminated
                    && !is_settled(&stored.ownership)
            };
            shard.subscriptions().filter(live).map(|s| (s.subscription.to_private(), s.ownership)).collect()
        };
        let claimed = foreign
            .into_iter()
            .filter(|(_, o)| arbitration::may_claim(context, o))
            .map(|(subscription, _)| subscription);
        ours.extend(claimed.take(LARGEST_STEP - ours.len()));
        if ours.len() == LARGEST_STEP {
            arbitration.note_news();
            break;
        }
    }
    serve_from_now_on(context, &ours, "leases that were taken over", Objections::NotAwaited);
}

/// What was made, or read from its row, before this node held a lease is owned under its lease from now on, and
/// announced so: otherwise no other node could go on with it.
fn bind_unleased(parts: &Parts) {
    let (arbitration, tables) = (&parts.shared.cluster_state.arbitration, &parts.shared.tables);
    let Some(lease) = arbitration.lease() else { return };
    let mut bound = Vec::new();
    for mut shard in tables.shards() {
        let unleased = shard.subscriptions_mut().filter(|s| s.ownership.owner.is_here() && s.ownership.lease.is_none());
        for stored in unleased.take(LARGEST_STEP - bound.len()) {
            stored.ownership.lease = Some(lease);
            bound.push(stored.subscription.to_private());
        }
        if bound.len() >= LARGEST_STEP {
            arbitration.note_news();
            break;
        }
    }
    bound.iter().for_each(|subscription| subscriptions::announce_subscription(parts, subscription.dialog()));
}

/// Goes on with these subscriptions of `former` owners. One that fails does not keep the others.
fn serve_from_now_on(context: &mut Context<'_>, ours: &[Subscription], former: &str, objections: Objections) {
    for subscription in ours {
        if let Err(error) = activation::of_replica(context, subscription.dialog(), objections) {
            limited!(Error, "cannot go on with a subscription of {former}: {error}");
        }
    }
    if !ours.is_empty() {
        limited!(Notice, "{} subscriptions of {former} are served here from now on", ours.len());
    }
}

/// A node that ends says that its lease was handed over to this one: goes on at once, if the table says so, too.
pub(super) fn of_ended_node(context: &mut Context<'_>, left: &[u8]) {
    let Some(database) = context.process().leases else { return };
    let arbitration = &context.shared.cluster_state.arbitration;
    let (own, generation) = (node_names::node_name(context), arbitration.generation());
    match (LeasesTable { database, table: context.config.cluster_leases_table }).rows() {
        Ok(rows) => {
            let inherited = arbitration.learn(&rows.iter().collect::<Vec<_>>(), own, generation);
            if inherited > 0 {
                counters::count_many(Counter::LeasesTakenOver, inherited);
                write_change(&LeaseChange::Took(left.to_vec()));
            }
            of_inherited_leases(context, clock::now());
        }
        Err(error) => limited!(Warn, "the table of leases cannot be read: {error}; it is read again in a second"),
    }
}

/// Whose turn it is when a node has been lost for `age`: that of its first successor, then of the next ones.
fn turn_after(age: Seconds) -> usize {
    (age.0 / TAKEOVER_TIMEOUT.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_node_goes_on_after_fifteen_seconds() {
        assert_eq!([2, 14, 15, 29, 30].map(|age| turn_after(Seconds(age))), [0, 0, 1, 1, 2]);
    }
}
