//! Subscriptions of other nodes, whose replicas are kept as their owners announce them.
use crate::cluster::version::Version;
use crate::host::{clock, shm};
use crate::presence::error::StoreError;
use crate::presence::ports::subscriptions::Stored;
use crate::presence::replication::node_messages::Ending;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{RowState, Status, Subscription};
use crate::server::announcing::{holders, node_names, ownership, subscriptions, texts};
use crate::server::cluster::watchers;
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::Ownership;

/// Another node says that a subscription has ended.
///
/// # Errors
///
/// Fails when the rows of the subscription cannot be removed.
pub fn terminate(context: &mut Context<'_>, ending: &Ending) -> Result<(), StoreError> {
    let Some((subscription, ownership)) = ownership::owned_subscription(context, ending.dialog()) else {
        // It may still be on its way.
        if ending.for_good {
            let until = clock::now() + context.config.max_expires;
            subscriptions::record_dialog_removal(context, ending, until, Version::default());
        }
        return Ok(());
    };
    if ownership.owner.is_here() && !ending.for_good {
        return Ok(());
    }
    let version = texts::announcement(context, subscription.clone(), ownership).claim.held().version;
    subscriptions::record_dialog_removal(context, ending, subscription.state.expires_at, version);
    forget(context, ending.dialog())?;
    if ownership.owner.is_here() {
        // The nodes that hold a replica for us have not learnt of it either.
        holders::send_of_presentity(
            context,
            subscription.get(Field::PresUri),
            &ending.to_json(node_names::node_name(context)),
        );
    }
    watchers::notify_of_status(context, &subscription, Status::Terminated);
    Ok(())
}

/// Removes a subscription here, and here alone.
///
/// # Errors
///
/// Fails when the row cannot be removed.
pub(super) fn forget(context: &mut Context<'_>, dialog: DialogId<'_>) -> Result<(), StoreError> {
    let tables = &context.shared.tables;
    let hash = tables.dialog_hash(dialog);
    if let Some(mut shard) = tables.shard_of_dialog(hash) {
        if let Some(stored) = shard.find(dialog) {
            // The row, if there is one, belongs to the owner of the subscription.
            stored.ownership.owner = NodeId::ELSEWHERE;
        }
    }
    context.storage.subscriptions.remove(dialog).map(|_| ())
}

/// Puts a replica into the tables; `false` when another process was faster.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub(super) fn place(parts: &Parts, subscription: &Subscription, ownership: Ownership) -> Result<bool, StoreError> {
    let mut shared = subscription.map(shm::copy)?;
    shared.state.row_state = RowState::Clean;
    let _order = parts.lock_for_write(&parts.shared.tables.resource_of(subscription));
    Ok(parts.shared.tables.place(shared, 0, ownership)? == Stored::New)
}
