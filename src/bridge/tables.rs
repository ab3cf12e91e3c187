//! The tables in shared memory: shards, each under one lock, holding the lanes of resources and the subscriptions on them.
//! An index leads from a dialog to its slot, so that neither a refresh nor a NOTIFY ever walks a list.
use super::dialog_index::DialogIndex;
use super::lane::{Documents, Lane};
use super::member::Member;
use super::watcher_counts::WatcherCounts;
use crate::host::shm::{self, NoMemory, Shm, ShmBox, ShmVec};
use crate::host::sync::{Guard, Lock};
use crate::presence::resource::{Resource, UriRule};
use crate::presence::subscription::DialogId;
use hashbrown::HashTable;

/// One part of the tables, under one lock.
pub struct Shard {
    lanes: HashTable<ShmBox<Lane>, Shm>,
    members: ShmVec<Option<ShmBox<Member>>>,
    free: ShmVec<u32>,
    count: usize,
}

/// The shard in which a dialog's subscription is, locked, and its slot there.
pub struct Found<'t> {
    shard: Guard<'t, Shard>,
    slot: u32,
}

impl Found<'_> {
    /// The subscription, if it is still there.
    pub fn find(&mut self, dialog: DialogId<'_>) -> Option<&mut Member> {
        self.shard.member_of(self.slot, dialog)
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

impl std::ops::Deref for Found<'_> {
    type Target = Shard;
    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl std::ops::DerefMut for Found<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }
}

/// All subscriptions and publications of the server.
pub struct Tables {
    shards: ShmVec<Lock<Shard>>,
    dialogs: DialogIndex,
    /// How many subscriptions each watcher has, where that is limited. Not to be asked while a shard is locked.
    pub watchers: WatcherCounts,
    rule: UriRule,
}

/// How many parts the tables have: enough that workers seldom meet.
pub(super) const SHARDS: usize = 128;

/// Room in each part from the start, so that the first thousands do not make them grow step by step.
pub(super) const FIRST: usize = 14;

/// The part in which a hash is at home.
pub(super) fn index(hash: u64) -> usize {
    // The high bits: hashbrown uses the low ones and the top seven.
    (hash >> 40) as usize % SHARDS
}

impl Tables {
    /// Empty tables; `counts_watchers`: the subscriptions of each watcher are counted.
    pub fn new(rule: UriRule, counts_watchers: bool) -> Result<Tables, NoMemory> {
        let mut shards = ShmVec::new_in(Shm);
        shards.try_reserve_exact(SHARDS).map_err(|_| NoMemory)?;
        for _ in 0..SHARDS {
            shards.push(Lock::new(Shard::new()?));
        }
        Ok(Tables { shards, dialogs: DialogIndex::new()?, watchers: WatcherCounts::new(counts_watchers)?, rule })
    }

    /// The shard a resource lives in, locked.
    pub fn shard(&self, resource_hash: u64) -> Guard<'_, Shard> {
        self.shards[index(resource_hash)].lock()
    }

    /// The number of shards, for passes over all of them.
    pub fn shard_count(&self) -> usize {
        SHARDS
    }

    /// The shards in the order in which all of them are written: those that a process has left in the middle of a change come
    /// last, so that nothing found in them costs the others.
    pub fn whole_shards_first(&self) -> Vec<usize> {
        let (mut order, broken): (Vec<usize>, Vec<usize>) = (0..SHARDS).partition(|i| !self.shards[*i].is_orphaned());
        order.extend(broken);
        order
    }

    /// One of the shards, locked.
    pub fn nth_shard(&self, index: usize) -> Guard<'_, Shard> {
        self.shards[index].lock()
    }

    /// The hash of a dialog.
    pub fn dialog_hash(&self, dialog: DialogId<'_>) -> u64 {
        self.rule.exact_hash(&[dialog.call_id, dialog.from_tag, dialog.to_tag])
    }

    /// The shard a dialog's subscription lives in, locked.
    pub fn shard_of_dialog(&self, dialog_hash: u64) -> Option<Found<'_>> {
        let place = self.dialogs.find(dialog_hash)?;
        Some(Found { shard: self.shards[place.shard as usize].lock(), slot: place.slot })
    }

    /// The slot of a dialog's subscription in its shard.
    pub fn slot_of_dialog(&self, dialog_hash: u64) -> Option<u32> {
        Some(self.dialogs.find(dialog_hash)?.slot)
    }

    /// Notes in which shard a new dialog is going to live; `None` when there is a subscription of it, or another process is
    /// making one. Call before the member is inserted, without any shard locked.
    pub fn claim_dialog(&self, dialog_hash: u64, resource_hash: u64) -> Result<Option<DialogClaim<'_>>, NoMemory> {
        let is_new = self.dialogs.announce(dialog_hash, index(resource_hash) as u32)?;
        Ok(is_new.then(|| DialogClaim { tables: self, dialog_hash, slot: None }))
    }

    /// Forgets where a dialog lives. Call after the member was removed, without any shard locked.
    pub fn unplace_dialog(&self, dialog_hash: u64) {
        self.dialogs.remove(dialog_hash);
    }

    /// How many subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        (0..SHARDS).map(|i| self.shards[i].lock().count).sum()
    }

    /// How URIs are compared.
    pub fn rule(&self) -> UriRule {
        self.rule
    }
}

impl Shard {
    /// An empty one.
    fn new() -> Result<Shard, NoMemory> {
        let mut shard =
            Shard { lanes: HashTable::new_in(Shm), members: ShmVec::new_in(Shm), free: ShmVec::new_in(Shm), count: 0 };
        shard.lanes.try_reserve(FIRST, |lane| lane.hash).map_err(|_| NoMemory)?;
        shard.members.try_reserve(FIRST).map_err(|_| NoMemory)?;
        shard.free.try_reserve(FIRST).map_err(|_| NoMemory)?;
        Ok(shard)
    }

    /// The lane of a resource, if anything hangs on it.
    #[inline]
    pub fn lane(&mut self, rule: UriRule, resource: &Resource) -> Option<&mut Lane> {
        self.lanes
            .find_mut(resource.hash, |lane| {
                lane.hash == resource.hash && lane.event == resource.event && rule.same(&lane.uri, &resource.uri)
            })
            .map(|lane| &mut **lane)
    }

    /// The lane with this hash.
    pub fn lane_by_hash(&mut self, hash: u64) -> Option<&mut Lane> {
        self.lanes.find_mut(hash, |lane| lane.hash == hash).map(|lane| &mut **lane)
    }

    /// The lane of a resource, made when there is none; a new one knows its documents as `documents` says.
    pub fn lane_or_new(
        &mut self,
        rule: UriRule,
        resource: &Resource,
        documents: Documents,
    ) -> Result<&mut Lane, NoMemory> {
        if self.lane(rule, resource).is_none() {
            let lane = shm::boxed(Lane::new(resource, documents)?)?;
            self.lanes.try_reserve(1, |lane| lane.hash).map_err(|_| NoMemory)?;
            self.lanes.insert_unique(resource.hash, lane, |lane| lane.hash);
        }
        self.lane(rule, resource).ok_or(NoMemory)
    }

    /// Removes a lane on which nothing hangs.
    pub fn drop_idle_lane(&mut self, rule: UriRule, resource: &Resource) {
        let found = self.lanes.find_entry(resource.hash, |lane| {
            lane.hash == resource.hash && lane.event == resource.event && rule.same(&lane.uri, &resource.uri)
        });
        if let Ok(entry) = found {
            if entry.get().is_idle() {
                entry.remove();
            }
        }
    }

    /// The lanes of this shard.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().map(|lane| &**lane)
    }

    /// The lanes of this shard, to change.
    pub fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut().map(|lane| &mut **lane)
    }

    /// The subscriptions of this shard.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten().map(|member| &**member)
    }

    /// The subscriptions of this shard, to change.
    pub fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.iter_mut().flatten().map(|member| &mut **member)
    }

    /// The subscription in a slot.
    pub fn member(&mut self, slot: u32) -> Option<&mut Member> {
        self.members.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The subscription in a slot, to look at.
    pub fn member_in_slot(&self, slot: u32) -> Option<&Member> {
        self.members.get(slot as usize)?.as_deref()
    }

    /// The subscription in a slot, if it is that of the dialog.
    pub fn member_of(&mut self, slot: u32, dialog: DialogId<'_>) -> Option<&mut Member> {
        self.member(slot).filter(|member| member.subscription.dialog() == dialog)
    }

    /// Adds a subscription to its lane; returns its slot. Nothing is changed when memory runs out.
    pub fn insert(&mut self, rule: UriRule, resource: &Resource, mut member: ShmBox<Member>) -> Result<u32, NoMemory> {
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => {
                shm::push(&mut self.members, None)?;
                let slot = (self.members.len() - 1) as u32;
                // Room to remember the slot when it is free again, so that removal never needs memory.
                let wanted = self.members.capacity();
                let missing = wanted - self.free.len();
                self.free.try_reserve(missing).map_err(|_| {
                    self.members.pop();
                    NoMemory
                })?;
                self.free.push(slot);
                slot
            }
        };
        let lane = self.lane(rule, resource).ok_or(NoMemory)?;
        lane.members.push(slot)?;
        member.place = (lane.members.len() - 1) as u32;
        member.seen = lane.generation;
        self.free.pop();
        self.members[slot as usize] = Some(member);
        self.count += 1;
        Ok(slot)
    }

    /// Takes a subscription out of its lane.
    pub fn remove(&mut self, slot: u32, dialog: DialogId<'_>) -> Option<ShmBox<Member>> {
        self.member_of(slot, dialog)?;
        let member = self.members[slot as usize].take()?;
        self.free.push(slot);
        self.count -= 1;
        let place = member.place as usize;
        let moved = self.lane_by_hash(member.lane_hash).and_then(|lane| {
            lane.members.swap_remove(place);
            // A pass under way may have gone past the place into which the last member has moved.
            lane.pending |= lane.busy;
            lane.members.get(place).copied()
        });
        if let Some(other) = moved.and_then(|slot| self.member(slot)) {
            other.place = place as u32;
        }
        Some(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::member::Hold;
    use crate::host::fake;
    use crate::presence::event_package::PackageId;
    use crate::presence::explain::Trail;
    use crate::presence::subscription::{FIELDS, Journal, Numbers, Status, Subscription};

    const RULE: UriRule = UriRule { ignore_case: false, seed: 7 };

    fn member(resource: &Resource, call: &str) -> Result<ShmBox<Member>, NoMemory> {
        let numbers = Numbers {
            expires_at: 100,
            remote_cseq: 1,
            journal: Journal::Insert,
            ..Numbers::new(resource.event, Status::Active)
        };
        let mut fields: [&[u8]; FIELDS] = [b"x"; FIELDS];
        fields[0] = &resource.uri;
        fields[crate::presence::subscription::Field::CallId as usize] = call.as_bytes();
        let subscription = Subscription::new(numbers, &fields).unwrap();
        shm::boxed(Member {
            subscription: subscription.map(shm::copy)?,
            lane_hash: resource.hash,
            place: 0,
            seen: 0,
            due: None,
            catches_up: false,
            written_cseq: 0,
            trail: Trail::default(),
            aside: Default::default(),
            hold: Hold::default(),
        })
    }

    fn add(tables: &Tables, resource: &Resource, call: &str) -> Result<u64, NoMemory> {
        let member = member(resource, call)?;
        let hash = tables.dialog_hash(member.subscription.dialog());
        let mut claim = tables.claim_dialog(hash, resource.hash)?.expect("the dialog is new");
        let mut shard = tables.shard(resource.hash);
        shard.lane_or_new(RULE, resource, Documents::Known(ShmVec::new_in(Shm)))?;
        shard.insert(RULE, resource, member).map(|slot| claim.set_slot(slot))?;
        Ok(hash)
    }

    fn remove(tables: &Tables, resource: &Resource, call: &str) -> bool {
        let dialog = DialogId { call_id: call.as_bytes(), to_tag: b"x", from_tag: b"x" };
        let hash = tables.dialog_hash(dialog);
        let Some(slot) = tables.slot_of_dialog(hash) else { return false };
        let mut shard = tables.shard(resource.hash);
        let gone = shard.remove(slot, dialog).is_some();
        shard.drop_idle_lane(RULE, resource);
        drop(shard);
        tables.unplace_dialog(hash);
        gone
    }

    #[test]
    fn members_keep_their_places_when_others_leave() {
        let tables = Tables::new(RULE, true).unwrap();
        let resource = RULE.resource(b"sip:alice@example.org", PackageId(0));
        for i in 0..50 {
            add(&tables, &resource, &format!("call-{i}")).unwrap();
        }
        for i in (0..50).step_by(3) {
            assert!(remove(&tables, &resource, &format!("call-{i}")));
        }
        let mut shard = tables.shard(resource.hash);
        let slots = shard.lane(RULE, &resource).unwrap().members.to_vec();
        assert_eq!(slots.len(), 33);
        for (place, slot) in slots.iter().enumerate() {
            assert_eq!(shard.member(*slot).unwrap().place as usize, place);
        }
        drop(shard);
        assert_eq!(tables.subscription_count(), 33);
    }

    #[test]
    fn a_dialog_has_one_subscription() {
        let tables = Tables::new(RULE, true).unwrap();
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
        let tables = Tables::new(RULE, true).unwrap();
        let resource = RULE.resource(b"sip:alice@example.org", PackageId(0));
        let pass = || {
            for round in 0..100 {
                add(&tables, &resource, &format!("call-{round}")).unwrap();
                assert!(remove(&tables, &resource, &format!("call-{round}")));
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
            let tables = Tables::new(RULE, true).unwrap();
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
}
