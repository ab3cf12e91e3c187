//! Publications that are written some time after they are answered (`publ_update_period`): each period writes the newest state
//! of what has changed since the last one.
use super::counters::{self, Counter};
use super::lane::{Documents, Lane};
use super::presentity_rows::{delete_record, insert_row, update_record};
use super::world::World;
use crate::log;
use crate::presence::error::StoreError;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;

/// How many documents are written in one transaction.
const GROUP: usize = 200;

/// What the table lacks of a document in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Unwritten {
    /// Nothing.
    #[default]
    Nothing,
    /// Its row has older values.
    Change,
    /// Its row.
    Row,
}

impl Unwritten {
    /// What the table lacks after one more change.
    pub fn changed(self) -> Unwritten {
        self.max(Unwritten::Change)
    }
}

/// What is written together.
#[derive(Default)]
struct Group {
    /// Documents with what the table lacks of them.
    documents: Vec<(Resource, Publication, Unwritten)>,
    /// Record ids of rows whose documents are gone.
    gone: Vec<(Resource, Vec<Vec<u8>>)>,
    rows: usize,
}

impl Group {
    /// Takes what a lane has to write, as far as there is room. What is gone stays with the lane until it is written.
    fn take(&mut self, lane: &mut Lane) {
        let gone: Vec<_> = lane.gone.iter().take(GROUP - self.rows).map(|gone| gone.to_private().ruid).collect();
        self.rows += gone.len();
        if !gone.is_empty() {
            self.gone.push((lane.resource(), gone));
        }
        let Documents::Known(list) = &lane.documents else { return };
        if list.iter().all(|document| document.unwritten == Unwritten::Nothing) {
            return;
        }
        let resource = lane.resource();
        let Documents::Known(list) = &mut lane.documents else { return };
        for document in list.iter_mut().filter(|document| document.unwritten != Unwritten::Nothing) {
            if self.rows == GROUP {
                break;
            }
            self.rows += 1;
            self.documents.push((resource.clone(), document.to_private(), document.unwritten));
            document.unwritten = Unwritten::Nothing;
        }
    }
}

impl World {
    /// Whether publications are answered before they are written.
    pub(super) fn writes_publications_later(&self) -> bool {
        self.config.publ_update_period > 0
    }

    /// Writes what the table lacks of all publications; returns how many rows changed.
    pub fn write_publications(&mut self) -> Result<usize, StoreError> {
        if !self.writes_publications_later() {
            return Ok(0);
        }
        // One process at a time: what was copied first has to be written first.
        let _order = self.shared.publication_writer.lock();
        let mut total = 0;
        for index in self.shared.tables.whole_shards_first() {
            loop {
                let mut group = Group::default();
                self.shared.tables.nth_shard(index).lanes_mut().for_each(|lane| group.take(lane));
                if group.rows == 0 {
                    break;
                }
                total += group.rows;
                self.write_publication_group(group)?;
            }
        }
        Ok(total)
    }

    /// Writes what the table lacks of one resource's publications.
    pub(super) fn write_publications_of(&mut self, resource: &Resource) -> Result<(), StoreError> {
        if !self.writes_publications_later() {
            return Ok(());
        }
        let _order = self.shared.publication_writer.lock();
        loop {
            let mut group = Group::default();
            if let Some(lane) = self.shared.tables.shard(resource.hash).lane(self.shared.tables.rule(), resource) {
                group.take(lane);
            }
            if group.rows == 0 {
                return Ok(());
            }
            self.write_publication_group(group)?;
        }
    }

    fn write_publication_group(&mut self, group: Group) -> Result<(), StoreError> {
        let (table, packages) = (self.config.presentity_table, self.packages);
        let written = self.database.write_together(|db| {
            group.gone.iter().flat_map(|(_, gone)| gone).try_for_each(|ruid| delete_record(db, table, ruid))?;
            group.documents.iter().try_for_each(|(resource, publication, unwritten)| match unwritten {
                Unwritten::Row => insert_row(db, table, resource, packages.get(resource.event).name, publication),
                _ => update_record(db, table, publication),
            })
        });
        match written {
            Ok(()) => {
                counters::count(Counter::DbGroups);
                counters::count_many(Counter::DbGroupRows, group.rows);
                self.forget_gone(&group);
            }
            Err(_) => self.put_back(&group),
        }
        written
    }

    /// The rows are deleted: nothing is left of those documents.
    fn forget_gone(&mut self, group: &Group) {
        let rule = self.shared.tables.rule();
        for (resource, gone) in &group.gone {
            let mut shard = self.shared.tables.shard(resource.hash);
            let Some(lane) = shard.lane(rule, resource) else { continue };
            let garbage = lane.gone.take_first(gone.len());
            if lane.gone.is_empty() {
                shard.drop_idle_lane(rule, resource);
            }
            drop(shard);
            drop(garbage);
        }
    }

    /// What could not be written is tried again with the next period.
    fn put_back(&mut self, group: &Group) {
        let rule = self.shared.tables.rule();
        for (resource, publication, unwritten) in &group.documents {
            let mut shard = self.shared.tables.shard(resource.hash);
            let Some(Documents::Known(list)) = shard.lane(rule, resource).map(|lane| &mut lane.documents) else {
                continue;
            };
            if let Some(document) = list.iter_mut().find(|document| document.ruid() == publication.ruid) {
                document.unwritten = document.unwritten.max(*unwritten);
            }
        }
    }

    /// Before the memory of a resource is thrown away; `false` when the table does not have what memory knows.
    pub(super) fn settle_publications(&mut self, resource: &Resource) -> bool {
        self.write_publications_of(resource)
            .inspect_err(|error| log!(Error, "publications stay in memory, the table cannot be written: {error}"))
            .is_ok()
    }
}
