//! What this node announces to the others of its subscriptions, and whose a subscription is.
use crate::cluster::numbers::{BLOCK, Ceiling, HIGHEST, above_takeover_margin, reserve};
use crate::cluster::version::Version;
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::limited;
use crate::presence::cluster::{self, Announcement, Ending, OwnershipClaim};
use crate::presence::comparison::{Comparison, RecordKind};
use crate::presence::dialog::DialogId;
use crate::presence::subscription::{Subscription, SubscriptionState};
use crate::presence::subscription_field::Field;
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::Tables;
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use crate::time::Moment;
use std::num::{NonZeroU32, NonZeroU64};

/// Moves the numbers on beyond what another node can have sent: above what it has reserved, or a block where that is
/// not known.
pub(crate) fn skip_sequence_numbers(state: &mut SubscriptionState, ceiling: Ceiling) {
    let step = ceiling.known().map_or(BLOCK, |number| number.saturating_sub(state.local_cseq));
    state.local_cseq = state.local_cseq.saturating_add(step).min(HIGHEST);
    state.version = state.version.saturating_add(step).min(HIGHEST);
}

/// Makes a replica ours, under our lease where there is an arbiter, after so many changes of hands.
pub(crate) fn take_over(tables: &Tables, stored: &mut SubscriptionEntry, lease: Option<NonZeroU32>, steps: u32) {
    stored.catches_up = true;
    let mut ownership = stored.ownership;
    if lease.is_some() {
        let known = ownership.ceiling.above(stored.subscription.state.local_cseq);
        ownership.ceiling = Ceiling::at(above_takeover_margin(known, steps));
    }
    skip_sequence_numbers(&mut stored.subscription.state, ownership.ceiling);
    let epoch = ownership.epoch.saturating_add(steps);
    stored.ownership = Ownership { owner: NodeId::HERE, epoch, lease, ..ownership };
    tables.mark_replaced(&mut stored.subscription.state);
}

/// How far a subscription has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// For good: no node may go on with it.
    ForGood,
    /// As far as this node is concerned: another one may know a newer state.
    Here,
}

impl Parts {
    /// How this node calls itself; empty while dmq does not know.
    pub fn node_name(&self) -> &'static [u8] {
        let known = self.node_name;
        if let Some(name) = known.get() {
            return name;
        }
        match dmq::nodes().into_iter().find(|node| node.local) {
            Some(own) => known.get_or_init(|| own.address.name()),
            None => b"",
        }
    }

    pub(crate) fn send_to_nodes(&self, body: &[u8]) {
        if !self.broadcast_on(Channel::Nodes, body) {
            limited!(Error, "a change of a subscription could not be sent to the other nodes");
        }
    }

    /// A comparison message of this node.
    pub(crate) fn comparison_text(&self, kind: RecordKind, message: &Comparison) -> Vec<u8> {
        cluster::compare(self.node_name(), kind, message, self.shared.cluster_state.tick())
    }

    /// Says how a subscription to this presentity is, to all nodes that hold it.
    pub(crate) fn send_of_presentity(&self, uri: &[u8], body: &[u8]) {
        if !self.send_to_holders(Channel::Nodes, uri, body) {
            limited!(Error, "a change of a subscription could not be sent to the other nodes");
        }
    }

    pub(crate) fn send_to_node(&self, to: &Address, body: &[u8]) -> bool {
        self.send_on(Channel::Nodes, to, body)
    }

    /// Answers the node that announced something; every node, when dmq does not know which it was.
    pub(crate) fn answer_node(&self, from: Option<&Address>, body: &[u8]) {
        if !from.is_some_and(|from| self.send_to_node(from, body)) {
            self.send_to_nodes(body);
        }
    }

    pub(crate) fn owner_name(&self, owner: NodeId) -> Vec<u8> {
        // What was read from our table and is not settled yet is ours, unless another node knows better.
        match owner {
            NodeId::HERE | NodeId::ELSEWHERE => self.node_name().to_vec(),
            owner if owner.is_stock() => self.shared.stock_nodes.name(owner),
            owner => self.shared.nodes.name(owner),
        }
    }

    /// A subscription that is here, and whose it is.
    pub(crate) fn owned_subscription(&self, dialog: DialogId<'_>) -> Option<(Subscription, Ownership)> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        let mut shard = tables.shard_of_dialog(hash)?;
        shard.find(dialog).map(|stored| (stored.subscription.to_private(), stored.ownership))
    }

    /// Whether this node sends the NOTIFYs of a subscription.
    pub(crate) fn is_owned(&self, dialog: DialogId<'_>) -> bool {
        !self.config.shares_subscriptions || self.held_ownership(dialog).is_none_or(|ownership| self.owns(&ownership))
    }

    /// The name of the node that sends the NOTIFYs of a subscription; empty where nodes do not share them.
    pub fn node_of(&self, dialog: DialogId<'_>) -> Vec<u8> {
        match self.config.shares_subscriptions {
            true => self
                .owned_subscription(dialog)
                .map(|(_, ownership)| self.owner_name(ownership.owner))
                .unwrap_or_default(),
            false => Vec::new(),
        }
    }

    pub(crate) fn announcement(&self, subscription: Subscription, ownership: Ownership) -> Announcement {
        let (remote_cseq, local_cseq) = (subscription.state.remote_cseq, subscription.state.local_cseq);
        let Ownership { owner, epoch, stamp, ceiling, lease, .. } = ownership;
        let claim = OwnershipClaim {
            remote_cseq,
            epoch,
            owner: self.owner_name(owner),
            stamp,
            lease,
            ceiling: ceiling.above(local_cseq),
            local_cseq,
        };
        Announcement { subscription, claim }
    }

    pub(crate) fn announcement_text(&self, subscription: Subscription, ownership: Ownership) -> Vec<u8> {
        self.announcement(subscription, ownership).to_json(self.node_name(), self.packages(), clock::now())
    }

    /// Announces to the other nodes how a subscription of ours is now.
    pub(crate) fn announce_subscription(&self, dialog: DialogId<'_>) {
        if !self.config.shares_subscriptions {
            return;
        }
        if let Some((subscription, ownership, announced)) = self.stamped(dialog) {
            self.announce_to_stock(&subscription);
            self.note_place_of(subscription.get(Field::PresUri));
            self.announce_change(subscription, ownership, announced);
        }
    }

    /// A subscription of ours as it is announced: with a new stamp, and enough numbers reserved; and the digest of what
    /// was announced last.
    pub(crate) fn stamped(&self, dialog: DialogId<'_>) -> Option<(Subscription, Ownership, Option<NonZeroU64>)> {
        let tables = &self.shared.tables;
        let stamp = self.shared.cluster_state.tick();
        let mut shard = tables.shard_of_dialog(tables.dialog_hash(dialog))?;
        let is_arbitrated = self.config.has_arbiter();
        let is_announced = |ownership: &Ownership| self.owns(ownership) || is_arbitrated;
        let stored = shard.find(dialog).filter(|stored| is_announced(&stored.ownership))?;
        let is_owned = self.owns(&stored.ownership);
        let ownership = &mut stored.ownership;
        if is_owned && is_arbitrated {
            ownership.lease = self.shared.cluster_state.arbitration.lease();
        }
        ownership.stamp = stamp.max(ownership.stamp);
        if let Some(ceiling) = reserve(stored.subscription.state.local_cseq, ownership.ceiling).filter(|_| is_owned) {
            ownership.ceiling = Ceiling::at(ceiling);
        }
        Some((stored.subscription.to_private(), stored.ownership, stored.announced))
    }

    /// Announces to the other nodes that a subscription has ended.
    pub(crate) fn announce_end(&self, removed: &Subscription, ownership: Ownership, ends: Ends) {
        if !self.config.shares_subscriptions {
            return;
        }
        let ending = Ending {
            call_id: removed.get(Field::CallId).to_vec(),
            to_tag: removed.get(Field::ToTag).to_vec(),
            from_tag: removed.get(Field::FromTag).to_vec(),
            for_good: ends == Ends::ForGood,
        };
        let version = self.announcement(removed.clone(), ownership).claim.held().version;
        self.record_dialog_removal(&ending, removed.state.expires_at, version);
        self.announce_to_stock_end(removed);
        let (uri, text) = (removed.get(Field::PresUri), ending.to_json(self.node_name()));
        let name = [&ending.call_id[..], &ending.from_tag, &ending.to_tag];
        self.note_removal(RecordKind::Subscriptions, uri, name, &text, removed.state.expires_at);
        self.send_of_presentity(uri, &text);
    }

    /// Remembers that a subscription has ended: for good, or as its owner knew it.
    pub(crate) fn record_dialog_removal(&self, ending: &Ending, until: Moment, version: Version) {
        let tombstones = self.shared.tombstones;
        let word = if ending.for_good { Version::ENDED } else { version.word };
        tombstones.record_removal(tombstones.of_dialog(ending.dialog()), until, Version { word, ..version });
    }
}
