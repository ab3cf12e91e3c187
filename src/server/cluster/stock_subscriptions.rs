//! Subscriptions that are shared with stock's nodes, which have no owners: each of them holds all subscriptions,
//! notifies the watchers of what happens to it, and announces to the others how far it has counted.
use crate::cluster::numbers::Ceiling;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::presence::error::StoreError;
use crate::presence::replication::node_messages::Ending;
use crate::presence::replication::stock_subscription::{self, StockDialog, StockMessage};
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::server::announcing::{node_names, ownership, sending, stock_announce, subscriptions, texts};
use crate::server::cluster::merging::{MergeBasis, Merging, TRIES};
use crate::server::cluster::{activation, full_sync, merging, replicas};
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::server::nodes::stock_nodes::Outcome;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::{Awaited, Ownership, SubscriptionEntry};
use crate::time::{Moment, Seconds};
use std::cmp::Ordering;

/// What to do with what a node says of a subscription that is here.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// The watcher has spoken to a stock node last: it is as that node says, and that node's.
    Accept,
    /// A node has notified the watcher: ours goes on from there.
    Count,
    /// A node does not know what the watcher has asked for here.
    Correct,
    /// The message is no news.
    Ignore,
}

/// Which kind of node announces in stock's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Announcer {
    /// One of stock's.
    Stock,
    /// One of ours, which speaks of a subscription that no node of ours owns.
    Ours,
}

/// `announced` against `mine`, which belongs to `owner`.
fn decide(announced: &Subscription, mine: &Subscription, owner: NodeId, by: Announcer) -> Decision {
    let by_stock = by == Announcer::Stock;
    let of_ours = !owner.is_stock() && owner != NodeId::ELSEWHERE;
    let counts_further = announced.state.local_cseq > mine.state.local_cseq;
    match announced.state.remote_cseq.cmp(&mine.state.remote_cseq) {
        Ordering::Greater if by_stock => Decision::Accept,
        Ordering::Equal if by_stock && !of_ours => Decision::Accept,
        Ordering::Equal if counts_further => Decision::Count,
        Ordering::Less if owner.is_here() && by_stock => Decision::Correct,
        _ => Decision::Ignore,
    }
}

/// Announces to a stock node all subscriptions that are ours: it has joined, or was away.
fn announce_all(parts: &Parts, to: &Address) {
    let tables = &parts.shared.tables;
    let (mut sent, now) = (0, clock::now());
    for index in 0..tables.shard_count() {
        let ours: Vec<Subscription> = {
            let shard = tables.nth_shard(index);
            let is_announced = |stored: &&SubscriptionEntry| {
                stored.ownership.owner.is_here() && stored.subscription.state.expires_at > now
            };
            let owned = shard.subscriptions().filter(is_announced);
            owned.map(|stored| stored.subscription.to_private()).collect()
        };
        for subscription in ours {
            let text = stock_announce::stock_text(parts, &subscription, Some(subscription.state.expires_at));
            stock_announce::send_to_stock(parts, std::slice::from_ref(to), &text);
            sent += 1;
            full_sync::pause_after(sent);
        }
    }
}

/// One second among stock's nodes: to a node that returned everything is announced, and it is asked.
pub(crate) fn step(parts: &Parts, seen: &[dmq::DmqNode], now: Moment) {
    for task in parts.shared.stock_nodes.observe(seen, now) {
        if !parts.config.shares_subscriptions {
            continue;
        }
        if task.announce {
            announce_all(parts, &task.to);
        }
        if task.ask && parts.config.asks_for_subscriptions && sending::may_receive(parts, &task.to) {
            counters::count(Counter::DmqSent);
            dmq::send(Channel::Publications, &task.to, stock_subscription::SYNC);
        }
    }
}

/// A message in stock's form about subscriptions; `false` when it cannot be read.
///
/// # Errors
///
/// Fails when there is no memory for the node or the subscription, and when the database fails.
pub fn on_message(context: &mut Context<'_>, body: &[u8], from: Option<&Address>) -> Result<bool, StoreError> {
    let Some(message) = stock_subscription::parse(body, context.packages(), clock::now()) else { return Ok(false) };
    if !context.config.shares_subscriptions {
        return Ok(true);
    }
    let by = match from.is_some_and(|from| context.shared.nodes.is_ours(from)) {
        true => Announcer::Ours,
        false => Announcer::Stock,
    };
    let owner = match from {
        Some(from) if by == Announcer::Stock => {
            let id = context.shared.stock_nodes.note(from, clock::now())?;
            context.shared.stock_nodes.note_outcome(from, Outcome::Taken);
            id
        }
        _ => NodeId::SOME_STOCK,
    };
    match (message, from) {
        (StockMessage::Subscription(announced), from) => {
            let announced = as_ours(context, &announced)?;
            for _ in 0..TRIES {
                if merge(context, &announced, owner, by, from)? == Merging::Done {
                    return Ok(true);
                }
            }
            return Err(StoreError::Busy);
        }
        (StockMessage::End(dialog), _) if by == Announcer::Stock => end(context, &dialog)?,
        (StockMessage::Sync, Some(from)) => announce_all(context, from),
        _ => {}
    }
    Ok(true)
}

fn merge(
    context: &mut Context<'_>,
    announced: &Subscription,
    owner: NodeId,
    by: Announcer,
    from: Option<&Address>,
) -> Result<Merging, StoreError> {
    let Some((mine, ownership)) = ownership::owned_subscription(context, announced.dialog()) else {
        if by == Announcer::Stock {
            take_new(context, announced, owner, from)?;
        }
        return Ok(Merging::Done);
    };
    match decide(announced, &mine, ownership.owner, by) {
        Decision::Ignore => {}
        Decision::Count => count_on(context, announced)?,
        Decision::Correct => {
            let text = stock_announce::stock_text(context, &mine, Some(mine.state.expires_at));
            stock_announce::send_to_stock(context, from.map_or(&[], std::slice::from_ref), &text);
        }
        Decision::Accept => {
            // What stock's messages do not carry stays as it is.
            let kept = [Field::LocalUri, Field::RemoteUri].map(|field| (field, mine.get(field)));
            let mut subscription = announced.with(&kept)?;
            subscription.state.since = mine.state.since;
            let seen = MergeBasis::of_subscription(&mine, &ownership);
            let ownership = Ownership { owner, awaits: Awaited::Nothing, ..ownership };
            return merging::accept(context, &subscription, ownership, &seen);
        }
    }
    Ok(Merging::Done)
}

fn take_new(parts: &Parts, announced: &Subscription, owner: NodeId, from: Option<&Address>) -> Result<(), StoreError> {
    let tombstones = parts.shared.tombstones;
    let version = texts::announcement(parts, announced.clone(), Ownership::held_by(owner)).claim.held().version;
    if tombstones.has_version(tombstones.of_dialog(announced.dialog()), &version) {
        stock_announce::send_to_stock(
            parts,
            from.map_or(&[], std::slice::from_ref),
            &stock_announce::stock_text(parts, announced, None),
        );
        return Ok(());
    }
    if announced.state.expires_at <= clock::now() || announced.state.status == Status::Terminated {
        return Ok(());
    }
    replicas::place(parts, announced, Ownership::held_by(owner)).map(|_| ())
}

/// The subscription as this node sends for it: its own Contact and socket, where it has been given any.
fn as_ours(parts: &Parts, announced: &Subscription) -> Result<Subscription, StoreError> {
    let contact = activation::own_contact(parts.config.server_address, parts.config.default_socket);
    let mut ours = announced.with(&activation::sent_from_here(parts, &contact))?;
    ours.state.expires_at = end_of(ours.state.expires_at, clock::now(), parts.config.max_expires);
    Ok(ours)
}

/// Another node has notified the watcher: numbers, status and reason are as it says.
fn count_on(context: &mut Context<'_>, announced: &Subscription) -> Result<(), StoreError> {
    let dialog = announced.dialog();
    let Some(current) = context.shared.tables.find(dialog) else { return Ok(()) };
    let mut owned = false;
    context.shared.tables.change(&current, &[(Field::Reason, announced.get(Field::Reason))], |stored| {
        owned = stored.ownership.owner.is_here();
        let state = &mut stored.subscription.state;
        state.local_cseq = state.local_cseq.max(announced.state.local_cseq);
        state.version = state.version.max(announced.state.version);
        state.status = announced.state.status;
        context.shared.tables.mark_changed(state);
        stored.ownership.ceiling = stored.ownership.ceiling.max(Ceiling::at(announced.state.local_cseq));
        true
    })?;
    if owned {
        context.storage.subscriptions.write_taken_over(dialog)?;
    }
    Ok(())
}

/// A stock node has ended a subscription and notified its watcher.
fn end(context: &mut Context<'_>, dialog: &StockDialog) -> Result<(), StoreError> {
    let Some((subscription, ownership)) = ownership::owned_subscription(context, dialog.id()) else {
        return Ok(());
    };
    let ending = Ending {
        call_id: dialog.call_id.clone(),
        to_tag: dialog.to_tag.clone(),
        from_tag: dialog.from_tag.clone(),
        for_good: true,
    };
    let until = subscription.state.expires_at;
    let version = texts::announcement(context, subscription, ownership).claim.held().version;
    subscriptions::record_dialog_removal(context, &ending, until, version);
    replicas::forget(context, dialog.id())?;
    if ownership.owner.is_here() {
        context.storage.subscriptions.delete_row(dialog.id());
        sending::send_to_nodes(context, &ending.to_json(node_names::node_name(context)));
    }
    Ok(())
}

/// When a subscription ends that a stock node announces: its life is no longer than it may be here.
fn end_of(announced: Moment, now: Moment, max_expires: Seconds) -> Moment {
    announced.min(now + max_expires)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::subscription::SubscriptionState;

    fn subscription(remote_cseq: u32, local_cseq: u32) -> Subscription {
        let state =
            SubscriptionState { remote_cseq, local_cseq, ..SubscriptionState::new(PackageId(0), Status::Active) };
        Subscription::from_fields(state, &[(Field::CallId, b"c")]).unwrap()
    }

    #[test]
    fn the_node_that_the_watcher_spoke_to_last_counts() {
        let (here, stock) = (NodeId::HERE, NodeId::of_stock(0));
        let decided = |announced: (u32, u32), owner, by| {
            decide(&subscription(announced.0, announced.1), &subscription(2, 10), owner, by)
        };
        for owner in [here, stock, NodeId::ELSEWHERE] {
            assert_eq!(decided((3, 1), owner, Announcer::Stock), Decision::Accept);
            assert_eq!(decided((3, 1), owner, Announcer::Ours), Decision::Ignore, "our own channel says so");
        }
        assert_eq!(decided((2, 11), stock, Announcer::Stock), Decision::Accept);
        assert_eq!(decided((2, 11), NodeId::ELSEWHERE, Announcer::Stock), Decision::Accept);
        assert_eq!(decided((2, 11), here, Announcer::Stock), Decision::Count);
        assert_eq!(decided((2, 11), stock, Announcer::Ours), Decision::Count);
        assert_eq!(decided((2, 10), here, Announcer::Stock), Decision::Ignore);
        assert_eq!(decided((1, 90), here, Announcer::Stock), Decision::Correct);
        assert_eq!(decided((1, 90), stock, Announcer::Stock), Decision::Ignore);
        assert_eq!(decided((1, 90), here, Announcer::Ours), Decision::Ignore);
    }

    #[test]
    fn no_life_is_longer_than_it_may_be() {
        let end = |announced| end_of(Moment::at(announced), Moment::at(1_000), Seconds(3_600));
        assert_eq!([900, 4_599, 4_600, 4_601, i64::MAX].map(end), [900, 4_599, 4_600, 4_600, 4_600].map(Moment::at));
    }
}
