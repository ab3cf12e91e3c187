//! What another node says of a subscription, and what is known of it here, become one: whose it is, and how.
use crate::cluster::clock::Stamp;
use crate::cluster::numbers::Ceiling;
use crate::cluster::numbers::Merge;
use crate::cluster::numbers::Role;
use crate::cluster::numbers::Side;
use crate::host::dmq::Address;
use crate::host::{clock, shm};
use crate::presence::error::StoreError;
use crate::presence::replication::node_messages::{Announcement, Ending, OwnershipClaim};
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{RowState, Status, Subscription};
use crate::server::announcing::ownership::{self, skip_sequence_numbers};
use crate::server::announcing::{arbitration, holders, node_clocks, node_names, sending, texts};
use crate::server::cluster::activation::{self, Objections};
use crate::server::cluster::{replicas, watchers};
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::server::tables::subscription_entry::{Awaited, Ownership};
use std::num::NonZeroU32;

/// How often an announcement is merged again because other processes have changed its subscription meanwhile.
pub(super) const TRIES: usize = 20;

/// What became of the merge of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merging {
    /// The merge is carried out.
    Done,
    /// The same, and this node knew something newer, which the other one is sent.
    NewerHere,
    /// Another process has changed the subscription meanwhile: nothing is changed.
    Overtaken,
}

/// What a merge goes by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MergeBasis {
    word: u32,
    status: Status,
    reason: Vec<u8>,
    owner: NodeId,
    epoch: u32,
    lease: Option<NonZeroU32>,
    stamp: Stamp,
    awaits: Awaited,
}

impl MergeBasis {
    pub(super) fn of_subscription<B: AsRef<[u8]>>(subscription: &Subscription<B>, ownership: &Ownership) -> MergeBasis {
        let Ownership { owner, epoch, lease, stamp, awaits, .. } = *ownership;
        let (word, status) = (subscription.state.remote_cseq, subscription.state.status);
        MergeBasis {
            word,
            status,
            reason: subscription.get(Field::Reason).to_vec(),
            owner,
            epoch,
            lease,
            stamp,
            awaits,
        }
    }
}

/// Whose a subscription is after a merge.
fn merged_ownership(merge: &Merge, mine: Ownership, theirs: Ownership) -> Ownership {
    let owned = if merge.owned_by.is_theirs() { theirs } else { Ownership { raised: 0, ..mine } };
    let is_same = (mine.owner, mine.epoch) == (theirs.owner, theirs.epoch);
    let lease = if is_same { mine.lease.max(theirs.lease) } else { owned.lease };
    let stamp = if merge.said_by.is_theirs() { theirs.stamp } else { mine.stamp };
    Ownership { stamp, ceiling: Ceiling::at(merge.ceiling), lease, ..owned }
}

/// A subscription as its watcher has asked for it, with the socket, the transport and the Contact of the node that owns
/// it.
fn with_owner_of(asked: &Subscription, owned: &Subscription) -> Result<Subscription, StoreError> {
    let of_owner = [Field::Socket, Field::LocalContact].map(|field| (field, owned.get(field)));
    let mut merged = asked.with(&of_owner)?;
    merged.state.transport = owned.state.transport;
    Ok(merged)
}

/// A subscription whose next numbers are above those that another owner may have used.
fn going_on_above(mut subscription: Subscription, above: Option<Ceiling>) -> Subscription {
    above.into_iter().for_each(|above| skip_sequence_numbers(&mut subscription.state, above));
    subscription
}

/// Another node says how a subscription is now.
///
/// # Errors
///
/// Fails when there is no memory for the node or the subscription, and when the database fails.
pub(super) fn apply(
    context: &mut Context<'_>,
    other: &Announcement,
    from: Option<&Address>,
) -> Result<Merging, StoreError> {
    for _ in 0..TRIES {
        match merge(context, other, from)? {
            Merging::Overtaken => {}
            merged => return Ok(merged),
        }
    }
    Err(StoreError::Busy)
}

fn merge(context: &mut Context<'_>, other: &Announcement, from: Option<&Address>) -> Result<Merging, StoreError> {
    let dialog = other.subscription.dialog();
    let owner = match other.claim.owner == node_names::node_name(context) {
        true => NodeId::HERE,
        false => context.shared.nodes.of_name(&other.claim.owner, clock::now())?,
    };
    let OwnershipClaim { epoch, stamp, ceiling, lease, .. } = other.claim;
    node_clocks::observe(context, &other.claim.owner, stamp);
    let ownership = Ownership { owner, epoch, stamp, ceiling: Ceiling::at(ceiling), lease, ..Ownership::default() };
    let Some((mine, own_ownership)) = ownership::owned_subscription(context, dialog) else {
        return take_new(context, other, ownership, from);
    };
    let seen = MergeBasis::of_subscription(&mine, &own_ownership);
    let is_owned = arbitration::owns(context, &own_ownership);
    let Announcement { subscription: mine, claim } = texts::announcement(context, mine, own_ownership);
    let (held, theirs) = (claim.held(), other.claim.held());
    let role = if is_owned { Role::Owner } else { Role::Replica };
    let merge = match context.config.has_arbiter() {
        false => held.merge(role, &theirs),
        true => held.merge_arbitrated(role, &theirs),
    };
    // Nodes that do not stamp announce their changes all the same.
    let (one, two) = (held.version, theirs.version);
    let is_unstamped = stamp == Stamp::default() && !is_owned;
    let is_later = is_unstamped && (one.word, one.epoch, one.owner) == (two.word, two.epoch, two.owner);
    // Rows of a start do not say whose they are: another node says that this one was ours.
    let is_ours_again = own_ownership.owner == NodeId::ELSEWHERE && owner.is_here() && merge.said_by.is_theirs();
    let theirs_if = |holds, side| if holds { Side::Theirs } else { side };
    let owned_by = theirs_if(is_later || is_ours_again, merge.owned_by);
    let merge = Merge { said_by: theirs_if(is_later, merge.said_by), owned_by, ..merge };
    let merged = merged_ownership(&merge, own_ownership, ownership);
    // Two owners may have used the same numbers: what goes on goes on above them.
    let above = held.is_overtaken(&theirs, &merge).then_some(merged.ceiling);
    let accepted = match (merge.said_by, merge.owned_by) {
        (Side::Theirs, Side::Theirs) => {
            accept(context, &going_on_above(other.subscription.clone(), above), merged, &seen)?
        }
        (Side::Theirs, Side::Mine) => {
            let asked = with_owner_of(&other.subscription, &mine)?;
            accept(context, &going_on_above(asked, above), merged, &seen)?
        }
        (Side::Mine, Side::Theirs) => {
            let moved = with_owner_of(&mine, &other.subscription)?;
            accept(context, &going_on_above(moved, above), merged, &seen)?
        }
        (Side::Mine, Side::Mine) => take_numbers(context, dialog, &merged, above, &seen),
    };
    if accepted == Merging::Overtaken {
        return Ok(accepted);
    }
    if merge.said_by.is_theirs() && !merge.speak && context.config.has_arbiter() && arbitration::owns(context, &merged)
    {
        // The watcher has spoken to another node: its subscription stays here.
        watchers::notify_of_state(context, dialog);
    } else if merge.speak || merge.owned_by.is_theirs() && owner.is_here() && arbitration::may_claim(context, &merged) {
        let objections = if merge.speak { Objections::NotAwaited } else { objections(context) };
        activation::raise_above(context, dialog, objections)?;
        return Ok(merged_by(&merge));
    }
    if merge.answers && !is_unstamped {
        answer_with_ours(context, dialog, from);
    }
    Ok(merged_by(&merge))
}

/// Sends a node what this one holds of a subscription.
fn answer_with_ours(context: &Context<'_>, dialog: DialogId<'_>, to: Option<&Address>) {
    if let Some((mine, ownership)) = ownership::owned_subscription(context, dialog) {
        sending::answer_node(context, to, &texts::announcement_text(context, mine, ownership));
    }
}

fn merged_by(merge: &Merge) -> Merging {
    if merge.answers { Merging::NewerHere } else { Merging::Done }
}

fn take_new(
    context: &mut Context<'_>,
    other: &Announcement,
    ownership: Ownership,
    from: Option<&Address>,
) -> Result<Merging, StoreError> {
    let subscription = &other.subscription;
    let dialog = subscription.dialog();
    let tombstones = context.shared.tombstones;
    if tombstones.has_version(tombstones.of_dialog(dialog), &other.claim.held().version) {
        let ending = Ending {
            call_id: dialog.call_id.to_vec(),
            to_tag: dialog.to_tag.to_vec(),
            from_tag: dialog.from_tag.to_vec(),
            for_good: true,
        };
        sending::answer_node(context, from, &ending.to_json(node_names::node_name(context)));
        return Ok(Merging::NewerHere);
    }
    if subscription.state.expires_at <= clock::now() {
        return Ok(Merging::Done);
    }
    let (here, may_claim) = (ownership.owner.is_here(), arbitration::may_claim(context, &ownership));
    if !replicas::place(
        context,
        subscription,
        if here && may_claim { Ownership { owner: NodeId::ELSEWHERE, ..ownership } } else { ownership },
    )? {
        // Another process was faster: what it has put there may be newer.
        return Ok(Merging::Overtaken);
    }
    holders::note_replica_of(context, subscription.get(Field::PresUri));
    if here && may_claim {
        // What others hold for us was lost here: it goes on, unless another node has gone on with it.
        activation::of_replica(context, dialog, objections(context))?;
    }
    watchers::notify_of_status(context, subscription, subscription.state.status);
    Ok(Merging::Done)
}

/// A node that says a subscription is ours may not know that another one has gone on with it; the arbiter does.
fn objections(context: &Context<'_>) -> Objections {
    if context.config.has_arbiter() { Objections::NotAwaited } else { Objections::Awaited }
}

/// Puts what was merged in the place of the subscription that was `seen`, unless another process has changed that
/// meanwhile. Its row, if it has one, belongs to its owner.
///
/// # Errors
///
/// Fails when shared memory runs out, or the row cannot be written.
pub(super) fn accept(
    context: &mut Context<'_>,
    merged: &Subscription,
    ownership: Ownership,
    seen: &MergeBasis,
) -> Result<Merging, StoreError> {
    let dialog = merged.dialog();
    let mut fresh = merged.map(shm::copy)?;
    let hash = context.shared.tables.dialog_hash(dialog);
    let before = {
        // It has ended meanwhile.
        let Some(mut shard) = context.shared.tables.shard_of_dialog(hash) else { return Ok(Merging::Done) };
        let Some(stored) = shard.find(dialog) else { return Ok(Merging::Done) };
        let known = &stored.subscription.state;
        if MergeBasis::of_subscription(&stored.subscription, &stored.ownership) != *seen {
            return Ok(Merging::Overtaken);
        }
        let state = &mut fresh.state;
        state.local_cseq = state.local_cseq.max(known.local_cseq);
        state.version = state.version.max(known.version);
        // The row is its owner's.
        state.row_state = RowState::Clean;
        if ownership.owner.is_here() {
            state.row_state = known.row_state;
            context.shared.tables.mark_changed(state);
        }
        let ceiling = ownership.ceiling.max(stored.ownership.ceiling);
        stored.ownership = Ownership { ceiling, ..ownership };
        std::mem::replace(&mut stored.subscription, fresh)
    };
    if before.state.status != merged.state.status {
        watchers::notify_of_status(context, merged, merged.state.status);
    }
    Ok(Merging::Done)
}

/// The numbers that another node has used, and the lease of an owner that both know, in whatever order they come.
fn take_numbers(
    context: &Context<'_>,
    dialog: DialogId<'_>,
    merged: &Ownership,
    above: Option<Ceiling>,
    seen: &MergeBasis,
) -> Merging {
    let mut merging = Merging::Done;
    context.shared.tables.change_numbers(dialog, |stored| {
        if MergeBasis::of_subscription(&stored.subscription, &stored.ownership) != *seen {
            merging = Merging::Overtaken;
            return;
        }
        stored.ownership.ceiling = stored.ownership.ceiling.max(merged.ceiling);
        stored.ownership.lease = merged.lease;
        above.into_iter().for_each(|above| skip_sequence_numbers(&mut stored.subscription.state, above));
    });
    merging
}
