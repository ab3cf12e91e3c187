//! Subscriptions of other nodes: replicas that are kept as their owners announce them, and taken over when an owner is
//! lost.
use crate::cluster::numbers::Ceiling;
use crate::cluster::numbers::{BLOCK, HIGHEST};
use crate::cluster::version::Version;
use crate::common::counters::{self, Counter};
use crate::host::dmq::{Address, Channel};
use crate::host::{clock, log, shm};
use crate::limited;
use crate::presence::cluster::Ending;
use crate::presence::dialog::DialogId;
use crate::presence::error::{Failure, StoreError};
use crate::presence::notification::{NotifyReason, StateChange};
use crate::presence::ports::notifications::Notifications;
use crate::presence::ports::server::Server;
use crate::presence::ports::subscriptions::Stored;
use crate::presence::replica::Replica;
use crate::presence::replication::{NotifiedBy, ReceiptClock};
use crate::presence::subscription::{RowState, Status, Subscription, SubscriptionState};
use crate::presence::subscription_field::Field;
use crate::presence::winfo::{Extent, Watcher};
use crate::presence::{notifier, replication, watcher_changes};
use crate::server::cluster::announce::{skip_sequence_numbers, take_over};
use crate::server::cluster::node_id::NodeId;
use crate::server::context::Context;
use crate::server::tables::resource_entry::{DueNotify, ResourceEntry};
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use crate::sip::uri;
use crate::time::Seconds;

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

impl Context<'_> {
    /// Another node says that a subscription has ended.
    ///
    /// # Errors
    ///
    /// Fails when the rows of the subscription cannot be removed.
    pub fn on_termination(&mut self, ending: &Ending) -> Result<(), StoreError> {
        let Some((subscription, ownership)) = self.owned_subscription(ending.dialog()) else {
            // It may still be on its way.
            if ending.for_good {
                let until = clock::now() + Seconds::from(self.config.max_expires);
                self.record_dialog_removal(ending, until, Version::default());
            }
            return Ok(());
        };
        if ownership.owner.is_here() && !ending.for_good {
            return Ok(());
        }
        let version = self.announcement(subscription.clone(), ownership).claim.held().version;
        self.record_dialog_removal(ending, subscription.state.expires_at, version);
        self.forget_replica(ending.dialog())?;
        if ownership.owner.is_here() {
            // The nodes that hold a replica for us have not learnt of it either.
            self.send_of_presentity(subscription.get(Field::PresUri), &ending.to_json(self.node_name()));
        }
        self.notify_watched(&subscription, Status::Terminated);
        Ok(())
    }

    /// Removes a subscription here, and here alone.
    ///
    /// # Errors
    ///
    /// Fails when the row cannot be removed.
    pub(super) fn forget_replica(&mut self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        if let Some(mut shard) = tables.shard_of_dialog(hash) {
            if let Some(stored) = shard.find(dialog) {
                // The row, if there is one, belongs to the owner of the subscription.
                stored.ownership.owner = NodeId::ELSEWHERE;
            }
        }
        self.storage.subscriptions.remove(dialog).map(|_| ())
    }

    /// Puts a replica into the tables; `false` when another process was faster.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub(super) fn place_replica(&self, subscription: &Subscription, ownership: Ownership) -> Result<bool, StoreError> {
        let mut shared = subscription.map(shm::copy)?;
        shared.state.row_state = RowState::Clean;
        let _order = self.lock_for_write(&self.shared.tables.resource_of(subscription));
        Ok(self.shared.tables.place(shared, 0, ownership)? == Stored::New)
    }

    /// Ours counts, but another node has sent NOTIFYs with higher numbers meanwhile; or another node says that it is
    /// ours, and may not know who has gone on with it.
    ///
    /// # Errors
    ///
    /// Fails when the row cannot be written.
    pub(super) fn raise_above(&mut self, dialog: DialogId<'_>, objections: Objections) -> Result<(), StoreError> {
        let lease = self.shared.cluster_state.arbitration.lease();
        let claim = |stored: &mut SubscriptionEntry| {
            let steps = self.steps_to_us(&stored.ownership).unwrap_or_default();
            take_over(&self.shared.tables, stored, lease, steps);
            stored.ownership.is_claimed |= objections == Objections::Awaited;
        };
        match self.shared.tables.change_numbers(dialog, claim) {
            true => self.announce_takeover(dialog),
            false => Ok(()),
        }
    }

    /// A watcher has answered 500: another node may have sent it NOTIFYs with higher numbers than we know of (RFC 3261
    /// 12.2.2). Ours go on far above, and it is notified again, [`MOST_RAISES`] times at most between two SUBSCRIBEs.
    pub(crate) fn go_above_refused(&mut self, dialog: DialogId<'_>, cseq: u32) {
        let raise = |stored: &mut SubscriptionEntry| {
            let (ownership, state) = (&mut stored.ownership, &mut stored.subscription.state);
            let is_raised =
                ownership.speaks_here() && self.owns(ownership) && raise_above_refused(ownership, state, cseq);
            if is_raised {
                self.shared.tables.mark_replaced(state);
            }
            is_raised
        };
        let mut is_raised = false;
        self.shared.tables.change_numbers(dialog, |stored| is_raised = raise(stored));
        if is_raised {
            if let Err(error) = self.go_on_with(dialog) {
                limited!(Error, "the row of a subscription whose numbers were moved on cannot be written: {error}");
            }
        }
    }

    /// Makes a replica ours: its row is written, the other nodes and its watcher are notified.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or the row cannot be written.
    pub(super) fn activate_replica(&mut self, dialog: DialogId<'_>, objections: Objections) -> Result<(), StoreError> {
        let Some((replica, seen)) = self.owned_subscription(dialog) else { return Ok(()) };
        if self.owns(&seen) {
            return Ok(());
        }
        let socket = self.config.default_socket;
        let contact = own_contact(self.config.server_address, socket);
        let mut changes: Vec<(Field, &[u8])> = Vec::new();
        if !socket.is_empty() {
            changes.push((Field::Socket, socket));
        }
        if !contact.is_empty() {
            changes.push((Field::LocalContact, &contact));
        }
        let lease = self.shared.cluster_state.arbitration.lease();
        // What was another node's has changed hands at least once, also where it comes back to the lease it had.
        let changes_hands = u32::from(!seen.owner.is_here());
        let Some(steps) = self.steps_to_us(&seen).map(|steps| steps.max(changes_hands)) else { return Ok(()) };
        let claim = |stored: &mut SubscriptionEntry| {
            let of = |o: &Ownership| (o.owner, o.epoch, o.lease);
            // Another process may have been faster: the watcher is notified once.
            let is_first = of(&stored.ownership) == of(&seen);
            if is_first {
                take_over(&self.shared.tables, stored, lease, steps);
                stored.ownership.is_claimed = objections == Objections::Awaited;
            }
            is_first
        };
        match self.shared.tables.change(&replica, &changes, claim)? {
            true => self.announce_takeover(dialog),
            false => Ok(()),
        }
    }

    fn announce_takeover(&mut self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        counters::count(Counter::TakenOver);
        self.go_on_with(dialog)
    }

    /// The row, the other nodes and the watcher get numbers that were moved on.
    fn go_on_with(&mut self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        let written = self.storage.subscriptions.write_taken_over(dialog);
        self.announce_subscription(dialog);
        if self.is_claimed(dialog) {
            self.shared.cluster_state.note_claims(clock::instant());
            return written;
        }
        self.notify_of_subscribe(dialog)?;
        written
    }

    /// The watcher is notified of the present state, as after a SUBSCRIBE.
    ///
    /// # Errors
    ///
    /// Never fails: what cannot be sent is due again.
    pub(super) fn notify_of_subscribe(&mut self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        if self.waits_for_publications() {
            self.shared.tables.mark_due(dialog, NotifyReason::Subscribe);
            self.shared.nodes.joining.note_waiting();
        } else if let Some((subscription, _)) = self.owned_subscription(dialog) {
            let resource = self.shared.tables.resource_of(&subscription);
            if self.enqueue(&resource, StateChange::Subscription(dialog, NotifyReason::Subscribe)) {
                notifier::run(self, &resource);
            }
        }
        Ok(())
    }

    fn is_claimed(&self, dialog: DialogId<'_>) -> bool {
        self.owned_subscription(dialog).is_some_and(|(_, ownership)| ownership.is_claimed)
    }

    /// Notifies the watchers of what was taken over a second ago: nobody has objected.
    pub(super) fn notify_claimed(&mut self) {
        let tables = &self.shared.tables;
        for index in 0..tables.shard_count() {
            let (mut shard, mut due) = (tables.nth_shard(index), Vec::new());
            for stored in shard.subscriptions_mut().filter(|stored| stored.ownership.is_claimed) {
                stored.ownership.is_claimed = false;
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
        self.notify_waiting_watchers();
    }

    /// Whether the other nodes are still announcing to us what is published: a watcher notified now would see its lamp
    /// go out and on.
    pub(super) fn waits_for_publications(&self) -> bool {
        let asks = self.config.replicates && self.config.asks_for_all;
        asks && self.shared.nodes.joining.has_just_joined(clock::now(), self.config.started)
    }

    /// Notifies the watchers that had to wait for the publications of the other nodes.
    pub(super) fn notify_waiting_watchers(&mut self) {
        let (tables, mut due) = (&self.shared.tables, Vec::new());
        for index in 0..tables.shard_count() {
            due.extend(
                tables
                    .nth_shard(index)
                    .entries()
                    .filter(|entry| entry.due.has(DueNotify::Something) && !entry.busy)
                    .map(ResourceEntry::resource),
            );
        }
        for resource in due {
            if self.enqueue(&resource, StateChange::Due) {
                notifier::run(self, &resource);
            }
        }
    }

    pub(super) fn notify_watched(&mut self, subscription: &Subscription, status: Status) {
        let package = *self.packages.get(subscription.state.event);
        let watcher = || Watcher { status, ..Watcher::of(subscription) };
        watcher_changes::notify(self, &package, subscription.get(Field::PresUri), watcher, Extent::Full);
    }

    /// Who notifies the watchers of a change that is announced: with `skip_notify_dmq` the node that announces it.
    /// Where ours share subscriptions each notifies its own watchers and no others, so that a change of ours is never
    /// left to it.
    fn notified_by(&self, from: Option<&Address>) -> NotifiedBy {
        let by_stock = from.is_none_or(|from| self.shared.stock_nodes.has(from));
        match self.config.replicas_are_silent && (by_stock || !self.config.shares_subscriptions) {
            true => NotifiedBy::Announcer,
            false => NotifiedBy::ThisNode,
        }
    }

    /// By which clock a node says when it has received a publication.
    fn receipt_clock(&self, from: Option<&Address>) -> ReceiptClock {
        from.map_or(ReceiptClock::Own, |from| self.shared.nodes.receipt_clock(from))
    }

    /// Another node announces a publication; it is answered where we know better.
    ///
    /// # Errors
    ///
    /// Fails when a store fails, and when the event package is not known here.
    pub fn on_replica(&mut self, replica: &Replica, from: Option<&Address>) -> Result<(), Failure> {
        let correction = replication::apply(self, replica, self.notified_by(from), self.receipt_clock(from))?;
        self.note_replica_of(&uri::join(&replica.user, &replica.domain));
        if let (Some(correction), Some(from)) = (correction, from) {
            self.send_on(Channel::Publications, from, &correction.to_json());
        }
        Ok(())
    }

    /// Nobody else has gone on with the rest of what was read from the table at start: it is ours.
    pub(super) fn adopt_restored(&mut self) {
        let (tables, view) = (&self.shared.tables, self.view());
        let mut resources = Vec::new();
        for index in 0..tables.shard_count() {
            let mut shard = tables.nth_shard(index);
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
            let resource = self.uri_rule().resource(&uri, event);
            if self.enqueue(&resource, StateChange::State { sender: b"", transient_body: None }) {
                notifier::run(self, &resource);
            }
        }
    }
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
