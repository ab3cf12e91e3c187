//! Rows of `watchers`: what was decided about a watcher, remembered over its subscriptions.
use super::world::World;
use crate::host::clock;
use crate::host::db::{Cond, Op, Value};
use crate::presence::error::StoreError;
use crate::presence::ports::Standing;
use crate::presence::resource::Resource;
use crate::presence::subscription::{Field, Status, Subscription};
use crate::presence::winfo::Watcher;
use crate::sip::uri;

/// The table's version in Kamailio's `version` table.
pub const VERSION: u32 = 3;

fn of_watcher<'a>(subscription: &'a Subscription, event: &'a [u8]) -> [Cond<'a>; 4] {
    [
        ("presentity_uri", Op::Eq, Value::Text(subscription.get(Field::PresUri))),
        ("watcher_username", Op::Eq, Value::Text(subscription.get(Field::WatcherUser))),
        ("watcher_domain", Op::Eq, Value::Text(subscription.get(Field::WatcherDomain))),
        ("event", Op::Eq, Value::Text(event)),
    ]
}

fn key_of<'a>(subscription: &'a Subscription, event: &'a [u8]) -> [&'a [u8]; 4] {
    [
        subscription.get(Field::PresUri),
        subscription.get(Field::WatcherUser),
        subscription.get(Field::WatcherDomain),
        event,
    ]
}

impl World {
    /// Whether standings are remembered at all: not without a database, and not when everything lives in memory only.
    fn remembers(&self) -> bool {
        use crate::presence::config::{PublicationMode, SubscriptionMode};
        let memory_only = self.config.subscriptions == SubscriptionMode::Memory
            && self.config.publications == PublicationMode::Memory;
        self.database.is_configured() && !memory_only
    }

    /// See [`crate::presence::ports::Ports::standing`].
    pub(super) fn find_standing(&mut self, subscription: &Subscription) -> Result<Option<Standing>, StoreError> {
        if !self.remembers() {
            return Ok(None);
        }
        let (table, event) = (self.config.watchers_table, self.packages.get(subscription.numbers.event).name);
        let (key, now) = (key_of(subscription, event), clock::now());
        if self.keeps_standings() {
            if let Some(known) = self.shared.standings.get(&key, now - self.config.watchers_cache) {
                return Ok(Some(known));
            }
        }
        let read = self.database.read(|db| {
            let rows = db.select(table, &["status", "reason"], &of_watcher(subscription, event), None)?;
            Ok(rows.iter().next().and_then(|row| {
                Some(Standing { status: Status::from_number(row.int(0))?, reason: row.bytes(1).to_vec() })
            }))
        })?;
        if let Some(standing) = read.as_ref().filter(|_| self.keeps_standings()) {
            self.shared.standings.put(&key, standing, now);
        }
        Ok(read)
    }

    /// Servers that share their subscriptions read the table each time: another one may have written it.
    fn keeps_standings(&self) -> bool {
        use crate::presence::config::SubscriptionMode;
        self.config.watchers_cache > 0 && self.config.subscriptions != SubscriptionMode::Database
    }

    /// Forgets standings that were read long ago.
    pub(super) fn forget_old_standings(&self) {
        self.shared.standings.forget_old(clock::now() - self.config.watchers_cache);
    }

    /// See [`crate::presence::ports::Ports::remember_standing`].
    pub(super) fn write_standing(
        &mut self,
        subscription: &Subscription,
        standing: &Standing,
    ) -> Result<(), StoreError> {
        if !self.remembers() {
            return Ok(());
        }
        let (table, event) = (self.config.watchers_table, self.packages.get(subscription.numbers.event).name);
        let known = self.find_standing(subscription)?;
        if known.as_ref() == Some(standing) {
            return Ok(());
        }
        let status = ("status", Value::Int(standing.status as i64));
        let reason = ("reason", Value::Text(&standing.reason));
        // Stock writes an empty reason as NULL when it changes a row, and as empty text when it adds one.
        let changed = ("reason", if standing.reason.is_empty() { Value::NullText } else { reason.1 });
        let key = of_watcher(subscription, event);
        self.database.write(|db| match known {
            Some(_) => db.update(table, &[status, changed], &key),
            None => {
                let [a, b, c, d] = key.map(|(column, _, value)| (column, value));
                db.insert(table, &[a, b, c, d, status, ("inserted_time", Value::Int(clock::now())), reason])
            }
        })?;
        if self.keeps_standings() {
            self.shared.standings.put(&key_of(subscription, event), standing, clock::now());
        }
        Ok(())
    }

    /// See [`crate::presence::ports::Ports::waiting_watchers`].
    pub(super) fn find_waiting(&mut self, resource: &Resource) -> Result<Vec<Watcher>, StoreError> {
        if !self.remembers() {
            return Ok(Vec::new());
        }
        let (table, event) = (self.config.watchers_table, self.packages.get(resource.event).name);
        let conditions = [
            ("presentity_uri", Op::Eq, Value::Text(&resource.uri)),
            ("event", Op::Eq, Value::Text(event)),
            ("status", Op::Eq, Value::Int(Status::Waiting as i64)),
        ];
        self.database.read(|db| {
            let rows = db.select(table, &["watcher_username", "watcher_domain"], &conditions, None)?;
            Ok(rows
                .iter()
                .map(|row| {
                    let name = uri::join(row.bytes(0), row.bytes(1));
                    Watcher { id: name.clone(), uri: name, status: Status::Waiting, event: b"subscribe", times: (0, 0) }
                })
                .collect())
        })
    }
}
