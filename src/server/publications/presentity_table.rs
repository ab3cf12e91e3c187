//! Rows of `presentity`: a publication column by column, as stock writes it.
use crate::cluster::clock::ClusterSecond;
use crate::common::compared_rows::compare_and_write;
use crate::common::ended_rows::EndedPage;
use crate::common::paging::{self, BatchEnd, Page};
use crate::host::clock;
use crate::host::db::{Cell, Cond, Connection, DbError, Op, Row, Value, expiry_of, moment, moment_of, row_columns};
use crate::presence::config::Config;
use crate::presence::error::StoreError;
use crate::presence::publication::{Dialogs, Publication, StoredDocument};
use crate::presence::resource::Resource;
use crate::server::publications::store::ResourceFilter;
use crate::server::shared::Parts;
use crate::sip::entity_tag::EntityTag;
use crate::sip::{columns, uri};
use crate::time::{Moment, Seconds};
use std::collections::BTreeSet;
use std::ops::Deref;

/// The table's version in Kamailio's `version` table.
pub const VERSION: u32 = 5;

row_columns! {
    /// What names a row's resource.
    enum OfResource {
        User = "username",
        Domain = "domain",
        Event = "event",
    }
}

row_columns! {
    /// What names a row: its resource, its entity tag and its record id.
    enum OfPublication {
        User = "username",
        Domain = "domain",
        Event = "event",
        Etag = "etag",
        Ruid = "ruid",
    }
}

row_columns! {
    /// A publication, as the rows of one resource have it.
    enum PublicationColumn {
        Body = "body",
        Etag = "etag",
        Expires = "expires",
        ReceivedTime = "received_time",
        Sender = "sender",
        Priority = "priority",
        Ruid = "ruid",
    }
}

row_columns! {
    /// What is read to see whether there is a row.
    #[allow(dead_code, reason = "only whether there is a row is asked")]
    enum EtagColumn {
        Value = "etag",
    }
}

/// What an update does to the body in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyCell {
    /// The body is another one now.
    Changes,
    /// The body stays.
    Stays,
}

/// One row operation that follows from a change.
pub(crate) enum RowChange {
    /// A new row.
    Insert(Publication),
    /// A change of the row that has this entity tag.
    Update { before: EntityTag, after: Publication, body: BodyCell },
    /// No row with this entity tag any more.
    Delete { etag: EntityTag, ruid: Vec<u8> },
}

/// The removal of the row of a publication.
pub(crate) fn delete<P: StoredDocument>(publication: &P) -> RowChange {
    RowChange::Delete { etag: publication.etag().to_owned_tag(), ruid: publication.ruid().to_vec() }
}

/// The change of the row that has the entity tag `before`.
pub(crate) fn update(before: &EntityTag, after: Publication, body: BodyCell) -> RowChange {
    RowChange::Update { before: before.clone(), after, body }
}

/// The columns that name a resource's rows.
fn of_resource<'a>(user: &'a [u8], domain: &'a [u8], event: &'a [u8]) -> [Cond<'a>; 3] {
    [
        ("domain", Op::Eq, Value::Text(domain)),
        ("username", Op::Eq, Value::Text(user)),
        ("event", Op::Eq, Value::Text(event)),
    ]
}

/// Whether every column of a publication's row holds its value in every database.
pub(crate) fn fits(resource: &Resource, p: &Publication) -> bool {
    let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
    columns::fits(user, columns::SHORT)
        && columns::fits(domain, columns::SHORT)
        && columns::fits(p.etag.bytes(), columns::TAG)
        && columns::fits(&p.sender, columns::LONG)
        && columns::fits(&p.ruid, columns::SHORT)
        && p.body.len() <= columns::BODY
}

/// When a document was received: where nodes share a clock by that, so that after a restart it is as new as it was.
fn received_time(p: &Publication) -> Value<'static> {
    p.stamp.map_or_else(|| moment(p.received_at), |stamp| Value::Int(stamp.seconds()))
}

/// When the document of a row was received: by this node's time, and by the clock that nodes share where they share
/// one. What a row says to be still to come was received by now.
fn receipt_of(number: i64, config: &Config) -> (Option<Moment>, Option<ClusterSecond>) {
    match config.replicates {
        true => (moment_of(number).map(|at| at.min(clock::now())), ClusterSecond::at(number & 0xffff_ffff)),
        false => (moment_of(number), None),
    }
}

/// Adds the row of a publication.
///
/// # Errors
///
/// Fails when the database cannot be written.
pub(crate) fn insert_row(
    db: &Connection,
    table: &[u8],
    resource: &Resource,
    event: &[u8],
    p: &Publication,
) -> Result<(), DbError> {
    let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
    db.insert(
        table,
        &[
            ("domain", Value::Text(domain)),
            ("username", Value::Text(user)),
            ("event", Value::Text(event)),
            ("etag", Value::Text(p.etag.bytes())),
            ("sender", Value::Text(&p.sender)),
            ("body", Value::Blob(&p.body)),
            ("received_time", received_time(p)),
            ("priority", Value::Int(p.priority.into())),
            ("expires", Value::Time(p.expires_at)),
            ("ruid", Value::Text(&p.ruid)),
        ],
    )
}

/// A refresh or modification changes at most this many columns.
const CHANGED_CELLS: usize = 6;

/// What a refresh or modification changes in a row.
fn changed_cells(after: &Publication, body: BodyCell) -> Vec<Cell<'_>> {
    let mut cells: Vec<Cell<'_>> = Vec::with_capacity(CHANGED_CELLS);
    cells.extend([
        ("etag", Value::Text(after.etag.bytes())),
        ("expires", Value::Time(after.expires_at)),
        ("received_time", received_time(after)),
        ("priority", Value::Int(after.priority.into())),
    ]);
    if !after.sender.is_empty() {
        cells.push(("sender", Value::Text(&after.sender)));
    }
    if body == BodyCell::Changes {
        cells.push(("body", Value::Blob(&after.body)));
    }
    cells
}

fn is_record(ruid: &[u8]) -> Cond<'_> {
    ("ruid", Op::Eq, Value::Text(ruid))
}

/// Brings the row of a publication to its newest state, whatever it was.
///
/// # Errors
///
/// Fails when the database cannot be written.
pub(crate) fn update_record(db: &Connection, table: &[u8], publication: &Publication) -> Result<(), DbError> {
    db.update(table, &changed_cells(publication, BodyCell::Changes), &[is_record(&publication.ruid)])
}

/// Removes the row with this record id.
///
/// # Errors
///
/// Fails when the database cannot be written.
pub(crate) fn delete_record(db: &Connection, table: &[u8], ruid: &[u8]) -> Result<(), DbError> {
    db.delete(table, &[is_record(ruid)])
}

/// What became of a change of the rows of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The change is carried out.
    Done,
    /// The publication's row is not there any more as it was read: another server has been faster. Nothing is changed.
    Overtaken,
}

/// Carries out a change of one row; `false` when there is no such row.
fn write_row(
    db: &Connection,
    config: &Config,
    resource: &Resource,
    event: &[u8],
    change: &RowChange,
) -> Result<bool, DbError> {
    let table = config.presentity_table;
    let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
    let [domain_is, user_is, event_is] = of_resource(user, domain, event);
    let etag_is = |etag| ("etag", Op::Eq, Value::Text(EntityTag::bytes(etag)));
    match change {
        RowChange::Insert(p) => insert_row(db, table, resource, event, p).map(|()| true),
        RowChange::Update { before, after, body } => {
            let cells = changed_cells(after, *body);
            let update =
                |row: &[Cond<'_>]| compare_and_write::<EtagColumn>(db, table, row, || db.update(table, &cells, row));
            match after.ruid.is_empty() {
                true => update(&[domain_is, user_is, event_is, etag_is(before)]),
                // The record id is unique by itself: a shorter statement, and one index to look at.
                false => update(&[is_record(&after.ruid), etag_is(before)]),
            }
        }
        RowChange::Delete { etag, .. } => {
            let row = [domain_is, user_is, event_is, etag_is(etag)];
            compare_and_write::<EtagColumn>(db, table, &row, || db.delete(table, &row))
        }
    }
}

fn uri_of(row: Row<'_, OfPublication>) -> Vec<u8> {
    uri::join(row.bytes(OfPublication::User), row.bytes(OfPublication::Domain))
}

/// A row that has expired.
pub(crate) struct EndedRow {
    /// The row's resource; `None` for a package that is not loaded.
    pub resource: Option<Resource>,
    /// The event package as the row has it.
    pub event: Vec<u8>,
    /// The row's entity tag.
    pub etag: EntityTag,
    /// The row's record id.
    pub ruid: Vec<u8>,
}

/// Whether a row holds this publication: where entity tags are kept, one that another server has made anew has the same
/// tag.
fn is_record_of(row: &Publication, written: &Publication) -> bool {
    row.etag == written.etag && (written.ruid.is_empty() || row.ruid == written.ruid)
}

/// The rows of publications.
#[derive(Clone, Copy)]
pub(crate) struct PresentityRows {
    parts: Parts,
}

impl Deref for PresentityRows {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl PresentityRows {
    /// The table that the settings name.
    pub(crate) fn new(parts: Parts) -> PresentityRows {
        PresentityRows { parts }
    }

    /// The documents of a resource as the table has them, in the order they are put together.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub(crate) fn read(&self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        let package = self.packages().get(resource.event);
        let (config, is_dialog) = (self.config, package.is_dialog());
        let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
        let order = if config.order_by_column { config.order_by } else { b"received_time" };
        self.database.read(|db| {
            let of_resource = of_resource(user, domain, package.name);
            let rows = db.select::<PublicationColumn>(config.presentity_table, &of_resource, Some(order))?;
            Ok(rows
                .iter()
                .map(|row| {
                    let body = row.bytes(PublicationColumn::Body).to_vec();
                    let (received_at, stamp) = receipt_of(row.int(PublicationColumn::ReceivedTime), config);
                    Publication {
                        dialogs: if is_dialog { Dialogs::of_document(&body) } else { Dialogs::default() },
                        body,
                        etag: EntityTag::new(row.bytes(PublicationColumn::Etag).to_vec()),
                        expires_at: expiry_of(row.int(PublicationColumn::Expires)),
                        received_at,
                        stamp,
                        sender: row.bytes(PublicationColumn::Sender).to_vec(),
                        priority: row.int(PublicationColumn::Priority) as i32,
                        ruid: row.bytes(PublicationColumn::Ruid).to_vec(),
                    }
                })
                .collect())
        })
    }

    /// Gives the row of a document its end as the wall clock has it now, unless somebody has changed it since the clock
    /// was `before` seconds ahead.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub(crate) fn set_end(
        &self,
        resource: &Resource,
        document: &Publication,
        before: Seconds,
    ) -> Result<(), StoreError> {
        let (config, event) = (self.config, self.packages().get(resource.event).name);
        let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
        let [domain_is, user_is, event_is] = of_resource(user, domain, event);
        let Some(end) = document.expires_at.moment() else { return Ok(()) };
        let (etag_is, was) = (("etag", Op::Eq, Value::Text(document.etag.bytes())), (end + before).seconds());
        let (later, earlier) = (("expires", Op::Gt, Value::Long(was - 3)), ("expires", Op::Lt, Value::Long(was + 3)));
        let end = [("expires", Value::Time(document.expires_at))];
        self.database.write(|db| {
            db.update(config.presentity_table, &end, &[domain_is, user_is, event_is, etag_is, later, earlier])
        })
    }

    /// Writes what a change does to the rows of a resource: all of it or nothing where the database can. A change of
    /// one row is carried out if that is as it was read; of several, those are passed over that are not.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub(crate) fn write(&self, resource: &Resource, rows: &[RowChange]) -> Result<Written, StoreError> {
        let event = self.packages().get(resource.event).name;
        let config = self.config;
        let write = |db: &Connection, row: &RowChange| write_row(db, config, resource, event, row);
        // Where nothing is undone what comes is written before what goes: a dialog may be there twice, but is not lost.
        let (mut inserts, mut others): (Vec<_>, Vec<_>) = (Vec::new(), rows.iter().collect());
        if !self.database.has_transactions() {
            (inserts, others) = others.into_iter().partition(|row| matches!(row, RowChange::Insert(_)));
        }
        let in_order = || inserts.iter().chain(&others);
        let all = |db: &Connection| in_order().try_for_each(|row| write(db, row).map(|_| ()));
        let [row] = rows else {
            let done = if rows.is_empty() { Ok(()) } else { self.database.write_together(all) };
            return done.map(|()| Written::Done);
        };
        let is_there = match row {
            // What certainly has no place is no collision with another transaction: it is tried once.
            RowChange::Insert(new) if self.database.limits_texts() && !fits(resource, new) => {
                self.database.write_once(|db| write(db, row))?
            }
            _ => self.database.write(|db| write(db, row))?,
        };
        if is_there {
            return Ok(Written::Done);
        }
        // A driver that loses its connection carries a statement out again, and MariaDB does not count rows that have
        // their values already; other nodes of a cluster may have carried the same change out.
        let rows = self.read(resource)?;
        let is_overtaken = match row {
            RowChange::Insert(_) => false,
            RowChange::Update { after, .. } => !rows.iter().any(|row| is_record_of(row, after)),
            RowChange::Delete { ruid, .. } => !ruid.is_empty() && rows.iter().any(|row| row.ruid == *ruid),
        };
        Ok(if is_overtaken { Written::Overtaken } else { Written::Done })
    }

    /// The resources that have rows, in the order of their keys; each once.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub(crate) fn resources(&self, wanted: ResourceFilter<'_>) -> Result<Vec<Resource>, StoreError> {
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        self.each_row(&mut |resource| {
            if wanted(&resource.uri, resource.event) && seen.insert((resource.uri.clone(), resource.event)) {
                found.push(resource);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The resources that have rows, in the order of their names.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub(crate) fn sorted_resources(&self) -> Result<Vec<Resource>, StoreError> {
        let mut found = self.resources(&|_, _| true)?;
        found.sort_by(|a, b| (&a.uri, a.event.0).cmp(&(&b.uri, b.event.0)));
        Ok(found)
    }

    /// Calls `take` with the resource of each row of a package that is loaded; returns how many rows there are.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read, or `take` fails.
    pub(crate) fn each_row(&self, take: &mut dyn FnMut(Resource) -> Result<(), DbError>) -> Result<usize, StoreError> {
        let (rule, config, packages) = (self.shared.tables.rule(), self.config, self.packages());
        paging::each_page(self.database, config.presentity_table, config.fetch_rows, |db, page| {
            let rows = db.select_with_keys::<OfResource>(config.presentity_table, &page.conditions, page.order)?;
            for row in rows.iter() {
                let Some(event) = packages.named(row.bytes(OfResource::Event)) else { continue };
                let uri = uri::join(row.bytes(OfResource::User), row.bytes(OfResource::Domain));
                take(rule.resource(&uri, event))?;
            }
            Ok(BatchEnd::of_rows(&rows))
        })
    }

    /// Rows that have expired, beginning after the key `after`: one batch, and the key it ends at.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    pub(crate) fn ended_rows(
        &self,
        now: Moment,
        limit: usize,
        after: Option<i64>,
    ) -> Result<EndedPage<EndedRow>, StoreError> {
        let (rule, table, packages) = (self.shared.tables.rule(), self.config.presentity_table, self.packages());
        let over = [("expires", Op::Lt, Value::Time(now.into())), ("expires", Op::Gt, Value::Int(0))];
        let read = |db: &Connection, page: &Page<'_>| {
            let rows = db.select_with_keys::<OfPublication>(table, &page.conditions, page.order)?;
            let ended = |row: Row<'_, OfPublication>| EndedRow {
                resource: packages
                    .named(row.bytes(OfPublication::Event))
                    .map(|event| rule.resource(&uri_of(row), event)),
                event: row.bytes(OfPublication::Event).to_vec(),
                etag: EntityTag::new(row.bytes(OfPublication::Etag).to_vec()),
                ruid: row.bytes(OfPublication::Ruid).to_vec(),
            };
            let found = rows.iter().zip(paging::keys_of(&rows)).map(|(row, key)| (key, ended(row)));
            Ok((found.collect(), BatchEnd::of_rows(&rows)))
        };
        paging::portion_of(self.database, limit, &over, after, read)
    }

    /// Removes the row of a package that is not loaded.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub(crate) fn delete_foreign_row(&self, row: &EndedRow) -> Result<(), StoreError> {
        let table = self.config.presentity_table;
        let which = [("event", Op::Eq, Value::Text(&row.event)), ("etag", Op::Eq, Value::Text(row.etag.bytes()))];
        self.database.write(|db| db.delete(table, &which))
    }
}
