//! What happens between memory and tables outside of requests: restore at start-up, cleaning, notifier turns.
use crate::host::clock;
use crate::host::db::{Op, Value};
use crate::presence::config::Config;
use crate::presence::error::StoreError;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::notifier;
use crate::presence::subscription::{Status, Subscription};
use crate::server::context::Context;
use crate::server::subscriptions::active_watchers_table as rows;
use crate::server::subscriptions::database::InDatabase;

/// How long a watcher that nobody decided about is remembered, in seconds.
const PENDING_KEPT: i64 = 24 * 3600;

/// How often a notifier process looks whether its node has marked rows, in microseconds.
const TICK_MICROS: i32 = 20_000;

/// The time between two turns of a notifier process, in microseconds.
fn turn_micros(config: &Config) -> i32 {
    1_000_000 / config.notifier_poll_rate.max(1)
}

/// How often [`Context::notifier_tick`] is called, in microseconds.
pub fn tick_micros(config: &Config) -> i32 {
    turn_micros(config) / ticks_between_turns(config)
}

fn ticks_between_turns(config: &Config) -> i32 {
    (turn_micros(config) / TICK_MICROS).max(1)
}

impl Context {
    /// Fills the memory from the tables; returns how many rows were read.
    ///
    /// # Errors
    ///
    /// Fails when a table cannot be read; those before it have been.
    pub fn restore(&mut self) -> Result<usize, StoreError> {
        let publications = self.storage.publications.restore()?;
        Ok(publications + self.storage.subscriptions.restore()?)
    }

    /// Writes the rows of subscriptions that are older than the memory; see
    /// [`crate::server::subscriptions::store::SubscriptionStore::write_back`].
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn write_subscriptions(&self, is_last: bool) -> Result<usize, StoreError> {
        self.storage.subscriptions.write_back(is_last)
    }

    /// Forgets watchers that nobody has decided about for a day.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub fn clean_watchers(&mut self) -> Result<(), StoreError> {
        if !self.database.is_configured() {
            return Ok(());
        }
        self.forget_old_authorizations();
        let table = self.config.watchers_table;
        let old = [
            ("inserted_time", Op::Lt, Value::Time(clock::now() - PENDING_KEPT)),
            ("status", Op::Eq, Value::Int(Status::Pending as i64)),
        ];
        self.database.write(|db| db.delete(table, &old))
    }

    /// Writes what the table lacks of publications; see
    /// [`crate::server::publications::store::PublicationStore::write`].
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn write_publications(&self, is_last: bool) -> Result<usize, StoreError> {
        self.storage.publications.write(is_last)
    }

    /// What a notifier process (database-only mode) does at each tick: it serves the turns that this node has marked
    /// rows for, and now and then the turn whose time has come, which another node may have marked.
    pub fn notifier_tick(&mut self, process: i32) {
        let config = self.config;
        let turns = config.turns_of_one_process();
        let first = turns * process;
        for turn in self.shared.marked_turns.take(first as usize..(first + turns) as usize) {
            self.serve_turn(turn as i32);
        }
        let state = self.process();
        let tick = state.tick.get();
        state.tick.set((tick + 1) % ticks_between_turns(config));
        if tick == 0 {
            let turn = state.turn.get();
            state.turn.set((turn + 1) % turns.max(1));
            self.serve_turn(turn + first);
        }
    }

    /// Notifies the watchers whose rows are marked with this turn.
    fn serve_turn(&mut self, turn: i32) {
        let config = self.config;
        let (table, packages) = (config.active_watchers_table, self.packages);
        let marked = [("updated", Op::Eq, Value::Int(i64::from(turn)))];
        match self.database.read(|db| rows::select(db, table, packages, &marked)) {
            Ok(due) => due.into_iter().for_each(|subscription| self.notify_marked(subscription, turn)),
            Err(error) => self.serve_again(turn, error),
        }
    }

    /// A turn was in the way of another transaction: it is served again at once, and otherwise when its time comes.
    fn serve_again(&self, turn: i32, error: StoreError) {
        if matches!(error, StoreError::Busy | StoreError::Refused) {
            self.shared.marked_turns.note(turn as u64);
        }
        crate::limited!(Error, "a notifier process cannot take its subscriptions and tries again: {error}");
    }

    /// Takes the mark off a row and notifies its watcher; another server may have been faster.
    fn notify_marked(&mut self, subscription: Subscription, turn: i32) {
        // Its authorization may have changed since it was marked. What was never sent anything is marked by another
        // server for its first NOTIFY, which goes to every watcher.
        let is_first = subscription.state.local_cseq == 0 && subscription.state.expires_at >= clock::now();
        let store = InDatabase::new(self.parts);
        let taken = match is_first || subscription.hears_changes(clock::now()) {
            true => store.take_marked(subscription),
            false => store.unmark(&subscription).map(|()| None),
        };
        match taken {
            Ok(Some(subscription)) => {
                let notify = Notify { subscription, notify_reason: NotifyReason::Change, slot: None };
                notifier::send_alone(self, &notify);
            }
            Ok(None) => {}
            Err(error) => self.serve_again(turn, error),
        }
    }
}
