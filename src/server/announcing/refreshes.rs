//! Refreshes among nodes: the nodes that read them are sent what a SUBSCRIBE has changed instead of the whole
//! subscription.
use crate::cluster::digest::RecordKey;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::limited;
use crate::presence::replication::node_messages::{REFRESHES, UNNAMED, dialog_key};
use crate::presence::replication::replica_refresh::{self, ReplicaRefresh, unchanged};
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::server::announcing::{holders, node_names, sending, texts};
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::Ownership;
use std::num::{NonZeroU32, NonZeroU64};

/// The digest of what a refresh leaves as it is.
pub(crate) fn unchanged_of<B: AsRef<[u8]>>(
    parts: &Parts,
    subscription: &Subscription<B>,
    ownership: &Ownership,
) -> u64 {
    let owner = RecordKey::of_names(&[&node_names::owner_name(parts, ownership.owner)]).0;
    let ceiling = ownership.ceiling.above(subscription.state.local_cseq);
    let event = parts.packages().get(subscription.state.event).name;
    unchanged(subscription, event, owner, [ownership.epoch, ownership.lease.map_or(0, NonZeroU32::get), ceiling])
}

/// Announces a change of a subscription to the other nodes that hold it: in short where nothing but what a refresh
/// says has changed since `announced`, to those nodes that read that.
pub(crate) fn announce_change(
    parts: &Parts,
    subscription: Subscription,
    ownership: Ownership,
    announced: Option<NonZeroU64>,
) {
    let unchanged = unchanged_of(parts, &subscription, &ownership);
    if announced.is_none_or(|announced| announced.get() != unchanged) {
        let announced = NonZeroU64::new(unchanged);
        parts.shared.tables.with_key(dialog_key(subscription.dialog()), |stored| stored.announced = announced);
        return announce_whole(parts, subscription, ownership);
    }
    let refresh = ReplicaRefresh {
        key: dialog_key(subscription.dialog()),
        unchanged,
        stamp: ownership.stamp,
        remote_cseq: subscription.state.remote_cseq,
        expires: subscription.state.expires_at - clock::now(),
    };
    match refresh.to_json(node_names::node_name(parts)) {
        Some(short) => {
            let receivers = holders::receivers(parts, subscription.get(Field::PresUri));
            send_as_they_read(parts, receivers, &short, || texts::announcement_text(parts, subscription, ownership));
        }
        None => announce_whole(parts, subscription, ownership),
    }
}

fn announce_whole(parts: &Parts, subscription: Subscription, ownership: Ownership) {
    let uri = subscription.get(Field::PresUri).to_vec();
    holders::send_of_presentity(parts, &uri, &texts::announcement_text(parts, subscription, ownership));
}

/// Sends the nodes that learn of a change (`None`: all) either text.
fn send_as_they_read(parts: &Parts, receivers: Option<Vec<Address>>, short: &[u8], whole: impl FnOnce() -> Vec<u8>) {
    counters::count(Counter::DmqSent);
    let is_receiver = |to: &Address| {
        receivers.as_ref().is_none_or(|receivers| receivers.contains(to)) && sending::may_receive(parts, to)
    };
    let others = dmq::nodes().into_iter().filter(|node| node.active && !node.local && is_receiver(&node.address));
    let reads = |node: &dmq::DmqNode, version| parts.shared.nodes.speaks(&node.address) >= Some(version);
    let (short_to, whole_to): (Vec<dmq::DmqNode>, Vec<dmq::DmqNode>) = others.partition(|node| reads(node, REFRESHES));
    let (unnamed_to, short_to): (Vec<_>, Vec<_>) = short_to.into_iter().partition(|node| reads(node, UNNAMED));
    let sealed = |text: &[u8]| sending::sealed(parts, Channel::Nodes, text);
    let whole = if whole_to.is_empty() { Vec::new() } else { sealed(&whole()) };
    let short = if unnamed_to.is_empty() && short_to.is_empty() { Vec::new() } else { sealed(short) };
    let unnamed = replica_refresh::without_name(&short).unwrap_or_else(|| short.clone());
    let texts = [(unnamed_to, unnamed), (short_to, short), (whole_to, whole)];
    let each = texts.iter().flat_map(|(nodes, text)| nodes.iter().map(move |node| (&node.address, text)));
    // Each of them is sent it, whatever became of the one before.
    if each.filter(|(to, text)| !dmq::send(Channel::Nodes, to, text)).count() > 0 {
        limited!(Error, "a change of a subscription could not be sent to all other nodes");
    }
}
