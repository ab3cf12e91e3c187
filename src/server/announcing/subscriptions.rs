//! What this node announces to the others of its subscriptions.
use crate::cluster::numbers::{Ceiling, reserve};
use crate::cluster::version::Version;
use crate::presence::replication::comparison::RecordKind;
use crate::presence::replication::node_messages::Ending;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::server::announcing::{arbitration, holders, node_names, refreshes, stock_announce, texts};
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::Ownership;
use crate::time::Moment;
use std::num::NonZeroU64;

/// How far a subscription has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// For good: no node may go on with it.
    ForGood,
    /// As far as this node is concerned: another one may know a newer state.
    Here,
}

/// Announces to the other nodes how a subscription of ours is now.
pub(crate) fn announce_subscription(parts: &Parts, dialog: DialogId<'_>) {
    if !parts.config.shares_subscriptions {
        return;
    }
    if let Some((subscription, ownership, announced)) = stamped(parts, dialog) {
        stock_announce::announce_to_stock(parts, &subscription);
        holders::note_place_of(parts, subscription.get(Field::PresUri));
        refreshes::announce_change(parts, subscription, ownership, announced);
    }
}

/// A subscription of ours as it is announced: with a new stamp, and enough numbers reserved; and the digest of what
/// was announced last.
pub(crate) fn stamped(parts: &Parts, dialog: DialogId<'_>) -> Option<(Subscription, Ownership, Option<NonZeroU64>)> {
    let tables = &parts.shared.tables;
    let stamp = parts.shared.cluster_state.tick();
    let mut shard = tables.shard_of_dialog(tables.dialog_hash(dialog))?;
    let is_arbitrated = parts.config.has_arbiter();
    let is_announced = |ownership: &Ownership| arbitration::owns(parts, ownership) || is_arbitrated;
    let stored = shard.find(dialog).filter(|stored| is_announced(&stored.ownership))?;
    let is_owned = arbitration::owns(parts, &stored.ownership);
    let ownership = &mut stored.ownership;
    if is_owned && is_arbitrated {
        ownership.lease = parts.shared.cluster_state.arbitration.lease();
    }
    ownership.stamp = stamp.max(ownership.stamp);
    if let Some(ceiling) = reserve(stored.subscription.state.local_cseq, ownership.ceiling).filter(|_| is_owned) {
        ownership.ceiling = Ceiling::at(ceiling);
    }
    Some((stored.subscription.to_private(), stored.ownership, stored.announced))
}

/// Announces to the other nodes that a subscription has ended.
pub(crate) fn announce_end(parts: &Parts, removed: &Subscription, ownership: Ownership, ends: Ends) {
    if !parts.config.shares_subscriptions {
        return;
    }
    let ending = Ending {
        call_id: removed.get(Field::CallId).to_vec(),
        to_tag: removed.get(Field::ToTag).to_vec(),
        from_tag: removed.get(Field::FromTag).to_vec(),
        for_good: ends == Ends::ForGood,
    };
    let version = texts::announcement(parts, removed.clone(), ownership).claim.held().version;
    record_dialog_removal(parts, &ending, removed.state.expires_at, version);
    stock_announce::announce_to_stock_end(parts, removed);
    let (uri, text) = (removed.get(Field::PresUri), ending.to_json(node_names::node_name(parts)));
    let name = [&ending.call_id[..], &ending.from_tag, &ending.to_tag];
    holders::note_removal(parts, RecordKind::Subscriptions, uri, name, &text, removed.state.expires_at);
    holders::send_of_presentity(parts, uri, &text);
}

/// Remembers that a subscription has ended: for good, or as its owner knew it.
pub(crate) fn record_dialog_removal(parts: &Parts, ending: &Ending, until: Moment, version: Version) {
    let tombstones = parts.shared.tombstones;
    let word = if ending.for_good { Version::ENDED } else { version.word };
    tombstones.record_removal(tombstones.of_dialog(ending.dialog()), until, Version { word, ..version });
}
