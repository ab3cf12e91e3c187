//! The tables in shared memory: shards, each under one lock, with the entries of resources and the subscriptions on
//! them. An index leads from a dialog to its slot, so that neither a refresh nor a NOTIFY ever walks a list.
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::server::tables::resource_entry::{Documents, DueNotify, ResourceEntry};
use crate::shm_safe::shm_safe;
pub mod authorization_cache;
pub mod clock_steps;
pub mod dialog_index;
pub mod ended_dialogs;
pub mod judgements;
pub mod late_documents;
pub mod lazy_vec;
pub mod noted_changes;
pub mod pending_deletions;
pub mod publication_entry;
pub mod recent_dialogs;
pub mod resource_entry;
pub mod sharding;
pub mod slot_vec;
pub mod stored;
pub mod subscription_entry;
pub mod watched;
pub mod watcher_counts;

use crate::cluster::digest::RecordKey;
use crate::common::unwritten_rows::UnwrittenRows;
use crate::host::lock::{Guard, Lock};
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::event_package::PackageId;
use crate::presence::replication::node_messages::dialog_key;
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::seen::NotifiedChanges;
use crate::server::tables::dialog_index::DialogIndex;
use crate::server::tables::sharding::{FIRST, SHARDS, index};
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use crate::server::tables::watcher_counts::{Counting, WatcherCounts};
use crate::time::Moment;
use hashbrown::HashTable;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// One part of the tables, under one lock.
pub struct Shard {
    entries: HashTable<ShmBox<ResourceEntry>, Shm>,
    subscriptions: ShmVec<Option<ShmBox<SubscriptionEntry>>>,
    free: ShmVec<u32>,
    count: usize,
}

shm_safe!(Shard { entries, subscriptions, free, count });

/// The shard in which a dialog's subscription is, locked, and its slot there.
pub struct FoundSubscription<'t> {
    shard: Guard<'t, Shard>,
    slot: u32,
}

impl FoundSubscription<'_> {
    /// The subscription, if it is still there.
    pub fn find(&mut self, dialog: DialogId<'_>) -> Option<&mut SubscriptionEntry> {
        self.shard.stored_of_dialog(self.slot, dialog)
    }
}

/// A dialog whose subscription is being made; it is forgotten again unless the subscription gets a slot.
pub struct DialogClaim<'t> {
    tables: &'t Tables,
    dialog_hash: u64,
    slot: Option<u32>,
}

impl DialogClaim<'_> {
    /// The subscription has been inserted; its shard is still locked.
    pub fn set_slot(&mut self, slot: u32) {
        self.slot = Some(slot);
        self.tables.dialogs.set_slot(self.dialog_hash, slot);
    }
}

impl Drop for DialogClaim<'_> {
    fn drop(&mut self) {
        if self.slot.is_none() {
            self.tables.dialogs.remove(self.dialog_hash);
        }
    }
}

impl std::ops::Deref for FoundSubscription<'_> {
    type Target = Shard;
    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl std::ops::DerefMut for FoundSubscription<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

/// Whether other nodes hold the same subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Other nodes name a subscription by its key.
    WithNodes,
    /// Other nodes name none.
    None,
}

/// All subscriptions and publications of the server.
pub struct Tables {
    shards: ShmVec<Lock<Shard>>,
    dialogs: DialogIndex,
    /// Where the subscription of each dialog is by its key among all nodes, where nodes share them. What is missing,
    /// for want of memory, is asked of the other nodes.
    keys: Option<DialogIndex>,
    /// How many subscriptions each watcher has, where that is limited. Not to be asked while a shard is locked.
    pub watchers: WatcherCounts,
    /// How many resource entries are marked as not judged since the start.
    unjudged: &'static AtomicUsize,
    /// Packages that there has been a subscription to, one bit each; packages of higher numbers count as such.
    subscribed_to: &'static AtomicU64,
    /// How many subscriptions have come, see [`SubscriptionEntry::arrival`].
    arrivals: &'static AtomicU32,
    /// Subscriptions that are newer than their rows.
    pub unwritten: &'static UnwrittenRows,
    rule: UriComparison,
}

impl Tables {
    /// Empty tables.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(rule: UriComparison, counting: Counting, sharing: Sharing) -> Result<Tables, NoMemory> {
        let mut shards = ShmVec::new_in(Shm);
        shards.try_reserve_exact(SHARDS).map_err(|_| NoMemory)?;
        for _ in 0..SHARDS {
            shards.push(Lock::new(Shard::new()?));
        }
        let (dialogs, watchers) = (DialogIndex::new()?, WatcherCounts::new(counting)?);
        let (unjudged, subscribed_to) = (shm::leak(AtomicUsize::new(0))?, shm::leak(AtomicU64::new(0))?);
        let keys = match sharing {
            Sharing::WithNodes => Some(DialogIndex::new()?),
            Sharing::None => None,
        };
        let (arrivals, unwritten) = (shm::leak(AtomicU32::new(0))?, shm::leak(UnwrittenRows::default())?);
        Ok(Tables { shards, dialogs, keys, watchers, unjudged, subscribed_to, arrivals, unwritten, rule })
    }

    /// There is going to be a subscription to a package.
    pub fn note_subscribed(&self, event: PackageId) {
        let bit = 1u64.checked_shl(event.0.into()).unwrap_or(0);
        if self.subscribed_to.load(Ordering::Relaxed) & bit != bit {
            self.subscribed_to.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Whether there has been a subscription to a package since the start.
    pub fn was_subscribed_to(&self, event: PackageId) -> bool {
        let bit = 1u64.checked_shl(event.0.into()).unwrap_or(0);
        bit == 0 || self.subscribed_to.load(Ordering::SeqCst) & bit != 0
    }

    /// The shard a resource lives in, locked.
    pub fn shard(&self, resource_hash: u64) -> Guard<'_, Shard> {
        self.shards[index(resource_hash)].lock()
    }

    /// The number of shards, for passes over all of them.
    pub fn shard_count(&self) -> usize {
        SHARDS
    }

    /// The shards in the order in which all of them are written: those that a process has left in the middle of a
    /// change come last, so that nothing found in them costs the others.
    pub fn whole_shards_first(&self) -> Vec<usize> {
        let (mut order, broken) = self.whole_and_broken_shards();
        order.extend(broken);
        order
    }

    /// The shards that nobody has left in the middle of a change, and the others.
    pub fn whole_and_broken_shards(&self) -> (Vec<usize>, Vec<usize>) {
        (0..SHARDS).partition(|i| !self.shards[*i].is_orphaned())
    }

    /// One of the shards, locked.
    pub fn nth_shard(&self, index: usize) -> Guard<'_, Shard> {
        self.shards[index].lock()
    }

    /// All shards, each locked when its turn comes.
    pub fn shards(&self) -> impl Iterator<Item = Guard<'_, Shard>> {
        self.shards.iter().map(|shard| shard.lock())
    }

    /// Copies of the live subscriptions that are wanted, at most `most`.
    pub fn live(
        &self,
        now: Moment,
        most: usize,
        wanted: impl Fn(&SubscriptionEntry) -> bool,
    ) -> Vec<(Subscription, Ownership)> {
        let mut found = Vec::new();
        for shard in self.shards.iter().map(Lock::lock) {
            let is_live = |stored: &&SubscriptionEntry| {
                let state = &stored.subscription.state;
                state.expires_at > now && state.status != Status::Terminated && wanted(stored)
            };
            let wanted = shard.subscriptions().filter(is_live).take(most - found.len());
            found.extend(wanted.map(|stored| (stored.subscription.to_private(), stored.ownership)));
            if found.len() == most {
                break;
            }
        }
        found
    }

    /// The hash of a dialog.
    pub fn dialog_hash(&self, dialog: DialogId<'_>) -> u64 {
        self.rule.exact_hash(&[dialog.call_id, dialog.from_tag, dialog.to_tag])
    }

    /// The shard a dialog's subscription lives in, locked.
    pub fn shard_of_dialog(&self, dialog_hash: u64) -> Option<FoundSubscription<'_>> {
        let place = self.dialogs.find(dialog_hash)?;
        Some(FoundSubscription { shard: self.shards[place.shard as usize].lock(), slot: place.slot })
    }

    /// The slot of a dialog's subscription in its shard.
    pub fn slot_of_dialog(&self, dialog_hash: u64) -> Option<u32> {
        Some(self.dialogs.find(dialog_hash)?.slot)
    }

    /// Notes in which shard a new dialog is going to live; `None` when there is a subscription of it, or another
    /// process is making one. Call before the stored subscription is inserted, without any shard locked.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out; nothing is noted then.
    pub fn claim_dialog(&self, dialog_hash: u64, resource_hash: u64) -> Result<Option<DialogClaim<'_>>, NoMemory> {
        let is_new = self.dialogs.announce(dialog_hash, index(resource_hash) as u32)?;
        Ok(is_new.then(|| DialogClaim { tables: self, dialog_hash, slot: None }))
    }

    /// Forgets where a dialog lives. Call after the stored subscription was removed, without any shard locked.
    pub fn unplace_dialog(&self, dialog_hash: u64) {
        self.dialogs.remove(dialog_hash);
    }

    /// Notes where a subscription lives that other nodes may speak of.
    pub(crate) fn note_key(&self, key: RecordKey, resource_hash: u64, slot: u32) {
        let Some(keys) = &self.keys else { return };
        if keys.announce(key.0, index(resource_hash) as u32).is_ok_and(|is_new| is_new) {
            keys.set_slot(key.0, slot);
        }
    }

    /// Forgets it.
    pub(crate) fn forget_key(&self, dialog: DialogId<'_>) {
        if let Some(keys) = &self.keys {
            keys.remove(dialog_key(dialog).0);
        }
    }

    /// The subscription with a key, looked at or changed under its lock; `None` when it is not known by its key.
    pub(crate) fn with_key<R>(&self, key: RecordKey, work: impl FnOnce(&mut SubscriptionEntry) -> R) -> Option<R> {
        let place = self.keys.as_ref()?.find(key.0)?;
        let mut shard = self.shards[place.shard as usize].lock();
        let stored = shard.subscriptions.get_mut(place.slot as usize)?.as_mut()?;
        (dialog_key(stored.subscription.dialog()) == key).then(|| work(stored))
    }

    /// How many subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        (0..SHARDS).map(|i| self.shards[i].lock().count).sum()
    }

    /// How URIs are compared.
    pub fn rule(&self) -> UriComparison {
        self.rule
    }
}

impl Shard {
    /// An empty one.
    fn new() -> Result<Shard, NoMemory> {
        let mut shard = Shard {
            entries: HashTable::new_in(Shm),
            subscriptions: ShmVec::new_in(Shm),
            free: ShmVec::new_in(Shm),
            count: 0,
        };
        shard.entries.try_reserve(FIRST, |entry| entry.hash).map_err(|_| NoMemory)?;
        shard.subscriptions.try_reserve(FIRST).map_err(|_| NoMemory)?;
        shard.free.try_reserve(FIRST).map_err(|_| NoMemory)?;
        Ok(shard)
    }

    /// The resource entry of a resource, if anything hangs on it.
    #[inline]
    pub fn entry(&mut self, rule: UriComparison, resource: &Resource) -> Option<&mut ResourceEntry> {
        self.entries
            .find_mut(resource.hash, |entry| {
                entry.hash == resource.hash && entry.event == resource.event && rule.same(&entry.uri, &resource.uri)
            })
            .map(|entry| &mut **entry)
    }

    /// The resource entry with this hash.
    pub fn entry_by_hash(&mut self, hash: u64) -> Option<&mut ResourceEntry> {
        self.entries.find_mut(hash, |entry| entry.hash == hash).map(|entry| &mut **entry)
    }

    /// The resource entry of a resource, made when there is none; a new one knows its documents as `documents` says.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out; nothing is added then.
    pub fn entry_or_new(
        &mut self,
        rule: UriComparison,
        resource: &Resource,
        documents: Documents,
    ) -> Result<&mut ResourceEntry, NoMemory> {
        if self.entry(rule, resource).is_none() {
            let entry = shm::boxed(ResourceEntry::new(resource, documents)?)?;
            self.entries.try_reserve(1, |entry| entry.hash).map_err(|_| NoMemory)?;
            self.entries.insert_unique(resource.hash, entry, |entry| entry.hash);
        }
        self.entry(rule, resource).ok_or(NoMemory)
    }

    /// Removes a resource entry on which nothing hangs, and what it has for watchers when there are none.
    pub fn drop_idle_entry(&mut self, rule: UriComparison, resource: &Resource) {
        let found = self.entries.find_entry(resource.hash, |entry| {
            entry.hash == resource.hash && entry.event == resource.event && rule.same(&entry.uri, &resource.uri)
        });
        if let Ok(entry) = found {
            if entry.get().is_idle() {
                entry.remove();
            } else {
                entry.into_mut().forget_if_unwatched();
            }
        }
    }

    /// The resource entries of this shard.
    pub fn entries(&self) -> impl Iterator<Item = &ResourceEntry> {
        self.entries.iter().map(|entry| &**entry)
    }

    /// The resource entries of this shard, to change.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut ResourceEntry> {
        self.entries.iter_mut().map(|entry| &mut **entry)
    }

    /// The subscriptions of this shard.
    pub fn subscriptions(&self) -> impl Iterator<Item = &SubscriptionEntry> {
        self.subscriptions.iter().flatten().map(|stored| &**stored)
    }

    /// The subscriptions of this shard from a slot on, with their slots.
    pub fn subscriptions_from(&self, slot: u32) -> impl Iterator<Item = (u32, &SubscriptionEntry)> {
        let slots = self.subscriptions.iter().enumerate().skip(slot as usize);
        slots.filter_map(|(slot, stored)| stored.as_deref().map(|stored| (slot as u32, stored)))
    }

    /// The subscriptions of this shard, to change.
    pub fn subscriptions_mut(&mut self) -> impl Iterator<Item = &mut SubscriptionEntry> {
        self.subscriptions.iter_mut().flatten().map(|stored| &mut **stored)
    }

    /// The subscription in a slot.
    pub fn stored(&mut self, slot: u32) -> Option<&mut SubscriptionEntry> {
        self.subscriptions.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The subscription in a slot, to look at.
    pub fn stored_in_slot(&self, slot: u32) -> Option<&SubscriptionEntry> {
        self.subscriptions.get(slot as usize)?.as_deref()
    }

    /// The subscription in a slot, if it is that of the dialog.
    pub fn stored_of_dialog(&mut self, slot: u32, dialog: DialogId<'_>) -> Option<&mut SubscriptionEntry> {
        self.stored(slot).filter(|stored| stored.subscription.dialog() == dialog)
    }

    /// Adds a subscription to its resource entry; returns its slot. Nothing is changed when memory runs out.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, and when the resource has no entry.
    pub fn insert(
        &mut self,
        rule: UriComparison,
        resource: &Resource,
        mut stored: ShmBox<SubscriptionEntry>,
    ) -> Result<u32, NoMemory> {
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => {
                shm::push(&mut self.subscriptions, None)?;
                let slot = (self.subscriptions.len() - 1) as u32;
                // Room to remember the slot when it is free again, so that removal never needs memory.
                let wanted = self.subscriptions.capacity();
                let missing = wanted - self.free.len();
                self.free.try_reserve(missing).map_err(|_| {
                    self.subscriptions.pop();
                    NoMemory
                })?;
                self.free.push(slot);
                slot
            }
        };
        let entry = self.entry(rule, resource).ok_or(NoMemory)?;
        let subscriptions = &mut entry.watched_or_new()?.subscriptions;
        subscriptions.push(slot)?;
        stored.place = (subscriptions.len() - 1) as u32;
        stored.seen = NotifiedChanges::up_to(entry.generation);
        self.free.pop();
        self.subscriptions[slot as usize] = Some(stored);
        self.count += 1;
        Ok(slot)
    }

    /// Takes a subscription out of its resource entry.
    pub fn remove(&mut self, slot: u32, dialog: DialogId<'_>) -> Option<ShmBox<SubscriptionEntry>> {
        self.stored_of_dialog(slot, dialog)?;
        let stored = self.subscriptions[slot as usize].take()?;
        self.free.push(slot);
        self.count -= 1;
        let place = stored.place as usize;
        let moved = self.entry_by_hash(stored.resource_hash).and_then(|entry| {
            entry.watched.as_mut()?.subscriptions.swap_remove(place);
            // A pass under way may have gone past the place into which the last stored subscription has moved.
            if entry.busy {
                entry.due.add(DueNotify::Something);
            }
            entry.subscriptions().get(place).copied()
        });
        if let Some(other) = moved.and_then(|slot| self.stored(slot)) {
            other.place = place as u32;
        }
        Some(stored)
    }
}

/// The hash of a subscription's watcher.
pub(crate) fn watcher_hash<B: AsRef<[u8]>>(tables: &Tables, subscription: &Subscription<B>) -> u64 {
    tables.rule().exact_hash(&[subscription.get(Field::WatcherUser), subscription.get(Field::WatcherDomain)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;
    use crate::presence::event_package::PackageId;
    use crate::presence::notification::NotifyHistory;
    use crate::presence::subscription::field::FIELDS;
    use crate::presence::subscription::{RowState, SubscriptionState};

    const RULE: UriComparison = UriComparison { ignore_case: false, seed: 7 };

    fn stored(resource: &Resource, call: &str) -> Result<ShmBox<SubscriptionEntry>, NoMemory> {
        let state = SubscriptionState {
            expires_at: Moment::at(100),
            remote_cseq: 1,
            row_state: RowState::Insert,
            ..SubscriptionState::new(resource.event, Status::Active)
        };
        let mut fields: [&[u8]; FIELDS] = [b"x"; FIELDS];
        fields[0] = &resource.uri;
        fields[crate::presence::subscription::field::Field::CallId as usize] = call.as_bytes();
        let subscription = Subscription::new(state, &fields).unwrap();
        shm::boxed(SubscriptionEntry {
            subscription: subscription.map(shm::copy)?,
            resource_hash: resource.hash,
            place: 0,
            seen: NotifiedChanges::default(),
            due: None,
            catches_up: false,
            written_cseq: 0,
            copied_cseq: 0,
            arrival: 0,
            is_being_written: false,
            notify_history: NotifyHistory::default(),
            aside: Default::default(),
            ownership: Ownership::default(),
            announced: None,
        })
    }

    fn add(tables: &Tables, resource: &Resource, call: &str) -> Result<u64, NoMemory> {
        let stored = stored(resource, call)?;
        let hash = tables.dialog_hash(stored.subscription.dialog());
        let mut claim = tables.claim_dialog(hash, resource.hash)?.expect("the dialog is new");
        let mut shard = tables.shard(resource.hash);
        shard.entry_or_new(RULE, resource, Documents::Known(ShmVec::new_in(Shm)))?;
        shard.insert(RULE, resource, stored).map(|slot| claim.set_slot(slot))?;
        Ok(hash)
    }

    fn remove(tables: &Tables, resource: &Resource, call: &str) -> bool {
        let dialog = DialogId { call_id: call.as_bytes(), to_tag: b"x", from_tag: b"x" };
        let hash = tables.dialog_hash(dialog);
        let Some(slot) = tables.slot_of_dialog(hash) else { return false };
        let mut shard = tables.shard(resource.hash);
        let removed = shard.remove(slot, dialog).is_some();
        shard.drop_idle_entry(RULE, resource);
        drop(shard);
        tables.unplace_dialog(hash);
        removed
    }

    #[test]
    fn members_keep_their_places_when_others_leave() {
        let tables = Tables::new(RULE, Counting::PerWatcher, Sharing::WithNodes).unwrap();
        let resource = RULE.resource(b"sip:alice@example.org", PackageId(0));
        for i in 0..50 {
            add(&tables, &resource, &format!("call-{i}")).unwrap();
        }
        for i in (0..50).step_by(3) {
            assert!(remove(&tables, &resource, &format!("call-{i}")));
        }
        let mut shard = tables.shard(resource.hash);
        let slots = shard.entry(RULE, &resource).unwrap().subscriptions().to_vec();
        assert_eq!(slots.len(), 33);
        for (place, slot) in slots.iter().enumerate() {
            assert_eq!(shard.stored(*slot).unwrap().place as usize, place);
        }
        drop(shard);
        assert_eq!(tables.subscription_count(), 33);
    }

    #[test]
    fn a_dialog_has_one_subscription() {
        let tables = Tables::new(RULE, Counting::PerWatcher, Sharing::WithNodes).unwrap();
        let resource = RULE.resource(b"sip:alice@example.org", PackageId(0));
        let hash = add(&tables, &resource, "call").unwrap();
        assert!(tables.claim_dialog(hash, resource.hash).unwrap().is_none());
        assert!(remove(&tables, &resource, "call"));
        // A claim that comes to nothing is no longer in the way.
        drop(tables.claim_dialog(hash, resource.hash).unwrap().expect("it is gone"));
        assert!(tables.claim_dialog(hash, resource.hash).unwrap().is_some());
    }

    #[test]
    fn everything_is_given_back() {
        let tables = Tables::new(RULE, Counting::PerWatcher, Sharing::WithNodes).unwrap();
        let resource = RULE.resource(b"sip:alice@example.org", PackageId(0));
        let pass = || {
            for number in 0..100 {
                add(&tables, &resource, &format!("call-{number}")).unwrap();
                assert!(remove(&tables, &resource, &format!("call-{number}")));
            }
        };
        // The indexes keep the room they once had, so the first pass may grow them.
        pass();
        let before = fake::live_blocks();
        pass();
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_nothing_changes_and_nothing_leaks() {
        for n in 0.. {
            let tables = Tables::new(RULE, Counting::PerWatcher, Sharing::WithNodes).unwrap();
            let resource = RULE.resource(b"sip:alice@example.org", PackageId(0));
            let (added, failed) = fake::failing_at(n, || add(&tables, &resource, "call"));
            assert_eq!(fake::held_locks(), 0);
            if !failed {
                assert!(added.is_ok());
                return;
            }
            assert_eq!(added, Err(NoMemory), "allocation {n}");
            assert_eq!(tables.subscription_count(), 0);
            add(&tables, &resource, "call").expect("it works once there is memory again");
        }
    }

    #[test]
    fn a_step_takes_no_more_subscriptions_than_it_may() {
        let tables = Tables::new(RULE, Counting::PerWatcher, Sharing::WithNodes).unwrap();
        for n in 0..40 {
            // Many in one shard, and some in others.
            let resource = RULE.resource(format!("sip:{}@b", n % 3).as_bytes(), PackageId(0));
            add(&tables, &resource, &format!("call-{n}")).unwrap();
        }
        let found = |most, now| tables.live(Moment::at(now), most, |_| true).len();
        assert_eq!([1, 5, 39, 40, 41].map(|most| found(most, 50)), [1, 5, 39, 40, 40]);
        assert_eq!(found(40, 100), 0, "they have expired");
        let call = |n: usize| format!("call-{n}").into_bytes();
        assert_eq!(tables.live(Moment::at(50), 40, |stored| stored.subscription.dialog().call_id == call(7)).len(), 1);
    }
}
