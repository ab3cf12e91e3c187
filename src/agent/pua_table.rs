//! Rows of the `pua` table: how a record is written, read and found.
use crate::agent::records::RecordRowChange;
use crate::common::database::{Database, StoreError};
use crate::common::paging::{BatchEnd, each_page};
use crate::common::row_groups::{GroupOutcome, Writer};
use crate::host::db::{Cell, Cond, Connection, DbError, Op, Row, Value, moment, moment_of, row_columns};
use crate::pua::error::RequestError;
use crate::pua::flags::{EventFlags, SourceFlags};
use crate::pua::record::{Dialog, Record, RecordField, RecordRowState, RecordState, Search};
use crate::sip::columns::{self, LONG, SHORT, TAG, TEXT};
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment, Seconds};

/// The table's version in Kamailio's `version` table.
pub const VERSION: u32 = 7;

row_columns! {
    /// A whole record.
    enum Pua {
        PresUri = "pres_uri",
        PresId = "pres_id",
        Event = "event",
        Expires = "expires",
        DesiredExpires = "desired_expires",
        Flag = "flag",
        Etag = "etag",
        TupleId = "tuple_id",
        WatcherUri = "watcher_uri",
        CallId = "call_id",
        ToTag = "to_tag",
        FromTag = "from_tag",
        Cseq = "cseq",
        RecordRoute = "record_route",
        Contact = "contact",
        RemoteContact = "remote_contact",
        Version = "version",
        ExtraHeaders = "extra_headers",
    }
}

row_columns! {
    /// Whom a row is about.
    enum Presentity {
        Uri = "pres_uri",
    }
}

/// Whether every column holds its value in every database.
fn fits(record: &Record) -> bool {
    let holds = |fields: &[RecordField], room| fields.iter().all(|field| columns::fits(record.get(*field), room));
    holds(
        &[
            RecordField::PresUri,
            RecordField::Id,
            RecordField::WatcherUri,
            RecordField::CallId,
            RecordField::Contact,
            RecordField::RemoteContact,
        ],
        LONG,
    ) && holds(&[RecordField::Etag, RecordField::ToTag, RecordField::FromTag], TAG)
        && holds(&[RecordField::TupleId], SHORT)
        && holds(&[RecordField::RecordRoute, RecordField::ExtraHeaders], TEXT)
}

fn text(record: &Record, field: RecordField) -> Value<'_> {
    Value::Text(record.get(field))
}

fn cells(record: &Record) -> [Cell<'_>; 18] {
    let state = &record.state;
    [
        ("pres_uri", text(record, RecordField::PresUri)),
        ("pres_id", text(record, RecordField::Id)),
        ("flag", Value::Int(state.flag.word().into())),
        ("event", Value::Int(state.event.word().into())),
        ("watcher_uri", text(record, RecordField::WatcherUri)),
        ("call_id", text(record, RecordField::CallId)),
        ("to_tag", text(record, RecordField::ToTag)),
        ("from_tag", text(record, RecordField::FromTag)),
        ("etag", text(record, RecordField::Etag)),
        ("tuple_id", text(record, RecordField::TupleId)),
        ("cseq", Value::Int(state.cseq.into())),
        ("expires", Value::Time(state.expires_at.into())),
        ("desired_expires", desired(state.desired_until)),
        ("record_route", text(record, RecordField::RecordRoute)),
        ("contact", text(record, RecordField::Contact)),
        ("remote_contact", text(record, RecordField::RemoteContact)),
        ("version", Value::Int(state.version.into())),
        ("extra_headers", text(record, RecordField::ExtraHeaders)),
    ]
}

/// What the column `desired_expires` has: 0 for what is wanted for ever.
fn desired(until: Expiry) -> Value<'static> {
    moment(until.moment())
}

/// The columns that change over the life of a record.
fn changing(record: &Record) -> [Cell<'_>; 9] {
    let state = &record.state;
    [
        ("expires", Value::Time(state.expires_at.into())),
        ("desired_expires", desired(state.desired_until)),
        ("cseq", Value::Int(state.cseq.into())),
        ("version", Value::Int(state.version.into())),
        ("etag", text(record, RecordField::Etag)),
        ("tuple_id", text(record, RecordField::TupleId)),
        ("to_tag", text(record, RecordField::ToTag)),
        ("record_route", text(record, RecordField::RecordRoute)),
        ("remote_contact", text(record, RecordField::RemoteContact)),
    ]
}

/// What names the row of a record: for a publication its entity tag, too, for several may have one id.
fn identity<'a>(record: &'a Record, etag: EntityTag<&'a [u8]>) -> Vec<Cond<'a>> {
    if record.is_subscription() {
        return vec![
            ("call_id", Op::Eq, text(record, RecordField::CallId)),
            ("from_tag", Op::Eq, text(record, RecordField::FromTag)),
        ];
    }
    vec![
        ("pres_uri", Op::Eq, text(record, RecordField::PresUri)),
        ("pres_id", Op::Eq, text(record, RecordField::Id)),
        ("event", Op::Eq, Value::Int(record.state.event.word().into())),
        ("flag", Op::Eq, Value::Int(record.state.flag.word().into())),
        ("etag", Op::Eq, Value::Text(etag.into_bytes())),
    ]
}

fn read(row: Row<'_, Pua>) -> Record {
    let state = RecordState {
        serial: 0,
        event: EventFlags::from_word(row.int(Pua::Event) as i32),
        flag: SourceFlags::from_word(row.int(Pua::Flag) as i32),
        expires_at: moment_of(row.int(Pua::Expires)).unwrap_or_default(),
        desired_until: moment_of(row.int(Pua::DesiredExpires)).into(),
        cseq: row.int(Pua::Cseq) as u32,
        version: row.int(Pua::Version) as u32,
        row_state: RecordRowState::Clean,
    };
    Record::new(
        state,
        &[
            (RecordField::PresUri, row.bytes(Pua::PresUri)),
            (RecordField::Id, row.bytes(Pua::PresId)),
            (RecordField::Etag, row.bytes(Pua::Etag)),
            (RecordField::TupleId, row.bytes(Pua::TupleId)),
            (RecordField::WatcherUri, row.bytes(Pua::WatcherUri)),
            (RecordField::CallId, row.bytes(Pua::CallId)),
            (RecordField::ToTag, row.bytes(Pua::ToTag)),
            (RecordField::FromTag, row.bytes(Pua::FromTag)),
            (RecordField::RecordRoute, row.bytes(Pua::RecordRoute)),
            (RecordField::Contact, row.bytes(Pua::Contact)),
            (RecordField::RemoteContact, row.bytes(Pua::RemoteContact)),
            (RecordField::ExtraHeaders, row.bytes(Pua::ExtraHeaders)),
        ],
    )
}

fn select(db: &Connection, table: &[u8], conditions: &[Cond<'_>]) -> Result<Vec<Record>, DbError> {
    Ok(db.select(table, conditions, None)?.iter().map(read).collect())
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> RequestError {
        RequestError::Store(error.to_string())
    }
}

/// The rows of the table as one process reaches them.
#[derive(Clone, Copy)]
pub struct PuaRows {
    pub(crate) database: &'static Database,
    pub(crate) table: &'static [u8],
    /// How many of them are read at once.
    pub(crate) fetch_rows: i32,
}

impl PuaRows {
    /// The newest row that matches.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub fn find(&self, search: &Search<'_>) -> Result<Option<Record>, StoreError> {
        let conditions = [
            ("pres_uri", Op::Eq, Value::Text(search.pres_uri)),
            ("watcher_uri", Op::Eq, Value::Text(search.watcher_uri)),
        ];
        let found = self.database.read(|db| select(db, self.table, &conditions))?;
        Ok(found.into_iter().rfind(|record| search.matches(record)))
    }

    /// The row of a dialog, its established one first.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub fn find_dialog(&self, dialog: &Dialog<'_>) -> Result<Option<Record>, StoreError> {
        let conditions =
            [("call_id", Op::Eq, Value::Text(dialog.call_id)), ("from_tag", Op::Eq, Value::Text(dialog.from_tag))];
        let found = self.database.read(|db| select(db, self.table, &conditions))?;
        let exact =
            found.iter().find(|record| !dialog.to_tag.is_empty() && record.get(RecordField::ToTag) == dialog.to_tag);
        let other = || found.iter().find(|record| record.is_temporary() || dialog.to_tag.is_empty());
        Ok(exact.or_else(other).cloned())
    }

    /// A new row.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written, or refuses the row.
    pub fn insert(&self, record: &Record) -> Result<(), StoreError> {
        self.database.write(|db| db.insert(self.table, &cells(record)))
    }

    /// Changes the row of `before`; `false` when it is gone.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written, refuses the row, or cannot say whether there was one.
    pub fn replace(&self, before: &Record, after: &Record) -> Result<bool, StoreError> {
        let which = identity(before, EntityTag::new(before.get(RecordField::Etag)));
        self.database.write(|db| {
            db.update(self.table, &changing(after), &which)?;
            match db.affected_rows() {
                Some(count) if count > 0 => Ok(true),
                // Some drivers count only rows whose values are others now, some cannot count.
                _ => {
                    let now_named = identity(after, EntityTag::new(after.get(RecordField::Etag)));
                    Ok(!db.select::<Presentity>(self.table, &now_named, None)?.is_empty())
                }
            }
        })
    }

    /// Deletes the row of a record.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub fn remove(&self, record: &Record) -> Result<(), StoreError> {
        let which = identity(record, EntityTag::new(record.get(RecordField::Etag)));
        self.database.write(|db| db.delete(self.table, &which))
    }

    /// Rows that end before `before`.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub fn ending(&self, before: Moment) -> Result<Vec<Record>, StoreError> {
        let over = [("expires", Op::Lt, Value::Time(before.into()))];
        self.database.read(|db| select(db, self.table, &over))
    }

    /// URIs of the presentities that rows with this id are about.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub fn uris_with_id(&self, id: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let with_id = [("pres_id", Op::Eq, Value::Text(id))];
        self.database.read(|db| {
            let rows = db.select::<Presentity>(self.table, &with_id, None)?;
            Ok(rows.iter().map(|row| row.bytes(Presentity::Uri).to_vec()).collect())
        })
    }

    /// Calls `keep` with every row.
    ///
    /// # Errors
    ///
    /// Fails when a batch cannot be read; `keep` has been called with the rows of the batches before it.
    pub fn each(&self, mut keep: impl FnMut(Record)) -> Result<usize, StoreError> {
        let table = self.table;
        each_page(self.database, table, self.fetch_rows, |db, page| {
            let rows = db.select_with_keys(table, &page.conditions, page.order)?;
            rows.iter().map(read).for_each(&mut keep);
            Ok(BatchEnd::of_rows(&rows))
        })
    }

    /// Writes some of what memory has changed, see [`Writer::write_group`].
    pub fn write_changes(&self, changes: &[RecordRowChange]) -> GroupOutcome {
        let table = self.table;
        let write = |db: &Connection, change: &RecordRowChange| -> Result<(), DbError> {
            match change {
                RecordRowChange::Ended { row, written_etags } => {
                    let etag = EntityTag::new(row.get(RecordField::Etag));
                    db.delete(table, &identity(row, etag))?;
                    let others = written_etags.iter().map(|written| written.view()).filter(|written| *written != etag);
                    others.into_iter().try_for_each(|written| db.delete(table, &identity(row, written)))
                }
                RecordRowChange::Changed { record, row_etag, left_etag: Some(left) } => {
                    // The table has the row, the copy that was left behind, or neither.
                    db.delete(table, &identity(record, left.view()))?;
                    if record.state.row_state != RecordRowState::Insert && row_etag != left {
                        db.delete(table, &identity(record, row_etag.view()))?;
                    }
                    db.insert(table, &cells(record))
                }
                RecordRowChange::Changed { record, .. } if record.state.row_state == RecordRowState::Insert => {
                    db.insert(table, &cells(record))
                }
                RecordRowChange::Changed { record, row_etag, left_etag: None } => {
                    db.update(table, &changing(record), &identity(record, row_etag.view()))
                }
            }
        };
        let fits = |change: &RecordRowChange| match change {
            RecordRowChange::Ended { .. } => true,
            RecordRowChange::Changed { record, .. } => fits(record),
        };
        Writer { database: self.database, table, fits: &fits, write: &write }.write_group(changes)
    }

    /// Forgets rows that ended long ago. What its owner still wants stays, though its server has not granted it lately.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub fn delete_ended(&self, now: Moment) -> Result<(), StoreError> {
        let table = self.table;
        let unwanted = ("desired_expires", Op::Lt, Value::Time(now.into()));
        let ends = ("desired_expires", Op::Gt, Value::Int(0));
        self.database.write(|db| {
            db.delete(table, &[("expires", Op::Lt, Value::Time((now - Seconds(10)).into())), ends, unwanted])
        })
    }
}
