//! The lanes of resources: what happened, who sends, and portions of NOTIFYs in the order of the changes.
use super::active_watchers as rows;
use super::counters::{self, Counter};
use super::lane::{ChangedWatcher, Farewell, SharedOnce};
use super::members::mark_changed;
use super::row_groups::{Fate, Writer};
use super::senders::Pace;
use super::shared_publication::SharedPublication;
use super::tables::Shard;
use super::world::World;
use crate::host::db::Connection;
use crate::host::shm::{self, NoMemory, ShmBox};
use crate::limited;
use crate::presence::config::SubscriptionMode;
use crate::presence::error::StoreError;
use crate::presence::explain::Traffic;
use crate::presence::notifier;
use crate::presence::ports::{Event, Occasion, Once, Outgoing, Round};
use crate::presence::resource::{Resource, UriRule};
use crate::presence::subscription::{DialogId, Field, Subscription};
use crate::presence::winfo::Watcher;

/// How many NOTIFYs are counted up under one lock.
const PORTION: usize = 32;

/// Changes with more watchers than this are told by a sender process.
const LARGE: usize = 64;

impl World {
    /// See [`crate::presence::ports::Ports::traffic`].
    pub(super) fn traffic_of(&self, resource: &Resource) -> Traffic {
        let tables = &self.shared.tables;
        let mut shard = tables.shard(resource.hash);
        let lane = shard.lane(tables.rule(), resource);
        lane.map(|lane| Traffic { busy: lane.busy, pending: lane.pending }).unwrap_or_default()
    }

    /// Whether anybody subscribes to a resource.
    pub(super) fn has_members(&self, resource: &Resource) -> bool {
        self.member_count(resource) > 0
    }

    /// See [`crate::presence::ports::Ports::happened`].
    pub(super) fn happened_to_lane(&mut self, resource: &Resource, event: Event<'_>) -> bool {
        let tables = &self.shared.tables;
        let rule = tables.rule();
        if matches!(event, Event::Watchers { .. }) && !self.has_members(resource) {
            return false;
        }
        let prepared = Prepared::of(&event);
        let slot = match &event {
            Event::Subscription(dialog, _) => tables.slot_of_dialog(tables.dialog_hash(*dialog)),
            _ => None,
        };
        let mut collapsed = false;
        let mut shard = tables.shard(resource.hash);
        let Some(lane) = shard.lane(rule, resource) else { return false };
        match (&event, prepared) {
            (Event::State { sender, .. }, Prepared::Once(once)) => {
                collapsed = lane.pending;
                // Whoever was told of the new documents before, by an answer to a SUBSCRIBE, is told of the change all the same.
                lane.generation = lane.generation.wrapping_add(1);
                lane.once = once;
                lane.pending |= !lane.members.is_empty();
                lane.for_all = true;
                if !sender.is_empty() {
                    skip_sender(&mut shard, rule, resource, sender);
                }
            }
            (Event::Watchers { full, .. }, Prepared::Watcher(changed)) => {
                if lane.members.is_empty() {
                    return false;
                }
                lane.generation = lane.generation.wrapping_add(1);
                lane.pending = true;
                lane.for_all = true;
                let kept = changed.map(|changed| lane.changes.push(changed));
                // A change that cannot be kept is told by the full list.
                lane.full |= *full || !matches!(kept, Some(Ok(())));
            }
            (Event::Subscription(dialog, occasion), _) => {
                lane.pending = true;
                if let Some(member) = slot.and_then(|slot| shard.member_of(slot, *dialog)) {
                    member.due = Some(*occasion);
                }
            }
            _ => {}
        }
        let Some(lane) = shard.lane(rule, resource) else { return false };
        let take = lane.pending && !lane.busy;
        lane.busy |= take;
        // What nobody watches and has no document any more needs no lane.
        let unseen = if lane.members.is_empty() && !lane.busy { lane.once.take() } else { None };
        if lane.is_idle() {
            shard.drop_idle_lane(rule, resource);
        }
        drop(shard);
        drop(unseen);
        if collapsed {
            counters::count(Counter::Collapsed);
        }
        if take {
            self.held.hold(resource.hash);
        }
        take
    }

    /// Hands a resource whose change goes to many watchers to a sender process. `false`: this process sends.
    fn hand_over(&mut self, resource: &Resource) -> bool {
        let handed = self.shared.senders.hand_over(resource);
        if handed {
            self.held.forget(resource.hash);
            counters::count(Counter::HandedOver);
        }
        handed
    }

    /// Whether a large change is left to the sender processes.
    fn leaves_large_changes(&self) -> bool {
        self.config.sender_processes > 0 && !self.pace.as_ref().is_some_and(Pace::is_of_a_sender)
    }

    /// Marks NOTIFYs that a panic has kept from being sent as due again, and opens the resource. `true` when they are tried
    /// again soon.
    pub(super) fn make_due_again(&mut self, resource: &Resource, unsent: &[Outgoing]) -> bool {
        let tables = &self.shared.tables;
        for outgoing in unsent {
            // The last NOTIFY of a subscription is kept by nothing but this copy.
            let last = outgoing.slot.is_none().then(|| outgoing.subscription.map(shm::copy)).and_then(Result::ok);
            let mut shard = tables.shard(resource.hash);
            if let Some(member) = outgoing.slot.and_then(|s| shard.member_of(s, outgoing.subscription.dialog())) {
                member.due = member.due.or(Some(outgoing.occasion));
            }
            if let (Some(subscription), Some(lane)) = (last, shard.lane(tables.rule(), resource)) {
                let farewell = Farewell { subscription, occasion: outgoing.occasion };
                // Without memory the watcher learns of the end from its own clock.
                let _ = self.held.may_try_again().then(|| lane.farewells.push(farewell));
            }
        }
        self.held.break_off(resource);
        self.held.may_try_again()
    }

    /// Sends once more for the resources whose sending was broken off, each on its own.
    pub fn try_again(mut self, hash: u64) {
        self.held.trying_again();
        let resource = {
            let mut shard = self.shared.tables.shard(hash);
            let Some(lane) = shard.lane_by_hash(hash).filter(|lane| lane.pending && !lane.busy) else { return };
            lane.busy = true;
            lane.resource()
        };
        self.held.hold(hash);
        notifier::run(&mut self, &resource);
    }

    /// Notes that a subscription is due a NOTIFY, and leaves it to whoever sends next for its resource.
    pub(super) fn mark_due(&mut self, dialog: DialogId<'_>, occasion: Occasion) {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        let Some(mut shard) = tables.shard_of_dialog(hash) else { return };
        let Some(member) = shard.find(dialog) else { return };
        member.due = Some(occasion);
        let lane_hash = member.lane_hash;
        if let Some(lane) = shard.lane_by_hash(lane_hash) {
            lane.pending = true;
        }
    }

    /// See [`crate::presence::ports::Ports::begin_round`].
    pub(super) fn begin_lane_round(&mut self, resource: &Resource) -> Option<Round> {
        let tables = &self.shared.tables;
        let rule = tables.rule();
        let mut shard = tables.shard(resource.hash);
        let Some(lane) = shard.lane(rule, resource) else {
            self.held.forget(resource.hash);
            return None;
        };
        if !lane.pending {
            lane.busy = false;
            shard.drop_idle_lane(rule, resource);
            drop(shard);
            self.held.forget(resource.hash);
            return None;
        }
        let lane = if lane.for_all && lane.members.len() > LARGE && self.leaves_large_changes() {
            drop(shard);
            if self.hand_over(resource) {
                return None;
            }
            shard = tables.shard(resource.hash);
            shard.lane(rule, resource)?
        } else {
            lane
        };
        lane.pending = false;
        lane.for_all = false;
        fault_point!("round");
        let once = lane.once.take();
        let changes = lane.changes.take();
        let round = Round {
            cursor: 0,
            generation: lane.generation,
            documents: lane.documents_version,
            full: std::mem::take(&mut lane.full),
            once: None,
            changes: Vec::new(),
        };
        drop(shard);
        Some(Round { once: once.map(private_once), changes: changes.iter().map(private_watcher).collect(), ..round })
    }

    /// See [`crate::presence::ports::Ports::next_portion`].
    pub(super) fn next_members(&mut self, resource: &Resource, round: &mut Round) -> Vec<Outgoing> {
        let tables = &self.shared.tables;
        let mut portion = Vec::new();
        let mut shard = tables.shard(resource.hash);
        let Some(lane) = shard.lane(tables.rule(), resource) else { return portion };
        if round.cursor == 0 && !lane.farewells.is_empty() {
            let farewells = lane.farewells.take();
            portion.extend(farewells.iter().map(|f| Outgoing {
                subscription: f.subscription.to_private(),
                occasion: f.occasion,
                slot: None,
            }));
            drop(shard);
            return portion;
        }
        let now = crate::host::clock::now();
        let mut unwritten = Vec::new();
        while let Some(lane) = shard.lane(tables.rule(), resource) {
            let Some(slot) = lane.members.get(round.cursor).copied() else { break };
            let member = shard.member(slot).filter(|member| member.hold.owner.is_here());
            let Some((member, occasion)) = member.and_then(|m| m.next_occasion(round.generation, now).map(|o| (m, o)))
            else {
                round.cursor += 1;
                continue;
            };
            member.trail.told_at = now as u32;
            let numbers = &mut member.subscription.numbers;
            numbers.local_cseq += 1;
            numbers.version += 1;
            if self.config.subscriptions == SubscriptionMode::WriteBack {
                mark_changed(&mut numbers.journal);
            }
            let copy = member.subscription.to_private();
            let is_behind = match self.config.subscriptions {
                SubscriptionMode::WriteThrough => copy.numbers.local_cseq > member.written_cseq,
                SubscriptionMode::WriteBack => self.is_far_ahead(member),
                _ => false,
            };
            if is_behind {
                member.written_cseq = copy.numbers.local_cseq;
                unwritten.push(portion.len());
            }
            portion.push(Outgoing { subscription: copy, occasion, slot: Some(slot) });
            if portion.len() >= PORTION {
                break;
            }
        }
        drop(shard);
        fault_point!("portion");
        self.write_counters(&portion, &unwritten);
        portion
    }

    /// The numbers are in the table before the NOTIFYs leave: all in write-through, in write-back those that are far ahead.
    fn write_counters(&self, portion: &[Outgoing], unwritten: &[usize]) {
        if unwritten.is_empty() {
            return;
        }
        let table = self.config.active_watchers_table;
        let which: Vec<&Subscription> = unwritten.iter().map(|at| &portion[*at].subscription).collect();
        let write = |db: &Connection, subscription: &&Subscription| rows::update_counters(db, table, subscription);
        // Numbers fit their columns.
        let outcome = Writer { database: self.database, table, fits: &|_| true, write: &write }.write_group(&which);
        let lost = which.len() - outcome.count(Fate::Written);
        if lost > 0 {
            let why = outcome.error.unwrap_or(StoreError::Refused);
            limited!(Error, "cannot write the sequence numbers of {lost} subscriptions: {why}");
        }
    }
}

/// What an event needs of shared memory, made before a lock is taken. Without memory the watchers get the plain state.
enum Prepared {
    Once(Option<ShmBox<SharedOnce>>),
    Watcher(Option<ChangedWatcher>),
    Nothing,
}

impl Prepared {
    fn of(event: &Event<'_>) -> Prepared {
        match event {
            Event::State { once, .. } => Prepared::Once(once.as_ref().and_then(|once| share_once(once).ok())),
            Event::Watchers { watcher, .. } => Prepared::Watcher(share_watcher(watcher).ok()),
            _ => Prepared::Nothing,
        }
    }
}

/// The sender of a change, known by its Contact, is not told of it.
fn skip_sender(shard: &mut Shard, rule: UriRule, resource: &Resource, sender: &[u8]) {
    let Some(lane) = shard.lane(rule, resource) else { return };
    let (generation, slots) = (lane.generation, lane.members.to_vec());
    for slot in slots {
        if let Some(member) = shard.member(slot) {
            if member.subscription.get(Field::Contact) == sender {
                member.seen = generation;
            }
        }
    }
}

fn share_once(once: &Once) -> Result<ShmBox<SharedOnce>, NoMemory> {
    shm::boxed(match once {
        Once::Removed(publication, place) => SharedOnce::Removed(SharedPublication::new(publication)?, *place),
        Once::Body(body) => SharedOnce::Body(shm::copy(body)?),
    })
}

fn private_once(once: ShmBox<SharedOnce>) -> Once {
    match &*once {
        SharedOnce::Removed(publication, place) => Once::Removed(publication.to_private(), *place),
        SharedOnce::Body(body) => Once::Body(body.to_vec()),
    }
}

fn share_watcher(watcher: &Watcher) -> Result<ChangedWatcher, NoMemory> {
    Ok(ChangedWatcher {
        bytes: shm::concat(&[&watcher.uri, &watcher.id])?,
        uri_len: watcher.uri.len() as u32,
        status: watcher.status,
        event: watcher.event,
        times: watcher.times,
    })
}

fn private_watcher(changed: &ChangedWatcher) -> Watcher {
    let (uri, id) = changed.bytes.split_at(changed.uri_len as usize);
    Watcher { uri: uri.to_vec(), id: id.to_vec(), status: changed.status, event: changed.event, times: changed.times }
}
