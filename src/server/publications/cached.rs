//! Publications in the table with a cache in memory (`publ_cache` 1): read when first needed, changed in memory first,
//! and written before the answer or some time after it (`publ_update_period`).
use crate::common::row_groups::Pass;
use crate::host::db::DbError;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::limited;
use crate::presence::error::StoreError;
use crate::presence::history::remembered::{Digested, KnownBody};
use crate::presence::publication::row_limits::PublicationRows;
use crate::presence::publication::{Applied, Change, Publication};
use crate::presence::resource::Resource;
use crate::server::publications::ended_rows;
use crate::server::publications::memory::{DocumentMemory, Watchers};
use crate::server::publications::presentity_table::{PresentityRows, Written};
use crate::server::publications::store::{PublicationStore, ResourceFilter};
use crate::server::publications::undo::Changed;
use crate::server::publications::write_behind::WriteBehind;
use crate::server::shared::Parts;
use crate::server::tables::publication_entry::SharedPublication;
use crate::server::tables::resource_entry::Documents;
use crate::time::{Expiry, Moment, Seconds};
use std::ops::Deref;

/// How often a resource is read again when another server has changed its rows meanwhile.
const TRIES: usize = 20;

/// Whether memory knew a resource before its documents were forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Remembered {
    Before,
    Never,
}

/// The table, and what memory knows of it.
pub(crate) struct Cached {
    parts: Parts,
    memory: DocumentMemory,
    rows: PresentityRows,
    /// Where rows are written after the answer.
    behind: Option<WriteBehind>,
}

impl Deref for Cached {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl PublicationStore for Cached {
    fn change(&self, resource: &Resource, change: &Change) -> Result<Applied, StoreError> {
        let _order = self.lock_for_write(resource);
        for _ in 0..TRIES {
            self.load(resource)?;
            let Changed { applied, rows, undo, removals } = self.memory.change(resource, change)?;
            let error = match self.rows.write(resource, &rows) {
                // What is written later is known to memory alone.
                Ok(written) if written == Written::Done || self.behind.is_some() => {
                    if self.behind.is_some() {
                        self.shared.unwritten_publications.note();
                    }
                    return Ok(applied);
                }
                // Another server has changed the row that memory knows: the table is the truth.
                Ok(_) => {
                    self.memory.forget_removals(resource, &removals);
                    self.forget_documents(resource);
                    continue;
                }
                Err(error) => error,
            };
            // What is written later is known to memory alone, and a row that is refused is as it was. Otherwise the
            // table is the truth: it is read again next time. What it lacks is never forgotten: the change stands then.
            let is_whole = rows.len() == 1 || self.database.has_transactions();
            let is_as_before = self.behind.is_some() || (error == StoreError::Refused && is_whole);
            let is_undone = is_as_before && self.memory.undo(resource, undo);
            let stands = !is_undone && self.behind.as_ref().is_some_and(|behind| behind.has_unwritten(resource));
            if !stands {
                self.memory.forget_removals(resource, &removals);
            }
            if !is_undone && !stands {
                self.forget_documents(resource);
            }
            return Err(error);
        }
        Err(StoreError::Busy)
    }

    fn documents(&self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        if self.memory.order.is_none() {
            // By columns that memory does not know.
            self.behind.as_ref().map_or(Ok(()), |behind| behind.write_of(resource))?;
            return Ok(self.memory.live(resource, self.rows.read(resource)?));
        }
        if let Some(known) = self.memory.known(resource) {
            return Ok(self.memory.live(resource, known));
        }
        let _order = self.lock_for_write(resource);
        self.load(resource)?;
        Ok(self.memory.live(resource, self.memory.known(resource).unwrap_or_default()))
    }

    fn read_unknown(&self, resource: &Resource) -> Result<(), StoreError> {
        let tables = &self.shared.tables;
        let is_unknown = matches!(
            tables.shard(resource.hash).entry(tables.rule(), resource).map(|entry| &entry.documents),
            Some(Documents::Unknown)
        );
        if is_unknown {
            let _order = self.lock_for_write(resource);
            self.load(resource)?;
        }
        Ok(())
    }

    fn composed(&self, resource: &Resource) -> KnownBody<Digested> {
        self.memory.composed(resource)
    }

    fn cache_composed(&self, resource: &Resource, documents: u32, body: Option<&Digested>, valid_until: Expiry) {
        self.memory.cache_composed(resource, documents, body, valid_until);
    }

    /// Forgets a resource, unless a change of it is in memory and not yet in the table.
    fn forget(&self, resource: &Resource) {
        let _order = self.lock_for_write(resource);
        let tables = &self.shared.tables;
        let known = match tables.shard(resource.hash).entry(tables.rule(), resource) {
            Some(_) => Remembered::Before,
            None => Remembered::Never,
        };
        if self.behind.as_ref().is_none_or(|behind| behind.settle(resource)) {
            self.forget_documents(resource);
            if !tables.is_watched(resource) {
                self.read_unwatched(resource, known);
            }
        }
    }

    fn take_ended(&self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError> {
        self.write_what_can_be_written();
        // A database that is away or locked is waited for once: what is written later is known to memory, and ends
        // there; its row goes with the others.
        let mut is_away = false;
        ended_rows::take(&self.rows, now, limit, &mut |resource, row| {
            let _order = self.lock_for_write(resource);
            if !row.is_over(&self.stored(resource)?, now) {
                return Ok(false);
            }
            self.load(resource)?;
            let Changed { removals, .. } = self.memory.change(resource, &Change::Remove(row.etag.clone()))?;
            // Another server may refresh it until it is gone.
            let removed = match is_away {
                false => self.rows.write(resource, &[row.removal()]),
                true => Err(StoreError::Database),
            };
            is_away = self.behind.is_some() && matches!(removed, Err(StoreError::Database | StoreError::Busy));
            // What is written later is known to memory alone.
            let stands = removed == Ok(Written::Done) || self.behind.is_some();
            if !stands {
                self.memory.forget_removals(resource, &removals);
                self.forget_documents(resource);
            }
            self.memory.documents_changed(resource);
            if stands { Ok(true) } else { removed.map(|_| false) }
        })
    }

    fn resources(&self, wanted: ResourceFilter<'_>) -> Result<Vec<Resource>, StoreError> {
        Ok(self.memory.resources(wanted))
    }

    fn published(&self) -> Result<Vec<Resource>, StoreError> {
        self.write_what_can_be_written();
        self.rows.sorted_resources()
    }

    fn row_timing(&self) -> PublicationRows {
        match self.behind {
            Some(_) => PublicationRows::Later,
            None => PublicationRows::AtOnce,
        }
    }

    /// A resource without a resource entry is known to have no rows from then on.
    fn restore(&self) -> Result<usize, StoreError> {
        let tables = &self.shared.tables;
        self.rows.each_row(&mut |resource| {
            let mut shard = tables.shard(resource.hash);
            shard.entry_or_new(tables.rule(), &resource, Documents::Unknown).map_err(|_| DbError::Away)?;
            Ok(())
        })
    }

    fn sync(&self) -> Option<Result<(), StoreError>> {
        let tables = &self.shared.tables;
        for index in 0..tables.shard_count() {
            let resources: Vec<_> = tables.nth_shard(index).entries().map(|entry| entry.resource()).collect();
            resources.iter().for_each(|resource| self.forget(resource));
        }
        Some(self.restore().map(|_| ()))
    }

    fn write(&self, pass: Pass) -> Result<usize, StoreError> {
        self.behind.as_ref().map_or(Ok(0), |behind| behind.write_all(pass))
    }

    fn clock_was_set(&self, before: Seconds) -> Result<(), StoreError> {
        let mut first = Ok(());
        for index in 0..self.shared.tables.shard_count() {
            for resource in self.memory.resources_of(index) {
                let _order = self.lock_for_write(&resource);
                let known = self.memory.known(&resource).unwrap_or_default();
                for document in known.iter().filter(|document| document.expires_at != Expiry::Never) {
                    first = first.and(self.rows.set_end(&resource, document, before));
                }
            }
        }
        first
    }
}

impl Cached {
    /// The table that the settings name.
    pub(crate) fn new(parts: Parts, watchers: Watchers) -> Cached {
        let behind = parts.config.publ_update_period.map(|_| WriteBehind::new(parts));
        let rows = if behind.is_some() { PublicationRows::Later } else { PublicationRows::AtOnce };
        Cached { parts, memory: DocumentMemory::new(parts, rows, watchers), rows: PresentityRows::new(parts), behind }
    }

    /// Before the table is read: what cannot be written is still known to memory.
    fn write_what_can_be_written(&self) {
        if let Some(behind) = &self.behind {
            behind.write_what_can_be_written();
        }
    }

    /// The documents as they are stored, whether they have expired or not. The caller holds the order of the resource.
    fn stored(&self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        if self.behind.is_none() {
            return self.rows.read(resource);
        }
        self.load(resource)?;
        Ok(self.memory.known(resource).unwrap_or_default())
    }

    /// Reads a resource's documents from the table if the cache does not know them. The caller holds the order of the
    /// resource, so that neither a change nor a [`PublicationStore::forget`] comes in between.
    fn load(&self, resource: &Resource) -> Result<(), StoreError> {
        let rule = self.shared.tables.rule();
        {
            let mut shard = self.shared.tables.shard(resource.hash);
            match shard.entry(rule, resource).map(|entry| &entry.documents) {
                Some(Documents::Unknown) => {}
                _ => return Ok(()),
            }
        }
        let read = self.rows.read(resource)?;
        let mut list = ShmVec::new_in(Shm);
        list.try_reserve_exact(read.len()).map_err(|_| NoMemory)?;
        for publication in &read {
            list.push(SharedPublication::new(publication)?);
        }
        let mut shard = self.shared.tables.shard(resource.hash);
        if let Some(entry) = shard.entry(rule, resource) {
            if matches!(entry.documents, Documents::Unknown) {
                entry.documents = Documents::Known(list);
                entry.forget_cached_body();
            }
        }
        Ok(())
    }

    /// Reads the documents of a resource that nobody watches at once: what has none leaves no record behind, however
    /// many names a command is given. Where the table cannot be read now, a resource that was not known is as unknown
    /// as before.
    fn read_unwatched(&self, resource: &Resource, known: Remembered) {
        let rule = self.shared.tables.rule();
        let read = self.load(resource);
        let mut shard = self.shared.tables.shard(resource.hash);
        if read.is_err() {
            limited!(Warn, "the publications of {} cannot be read again now", crate::host::log::show(&resource.uri));
            if let Some(entry) = shard.entry(rule, resource).filter(|_| known == Remembered::Never) {
                entry.documents = Documents::Known(ShmVec::new_in(Shm));
            }
        }
        shard.drop_idle_entry(rule, resource);
    }

    /// Forgets what memory knows of the documents. The caller holds the order of the resource.
    fn forget_documents(&self, resource: &Resource) {
        let rule = self.shared.tables.rule();
        let mut shard = self.shared.tables.shard(resource.hash);
        let mut garbage = None;
        if let Ok(entry) = shard.entry_or_new(rule, resource, Documents::Unknown) {
            garbage = Some(std::mem::replace(&mut entry.documents, Documents::Unknown));
            entry.documents_changed();
        }
        drop(shard);
        drop(garbage);
    }
}
