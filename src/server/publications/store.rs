//! Publications in their stores: shared memory, the `presentity` table, or both.
use crate::common::paging::Seen;
use crate::host::db::{Connection, DbError};
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::limited;
use crate::presence::config::{PublicationMode, SubscriptionMode};
use crate::presence::error::StoreError;
use crate::presence::order::Order;
use crate::presence::publication::{Applied, Change, Keeps, Plan, Publication, Stored};
use crate::presence::resource::Resource;
use crate::server::context::Context;
use crate::server::publications::presentity_table::{EndedRow, RowChange, fits, read_rows, write_row};
use crate::server::tables::publication_entry::{PublicationRowState, SharedPublication};
use crate::server::tables::resource_entry::{CachedBody, Documents, ResourceEntry};
use crate::sip::uri;

/// Columns of `presentity` that name a row's resource, and its key.
const RESOURCE_AND_KEY: [&str; 4] = ["username", "domain", "event", "id"];

/// Documents that go on without some of their dialogs, as they are from then on. Those that another process has changed
/// meanwhile have another entity tag, and stay as they are.
struct Trims(Vec<Publication>);

impl Trims {
    fn of<D: Stored>(&self, document: &D) -> Option<&Publication> {
        self.0.iter().find(|trim| trim.etag == document.etag())
    }

    /// What a change trims, of documents that can be read at leisure.
    fn prepare(documents: impl Iterator<Item = Publication>, change: &Change) -> Trims {
        let dialogs = match change {
            Change::Insert(new) => new.dialogs.view(),
            Change::End(dialogs) => dialogs.view(),
            _ => return Trims(Vec::new()),
        };
        Trims(documents.filter_map(|document| document.without(&dialogs)).collect())
    }
}

fn update(before: &[u8], after: Publication, with_body: bool) -> RowChange {
    RowChange::Update { before: before.to_vec(), after, with_body }
}

impl Context {
    fn is_dialog(&self, resource: &Resource) -> bool {
        self.packages.get(resource.event).is_dialog()
    }

    fn event_name(&self, resource: &Resource) -> &'static [u8] {
        self.packages.get(resource.event).name
    }

    /// See [`crate::presence::ports::Ports::publish`].
    pub(crate) fn change_publication(&mut self, resource: &Resource, change: &Change) -> Result<Applied, StoreError> {
        match self.config.publications {
            PublicationMode::Memory => self.change_in_memory(resource, change).map(|(applied, _)| applied),
            PublicationMode::Cached => {
                let _order = self.lock_for_write(resource);
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
                let _order = self.lock_for_write(resource);
                self.change_in_table(resource, change)
            }
        }
    }

    fn write_rows(&mut self, resource: &Resource, rows: &[RowChange]) -> Result<(), StoreError> {
        let event = self.event_name(resource);
        let config = self.config;
        let all = |db: &Connection| rows.iter().try_for_each(|row| write_row(db, config, resource, event, row));
        match rows {
            [] => Ok(()),
            // What certainly has no place is no collision with another transaction: it is tried once.
            [RowChange::Insert(new)] if self.database.limits_texts() && !fits(resource, new) => {
                self.database.write_once(all)
            }
            [_] => self.database.write(all),
            _ => self.database.write_together(all),
        }
    }

    fn change_in_table(&mut self, resource: &Resource, change: &Change) -> Result<Applied, StoreError> {
        let is_dialog = self.is_dialog(resource);
        let mut documents = read_rows(self.database, self.config, resource, self.event_name(resource), is_dialog)?;
        let (applied, rows) = match (Plan::of(&documents, change), change) {
            (Plan::Insert { replaced, trimmed, keeps }, Change::Insert(_) | Change::End(_)) => {
                let trims = Trims::prepare(trimmed.iter().map(|at| documents[*at].clone()), change);
                replaced.iter().for_each(|at| self.record_removal(resource, &documents[*at]));
                let mut rows: Vec<_> =
                    replaced.iter().map(|at| RowChange::Delete(documents[*at].etag.clone())).collect();
                rows.extend(trims.0.into_iter().map(|trim| update(&trim.etag.clone(), trim, true)));
                let Change::Insert(new) = change else {
                    self.write_rows(resource, &rows)?;
                    self.note_table_changed(resource);
                    return Ok(Applied::Ended);
                };
                rows.push(RowChange::Insert(match keeps {
                    Some(at) => new.keeping(documents.swap_remove(at)),
                    None => new.clone(),
                }));
                (Applied::Inserted, rows)
            }
            (Plan::Modify { keeps: Keeps::Everything, .. }, _) => return Ok(Applied::Modified { changed: false }),
            (Plan::Modify { at, keeps }, Change::Modify(modification)) => {
                let with_body = documents[at].modify(modification, keeps);
                let row = update(&modification.etag, documents.swap_remove(at), with_body);
                (Applied::Modified { changed: keeps == Keeps::Nothing }, vec![row])
            }
            (Plan::Remove { at }, Change::Remove(etag)) => {
                self.record_removal(resource, &documents[at]);
                (Applied::Removed(documents.swap_remove(at), at), vec![RowChange::Delete(etag.clone())])
            }
            _ => return Ok(Applied::NoMatch),
        };
        self.write_rows(resource, &rows)?;
        self.note_table_changed(resource);
        Ok(applied)
    }

    fn note_table_changed(&self, resource: &Resource) {
        let mut shard = self.shared.tables.shard(resource.hash);
        if let Some(entry) = shard.entry(self.shared.tables.rule(), resource) {
            entry.documents_changed();
        }
    }

    /// The documents in memory that a change trims. They are read, and written anew, outside of the lock.
    fn prepare_trims(&self, resource: &Resource, change: &Change) -> Trims {
        let speaks = match change {
            Change::Insert(new) => !new.dialogs.marks.is_empty(),
            Change::End(_) => true,
            _ => false,
        };
        if !speaks {
            return Trims(Vec::new());
        }
        let mut shard = self.shared.tables.shard(resource.hash);
        let affected: Vec<_> = match shard.entry(self.shared.tables.rule(), resource).map(|entry| &entry.documents) {
            // Most documents have one dialog, and go as a whole.
            Some(Documents::Known(list)) if list.iter().any(|document| document.marks.len() > 1) => {
                match Plan::of(list, change) {
                    Plan::Insert { trimmed, .. } => trimmed.iter().map(|at| list[*at].to_private()).collect(),
                    _ => Vec::new(),
                }
            }
            _ => return Trims(Vec::new()),
        };
        drop(shard);
        Trims::prepare(affected.into_iter(), change)
    }

    /// Changes the documents in memory; returns what has to be done to the table at once.
    fn change_in_memory(
        &mut self,
        resource: &Resource,
        change: &Change,
    ) -> Result<(Applied, Vec<RowChange>), StoreError> {
        let rule = self.shared.tables.rule();
        let (cached, later) = (self.config.publications == PublicationMode::Cached, self.writes_publications_later());
        // What is written later is found by its record id: rows that were made without one are changed at once.
        let waits = |ruid: &[u8]| later && !ruid.is_empty();
        let wants_row = |ruid: &[u8]| cached && !waits(ruid);
        // Whatever needs memory for certain is made before the lock is taken.
        let inserted = match change {
            Change::Insert(new) => Some(SharedPublication::new(new)?),
            _ => None,
        };
        let trims = self.prepare_trims(resource, change);
        // Documents that others have taken the place of, and those that nothing has.
        let (mut garbage, mut left) = (Vec::new(), Vec::new());
        let mut shard = self.shared.tables.shard(resource.hash);
        if inserted.is_none() && shard.entry(rule, resource).is_none() {
            return Ok((Applied::NoMatch, Vec::new()));
        }
        let entry = shard.entry_or_new(rule, resource, Documents::Known(ShmVec::new_in(Shm)))?;
        let watched = self.config.subscriptions == SubscriptionMode::Database || !entry.subscriptions.is_empty();
        let Documents::Known(list) = &mut entry.documents else { return Ok((Applied::NoMatch, Vec::new())) };
        let mut rows = Vec::new();
        let applied = match (Plan::of(list, change), change) {
            (Plan::Insert { replaced, trimmed, keeps }, Change::Insert(_) | Change::End(_)) => {
                if list.len() == list.capacity() && inserted.is_some() {
                    // Most presentities have one document.
                    list.try_reserve_exact(list.len().max(1)).map_err(|_| NoMemory)?;
                }
                if later {
                    entry.removed.try_reserve(replaced.len())?;
                }
                let cached = match (change, keeps) {
                    (Change::Insert(new), Some(at)) => Some(new.keeping(list[at].to_private())),
                    _ => None,
                };
                let inserted = match &cached {
                    Some(cached) => Some(SharedPublication::new(cached)?),
                    None => inserted,
                };
                let mut shorter = Vec::new();
                for at in trimmed {
                    let Some(trim) = trims.of(&list[at]) else { continue };
                    let mut fresh = SharedPublication::new(trim)?;
                    if waits(&trim.ruid) {
                        fresh.row_state = list[at].row_state.changed();
                    }
                    shorter.push((at, fresh));
                    if wants_row(&trim.ruid) {
                        rows.push(update(&trim.etag, trim.clone(), true));
                    }
                }
                // Nothing fails from here on.
                garbage.extend(shorter.into_iter().map(|(at, fresh)| std::mem::replace(&mut list[at], fresh)));
                left.extend(replaced.into_iter().rev().map(|at| list.remove(at)));
                let replaced = left.iter().filter(|old| wants_row(old.ruid()));
                rows.extend(replaced.map(|old| RowChange::Delete(old.etag().to_vec())));
                match change {
                    Change::Insert(new) => {
                        list.extend(inserted.map(|mut document| {
                            document.row_state =
                                if waits(&new.ruid) { PublicationRowState::Row } else { PublicationRowState::Nothing };
                            document
                        }));
                        if wants_row(&new.ruid) {
                            rows.push(RowChange::Insert(cached.unwrap_or_else(|| new.clone())));
                        }
                        Applied::Inserted
                    }
                    _ => Applied::Ended,
                }
            }
            (Plan::Modify { keeps: Keeps::Everything, .. }, _) => {
                return Ok((Applied::Modified { changed: false }, Vec::new()));
            }
            (Plan::Modify { at, keeps }, Change::Modify(modification)) => {
                // The old body is not copied where a new one takes its place.
                let body = modification.body.as_ref().filter(|_| keeps == Keeps::Nothing);
                let mut document = if body.is_some() { list[at].without_body() } else { list[at].to_private() };
                document.renew(modification, keeps);
                let mut fresh = match body {
                    Some(body) => SharedPublication::with_body(&document, body, &modification.dialogs)?,
                    None => SharedPublication::new(&document)?,
                };
                if waits(&document.ruid) {
                    fresh.row_state = list[at].row_state.changed();
                }
                if cached {
                    garbage.push(std::mem::replace(&mut list[at], fresh));
                } else {
                    // In memory the order is that of the last change.
                    garbage.push(list.remove(at));
                    list.push(fresh);
                }
                if wants_row(&document.ruid) {
                    document.body.extend_from_slice(body.map(Vec::as_slice).unwrap_or_default());
                    rows.push(update(&modification.etag, document, body.is_some()));
                }
                Applied::Modified { changed: keeps == Keeps::Nothing }
            }
            (Plan::Remove { at }, Change::Remove(etag)) => {
                if later {
                    entry.removed.try_reserve(1)?;
                }
                let old = list.remove(at);
                // Its body is shown once more, if anybody watches.
                let removed = if watched { old.to_private() } else { old.without_body() };
                left.push(old);
                if wants_row(&removed.ruid) {
                    rows.push(RowChange::Delete(etag.clone()));
                }
                Applied::Removed(removed, at)
            }
            _ => return Ok((Applied::NoMatch, Vec::new())),
        };
        let buried: Vec<_> = match self.config.replicates {
            true => left.iter().map(SharedPublication::without_body).collect(),
            false => Vec::new(),
        };
        for old in left {
            if waits(old.ruid()) && old.row_state != PublicationRowState::Row {
                // There is room for it.
                let _ = entry.removed.push(old);
            } else {
                garbage.push(old);
            }
        }
        entry.documents_changed();
        drop(shard);
        buried.iter().for_each(|removed| self.record_removal(resource, removed));
        drop(garbage);
        Ok((applied, rows))
    }

    /// Remembers a removed publication: another node may not have heard of it and tell it again.
    fn record_removal(&self, resource: &Resource, removed: &Publication) {
        if self.config.replicates {
            self.shared.tombstones.record_publication_removal(resource, removed, crate::host::clock::now());
        }
    }

    /// See [`crate::presence::ports::Ports::documents`].
    pub(crate) fn live_documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        let now = crate::host::clock::now();
        // By columns that memory does not know.
        let asks_table = Order::of(self.config).is_none() && self.config.publications == PublicationMode::Cached;
        let mut documents = match self.config.publications {
            PublicationMode::Cached if asks_table => {
                self.write_publications_of(resource)?;
                let is_dialog = self.is_dialog(resource);
                read_rows(self.database, self.config, resource, self.event_name(resource), is_dialog)?
            }
            PublicationMode::Database => {
                let is_dialog = self.is_dialog(resource);
                read_rows(self.database, self.config, resource, self.event_name(resource), is_dialog)?
            }
            PublicationMode::Cached => match self.known_documents(resource) {
                Some(known) => known,
                None => {
                    let _order = self.lock_for_write(resource);
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
        let mut documents: Vec<_> = match shard.entry(self.shared.tables.rule(), resource).map(|entry| &entry.documents)
        {
            Some(Documents::Known(list)) => list.iter().map(SharedPublication::to_private).collect(),
            Some(Documents::Unknown) => return None,
            None => Vec::new(),
        };
        drop(shard);
        if let Some(order) = Order::of(self.config) {
            if self.config.publications == PublicationMode::Memory {
                // Of documents with equal priority the newest comes first, as stock has them.
                documents.reverse();
            }
            order.sort(&mut documents);
        }
        Some(documents)
    }

    /// Reads a resource's documents from the table if the cache does not know them. The caller holds the order of the
    /// resource, so that neither a change nor a [`Context::forget_table`] comes in between.
    fn load_documents(&mut self, resource: &Resource) -> Result<(), StoreError> {
        let rule = self.shared.tables.rule();
        {
            let mut shard = self.shared.tables.shard(resource.hash);
            match shard.entry(rule, resource).map(|entry| &entry.documents) {
                Some(Documents::Unknown) => {}
                _ => return Ok(()),
            }
        }
        let is_dialog = self.is_dialog(resource);
        let read = read_rows(self.database, self.config, resource, self.event_name(resource), is_dialog)?;
        let mut list = ShmVec::new_in(Shm);
        list.try_reserve_exact(read.len()).map_err(|_| NoMemory)?;
        for publication in &read {
            list.push(SharedPublication::new(publication)?);
        }
        let mut shard = self.shared.tables.shard(resource.hash);
        if let Some(entry) = shard.entry(rule, resource) {
            if matches!(entry.documents, Documents::Unknown) {
                entry.documents = Documents::Known(list);
                entry.cached = CachedBody::default();
            }
        }
        Ok(())
    }

    /// See [`crate::presence::ports::Ports::forget`]: not while a change is in memory and not yet in the table.
    pub(crate) fn forget_table(&mut self, resource: &Resource) {
        let _order = (self.config.publications == PublicationMode::Cached).then(|| self.lock_for_write(resource));
        let is_known = self.shared.tables.shard(resource.hash).entry(self.shared.tables.rule(), resource).is_some();
        if self.settle_publications(resource) {
            self.forget_documents(resource);
            if self.config.publications == PublicationMode::Cached && !self.shared.tables.is_watched(resource) {
                self.read_unwatched(resource, is_known);
            }
        }
    }

    /// Reads the documents of a resource that nobody watches at once: what has none leaves no record behind, however
    /// many names a command is given. Where the table cannot be read now, a resource that was not known is as unknown
    /// as before.
    fn read_unwatched(&mut self, resource: &Resource, is_known: bool) {
        let rule = self.shared.tables.rule();
        let read = self.load_documents(resource);
        let mut shard = self.shared.tables.shard(resource.hash);
        if read.is_err() {
            limited!(Warn, "the publications of {} cannot be read again now", crate::host::log::show(&resource.uri));
            if let Some(entry) = shard.entry(rule, resource).filter(|_| !is_known) {
                entry.documents = Documents::Known(ShmVec::new_in(Shm));
            }
        }
        shard.drop_idle_entry(rule, resource);
    }

    /// Forgets what memory knows of the documents. The caller holds the order of the resource.
    fn forget_documents(&mut self, resource: &Resource) {
        let rule = self.shared.tables.rule();
        let cached = self.config.publications == PublicationMode::Cached;
        let mut shard = self.shared.tables.shard(resource.hash);
        let mut garbage = None;
        let entry = if cached {
            shard.entry_or_new(rule, resource, Documents::Unknown).ok()
        } else {
            shard.entry(rule, resource)
        };
        if let Some(entry) = entry {
            if cached {
                garbage = Some(std::mem::replace(&mut entry.documents, Documents::Unknown));
            }
            entry.documents_changed();
        }
        drop(shard);
        drop(garbage);
    }

    /// See [`crate::presence::ports::Ports::composed`].
    pub(crate) fn cached_body(&mut self, resource: &Resource) -> Option<Option<Vec<u8>>> {
        let now = crate::host::clock::now();
        let mut shard = self.shared.tables.shard(resource.hash);
        let entry = shard.entry(self.shared.tables.rule(), resource)?;
        entry.cached_body(now).map(|body| body.map(<[u8]>::to_vec))
    }

    /// See [`crate::presence::ports::Ports::cache_composed`].
    pub(crate) fn cache_body(&mut self, resource: &Resource, documents: u32, body: Option<&[u8]>, valid_until: i64) {
        let tables = &self.shared.tables;
        if self.config.publications == PublicationMode::Database {
            return;
        }
        let mut fresh = CachedBody::document(valid_until);
        // Most bodies are the only document as it was published, and need no memory of their own.
        let mut shard = tables.shard(resource.hash);
        let is_document =
            body.is_some() && shard.entry(tables.rule(), resource).is_some_and(|entry| entry.only_document() == body);
        if !is_document {
            drop(shard);
            let Ok(own) = CachedBody::new(body, valid_until) else { return };
            fresh = own;
            shard = tables.shard(resource.hash);
        }
        let old = match shard.entry(tables.rule(), resource) {
            Some(entry) if entry.documents_version == documents => std::mem::replace(&mut entry.cached, fresh),
            _ => fresh,
        };
        drop(shard);
        drop(old);
    }

    /// See [`crate::presence::ports::Ports::take_ended_publications`].
    pub(crate) fn take_ended(&mut self, now: i64, limit: usize) -> Result<Vec<Resource>, StoreError> {
        if self.config.publications == PublicationMode::Memory {
            return Ok(self.take_ended_in_memory(now, limit));
        }
        self.write_what_can_be_written();
        let (mut ended, mut after) = (Vec::new(), None);
        loop {
            let (rows, next) = match self.ended_rows(now, limit, after) {
                Err(error) if !ended.is_empty() => {
                    limited!(Error, "cannot read which publications ran out: {error}");
                    return Ok(ended);
                }
                batch => batch?,
            };
            for row in &rows {
                match self.take_ended_row(row, now) {
                    Ok(resource) => ended.extend(resource),
                    // The watchers of what has ended are notified, whatever becomes of the others.
                    Err(StoreError::Database) if ended.is_empty() => return Err(StoreError::Database),
                    Err(error) => {
                        limited!(Error, "a publication has run out and cannot be removed now: {error}");
                        if error == StoreError::Database {
                            return Ok(ended);
                        }
                    }
                }
            }
            after = next;
            if after.is_none() || ended.len() >= limit {
                return Ok(ended);
            }
        }
    }

    /// Removes a publication whose row says that it ran out; its resource comes back where that is so.
    fn take_ended_row(&mut self, row: &EndedRow, now: i64) -> Result<Option<Resource>, StoreError> {
        let Some(resource) = &row.resource else { return self.delete_foreign_row(row).map(|()| None) };
        let _order = self.lock_for_write(resource);
        // It may have been refreshed since it was read.
        let documents = self.stored_documents(resource)?;
        if !documents.iter().any(|p| p.etag == row.etag && p.expires_at > 0 && p.expires_at < now) {
            return Ok(None);
        }
        if self.config.publications == PublicationMode::Cached {
            self.load_documents(resource)?;
            self.change_in_memory(resource, &Change::Remove(row.etag.clone()))?;
        }
        self.write_rows(resource, &[RowChange::Delete(row.etag.clone())])?;
        if let Some(entry) = self.shared.tables.shard(resource.hash).entry(self.shared.tables.rule(), resource) {
            entry.documents_changed();
        }
        Ok(Some(resource.clone()))
    }

    /// The documents as they are stored, whether they are over or not. The caller holds the order of the resource.
    fn stored_documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        if self.writes_publications_later() {
            self.load_documents(resource)?;
            return Ok(self.known_documents(resource).unwrap_or_default());
        }
        read_rows(self.database, self.config, resource, self.event_name(resource), self.is_dialog(resource))
    }

    fn take_ended_in_memory(&mut self, now: i64, limit: usize) -> Vec<Resource> {
        let mut ended = Vec::new();
        for index in 0..self.shared.tables.shard_count() {
            let mut garbage = Vec::new();
            let mut shard = self.shared.tables.nth_shard(index);
            for entry in shard.entries_mut() {
                let resource = entry.resource();
                let Documents::Known(list) = &mut entry.documents else { continue };
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
                    entry.documents_changed();
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
            self.shared.tables.shard(resource.hash).drop_idle_entry(rule, resource);
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
                    |entry: &&ResourceEntry| matches!(&entry.documents, Documents::Known(list) if !list.is_empty());
                resources.extend(shard.entries().filter(with_documents).map(ResourceEntry::resource));
            }
        } else {
            self.write_what_can_be_written();
            let (rule, config, packages) = (self.shared.tables.rule(), self.config, self.packages);
            crate::common::paging::each_page(self.database, config.presentity_table, config.fetch_rows, |db, page| {
                let rows = db.select(config.presentity_table, &RESOURCE_AND_KEY, &page.conditions, page.order)?;
                resources.extend(rows.iter().filter_map(|row| {
                    let event = packages.named(row.bytes(2))?;
                    Some(rule.resource(&uri::join(row.bytes(0), row.bytes(1)), event))
                }));
                Ok(Seen::of(&rows, 3))
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

    /// Notes which resources have rows, so that a resource without a resource entry is known to have none.
    pub(crate) fn restore_publications(&mut self) -> Result<usize, StoreError> {
        if self.config.publications != PublicationMode::Cached {
            return Ok(0);
        }
        let (rule, config, packages) = (self.shared.tables.rule(), self.config, self.packages);
        let tables = &self.shared.tables;
        crate::common::paging::each_page(self.database, config.presentity_table, config.fetch_rows, |db, page| {
            let rows = db.select(config.presentity_table, &RESOURCE_AND_KEY, &page.conditions, page.order)?;
            for row in rows.iter() {
                let Some(event) = packages.named(row.bytes(2)) else { continue };
                let resource = rule.resource(&uri::join(row.bytes(0), row.bytes(1)), event);
                let mut shard = tables.shard(resource.hash);
                shard.entry_or_new(rule, &resource, Documents::Unknown).map_err(|_| DbError::Away)?;
            }
            Ok(Seen::of(&rows, 3))
        })
    }
}
