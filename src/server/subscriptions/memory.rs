//! Subscriptions in memory (modes 0, 1, 2): added, renewed, ended, listed, and written where the mode promises it.
use crate::common::row_groups::Aside;
use crate::host::db::Connection;
use crate::host::shm::{self};
use crate::presence::authorization::Authorization;
use crate::presence::config::SubscriptionMode;
use crate::presence::error::StoreError;
use crate::presence::expiry;
use crate::presence::notification::{NotifyHistory, NotifyReason, NotifyRecord};
use crate::presence::ports::{NewDialog, Stored};
use crate::presence::resource::Resource;
use crate::presence::subscription::{DialogId, Field, Renewal, RowState, Status, Subscription, SubscriptionState};
use crate::server::context::Context;
use crate::server::subscriptions::active_watchers_table as rows;
use crate::server::subscriptions::active_watchers_table::NoRoute;
use crate::server::tables::resource_entry::FinalNotify;
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use crate::server::tables::watcher_hash;

/// How long the owner of a replica that has run out may take to say so, in seconds.
const REPLICA_PATIENCE: i64 = 60;

impl Context {
    pub(crate) fn writes_through(&self) -> bool {
        self.config.subscriptions == SubscriptionMode::WriteThrough
    }

    /// See [`crate::presence::ports::Ports::subscribe`].
    pub(crate) fn add_stored(
        &mut self,
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
        if self.writes_through() {
            // The NOTIFY that answers the SUBSCRIBE follows at once: its numbers are written with the row.
            let mut row = subscription.to_private();
            row.state.local_cseq += ahead;
            row.state.version += 1;
            let (table, packages) = (self.config.active_watchers_table, self.packages);
            let insert = |db: &Connection| rows::insert(db, table, packages, &row, NoRoute::Null);
            match !self.database.limits_texts() || rows::fits(&row) {
                true => self.database.write(insert)?,
                false => self.database.write_once(insert)?,
            }
            shared.state.row_state = RowState::Clean;
        }
        let written = subscription.state.local_cseq + if self.writes_through() { ahead } else { 0 };
        let placed = tables.place_claimed(claim, resource, shared, written, Ownership::default());
        match placed {
            Ok(()) => self.announce_subscription(subscription.dialog()),
            Err(_) => self.delete_row(subscription.dialog()),
        }
        placed?;
        Ok(Stored::New)
    }

    /// Removes the row of a subscription, where there is a database behind the memory.
    pub(crate) fn delete_row(&self, dialog: DialogId<'_>) {
        if !matches!(self.config.subscriptions, SubscriptionMode::WriteThrough | SubscriptionMode::WriteBack) {
            return;
        }
        let table = self.config.active_watchers_table;
        if let Err(error) = self.database.write(|db| rows::delete(db, table, dialog)) {
            crate::limited!(Error, "cannot delete the row of an ended subscription: {error}");
        }
    }

    /// See [`crate::presence::ports::Ports::renew`].
    pub(crate) fn renew_stored(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<bool, StoreError> {
        let dialog = current.dialog();
        let mut changes = renewal.changes();
        changes.retain(|(field, value)| current.get(*field) != *value);
        let renewed = match changes.is_empty() {
            true => None,
            false => Some(current.with(&changes)?),
        };
        let now = crate::host::clock::now();
        let mut before = current.state;
        let changed = self.shared.tables.change(dialog, renewed.as_ref(), |stored| {
            before = stored.subscription.state;
            stored.aside = Aside::default();
            if !stored.ownership.owner.is_here() {
                crate::server::cluster::announce::take_over(stored);
            }
            let state = &mut stored.subscription.state;
            state.expires_at = renewal.expires_at;
            state.remote_cseq = renewal.remote_cseq;
            state.transport = renewal.transport;
            state.refreshed_at = now;
            mark_changed(&mut state.row_state);
            if self.config.subscriptions == SubscriptionMode::WriteThrough {
                state.updated = 0;
                state.updated_winfo = 0;
            }
        })?;
        if changed {
            if let Err(error) = self.propagate(dialog) {
                self.take_back(current, &before);
                return Err(error);
            }
        }
        Ok(changed)
    }

    /// Undoes a renewal whose row could not be written: what is answered 500 has not happened, and the same SUBSCRIBE
    /// may come again. The numbers that NOTIFYs have counted up meanwhile stay.
    fn take_back(&self, before: &Subscription, state: &SubscriptionState) {
        let undone = self.shared.tables.change(before.dialog(), Some(before), |stored| {
            let now = &mut stored.subscription.state;
            (now.expires_at, now.remote_cseq, now.refreshed_at, now.transport) =
                (state.expires_at, state.remote_cseq, state.refreshed_at, state.transport);
        });
        if let Err(error) = undone {
            crate::limited!(Error, "a renewal that could not be written stays in memory: {error}");
        }
    }

    /// A stored subscription has changed: its row is written and the other nodes hear of it.
    fn propagate(&self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        if self.writes_through() {
            self.write_stored(dialog, 1)?;
        }
        self.announce_subscription(dialog);
        Ok(())
    }

    /// Writes the row of a stored subscription as it is now, counted up by `ahead` NOTIFYs that follow at once.
    pub(crate) fn write_stored(&self, dialog: DialogId<'_>, ahead: u32) -> Result<(), StoreError> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        let (row, row_state) = {
            let Some(mut shard) = tables.shard_of_dialog(hash) else { return Ok(()) };
            let Some(stored) = shard.find(dialog) else { return Ok(()) };
            let row_state = std::mem::replace(&mut stored.subscription.state.row_state, RowState::Clean);
            let mut row = stored.subscription.to_private();
            row.state.local_cseq += ahead;
            row.state.version += ahead;
            stored.written_cseq = row.state.local_cseq;
            (row, row_state)
        };
        let (table, packages) = (self.config.active_watchers_table, self.packages);
        let fits = !self.database.limits_texts() || rows::fits(&row);
        let update = |db: &Connection| rows::update(db, table, &row, NoRoute::Null);
        let written = match row_state {
            RowState::Replace => {
                self.database.write_together(|db| rows::replace(db, table, packages, &row, NoRoute::Null))
            }
            _ if fits => self.database.write(update),
            _ => self.database.write_once(update),
        };
        if written.is_err() {
            self.mark_unwritten(dialog, row_state);
        }
        written
    }

    /// The row is still older than the memory: the timer writes it.
    fn mark_unwritten(&self, dialog: DialogId<'_>, row_state: RowState) {
        let tables = &self.shared.tables;
        let Some(mut shard) = tables.shard_of_dialog(tables.dialog_hash(dialog)) else { return };
        if let Some(stored) = shard.find(dialog) {
            let state = &mut stored.subscription.state;
            state.row_state = if row_state == RowState::Replace { row_state } else { RowState::Update };
            stored.written_cseq = 0;
        }
    }

    /// Takes a stored subscription out of the tables; `final_notify` gives it a last NOTIFY.
    pub(crate) fn remove_stored(
        &self,
        dialog: DialogId<'_>,
        final_notify: Option<(NotifyReason, &[u8])>,
    ) -> Result<Option<Subscription>, StoreError> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        let Some(current) = self.shared.tables.find(dialog) else { return Ok(None) };
        let resource = self.shared.tables.resource_of(&current);
        let rule = tables.rule();
        let last = match final_notify {
            Some((_, reason)) => {
                let with = current.with(&[(Field::Reason, reason)])?;
                Some(with.map(shm::copy)?)
            }
            None => None,
        };
        let Some(slot) = tables.slot_of_dialog(hash) else { return Ok(None) };
        let mut shard = tables.shard(resource.hash);
        if let Some(entry) = shard.entry(rule, &resource).filter(|_| final_notify.is_some()) {
            entry.final_notifies.try_reserve(1)?;
        }
        let Some(stored) = shard.remove(slot, dialog) else { return Ok(None) };
        if let (Some((notify_reason, _)), Some(mut last), Some(entry)) =
            (final_notify, last, shard.entry(rule, &resource))
        {
            last.state = stored.subscription.state;
            if !stored.ownership.owner.is_here() {
                crate::server::cluster::announce::skip_sequence_numbers(&mut last.state);
            }
            last.state.local_cseq += 1;
            last.state.version += 1;
            if notify_reason == NotifyReason::Ended {
                last.state.status = Status::Terminated;
            }
            // There is room for it.
            let _ = entry.final_notifies.push(FinalNotify { subscription: last, notify_reason });
            entry.pending = true;
        }
        shard.drop_idle_entry(rule, &resource);
        drop(shard);
        tables.unplace_dialog(hash);
        tables.watchers.subtract(watcher_hash(tables, &stored.subscription));
        let removed = stored.subscription.to_private();
        let owner = stored.ownership.owner;
        drop(stored);
        if owner.is_here() {
            self.delete_row(dialog);
        }
        let by_watcher = matches!(final_notify, Some((NotifyReason::Unsubscribe, _)));
        if owner.is_here() || final_notify.is_some() {
            self.announce_end(&removed, by_watcher || !owner.is_here());
        }
        Ok(Some(removed))
    }

    /// See [`crate::presence::ports::Ports::end`].
    pub(crate) fn end_stored(
        &mut self,
        dialog: DialogId<'_>,
        notify_reason: NotifyReason,
        reason: &[u8],
    ) -> Result<bool, StoreError> {
        Ok(self.remove_stored(dialog, Some((notify_reason, reason)))?.is_some())
    }

    /// See [`crate::presence::ports::Ports::drop_subscription`].
    pub(crate) fn drop_stored(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.remove_stored(dialog, None)
    }

    /// Whether a subscription has run out. A replica is given some time more: its owner says when it ends.
    fn has_expired(&self, stored: &SubscriptionEntry, now: i64) -> bool {
        let patience = if stored.ownership.owner.is_here() { 0 } else { REPLICA_PATIENCE };
        stored.subscription.state.expires_at + self.config.expires_offset + patience < now
    }

    /// See [`crate::presence::ports::Ports::end_expired`]. Those that cannot be ended now are named in the log, and
    /// stand in nobody's way.
    pub(crate) fn end_expired_stored(&mut self, now: i64, limit: usize) -> Vec<Subscription> {
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
        ended
    }

    /// Ends a subscription that was seen to have run out, unless it has been renewed since.
    fn end_if_over(&mut self, subscription: &Subscription, now: i64) -> Result<bool, StoreError> {
        let dialog = subscription.dialog();
        let Some(still) = self.shared.tables.find(dialog) else { return Ok(false) };
        if still.state.expires_at + self.config.expires_offset >= now {
            return Ok(false);
        }
        if expiry::is_long_over(self.config, still.state.expires_at, now) {
            note_long_over(1);
            return Ok(self.drop_stored(dialog)?.is_some());
        }
        if still.state.status == Status::Terminated || !self.is_owned(dialog) {
            // It was told that it is over when it began, or its owner has told it.
            return Ok(self.drop_stored(dialog)?.is_some());
        }
        self.end_stored(dialog, NotifyReason::Ended, b"timeout")
    }

    /// See [`crate::presence::ports::Ports::set_authorization`].
    pub(crate) fn set_authorization_in_memory(
        &mut self,
        dialog: DialogId<'_>,
        authorization: &Authorization,
    ) -> Result<bool, StoreError> {
        let Some(current) = self.shared.tables.find(dialog) else { return Ok(false) };
        let known = current.state.status == authorization.status && current.get(Field::Reason) == authorization.reason;
        if known || !self.is_owned(dialog) {
            return Ok(false);
        }
        let with = current.with(&[(Field::Reason, &authorization.reason)])?;
        let changed = self.shared.tables.change(dialog, Some(&with), |stored| {
            stored.subscription.state.status = authorization.status;
            stored.aside = Aside::default();
            mark_changed(&mut stored.subscription.state.row_state);
        })?;
        if changed {
            if authorization.status != Status::Active || !authorization.reason.is_empty() {
                self.write_restriction(dialog);
            }
            self.propagate(dialog)?;
        }
        Ok(changed)
    }

    /// A watcher may see less than before: its row says so at once in write-back mode, too, or a crash would give it
    /// back what it has lost. The row stays marked, so that a pass under way with the older state is made up for, and so
    /// is a failure.
    fn write_restriction(&self, dialog: DialogId<'_>) {
        if self.config.subscriptions != SubscriptionMode::WriteBack || !self.database.is_configured() {
            return;
        }
        // Without a row nothing can come back.
        let stored = self.shared.tables.find(dialog).filter(|stored| stored.state.row_state != RowState::Insert);
        let (Some(stored), table) = (stored, self.config.active_watchers_table) else { return };
        if let Err(error) = self.database.write(|db| rows::update_state(db, table, &stored)) {
            crate::limited!(Error, "a watcher's new authorization is not in its row yet: {error}");
        }
    }

    /// Notes that a NOTIFY was answered by something else than success.
    pub fn record_failure(&self, dialog: DialogId<'_>, cseq: u32, code: i32) {
        let hash = self.shared.tables.dialog_hash(dialog);
        let Some(mut shard) = self.shared.tables.shard_of_dialog(hash) else { return };
        if let Some(stored) = shard.find(dialog) {
            stored.notify_history.failed = u16::try_from(code).unwrap_or_default();
            stored.notify_history.failed_cseq = cseq.wrapping_sub(1);
        }
    }

    /// See [`crate::presence::ports::Ports::record_notified`].
    pub(crate) fn record_notified_in_memory(&self, resource: &Resource, told: &[NotifyRecord]) {
        if told.is_empty() {
            return;
        }
        let mut shard = self.shared.tables.shard(resource.hash);
        for told in told {
            // A slot that has been given to another subscription meanwhile shows another CSeq, or the digest until its
            // next one.
            let stored = shard.stored(told.slot).filter(|m| m.resource_hash == resource.hash);
            if let Some(stored) = stored.filter(|m| m.subscription.state.local_cseq == told.cseq) {
                stored.notify_history.body = told.body;
            }
        }
    }

    /// See [`crate::presence::ports::Ports::notify_history`].
    pub(crate) fn notify_history_of(&self, dialog: DialogId<'_>) -> NotifyHistory {
        let hash = self.shared.tables.dialog_hash(dialog);
        let Some(mut shard) = self.shared.tables.shard_of_dialog(hash) else { return NotifyHistory::default() };
        shard.find(dialog).map(|stored| stored.notify_history).unwrap_or_default()
    }
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

/// Notes that the row is older than the memory.
pub(crate) fn mark_changed(row_state: &mut RowState) {
    if *row_state == RowState::Clean {
        *row_state = RowState::Update;
    }
}
