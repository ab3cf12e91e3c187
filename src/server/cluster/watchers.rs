//! The watchers of subscriptions that this node goes on with: when they are notified of the present state.
use crate::host::clock;
use crate::presence::notification::notifier;
use crate::presence::notification::{NotifyReason, StateChange};
use crate::presence::ports::notifications::Notifications;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::presence::winfo::watcher_changes;
use crate::presence::winfo::{Extent, Watcher};
use crate::server::announcing::ownership;
use crate::server::context::Context;
use crate::server::shared::Parts;
use crate::server::tables::resource_entry::{DueNotify, ResourceEntry};
use crate::server::tables::subscription_entry::Awaited;

/// The watcher is notified of the present state, as after a SUBSCRIBE. What cannot be sent is due again.
pub(super) fn notify_of_state(context: &mut Context<'_>, dialog: DialogId<'_>) {
    if wait_for_publications(context) {
        context.shared.tables.mark_due(dialog, NotifyReason::Subscribe);
        context.shared.nodes.joining.note_waiting();
    } else if let Some((subscription, _)) = ownership::owned_subscription(context, dialog) {
        let resource = context.shared.tables.resource_of(&subscription);
        if context.enqueue(&resource, StateChange::Subscription(dialog, NotifyReason::Subscribe)) {
            notifier::run(context, &resource);
        }
    }
}

/// Notifies the watchers of what was taken over a second ago: nobody has objected.
pub(super) fn notify_claimed(context: &mut Context<'_>) {
    let tables = &context.shared.tables;
    for index in 0..tables.shard_count() {
        let (mut shard, mut due) = (tables.nth_shard(index), Vec::new());
        for stored in shard.subscriptions_mut().filter(|stored| stored.ownership.awaits == Awaited::Objections) {
            stored.ownership.awaits = Awaited::Nothing;
            if stored.ownership.owner.is_here() {
                stored.due = Some(NotifyReason::Subscribe);
                due.push(stored.resource_hash);
            }
        }
        for hash in due {
            if let Some(entry) = shard.entry_by_hash(hash) {
                entry.due.add(DueNotify::Something);
            }
        }
    }
    notify_waiting(context);
}

/// Whether the other nodes are still announcing to us what is published: a watcher notified now would see its lamp
/// go out and on.
pub(super) fn wait_for_publications(parts: &Parts) -> bool {
    let asks = parts.config.replicates && parts.config.sync_on_join;
    asks && parts.shared.nodes.joining.has_just_joined(clock::now(), parts.config.started)
}

/// Notifies the watchers that had to wait for the publications of the other nodes.
pub(super) fn notify_waiting(context: &mut Context<'_>) {
    let (tables, mut due) = (&context.shared.tables, Vec::new());
    for index in 0..tables.shard_count() {
        due.extend(
            tables
                .nth_shard(index)
                .entries()
                .filter(|entry| entry.due.contains(DueNotify::Something) && !entry.busy)
                .map(ResourceEntry::resource),
        );
    }
    for resource in due {
        if context.enqueue(&resource, StateChange::Due) {
            notifier::run(context, &resource);
        }
    }
}

/// Notifies those who watch the watchers (RFC 3857) that a subscription has this status.
pub(super) fn notify_of_status(context: &mut Context<'_>, subscription: &Subscription, status: Status) {
    let package = *context.packages.get(subscription.state.event);
    let watcher = || Watcher { status, ..Watcher::of_subscription(subscription) };
    watcher_changes::notify(context, &package, subscription.get(Field::PresUri), watcher, Extent::Full);
}
