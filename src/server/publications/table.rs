//! Publications in the table only (`publ_cache` 0): others may write it. Memory knows of a resource that its documents
//! have changed, and nothing else.
use crate::presence::error::StoreError;
use crate::presence::history::remembered::{Digested, KnownBody};
use crate::presence::publication::row_limits::PublicationRows;
use crate::presence::publication::{Applied, Change, Keeps, Plan, Publication};
use crate::presence::resource::Resource;
use crate::server::publications::ended_rows;
use crate::server::publications::memory::{DocumentMemory, Watchers};
use crate::server::publications::presentity_table::{BodyCell, PresentityRows, RowChange, Written, delete, update};
use crate::server::publications::store::{PublicationStore, ResourceFilter};
use crate::server::publications::trims::Trims;
use crate::server::shared::Parts;
use crate::time::{Expiry, Moment};

/// How often the rows are read again when another server has changed them meanwhile.
const TRIES: usize = 20;

/// The table is the store.
pub(crate) struct InTable {
    parts: Parts,
    memory: DocumentMemory,
    rows: PresentityRows,
}

impl InTable {
    /// The table that the settings name.
    pub(crate) fn new(parts: Parts, watchers: Watchers) -> InTable {
        let memory = DocumentMemory::new(parts, PublicationRows::AtOnce, watchers);
        InTable { parts, memory, rows: PresentityRows::new(parts) }
    }

    /// Carries a change out as the rows are read now; `None` when another server has changed them meanwhile.
    fn change_rows(&self, resource: &Resource, change: &Change) -> Result<Option<Applied>, StoreError> {
        let (mut documents, mut removed) = (self.rows.read(resource)?, Vec::new());
        let (applied, rows) = match (Plan::for_change(&documents, change), change) {
            (Plan::Insert { replaced, trimmed, keeps }, Change::Insert(_) | Change::End(_)) => {
                let trims = Trims::prepare(trimmed.iter().map(|at| documents[*at].clone()), change);
                removed.extend(replaced.iter().map(|at| documents[*at].clone()));
                let mut rows: Vec<_> = removed.iter().map(delete).collect();
                rows.extend(trims.0.into_iter().map(|trim| update(&trim.etag.clone(), trim, BodyCell::Changes)));
                match change {
                    Change::Insert(new) => {
                        rows.push(RowChange::Insert(match keeps {
                            Some(at) => new.keeping(documents.swap_remove(at)),
                            None => new.clone(),
                        }));
                        (Applied::Inserted, rows)
                    }
                    _ => (Applied::Ended, rows),
                }
            }
            (Plan::Modify { keeps: Keeps::Everything, .. }, _) => {
                return Ok(Some(Applied::Modified { keeps: Keeps::Everything }));
            }
            (Plan::Modify { at, keeps }, Change::Modify(modification)) => {
                let with_body = documents[at].modify(modification, keeps);
                let row = update(
                    &modification.etag,
                    documents.swap_remove(at),
                    if with_body { BodyCell::Changes } else { BodyCell::Stays },
                );
                (Applied::Modified { keeps }, vec![row])
            }
            (Plan::Remove { at }, Change::Remove(_)) => {
                removed.push(documents[at].clone());
                let row = delete(&documents[at]);
                (Applied::Removed(documents.swap_remove(at), at), vec![row])
            }
            _ => return Ok(Some(Applied::NoMatch)),
        };
        let written = self.rows.write(resource, &rows)?;
        if written == Written::Done {
            removed.iter().for_each(|removed| self.memory.record_removal(resource, removed, change));
        }
        self.memory.documents_changed(resource);
        Ok((written == Written::Done).then_some(applied))
    }
}

impl PublicationStore for InTable {
    fn change(&self, resource: &Resource, change: &Change) -> Result<Applied, StoreError> {
        let _order = self.parts.lock_for_write(resource);
        for _ in 0..TRIES {
            if let Some(applied) = self.change_rows(resource, change)? {
                return Ok(applied);
            }
        }
        Err(StoreError::Busy)
    }

    fn documents(&self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        Ok(self.memory.live(resource, self.rows.read(resource)?))
    }

    fn composed(&self, resource: &Resource) -> KnownBody<Digested> {
        self.memory.composed(resource)
    }

    fn cache_composed(&self, _: &Resource, _: u32, _: Option<&Digested>, _: Expiry) {}

    fn forget(&self, resource: &Resource) {
        self.memory.documents_changed(resource);
    }

    fn take_ended(&self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError> {
        ended_rows::take(&self.rows, now, limit, &mut |resource, row| {
            let _order = self.parts.lock_for_write(resource);
            let documents = self.rows.read(resource)?;
            if !row.is_over(&documents, now) {
                return Ok(false);
            }
            // What is over is remembered here.
            self.memory.live(resource, documents);
            let written = self.rows.write(resource, &[row.removal()])?;
            self.memory.documents_changed(resource);
            Ok(written == Written::Done)
        })
    }

    fn resources(&self, wanted: ResourceFilter<'_>) -> Result<Vec<Resource>, StoreError> {
        self.rows.resources(wanted)
    }

    fn published(&self) -> Result<Vec<Resource>, StoreError> {
        self.rows.sorted_resources()
    }

    fn row_timing(&self) -> PublicationRows {
        PublicationRows::AtOnce
    }
}
