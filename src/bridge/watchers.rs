//! Rows of `watchers`: what was decided about a watcher, remembered over its subscriptions.
use super::row_groups::{Aside, Fate, GROUP, Outcome, RefusalLog, Writer};
use super::standings::Key;
use super::world::World;
use crate::host::db::{Cond, Connection, DbError, Op, Value};
use crate::host::{clock, log};
use crate::limited;
use crate::presence::columns;
use crate::presence::error::StoreError;
use crate::presence::ports::Standing;
use crate::presence::resource::Resource;
use crate::presence::subscription::{Field, Status, Subscription};
use crate::presence::winfo::Watcher;
use crate::sip::uri;

/// The table's version in Kamailio's `version` table.
pub const VERSION: u32 = 3;

fn conditions<'a>(key: &Key<'a>) -> [Cond<'a>; 4] {
    let [presentity, user, host, event] = *key;
    [
        ("presentity_uri", Op::Eq, Value::Text(presentity)),
        ("watcher_username", Op::Eq, Value::Text(user)),
        ("watcher_domain", Op::Eq, Value::Text(host)),
        ("event", Op::Eq, Value::Text(event)),
    ]
}

fn key_of<'a>(subscription: &'a Subscription, event: &'a [u8]) -> Key<'a> {
    [
        subscription.get(Field::PresUri),
        subscription.get(Field::WatcherUser),
        subscription.get(Field::WatcherDomain),
        event,
    ]
}

fn select_standing(db: &Connection, table: &[u8], key: &Key<'_>) -> Result<Option<Standing>, DbError> {
    let rows = db.select(table, &["status", "reason"], &conditions(key), None)?;
    Ok(rows
        .iter()
        .next()
        .and_then(|row| Some(Standing { status: Status::from_number(row.int(0))?, reason: row.bytes(1).to_vec() })))
}

fn put_row(db: &Connection, table: &[u8], key: &Key<'_>, standing: &Standing, has_row: bool) -> Result<(), DbError> {
    let status = ("status", Value::Int(standing.status as i64));
    let reason = ("reason", Value::Text(&standing.reason));
    let key = conditions(key);
    if has_row {
        // Stock has no text for an empty reason when it changes a row, and an empty text when it adds one.
        let changed = ("reason", Value::Optional(&standing.reason));
        return db.update(table, &[status, changed], &key);
    }
    let [a, b, c, d] = key.map(|(column, _, value)| (column, value));
    db.insert(table, &[a, b, c, d, status, ("inserted_time", Value::Time(clock::now())), reason])
}

/// Whether every column of a row holds its value in every database.
fn fits(key: &Key<'_>, standing: &Standing) -> bool {
    let [presentity, user, host, event] = *key;
    columns::fits(presentity, columns::LONG)
        && [user, host, event, &standing.reason].iter().all(|text| columns::fits(text, columns::SHORT))
}

/// Whether the standing of a watcher is kept in memory: not for a poll of one that may see everything. Anybody can make many
/// of those, and the next one may ask the table.
fn is_kept(subscription: &Subscription, standing: &Standing, now: i64) -> bool {
    let is_poll = subscription.numbers.expires_at <= now;
    !(is_poll && standing.status == Status::Active && standing.reason.is_empty())
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
        let event = self.packages.get(subscription.numbers.event).name;
        let (key, now) = (key_of(subscription, event), clock::now());
        if self.keeps_standings() {
            if let Some(known) = self.shared.standings.get(&key, now - self.config.watchers_cache) {
                return Ok(Some(known));
            }
        }
        let read = match self.read_standing(&key) {
            // The rules decide as long as the table cannot be asked.
            Err(error) if self.goes_on_without_table() => {
                limited!(Error, "the watchers table cannot be read, the rules alone decide: {error}");
                return Ok(None);
            }
            read => read?,
        };
        if let Some(standing) = read.as_ref().filter(|_| self.keeps_standings()) {
            self.shared.standings.put(&key, standing, now, true, is_kept(subscription, standing, now));
        }
        Ok(read)
    }

    fn read_standing(&self, key: &Key<'_>) -> Result<Option<Standing>, StoreError> {
        let table = self.config.watchers_table;
        self.database.read(|db| select_standing(db, table, key))
    }

    /// Subscriptions that live in memory do not end with the database: what has to be written is written when it is back.
    fn goes_on_without_table(&self) -> bool {
        use crate::presence::config::SubscriptionMode::{Memory, WriteBack};
        self.keeps_standings() && matches!(self.config.subscriptions, Memory | WriteBack)
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
        let event = self.packages.get(subscription.numbers.event).name;
        let (known, key) = (self.find_standing(subscription)?, key_of(subscription, event));
        if known.as_ref() == Some(standing) {
            return Ok(());
        }
        let put = self.put_standing(&key, standing, known.is_some());
        self.note_standing(&key, standing, put, is_kept(subscription, standing, clock::now()))
    }

    /// See [`crate::presence::ports::Ports::remember_first_standing`].
    pub(super) fn write_first_standing(
        &mut self,
        subscription: &Subscription,
        standing: &Standing,
    ) -> Result<(), StoreError> {
        if !self.remembers() {
            return Ok(());
        }
        let key = key_of(subscription, self.packages.get(subscription.numbers.event).name);
        let mut put = self.put_standing(&key, standing, false);
        if put.is_err() {
            // The same watcher may have subscribed twice at once, and the other request was faster.
            if let Ok(Some(_)) = self.read_standing(&key) {
                put = self.put_standing(&key, standing, true);
            }
        }
        self.note_standing(&key, standing, put, is_kept(subscription, standing, clock::now()))
    }

    /// What became of writing a standing: it is kept in memory either way, where that is done at all.
    fn note_standing(
        &self,
        key: &Key<'_>,
        standing: &Standing,
        put: Result<(), StoreError>,
        add: bool,
    ) -> Result<(), StoreError> {
        let written = match put {
            Err(error) if self.goes_on_without_table() => {
                limited!(Error, "the watchers table cannot be written, which is made up for later: {error}");
                false
            }
            put => {
                put?;
                true
            }
        };
        if self.keeps_standings() {
            self.shared.standings.put(key, standing, clock::now(), written, add || !written);
        }
        Ok(())
    }

    fn put_standing(&self, key: &Key<'_>, standing: &Standing, has_row: bool) -> Result<(), StoreError> {
        let table = self.config.watchers_table;
        let put = |db: &Connection| put_row(db, table, key, standing, has_row);
        match !self.database.limits_texts() || fits(key, standing) {
            true => self.database.write(put),
            false => self.database.write_once(put),
        }
    }

    /// Writes the standings that could not be written when they were decided. `is_last`: the server ends, and what was refused is
    /// tried once more.
    pub fn write_standings(&mut self, is_last: bool) -> Result<(), StoreError> {
        let (now, mut refusals) = (clock::now(), RefusalLog::default());
        for part in 0..self.shared.standings.parts() {
            loop {
                let group = self.shared.standings.unwritten(part, GROUP, now, is_last);
                if group.is_empty() {
                    break;
                }
                let outcome = self.write_standing_group(&group);
                for ((key, standing), fate) in group.iter().zip(&outcome.fates) {
                    self.note_standing_fate(&key.each_ref().map(Vec::as_slice), standing, *fate, now, &mut refusals);
                }
                if let Some(error) = outcome.error {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn write_standing_group(&self, group: &[([Vec<u8>; 4], Standing)]) -> Outcome {
        let table = self.config.watchers_table;
        let write = |db: &Connection, (key, standing): &([Vec<u8>; 4], Standing)| -> Result<(), DbError> {
            let key = key.each_ref().map(Vec::as_slice);
            let has_row = select_standing(db, table, &key)?.is_some();
            put_row(db, table, &key, standing, has_row)
        };
        let fits = |(key, standing): &([Vec<u8>; 4], Standing)| fits(&key.each_ref().map(Vec::as_slice), standing);
        Writer { database: self.database, table, fits: &fits, write: &write }.write_group(group)
    }

    fn note_standing_fate(&self, key: &Key<'_>, standing: &Standing, fate: Fate, now: i64, refusals: &mut RefusalLog) {
        let standings = &self.shared.standings;
        match fate {
            Fate::Written => standings.mark_written(key, standing, now),
            Fate::Kept => {
                standings.set_aside(key, Aside::later(now));
            }
            Fate::Refused => {
                if standings.set_aside(key, Aside::refused(now)) {
                    let [presentity, user, host, _] = *key;
                    refusals.note(self.config.watchers_table, || {
                        format!("the watcher {} of {}", log::show(&uri::join(user, host)), log::show(presentity))
                    });
                }
            }
        }
    }

    /// See [`crate::presence::ports::Ports::remembered_watchers`].
    pub(super) fn find_remembered(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        if !self.remembers() {
            return Ok(Vec::new());
        }
        let (table, event) = (self.config.watchers_table, self.packages.get(resource.event).name);
        let of_resource =
            [("presentity_uri", Op::Eq, Value::Text(&resource.uri)), ("event", Op::Eq, Value::Text(event))];
        self.database.read(|db| {
            let rows =
                db.select(table, &["watcher_username", "watcher_domain", "status", "reason"], &of_resource, None)?;
            Ok(rows
                .iter()
                .filter_map(|row| {
                    let status = Status::from_number(row.int(2))?;
                    remembered(resource, row.bytes(0), row.bytes(1), status, row.bytes(3))
                })
                .collect())
        })
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

fn remembered(resource: &Resource, user: &[u8], host: &[u8], status: Status, reason: &[u8]) -> Option<Subscription> {
    let given = [
        (Field::PresUri, resource.uri.as_slice()),
        (Field::FromUser, user),
        (Field::FromDomain, host),
        (Field::WatcherUser, user),
        (Field::WatcherDomain, host),
        (Field::Reason, reason),
    ];
    Subscription::without_dialog(resource.event, status, &given).ok()
}
