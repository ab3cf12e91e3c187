//! Subscriptions in memory (modes 0, 1, 2): added, renewed, ended, listed, and written where the mode promises it.
use crate::common::row_groups::{Pass, RowBackoff};
use crate::host::lock::Guard;
use crate::host::shm;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::expiry;
use crate::presence::notification::NotifyReason;
use crate::presence::ports::subscriptions::{NewDialog, Renewed, Stored};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Renewal, Status, Subscription, SubscriptionState};
use crate::server::announcing::claims::SubscriptionClaim;
use crate::server::announcing::subscriptions::{self, Ends};
use crate::server::announcing::{arbitration, claims, holders, ownership};
use crate::server::nodes::node_id::NodeId;
use crate::server::notifications::row_run::RowWork;
use crate::server::shared::Parts;
use crate::server::subscriptions::rows_behind::RowsBehind;
use crate::server::subscriptions::store::{End, SubscriptionRows, SubscriptionStore};
use crate::server::tables::resource_entry::{DueNotify, ResourceEntry};
use crate::server::tables::subscription_entry::{Awaited, Ownership, SharedSubscription, SubscriptionEntry};
use crate::server::tables::watched::FinalNotify;
use crate::server::tables::{Shard, watcher_hash};
use crate::time::{Moment, Seconds};
use std::ops::Deref;

/// How often a subscription that others change meanwhile is read again before it is taken out.
const TRIES: usize = 20;

/// How long the owner of a replica that has run out may take to say so, in seconds.
const REPLICA_GRACE: Seconds = Seconds(60);

/// Subscriptions in shared memory, and what stands behind them.
pub(crate) struct MemorySubscriptions {
    parts: Parts,
    rows: &'static dyn RowsBehind,
}

impl Deref for MemorySubscriptions {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl SubscriptionStore for MemorySubscriptions {
    fn subscribe(
        &self,
        _: &mut RowWork,
        subscription: &Subscription,
        resource: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError> {
        let mut shared = subscription.map(shm::copy)?;
        // Two copies of one SUBSCRIBE may be handled side by side: the dialog belongs to the first.
        let tables = &self.shared.tables;
        let Some(claim) = tables.claim_dialog(dialog.0, resource.hash)? else { return Ok(Stored::Known) };
        // The NOTIFY that rejects a watcher is the first of its dialog and not counted.
        let ahead = u32::from(subscription.state.status != Status::Terminated);
        shared.state.version += 1 - ahead;
        let row = self.rows.add(subscription, ahead)?;
        shared.state.row_state = row.row_state;
        match tables.place_claimed(claim, resource, shared, row.cseq, Ownership::default()) {
            Ok(()) => subscriptions::announce_subscription(self, subscription.dialog()),
            Err(no_memory) => {
                self.rows.removed(subscription.dialog());
                return Err(no_memory.into());
            }
        }
        Ok(Stored::New)
    }

    fn find_recent(&self, dialog: DialogId<'_>, hash: u64) -> Result<Option<Subscription>, StoreError> {
        Ok(self.shared.tables.find_at(dialog, hash))
    }

    fn find(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        Ok(self.shared.tables.find(dialog))
    }

    fn renew(&self, _: &mut RowWork, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        let (before, change) = match self.renew_where_it_is(current, renewal)? {
            RenewedWhere::Here(before, change) => (before, change),
            RenewedWhere::Elsewhere(renewed) => return Ok(renewed),
        };
        if let Err(error) = self.rows.changed(current.dialog()) {
            self.take_back(current, renewal, &before);
            return Err(error);
        }
        self.announce_renewal(current.dialog(), &change);
        Ok(Renewed::Done)
    }

    /// The row is not written once more before it is removed; where it cannot be removed now, it is later.
    fn unsubscribe(
        &self,
        _: &mut RowWork,
        current: &Subscription,
        renewal: &Renewal<'_>,
    ) -> Result<Renewed, StoreError> {
        match self.renew_where_it_is(current, renewal)? {
            RenewedWhere::Here(_, change) => self.announce_renewal(current.dialog(), &change),
            RenewedWhere::Elsewhere(Renewed::Done) => {}
            RenewedWhere::Elsewhere(other) => return Ok(other),
        }
        match self.take_out(current.dialog(), Some(End::Unsubscribed)) {
            Ok(ended) => Ok(ended.map_or(Renewed::Gone, |_| Renewed::Done)),
            Err(error) => {
                self.take_back(current, renewal, &current.state);
                subscriptions::announce_subscription(self, current.dialog());
                Err(error)
            }
        }
    }

    fn end(&self, _: &mut RowWork, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError> {
        Ok(self.take_out(dialog, Some(End::For(reason)))?.is_some())
    }

    fn remove(&self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.take_out(dialog, None)
    }

    fn subscriptions_to(&self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        Ok(self.shared.tables.subscriptions_to(resource))
    }

    fn watcher_count(&self, resource: &Resource) -> Result<usize, StoreError> {
        Ok(self.shared.tables.watcher_count(resource))
    }

    fn count_of_watcher(&self, subscription: &Subscription) -> Result<usize, StoreError> {
        let tables = &self.shared.tables;
        Ok(tables.watchers.count_of(watcher_hash(tables, subscription)))
    }

    fn may_be_watched(&self, resource: &Resource) -> bool {
        self.shared.tables.is_watched(resource)
    }

    fn may_be_subscribed_to(&self, event: PackageId) -> bool {
        self.shared.tables.was_subscribed_to(event)
    }

    /// What cannot be ended now is named in the log, and stands in nobody's way.
    fn end_expired(&self, _: &mut RowWork, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let tables = &self.shared.tables;
        let mut ended = Vec::new();
        for index in 0..tables.shard_count() {
            let mut passed_over = 0;
            while ended.len() < limit {
                let due: Vec<Subscription> = {
                    let shard = tables.nth_shard(index);
                    let over = shard.subscriptions().filter(|m| self.has_expired(m, now)).skip(passed_over);
                    over.take(limit - ended.len()).map(|m| m.subscription.to_private()).collect()
                };
                if due.is_empty() {
                    break;
                }
                for subscription in due {
                    match self.end_if_over(&subscription, now) {
                        Ok(true) => ended.push(subscription),
                        Ok(false) => passed_over += 1,
                        Err(error) => {
                            passed_over += 1;
                            log_not_ended(&subscription, error);
                        }
                    }
                }
            }
        }
        Ok(ended)
    }

    fn set_authorization(
        &self,
        _: &mut RowWork,
        dialog: DialogId<'_>,
        authorization: &Authorization,
    ) -> Result<bool, StoreError> {
        let Some(current) = self.shared.tables.find(dialog) else { return Ok(false) };
        let known = current.state.status == authorization.status && current.get(Field::Reason) == authorization.reason;
        if known || !ownership::is_served_here(self, dialog) {
            return Ok(false);
        }
        let changed = self.shared.tables.change(&current, &[(Field::Reason, &authorization.reason)], |stored| {
            stored.subscription.state.status = authorization.status;
            if stored.ownership.owner.is_stock() {
                stored.due = Some(NotifyReason::Change);
            }
            stored.aside = RowBackoff::default();
            self.shared.tables.mark_changed(&mut stored.subscription.state);
            true
        })?;
        if changed {
            if authorization.status != Status::Active || !authorization.reason.is_empty() {
                self.rows.restricted(dialog);
            }
            if let Err(error) = self.rows.changed(dialog) {
                // The decision holds in memory; a start before the row is written judges the watcher anew.
                crate::limited!(Error, "a watcher's new authorization is not in its row yet: {error}");
            }
            subscriptions::announce_subscription(self, dialog);
        }
        Ok(changed)
    }

    fn each(&self, take: &mut dyn FnMut(Subscription) -> bool) -> Result<(), StoreError> {
        let tables = &self.shared.tables;
        for index in 0..tables.shard_count() {
            let copies: Vec<Subscription> =
                tables.nth_shard(index).subscriptions().map(|stored| stored.subscription.to_private()).collect();
            if !copies.into_iter().all(&mut *take) {
                break;
            }
        }
        Ok(())
    }

    fn row_timing(&self) -> SubscriptionRows {
        self.rows.row_timing()
    }

    fn write_taken_over(&self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        self.rows.changed(dialog)
    }

    fn delete_row(&self, dialog: DialogId<'_>) {
        self.rows.removed(dialog);
    }

    fn restore(&self) -> Result<usize, StoreError> {
        self.rows.restore()
    }

    fn write_back(&self, pass: Pass) -> Result<usize, StoreError> {
        self.rows.write_back(pass)
    }

    fn clock_was_set(&self) {
        if self.rows.row_timing() == SubscriptionRows::None {
            return;
        }
        for mut shard in self.shared.tables.shards() {
            shard
                .subscriptions_mut()
                .for_each(|stored| self.shared.tables.mark_changed(&mut stored.subscription.state));
        }
    }
}

/// A subscription that is about to leave the tables, under the lock of its shard.
struct Leaving<'t> {
    slot: u32,
    resource: Resource,
    /// What its last NOTIFY is made of, where it has one.
    last: Option<SharedSubscription>,
    shard: Guard<'t, Shard>,
}

/// Leaves the last NOTIFY of a subscription that was taken out in the queue of its resource: there is room.
fn leave_final_notify(
    entry: &mut ResourceEntry,
    stored: &SubscriptionEntry,
    mut last: SharedSubscription,
    end: End<'_>,
) {
    last.state = stored.subscription.state;
    if !stored.ownership.owner.is_here() {
        ownership::skip_sequence_numbers(&mut last.state, stored.ownership.ceiling);
    }
    last.state.local_cseq += 1;
    last.state.version += 1;
    if end != End::Unsubscribed {
        last.state.status = Status::Terminated;
    }
    let _ = entry.push_final_notify(FinalNotify { subscription: last, notify_reason: end.notify_reason() });
    entry.due.add(DueNotify::Something);
}

impl MemorySubscriptions {
    /// The store over `rows`.
    pub(crate) fn new(parts: Parts, rows: &'static dyn RowsBehind) -> MemorySubscriptions {
        MemorySubscriptions { parts, rows }
    }

    /// Renews a subscription in the tables, as soon as it is clear whose it is.
    fn renew_where_it_is(&self, current: &Subscription, renewal: &Renewal<'_>) -> Result<RenewedWhere, StoreError> {
        for _ in 0..TRIES {
            return Ok(match self.renew_in_memory(current, renewal)? {
                Attempt::ChangedHands => continue,
                Attempt::Done(before, change) => RenewedWhere::Here(before, change),
                Attempt::Overtaken(now) => RenewedWhere::Elsewhere(Renewed::Overtaken(now)),
                Attempt::Gone => RenewedWhere::Elsewhere(Renewed::Gone),
                Attempt::StaysElsewhere => {
                    subscriptions::announce_subscription(self, current.dialog());
                    RenewedWhere::Elsewhere(Renewed::Done)
                }
            });
        }
        Err(StoreError::Busy)
    }

    /// The other nodes learn of a renewal, and its former owner that it is ours.
    fn announce_renewal(&self, dialog: DialogId<'_>, change: &ChangeOfHands) {
        if let Some((claim, ticket)) = change.claim.as_ref().and_then(|claim| Some((claim, claim.ticket?))) {
            return claims::announce_claim(self, dialog, claim, ticket);
        }
        subscriptions::announce_subscription(self, dialog);
        change.former.into_iter().for_each(|former| holders::announce_to_former(self, dialog, former));
    }

    /// Renews a subscription in the tables alone.
    fn renew_in_memory(&self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Attempt, StoreError> {
        let (now, stays) = (crate::host::clock::now(), self.stays_elsewhere(current.dialog()));
        // Where a subscription stays with another node, that node's socket and Contact stay, too.
        let strings = if stays { renewal.of_watcher() } else { renewal.changes() };
        let mut claim = claims::claim_of(self, current);
        let mut attempt = Attempt::Gone;
        self.shared.tables.change(current, &strings, |stored| {
            // What a later SUBSCRIBE has made of it stays.
            if stored.subscription.state.remote_cseq != current.state.remote_cseq {
                attempt = Attempt::Overtaken(Box::new(stored.subscription.to_private()));
                return false;
            }
            // Under an arbiter it stays with the owner, who sends the NOTIFY when it learns of the SUBSCRIBE.
            let is_owned = arbitration::owns(self, &stored.ownership);
            let steps = if is_owned { None } else { arbitration::steps_to_us(self, &stored.ownership) };
            let claims = claims::has_to_claim(self, &stored.ownership);
            if stays != (!is_owned && steps.is_none()) || claims != claim.is_some() {
                attempt = Attempt::ChangedHands;
                return false;
            }
            attempt = match stays {
                true => Attempt::StaysElsewhere,
                false => {
                    let former = steps.map(|_| stored.ownership.owner);
                    stored.ownership.awaits = claim.as_ref().map_or(Awaited::Nothing, |claim| claim.awaits);
                    Attempt::Done(stored.subscription.state, ChangeOfHands { former, claim: claim.take() })
                }
            };
            stored.aside = RowBackoff::default();
            if let Some(steps) = steps {
                ownership::take_over(&self.shared.tables, stored, self.shared.cluster_state.arbitration.lease(), steps);
            }
            stored.ownership.raised = 0;
            let state = &mut stored.subscription.state;
            state.expires_at = renewal.expires_at;
            state.remote_cseq = renewal.remote_cseq;
            state.refreshed_at = Some(now);
            if !stays {
                state.transport = renewal.transport;
                self.shared.tables.mark_changed(state);
                self.rows.renewed(state);
            }
            true
        })?;
        Ok(attempt)
    }

    /// Whether a SUBSCRIBE does not make a subscription ours: an arbiter says whose it is.
    fn stays_elsewhere(&self, dialog: DialogId<'_>) -> bool {
        self.config.has_arbiter()
            && ownership::held_ownership(self, dialog)
                .is_some_and(|held| !arbitration::owns(self, &held) && !arbitration::may_claim(self, &held))
    }

    /// Undoes a renewal whose row could not be written, or whose end could not be carried out: what is answered 500 has
    /// not happened, and the same SUBSCRIBE may come again. What NOTIFYs have counted up meanwhile, what was decided
    /// about the watcher, and what a later SUBSCRIBE has made of it stay.
    fn take_back(&self, before: &Subscription, renewal: &Renewal<'_>, state: &SubscriptionState) {
        let strings: Vec<_> = renewal.changes().iter().map(|(field, _)| (*field, before.get(*field))).collect();
        let undone = self.shared.tables.change(before, &strings, |stored| {
            let now = &mut stored.subscription.state;
            if now.remote_cseq != renewal.remote_cseq {
                return false;
            }
            (now.expires_at, now.remote_cseq, now.refreshed_at, now.transport) =
                (state.expires_at, state.remote_cseq, state.refreshed_at, state.transport);
            true
        });
        if let Err(error) = undone {
            crate::limited!(Error, "a renewal that could not be written stays in memory: {error}");
        }
    }

    /// Takes a stored subscription out of the tables; `final_notify` gives it a last NOTIFY.
    fn take_out(
        &self,
        dialog: DialogId<'_>,
        final_notify: Option<End<'_>>,
    ) -> Result<Option<Subscription>, StoreError> {
        let tables = &self.shared.tables;
        let (hash, rule) = (tables.dialog_hash(dialog), tables.rule());
        let Some(Leaving { slot, resource, last, mut shard }) = self.read_last(dialog, hash, final_notify)? else {
            return Ok(None);
        };
        if let Some(entry) = shard.entry(rule, &resource).filter(|_| final_notify.is_some()) {
            entry.reserve_final_notify()?;
        }
        let Some(stored) = shard.remove(slot, dialog) else { return Ok(None) };
        if let (Some(end), Some(last), Some(entry)) = (final_notify, last, shard.entry(rule, &resource)) {
            leave_final_notify(entry, &stored, last, end);
        }
        shard.drop_idle_entry(rule, &resource);
        drop(shard);
        // As long as the dialog has its place, nobody else gives it a key.
        tables.forget_key(dialog);
        tables.unplace_dialog(hash);
        if tables.watchers.are_kept() {
            tables.watchers.subtract(watcher_hash(tables, &stored.subscription));
        }
        let removed = stored.subscription.to_private();
        let (ownership, owner) = (stored.ownership, stored.ownership.owner);
        drop(stored);
        if owner.is_here() {
            self.rows.removed(dialog);
        }
        let by_watcher = final_notify == Some(End::Unsubscribed);
        if owner.is_here() || final_notify.is_some() {
            let ends = if by_watcher || !owner.is_here() { Ends::ForGood } else { Ends::Here };
            subscriptions::announce_end(self, &removed, ownership, ends);
        }
        Ok(Some(removed))
    }

    /// Makes what the last NOTIFY of a subscription needs outside of the lock, and takes the lock under which the
    /// subscription is as it was read; `None`: it is gone. The NOTIFY shows what the authorization of this moment lets
    /// the watcher see.
    fn read_last(
        &self,
        dialog: DialogId<'_>,
        hash: u64,
        final_notify: Option<End<'_>>,
    ) -> Result<Option<Leaving<'_>>, StoreError> {
        let tables = &self.shared.tables;
        for _ in 0..TRIES {
            let Some(current) = tables.find_at(dialog, hash) else { return Ok(None) };
            let resource = tables.resource_of(&current);
            let last = match final_notify {
                Some(end) => Some(current.with(end.changes().as_slice())?.map(shm::copy)?),
                None => None,
            };
            let Some(slot) = tables.slot_of_dialog(hash) else { return Ok(None) };
            let mut shard = tables.shard(resource.hash);
            let is_as_read = |stored: &mut SubscriptionEntry| stored.subscription.has_strings_of(&current);
            if last.is_none() || shard.stored_of_dialog(slot, dialog).is_none_or(is_as_read) {
                return Ok(Some(Leaving { slot, resource, last, shard }));
            }
        }
        Err(StoreError::Busy)
    }

    /// Whether a subscription has run out. A replica is given some time more: its owner says when it ends.
    fn has_expired(&self, stored: &SubscriptionEntry, now: Moment) -> bool {
        let grace = if stored.ownership.owner.is_here() { Seconds::ZERO } else { REPLICA_GRACE };
        stored.subscription.state.expires_at + self.config.expires_offset + grace < now
    }

    /// Ends a subscription that was seen to have run out, unless it has been renewed since.
    fn end_if_over(&self, subscription: &Subscription, now: Moment) -> Result<bool, StoreError> {
        let dialog = subscription.dialog();
        let Some(still) = self.shared.tables.find(dialog) else { return Ok(false) };
        if still.state.expires_at + self.config.expires_offset >= now {
            return Ok(false);
        }
        if expiry::is_long_over(self.config, still.state.expires_at, now) {
            note_long_over(1);
            return Ok(self.take_out(dialog, None)?.is_some());
        }
        if still.state.status == Status::Terminated || !ownership::is_owned(self, dialog) {
            // It was notified of its end when it began, or by its owner.
            return Ok(self.take_out(dialog, None)?.is_some());
        }
        Ok(self.take_out(dialog, Some(End::For(b"timeout")))?.is_some())
    }
}

/// What became of a renewal in the tables.
enum Attempt {
    /// The subscription was this before, and may have gone to this node from another one.
    Done(SubscriptionState, ChangeOfHands),
    /// A later SUBSCRIBE has come before it, and made this of the subscription.
    Overtaken(Box<Subscription>),
    /// There is no such subscription any more.
    Gone,
    /// The subscription went to another node, or came from there, meanwhile: nothing is changed.
    ChangedHands,
    /// Another node owns it, and learns of it.
    StaysElsewhere,
}

/// How a subscription came to this node.
struct ChangeOfHands {
    /// The node that owned it; `None`: it was ours.
    former: Option<NodeId>,
    /// What the others are asked, where there are others.
    claim: Option<SubscriptionClaim>,
}

/// A renewal in the tables, by whose row has to be written.
enum RenewedWhere {
    /// The subscription is ours, was this before, and may have come from another node.
    Here(SubscriptionState, ChangeOfHands),
    /// A renewal whose row is its owner's, too: this node writes none.
    Elsewhere(Renewed),
}

/// A subscription has run out and stays for now.
pub(crate) fn log_not_ended(subscription: &Subscription, error: StoreError) {
    let (watcher, presentity) = (subscription.watcher_uri(), subscription.get(Field::PresUri));
    crate::limited!(
        Error,
        "the subscription of {} to {} has run out and cannot be ended now: {error}",
        crate::host::log::show(&watcher),
        crate::host::log::show(presentity)
    );
}

/// Subscriptions that ended while the server was down were removed in silence: the log says how many.
pub(crate) fn note_long_over(count: usize) {
    if count > 0 {
        crate::limited!(Notice, "{count} subscriptions that ended long ago were removed without a NOTIFY");
    }
}
