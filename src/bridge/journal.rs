//! What happens between memory and tables outside of requests: restore at start-up, write-back, cleaning, notifier turns.
use super::active_watchers::{self as rows, NoRoute};
use super::counters::{self, Counter};
use super::member::Hold;
use super::nodes::NodeId;
use super::world::World;
use crate::host::clock;
use crate::host::db::{Op, Value};
use crate::host::log;
use crate::host::shm;
use crate::log;
use crate::presence::config::{PublicationMode, SubscriptionMode};
use crate::presence::error::StoreError;
use crate::presence::notifier;
use crate::presence::ports::{Occasion, Outgoing, Stored};
use crate::presence::subscription::{Journal, Status, Subscription};

/// How many rows are written in one transaction.
const GROUP: usize = 200;

/// A write-back row may be older than the last NOTIFY that was sent: sequence numbers go on beyond anything that can have
/// been sent since it was written.
const CSEQ_RESERVE: u32 = 1000;

/// How long a watcher that nobody decided about is remembered, in seconds.
const PENDING_KEPT: i64 = 24 * 3600;

impl World {
    /// Fills the memory from the tables; returns how many rows were read.
    pub fn restore(&mut self) -> Result<usize, StoreError> {
        let publications = self.restore_publications()?;
        let keeps = matches!(self.config.subscriptions, SubscriptionMode::WriteThrough | SubscriptionMode::WriteBack);
        Ok(publications + if keeps { self.restore_subscriptions()? } else { 0 })
    }

    fn restore_subscriptions(&mut self) -> Result<usize, StoreError> {
        let (table, packages) = (self.config.active_watchers_table, self.packages);
        let reserve = match self.config.subscriptions {
            SubscriptionMode::WriteBack => CSEQ_RESERVE,
            _ => 0,
        };
        let (mut failed, mut twice) = (0, 0);
        // Where nodes share subscriptions, another may have gone on with them: it is asked first.
        let hold = match self.config.shares_subscriptions {
            true => Hold { owner: NodeId::ELSEWHERE, term: 0 },
            false => Hold::default(),
        };
        let count = super::pages::each_page(self.database, table, self.config.fetch_rows, |db, page| {
            let found = rows::select(db, table, packages, page)?;
            let count = found.len();
            for mut subscription in found {
                subscription.numbers.local_cseq += reserve;
                let placed = subscription
                    .map(shm::copy)
                    .and_then(|shared| self.place_member(shared, subscription.numbers.local_cseq, hold));
                failed += usize::from(placed.is_err());
                twice += usize::from(placed == Ok(Stored::Known));
            }
            Ok(count)
        })?;
        if twice > 0 {
            log!(Warn, "{twice} rows of {} name the dialog of another row and are not read", log::show(table));
        }
        if failed > 0 {
            log!(Error, "{failed} subscriptions do not fit the shared memory: raise it (option -m)");
            return Err(StoreError::NoMemory);
        }
        Ok(count)
    }

    /// Write-back: writes what has changed since the last time, in groups.
    pub fn write_back(&mut self) -> Result<usize, StoreError> {
        if self.config.subscriptions != SubscriptionMode::WriteBack || !self.database.is_configured() {
            return Ok(0);
        }
        let tables = &self.shared.tables;
        let mut total = 0;
        for index in tables.whole_shards_first() {
            loop {
                let changed: Vec<Subscription> = {
                    let mut shard = tables.nth_shard(index);
                    let dirty = shard.members_mut().filter(|m| m.subscription.numbers.journal != Journal::Clean);
                    dirty
                        .take(GROUP)
                        .map(|member| {
                            let copy = member.subscription.to_private();
                            member.subscription.numbers.journal = Journal::Clean;
                            copy
                        })
                        .collect()
                };
                if changed.is_empty() {
                    break;
                }
                if let Err(error) = self.write_group(&changed) {
                    self.mark_unwritten(&changed);
                    return Err(error);
                }
                self.delete_meanwhile_ended(&changed);
                total += changed.len();
            }
        }
        Ok(total)
    }

    fn write_group(&self, group: &[Subscription]) -> Result<(), StoreError> {
        let (table, packages) = (self.config.active_watchers_table, self.packages);
        let no_route = match self.config.subscriptions {
            SubscriptionMode::WriteBack => NoRoute::Empty,
            _ => NoRoute::Null,
        };
        counters::count(Counter::DbGroups);
        counters::count_many(Counter::DbGroupRows, group.len());
        self.database.write_together(|db| {
            group.iter().try_for_each(|subscription| match subscription.numbers.journal {
                Journal::Insert => rows::insert(db, table, packages, subscription, no_route),
                Journal::Replace => rows::replace(db, table, packages, subscription, no_route),
                _ => rows::update(db, table, subscription, no_route),
            })
        })
    }

    /// Rows that could not be written are tried again.
    fn mark_unwritten(&self, group: &[Subscription]) {
        for subscription in group {
            let hash = self.shared.tables.dialog_hash(subscription.dialog());
            let Some(mut shard) = self.shared.tables.shard_of_dialog(hash) else { continue };
            if let Some(member) = shard.find(subscription.dialog()) {
                member.subscription.numbers.journal = subscription.numbers.journal;
            }
        }
    }

    /// A subscription that ended between copy and write must not leave a row.
    fn delete_meanwhile_ended(&self, group: &[Subscription]) {
        let table = self.config.active_watchers_table;
        for subscription in group.iter().filter(|s| self.find_member(s.dialog()).is_none()) {
            if let Err(error) = self.database.write(|db| rows::delete(db, table, subscription.dialog())) {
                crate::limited!(Error, "cannot delete the row of an ended subscription: {error}");
            }
        }
    }

    /// Forgets watchers that nobody has decided about for a day.
    pub fn clean_watchers(&mut self) -> Result<(), StoreError> {
        if !self.database.is_configured() {
            return Ok(());
        }
        self.forget_old_standings();
        let table = self.config.watchers_table;
        let old = [
            ("inserted_time", Op::Lt, Value::Int(clock::now() - PENDING_KEPT)),
            ("status", Op::Eq, Value::Int(Status::Pending as i64)),
        ];
        self.database.write(|db| db.delete(table, &old))
    }

    /// Reads which resources have rows again (`presence.publish_cache_sync`).
    pub fn sync_publications(&mut self) -> Result<(), StoreError> {
        if self.config.publications != PublicationMode::Cached {
            return Ok(());
        }
        let tables = &self.shared.tables;
        for index in 0..tables.shard_count() {
            let resources: Vec<_> = tables.nth_shard(index).lanes().map(|lane| lane.resource()).collect();
            for resource in resources {
                self.forget_table(&resource);
            }
        }
        self.restore_publications().map(|_| ())
    }

    /// One turn of a notifier process (database-only mode): tells the watchers whose turn has come.
    pub fn notifier_turn(&mut self, process: i32) {
        let config = self.config;
        let round = config.waitn_time * config.notifier_poll_rate;
        let process_state = self.process();
        let turn = process_state.turn.get();
        process_state.turn.set((turn + 1) % round.max(1));
        let turn = turn + round * process;
        let (table, packages) = (config.active_watchers_table, self.packages);
        let marked = [("updated", Op::Eq, Value::Int(i64::from(turn)))];
        let due = match self.database.read(|db| rows::select(db, table, packages, &marked)) {
            Ok(due) => due,
            Err(error) => return crate::limited!(Error, "notifier cannot read its subscriptions: {error}"),
        };
        for subscription in due {
            self.tell_marked(subscription);
        }
    }

    /// Takes the mark off a row and tells its watcher; another server may have been faster.
    fn tell_marked(&mut self, subscription: Subscription) {
        let table = self.config.active_watchers_table;
        let taken = self.database.write(|db| rows::unmark(db, table, &subscription));
        match taken {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return crate::limited!(Error, "notifier cannot take a subscription: {error}"),
        }
        // Its standing may have changed since it was marked. What was never sent anything is marked by another server for its
        // first NOTIFY, which goes to every watcher.
        let is_first = subscription.numbers.local_cseq == 0 && subscription.numbers.expires_at >= clock::now();
        if !is_first && !subscription.hears_changes(clock::now()) {
            return;
        }
        match self.count_up(subscription) {
            Ok(Some(subscription)) => {
                let outgoing = Outgoing { subscription, occasion: Occasion::Change, slot: None };
                notifier::send_alone(self, &outgoing);
            }
            Ok(None) => {}
            Err(error) => crate::limited!(Error, "notifier cannot count up a subscription: {error}"),
        }
    }
}
