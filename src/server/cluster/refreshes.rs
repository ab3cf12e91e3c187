//! Refreshes among nodes: the nodes that read them are sent what a SUBSCRIBE has changed instead of the whole
//! subscription, and a node whose replica is not the one that was refreshed asks for the whole of it.
use crate::cluster::digest::RecordKey;
use crate::cluster::exchange::ExchangeMessage;
use crate::cluster::version::Version;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::limited;
use crate::presence::cluster::{REFRESHES, UNNAMED, dialog_key};
use crate::presence::comparison::RecordKind;
use crate::presence::replica_refresh::{self, ReplicaRefresh, unchanged};
use crate::presence::subscription::Subscription;
use crate::presence::subscription_field::Field;
use crate::server::cluster::merging::MergeBasis;
use crate::server::cluster::{node_clocks, watchers};
use crate::server::context::Context;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use std::num::{NonZeroU32, NonZeroU64};

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

impl Parts {
    /// The digest of what a refresh leaves as it is.
    pub(super) fn unchanged_of<B: AsRef<[u8]>>(&self, subscription: &Subscription<B>, ownership: &Ownership) -> u64 {
        let owner = RecordKey::of(&[&self.owner_name(ownership.owner)]).0;
        let ceiling = ownership.ceiling.above(subscription.state.local_cseq);
        let event = self.packages().get(subscription.state.event).name;
        unchanged(subscription, event, owner, [ownership.epoch, ownership.lease.map_or(0, NonZeroU32::get), ceiling])
    }

    /// Announces a change of a subscription to the other nodes that hold it: in short where nothing but what a refresh
    /// says has changed since `announced`, to those nodes that read that.
    pub(super) fn announce_change(
        &self,
        subscription: Subscription,
        ownership: Ownership,
        announced: Option<NonZeroU64>,
    ) {
        let unchanged = self.unchanged_of(&subscription, &ownership);
        if announced.is_none_or(|announced| announced.get() != unchanged) {
            let announced = NonZeroU64::new(unchanged);
            self.shared.tables.with_key(dialog_key(subscription.dialog()), |stored| stored.announced = announced);
            return self.announce_whole(subscription, ownership);
        }
        let refresh = ReplicaRefresh {
            key: dialog_key(subscription.dialog()),
            unchanged,
            stamp: ownership.stamp,
            remote_cseq: subscription.state.remote_cseq,
            expires: subscription.state.expires_at - clock::now(),
        };
        match refresh.to_json(self.node_name()) {
            Some(short) => {
                let receivers = self.receivers(subscription.get(Field::PresUri));
                self.send_as_they_read(receivers, &short, || self.announcement_text(subscription, ownership));
            }
            None => self.announce_whole(subscription, ownership),
        }
    }

    fn announce_whole(&self, subscription: Subscription, ownership: Ownership) {
        let uri = subscription.get(Field::PresUri).to_vec();
        self.send_of_presentity(&uri, &self.announcement_text(subscription, ownership));
    }

    /// Sends the nodes that learn of a change (`None`: all) either text.
    fn send_as_they_read(&self, receivers: Option<Vec<Address>>, short: &[u8], whole: impl FnOnce() -> Vec<u8>) {
        counters::count(Counter::DmqSent);
        let is_receiver =
            |to: &Address| receivers.as_ref().is_none_or(|receivers| receivers.contains(to)) && self.may_receive(to);
        let others = dmq::nodes().into_iter().filter(|node| node.active && !node.local && is_receiver(&node.address));
        let reads = |node: &dmq::DmqNode, version| self.shared.nodes.speaks(&node.address) >= Some(version);
        let (short_to, whole_to): (Vec<dmq::DmqNode>, Vec<dmq::DmqNode>) =
            others.partition(|node| reads(node, REFRESHES));
        let (unnamed_to, short_to): (Vec<_>, Vec<_>) = short_to.into_iter().partition(|node| reads(node, UNNAMED));
        let sealed = |text: &[u8]| self.sealed(Channel::Nodes, text);
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
}

/// Another node says that a subscription was refreshed.
pub fn apply(context: &mut Context<'_>, refresh: &ReplicaRefresh, name: &[u8], from: Option<&Address>) {
    node_clocks::observe(context, name, refresh.stamp);
    match refresh_replica(context, refresh) {
        RefreshOutcome::Done => {}
        RefreshOutcome::Spoken(subscription) => watchers::notify_of_state(context, subscription.dialog()),
        RefreshOutcome::Older(subscription, ownership) => {
            let text = context.announcement_text(*subscription, ownership);
            context.answer_node(from, &text);
        }
        RefreshOutcome::Unknown => ask_for(context, refresh.key, name, from),
    }
}

fn refresh_replica(parts: &Parts, refresh: &ReplicaRefresh) -> RefreshOutcome {
    let tables = &parts.shared.tables;
    let copy = |stored: &mut SubscriptionEntry| (stored.subscription.to_private(), stored.ownership);
    let Some((subscription, seen)) = tables.with_key(refresh.key, copy) else { return RefreshOutcome::Unknown };
    if parts.unchanged_of(&subscription, &seen) != refresh.unchanged {
        return RefreshOutcome::Unknown;
    }
    let said = |word, stamp| Version { word, stamp, ..Version::default() };
    let (mine, theirs) = (said(subscription.state.remote_cseq, seen.stamp), said(refresh.remote_cseq, refresh.stamp));
    if theirs < mine {
        return RefreshOutcome::Older(Box::new(subscription), seen);
    }
    let is_owned = parts.owns(&seen);
    let before = MergeBasis::of(&subscription, &seen);
    let mut is_same = false;
    let change = |stored: &mut SubscriptionEntry| {
        is_same = MergeBasis::of(&stored.subscription, &stored.ownership) == before;
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
        let want = parts.comparison_text(RecordKind::Subscriptions, &ExchangeMessage::Want(vec![key]));
        parts.answer_node(from, &want);
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
