//! Rows of `watchers`: what was decided about a watcher, remembered over its subscriptions.
use crate::common::row_groups::{GROUP, GroupOutcome, Pass, RefusalLog, RowOutcome, Writer};
use crate::host::db::{Cond, Connection, DbError, Op, Value, row_columns};
use crate::host::{clock, log};
use crate::limited;
use crate::presence::authorization::Authorization;
use crate::presence::error::StoreError;
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::presence::winfo::Watcher;
use crate::server::authorizations::store::AuthorizationStore;
use crate::server::shared::Parts;
use crate::server::subscriptions::store::SubscriptionStore;
use crate::server::tables::authorization_cache::owed_rows::OwedRow;
use crate::server::tables::authorization_cache::{AuthorizationKey, OwnAuthorizationKey, Room, RowOf};
use crate::sip::{columns, uri};
use crate::time::{Moment, Seconds};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;

/// The table's version in Kamailio's `version` table.
pub const VERSION: u32 = 3;

row_columns! {
    /// What was decided, and about whom.
    enum AuthorizationColumn {
        Status = "status",
        Reason = "reason",
        Presentity = "presentity_uri",
        User = "watcher_username",
        Domain = "watcher_domain",
    }
}

row_columns! {
    /// Whom it was decided about.
    enum WatcherName {
        User = "watcher_username",
        Domain = "watcher_domain",
        Presentity = "presentity_uri",
    }
}

row_columns! {
    /// Whom it was decided about, and what.
    enum ResourceWatcherColumn {
        User = "watcher_username",
        Domain = "watcher_domain",
        Status = "status",
        Reason = "reason",
        Presentity = "presentity_uri",
    }
}

fn conditions<'a>(key: &AuthorizationKey<'a>) -> [Cond<'a>; 4] {
    [
        ("presentity_uri", Op::Eq, Value::Text(key.presentity)),
        ("watcher_username", Op::Eq, Value::Text(key.watcher_user)),
        ("watcher_domain", Op::Eq, Value::Text(key.watcher_domain)),
        ("event", Op::Eq, Value::Text(key.event)),
    ]
}

fn key_of<'a>(subscription: &'a Subscription, event: &'a [u8]) -> AuthorizationKey<'a> {
    AuthorizationKey {
        presentity: subscription.get(Field::PresUri),
        watcher_user: subscription.get(Field::WatcherUser),
        watcher_domain: subscription.get(Field::WatcherDomain),
        event,
    }
}

/// The row that a database finds for a watcher. Its collation may take names for equal that are not (RFC 3261 19.1.4:
/// the user part is compared with its case): what was decided about `bob` does not hold for `BOB`.
enum FoundRow {
    None,
    Own(Authorization),
    /// The row of a watcher whose name the database takes for the same as this one: there can be no second row.
    OfAnother,
}

impl FoundRow {
    fn own(self) -> Option<Authorization> {
        match self {
            FoundRow::Own(authorization) => Some(authorization),
            FoundRow::None | FoundRow::OfAnother => None,
        }
    }
}

fn select_row(
    db: &Connection,
    table: &[u8],
    key: &AuthorizationKey<'_>,
    rule: UriComparison,
) -> Result<FoundRow, DbError> {
    let rows = db.select::<AuthorizationColumn>(table, &conditions(key), None)?;
    let AuthorizationKey { presentity, watcher_user: user, watcher_domain: host, .. } = *key;
    let mut found = FoundRow::None;
    for row in rows.iter() {
        let is_own = rule.same(row.bytes(AuthorizationColumn::Presentity), presentity)
            && rule.same(row.bytes(AuthorizationColumn::User), user)
            && row.bytes(AuthorizationColumn::Domain).eq_ignore_ascii_case(host);
        match Status::from_number(row.int(AuthorizationColumn::Status)) {
            Some(status) if is_own => {
                return Ok(FoundRow::Own(Authorization {
                    status,
                    reason: row.bytes(AuthorizationColumn::Reason).to_vec(),
                }));
            }
            _ if !is_own => found = FoundRow::OfAnother,
            _ => {}
        }
    }
    Ok(found)
}

/// What a row is to the decision that finds it in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowInPlace {
    /// A row that another process wrote first: it counts.
    Counts,
    /// The one before it.
    IsOlder,
}

/// Whether the table has a row for a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatcherRow {
    There,
    Missing,
    /// The row is missing, and another decision has followed the first one.
    MissedAChange,
}

fn put_row(
    db: &Connection,
    table: &[u8],
    key: &AuthorizationKey<'_>,
    authorization: &Authorization,
    row: WatcherRow,
) -> Result<(), DbError> {
    let status = ("status", Value::Int(authorization.status as i64));
    // Stock has no text for an empty reason when it changes a row, and an empty text when it adds one.
    let reason = match row {
        WatcherRow::Missing => ("reason", Value::Text(&authorization.reason)),
        WatcherRow::There | WatcherRow::MissedAChange => ("reason", Value::Optional(&authorization.reason)),
    };
    let key = conditions(key);
    if row == WatcherRow::There {
        return db.update(table, &[status, reason], &key);
    }
    let [a, b, c, d] = key.map(|(column, _, value)| (column, value));
    db.insert(table, &[a, b, c, d, status, ("inserted_time", Value::Time(clock::now().into())), reason])
}

/// Whether every column of a row holds its value in every database.
fn fits(key: &AuthorizationKey<'_>, authorization: &Authorization) -> bool {
    let AuthorizationKey { presentity, watcher_user: user, watcher_domain: host, event } = *key;
    columns::fits(presentity, columns::LONG)
        && [user, host, event, &authorization.reason].iter().all(|text| columns::fits(text, columns::SHORT))
}

/// Whether the authorization of a watcher gets a place in memory: not for a poll of one that may see everything. It
/// costs nothing to make many of those, and the next one may ask the table.
fn room_for(subscription: &Subscription, authorization: &Authorization, now: Moment) -> Room {
    let is_poll = subscription.state.expires_at <= now;
    match is_poll && authorization.status == Status::Active && authorization.reason.is_empty() {
        true => Room::None,
        false => Room::Made,
    }
}

/// How long a watcher that nobody decided about is remembered.
const UNDECIDED_KEPT: Seconds = Seconds(24 * 3600);

/// Deletes the rows of watchers about whom nobody has decided for a day.
///
/// # Errors
///
/// Fails when the rows cannot be deleted.
pub(super) fn delete_undecided(parts: &Parts) -> Result<(), StoreError> {
    if !parts.database.is_configured() {
        return Ok(());
    }
    let old = [
        ("inserted_time", Op::Lt, Value::Time((clock::now() - UNDECIDED_KEPT).into())),
        ("status", Op::Eq, Value::Int(Status::Pending as i64)),
    ];
    parts.database.write(|db| db.delete(parts.config.watchers_table, &old))
}

/// The table with the cache of what was read from it.
pub(crate) struct WatchersTable {
    parts: Parts,
    subscriptions: &'static dyn SubscriptionStore,
    first_rows: FirstRows,
}

/// When the row of a watcher is written that the table does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstRows {
    /// Before its SUBSCRIBE is answered.
    BeforeAnswer,
    /// Within the second after it, with others.
    Behind,
}

impl Deref for WatchersTable {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl AuthorizationStore for WatchersTable {
    fn find(&self, subscription: &Subscription) -> Result<Option<Authorization>, StoreError> {
        let event = self.packages().get(subscription.state.event).name;
        let (key, now) = (key_of(subscription, event), clock::now());
        if let Some(known) = self.cache_time().and_then(|time| self.shared.authorizations.get(&key, now - time)) {
            return Ok(Some(known));
        }
        let puts = self.shared.authorizations.puts(&key);
        let read = match self.read_row(&key) {
            // The rules decide as long as the table cannot be asked.
            Err(error) if self.goes_on_without_table() => {
                limited!(Error, "the watchers table cannot be read, the rules alone decide: {error}");
                return Ok(None);
            }
            read => read?.own(),
        };
        if let Some(authorization) = read.as_ref().filter(|_| self.caches_authorizations()) {
            let room = room_for(subscription, authorization, now);
            self.shared.authorizations.put_as_read(&key, authorization, now, room, puts);
        }
        Ok(read)
    }

    fn forget_old(&self) {
        self.shared.authorizations.forget_old(clock::now() - self.config.watchers_cache.unwrap_or_default());
    }

    fn store(&self, subscription: &Subscription, authorization: &Authorization) -> Result<(), StoreError> {
        let event = self.packages().get(subscription.state.event).name;
        let (known, key) = (self.find(subscription)?, key_of(subscription, event));
        let is_owed = known.is_some() && self.shared.authorizations.is_owed(&key);
        if known.as_ref() == Some(authorization) && !is_owed {
            return Ok(());
        }
        let room = room_for(subscription, authorization, clock::now());
        let is_missing = known.is_none() || is_owed;
        if is_missing && self.leaves_for_later(&key, authorization, room, RowOf::Outdated) {
            return Ok(());
        }
        // What is on its way to the table must not come after this.
        let _turn = is_owed.then(|| self.shared.authorizations.turn_to_write());
        let put = match is_missing {
            false => self.change_authorization(&key, authorization),
            true => self.add_authorization(&key, authorization, RowInPlace::IsOlder).map(drop),
        };
        self.cache_authorization(&key, authorization, put, room, RowOf::Outdated)
    }

    fn store_first(&self, subscription: &Subscription, authorization: &Authorization) -> Result<(), StoreError> {
        let key = key_of(subscription, self.packages().get(subscription.state.event).name);
        let room = room_for(subscription, authorization, clock::now());
        if self.leaves_for_later(&key, authorization, room, RowOf::Owed) {
            return Ok(());
        }
        match self.add_authorization(&key, authorization, RowInPlace::Counts) {
            Ok(Some(found)) => self.cache_authorization(&key, &found, Ok(()), room, RowOf::Owed),
            put => self.cache_authorization(&key, authorization, put.map(drop), room, RowOf::Owed),
        }
    }

    fn write(&self, pass: Pass) -> Result<(), StoreError> {
        let authorizations = &self.shared.authorizations;
        if authorizations.owed() == 0 {
            return Ok(());
        }
        let _turn = authorizations.turn_to_write();
        let (now, mut refusals) = (pass.moment(clock::now()), RefusalLog::default());
        loop {
            let group = authorizations.unwritten(GROUP, now, pass);
            if group.is_empty() {
                return Ok(());
            }
            let (outcome, found) = self.write_authorization_group(&group);
            for (row, outcome) in group.iter().zip(&outcome.of_rows) {
                self.note_group_outcome(row, found.get(&row.key), *outcome, now, &mut refusals);
            }
            if let Some(error) = outcome.error {
                return Err(error);
            }
        }
    }

    fn known(&self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        let (table, event) = (self.config.watchers_table, self.packages().get(resource.event).name);
        let rule = self.shared.tables.rule();
        let of_resource =
            [("presentity_uri", Op::Eq, Value::Text(&resource.uri)), ("event", Op::Eq, Value::Text(event))];
        let owed = self.shared.authorizations.unwritten_of(&resource.uri, event);
        let mut known: Vec<Subscription> = self.database.read(|db| {
            let rows = db.select::<ResourceWatcherColumn>(table, &of_resource, None)?;
            Ok(rows
                .iter()
                .filter(|row| rule.same(row.bytes(ResourceWatcherColumn::Presentity), &resource.uri))
                .filter(|row| {
                    !owed.iter().filter(|it| it.writes_over).any(|it| {
                        it.is_of(rule, row.bytes(ResourceWatcherColumn::User), row.bytes(ResourceWatcherColumn::Domain))
                    })
                })
                .filter_map(|row| {
                    let status = Status::from_number(row.int(ResourceWatcherColumn::Status))?;
                    remembered(
                        resource,
                        row.bytes(ResourceWatcherColumn::User),
                        row.bytes(ResourceWatcherColumn::Domain),
                        status,
                        row.bytes(ResourceWatcherColumn::Reason),
                    )
                })
                .collect())
        })?;
        // A first decision gives way to the row that somebody else has written.
        let in_table = known.len();
        for owed in owed {
            let is_of =
                |row: &Subscription| owed.is_of(rule, row.get(Field::WatcherUser), row.get(Field::WatcherDomain));
            if owed.writes_over || !known[..in_table].iter().any(is_of) {
                let Authorization { status, reason } = &owed.authorization;
                known.extend(remembered(resource, &owed.user, &owed.host, *status, reason));
            }
        }
        Ok(known)
    }

    fn waiting(&self, resource: &Resource) -> Result<Vec<Watcher>, StoreError> {
        let (table, event) = (self.config.watchers_table, self.packages().get(resource.event).name);
        let rule = self.shared.tables.rule();
        let conditions = [
            ("presentity_uri", Op::Eq, Value::Text(&resource.uri)),
            ("event", Op::Eq, Value::Text(event)),
            ("status", Op::Eq, Value::Int(Status::Pending as i64)),
        ];
        let owed = self.shared.authorizations.unwritten_of(&resource.uri, event);
        let mut waiting: Vec<Watcher> = self.database.read(|db| {
            let rows = db.select::<WatcherName>(table, &conditions, None)?;
            Ok(rows
                .iter()
                .filter(|row| rule.same(row.bytes(WatcherName::Presentity), &resource.uri))
                .map(|row| (row.bytes(WatcherName::User), row.bytes(WatcherName::Domain)))
                .filter(|(user, host)| !owed.iter().any(|owed| owed.is_of(rule, user, host)))
                .map(|(user, host)| Watcher::waiting(uri::join(user, host)))
                .collect())
        })?;
        let pending = owed.iter().filter(|owed| owed.authorization.status == Status::Pending);
        waiting.extend(pending.map(|owed| Watcher::waiting(uri::join(&owed.user, &owed.host))));
        Ok(waiting)
    }

    fn clean(&self) -> Result<(), StoreError> {
        self.forget_old();
        delete_undecided(self)
    }
}

impl WatchersTable {
    /// The table, for subscriptions that live in this store.
    pub(crate) fn new(
        parts: Parts,
        subscriptions: &'static dyn SubscriptionStore,
        first_rows: FirstRows,
    ) -> WatchersTable {
        WatchersTable { parts, subscriptions, first_rows }
    }

    /// Whether an authorization whose row is missing, or is older, is kept in memory to be written with others. Not
    /// one of which memory keeps nothing, and not without room.
    fn leaves_for_later(
        &self,
        key: &AuthorizationKey<'_>,
        authorization: &Authorization,
        room: Room,
        row: RowOf,
    ) -> bool {
        self.first_rows == FirstRows::Behind
            && self.goes_on_without_table()
            && (room == Room::Made || self.shared.authorizations.is_owed(key))
            && self.shared.authorizations.put(key, authorization, clock::now(), row, Room::Made)
    }

    fn read_row(&self, key: &AuthorizationKey<'_>) -> Result<FoundRow, StoreError> {
        let (table, rule) = (self.config.watchers_table, self.shared.tables.rule());
        self.database.read(|db| select_row(db, table, key, rule))
    }

    /// Subscriptions that live in memory do not end with the database: what has to be written is written when it is
    /// back.
    fn goes_on_without_table(&self) -> bool {
        self.caches_authorizations() && self.subscriptions.goes_on_without_table()
    }

    /// Servers that share their subscriptions read the table each time: another one may have written it.
    fn caches_authorizations(&self) -> bool {
        self.cache_time().is_some()
    }

    /// How long what was read from the table counts, where it is kept at all.
    fn cache_time(&self) -> Option<Seconds> {
        self.config.watchers_cache.filter(|_| !self.subscriptions.is_shared())
    }

    /// What became of writing an authorization: it is kept in memory either way, where that is done at all. `unwritten`
    /// is what its row is when it could not be written.
    fn cache_authorization(
        &self,
        key: &AuthorizationKey<'_>,
        authorization: &Authorization,
        put: Result<(), StoreError>,
        room: Room,
        unwritten: RowOf,
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
        if self.caches_authorizations() {
            let (row, room) = if written { (RowOf::Written, room) } else { (unwritten, Room::Made) };
            self.shared.authorizations.put(key, authorization, clock::now(), row, room);
        }
        Ok(())
    }

    /// Adds a row. Where there is one, somebody else was faster, such as another request of the watcher, or it is
    /// another watcher's: then the rules are asked each time. Returns what the row says that `counts` instead.
    fn add_authorization(
        &self,
        key: &AuthorizationKey<'_>,
        authorization: &Authorization,
        found: RowInPlace,
    ) -> Result<Option<Authorization>, StoreError> {
        let put = self.put_authorization(key, authorization, WatcherRow::Missing);
        match put.is_err().then(|| self.read_row(key)) {
            Some(Ok(FoundRow::Own(row))) if found == RowInPlace::Counts => Ok(Some(row)),
            Some(Ok(FoundRow::Own(_))) => self.put_authorization(key, authorization, WatcherRow::There).map(|()| None),
            Some(Ok(FoundRow::OfAnother)) => {
                let AuthorizationKey { presentity, watcher_user: user, watcher_domain: host, .. } = *key;
                limited!(
                    Warn,
                    "the database takes the watcher for another one, the rules are asked each time: {} of {}",
                    log::show(&uri::join(user, host)),
                    log::show(presentity)
                );
                Ok(None)
            }
            _ => put.map(|()| None),
        }
    }

    /// Changes a row, but no other watcher's.
    fn change_authorization(
        &self,
        key: &AuthorizationKey<'_>,
        authorization: &Authorization,
    ) -> Result<(), StoreError> {
        let is_of_another = self.database.limits_texts() && matches!(self.read_row(key), Ok(FoundRow::OfAnother));
        if is_of_another { Ok(()) } else { self.put_authorization(key, authorization, WatcherRow::There) }
    }

    fn put_authorization(
        &self,
        key: &AuthorizationKey<'_>,
        authorization: &Authorization,
        row: WatcherRow,
    ) -> Result<(), StoreError> {
        let table = self.config.watchers_table;
        let put = |db: &Connection| put_row(db, table, key, authorization, row);
        match !self.database.limits_texts() || fits(key, authorization) {
            true => self.database.write(put),
            false => self.database.write_once(put),
        }
    }

    /// Writes a group of rows. A first decision leaves the row that somebody else has written meanwhile, such as an
    /// application: the decisions that were found so are returned with it.
    fn write_authorization_group(&self, group: &[OwedRow]) -> (GroupOutcome, FoundDecisions) {
        let (table, rule) = (self.config.watchers_table, self.shared.tables.rule());
        let found = RefCell::new(FoundDecisions::new());
        let write = |db: &Connection, owed: &OwedRow| -> Result<(), DbError> {
            let known = match select_row(db, table, &owed.key.lent(), rule)? {
                FoundRow::OfAnother => return Ok(()),
                FoundRow::Own(decision) if !owed.writes_over => {
                    found.borrow_mut().insert(owed.key.clone(), decision);
                    return Ok(());
                }
                FoundRow::Own(_) => WatcherRow::There,
                FoundRow::None if owed.has_changed => WatcherRow::MissedAChange,
                FoundRow::None => WatcherRow::Missing,
            };
            // What a transaction had found that was rolled back does not count.
            found.borrow_mut().remove(&owed.key);
            put_row(db, table, &owed.key.lent(), &owed.authorization, known)
        };
        let fits = |owed: &OwedRow| fits(&owed.key.lent(), &owed.authorization);
        let outcome = Writer { database: self.database, table, fits: &fits, write: &write }.write_group(group);
        (outcome, found.into_inner())
    }

    fn note_group_outcome(
        &self,
        row: &OwedRow,
        found: Option<&Authorization>,
        outcome: RowOutcome,
        now: Moment,
        refusals: &mut RefusalLog,
    ) {
        let (authorizations, key) = (&self.shared.authorizations, &row.key.lent());
        match (outcome, found) {
            (RowOutcome::Written, None) => authorizations.mark_written(key, &row.authorization, now),
            (RowOutcome::Written, Some(found)) => authorizations.take_over(key, &row.authorization, found, now),
            (RowOutcome::Kept, _) => {
                authorizations.set_aside(key, outcome, now);
            }
            (RowOutcome::Refused, _) => {
                if authorizations.set_aside(key, outcome, now) {
                    let AuthorizationKey { presentity, watcher_user: user, watcher_domain: host, .. } = *key;
                    refusals.note(self.config.watchers_table, || {
                        format!("the watcher {} of {}", log::show(&uri::join(user, host)), log::show(presentity))
                    });
                }
            }
        }
    }
}

/// Decisions of others that were found in the table, by the keys of rows.
type FoundDecisions = BTreeMap<OwnAuthorizationKey, Authorization>;

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
