//! What a node does in the cluster every second, and when another one ends.
use crate::host::{clock, dmq};
use crate::presence::error::StoreError;
use crate::presence::replication::Reader;
use crate::presence::replication::comparison::RecordKind;
use crate::presence::replication::node_messages::HelloReply;
use crate::server::announcing::{asking, holders, node_names, sending};
use crate::server::cluster::activation::{self, Objections};
use crate::server::cluster::consent;
use crate::server::cluster::full_sync::Owners;
use crate::server::cluster::{comparison, full_sync, replacement, stock_subscriptions, takeover, watchers};
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::server::subscriptions::active_watchers_table;
use crate::time::Seconds;

/// A node that has not said who it is, is asked again after this time.
const HELLO_INTERVAL: Seconds = Seconds(10);

/// How long a row that nobody owns any more stays after its end, in seconds.
const LONG_PAST: Seconds = Seconds(600);

/// One second of a node's life in the cluster: who came, who is lost, and what has to be announced to whom.
pub fn step(context: &mut Context<'_>) {
    let now = clock::now();
    let seen = dmq::nodes();
    let name = node_names::node_name(context);
    if name.is_empty() {
        return;
    }
    for address in context.shared.nodes.observe(&seen, now) {
        sending::send_hello(context, &address, &comparison::hello(context, HelloReply::Wanted));
        holders::placement_settings(context)
            .into_iter()
            .for_each(|settings| _ = sending::send_to_node(context, &address, &settings));
    }
    if now.is_each(HELLO_INTERVAL) {
        // Ours say who they are, and what they read; stock's nodes answer that they do not know what this is.
        let unknown = context.shared.nodes.unknown().into_iter();
        for address in unknown.filter(|address| !context.shared.stock_nodes.knows(address)) {
            sending::send_to_node(context, &address, &comparison::hello(context, HelloReply::Wanted));
        }
    }
    // dmq may be wrong: who answers is there.
    for address in context.shared.nodes.doubted(now) {
        sending::send_to_node(context, &address, &comparison::hello(context, HelloReply::Wanted));
    }
    stock_subscriptions::step(context, &seen, now);
    // Nodes that compare are compared with; to the others everything is announced.
    for (address, compares) in context.shared.nodes.take_needing_sync(now) {
        let compares = compares & comparison::kinds(context);
        if compares & (1 << RecordKind::Subscriptions as u8) == 0 {
            full_sync::send_subscriptions(context, &address, Owners::Here);
        }
        if context.config.replicates && compares & (1 << RecordKind::Publications as u8) == 0 {
            full_sync::send_publications(&context.inventory(), &address, Reader::Ours);
        }
    }
    replacement::step(context, now);
    comparison::step(context);
    if context.config.shares_subscriptions {
        if !asking::may_speak(context) {
            resume(context);
            return;
        }
        asking::note_running(context);
        if context.shared.cluster_state.take_claims(clock::instant()) {
            watchers::notify_claimed(context);
        }
        consent::end_waiting(context);
        if !watchers::wait_for_publications(context) && context.shared.nodes.joining.take_waiting() {
            watchers::notify_waiting(context);
        }
        let may_adopt = !context.config.has_arbiter() || context.shared.cluster_state.arbitration.has_inherited_own();
        if may_adopt && context.shared.nodes.joining.take_settling(&seen, now - context.config.started) {
            activation::of_restored(context);
        }
        match context.config.has_arbiter() {
            true => takeover::of_inherited_leases(context, now),
            // What was taken over before is decided first.
            false if context.shared.cluster_state.has_claims() => {}
            false => takeover::of_lost_nodes(context, Objections::Awaited),
        }
    }
}

/// Sends what had to wait while the node asked the others, once they have answered.
pub fn resume(context: &mut Context<'_>) {
    if asking::has_resumed(context) {
        watchers::notify_waiting(context);
    }
}

/// A node says that it ends: others go on at once; under an arbiter its `successor`.
pub fn note_left(context: &mut Context<'_>, from: NodeId, name: &[u8], successor: Option<&[u8]>) {
    context.shared.nodes.note_left(from);
    if !context.config.shares_subscriptions || !asking::may_speak(context) {
        return;
    }
    match successor {
        _ if !context.config.has_arbiter() => takeover::of_lost_nodes(context, Objections::NotAwaited),
        Some(successor) if successor == node_names::node_name(context) => takeover::of_ended_node(context, name),
        _ => {}
    }
}

/// Forgets removals that are long past, and rows of subscriptions that went to other nodes.
///
/// # Errors
///
/// Fails when the database cannot be written.
pub fn forget_past(context: &Context<'_>) -> Result<(), StoreError> {
    let now = clock::now();
    context.shared.tombstones.forget_old(now);
    context.shared.old_documents.forget_past(now);
    let keeps_rows = context.storage.subscriptions.has_rows();
    if !context.config.shares_subscriptions || !context.database.is_configured() || !keeps_rows {
        return Ok(());
    }
    let table = context.config.active_watchers_table;
    let before = now - context.config.expires_offset - LONG_PAST;
    context.database.write(|db| active_watchers_table::delete_ended(db, table, before))
}
