//! The stored subscriptions of all resources: put into the tables, found, counted and changed, whatever stands behind
//! the memory.
use crate::common::row_groups::RowBackoff;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmVec};
use crate::presence::error::StoreError;
use crate::presence::notification::{FailedNotify, NotifyHistory, NotifyReason, NotifyRecord, QueueState};
use crate::presence::ports::subscriptions::Stored;
use crate::presence::replication::node_messages::dialog_key;
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::seen::NotifiedChanges;
use crate::presence::subscription::{RowState, Subscription, SubscriptionState};
use crate::server::tables::resource_entry::{Documents, DueNotify};
use crate::server::tables::subscription_entry::{Ownership, SharedSubscription, SubscriptionEntry};
use crate::server::tables::{DialogClaim, Tables, watcher_hash};
use std::borrow::Cow;
use std::num::NonZeroU16;
use std::sync::atomic::Ordering;

/// How often the strings of a subscription are put together anew when somebody else has changed them meanwhile.
const TRIES: usize = 20;

impl Tables {
    /// The resource a subscription is to.
    pub(crate) fn resource_of(&self, subscription: &Subscription) -> Resource {
        self.rule().resource(subscription.get(Field::PresUri), subscription.state.event)
    }

    /// Puts a subscription into its resource entry; `written_cseq` is the local CSeq of its row. Nothing is changed
    /// without memory, or when there is one of the same dialog.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub(crate) fn place(
        &self,
        shared: SharedSubscription,
        written_cseq: u32,
        ownership: Ownership,
    ) -> Result<Stored, NoMemory> {
        let resource = self.rule().resource(shared.get(Field::PresUri), shared.state.event);
        let claim = self.claim_dialog(self.dialog_hash(shared.dialog()), resource.hash)?;
        let Some(claim) = claim else { return Ok(Stored::Known) };
        self.place_claimed(claim, &resource, shared, written_cseq, ownership)?;
        Ok(Stored::New)
    }

    /// The same in a dialog that is claimed already.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out. Nothing has changed then.
    pub(crate) fn place_claimed(
        &self,
        mut claim: DialogClaim<'_>,
        resource: &Resource,
        shared: SharedSubscription,
        written_cseq: u32,
        ownership: Ownership,
    ) -> Result<(), NoMemory> {
        let watcher = self.watchers.are_kept().then(|| watcher_hash(self, &shared));
        let key = self.keys.is_some().then(|| dialog_key(shared.dialog()));
        self.note_subscribed(resource.event);
        if shared.state.row_state != RowState::Clean {
            self.unwritten.note();
        }
        let stored = shm::boxed(SubscriptionEntry {
            written_cseq,
            copied_cseq: 0,
            arrival: self.arrivals.fetch_add(1, Ordering::Relaxed),
            is_being_written: false,
            subscription: shared,
            resource_hash: resource.hash,
            place: 0,
            seen: NotifiedChanges::default(),
            due: None,
            catches_up: false,
            notify_history: NotifyHistory::default(),
            aside: RowBackoff::default(),
            ownership,
            announced: None,
        })?;
        fault_point!("claim");
        // A resource entry exists for every resource with rows, so a new one has no documents.
        let documents = Documents::Known(ShmVec::new_in(Shm));
        let mut shard = self.shard(resource.hash);
        let inserted = shard
            .entry_or_new(self.rule(), resource, documents)
            .map(|_| ())
            .and_then(|()| shard.insert(self.rule(), resource, stored))
            .map(|slot| {
                claim.set_slot(slot);
                key.into_iter().for_each(|key| self.note_key(key, resource.hash, slot));
            });
        drop(shard);
        inserted?;
        watcher.into_iter().for_each(|watcher| self.watchers.add(watcher));
        Ok(())
    }

    /// How many subscriptions there are to a resource.
    pub(crate) fn watcher_count(&self, resource: &Resource) -> usize {
        self.shard(resource.hash).entry(self.rule(), resource).map_or(0, |entry| entry.subscriptions().len())
    }

    /// The subscription of a dialog.
    pub(crate) fn find(&self, dialog: DialogId<'_>) -> Option<Subscription> {
        self.find_at(dialog, self.dialog_hash(dialog))
    }

    /// The same where the hash of the dialog is known.
    pub(crate) fn find_at(&self, dialog: DialogId<'_>, hash: u64) -> Option<Subscription> {
        let mut shard = self.shard_of_dialog(hash)?;
        shard.find(dialog).map(|stored| stored.subscription.to_private())
    }

    /// The subscriptions to a resource.
    pub(crate) fn subscriptions_to(&self, resource: &Resource) -> Vec<Subscription> {
        let mut shard = self.shard(resource.hash);
        let slots: Vec<u32> = match shard.entry(self.rule(), resource) {
            Some(entry) => entry.subscriptions().to_vec(),
            None => return Vec::new(),
        };
        slots.iter().filter_map(|slot| shard.stored_in_slot(*slot)).map(|m| m.subscription.to_private()).collect()
    }

    /// Changes a stored subscription under its lock, and gives it these strings in place of those it has then. `change`
    /// returns whether it still wants that; what else it changes stays either way. `read` is the subscription as it was
    /// read before, and may be older than the stored one. `false`: it is gone, or not changed.
    ///
    /// # Errors
    ///
    /// Fails without memory, when a string is none that a subscription can have, and when others have changed its
    /// strings each time: nothing is changed then.
    pub(crate) fn change(
        &self,
        read: &Subscription,
        strings: &[(Field, &[u8])],
        mut change: impl FnMut(&mut SubscriptionEntry) -> bool,
    ) -> Result<bool, StoreError> {
        let mut current = Cow::Borrowed(read);
        for _ in 0..TRIES {
            // The block is made before the lock is taken, and the old one freed after.
            let others: Vec<(Field, &[u8])> =
                strings.iter().filter(|(field, value)| current.get(*field) != *value).copied().collect();
            let fresh = match others.is_empty() {
                true => None,
                false => Some(current.with(&others)?.map(shm::copy)?),
            };
            let dialog = read.dialog();
            let Some(mut shard) = self.shard_of_dialog(self.dialog_hash(dialog)) else { return Ok(false) };
            let Some(stored) = shard.find(dialog) else { return Ok(false) };
            if !strings.is_empty() && !stored.subscription.has_strings_of(&current) {
                current = Cow::Owned(stored.subscription.to_private());
                continue;
            }
            let is_wanted = change(stored);
            let old = fresh.filter(|_| is_wanted).map(|mut fresh| {
                fresh.state = stored.subscription.state;
                std::mem::replace(&mut stored.subscription, fresh)
            });
            drop(shard);
            drop(old);
            return Ok(is_wanted);
        }
        Err(StoreError::Busy)
    }

    /// Changes the numbers of a stored subscription under its lock; `false` when it is gone.
    pub(crate) fn change_numbers(&self, dialog: DialogId<'_>, change: impl FnOnce(&mut SubscriptionEntry)) -> bool {
        let Some(mut shard) = self.shard_of_dialog(self.dialog_hash(dialog)) else { return false };
        shard.find(dialog).map(change).is_some()
    }

    /// Notes that the rules of a resource have to be asked about the subscriptions that were read from rows.
    pub(crate) fn mark_unjudged(&self, resource: &Resource) {
        let mut shard = self.shard(resource.hash);
        if let Some(entry) = shard.entry(self.rule(), resource).filter(|entry| !entry.unjudged) {
            entry.unjudged = true;
            self.unjudged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether they have to be asked before anything is sent.
    pub(crate) fn is_unjudged(&self, resource: &Resource) -> bool {
        if self.unjudged.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.shard(resource.hash).entry(self.rule(), resource).is_some_and(|entry| entry.unjudged)
    }

    /// Notes that the watchers have been judged.
    pub(crate) fn clear_unjudged(&self, resource: &Resource) {
        let mut shard = self.shard(resource.hash);
        let was_unjudged = shard.entry(self.rule(), resource).is_some_and(|entry| std::mem::take(&mut entry.unjudged));
        self.unjudged.fetch_sub(usize::from(was_unjudged), Ordering::Relaxed);
    }

    /// Notes that the row of a subscription is older than the memory.
    pub(crate) fn mark_changed(&self, state: &mut SubscriptionState) {
        if state.row_state == RowState::Clean {
            state.row_state = RowState::Update;
            self.unwritten.note();
        }
    }

    /// Notes that another node has or had a row of a subscription, in whose place ours is put.
    pub(crate) fn mark_replaced(&self, state: &mut SubscriptionState) {
        self.mark_changed(state);
        state.row_state = RowState::Replace;
    }

    /// Whether anybody subscribes to a resource.
    pub(crate) fn is_watched(&self, resource: &Resource) -> bool {
        self.watcher_count(resource) > 0
    }

    /// Whether somebody subscribes to a resource that is known to have one document at most.
    pub(crate) fn shows_one_document(&self, resource: &Resource) -> bool {
        let mut shard = self.shard(resource.hash);
        let Some(entry) = shard.entry(self.rule(), resource) else { return false };
        !entry.subscriptions().is_empty() && matches!(&entry.documents, Documents::Known(all) if all.len() <= 1)
    }

    /// Notes that a NOTIFY was answered by something else than success.
    pub fn record_failure(&self, dialog: DialogId<'_>, cseq: u32, code: u16) {
        let hash = self.dialog_hash(dialog);
        let Some(mut shard) = self.shard_of_dialog(hash) else { return };
        if let Some(stored) = shard.find(dialog) {
            stored.notify_history.failure =
                NonZeroU16::new(code).map(|status| FailedNotify { status, cseq: cseq.wrapping_sub(1) });
        }
    }

    /// Notes what the subscriptions of a batch were sent.
    pub fn record_notified(&self, resource: &Resource, notified: &[NotifyRecord]) {
        if notified.is_empty() {
            return;
        }
        let mut shard = self.shard(resource.hash);
        for notified in notified {
            // A slot that has been given to another subscription meanwhile shows another CSeq, or the digest until its
            // next one.
            let stored = shard.stored(notified.slot).filter(|m| m.resource_hash == resource.hash);
            if let Some(stored) = stored.filter(|m| m.subscription.state.local_cseq == notified.cseq) {
                stored.notify_history.body = notified.body;
            }
        }
    }

    /// What became of the NOTIFYs of a subscription.
    pub(crate) fn notify_history(&self, dialog: DialogId<'_>) -> NotifyHistory {
        let hash = self.dialog_hash(dialog);
        let Some(mut shard) = self.shard_of_dialog(hash) else { return NotifyHistory::default() };
        shard.find(dialog).map(|stored| stored.notify_history).unwrap_or_default()
    }

    /// Returns which process sends for a resource, if one does.
    pub(crate) fn queue_state(&self, resource: &Resource) -> QueueState {
        let mut shard = self.shard(resource.hash);
        let entry = shard.entry(self.rule(), resource);
        entry
            .map(|entry| QueueState { busy: entry.busy, pending: entry.due.contains(DueNotify::Something) })
            .unwrap_or_default()
    }

    /// Notes that a subscription is due a NOTIFY, and leaves it to the process that sends next for its resource.
    pub(crate) fn mark_due(&self, dialog: DialogId<'_>, notify_reason: NotifyReason) {
        let hash = self.dialog_hash(dialog);
        let Some(mut shard) = self.shard_of_dialog(hash) else { return };
        let Some(stored) = shard.find(dialog) else { return };
        stored.due = Some(notify_reason);
        let resource_hash = stored.resource_hash;
        if let Some(entry) = shard.entry_by_hash(resource_hash) {
            entry.due.add(DueNotify::Something);
        }
    }
}
