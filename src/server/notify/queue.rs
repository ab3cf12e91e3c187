//! The queues of resources: which state changes are due, who sends, and batches of NOTIFYs in the order of the changes.
use crate::caught::caught;
use crate::cluster::numbers::reserve;
use crate::common::counters::{self, Counter};
use crate::common::row_groups::{RowOutcome, Writer};
use crate::host::clock;
use crate::host::db::Connection;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, ShmBox};
use crate::limited;
use crate::presence::error::StoreError;
use crate::presence::notification::spare_blocks::SpareBlocks;
use crate::presence::notification::{Notify, NotifyRun, StateChange, Unsent};
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{RowState, Subscription};
use crate::presence::winfo::Watcher;
use crate::server::announcing::stock_announce::{self, skip_stock_watchers};
use crate::server::announcing::{arbitration, asking, subscriptions};
use crate::server::notifications::pacing::Pacing;
use crate::server::notifications::senders::FanOutSize;
use crate::server::shared::Parts;
use crate::server::subscriptions::active_watchers_table;
use crate::server::subscriptions::rows_behind::{RowsBehind, mark_unwritten};
use crate::server::tables::noted_changes::Outdated;
use crate::server::tables::resource_entry::{DueNotify, ResourceEntry};
use crate::server::tables::subscription_entry::Ownership;
use crate::server::tables::watched::{ChangedWatcher, FinalNotify, SharedTransientBody};
use crate::server::tables::{Shard, Tables};
use crate::server::work::{Again, NotifyQueue, Work};
use crate::sip::packed::Strings;
use crate::sip::target::NextHop;
use std::ops::Deref;

/// How many NOTIFYs are counted up under one lock.
const BATCH_SIZE: usize = 32;

/// Changes with more watchers than this are sent by a sender process.
const LARGE: usize = 64;

/// The queues of the resources, in shared memory.
pub(crate) struct ResourceQueues {
    parts: Parts,
    rows: &'static dyn RowsBehind,
}

impl Deref for ResourceQueues {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// Whether the process that notes a change sends for the resource at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    /// The caller takes the queue, if nobody has it.
    Now,
    /// The caller answers a request first.
    Later,
}

impl NotifyQueue for ResourceQueues {
    fn begin_change(&self, _: &mut Work, _: &Resource) {}

    fn forget_change(&self, _: &mut Work) {}

    fn note_change(&self, _: &mut Work, _: &Resource) {}

    fn enqueue(&self, work: &mut Work, resource: &Resource, event: StateChange<'_>) -> bool {
        let is_taken = self.note(work, resource, event, Take::Now);
        if is_taken {
            work.held.hold(resource.hash);
        }
        is_taken
    }

    fn mark(&self, work: &mut Work, resource: &Resource, event: StateChange<'_>) -> bool {
        let is_open = self.note(work, resource, event, Take::Later);
        if is_open {
            work.held.mark(resource.hash);
        }
        is_open
    }

    fn claim(&self, work: &mut Work, resource: &Resource) -> bool {
        work.held.unmark(resource.hash);
        let tables = &self.shared.tables;
        let mut shard = tables.shard(resource.hash);
        let entry = shard
            .entry(tables.rule(), resource)
            .filter(|entry| entry.due.contains(DueNotify::Something) && !entry.busy);
        let is_taken = entry.map(|entry| entry.busy = true).is_some();
        drop(shard);
        if is_taken {
            work.held.hold(resource.hash);
        }
        is_taken
    }

    fn begin_run(&self, work: &mut Work, resource: &Resource) -> Option<NotifyRun> {
        // What is due stays due until the node may send again.
        let may_speak = asking::may_speak(self);
        let tables = &self.shared.tables;
        let rule = tables.rule();
        let mut shard = tables.shard(resource.hash);
        let Some(entry) = shard.entry(rule, resource) else {
            work.held.forget(resource.hash);
            return None;
        };
        if !entry.due.contains(DueNotify::Something) || !may_speak {
            entry.busy = false;
            shard.drop_idle_entry(rule, resource);
            drop(shard);
            work.held.forget(resource.hash);
            return None;
        }
        let size = if entry.subscriptions().len() > LARGE { FanOutSize::Large } else { FanOutSize::Small };
        // A SUBSCRIBE does not wait for its NOTIFY because others do not answer theirs.
        let is_asked = entry.due.contains(DueNotify::Asked) || !entry.final_notifies().is_empty();
        let may_be_left = entry.due.contains(DueNotify::ForAll) && self.leaves_large_changes(work);
        let are_many = || self.shared.senders.outstanding.are_many(clock::micro_tick);
        let is_left = match size {
            FanOutSize::Large => may_be_left,
            FanOutSize::Small => may_be_left && !is_asked && are_many() && all_over_udp(&mut shard, rule, resource),
        };
        if is_left {
            drop(shard);
            if self.hand_over(work, resource, size) {
                return None;
            }
            shard = tables.shard(resource.hash);
        }
        let entry = shard.entry(rule, resource)?;
        let carried = entry.carry();
        fault_point!("round");
        let notify_run = NotifyRun {
            cursor: 0,
            generation: entry.generation,
            documents: entry.documents_version,
            extent: carried.extent,
            changed_at: carried.changed_at,
            ..NotifyRun::default()
        };
        drop(shard);
        Some(NotifyRun {
            transient_body: carried.transient_body.as_deref().map(SharedTransientBody::to_private),
            changes: carried.changes.iter().map(private_watcher).collect(),
            ..notify_run
        })
    }

    fn next_batch(&self, _: &mut Work, resource: &Resource, notify_run: &mut NotifyRun) -> Vec<Notify> {
        let tables = &self.shared.tables;
        let mut batch = Vec::new();
        let mut shard = tables.shard(resource.hash);
        let Some(entry) = shard.entry(tables.rule(), resource) else { return batch };
        if notify_run.cursor == 0 && !entry.final_notifies().is_empty() {
            notify_run.is_at_end = entry.subscriptions().is_empty();
            let final_notifies = entry.take_final_notifies();
            batch.extend(final_notifies.iter().map(notify_of_end));
            drop(shard);
            return batch;
        }
        let now = crate::host::clock::now();
        let (mut uncounted, mut above) = (Vec::new(), Vec::new());
        let shares = self.config.shares_subscriptions;
        let most = entry.subscriptions().len().saturating_sub(notify_run.cursor).min(BATCH_SIZE);
        batch = Vec::with_capacity(most);
        let mut spare = SpareBlocks::of_batch(most);
        while let Some(entry) = shard.entry(tables.rule(), resource) {
            let Some(slot) = entry.subscriptions().get(notify_run.cursor).copied() else {
                // A subscription that is added later is due by a change of its own.
                notify_run.is_at_end = true;
                break;
            };
            let stored = shard.stored(slot).filter(|stored| serves(self, &stored.ownership));
            let Some((stored, notify_reason)) =
                stored.and_then(|m| m.next_notify_reason(notify_run.generation, now).map(|o| (m, o)))
            else {
                notify_run.cursor += 1;
                continue;
            };
            // One that is behind is looked at again: it is sent another one of the change.
            notify_run.cursor += usize::from(stored.has_seen(notify_run.generation));
            stored.notify_history.notified_at = Some(now.into());
            let state = &mut stored.subscription.state;
            state.local_cseq += 1;
            state.version += 1;
            let is_reserved = !shares || reserve(state.local_cseq, stored.ownership.ceiling).is_none();
            let is_behind = self.rows.counted_up(stored);
            let copy = stored.subscription.to_private_in(spare.empty_block());
            if is_behind {
                stored.written_cseq = copy.state.local_cseq;
                uncounted.push(batch.len());
            }
            if !is_reserved {
                above.push(batch.len());
            }
            batch.push(Notify { subscription: copy, notify_reason, slot: Some(slot) });
            if batch.len() >= BATCH_SIZE {
                break;
            }
        }
        drop(shard);
        let unwritten = UnwrittenCounts { tables, batch: &batch, which: &uncounted };
        fault_point!("portion");
        // The other nodes are sent how far the numbers will go before they go there.
        for at in above {
            subscriptions::announce_subscription(self, batch[at].subscription.dialog());
        }
        self.write_counters(&batch, &uncounted);
        std::mem::forget(unwritten);
        stock_announce::announce_to_stock_counted(self, &batch);
        batch
    }

    fn take_back(&self, _: &mut Work, resource: &Resource, notify: &Notify) {
        let (tables, unused) = (&self.shared.tables, &notify.subscription.state);
        let mut shard = tables.shard(resource.hash);
        let Some(stored) = notify.slot.and_then(|slot| shard.stored_of_dialog(slot, notify.subscription.dialog()))
        else {
            return;
        };
        let counted = &mut stored.subscription.state;
        let is_last = (counted.local_cseq, counted.version) == (unused.local_cseq, unused.version);
        // A row that has the number is not written over by a smaller one.
        if is_last && !self.rows.may_be_written(counted) {
            counted.local_cseq -= 1;
            counted.version -= 1;
        }
    }

    fn make_one_due(&self, work: &mut Work, resource: &Resource, notify: &Notify) {
        self.note_due_again(resource, notify, LastNotify::Kept);
        if let Some(entry) = self.shared.tables.shard(resource.hash).entry(self.shared.tables.rule(), resource) {
            entry.due.add(DueNotify::Something);
            // The list of the watchers that changed went with what was not sent.
            entry.due.add(DueNotify::FullList);
        }
        work.held.try_again(resource.hash);
    }

    fn make_due_again(&self, work: &mut Work, resource: &Resource, unsent: Unsent, again: Again) -> bool {
        // What nobody sends is not kept, either: watchers that come later would be shown what has ended.
        let tries_again = again == Again::WhenRead || work.held.may_try_again();
        let last = if tries_again { LastNotify::Kept } else { LastNotify::Dropped };
        for notify in &unsent.notifies {
            self.note_due_again(resource, notify, last);
        }
        if tries_again {
            self.put_back(resource, &unsent);
        }
        match again {
            Again::Once => work.held.break_off(resource),
            Again::WhenRead => work.held.leave_unread(resource),
        }
        tries_again
    }

    fn make_all_due(&self, work: &mut Work, resource: &Resource) {
        work.held.break_off_all(resource);
    }
}

/// What becomes of the last NOTIFY of a subscription that was not sent: nothing but a copy of it is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastNotify {
    /// The NOTIFY is sent once more.
    Kept,
    /// The watcher learns of the end from its own clock.
    Dropped,
}

impl ResourceQueues {
    /// The queues of subscriptions that have `rows` behind them.
    pub(crate) fn new(parts: Parts, rows: &'static dyn RowsBehind) -> ResourceQueues {
        ResourceQueues { parts, rows }
    }

    /// Notes a state change of a resource; `true`: something is due, and no process sends for it yet.
    fn note(&self, work: &mut Work, resource: &Resource, event: StateChange<'_>, take: Take) -> bool {
        let tables = &self.shared.tables;
        let rule = tables.rule();
        if matches!(event, StateChange::Watchers { .. }) && !tables.is_watched(resource) {
            return false;
        }
        let prepared = Prepared::for_event(&event);
        let slot = match &event {
            StateChange::Subscription(dialog, _) => tables.slot_of_dialog(tables.dialog_hash(*dialog)),
            _ => None,
        };
        let leaves_stock_watchers = stock_announce::leaves_stock_watchers(self, &event, work.origin);
        let (mut collapsed, mut outdated, began) = (false, Outdated::default(), work.began);
        let mut shard = tables.shard(resource.hash);
        let Some(entry) = shard.entry(rule, resource) else { return false };
        match (&event, prepared) {
            (StateChange::State { sender, .. }, Prepared::TransientBody(transient_body)) => {
                collapsed = entry.due.contains(DueNotify::Something);
                outdated = entry.note_documents(transient_body, began);
                if !sender.is_empty() {
                    skip_sender(&mut shard, rule, resource, sender);
                }
            }
            (StateChange::Watchers { extent, .. }, Prepared::Watcher(changed)) => {
                if entry.subscriptions().is_empty() {
                    return false;
                }
                outdated = entry.note_watcher(changed, *extent);
            }
            (StateChange::Subscription(dialog, notify_reason), _) => {
                entry.due.add(DueNotify::Something);
                entry.due.add(DueNotify::Asked);
                if let Some(stored) = slot.and_then(|slot| shard.stored_of_dialog(slot, *dialog)) {
                    stored.due = Some(*notify_reason);
                }
            }
            _ => {}
        }
        if leaves_stock_watchers {
            skip_stock_watchers(&mut shard, rule, resource);
        }
        let Some(entry) = shard.entry(rule, resource) else { return false };
        let is_open = entry.due.contains(DueNotify::Something) && !entry.busy;
        entry.busy |= take == Take::Now && is_open;
        // What nobody watches and has no document any more needs no resource entry.
        if entry.is_idle() {
            shard.drop_idle_entry(rule, resource);
        }
        drop(shard);
        drop(outdated);
        if collapsed {
            counters::count(Counter::Collapsed);
        }
        is_open
    }

    /// A NOTIFY was not sent: its subscription has one due again.
    fn note_due_again(&self, resource: &Resource, notify: &Notify, of_ended: LastNotify) {
        let tables = &self.shared.tables;
        let last = notify.slot.is_none().then(|| notify.subscription.map(shm::copy)).and_then(Result::ok);
        let mut shard = tables.shard(resource.hash);
        if let Some(stored) = notify.slot.and_then(|s| shard.stored_of_dialog(s, notify.subscription.dialog())) {
            stored.due = stored.due.or(Some(notify.notify_reason));
        }
        if let (Some(subscription), Some(entry)) = (last, shard.entry(tables.rule(), resource)) {
            let final_notify = FinalNotify { subscription, notify_reason: notify.notify_reason };
            // Without memory the watcher learns of the end from its own clock.
            let _ = (of_ended == LastNotify::Kept).then(|| entry.push_final_notify(final_notify));
        }
    }

    /// The document that a pass was to show is left for the next one, unless the state has changed since.
    fn put_back(&self, resource: &Resource, unsent: &Unsent) {
        let Some(shared) = unsent.transient_body.as_ref().and_then(|body| SharedTransientBody::shared(body).ok())
        else {
            return;
        };
        let tables = &self.shared.tables;
        let mut shard = tables.shard(resource.hash);
        let same = |entry: &&mut ResourceEntry| entry.generation == unsent.generation;
        let entry = shard.entry(tables.rule(), resource).filter(same);
        if let Some(watched) = entry.and_then(|entry| entry.watched.as_mut()) {
            watched.transient_body.get_or_insert(shared);
        }
    }

    /// Hands a resource to a sender process. `false`: this process sends.
    fn hand_over(&self, work: &mut Work, resource: &Resource, size: FanOutSize) -> bool {
        let handed = self.shared.senders.hand_over(resource, size);
        if handed {
            work.held.forget(resource.hash);
            counters::count(Counter::HandedOver);
            if size == FanOutSize::Small {
                counters::count(Counter::HandedOverForPace);
            }
        }
        handed
    }

    /// Whether a large change is left to the sender processes.
    fn leaves_large_changes(&self, work: &Work) -> bool {
        self.config.sender_processes > 0 && !work.pace.as_ref().is_some_and(Pacing::is_of_a_sender)
    }

    /// The numbers are in the table before the NOTIFYs leave: all in write-through, in write-back those that are far
    /// ahead.
    fn write_counters(&self, batch: &[Notify], row_state: &[usize]) {
        if row_state.is_empty() {
            return;
        }
        let table = self.config.active_watchers_table;
        let which: Vec<&Subscription> = row_state.iter().map(|at| &batch[*at].subscription).collect();
        let write = |db: &Connection, subscription: &&Subscription| {
            active_watchers_table::update_counters(db, table, subscription)
        };
        // Numbers fit their columns.
        let outcome = Writer { database: self.database, table, fits: &|_| true, write: &write }.write_group(&which);
        let lost = which.len() - outcome.count(RowOutcome::Written);
        if lost > 0 {
            let why = outcome.error.unwrap_or(StoreError::Refused);
            limited!(Error, "cannot write the sequence numbers of {lost} subscriptions: {why}");
            which.iter().zip(&outcome.of_rows).filter(|(_, outcome)| **outcome != RowOutcome::Written).for_each(
                |(lost, _)| {
                    // The timer writes the row, and each NOTIFY tries to.
                    mark_unwritten(&self.shared.tables, lost.dialog(), RowState::Update);
                },
            );
        }
    }
}

/// Subscriptions that were counted up as if their rows had the numbers already. Dropped before those are written, as by
/// a panic, it has the rows written.
struct UnwrittenCounts<'a> {
    tables: &'a Tables,
    batch: &'a [Notify],
    which: &'a [usize],
}

impl Drop for UnwrittenCounts<'_> {
    fn drop(&mut self) {
        for at in self.which {
            // Another panic while one unwinds would end the process.
            let mark = || mark_unwritten(self.tables, self.batch[*at].subscription.dialog(), RowState::Update);
            if let Err(why) = caught(mark) {
                limited!(Error, "panic while a row is marked: {why}");
            }
        }
    }
}

/// The last NOTIFY of a subscription that has ended.
fn notify_of_end(last: &FinalNotify) -> Notify {
    Notify { subscription: last.subscription.to_private(), notify_reason: last.notify_reason, slot: None }
}

/// What an event needs of shared memory, made before a lock is taken. Without memory the watchers get the plain state.
enum Prepared {
    TransientBody(Option<ShmBox<SharedTransientBody>>),
    Watcher(Option<ChangedWatcher>),
    Nothing,
}

impl Prepared {
    fn for_event(event: &StateChange<'_>) -> Prepared {
        match event {
            StateChange::State { transient_body, .. } => Prepared::TransientBody(
                transient_body.as_ref().and_then(|transient_body| SharedTransientBody::shared(transient_body).ok()),
            ),
            StateChange::Watchers { watcher, .. } => Prepared::Watcher(share_watcher(watcher).ok()),
            _ => Prepared::Nothing,
        }
    }
}

/// Whether the NOTIFYs of a resource with few watchers all go out over UDP: a connection may make its sender wait.
fn all_over_udp(shard: &mut Shard, rule: UriComparison, resource: &Resource) -> bool {
    let Some(entry) = shard.entry(rule, resource) else { return false };
    let slots = entry.subscriptions().to_vec();
    let stored = slots.into_iter().filter_map(|slot| shard.stored_in_slot(slot));
    stored.map(|stored| stored.subscription.hop()).all(NextHop::is_udp)
}

/// The sender of a change, known by its Contact, is not notified of it.
fn skip_sender(shard: &mut Shard, rule: UriComparison, resource: &Resource, sender: &[u8]) {
    let Some(entry) = shard.entry(rule, resource) else { return };
    let (generation, slots) = (entry.generation, entry.subscriptions().to_vec());
    for slot in slots {
        if let Some(stored) = shard.stored(slot) {
            if stored.subscription.get(Field::Contact) == sender {
                stored.seen.pass_over(generation);
            }
        }
    }
}

fn share_watcher(watcher: &Watcher) -> Result<ChangedWatcher, NoMemory> {
    Ok(ChangedWatcher {
        strings: Strings::joined(&[&watcher.uri, &watcher.id], shm::concat)?,
        status: watcher.status,
        event: watcher.event,
        times: watcher.times,
    })
}

fn private_watcher(changed: &ChangedWatcher) -> Watcher {
    let [uri, id] = changed.strings.all();
    Watcher { uri: uri.to_vec(), id: id.to_vec(), status: changed.status, event: changed.event, times: changed.times }
}

/// Whether the NOTIFYs of a subscription that is owned so are sent here: it is ours, or came from a stock node.
#[inline]
fn serves(parts: &Parts, ownership: &Ownership) -> bool {
    (ownership.speaks_here() && arbitration::owns(parts, ownership)) || ownership.owner.is_stock()
}
