//! Replicas that become this node's own: their numbers are moved on, their rows are written, the other nodes and their
//! watchers are notified.
use crate::cluster::numbers::{BLOCK, Ceiling, HIGHEST};
use crate::common::counters::{self, Counter};
use crate::host::{clock, log};
use crate::limited;
use crate::presence::error::StoreError;
use crate::presence::notification::StateChange;
use crate::presence::notification::notifier;
use crate::presence::ports::notifications::Notifications;
use crate::presence::ports::server::Server;
use crate::presence::subscription::SubscriptionState;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::server::announcing::ownership::{self, skip_sequence_numbers, take_over};
use crate::server::announcing::{arbitration, holders, subscriptions};
use crate::server::cluster::{consent, watchers};
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::{Awaited, Ownership, SubscriptionEntry};

/// Whether other nodes may object to a takeover before the watcher is notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Objections {
    /// The watcher is notified a second later, unless one objects.
    Awaited,
    /// The watcher is notified at once.
    NotAwaited,
}

/// How often the numbers of a subscription are moved on because its watcher answers 500, between two SUBSCRIBEs.
const MOST_RAISES: u8 = 3;

/// Moves a subscription of this node above the numbers of the NOTIFYs that another node has sent meanwhile; or takes
/// one back of which another node says that it is ours, though a third one may have gone on with it.
///
/// # Errors
///
/// Fails when the row cannot be written.
pub(super) fn raise_above(
    context: &mut Context<'_>,
    dialog: DialogId<'_>,
    objections: Objections,
) -> Result<(), StoreError> {
    let lease = context.shared.cluster_state.arbitration.lease();
    let claim = |stored: &mut SubscriptionEntry| {
        let steps = arbitration::steps_to_us(context, &stored.ownership).unwrap_or_default();
        take_over(&context.shared.tables, stored, lease, steps);
        if stored.ownership.awaits == Awaited::Nothing && objections == Objections::Awaited {
            stored.ownership.awaits = Awaited::Objections;
        }
    };
    match context.shared.tables.change_numbers(dialog, claim) {
        true => announce_takeover(context, dialog),
        false => Ok(()),
    }
}

/// A watcher has answered 500: another node may have sent it NOTIFYs with higher numbers than we know of (RFC 3261
/// 12.2.2). Ours go on far above, and it is notified again, [`MOST_RAISES`] times at most between two SUBSCRIBEs.
pub(crate) fn go_above_refused(context: &mut Context<'_>, dialog: DialogId<'_>, cseq: u32) {
    let raise = |stored: &mut SubscriptionEntry| {
        let (ownership, state) = (&mut stored.ownership, &mut stored.subscription.state);
        let is_raised = ownership.speaks_here()
            && arbitration::owns(context, ownership)
            && raise_above_refused(ownership, state, cseq);
        if is_raised {
            context.shared.tables.mark_replaced(state);
        }
        is_raised
    };
    let mut is_raised = false;
    context.shared.tables.change_numbers(dialog, |stored| is_raised = raise(stored));
    if is_raised {
        if let Err(error) = activate_replica(context, dialog) {
            limited!(Error, "the row of a subscription whose numbers were moved on cannot be written: {error}");
        }
    }
}

/// Makes a replica ours: its row is written, the other nodes and its watcher are notified.
///
/// # Errors
///
/// Fails when shared memory runs out, or the row cannot be written.
pub(super) fn of_replica(
    context: &mut Context<'_>,
    dialog: DialogId<'_>,
    objections: Objections,
) -> Result<(), StoreError> {
    let Some((replica, seen)) = ownership::owned_subscription(context, dialog) else { return Ok(()) };
    if arbitration::owns(context, &seen) {
        return Ok(());
    }
    let contact = own_contact(context.config.server_address, context.config.default_socket);
    let lease = context.shared.cluster_state.arbitration.lease();
    // What was another node's has changed hands at least once, also where it comes back to the lease it had.
    let changes_hands = u32::from(!seen.owner.is_here());
    let Some(steps) = arbitration::steps_to_us(context, &seen).map(|steps| steps.max(changes_hands)) else {
        return Ok(());
    };
    let claim = |stored: &mut SubscriptionEntry| {
        let of = |o: &Ownership| (o.owner, o.epoch, o.lease);
        // Another process may have been faster: the watcher is notified once.
        let is_first = of(&stored.ownership) == of(&seen);
        if is_first {
            take_over(&context.shared.tables, stored, lease, steps);
            stored.ownership.awaits = match objections {
                Objections::Awaited => Awaited::Objections,
                Objections::NotAwaited => Awaited::Nothing,
            };
        }
        is_first
    };
    match context.shared.tables.change(&replica, &sent_from_here(context, &contact), claim)? {
        true => announce_takeover(context, dialog),
        false => Ok(()),
    }
}

fn announce_takeover(context: &mut Context<'_>, dialog: DialogId<'_>) -> Result<(), StoreError> {
    counters::count(Counter::TakenOver);
    activate_replica(context, dialog)
}

/// The row, the other nodes and the watcher get numbers that were moved on.
fn activate_replica(context: &mut Context<'_>, dialog: DialogId<'_>) -> Result<(), StoreError> {
    let written = context.storage.subscriptions.write_taken_over(dialog);
    match ownership::held_ownership(context, dialog).map_or(Awaited::Nothing, |ownership| ownership.awaits) {
        Awaited::Nothing => {
            subscriptions::announce_subscription(context, dialog);
            watchers::notify_of_state(context, dialog);
        }
        Awaited::Objections => {
            subscriptions::announce_subscription(context, dialog);
            context.shared.cluster_state.note_claims(clock::instant());
        }
        // The answers to what was said before do not count for the new numbers.
        Awaited::Answers => {
            let known = ownership::owned_subscription(context, dialog);
            known.into_iter().for_each(|(subscription, _)| consent::ask_again(context, &subscription));
        }
    }
    written
}

/// Nobody else has gone on with the rest of what was read from the table at start: it is ours.
pub(super) fn of_restored(context: &mut Context<'_>) {
    let (tables, view) = (&context.shared.tables, holders::view(context));
    let mut resources = Vec::new();
    for mut shard in tables.shards() {
        let is_ours = |stored: &&mut SubscriptionEntry| {
            let uri = stored.subscription.get(Field::PresUri);
            stored.ownership.owner == NodeId::ELSEWHERE && view.as_ref().is_none_or(|view| view.is_served_here(uri))
        };
        for stored in shard.subscriptions_mut().filter(is_ours) {
            stored.ownership.owner = NodeId::HERE;
            resources.push((stored.subscription.get(Field::PresUri).to_vec(), stored.subscription.state.event));
        }
    }
    resources.sort_by(|a, b| (&a.0, a.1.0).cmp(&(&b.0, b.1.0)));
    resources.dedup();
    for (uri, event) in resources {
        // What has changed meanwhile was not announced.
        let resource = context.uri_rule().resource(&uri, event);
        if context.enqueue(&resource, StateChange::State { sender: b"", transient_body: None }) {
            notifier::run(context, &resource);
        }
    }
}

/// What changes of a subscription that this node sends for: its own socket and Contact, where it has been given any.
pub(super) fn sent_from_here<'a>(parts: &Parts, contact: &'a [u8]) -> Vec<(Field, &'a [u8])> {
    let own = [(Field::Socket, parts.config.default_socket), (Field::LocalContact, contact)];
    own.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// The Contact of a node that goes on with another node's subscription: its address, or its socket; empty for neither.
pub(super) fn own_contact(server_address: &[u8], socket: &[u8]) -> Vec<u8> {
    if !server_address.is_empty() || socket.is_empty() {
        return server_address.to_vec();
    }
    let text = log::show(socket).into_owned();
    match text.split_once(':') {
        Some((transport, address)) => format!("sip:{address};transport={transport}").into_bytes(),
        None => Vec::new(),
    }
}

/// Moves the numbers of a subscription on after a NOTIFY with this one was refused. `false`: they stay.
fn raise_above_refused(ownership: &mut Ownership, state: &mut SubscriptionState, refused: u32) -> bool {
    // Others under way were refused for the same reason.
    let is_latest = state.local_cseq.saturating_sub(refused) < BLOCK / 2;
    if !is_latest || ownership.raised >= MOST_RAISES {
        return false;
    }
    ownership.raised += 1;
    // A block more each time.
    let ceiling = ownership.ceiling.above(state.local_cseq);
    let raised = ceiling.saturating_add(BLOCK * u32::from(ownership.raised)).min(HIGHEST);
    ownership.ceiling = Ceiling::at(raised);
    skip_sequence_numbers(state, ownership.ceiling);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::subscription::Status;

    #[test]
    fn the_contact_names_the_socket() {
        assert_eq!(own_contact(b"", b"udp:10.0.0.1:5060"), b"sip:10.0.0.1:5060;transport=udp");
        assert_eq!(own_contact(b"", b"tcp:10.0.0.1:5060"), b"sip:10.0.0.1:5060;transport=tcp");
        assert_eq!(own_contact(b"sip:server", b"udp:10.0.0.1:5060"), b"sip:server");
        assert_eq!(own_contact(b"", b""), b"");
    }

    #[test]
    fn numbers_are_moved_on_three_times_between_two_subscribes() {
        let mut state = SubscriptionState::new(PackageId(0), Status::Active);
        let mut ownership = Ownership::default();
        let mut raised = 0;
        for _ in 0..5 {
            let refused = state.local_cseq;
            if raise_above_refused(&mut ownership, &mut state, refused) {
                raised += 1;
                assert!(state.local_cseq > refused + BLOCK / 2, "{refused}");
                // Another NOTIFY that was refused with the old number changes nothing.
                assert!(!raise_above_refused(&mut ownership, &mut state, refused));
            }
        }
        assert_eq!(raised, 3);
    }
}
