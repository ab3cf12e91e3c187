//! Publications in their stores: shared memory, the `presentity` table, or both.
use super::database::Database;
use super::shared_publication::SharedPublication;
use super::tables::{Documents, Kept, Lane};
use super::world::World;
use crate::host::db::{Cell, Cond, Connection, DbError, Op, Value};
use crate::host::shm::{self, NoMemory, Shm, ShmVec};
use crate::presence::config::{Config, PublicationMode};
use crate::presence::error::StoreError;
use crate::presence::publication::{self, Applied, Change, Dialogs, Plan, Publication};
use crate::presence::resource::Resource;
use crate::sip::uri;

/// The table's version in Kamailio's `version` table.
pub const VERSION: u32 = 5;

const COLUMNS: [&str; 7] = ["body", "etag", "expires", "received_time", "sender", "priority", "ruid"];

impl From<NoMemory> for StoreError {
    fn from(_: NoMemory) -> Self {
        StoreError::NoMemory
    }
}

/// One row operation that follows from a change.
enum RowChange<'a> {
    Insert(&'a Publication),
    Update { before: &'a [u8], after: &'a Publication, with_body: bool },
    Delete(&'a [u8]),
}

/// The columns that name a resource's rows.
fn of_resource<'a>(user: &'a [u8], domain: &'a [u8], event: &'a [u8]) -> [Cond<'a>; 3] {
    [
        ("domain", Op::Eq, Value::Text(domain)),
        ("username", Op::Eq, Value::Text(user)),
        ("event", Op::Eq, Value::Text(event)),
    ]
}

fn write_row(
    db: &Connection,
    config: &Config,
    resource: &Resource,
    event: &[u8],
    change: &RowChange<'_>,
) -> Result<(), DbError> {
    let table = config.presentity_table;
    let (user, domain) = uri::split(&resource.uri);
    let [domain_is, user_is, event_is] = of_resource(user, domain, event);
    let etag_is = |etag| ("etag", Op::Eq, Value::Text(etag));
    match change {
        RowChange::Insert(p) => db.insert(
            table,
            &[
                ("domain", Value::Text(domain)),
                ("username", Value::Text(user)),
                ("event", Value::Text(event)),
                ("etag", Value::Text(&p.etag)),
                ("sender", Value::Text(&p.sender)),
                ("body", Value::Blob(&p.body)),
                ("received_time", Value::Int(p.received_at)),
                ("priority", Value::Int(p.priority.into())),
                ("expires", Value::Int(p.expires_at)),
                ("ruid", Value::Text(&p.ruid)),
            ],
        ),
        RowChange::Update { before, after, with_body } => {
            let mut cells: Vec<Cell<'_>> = vec![
                ("etag", Value::Text(&after.etag)),
                ("expires", Value::Int(after.expires_at)),
                ("received_time", Value::Int(after.received_at)),
                ("priority", Value::Int(after.priority.into())),
            ];
            if !after.sender.is_empty() {
                cells.push(("sender", Value::Text(&after.sender)));
            }
            if *with_body {
                cells.push(("body", Value::Blob(&after.body)));
            }
            if after.ruid.is_empty() {
                return db.update(table, &cells, &[domain_is, user_is, event_is, etag_is(before)]);
            }
            // The record id is unique by itself: a shorter statement, and one index to look at.
            db.update(table, &cells, &[("ruid", Op::Eq, Value::Text(&after.ruid)), etag_is(before)])
        }
        RowChange::Delete(etag) => db.delete(table, &[domain_is, user_is, event_is, etag_is(etag)]),
    }
}

/// The documents of a resource as the table has them, in the order they are put together.
fn read_rows(
    db: &Database,
    config: &Config,
    resource: &Resource,
    event: &[u8],
    is_dialog: bool,
) -> Result<Vec<Publication>, StoreError> {
    let (user, domain) = uri::split(&resource.uri);
    let order = if config.order_by_column { config.order_by } else { b"received_time" };
    db.read(|db| {
        let rows = db.select(config.presentity_table, &COLUMNS, &of_resource(user, domain, event), Some(order))?;
        Ok(rows
            .iter()
            .map(|row| {
                let body = row.bytes(0).to_vec();
                Publication {
                    dialogs: if is_dialog { Dialogs::of(&body) } else { Dialogs::default() },
                    body,
                    etag: row.bytes(1).to_vec(),
                    expires_at: row.int(2),
                    received_at: row.int(3),
                    sender: row.bytes(4).to_vec(),
                    priority: row.int(5) as i32,
                    ruid: row.bytes(6).to_vec(),
                }
            })
            .collect())
    })
}

/// Applies a modification to a document. `true` when its body is another one now.
fn modify(document: &mut Publication, change: &publication::Modification, keep_body: bool) -> bool {
    document.etag.clone_from(&change.new_etag);
    document.expires_at = change.expires_at;
    document.received_at = change.received_at;
    document.priority = change.priority;
    if !change.sender.is_empty() {
        document.sender.clone_from(&change.sender);
    }
    match &change.body {
        Some(body) if !keep_body => {
            document.body.clone_from(body);
            document.dialogs = change.dialogs.clone();
            true
        }
        _ => false,
    }
}

impl World {
    fn is_dialog(&self, resource: &Resource) -> bool {
        self.packages.get(resource.event).is_dialog()
    }

    fn event_name(&self, resource: &Resource) -> &'static [u8] {
        self.packages.get(resource.event).name
    }

    /// See [`crate::presence::ports::Ports::publish`].
    pub(super) fn change_publication(&mut self, resource: &Resource, change: &Change) -> Result<Applied, StoreError> {
        match self.config.publications {
            PublicationMode::Memory => self.change_in_memory(resource, change).map(|(applied, _)| applied),
            PublicationMode::Cached => {
                let _order = self.order_of(resource);
                self.load_documents(resource)?;
                let (applied, rows) = self.change_in_memory(resource, change)?;
                if let Err(error) = self.write_rows(resource, &rows) {
                    // The table is the truth: read it again next time.
                    self.forget_documents(resource);
                    return Err(error);
                }
                Ok(applied)
            }
            PublicationMode::Database => {
                let _order = self.order_of(resource);
                self.change_in_table(resource, change)
            }
        }
    }

    /// Changes of one resource are written one after the other.
    pub(super) fn order_of(&self, resource: &Resource) -> crate::host::sync::SleepGuard {
        self.shared.order[resource.hash as usize % self.shared.order.len()].lock()
    }

    fn write_rows(&mut self, resource: &Resource, rows: &[OwnedRowChange]) -> Result<(), StoreError> {
        let event = self.event_name(resource);
        let config = self.config;
        let all =
            |db: &Connection| rows.iter().try_for_each(|row| write_row(db, config, resource, event, &row.borrow()));
        match rows.len() {
            0 => Ok(()),
            1 => self.database.write(all),
            _ => self.database.write_together(all),
        }
    }

    fn change_in_table(&mut self, resource: &Resource, change: &Change) -> Result<Applied, StoreError> {
        let is_dialog = self.is_dialog(resource);
        let mut documents = read_rows(self.database, self.config, resource, self.event_name(resource), is_dialog)?;
        let (applied, rows) = match (Plan::of(&documents, change), change) {
            (Plan::Insert { replaced }, Change::Insert(new)) => {
                replaced.iter().for_each(|at| self.bury(resource, &documents[*at]));
                let mut rows: Vec<_> =
                    replaced.iter().map(|at| OwnedRowChange::Delete(documents[*at].etag.clone())).collect();
                rows.push(OwnedRowChange::Insert(new.clone()));
                (Applied::Inserted, rows)
            }
            (Plan::Modify { at, keep_body }, Change::Modify(modification)) => {
                let with_body = modify(&mut documents[at], modification, keep_body);
                let after = documents.swap_remove(at);
                let row = OwnedRowChange::Update { before: modification.etag.clone(), after, with_body };
                (Applied::Modified { changed: !keep_body }, vec![row])
            }
            (Plan::Remove { at }, Change::Remove(etag)) => {
                self.bury(resource, &documents[at]);
                (Applied::Removed(documents.swap_remove(at), at), vec![OwnedRowChange::Delete(etag.clone())])
            }
            _ => return Ok(Applied::NoMatch),
        };
        self.write_rows(resource, &rows)?;
        let mut shard = self.shared.tables.shard(resource.hash);
        if let Some(lane) = shard.lane(self.shared.tables.rule(), resource) {
            lane.documents_changed();
        }
        Ok(applied)
    }

    fn change_in_memory(
        &mut self,
        resource: &Resource,
        change: &Change,
    ) -> Result<(Applied, Vec<OwnedRowChange>), StoreError> {
        let rule = self.shared.tables.rule();
        let want_rows = self.config.publications == PublicationMode::Cached;
        // Whatever needs memory for certain is made before the lock is taken.
        let inserted = match change {
            Change::Insert(new) => Some(SharedPublication::new(new)?),
            _ => None,
        };
        let mut garbage = Vec::new();
        let mut shard = self.shared.tables.shard(resource.hash);
        if inserted.is_none() && shard.lane(rule, resource).is_none() {
            return Ok((Applied::NoMatch, Vec::new()));
        }
        let lane = shard.lane_or_new(rule, resource, Documents::Known(ShmVec::new_in(Shm)))?;
        let Documents::Known(list) = &mut lane.documents else { return Ok((Applied::NoMatch, Vec::new())) };
        let done = match (Plan::of(list, change), change) {
            (Plan::Insert { replaced }, Change::Insert(new)) => {
                if list.len() == list.capacity() {
                    list.try_reserve(list.len().max(1)).map_err(|_| NoMemory)?;
                }
                let mut rows = Vec::new();
                for at in replaced.into_iter().rev() {
                    let old = list.remove(at);
                    if want_rows {
                        rows.push(OwnedRowChange::Delete(old.to_private().etag));
                    }
                    garbage.push(old);
                }
                list.extend(inserted);
                if want_rows {
                    rows.push(OwnedRowChange::Insert(new.clone()));
                }
                (Applied::Inserted, rows)
            }
            (Plan::Modify { at, keep_body }, Change::Modify(modification)) => {
                let mut document = list[at].to_private();
                let with_body = modify(&mut document, modification, keep_body);
                let fresh = SharedPublication::new(&document)?;
                if want_rows {
                    garbage.push(std::mem::replace(&mut list[at], fresh));
                } else {
                    // In memory the order is that of the last change.
                    garbage.push(list.remove(at));
                    list.push(fresh);
                }
                let rows = if want_rows {
                    vec![OwnedRowChange::Update { before: modification.etag.clone(), after: document, with_body }]
                } else {
                    Vec::new()
                };
                (Applied::Modified { changed: !keep_body }, rows)
            }
            (Plan::Remove { at }, Change::Remove(etag)) => {
                let old = list.remove(at);
                let gone = old.to_private();
                garbage.push(old);
                let rows = if want_rows { vec![OwnedRowChange::Delete(etag.clone())] } else { Vec::new() };
                (Applied::Removed(gone, at), rows)
            }
            _ => return Ok((Applied::NoMatch, Vec::new())),
        };
        lane.documents_changed();
        drop(shard);
        if !matches!(change, Change::Modify(_)) {
            garbage.iter().for_each(|gone| self.bury(resource, &gone.to_private()));
        }
        drop(garbage);
        Ok(done)
    }

    /// Remembers a removed publication: another node may not have heard of it and tell it again.
    fn bury(&self, resource: &Resource, gone: &Publication) {
        if self.config.replicates {
            self.shared.tombstones.bury_publication(resource, gone, crate::host::clock::now());
        }
    }

    /// See [`crate::presence::ports::Ports::documents`].
    pub(super) fn live_documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        let now = crate::host::clock::now();
        let mut documents = match self.config.publications {
            PublicationMode::Database => {
                let is_dialog = self.is_dialog(resource);
                read_rows(self.database, self.config, resource, self.event_name(resource), is_dialog)?
            }
            PublicationMode::Cached => match self.known_documents(resource) {
                Some(known) => known,
                None => {
                    let _order = self.order_of(resource);
                    self.load_documents(resource)?;
                    self.known_documents(resource).unwrap_or_default()
                }
            },
            PublicationMode::Memory => self.known_documents(resource).unwrap_or_default(),
        };
        documents.retain(|document| document.expires_at < 0 || document.expires_at > now);
        Ok(documents)
    }

    /// The documents in memory; `None` where the table has to be asked.
    fn known_documents(&self, resource: &Resource) -> Option<Vec<Publication>> {
        let mut shard = self.shared.tables.shard(resource.hash);
        let mut documents: Vec<_> = match shard.lane(self.shared.tables.rule(), resource).map(|lane| &lane.documents) {
            Some(Documents::Known(list)) => list.iter().map(SharedPublication::to_private).collect(),
            Some(Documents::Unknown) => return None,
            None => Vec::new(),
        };
        drop(shard);
        if self.config.order_by_column || self.config.publications != PublicationMode::Memory {
            publication::sort(&mut documents, self.config.order_by_column);
        }
        Some(documents)
    }

    /// Reads a resource's documents from the table if the cache does not know them. The caller holds the order of the
    /// resource, so that neither a change nor a [`World::forget_table`] comes in between.
    fn load_documents(&mut self, resource: &Resource) -> Result<(), StoreError> {
        let rule = self.shared.tables.rule();
        {
            let mut shard = self.shared.tables.shard(resource.hash);
            match shard.lane(rule, resource).map(|lane| &lane.documents) {
                Some(Documents::Unknown) => {}
                _ => return Ok(()),
            }
        }
        let is_dialog = self.is_dialog(resource);
        let read = read_rows(self.database, self.config, resource, self.event_name(resource), is_dialog)?;
        let mut list = ShmVec::new_in(Shm);
        for publication in &read {
            shm::push(&mut list, SharedPublication::new(publication)?)?;
        }
        let mut shard = self.shared.tables.shard(resource.hash);
        if let Some(lane) = shard.lane(rule, resource) {
            if matches!(lane.documents, Documents::Unknown) {
                lane.documents = Documents::Known(list);
                lane.kept = None;
            }
        }
        Ok(())
    }

    /// See [`crate::presence::ports::Ports::forget`]: not while a change is in memory and not yet in the table.
    pub(super) fn forget_table(&mut self, resource: &Resource) {
        let _order = (self.config.publications == PublicationMode::Cached).then(|| self.order_of(resource));
        self.forget_documents(resource);
    }

    /// Forgets what memory knows of the documents. The caller holds the order of the resource.
    fn forget_documents(&mut self, resource: &Resource) {
        let rule = self.shared.tables.rule();
        let cached = self.config.publications == PublicationMode::Cached;
        let mut shard = self.shared.tables.shard(resource.hash);
        let mut garbage = None;
        let lane = if cached {
            shard.lane_or_new(rule, resource, Documents::Unknown).ok()
        } else {
            shard.lane(rule, resource)
        };
        if let Some(lane) = lane {
            if cached {
                garbage = Some(std::mem::replace(&mut lane.documents, Documents::Unknown));
            }
            lane.documents_changed();
        }
        drop(shard);
        drop(garbage);
    }

    /// See [`crate::presence::ports::Ports::composed`].
    pub(super) fn kept_body(&mut self, resource: &Resource) -> Option<Option<Vec<u8>>> {
        let now = crate::host::clock::now();
        let mut shard = self.shared.tables.shard(resource.hash);
        let lane = shard.lane(self.shared.tables.rule(), resource)?;
        let kept = lane.kept.as_ref().filter(|kept| kept.valid_until > now)?;
        Some(kept.body.as_ref().map(|body| body.to_vec()))
    }

    /// See [`crate::presence::ports::Ports::keep_composed`].
    pub(super) fn keep_body(&mut self, resource: &Resource, generation: u32, body: Option<&[u8]>, valid_until: i64) {
        if self.config.publications == PublicationMode::Database {
            return;
        }
        let Ok(body) = body.map(shm::copy).transpose() else { return };
        let fresh = Some(Kept { body, valid_until });
        let mut shard = self.shared.tables.shard(resource.hash);
        let old = match shard.lane(self.shared.tables.rule(), resource) {
            Some(lane) if lane.generation == generation => std::mem::replace(&mut lane.kept, fresh),
            _ => fresh,
        };
        drop(shard);
        drop(old);
    }

    /// See [`crate::presence::ports::Ports::take_ended_publications`].
    pub(super) fn take_ended(&mut self, now: i64, limit: usize) -> Result<Vec<Resource>, StoreError> {
        if self.config.publications == PublicationMode::Memory {
            return Ok(self.take_ended_in_memory(now, limit));
        }
        let mut ended = Vec::new();
        for (resource, etag) in self.ended_rows(now, limit)? {
            let _order = self.order_of(&resource);
            // It may have been refreshed since it was read.
            let is_dialog = self.is_dialog(&resource);
            let event = self.event_name(&resource);
            let rows = read_rows(self.database, self.config, &resource, event, is_dialog)?;
            if !rows.iter().any(|p| p.etag == etag && p.expires_at > 0 && p.expires_at < now) {
                continue;
            }
            if self.config.publications == PublicationMode::Cached {
                self.load_documents(&resource)?;
                self.change_in_memory(&resource, &Change::Remove(etag.clone()))?;
            }
            self.write_rows(&resource, &[OwnedRowChange::Delete(etag)])?;
            if let Some(lane) = self.shared.tables.shard(resource.hash).lane(self.shared.tables.rule(), &resource) {
                lane.documents_changed();
            }
            ended.push(resource);
        }
        Ok(ended)
    }

    /// Resource and entity tag of rows whose time is over; rows of packages that are not loaded are removed.
    fn ended_rows(&mut self, now: i64, limit: usize) -> Result<Vec<(Resource, Vec<u8>)>, StoreError> {
        let (rule, config, packages) = (self.shared.tables.rule(), self.config, self.packages);
        let over = [("expires", Op::Lt, Value::Int(now)), ("expires", Op::Gt, Value::Int(0))];
        let (found, unknown) = self.database.read(|db| {
            let columns = ["username", "domain", "event", "etag"];
            let rows = db.select(config.presentity_table, &columns, &over, None)?;
            let (mut found, mut unknown) = (Vec::new(), Vec::new());
            for row in rows.iter().take(limit) {
                let name = uri::join(row.bytes(0), row.bytes(1));
                match packages.named(row.bytes(2)) {
                    Some(event) => found.push((rule.resource(&name, event), row.bytes(3).to_vec())),
                    None => unknown.push((row.bytes(2).to_vec(), row.bytes(3).to_vec())),
                }
            }
            Ok((found, unknown))
        })?;
        for (event, etag) in unknown {
            let table = self.config.presentity_table;
            let row = [("event", Op::Eq, Value::Text(&event)), ("etag", Op::Eq, Value::Text(&etag))];
            self.database.write(|db| db.delete(table, &row))?;
        }
        Ok(found)
    }

    fn take_ended_in_memory(&mut self, now: i64, limit: usize) -> Vec<Resource> {
        let mut ended = Vec::new();
        for index in 0..self.shared.tables.shard_count() {
            let mut garbage = Vec::new();
            let mut shard = self.shared.tables.nth_shard(index);
            for lane in shard.lanes_mut() {
                let resource = lane.resource();
                let Documents::Known(list) = &mut lane.documents else { continue };
                let before = list.len();
                let mut at = 0;
                while at < list.len() {
                    if list[at].expires_at > 0 && list[at].expires_at < now {
                        garbage.push(list.remove(at));
                    } else {
                        at += 1;
                    }
                }
                if list.len() < before {
                    lane.documents_changed();
                    ended.push(resource);
                    if ended.len() >= limit {
                        break;
                    }
                }
            }
            drop(shard);
            drop(garbage);
            if ended.len() >= limit {
                break;
            }
        }
        let rule = self.shared.tables.rule();
        for resource in &ended {
            self.shared.tables.shard(resource.hash).drop_idle_lane(rule, resource);
        }
        ended
    }

    /// Calls `show` with every publication that is alive.
    pub fn each_publication(&mut self, mut show: impl FnMut(&Resource, &Publication)) -> Result<(), StoreError> {
        let now = crate::host::clock::now();
        let mut resources = Vec::new();
        if self.config.publications == PublicationMode::Memory {
            for index in 0..self.shared.tables.shard_count() {
                let shard = self.shared.tables.nth_shard(index);
                let with_documents =
                    |lane: &&Lane| matches!(&lane.documents, Documents::Known(list) if !list.is_empty());
                resources.extend(shard.lanes().filter(with_documents).map(Lane::resource));
            }
        } else {
            let (rule, config, packages) = (self.shared.tables.rule(), self.config, self.packages);
            super::pages::each_page(self.database, config.presentity_table, config.fetch_rows, |db, page| {
                let rows = db.select(config.presentity_table, &["username", "domain", "event"], page, None)?;
                resources.extend(rows.iter().filter_map(|row| {
                    let event = packages.named(row.bytes(2))?;
                    Some(rule.resource(&uri::join(row.bytes(0), row.bytes(1)), event))
                }));
                Ok(rows.len())
            })?;
            resources.sort_by(|a, b| (&a.uri, a.event.0).cmp(&(&b.uri, b.event.0)));
            resources.dedup();
        }
        for resource in &resources {
            for publication in self.live_documents(resource)?.iter().filter(|p| p.expires_at > now) {
                show(resource, publication);
            }
        }
        Ok(())
    }

    /// Notes which resources have rows, so that a resource without a lane is known to have none.
    pub(super) fn restore_publications(&mut self) -> Result<usize, StoreError> {
        if self.config.publications != PublicationMode::Cached {
            return Ok(0);
        }
        let (rule, config, packages) = (self.shared.tables.rule(), self.config, self.packages);
        let tables = &self.shared.tables;
        super::pages::each_page(self.database, config.presentity_table, config.fetch_rows, |db, page| {
            let rows = db.select(config.presentity_table, &["username", "domain", "event"], page, None)?;
            for row in rows.iter() {
                let Some(event) = packages.named(row.bytes(2)) else { continue };
                let resource = rule.resource(&uri::join(row.bytes(0), row.bytes(1)), event);
                let mut shard = tables.shard(resource.hash);
                shard.lane_or_new(rule, &resource, Documents::Unknown).map_err(|_| DbError)?;
            }
            Ok(rows.len())
        })
    }
}

/// A [`RowChange`] that owns what it names.
enum OwnedRowChange {
    Insert(Publication),
    Update { before: Vec<u8>, after: Publication, with_body: bool },
    Delete(Vec<u8>),
}

impl OwnedRowChange {
    fn borrow(&self) -> RowChange<'_> {
        match self {
            OwnedRowChange::Insert(publication) => RowChange::Insert(publication),
            OwnedRowChange::Update { before, after, with_body } => {
                RowChange::Update { before, after, with_body: *with_body }
            }
            OwnedRowChange::Delete(etag) => RowChange::Delete(etag),
        }
    }
}
