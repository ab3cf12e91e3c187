//! Publications that are written some time after they are answered (`publ_update_period`): each period writes the
//! newest state of what has changed since the last one.
use crate::common::row_groups::{GROUP, Pass, RefusalLog, RowBackoff, RowOutcome, TakenRows, Writer};
use crate::host::db::{Connection, DbError};
use crate::host::{clock, log};
use crate::log;
use crate::presence::error::StoreError;
use crate::presence::publication::{Publication, StoredDocument};
use crate::presence::resource::Resource;
use crate::server::publications::presentity_table::{self, delete_record, insert_row, update_record};
use crate::server::shared::Parts;
use crate::server::tables::publication_entry::{PublicationRowState, SharedPublication};
use crate::server::tables::resource_entry::{Documents, ResourceEntry};
use crate::time::Moment;
use std::ops::Deref;

/// A row of a group.
enum Item {
    /// A document with what the table lacks of it.
    Document(Resource, Publication, PublicationRowState),
    /// The record id of a row whose document is gone.
    Gone(Resource, Vec<u8>),
}

/// Takes what a resource entry has to write, as far as there is room. What is gone stays with the resource entry until
/// it is written.
fn take(group: &mut Vec<Item>, entry: &mut ResourceEntry, now: Moment, pass: Pass) {
    let room = GROUP - group.len();
    if !entry.removed.is_empty() && room > 0 {
        let resource = entry.resource();
        let waiting = entry.removed.iter().filter(|removed| !removed.aside.rests(now, pass));
        group.extend(waiting.take(room).map(|removed| Item::Gone(resource.clone(), removed.to_private().ruid)));
    }
    let Documents::Known(list) = &entry.documents else { return };
    if list.iter().all(|document| lacks(document, pass) == PublicationRowState::Nothing) {
        return;
    }
    let resource = entry.resource();
    let Documents::Known(list) = &mut entry.documents else { return };
    let waits = |document: &&mut SharedPublication| {
        lacks(document, pass) != PublicationRowState::Nothing && !document.aside.rests(now, pass)
    };
    for document in list.iter_mut().filter(waits) {
        if group.len() == GROUP {
            break;
        }
        group.push(Item::Document(resource.clone(), document.to_private(), lacks(document, pass)));
        (document.row_state, document.is_being_written) = (PublicationRowState::Nothing, true);
    }
}

/// What the table lacks of a document.
fn lacks(document: &SharedPublication, pass: Pass) -> PublicationRowState {
    let is_left_behind = pass == Pass::Last && document.is_being_written;
    if is_left_behind { PublicationRowState::Unknown } else { document.row_state }
}

fn has_unwritten(entry: &ResourceEntry) -> bool {
    let lacks = |document: &SharedPublication| document.row_state != PublicationRowState::Nothing;
    let of_documents = matches!(&entry.documents, Documents::Known(list) if list.iter().any(lacks));
    of_documents || !entry.removed.is_empty()
}

/// The delayed writing of publications.
pub(crate) struct WriteBehind {
    parts: Parts,
}

impl Deref for WriteBehind {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl WriteBehind {
    /// The rows of the table that the settings name.
    pub(crate) fn new(parts: Parts) -> WriteBehind {
        WriteBehind { parts }
    }

    /// Writes what the table lacks of all publications; returns how many rows changed.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub(crate) fn write_all(&self, pass: Pass) -> Result<usize, StoreError> {
        // One process at a time: what was copied first has to be written first.
        let _order = self.shared.publication_writer.lock();
        let (now, mut refusals, mut total) = (pass.moment(clock::now()), RefusalLog::default(), 0);
        self.shared.unwritten_publications.begin_pass();
        for index in self.shared.tables.whole_shards_first() {
            loop {
                let mut group = Vec::new();
                let mut shard = self.shared.tables.nth_shard(index);
                shard.entries_mut().for_each(|entry| take(&mut group, entry, now, pass));
                drop(shard);
                if group.is_empty() {
                    break;
                }
                total += self.write_group(group, now, &mut refusals)?;
            }
        }
        Ok(total)
    }

    /// Before the table is read: what cannot be written is still known to memory.
    pub(crate) fn write_what_can_be_written(&self) {
        if let Err(error) = self.write_all(Pass::Regular) {
            log!(Error, "cannot write publications to the database: {error}");
        }
    }

    /// Writes what the table lacks of one resource's publications.
    ///
    /// # Errors
    ///
    /// Fails when something stays unwritten.
    pub(crate) fn write_of(&self, resource: &Resource) -> Result<(), StoreError> {
        let _order = self.shared.publication_writer.lock();
        let (now, mut refusals) = (clock::now(), RefusalLog::default());
        loop {
            let mut group = Vec::new();
            if let Some(entry) = self.shared.tables.shard(resource.hash).entry(self.shared.tables.rule(), resource) {
                take(&mut group, entry, now, Pass::Regular);
            }
            if group.is_empty() {
                break;
            }
            self.write_group(group, now, &mut refusals)?;
        }
        match self.has_unwritten(resource) {
            true => Err(StoreError::Refused),
            false => Ok(()),
        }
    }

    /// Whether memory knows something of a resource's publications that the table lacks.
    pub(crate) fn has_unwritten(&self, resource: &Resource) -> bool {
        let mut shard = self.shared.tables.shard(resource.hash);
        shard.entry(self.shared.tables.rule(), resource).is_some_and(|entry| has_unwritten(entry))
    }

    fn write_group(&self, group: Vec<Item>, now: Moment, refusals: &mut RefusalLog) -> Result<usize, StoreError> {
        let put_back = |item: &Item| self.note_item(item, RowOutcome::Kept, now, &mut RefusalLog::default());
        let mut group = TakenRows::new(group, &put_back);
        let (table, packages) = (self.config.presentity_table, self.packages());
        let write = |db: &Connection, item: &Item| -> Result<(), DbError> {
            match item {
                Item::Gone(_, ruid) => delete_record(db, table, ruid),
                Item::Document(resource, publication, PublicationRowState::Row) => {
                    insert_row(db, table, resource, packages.get(resource.event).name, publication)
                }
                Item::Document(resource, publication, PublicationRowState::Unknown) => {
                    delete_record(db, table, &publication.ruid)?;
                    insert_row(db, table, resource, packages.get(resource.event).name, publication)
                }
                Item::Document(_, publication, _) => update_record(db, table, publication),
            }
        };
        let fits = |item: &Item| match item {
            Item::Gone(..) => true,
            Item::Document(resource, publication, _) => presentity_table::fits(resource, publication),
        };
        let outcome = Writer { database: self.database, table, fits: &fits, write: &write }.write_group(group.rows());
        group.settle(&outcome.of_rows, |item, outcome| self.note_item(item, outcome, now, refusals));
        match outcome.error {
            Some(error) => Err(error),
            None => Ok(outcome.count(RowOutcome::Written)),
        }
    }

    /// What became of a row.
    fn note_item(&self, item: &Item, outcome: RowOutcome, now: Moment, refusals: &mut RefusalLog) {
        match item {
            Item::Document(resource, publication, lacks) => {
                self.note_document(resource, publication, *lacks, outcome, now, refusals);
            }
            Item::Gone(resource, ruid) if outcome == RowOutcome::Written => self.delete_removed(resource, ruid),
            // Somebody else holds it, which not every driver tells from a refusal: the rows of others are written
            // meanwhile.
            Item::Gone(resource, ruid) => self.set_aside(resource, ruid, outcome, now, refusals),
        }
    }

    /// The row of a document that is gone is left for the next pass, or a later one where the database has refused to
    /// remove it. One that is refused and has run out means nothing any more.
    fn set_aside(&self, resource: &Resource, ruid: &[u8], outcome: RowOutcome, now: Moment, refusals: &mut RefusalLog) {
        let mut shard = self.shared.tables.shard(resource.hash);
        let Some(entry) = shard.entry(self.shared.tables.rule(), resource) else { return };
        let Some(removed) = entry.removed.iter_mut().find(|removed| removed.ruid() == ruid) else { return };
        if outcome == RowOutcome::Refused && removed.expires_at().is_before(now) {
            drop(shard);
            return self.delete_removed(resource, ruid);
        }
        let was_refused = removed.aside.is_refused();
        removed.aside = removed.aside.after(outcome, now);
        drop(shard);
        if outcome == RowOutcome::Refused && !was_refused {
            refusals.note(self.config.presentity_table, || {
                format!("a document that is gone, of {},", log::show(&resource.uri))
            });
        }
    }

    /// The row is deleted: nothing is left of that document.
    fn delete_removed(&self, resource: &Resource, ruid: &[u8]) {
        let rule = self.shared.tables.rule();
        let mut shard = self.shared.tables.shard(resource.hash);
        let Some(entry) = shard.entry(rule, resource) else { return };
        let garbage = entry.removed.take_where(|removed| removed.ruid() == ruid);
        if entry.removed.is_empty() {
            shard.drop_idle_entry(rule, resource);
        }
        drop(shard);
        drop(garbage);
    }

    /// What could not be written is tried again: with the next period, or later where the database has refused it.
    fn note_document(
        &self,
        resource: &Resource,
        publication: &Publication,
        lacks: PublicationRowState,
        outcome: RowOutcome,
        now: Moment,
        refusals: &mut RefusalLog,
    ) {
        let mut shard = self.shared.tables.shard(resource.hash);
        let entry = shard.entry(self.shared.tables.rule(), resource);
        let Some(Documents::Known(list)) = entry.map(|entry| &mut entry.documents) else { return };
        let Some(document) = list.iter_mut().find(|document| document.ruid() == publication.ruid) else { return };
        let was_refused = document.aside.is_refused();
        document.is_being_written = false;
        if outcome == RowOutcome::Written {
            document.aside = RowBackoff::default();
            return;
        }
        document.row_state = document.row_state.max(lacks);
        // One that was changed meanwhile is another row.
        let same = document.etag() == publication.etag;
        document.aside = document.aside.after(if same { outcome } else { RowOutcome::Kept }, now);
        drop(shard);
        if outcome == RowOutcome::Refused && !was_refused {
            refusals.note(self.config.presentity_table, || format!("a document of {}", log::show(&resource.uri)));
        }
    }

    /// Before the memory of a resource is thrown away; `false` when the table does not have what memory knows.
    pub(crate) fn settle(&self, resource: &Resource) -> bool {
        self.write_of(resource)
            .inspect_err(|error| log!(Error, "publications stay in memory, the table cannot be written: {error}"))
            .is_ok()
    }
}
