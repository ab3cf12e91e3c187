//! What was taken from other nodes is served once all of them have answered that they know.
use crate::cluster::consent::Ticket;
use crate::cluster::digest::RecordKey;
use crate::host::clock;
use crate::host::dmq::Address;
use crate::presence::notification::notifier;
use crate::presence::notification::{NotifyReason, StateChange};
use crate::presence::ports::notifications::Notifications;
use crate::presence::replication::node_messages::dialog_key;
use crate::presence::subscription::Subscription;
use crate::server::announcing::claims;
use crate::server::announcing::subscriptions;
use crate::server::cluster::admission::{NEWER_HERE, OK};
use crate::server::cluster::watchers;
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::server::tables::resource_entry::DueNotify;
use crate::server::tables::subscription_entry::{Awaited, SubscriptionEntry};

/// The code of a node that does not know our channel: one of stock's, which owns nothing.
const UNKNOWN_CHANNEL: i32 = 404;

/// A node has answered a message with a ticket.
pub fn on_answer(context: &mut Context<'_>, ticket: Ticket, from: &Address, code: i32) {
    let claims = &context.shared.cluster_state.open_claims;
    let Some(place) = context.shared.nodes.place_at(from) else { return };
    if code == NEWER_HERE.0 {
        claims.refused(ticket, place);
    } else if code == OK.0 || code == UNKNOWN_CHANNEL {
        if let Some(key) = claims.answered(ticket, place) {
            serve(context, key);
        }
    }
}

/// Serves what has waited long enough, though some nodes have not answered.
pub(super) fn end_waiting(context: &mut Context<'_>) {
    let overdue = context.shared.cluster_state.open_claims.take_overdue(clock::instant());
    overdue.into_iter().for_each(|key| serve(context, key));
}

/// The numbers of a subscription that waits for answers were moved on: the others are asked anew.
pub(super) fn ask_again(context: &mut Context<'_>, subscription: &Subscription) {
    let claim = claims::open_claim(context, subscription, NodeId::HERE);
    let dialog = subscription.dialog();
    context.shared.tables.mark_due(dialog, NotifyReason::Subscribe);
    context.shared.tables.with_key(dialog_key(dialog), |stored| {
        if stored.ownership.awaits == Awaited::Answers {
            stored.ownership.awaits = claim.awaits;
        }
    });
    match claim.ticket {
        Some(ticket) => claims::announce_claim(context, dialog, &claim, ticket),
        None => {
            subscriptions::announce_subscription(context, dialog);
            if claim.awaits == Awaited::Nothing {
                watchers::notify_of_state(context, dialog);
            }
        }
    }
}

/// Sends what had to wait.
fn serve(context: &mut Context<'_>, key: RecordKey) {
    let waits = |stored: &mut SubscriptionEntry| {
        let (ownership, subscription) = (&mut stored.ownership, &stored.subscription);
        let is_ours = ownership.owner.is_here() && ownership.awaits == Awaited::Answers;
        is_ours.then(|| {
            ownership.awaits = Awaited::Nothing;
            subscription.to_private()
        })
    };
    let tables = &context.shared.tables;
    let Some(subscription) = tables.with_key(key, waits).flatten() else { return };
    let resource = tables.resource_of(&subscription);
    if let Some(entry) = tables.shard(resource.hash).entry(tables.rule(), &resource) {
        entry.due.add(DueNotify::Something);
    }
    if watchers::wait_for_publications(context) {
        context.shared.nodes.joining.note_waiting();
    } else if context.enqueue(&resource, StateChange::Due) {
        notifier::run(context, &resource);
    }
}
