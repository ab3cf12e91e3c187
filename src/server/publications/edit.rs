//! One change of the documents of a resource, made in their list under the lock of the shard: what comes in, what
//! leaves, and what follows from it for the table. Whatever can fail comes before the list is touched.
use crate::host::no_memory::NoMemory;
use crate::host::shm::ShmVec;
use crate::presence::publication::row_limits::PublicationRows;
use crate::presence::publication::{Applied, Keeps, Modification, Publication, StoredDocument};
use crate::server::publications::presentity_table::{BodyCell, RowChange, delete, update};
use crate::server::publications::trims::Trims;
use crate::server::publications::undo::Undo;
use crate::server::tables::lazy_vec::LazyVec;
use crate::server::tables::publication_entry::{PublicationRowState, SharedPublication};

/// The list of a resource's documents, and what a change of it leaves behind.
pub(crate) struct Edit<'e> {
    /// When rows are written.
    behind: PublicationRows,
    list: &'e mut ShmVec<SharedPublication>,
    /// Documents that are gone and whose rows are to be removed later.
    removed: &'e mut LazyVec<SharedPublication>,
    /// What has to be done to the table at once.
    rows: Vec<RowChange>,
    undo: Undo,
    /// The documents that have left the list, with the places that they had.
    left: Vec<(usize, SharedPublication)>,
}

/// Where a new document finds its place, see [`crate::presence::publication::Plan::Insert`].
pub(crate) struct InsertPlace {
    pub(crate) replaced: Vec<usize>,
    pub(crate) trimmed: Vec<usize>,
    pub(crate) keeps: Option<usize>,
}

/// Whether the body of a removed document is shown once more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemovedBody {
    /// The resource is watched: watchers may be shown the document as one that has ended.
    Shown,
    /// Nobody watches.
    Unseen,
}

impl<'e> Edit<'e> {
    /// Begins a change.
    pub(crate) fn new(
        behind: PublicationRows,
        list: &'e mut ShmVec<SharedPublication>,
        removed: &'e mut LazyVec<SharedPublication>,
    ) -> Edit<'e> {
        Edit { behind, list, removed, rows: Vec::new(), undo: Undo::default(), left: Vec::new() }
    }

    /// Puts `new` at the end; `inserted` is the same document, made before the lock was taken.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out. Nothing has changed then.
    pub(crate) fn insert(
        &mut self,
        place: InsertPlace,
        trims: &Trims,
        new: &Publication,
        inserted: SharedPublication,
    ) -> Result<Applied, NoMemory> {
        if self.list.len() == self.list.capacity() {
            // Most presentities have one document.
            self.list.try_reserve_exact(self.list.len().max(1)).map_err(|_| NoMemory)?;
        }
        let keeping = place.keeps.map(|at| new.keeping(self.list[at].to_private()));
        self.make_room(place.replaced.len())?;
        let mut inserted = match &keeping {
            Some(keeping) => SharedPublication::new(keeping)?,
            None => inserted,
        };
        self.take_over(place.replaced, &place.trimmed, trims)?;
        self.undo.is_longer = true;
        inserted.row_state = match self.behind.waits(&new.ruid) {
            true => PublicationRowState::Row,
            false => PublicationRowState::Nothing,
        };
        self.list.push(inserted);
        if self.behind.has_at_once(&new.ruid) {
            self.rows.push(RowChange::Insert(keeping.unwrap_or_else(|| new.clone())));
        }
        Ok(Applied::Inserted)
    }

    /// Ends dialogs: documents leave, or lose some of their dialogs, and none comes.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub(crate) fn end(&mut self, place: InsertPlace, trims: &Trims) -> Result<Applied, NoMemory> {
        self.make_room(place.replaced.len())?;
        self.take_over(place.replaced, &place.trimmed, trims)?;
        Ok(Applied::Ended)
    }

    /// Changes the document at this place.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub(crate) fn modify(&mut self, at: usize, keeps: Keeps, modification: &Modification) -> Result<Applied, NoMemory> {
        // The old body is not copied where a new one takes its place.
        let body = modification.body.as_ref().filter(|_| keeps == Keeps::Nothing);
        let mut document = if body.is_some() { self.list[at].without_body() } else { self.list[at].to_private() };
        document.renew(modification, keeps);
        let mut fresh = match body {
            Some(body) => SharedPublication::with_body(&document, body, &modification.dialogs)?,
            None => SharedPublication::new(&document)?,
        };
        if self.behind.waits(&document.ruid) {
            fresh.row_state = self.list[at].row_state.changed();
            fresh.is_being_written = self.list[at].is_being_written;
        }
        if self.behind == PublicationRows::None {
            // In memory the order is that of the last change.
            self.undo.removed.push((at, self.list.remove(at)));
            self.undo.is_longer = true;
            self.list.push(fresh);
        } else {
            self.undo.in_place.push((at, std::mem::replace(&mut self.list[at], fresh)));
        }
        if self.behind.has_at_once(&document.ruid) {
            document.body.extend_from_slice(body.map(|body| &**body).unwrap_or_default());
            let cell = if body.is_some() { BodyCell::Changes } else { BodyCell::Stays };
            self.rows.push(update(&modification.etag, document, cell));
        }
        Ok(Applied::Modified { keeps })
    }

    /// Removes the document at this place.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub(crate) fn remove(&mut self, at: usize, body: RemovedBody) -> Result<Applied, NoMemory> {
        self.make_room(1)?;
        let old = self.list.remove(at);
        let removed = match body {
            RemovedBody::Shown => old.to_private(),
            RemovedBody::Unseen => Publication { dialogs: old.dialogs().to_owned_dialogs(), ..old.without_body() },
        };
        if self.behind.has_at_once(&removed.ruid) {
            self.rows.push(delete(&old));
        }
        self.left.push((at, old));
        Ok(Applied::Removed(removed, at))
    }

    /// The documents that have left, without their bodies, with those of their dialogs that no other one speaks of.
    pub(crate) fn removals(&self) -> Vec<Publication> {
        self.left.iter().map(|(_, old)| without_body(old, self.list)).collect()
    }

    /// What is to be done to the table at once, and how the change is taken back. What has left the list waits for its
    /// row to be removed, where rows are written later.
    pub(crate) fn finish(self) -> (Vec<RowChange>, Undo) {
        let Edit { behind, removed, rows, mut undo, left, .. } = self;
        for (at, old) in left {
            if behind.waits(old.ruid()) && old.row_state != PublicationRowState::Row {
                // There is room for it.
                let _ = removed.push(old);
                undo.rows_to_remove.push(at);
            } else {
                undo.removed.push((at, old));
            }
        }
        (rows, undo)
    }

    /// Makes room for the rows of documents that will leave.
    fn make_room(&mut self, leaving: usize) -> Result<(), NoMemory> {
        if self.behind == PublicationRows::Later {
            self.removed.try_reserve(leaving)?;
        }
        Ok(())
    }

    /// Takes the dialogs of a change from the documents that speak of them: some leave, some go on without them.
    fn take_over(&mut self, replaced: Vec<usize>, trimmed: &[usize], trims: &Trims) -> Result<(), NoMemory> {
        let mut shorter = Vec::new();
        for at in trimmed {
            let Some(trim) = trims.trimmed(&self.list[*at]) else { continue };
            let mut fresh = SharedPublication::new(trim)?;
            if self.behind.waits(&trim.ruid) {
                fresh.row_state = self.list[*at].row_state.changed();
                fresh.is_being_written = self.list[*at].is_being_written;
            }
            shorter.push((*at, fresh));
            if self.behind.has_at_once(&trim.ruid) {
                self.rows.push(update(&trim.etag, trim.clone(), BodyCell::Changes));
            }
        }
        // Nothing fails from here on.
        let list = &mut *self.list;
        self.undo.in_place.extend(shorter.into_iter().map(|(at, fresh)| (at, std::mem::replace(&mut list[at], fresh))));
        self.left.extend(replaced.into_iter().rev().map(|at| (at, list.remove(at))));
        let replaced = self.left.iter().map(|(_, old)| old).filter(|old| self.behind.has_at_once(old.ruid()));
        self.rows.extend(replaced.map(delete));
        Ok(())
    }
}

/// A document that is gone, without its body, and with the dialogs of which nothing else that is there speaks.
pub(crate) fn without_body(gone: &SharedPublication, there: &[SharedPublication]) -> Publication {
    let mut dialogs = gone.dialogs().to_owned_dialogs();
    dialogs.marks.retain(|mark| !there.iter().any(|other| other.dialogs().has_dialog(mark.id)));
    Publication { dialogs, ..gone.without_body() }
}
