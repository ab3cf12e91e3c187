//! Rows of `active_watchers`: a subscription column by column, as stock writes it.
use crate::common::compared_rows::{self, compare_and_write};
use crate::common::database::{Database, StoreError};
use crate::common::paging::{BatchEnd, Page, keys_of};
use crate::host::db::{Cell, Column, Cond, Connection, DbError, Op, Row, Value, end_of, row_columns};
use crate::presence::event_package::Packages;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::{FIELDS, Field, STORED_FIELDS, room_of};
use crate::presence::subscription::{RowState, Status, Subscription, SubscriptionState};
use crate::sip::checked::UserPart;
use crate::sip::transport::Transport;
use crate::sip::{columns, uri};
use crate::time::Moment;

/// The table's version in Kamailio's `version` table.
pub const VERSION: u32 = 12;

row_columns! {
    /// A whole subscription.
    enum ActiveWatchers {
        PresentityUri = "presentity_uri",
        ToUser = "to_user",
        ToDomain = "to_domain",
        FromUser = "from_user",
        FromDomain = "from_domain",
        WatcherUsername = "watcher_username",
        WatcherDomain = "watcher_domain",
        EventId = "event_id",
        ToTag = "to_tag",
        FromTag = "from_tag",
        Callid = "callid",
        SocketInfo = "socket_info",
        Contact = "contact",
        LocalContact = "local_contact",
        RecordRoute = "record_route",
        Reason = "reason",
        UserAgent = "user_agent",
        Event = "event",
        Status = "status",
        Expires = "expires",
        LocalCseq = "local_cseq",
        RemoteCseq = "remote_cseq",
        Version = "version",
        Flags = "flags",
        Updated = "updated",
    }
}

row_columns! {
    /// The CSeq of the last NOTIFY.
    #[allow(dead_code, reason = "only whether there is a row is asked")]
    enum LocalCseq {
        Value = "local_cseq",
    }
}

/// What the column `updated` has where a row is not marked for a notifier process.
pub const NOT_MARKED: i32 = -1;

/// What it has while numbers that were not used are given back.
const BEING_GIVEN_BACK: i32 = -2;

/// The columns of a subscription's strings.
const TEXTS: [(Field, ActiveWatchers); STORED_FIELDS] = [
    (Field::PresUri, ActiveWatchers::PresentityUri),
    (Field::ToUser, ActiveWatchers::ToUser),
    (Field::ToDomain, ActiveWatchers::ToDomain),
    (Field::FromUser, ActiveWatchers::FromUser),
    (Field::FromDomain, ActiveWatchers::FromDomain),
    (Field::WatcherUser, ActiveWatchers::WatcherUsername),
    (Field::WatcherDomain, ActiveWatchers::WatcherDomain),
    (Field::EventId, ActiveWatchers::EventId),
    (Field::ToTag, ActiveWatchers::ToTag),
    (Field::FromTag, ActiveWatchers::FromTag),
    (Field::CallId, ActiveWatchers::Callid),
    (Field::Socket, ActiveWatchers::SocketInfo),
    (Field::Contact, ActiveWatchers::Contact),
    (Field::LocalContact, ActiveWatchers::LocalContact),
    (Field::RecordRoute, ActiveWatchers::RecordRoute),
    (Field::Reason, ActiveWatchers::Reason),
    (Field::UserAgent, ActiveWatchers::UserAgent),
];

// Each string that is stored has a column, and one that holds as much as the field says.
const _: () = {
    let mut at = 0;
    while at < STORED_FIELDS {
        let (field, column) = TEXTS[at];
        assert!(field as usize == at);
        let room = columns::room(&columns::ACTIVE_WATCHERS, ActiveWatchers::NAMES[column as usize]);
        assert!(room == room_of(field));
        at += 1;
    }
};

/// What a row has for a subscription without a route set. Stock's write-back leaves an empty text, everything else NULL
/// where the driver knows the difference.
#[derive(Clone, Copy)]
pub enum NoRoute {
    /// NULL, as far as the driver writes one.
    Null,
    /// An empty text.
    Empty,
}

impl NoRoute {
    fn value(self, route: &[u8]) -> Value<'_> {
        match self {
            NoRoute::Null => Value::Optional(route),
            NoRoute::Empty => Value::Text(route),
        }
    }
}

/// What becomes of the columns `updated` and `updated_winfo`, by which stock's notifier processes find their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// The columns are written.
    Written,
    /// The columns are left as they are: memory does not change them. Each is in an index of its own, which would be
    /// written with each row.
    Left,
}

/// The condition that names one dialog's row.
fn of_dialog(dialog: DialogId<'_>) -> [Cond<'_>; 3] {
    [
        ("callid", Op::Eq, Value::Text(dialog.call_id)),
        ("to_tag", Op::Eq, Value::Text(dialog.to_tag)),
        ("from_tag", Op::Eq, Value::Text(dialog.from_tag)),
    ]
}

/// Whether every column holds its value in every database.
pub fn fits(subscription: &Subscription) -> bool {
    // A User-Agent is written in a form that fits.
    let in_row = Field::ALL.iter().take(STORED_FIELDS).filter(|field| **field != Field::UserAgent);
    in_row.into_iter().all(|field| columns::fits(subscription.get(*field), room_of(*field)))
}

/// The subscription without a User-Agent whose characters a database may not take: MariaDB's usual character sets hold
/// less than UTF-8.
pub fn without_user_agent(subscription: &Subscription) -> Option<Subscription> {
    match subscription.get(Field::UserAgent).is_ascii() {
        true => None,
        false => subscription.with(&[(Field::UserAgent, b"")]).ok(),
    }
}

/// Adds the row of a new subscription. Where the database does not take the characters of its User-Agent the row goes
/// without: it is only shown.
///
/// # Errors
///
/// Fails when the database cannot be written, or refuses the row without its User-Agent, too.
pub fn add(
    database: &Database,
    table: &[u8],
    packages: &Packages,
    subscription: &Subscription,
) -> Result<(), StoreError> {
    let write = |db: &Connection| insert(db, table, packages, subscription, NoRoute::Null);
    let added = match !database.limits_texts() || fits(subscription) {
        true => database.write(write),
        false => database.write_once(write),
    };
    match without_user_agent(subscription).filter(|_| added == Err(StoreError::Refused)) {
        Some(plainer) => database.write_once(|db| insert(db, table, packages, &plainer, NoRoute::Null)),
        None => added,
    }
}

/// Adds the row of a subscription.
///
/// # Errors
///
/// Fails when the database cannot be written, or refuses the row.
pub fn insert<B: AsRef<[u8]>>(
    db: &Connection,
    table: &[u8],
    packages: &Packages,
    subscription: &Subscription<B>,
    no_route: NoRoute,
) -> Result<(), DbError> {
    let n = &subscription.state;
    let text = |field| Value::Text(subscription.get(field));
    let user_agent = columns::user_agent(subscription.get(Field::UserAgent));
    db.insert(
        table,
        &[
            ("presentity_uri", text(Field::PresUri)),
            ("callid", text(Field::CallId)),
            ("to_tag", text(Field::ToTag)),
            ("from_tag", text(Field::FromTag)),
            ("to_user", text(Field::ToUser)),
            ("to_domain", text(Field::ToDomain)),
            ("watcher_username", text(Field::WatcherUser)),
            ("watcher_domain", text(Field::WatcherDomain)),
            ("from_user", text(Field::FromUser)),
            ("from_domain", text(Field::FromDomain)),
            ("event", Value::Text(packages.get(n.event).name)),
            ("event_id", Value::Optional(subscription.get(Field::EventId))),
            ("local_cseq", Value::Int(n.local_cseq.into())),
            ("remote_cseq", Value::Int(n.remote_cseq.into())),
            ("expires", Value::Time(n.expires_at.into())),
            ("status", Value::Int(n.status as i64)),
            ("reason", Value::Optional(subscription.get(Field::Reason))),
            ("record_route", no_route.value(subscription.get(Field::RecordRoute))),
            ("contact", text(Field::Contact)),
            ("local_contact", text(Field::LocalContact)),
            ("version", Value::Int(n.version.into())),
            ("socket_info", text(Field::Socket)),
            ("updated", Value::Int(n.updated.into())),
            ("updated_winfo", Value::Int(n.updated_winfo.into())),
            ("flags", Value::Int(n.flags.into())),
            ("user_agent", Value::Text(&user_agent)),
        ],
    )
}

/// Puts the row of a subscription in the place of any there is.
///
/// # Errors
///
/// Fails when the database cannot be written, or refuses the row: call it in a transaction.
pub fn replace<B: AsRef<[u8]>>(
    db: &Connection,
    table: &[u8],
    packages: &Packages,
    subscription: &Subscription<B>,
    no_route: NoRoute,
) -> Result<(), DbError> {
    delete(db, table, subscription.dialog())?;
    insert(db, table, packages, subscription, no_route)
}

/// Removes rows of subscriptions that ended before a time.
///
/// # Errors
///
/// Fails when the database cannot be written.
pub fn delete_ended(db: &Connection, table: &[u8], before: Moment) -> Result<(), DbError> {
    db.delete(table, &[("expires", Op::Lt, Value::Time(before.into()))])
}

/// Writes everything that can change in a subscription, unless the row has been counted further up meanwhile.
///
/// # Errors
///
/// Fails when the database cannot be written, or refuses the values. A row that is gone, or further, is no failure.
pub fn update<B: AsRef<[u8]>>(
    db: &Connection,
    table: &[u8],
    subscription: &Subscription<B>,
    no_route: NoRoute,
    marks: Marks,
) -> Result<(), DbError> {
    let n = &subscription.state;
    let cells: [Cell<'_>; 12] = [
        ("expires", Value::Time(n.expires_at.into())),
        ("status", Value::Int(n.status as i64)),
        ("reason", Value::Optional(subscription.get(Field::Reason))),
        ("remote_cseq", Value::Int(n.remote_cseq.into())),
        ("local_cseq", Value::Int(n.local_cseq.into())),
        ("contact", Value::Text(subscription.get(Field::Contact))),
        ("local_contact", Value::Text(subscription.get(Field::LocalContact))),
        ("record_route", no_route.value(subscription.get(Field::RecordRoute))),
        ("socket_info", Value::Text(subscription.get(Field::Socket))),
        ("version", Value::Int(n.version.into())),
        ("updated", Value::Int(n.updated.into())),
        ("updated_winfo", Value::Int(n.updated_winfo.into())),
    ];
    let written = match marks {
        Marks::Written => &cells[..],
        Marks::Left => &cells[..cells.len() - 2],
    };
    db.update(table, written, &not_counted_further(subscription))
}

/// Writes what a SUBSCRIBE or another authorization changes, and not what NOTIFYs count up meanwhile.
///
/// # Errors
///
/// Fails when the database cannot be written, or refuses the values. A row that is gone is no failure.
pub fn update_state(db: &Connection, table: &[u8], subscription: &Subscription) -> Result<(), DbError> {
    let n = &subscription.state;
    let cells: [Cell<'_>; 8] = [
        ("expires", Value::Time(n.expires_at.into())),
        ("status", Value::Int(n.status as i64)),
        ("reason", Value::Optional(subscription.get(Field::Reason))),
        ("remote_cseq", Value::Int(n.remote_cseq.into())),
        ("contact", Value::Text(subscription.get(Field::Contact))),
        ("local_contact", Value::Text(subscription.get(Field::LocalContact))),
        ("record_route", Value::Optional(subscription.get(Field::RecordRoute))),
        ("socket_info", Value::Text(subscription.get(Field::Socket))),
    ];
    db.update(table, &cells, &of_dialog(subscription.dialog()))
}

/// Writes the numbers that a NOTIFY counts up, unless the row has been counted further up meanwhile.
///
/// # Errors
///
/// Fails when the database cannot be written. A row that is gone, or further, is no failure.
pub fn update_counters<B: AsRef<[u8]>>(
    db: &Connection,
    table: &[u8],
    subscription: &Subscription<B>,
) -> Result<(), DbError> {
    db.update(table, &counters(&subscription.state), &not_counted_further(subscription))
}

/// The condition that names the row of a subscription whose memory several processes write: the CSeq of a row never
/// goes back, in whatever order their statements reach the database.
fn not_counted_further<B: AsRef<[u8]>>(subscription: &Subscription<B>) -> [Cond<'_>; 4] {
    let [call, to, from] = of_dialog(subscription.dialog());
    [call, to, from, ("local_cseq", Op::Le, Value::Int(subscription.state.local_cseq.into()))]
}

/// The condition that names the row of a subscription that was read with this CSeq: whatever changes what a NOTIFY says
/// counts it up.
fn as_read(dialog: DialogId<'_>, local_cseq: u32) -> [Cond<'_>; 4] {
    let [call, to, from] = of_dialog(dialog);
    [call, to, from, ("local_cseq", Op::Eq, Value::Int(local_cseq.into()))]
}

/// The same where a SUBSCRIBE that came in between has to be seen, too: stock's nodes that leave NOTIFYs to notifiers
/// write one without counting the CSeq of the NOTIFY up.
fn as_read_and_not_renewed(read: &Subscription) -> Vec<Cond<'_>> {
    let n = &read.state;
    let mut row = as_read(read.dialog(), n.local_cseq).to_vec();
    row.push(("remote_cseq", Op::Eq, Value::Int((n.remote_cseq as i32).into())));
    // A later time is not the one that the column has.
    if n.expires_at <= Moment::at(i64::from(i32::MAX)) {
        row.push(("expires", Op::Eq, Value::Time(n.expires_at.into())));
    }
    row
}

/// The cells of the numbers that a NOTIFY counts up.
fn counters(n: &SubscriptionState) -> [Cell<'static>; 2] {
    [("local_cseq", Value::Int(n.local_cseq.into())), ("version", Value::Int(n.version.into()))]
}

/// Writes CSeq and version if the row is as it was read, with this CSeq; `false` when it is not.
///
/// # Errors
///
/// Fails when the database cannot be read or written.
pub fn count_up(db: &Connection, table: &[u8], counted: &Subscription, local_cseq: u32) -> Result<bool, DbError> {
    let row = as_read(counted.dialog(), local_cseq);
    compare_and_write::<LocalCseq>(db, table, &row, || db.update(table, &counters(&counted.state), &row))
}

/// The same for a row that has to bear this mark of a notifier process: it is taken off in the same statement.
///
/// # Errors
///
/// Fails when the database cannot be read or written.
pub fn take_marked(
    db: &Connection,
    table: &[u8],
    counted: &Subscription,
    local_cseq: u32,
    mark: i32,
) -> Result<bool, DbError> {
    let [cseq, version] = counters(&counted.state);
    let [call, to, from, before] = as_read(counted.dialog(), local_cseq);
    let row = [call, to, from, before, ("updated", Op::Eq, Value::Int(mark.into()))];
    compare_and_write::<LocalCseq>(db, table, &row, || {
        db.update(table, &[cseq, version, ("updated", Value::Int(NOT_MARKED.into()))], &row)
    })
}

/// Takes the numbers of a row back by one, if it is as it was counted up.
///
/// A driver that loses its connection carries a statement out again, and others may have taken and used the numbers
/// meanwhile: so the row is marked first, and what takes the numbers back takes off that mark.
///
/// # Errors
///
/// Fails when the database cannot be written. `false`: the row is gone, further, or marked for a notifier.
pub fn give_back(db: &Connection, table: &[u8], counted: &Subscription) -> Result<bool, DbError> {
    let mut before = counted.state;
    (before.local_cseq, before.version) = (before.local_cseq.saturating_sub(1), before.version.saturating_sub(1));
    let [call, to, from, cseq] = as_read(counted.dialog(), counted.state.local_cseq);
    let row = |updated: i32| [call, to, from, cseq, ("updated", Op::Eq, Value::Int(updated.into()))];
    let (read, marked) = (row(before.updated), row(BEING_GIVEN_BACK));
    let is_marked = compare_and_write::<LocalCseq>(db, table, &read, || {
        db.update(table, &[("updated", Value::Int(BEING_GIVEN_BACK.into()))], &read)
    })?;
    let [cseq, version] = counters(&before);
    let is_taken_back = compare_and_write::<LocalCseq>(db, table, &marked, || {
        db.update(table, &[cseq, version, ("updated", Value::Int(before.updated.into()))], &marked)
    })?;
    // One that was carried out twice finds nothing the second time.
    Ok(is_marked || is_taken_back)
}

/// Writes what a SUBSCRIBE changes, together with the numbers of the NOTIFY that follows it, if the row is as it was
/// read; `false` when it is not.
///
/// # Errors
///
/// Fails when the database cannot be read or written.
pub fn renew(db: &Connection, table: &[u8], read: &Subscription, renewed: &Subscription) -> Result<bool, DbError> {
    let n = &renewed.state;
    let [local_cseq, version] = counters(n);
    let text = |field| Value::Text(renewed.get(field));
    let cells: [Cell<'_>; 7] = [
        ("expires", Value::Time(n.expires_at.into())),
        ("remote_cseq", Value::Int(n.remote_cseq.into())),
        local_cseq,
        version,
        ("contact", text(Field::Contact)),
        ("local_contact", text(Field::LocalContact)),
        ("socket_info", text(Field::Socket)),
    ];
    let moved = [Field::Contact, Field::LocalContact, Field::Socket];
    let written = match moved.iter().any(|field| renewed.get(*field) != read.get(*field)) {
        true => &cells[..],
        false => &cells[..cells.len() - moved.len()],
    };
    let row = as_read_and_not_renewed(read);
    compare_and_write::<LocalCseq>(db, table, &row, || db.update(table, written, &row))
}

/// Writes another authorization, together with the numbers of the NOTIFY that follows it, if the row is as it was read;
/// `false` when it is not. That NOTIFY stands for one that the row is marked for: a watcher who may not see the state
/// any more must not notice that it has changed.
///
/// # Errors
///
/// Fails when the database cannot be read or written.
pub fn authorize(db: &Connection, table: &[u8], judged: &Subscription, local_cseq: u32) -> Result<bool, DbError> {
    let [cseq, version] = counters(&judged.state);
    let cells: [Cell<'_>; 5] = [
        ("status", Value::Int(judged.state.status as i64)),
        ("reason", Value::Optional(judged.get(Field::Reason))),
        cseq,
        version,
        ("updated", Value::Int(NOT_MARKED.into())),
    ];
    let row = as_read(judged.dialog(), local_cseq);
    compare_and_write::<LocalCseq>(db, table, &row, || db.update(table, &cells, &row))
}

/// Removes a row if it is as it was read; `false` when it is not.
///
/// # Errors
///
/// Fails when the database cannot be read or written.
pub fn delete_as_read(db: &Connection, table: &[u8], read: &Subscription) -> Result<bool, DbError> {
    let row = as_read_and_not_renewed(read);
    compare_and_write::<LocalCseq>(db, table, &row, || db.delete(table, &row))
}

/// Marks a row for the notifier process whose turn `turn` is.
///
/// # Errors
///
/// Fails when the database cannot be written. A row that is gone is no failure.
pub fn mark(db: &Connection, table: &[u8], dialog: DialogId<'_>, turn: i64) -> Result<(), DbError> {
    db.update(table, &[("updated", Value::Int(turn))], &of_dialog(dialog))
}

/// Takes the mark off a row. One that another process has taken is left alone.
///
/// # Errors
///
/// Fails when the database cannot be written.
pub fn unmark(db: &Connection, table: &[u8], subscription: &Subscription) -> Result<(), DbError> {
    let [call, to, from] = of_dialog(subscription.dialog());
    let marked = ("updated", Op::Eq, Value::Int(subscription.state.updated.into()));
    db.update(table, &[("updated", Value::Int(NOT_MARKED.into()))], &[call, to, from, marked])
}

/// Removes a dialog's row.
///
/// # Errors
///
/// Fails when the database cannot be written. A row that is gone is no failure.
pub fn delete(db: &Connection, table: &[u8], dialog: DialogId<'_>) -> Result<(), DbError> {
    db.delete(table, &of_dialog(dialog))
}

/// The rows that meet the conditions, as subscriptions. Rows of packages that are not loaded, or that cannot be read,
/// are left out.
///
/// # Errors
///
/// Fails when the database cannot be read.
pub fn select(
    db: &Connection,
    table: &[u8],
    packages: &Packages,
    conditions: &[Cond<'_>],
) -> Result<Vec<Subscription>, DbError> {
    let rows = db.select(table, conditions, None)?;
    Ok(rows.iter().filter_map(|row| decode(packages, row)).collect())
}

/// Whether any row meets the conditions.
///
/// # Errors
///
/// Fails when the database cannot be read.
pub fn has_any(db: &Connection, table: &[u8], conditions: &[Cond<'_>]) -> Result<bool, DbError> {
    compared_rows::has_any::<LocalCseq>(db, table, conditions)
}

/// The rows of one page, as subscriptions, and what the page was.
///
/// # Errors
///
/// Fails when the database cannot be read.
pub fn select_page(
    db: &Connection,
    table: &[u8],
    packages: &Packages,
    page: &Page<'_>,
) -> Result<(Vec<Subscription>, BatchEnd), DbError> {
    let rows = db.select_with_keys(table, &page.conditions, page.order)?;
    let seen = BatchEnd::of_rows(&rows);
    Ok((rows.iter().filter_map(|row| decode(packages, row)).collect(), seen))
}

/// The same, each with its key.
///
/// # Errors
///
/// Fails when the database cannot be read.
pub fn select_page_with_keys(
    db: &Connection,
    table: &[u8],
    packages: &Packages,
    page: &Page<'_>,
) -> Result<(Vec<(i64, Subscription)>, BatchEnd), DbError> {
    let rows = db.select_with_keys(table, &page.conditions, page.order)?;
    let seen = BatchEnd::of_rows(&rows);
    let with_key = |(row, key)| decode(packages, row).map(|subscription| (key, subscription));
    Ok((rows.iter().zip(keys_of(&rows)).filter_map(with_key).collect(), seen))
}

/// The subscription of a dialog.
///
/// # Errors
///
/// Fails when the database cannot be read.
pub fn find(
    db: &Connection,
    table: &[u8],
    packages: &Packages,
    dialog: DialogId<'_>,
) -> Result<Option<Subscription>, DbError> {
    Ok(select(db, table, packages, &of_dialog(dialog))?.pop())
}

fn decode(packages: &Packages, row: Row<'_, ActiveWatchers>) -> Option<Subscription> {
    let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
    for (field, column) in TEXTS {
        fields[field as usize] = row.bytes(column);
    }
    // Rows of other servers may have a user with escapes that it does not need.
    let plain = fields[Field::PresUri as usize].contains(&b'%').then(|| plain_uri(fields[Field::PresUri as usize]));
    if let Some(uri) = &plain {
        fields[Field::PresUri as usize] = uri;
    }
    let state = SubscriptionState {
        event: packages.named(row.bytes(ActiveWatchers::Event))?,
        status: Status::from_number(row.int(ActiveWatchers::Status))?,
        expires_at: end_of(row.int(ActiveWatchers::Expires)),
        local_cseq: row.int(ActiveWatchers::LocalCseq) as u32,
        remote_cseq: row.int(ActiveWatchers::RemoteCseq) as u32,
        version: row.int(ActiveWatchers::Version) as u32,
        flags: row.int(ActiveWatchers::Flags) as u32,
        updated: row.int(ActiveWatchers::Updated) as i32,
        updated_winfo: -1,
        since: None,
        refreshed_at: None,
        row_state: RowState::Clean,
        transport: Transport::Unknown,
    };
    let subscription = Subscription::new(state, &fields);
    if let Err(why) = &subscription {
        let dialog = String::from_utf8_lossy(fields[Field::CallId as usize]).into_owned();
        crate::log!(Warn, "the row of a subscription with Call-ID {dialog:.64} is not read: {why}");
    }
    subscription.ok()
}

/// A presentity's URI with its user in the one form it has everywhere.
fn plain_uri(stored: &[u8]) -> Vec<u8> {
    let uri::PlainUri { user, host } = uri::split(stored);
    UserPart::new(user).map_or_else(|_| stored.to_vec(), |user| uri::join(user.bytes(), host))
}
