//! Subscriptions in memory (modes 0, 1, 2): added, renewed, ended, listed, and written where the mode promises it.
use super::active_watchers::{self as rows, NoRoute};
use super::lane::{Documents, Farewell};
use super::member::{Hold, Member, SharedSubscription};
use super::row_groups::Aside;
use super::tables::{DialogClaim, Tables};
use super::world::World;
use crate::host::db::Connection;
use crate::host::shm::{self, NoMemory, Shm, ShmVec};
use crate::presence::config::SubscriptionMode;
use crate::presence::error::StoreError;
use crate::presence::expiry;
use crate::presence::explain::Trail;
use crate::presence::ports::{NewDialog, Occasion, Renewal, Standing, Stored, Told};
use crate::presence::resource::Resource;
use crate::presence::subscription::{DialogId, Field, Journal, Numbers, Status, Subscription};

/// How long the owner of a replica that has run out may take to say so, in seconds.
const REPLICA_PATIENCE: i64 = 60;

impl World {
    pub(super) fn writes_through(&self) -> bool {
        self.config.subscriptions == SubscriptionMode::WriteThrough
    }

    pub(super) fn resource_of(&self, subscription: &Subscription) -> Resource {
        self.shared.tables.rule().resource(subscription.get(Field::PresUri), subscription.numbers.event)
    }

    /// See [`crate::presence::ports::Ports::subscribe`].
    pub(super) fn add_member(
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
        let ahead = u32::from(subscription.numbers.status != Status::Terminated);
        shared.numbers.version += 1 - ahead;
        if self.writes_through() {
            // The NOTIFY that answers the SUBSCRIBE follows at once: its numbers are written with the row.
            let mut row = subscription.to_private();
            row.numbers.local_cseq += ahead;
            row.numbers.version += 1;
            let (table, packages) = (self.config.active_watchers_table, self.packages);
            let insert = |db: &Connection| rows::insert(db, table, packages, &row, NoRoute::Null);
            match !self.database.limits_texts() || rows::fits(&row) {
                true => self.database.write(insert)?,
                false => self.database.write_once(insert)?,
            }
            shared.numbers.journal = Journal::Clean;
        }
        let written = subscription.numbers.local_cseq + if self.writes_through() { ahead } else { 0 };
        let placed = self.place_claimed(claim, resource, shared, written, Hold::default());
        match placed {
            Ok(()) => self.announce_member(subscription.dialog()),
            Err(_) => self.delete_row(subscription.dialog()),
        }
        placed?;
        Ok(Stored::New)
    }

    /// Puts a subscription into its lane; `written_cseq` is the local CSeq of its row. Nothing is changed without memory, or when
    /// there is one of the same dialog.
    pub(super) fn place_member(
        &self,
        shared: SharedSubscription,
        written_cseq: u32,
        hold: Hold,
    ) -> Result<Stored, NoMemory> {
        let tables = &self.shared.tables;
        let resource = tables.rule().resource(shared.get(Field::PresUri), shared.numbers.event);
        let claim = tables.claim_dialog(tables.dialog_hash(shared.dialog()), resource.hash)?;
        let Some(claim) = claim else { return Ok(Stored::Known) };
        self.place_claimed(claim, &resource, shared, written_cseq, hold)?;
        Ok(Stored::New)
    }

    fn place_claimed(
        &self,
        mut claim: DialogClaim<'_>,
        resource: &Resource,
        shared: SharedSubscription,
        written_cseq: u32,
        hold: Hold,
    ) -> Result<(), NoMemory> {
        let tables = &self.shared.tables;
        let watcher = watcher_hash(tables, &shared);
        let member = shm::boxed(Member {
            written_cseq,
            subscription: shared,
            lane_hash: resource.hash,
            place: 0,
            seen: 0,
            due: None,
            catches_up: false,
            trail: Trail::default(),
            aside: Aside::default(),
            hold,
        })?;
        // A lane exists for every resource with rows, so a new one has no documents.
        let documents = Documents::Known(ShmVec::new_in(Shm));
        let mut shard = tables.shard(resource.hash);
        let inserted = shard
            .lane_or_new(tables.rule(), resource, documents)
            .map(|_| ())
            .and_then(|()| shard.insert(tables.rule(), resource, member))
            .map(|slot| claim.set_slot(slot));
        drop(shard);
        inserted?;
        tables.watchers.add(watcher);
        Ok(())
    }

    /// See [`crate::presence::ports::Ports::count_watchers`].
    pub(super) fn member_count(&self, resource: &Resource) -> usize {
        let tables = &self.shared.tables;
        tables.shard(resource.hash).lane(tables.rule(), resource).map_or(0, |lane| lane.members.len())
    }

    /// Removes the row of a subscription, where there is a database behind the memory.
    pub(super) fn delete_row(&self, dialog: DialogId<'_>) {
        if !matches!(self.config.subscriptions, SubscriptionMode::WriteThrough | SubscriptionMode::WriteBack) {
            return;
        }
        let table = self.config.active_watchers_table;
        if let Err(error) = self.database.write(|db| rows::delete(db, table, dialog)) {
            crate::limited!(Error, "cannot delete the row of an ended subscription: {error}");
        }
    }

    /// See [`crate::presence::ports::Ports::find_subscription`].
    pub(super) fn find_member(&self, dialog: DialogId<'_>) -> Option<Subscription> {
        self.find_member_at(dialog, self.shared.tables.dialog_hash(dialog))
    }

    /// The same where the hash of the dialog is known.
    pub(super) fn find_member_at(&self, dialog: DialogId<'_>, hash: u64) -> Option<Subscription> {
        let mut shard = self.shared.tables.shard_of_dialog(hash)?;
        shard.find(dialog).map(|member| member.subscription.to_private())
    }

    /// See [`crate::presence::ports::Ports::subscriptions`].
    pub(super) fn members_of(&self, resource: &Resource) -> Vec<Subscription> {
        let tables = &self.shared.tables;
        let mut shard = tables.shard(resource.hash);
        let slots: Vec<u32> = match shard.lane(tables.rule(), resource) {
            Some(lane) => lane.members.to_vec(),
            None => return Vec::new(),
        };
        slots.iter().filter_map(|slot| shard.member_in_slot(*slot)).map(|m| m.subscription.to_private()).collect()
    }

    /// See [`crate::presence::ports::Ports::renew`].
    pub(super) fn renew_member(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<bool, StoreError> {
        let dialog = current.dialog();
        let mut changes = renewal.changes();
        changes.retain(|(field, value)| current.get(*field) != *value);
        let renewed = match changes.is_empty() {
            true => None,
            false => Some(current.with(&changes)?),
        };
        let now = crate::host::clock::now();
        let mut before = current.numbers;
        let changed = self.change_member(dialog, renewed.as_ref(), |member| {
            before = member.subscription.numbers;
            member.aside = Aside::default();
            if !member.hold.owner.is_here() {
                super::replicas::take_over(member);
            }
            let numbers = &mut member.subscription.numbers;
            numbers.expires_at = renewal.expires_at;
            numbers.remote_cseq = renewal.remote_cseq;
            numbers.transport = renewal.transport;
            numbers.refreshed_at = now;
            mark_changed(&mut numbers.journal);
            if self.config.subscriptions == SubscriptionMode::WriteThrough {
                numbers.updated = 0;
                numbers.updated_winfo = 0;
            }
        })?;
        if changed {
            if let Err(error) = self.pass_on(dialog) {
                self.take_back(current, &before);
                return Err(error);
            }
        }
        Ok(changed)
    }

    /// Undoes a renewal whose row could not be written: what is answered 500 has not happened, and the same SUBSCRIBE may come
    /// again. The numbers that NOTIFYs have counted up meanwhile stay.
    fn take_back(&self, before: &Subscription, numbers: &Numbers) {
        let undone = self.change_member(before.dialog(), Some(before), |member| {
            let now = &mut member.subscription.numbers;
            (now.expires_at, now.remote_cseq, now.refreshed_at, now.transport) =
                (numbers.expires_at, numbers.remote_cseq, numbers.refreshed_at, numbers.transport);
        });
        if let Err(error) = undone {
            crate::limited!(Error, "a renewal that could not be written stays in memory: {error}");
        }
    }

    /// Gives a member other strings, if there are any, and changes it, under its lock; `false` when it is gone.
    pub(super) fn change_member(
        &self,
        dialog: DialogId<'_>,
        strings: Option<&Subscription>,
        change: impl FnOnce(&mut Member),
    ) -> Result<bool, StoreError> {
        // The block is made before the lock is taken, and the old one freed after.
        let fresh = strings.map(|strings| strings.map(shm::copy)).transpose()?;
        let tables = &self.shared.tables;
        let Some(mut shard) = tables.shard_of_dialog(tables.dialog_hash(dialog)) else { return Ok(false) };
        let Some(member) = shard.find(dialog) else { return Ok(false) };
        let old = fresh.map(|mut fresh| {
            fresh.numbers = member.subscription.numbers;
            std::mem::replace(&mut member.subscription, fresh)
        });
        change(member);
        drop(shard);
        drop(old);
        Ok(true)
    }

    /// A member has changed: its row and the other nodes are told.
    fn pass_on(&self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        if self.writes_through() {
            self.write_member(dialog, 1)?;
        }
        self.announce_member(dialog);
        Ok(())
    }

    /// Writes the row of a member as it is now, counted up by `ahead` NOTIFYs that follow at once.
    pub(super) fn write_member(&self, dialog: DialogId<'_>, ahead: u32) -> Result<(), StoreError> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        let (row, journal) = {
            let Some(mut shard) = tables.shard_of_dialog(hash) else { return Ok(()) };
            let Some(member) = shard.find(dialog) else { return Ok(()) };
            let journal = std::mem::replace(&mut member.subscription.numbers.journal, Journal::Clean);
            let mut row = member.subscription.to_private();
            row.numbers.local_cseq += ahead;
            row.numbers.version += ahead;
            member.written_cseq = row.numbers.local_cseq;
            (row, journal)
        };
        let (table, packages) = (self.config.active_watchers_table, self.packages);
        let fits = !self.database.limits_texts() || rows::fits(&row);
        let update = |db: &Connection| rows::update(db, table, &row, NoRoute::Null);
        let written = match journal {
            Journal::Replace => {
                self.database.write_together(|db| rows::replace(db, table, packages, &row, NoRoute::Null))
            }
            _ if fits => self.database.write(update),
            _ => self.database.write_once(update),
        };
        if written.is_err() {
            self.mark_unwritten(dialog, journal);
        }
        written
    }

    /// The row is still older than the memory: the timer writes it.
    fn mark_unwritten(&self, dialog: DialogId<'_>, journal: Journal) {
        let tables = &self.shared.tables;
        let Some(mut shard) = tables.shard_of_dialog(tables.dialog_hash(dialog)) else { return };
        if let Some(member) = shard.find(dialog) {
            let numbers = &mut member.subscription.numbers;
            numbers.journal = if journal == Journal::Replace { journal } else { Journal::Update };
            member.written_cseq = 0;
        }
    }

    /// Takes a member out of the tables; `farewell` gives it a last NOTIFY.
    pub(super) fn remove_member(
        &self,
        dialog: DialogId<'_>,
        farewell: Option<(Occasion, &[u8])>,
    ) -> Result<Option<Subscription>, StoreError> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        let Some(current) = self.find_member(dialog) else { return Ok(None) };
        let resource = self.resource_of(&current);
        let rule = tables.rule();
        let last = match farewell {
            Some((_, reason)) => {
                let with = current.with(&[(Field::Reason, reason)])?;
                Some(with.map(shm::copy)?)
            }
            None => None,
        };
        let Some(slot) = tables.slot_of_dialog(hash) else { return Ok(None) };
        let mut shard = tables.shard(resource.hash);
        if let Some(lane) = shard.lane(rule, &resource).filter(|_| farewell.is_some()) {
            lane.farewells.try_reserve(1)?;
        }
        let Some(member) = shard.remove(slot, dialog) else { return Ok(None) };
        if let (Some((occasion, _)), Some(mut last), Some(lane)) = (farewell, last, shard.lane(rule, &resource)) {
            last.numbers = member.subscription.numbers;
            if !member.hold.owner.is_here() {
                super::replicas::step_over(&mut last.numbers);
            }
            last.numbers.local_cseq += 1;
            last.numbers.version += 1;
            if occasion == Occasion::Ended {
                last.numbers.status = Status::Terminated;
            }
            // There is room for it.
            let _ = lane.farewells.push(Farewell { subscription: last, occasion });
            lane.pending = true;
        }
        shard.drop_idle_lane(rule, &resource);
        drop(shard);
        tables.unplace_dialog(hash);
        tables.watchers.subtract(watcher_hash(tables, &member.subscription));
        let gone = member.subscription.to_private();
        let owner = member.hold.owner;
        drop(member);
        if owner.is_here() {
            self.delete_row(dialog);
        }
        let by_watcher = matches!(farewell, Some((Occasion::Unsubscribe, _)));
        if owner.is_here() || farewell.is_some() {
            self.announce_end(&gone, by_watcher || !owner.is_here());
        }
        Ok(Some(gone))
    }

    /// See [`crate::presence::ports::Ports::end`].
    pub(super) fn end_member(
        &mut self,
        dialog: DialogId<'_>,
        occasion: Occasion,
        reason: &[u8],
    ) -> Result<bool, StoreError> {
        Ok(self.remove_member(dialog, Some((occasion, reason)))?.is_some())
    }

    /// See [`crate::presence::ports::Ports::drop_subscription`].
    pub(super) fn drop_member(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.remove_member(dialog, None)
    }

    /// Whether a subscription has run out. A replica is given some time more: its owner says when it ends.
    fn is_over(&self, member: &Member, now: i64) -> bool {
        let patience = if member.hold.owner.is_here() { 0 } else { REPLICA_PATIENCE };
        member.subscription.numbers.expires_at + self.config.expires_offset + patience < now
    }

    /// See [`crate::presence::ports::Ports::end_expired`]. Those that cannot be ended now are named in the log, and stand in
    /// nobody's way.
    pub(super) fn end_expired_members(&mut self, now: i64, limit: usize) -> Vec<Subscription> {
        let tables = &self.shared.tables;
        let mut ended = Vec::new();
        for index in 0..tables.shard_count() {
            let mut passed_over = 0;
            while ended.len() < limit {
                let due: Vec<Subscription> = {
                    let shard = tables.nth_shard(index);
                    let over = shard.members().filter(|m| self.is_over(m, now)).skip(passed_over);
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
        let Some(still) = self.find_member(dialog) else { return Ok(false) };
        if still.numbers.expires_at + self.config.expires_offset >= now {
            return Ok(false);
        }
        if expiry::is_long_over(self.config, still.numbers.expires_at, now) {
            note_long_over(1);
            return Ok(self.drop_member(dialog)?.is_some());
        }
        if still.numbers.status == Status::Terminated || !self.is_owned(dialog) {
            // It was told that it is over when it began, or its owner has told it.
            return Ok(self.drop_member(dialog)?.is_some());
        }
        self.end_member(dialog, Occasion::Ended, b"timeout")
    }

    /// See [`crate::presence::ports::Ports::set_standing`].
    pub(super) fn set_member_standing(
        &mut self,
        dialog: DialogId<'_>,
        standing: &Standing,
    ) -> Result<bool, StoreError> {
        let Some(current) = self.find_member(dialog) else { return Ok(false) };
        let known = current.numbers.status == standing.status && current.get(Field::Reason) == standing.reason;
        if known || !self.is_owned(dialog) {
            return Ok(false);
        }
        let with = current.with(&[(Field::Reason, &standing.reason)])?;
        let changed = self.change_member(dialog, Some(&with), |member| {
            member.subscription.numbers.status = standing.status;
            member.aside = Aside::default();
            mark_changed(&mut member.subscription.numbers.journal);
        })?;
        if changed {
            self.pass_on(dialog)?;
        }
        Ok(changed)
    }

    /// Notes that a NOTIFY was answered by something else than success.
    pub fn note_failure(&self, dialog: DialogId<'_>, cseq: u32, code: i32) {
        let hash = self.shared.tables.dialog_hash(dialog);
        let Some(mut shard) = self.shared.tables.shard_of_dialog(hash) else { return };
        if let Some(member) = shard.find(dialog) {
            member.trail.failed = u16::try_from(code).unwrap_or_default();
            member.trail.failed_cseq = cseq.wrapping_sub(1);
        }
    }

    /// See [`crate::presence::ports::Ports::note_told`].
    pub(super) fn note_told_members(&self, resource: &Resource, told: &[Told]) {
        if told.is_empty() {
            return;
        }
        let mut shard = self.shared.tables.shard(resource.hash);
        for told in told {
            // A slot that has been given to another subscription meanwhile shows another CSeq, or the digest until its next one.
            let member = shard.member(told.slot).filter(|m| m.lane_hash == resource.hash);
            if let Some(member) = member.filter(|m| m.subscription.numbers.local_cseq == told.cseq) {
                member.trail.body = told.body;
            }
        }
    }

    /// See [`crate::presence::ports::Ports::trail`].
    pub(super) fn trail_of(&self, dialog: DialogId<'_>) -> Trail {
        let hash = self.shared.tables.dialog_hash(dialog);
        let Some(mut shard) = self.shared.tables.shard_of_dialog(hash) else { return Trail::default() };
        shard.find(dialog).map(|member| member.trail).unwrap_or_default()
    }

    /// Some of the subscriptions that are `wanted`, in a stable order.
    pub fn page_of_subscriptions(
        &self,
        offset: usize,
        limit: usize,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Result<Vec<Subscription>, StoreError> {
        let (mut skipped, mut page) = (0, Vec::new());
        let mut take = |subscription: Subscription| {
            if !wanted(&subscription) {
                return true;
            }
            if skipped < offset {
                skipped += 1;
                return true;
            }
            page.push(subscription);
            page.len() < limit
        };
        if self.config.subscriptions == SubscriptionMode::Database {
            self.each_row(&mut take)?;
            page.truncate(limit);
            return Ok(page);
        }
        let tables = &self.shared.tables;
        'all: for index in 0..tables.shard_count() {
            let copies: Vec<Subscription> =
                tables.nth_shard(index).members().map(|member| member.subscription.to_private()).collect();
            for subscription in copies {
                if !take(subscription) {
                    break 'all;
                }
            }
        }
        Ok(page)
    }
}

/// A subscription has run out and stays for now.
pub(super) fn log_not_ended(subscription: &Subscription, error: StoreError) {
    let (watcher, presentity) = (subscription.watcher_uri(), subscription.get(Field::PresUri));
    crate::limited!(
        Error,
        "the subscription of {} to {} has run out and cannot be ended now: {error}",
        crate::host::log::show(&watcher),
        crate::host::log::show(presentity)
    );
}

/// Subscriptions that ended while the server was down were removed in silence: the log says how many.
pub(super) fn note_long_over(count: usize) {
    if count > 0 {
        crate::limited!(Notice, "{count} subscriptions that ended long ago were removed without a NOTIFY");
    }
}

/// The hash of a subscription's watcher.
pub(super) fn watcher_hash<B: AsRef<[u8]>>(tables: &Tables, subscription: &Subscription<B>) -> u64 {
    tables.rule().exact_hash(&[subscription.get(Field::WatcherUser), subscription.get(Field::WatcherDomain)])
}

/// Notes that the row is older than the memory.
pub(super) fn mark_changed(journal: &mut Journal) {
    if *journal == Journal::Clean {
        *journal = Journal::Update;
    }
}
