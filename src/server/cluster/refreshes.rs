//! Refreshes that other nodes say: a node whose replica is not the one that was refreshed asks for the whole of it.
use crate::cluster::digest::RecordKey;
use crate::cluster::exchange::ExchangeMessage;
use crate::cluster::version::Version;
use crate::host::clock;
use crate::host::dmq::Address;
use crate::presence::replication::comparison::RecordKind;
use crate::presence::replication::replica_refresh::ReplicaRefresh;
use crate::presence::subscription::Subscription;
use crate::server::announcing::{arbitration, node_clocks, refreshes, sending, texts};
use crate::server::cluster::merging::MergeBasis;
use crate::server::cluster::watchers;
use crate::server::context::Context;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};

/// What a refresh came to at a node that holds a replica.
enum RefreshOutcome {
    /// The replica is as the owner's.
    Done,
    /// The subscription was ours already, and its watcher has spoken to another node.
    Spoken(Box<Subscription>),
    /// The subscription is newer here than there.
    Older(Box<Subscription>, Ownership),
    /// The subscription is not here, or another one.
    Unknown,
}

/// Another node says that a subscription was refreshed.
pub fn apply(context: &mut Context<'_>, refresh: &ReplicaRefresh, name: &[u8], from: Option<&Address>) {
    node_clocks::observe(context, name, refresh.stamp);
    match refresh_replica(context, refresh) {
        RefreshOutcome::Done => {}
        RefreshOutcome::Spoken(subscription) => watchers::notify_of_state(context, subscription.dialog()),
        RefreshOutcome::Older(subscription, ownership) => {
            let text = texts::announcement_text(context, *subscription, ownership);
            sending::answer_node(context, from, &text);
        }
        RefreshOutcome::Unknown => ask_for(context, refresh.key, name, from),
    }
}

fn refresh_replica(parts: &Parts, refresh: &ReplicaRefresh) -> RefreshOutcome {
    let tables = &parts.shared.tables;
    let copy = |stored: &mut SubscriptionEntry| (stored.subscription.to_private(), stored.ownership);
    let Some((subscription, seen)) = tables.with_key(refresh.key, copy) else { return RefreshOutcome::Unknown };
    if refreshes::unchanged_of(parts, &subscription, &seen) != refresh.unchanged {
        return RefreshOutcome::Unknown;
    }
    let said = |word, stamp| Version { word, stamp, ..Version::default() };
    let (mine, theirs) = (said(subscription.state.remote_cseq, seen.stamp), said(refresh.remote_cseq, refresh.stamp));
    if theirs < mine {
        return RefreshOutcome::Older(Box::new(subscription), seen);
    }
    let is_owned = arbitration::owns(parts, &seen);
    let before = MergeBasis::of_subscription(&subscription, &seen);
    let mut is_same = false;
    let change = |stored: &mut SubscriptionEntry| {
        is_same = MergeBasis::of_subscription(&stored.subscription, &stored.ownership) == before;
        if is_same {
            take_refresh(stored, refresh);
            if is_owned {
                parts.shared.tables.mark_changed(&mut stored.subscription.state);
            }
        }
    };
    match tables.with_key(refresh.key, change) {
        Some(()) if is_same && is_owned && theirs > mine => RefreshOutcome::Spoken(Box::new(subscription)),
        Some(()) if is_same => RefreshOutcome::Done,
        _ => RefreshOutcome::Unknown,
    }
}

/// Asks the node that has spoken of a subscription for the whole of it, unless it is just sending all there is.
fn ask_for(parts: &Parts, key: RecordKey, name: &[u8], from: Option<&Address>) {
    let Ok(id) = parts.shared.nodes.of_name(name, clock::now()) else { return };
    let now = clock::instant();
    if parts.shared.nodes.pulling(id, RecordKind::Subscriptions).is_none_or(|pulling| !pulling.moves(now)) {
        let want = texts::comparison_text(parts, RecordKind::Subscriptions, &ExchangeMessage::Want(vec![key]));
        sending::answer_node(parts, from, &want);
    }
}

/// The replica as the refresh says. Its row, if it has one, belongs to the owner.
fn take_refresh(stored: &mut SubscriptionEntry, refresh: &ReplicaRefresh) {
    let now = clock::now();
    let state = &mut stored.subscription.state;
    state.remote_cseq = refresh.remote_cseq;
    state.expires_at = now + refresh.expires;
    state.refreshed_at = Some(now);
    stored.ownership.stamp = refresh.stamp;
    stored.ownership.raised = 0;
}
