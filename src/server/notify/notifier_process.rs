//! What happens between memory and tables outside of requests: restore at start-up, cleaning, notifier turns.
use crate::host::clock;
use crate::host::db::{Op, Value};
use crate::presence::error::StoreError;
use crate::presence::notification::{Notify, NotifyReason};
use crate::presence::notifier;
use crate::presence::subscription::{Status, Subscription};
use crate::server::context::Context;
use crate::server::subscriptions::active_watchers_table as rows;
use crate::server::subscriptions::database::InDatabase;

/// How long a watcher that nobody decided about is remembered, in seconds.
const PENDING_KEPT: i64 = 24 * 3600;

impl Context {
    /// Fills the memory from the tables; returns how many rows were read.
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

    /// One turn of a notifier process (database-only mode): tells the watchers whose turn has come.
    pub fn notifier_turn(&mut self, process: i32) {
        let config = self.config;
        let notify_run = config.waitn_time * config.notifier_poll_rate;
        let process_state = self.process();
        let turn = process_state.turn.get();
        process_state.turn.set((turn + 1) % notify_run.max(1));
        let turn = turn + notify_run * process;
        let (table, packages) = (config.active_watchers_table, self.packages);
        let marked = [("updated", Op::Eq, Value::Int(i64::from(turn)))];
        let due = match self.database.read(|db| rows::select(db, table, packages, &marked)) {
            Ok(due) => due,
            Err(error) => return crate::limited!(Error, "notifier cannot read its subscriptions: {error}"),
        };
        for subscription in due {
            self.notify_marked(subscription);
        }
    }

    /// Takes the mark off a row and tells its watcher; another server may have been faster.
    fn notify_marked(&mut self, subscription: Subscription) {
        let table = self.config.active_watchers_table;
        let taken = self.database.write(|db| rows::unmark(db, table, &subscription));
        match taken {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return crate::limited!(Error, "notifier cannot take a subscription: {error}"),
        }
        // Its authorization may have changed since it was marked. What was never sent anything is marked by another
        // server for its first NOTIFY, which goes to every watcher.
        let is_first = subscription.state.local_cseq == 0 && subscription.state.expires_at >= clock::now();
        if !is_first && !subscription.hears_changes(clock::now()) {
            return;
        }
        match InDatabase::new(self.parts).count_up(subscription) {
            Ok(Some(subscription)) => {
                let notify = Notify { subscription, notify_reason: NotifyReason::Change, slot: None };
                notifier::send_alone(self, &notify);
            }
            Ok(None) => {}
            Err(error) => crate::limited!(Error, "notifier cannot count up a subscription: {error}"),
        }
    }
}
