//! Publications in shared memory: changed, listed, and composed bodies kept beside them.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::presence::composition::order::Order;
use crate::presence::error::StoreError;
use crate::presence::history::remembered::{Digested, KnownBody};
use crate::presence::publication::row_limits::PublicationRows;
use crate::presence::publication::{Applied, Change, Keeps, Plan, Publication};
use crate::presence::resource::Resource;
use crate::server::announcing::holders;
use crate::server::publications::edit::{Edit, InsertPlace, RemovedBody, without_body};
use crate::server::publications::store::{PublicationStore, ResourceFilter};
use crate::server::publications::trims::{self, Trims};
use crate::server::publications::undo::{Changed, Undo};
use crate::server::shared::Parts;
use crate::server::tables::publication_entry::SharedPublication;
use crate::server::tables::resource_entry::{Documents, ResourceEntry};
use crate::server::tables::watched::CachedBody;
use crate::time::{Expiry, Moment};
use std::ops::Deref;

/// Where the subscriptions to the documents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watchers {
    /// In the same memory.
    Memory,
    /// In a table.
    Rows,
}

/// The documents in memory.
pub(crate) struct DocumentMemory {
    parts: Parts,
    /// When the rows behind them are written.
    rows: PublicationRows,
    watchers: Watchers,
    /// `None`: the order of their last change, or one by columns that memory does not know.
    pub(crate) order: Option<Order>,
}

impl Deref for DocumentMemory {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl DocumentMemory {
    /// The documents with the rows behind them.
    pub(crate) fn new(parts: Parts, rows: PublicationRows, watchers: Watchers) -> DocumentMemory {
        DocumentMemory { parts, rows, watchers, order: Order::of_config(parts.config) }
    }

    /// Changes the documents in memory.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when other processes change the documents again and again meanwhile.
    pub(crate) fn change(&self, resource: &Resource, change: &Change) -> Result<Changed, StoreError> {
        let rule = self.shared.tables.rule();
        // Whatever needs memory for certain is made before the lock is taken.
        let inserted = match change {
            Change::Insert(new) => Some(SharedPublication::new(new)?),
            _ => None,
        };
        let prepare = |affected: Vec<Publication>| Trims::prepare(affected.into_iter(), change);
        let (trims, mut shard) = trims::prepared(&self.shared.tables, resource, change, prepare)?;
        if inserted.is_none() && shard.entry(rule, resource).is_none() {
            return Ok(Changed::nothing(Applied::NoMatch));
        }
        let entry = shard.entry_or_new(rule, resource, Documents::Known(ShmVec::new_in(Shm)))?;
        let is_watched = self.watchers == Watchers::Rows || !entry.subscriptions().is_empty();
        let removed_body = if is_watched { RemovedBody::Shown } else { RemovedBody::Unseen };
        // They were forgotten since they were read: whether they match is not known.
        let Documents::Known(list) = &mut entry.documents else { return Err(StoreError::Busy) };
        let plan = Plan::for_change(list, change);
        let mut edit = Edit::new(self.rows, list, &mut entry.removed);
        let applied = match (plan, change, inserted) {
            (Plan::Insert { replaced, trimmed, keeps }, Change::Insert(new), Some(inserted)) => {
                edit.insert(InsertPlace { replaced, trimmed, keeps }, &trims, new, inserted)?
            }
            (Plan::Insert { replaced, trimmed, keeps }, Change::End(_), _) => {
                edit.end(InsertPlace { replaced, trimmed, keeps }, &trims)?
            }
            (Plan::Modify { keeps: Keeps::Everything, .. }, ..) => {
                return Ok(Changed::nothing(Applied::Modified { keeps: Keeps::Everything }));
            }
            (Plan::Modify { at, keeps }, Change::Modify(modification), _) => edit.modify(at, keeps, modification)?,
            (Plan::Remove { at }, Change::Remove(_), _) => edit.remove(at, removed_body)?,
            _ => return Ok(Changed::nothing(Applied::NoMatch)),
        };
        let removals = if self.config.replicates { edit.removals() } else { Vec::new() };
        let (rows, undo) = edit.finish();
        entry.documents_changed();
        // Before others see that they are gone: a change of them that comes meanwhile must not be taken for a new one.
        removals.iter().for_each(|removed| self.record_removal(resource, removed, change));
        drop(shard);
        if matches!(change, Change::Insert(_) | Change::End(_)) {
            removals.iter().for_each(|replaced| holders::keep_replaced(self, resource, replaced));
        } else {
            removals.iter().for_each(|removed| self.offer_end(resource, removed));
        }
        Ok(Changed { applied, rows, undo, removals })
    }

    /// The documents are what they were before a change whose row cannot be written; `false` when nobody knows. The
    /// caller has held the order of the resource since.
    pub(crate) fn undo(&self, resource: &Resource, undo: Undo) -> bool {
        let mut shard = self.shared.tables.shard(resource.hash);
        let entry = shard.entry(self.shared.tables.rule(), resource);
        let done = entry.map(|entry| {
            entry.documents_changed();
            undo.carry_out(entry)
        });
        drop(shard);
        // What is not there any more is freed outside of the lock.
        matches!(done, Some(Ok(_)))
    }

    /// Remembers a publication that a change has removed: another node may not have learnt of it and announce it again.
    pub(crate) fn record_removal(&self, resource: &Resource, removed: &Publication, change: &Change) {
        let (now, least) = (crate::host::clock::now(), self.config.max_expires);
        if !self.config.replicates || !removed.expires_at.is_after(now) {
            return self.record_end(resource, removed);
        }
        match change {
            Change::Remove(_) => self.shared.tombstones.record_publication_removal(resource, removed, now, least),
            _ => self.shared.tombstones.record_replacement(resource, removed, now, least),
        }
        holders::note_ended_dialogs(self, resource, &removed.dialogs.ids(), removed.stamp);
    }

    /// Remembers a publication that has run out, as long as anything older may live: of its own states, and of its
    /// dialogs.
    fn record_end(&self, resource: &Resource, ended: &Publication) {
        let (now, most) = (crate::host::clock::now(), self.config.max_expires);
        if self.config.replicates && ended.expires_at.is_after(now - most) {
            self.shared.tombstones.record_end(resource, ended, now + most);
            holders::note_ended_dialogs(self, resource, &ended.dialogs.ids(), ended.stamp);
        }
    }

    /// Nodes that hold what belongs to the presentity learn that a document has run out, where this node is none of
    /// them.
    fn offer_end(&self, resource: &Resource, removed: &Publication) {
        if !removed.expires_at.is_after(crate::host::clock::now()) {
            holders::keep_end(self, resource, removed);
        }
    }

    /// The documents whose time is not over. What has run out is remembered from the moment on from which nobody sees
    /// it, which may be long before it is cleaned up.
    pub(crate) fn live(&self, resource: &Resource, documents: Vec<Publication>) -> Vec<Publication> {
        let now = crate::host::clock::now();
        let (live, over): (Vec<_>, Vec<_>) = documents.into_iter().partition(|known| known.expires_at.is_after(now));
        for mut ended in over {
            ended.dialogs.marks.retain(|mark| !live.iter().any(|other| other.dialogs.view().has_dialog(mark.id)));
            self.record_end(resource, &ended);
        }
        live
    }

    /// The removal of these publications could not be carried out: they live on, wherever they are now.
    pub(crate) fn forget_removals(&self, resource: &Resource, removals: &[Publication]) {
        for kept in removals {
            self.shared.tombstones.forget_publication_removal(resource, kept);
            holders::forget_replaced(self, resource, kept);
        }
    }

    /// The documents of a resource are others now: what was composed of them is old.
    pub(crate) fn documents_changed(&self, resource: &Resource) {
        let mut shard = self.shared.tables.shard(resource.hash);
        if let Some(entry) = shard.entry(self.shared.tables.rule(), resource) {
            entry.documents_changed();
        }
    }

    /// The documents in memory; `None` where the table has to be asked.
    pub(crate) fn known(&self, resource: &Resource) -> Option<Vec<Publication>> {
        let mut shard = self.shared.tables.shard(resource.hash);
        let mut documents: Vec<_> = match shard.entry(self.shared.tables.rule(), resource).map(|entry| &entry.documents)
        {
            Some(Documents::Known(list)) => list.iter().map(SharedPublication::to_private).collect(),
            Some(Documents::Unknown) => return None,
            None => Vec::new(),
        };
        drop(shard);
        if let Some(order) = &self.order {
            if self.rows == PublicationRows::None {
                // Of documents with equal priority the newest comes first, as stock has them.
                documents.reverse();
            }
            order.sort(&mut documents);
        }
        Some(documents)
    }

    /// See [`crate::presence::ports::publications::Publications::composed`].
    pub(crate) fn composed(&self, resource: &Resource) -> KnownBody<Digested> {
        let now = crate::host::clock::now();
        let mut shard = self.shared.tables.shard(resource.hash);
        let entry = shard.entry(self.shared.tables.rule(), resource);
        let known = entry.map_or(KnownBody::Unknown, |entry| entry.cached_body(now));
        known.map(|(body, digest)| Digested { body: body.to_vec(), digest })
    }

    /// See [`crate::presence::ports::publications::Publications::cache_composed`].
    pub(crate) fn cache_composed(
        &self,
        resource: &Resource,
        documents: u32,
        body: Option<&Digested>,
        valid_until: Expiry,
    ) {
        let tables = &self.shared.tables;
        let digest = body.map(|body| body.digest).unwrap_or_default();
        let body = body.map(|body| &body.body[..]);
        let mut fresh = CachedBody::document(digest, valid_until);
        // Most bodies are the only document as it was published, and need no memory of their own.
        let mut shard = tables.shard(resource.hash);
        let is_document =
            body.is_some() && shard.entry(tables.rule(), resource).is_some_and(|entry| entry.only_document() == body);
        if !is_document {
            drop(shard);
            let Ok(own) = CachedBody::new(body, digest, valid_until) else { return };
            fresh = own;
            shard = tables.shard(resource.hash);
        }
        let old = match shard.entry(tables.rule(), resource) {
            Some(entry) if entry.documents_version == documents => match entry.watched_or_new() {
                Ok(watched) => std::mem::replace(&mut watched.cached, fresh),
                Err(NoMemory) => fresh,
            },
            _ => fresh,
        };
        drop(shard);
        drop(old);
    }

    /// The resources of a shard whose documents are known.
    pub(crate) fn resources_of(&self, index: usize) -> Vec<Resource> {
        let shard = self.shared.tables.nth_shard(index);
        let known =
            shard.entries().filter(|entry| matches!(&entry.documents, Documents::Known(list) if !list.is_empty()));
        known.map(|entry| entry.resource()).collect()
    }

    pub(crate) fn take_ended(&self, now: Moment, limit: usize) -> Vec<Resource> {
        let (mut ended, mut over) = (Vec::new(), Vec::new());
        for index in 0..self.shared.tables.shard_count() {
            let mut garbage = Vec::new();
            let mut shard = self.shared.tables.nth_shard(index);
            for entry in shard.entries_mut() {
                let resource = entry.resource();
                let Documents::Known(list) = &mut entry.documents else { continue };
                let (before, first) = (list.len(), garbage.len());
                let mut at = 0;
                while at < list.len() {
                    if list[at].expires_at().is_before(now) {
                        garbage.push(list.remove(at));
                    } else {
                        at += 1;
                    }
                }
                if list.len() < before {
                    if self.config.replicates {
                        let left = garbage[first..].iter().map(|old| without_body(old, list));
                        // Before others see that they are gone.
                        for old in left {
                            self.record_end(&resource, &old);
                            over.push((resource.clone(), old));
                        }
                    }
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
        over.iter().for_each(|(resource, old)| self.offer_end(resource, old));
        let rule = self.shared.tables.rule();
        for resource in &ended {
            self.shared.tables.shard(resource.hash).drop_idle_entry(rule, resource);
        }
        ended
    }

    /// The resources with documents, or with documents that memory does not know yet.
    pub(crate) fn resources(&self, wanted: ResourceFilter<'_>) -> Vec<Resource> {
        let tables = &self.shared.tables;
        let mut found = Vec::new();
        for shard in tables.shards() {
            let entries = shard.entries().filter(|entry| wanted(&entry.uri, entry.event));
            let filled = entries.filter(|entry| !matches!(&entry.documents, Documents::Known(list) if list.is_empty()));
            found.extend(filled.map(ResourceEntry::resource));
        }
        found
    }
}

/// Publications in memory only (`publ_cache` 2).
pub(crate) struct MemoryPublications(DocumentMemory);

impl MemoryPublications {
    /// The documents in memory, and nothing behind them.
    pub(crate) fn new(parts: Parts, watchers: Watchers) -> MemoryPublications {
        MemoryPublications(DocumentMemory::new(parts, PublicationRows::None, watchers))
    }
}

impl PublicationStore for MemoryPublications {
    fn change(&self, resource: &Resource, change: &Change) -> Result<Applied, StoreError> {
        self.0.change(resource, change).map(|changed| changed.applied)
    }

    fn documents(&self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        Ok(self.0.live(resource, self.0.known(resource).unwrap_or_default()))
    }

    fn composed(&self, resource: &Resource) -> KnownBody<Digested> {
        self.0.composed(resource)
    }

    fn cache_composed(&self, resource: &Resource, documents: u32, body: Option<&Digested>, valid_until: Expiry) {
        self.0.cache_composed(resource, documents, body, valid_until);
    }

    fn forget(&self, resource: &Resource) {
        self.0.documents_changed(resource);
    }

    fn take_ended(&self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError> {
        Ok(self.0.take_ended(now, limit))
    }

    fn resources(&self, wanted: ResourceFilter<'_>) -> Result<Vec<Resource>, StoreError> {
        Ok(self.0.resources(wanted))
    }

    fn published(&self) -> Result<Vec<Resource>, StoreError> {
        Ok(self.0.resources(&|_, _| true))
    }

    fn row_timing(&self) -> PublicationRows {
        PublicationRows::None
    }
}
