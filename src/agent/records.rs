//! Records in shared memory (`db_mode` 0): shards, each under one lock.
use crate::common::row_groups::{Pass, RowBackoff, RowOutcome};
use crate::common::unwritten_rows::UnwrittenRows;
use crate::host::clock;
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::pua::record::{Dialog, Record, RecordField, RecordRowState, Search};
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Moment, Seconds};
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

type SharedRecord = Record<ShmBox<[u8]>>;

struct RecordEntry {
    hash: u64,
    record: SharedRecord,
    /// The entity tag in its row.
    row_etag: EntityTag<ShmBox<[u8]>>,
    /// The entity tag of the copy that a process is writing, unless it ended while it did.
    written_etag: Option<EntityTag<ShmBox<[u8]>>>,
    /// The entity tag of an earlier copy of which nobody has said what became of it: a row may have it.
    left_etag: Option<EntityTag<ShmBox<[u8]>>>,
    /// The record is as in that copy.
    is_as_copied: bool,
    /// When its row is tried again that could not be written.
    aside: RowBackoff,
    /// The record has ended, and is here only until its row is deleted: whatever becomes of it needs no memory.
    has_ended: bool,
}

shm_safe!(RecordEntry { hash, record, row_etag, written_etag, left_etag, is_as_copied, aside, has_ended });

impl RecordEntry {
    fn lives(&self) -> bool {
        !self.has_ended
    }

    /// The table has no row of it, unless a process is writing one.
    fn has_no_row(&self) -> bool {
        self.record.state.row_state == RecordRowState::Insert && self.written_etag.is_none() && self.left_etag.is_none()
    }

    /// The rows that are to be deleted: the one that is known, and what is being written.
    fn end(&self) -> RecordRowChange {
        let with_tag = |tag: &EntityTag<ShmBox<[u8]>>| self.record.with(&[(RecordField::Etag, tag.bytes())]);
        let copied = [&self.left_etag, &self.written_etag].into_iter().flatten();
        let written_etags = copied.map(|tag| tag.to_owned_tag()).collect();
        RecordRowChange::Ended { row: with_tag(&self.row_etag), written_etags }
    }

    /// A copy of what its row lacks, and takes note that it is being written; `None` without memory.
    fn take_change(&mut self) -> Option<RecordRowChange> {
        let tag = EntityTag::new(self.record.get(RecordField::Etag)).map(shm::copy).ok()?;
        // The process that wrote the copy before may have ended: what the table has of it is not known.
        if let Some(left) = self.written_etag.replace(tag) {
            self.left_etag = Some(left);
        }
        self.is_as_copied = true;
        Some(RecordRowChange::Changed {
            record: self.record.to_private(),
            row_etag: self.row_etag.to_owned_tag(),
            left_etag: self.left_etag.as_ref().map(|tag| tag.to_owned_tag()),
        })
    }
}

/// What the timer writes to the table.
#[derive(Debug)]
pub enum RecordRowChange {
    /// A record that has ended.
    Ended {
        /// The record, with the entity tag of its row.
        row: Record,
        /// The entity tags of copies that processes were writing when they ended.
        written_etags: Vec<EntityTag>,
    },
    /// A record that is new or changed, with the entity tag that its row has.
    Changed {
        /// The record.
        record: Record,
        /// The entity tag of its row.
        row_etag: EntityTag,
        /// The entity tag of a copy that a process was writing when it ended: whether the table has it is not known.
        left_etag: Option<EntityTag>,
    },
}

/// How many records there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RecordCounts {
    /// Of publications.
    pub publications: usize,
    /// Of subscriptions.
    pub subscriptions: usize,
}

/// How many parts the table has.
const SHARDS: usize = 64;

/// All records of the server.
pub struct Records {
    shards: ShmVec<Lock<HashTable<ShmBox<RecordEntry>, Shm>>>,
    serial: AtomicU64,
    seed: u64,
    /// By how many seconds the wall clock was set when rows were last looked for.
    clock_set_by: AtomicI64,
    /// Records that are newer than their rows, and rows of those that have ended.
    pub unwritten: UnwrittenRows,
}

shm_safe!(Records { shards, serial, seed, clock_set_by, unwritten });

/// The hash of some strings under a seed.
pub fn hash(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut hasher = FixedState::with_seed(seed).build_hasher();
    for part in parts {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    hasher.finish()
}

impl Records {
    /// An empty table; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(seed: u64) -> Result<Records, NoMemory> {
        let mut shards = ShmVec::new_in(Shm);
        shards.try_reserve_exact(SHARDS).map_err(|_| NoMemory)?;
        for _ in 0..SHARDS {
            shards.push(Lock::new(HashTable::new_in(Shm)));
        }
        Ok(Records {
            shards,
            serial: AtomicU64::new(1),
            seed,
            clock_set_by: AtomicI64::new(0),
            unwritten: UnwrittenRows::default(),
        })
    }

    fn hash(&self, pres_uri: &[u8], watcher_uri: &[u8]) -> u64 {
        hash(self.seed, &[pres_uri, watcher_uri])
    }

    fn hash_of<B: AsRef<[u8]>>(&self, record: &Record<B>) -> u64 {
        self.hash(record.get(RecordField::PresUri), record.get(RecordField::WatcherUri))
    }

    fn shard(&self, hash: u64) -> &Lock<HashTable<ShmBox<RecordEntry>, Shm>> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// The newest record that `matches`, among those of this presentity and watcher.
    fn newest(&self, hash: u64, matches: impl Fn(&SharedRecord) -> bool) -> Option<Record> {
        let shard = self.shard(hash).lock();
        shard
            .iter_hash(hash)
            .filter(|entry| entry.hash == hash && entry.lives() && matches(&entry.record))
            .max_by_key(|entry| entry.record.state.serial)
            .map(|entry| entry.record.to_private())
    }

    /// See [`crate::pua::ports::stored_records::StoredRecords::find`].
    pub fn find(&self, search: &Search<'_>) -> Option<Record> {
        self.newest(self.hash(search.pres_uri, search.watcher_uri), |record| search.matches(record))
    }

    /// See [`crate::pua::ports::stored_records::StoredRecords::find_dialog`].
    pub fn find_dialog(&self, dialog: &Dialog<'_>) -> Option<Record> {
        let same = |record: &SharedRecord| {
            record.get(RecordField::CallId) == dialog.call_id && record.get(RecordField::FromTag) == dialog.from_tag
        };
        let hash = self.hash(dialog.pres_uri, dialog.watcher_uri);
        let established = |record: &SharedRecord| {
            same(record) && !dialog.to_tag.is_empty() && record.get(RecordField::ToTag) == dialog.to_tag
        };
        self.newest(hash, established)
            .or_else(|| self.newest(hash, |record| same(record) && (record.is_temporary() || dialog.to_tag.is_empty())))
    }

    /// Stores a new record, or one that was read from its row.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out; the table is as before.
    pub fn insert(&self, record: &Record) -> Result<(), NoMemory> {
        let hash = self.hash_of(record);
        let mut shared = record.map(shm::copy)?;
        shared.state.serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let row_etag = match record.state.row_state {
            RecordRowState::Insert => EntityTag::new(shm::copy(b"")?),
            _ => EntityTag::new(record.get(RecordField::Etag)).map(shm::copy)?,
        };
        let entry = shm::boxed(RecordEntry {
            hash,
            record: shared,
            row_etag,
            written_etag: None,
            left_etag: None,
            is_as_copied: false,
            aside: RowBackoff::default(),
            has_ended: false,
        })?;
        let mut shard = self.shard(hash).lock();
        shard.try_reserve(1, |entry| entry.hash).map_err(|_| NoMemory)?;
        shard.insert_unique(hash, entry, |entry| entry.hash);
        if record.state.row_state != RecordRowState::Clean {
            self.unwritten.note();
        }
        Ok(())
    }

    /// See [`crate::pua::ports::stored_records::StoredRecords::replace`].
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out; the record is as before.
    pub fn replace(&self, before: &Record, after: &Record) -> Result<bool, NoMemory> {
        let hash = self.hash_of(before);
        let mut fresh = after.map(shm::copy)?;
        let mut shard = self.shard(hash).lock();
        let serial = before.state.serial;
        let is_it = |entry: &ShmBox<RecordEntry>| entry.record.state.serial == serial && entry.lives();
        let Some(entry) = shard.find_mut(hash, is_it) else { return Ok(false) };
        fresh.state.serial = serial;
        if entry.record.state.row_state == RecordRowState::Clean {
            self.unwritten.note();
        }
        fresh.state.row_state = match entry.record.state.row_state {
            RecordRowState::Insert => RecordRowState::Insert,
            _ => RecordRowState::Update,
        };
        (entry.aside, entry.is_as_copied) = (RowBackoff::default(), false);
        let old = std::mem::replace(&mut entry.record, fresh);
        drop(shard);
        drop(old);
        Ok(true)
    }

    /// See [`crate::pua::ports::stored_records::StoredRecords::remove`]. That needs no memory: what has a row
    /// stays until it is deleted.
    pub fn remove(&self, record: &Record) {
        let hash = self.hash_of(record);
        let serial = record.state.serial;
        let is_it = |entry: &ShmBox<RecordEntry>| entry.record.state.serial == serial && entry.lives();
        let mut shard = self.shard(hash).lock();
        let Ok(mut found) = shard.find_entry(hash, is_it) else { return };
        if found.get().has_no_row() {
            let (gone, _) = found.remove();
            drop(shard);
            drop(gone);
            return;
        }
        found.get_mut().has_ended = true;
        drop(shard);
        self.unwritten.note();
    }

    /// Records that end before `before`, in part `turn` of `turns`.
    pub fn ending(&self, before: Moment, turn: usize, turns: usize) -> Vec<Record> {
        let mut found = Vec::new();
        for shard in self.shards.iter().enumerate().filter(|(index, _)| index % turns.max(1) == turn).map(|(_, s)| s) {
            let shard = shard.lock();
            let is_ending = |entry: &&ShmBox<RecordEntry>| entry.lives() && entry.record.state.expires_at < before;
            found.extend(shard.iter().filter(is_ending).map(|entry| entry.record.to_private()));
        }
        found
    }

    /// How many there are.
    pub fn count(&self) -> RecordCounts {
        let mut counts = RecordCounts::default();
        for shard in &self.shards {
            let shard = shard.lock();
            for entry in shard.iter().filter(|entry| entry.lives()) {
                match entry.record.is_subscription() {
                    true => counts.subscriptions += 1,
                    false => counts.publications += 1,
                }
            }
        }
        counts
    }

    /// URIs of the presentities that records with this id are about.
    pub fn uris_with_id(&self, id: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            found.extend(
                shard
                    .iter()
                    .filter(|entry| !id.is_empty() && entry.lives() && entry.record.get(RecordField::Id) == id)
                    .map(|entry| entry.record.get(RecordField::PresUri).to_vec()),
            );
        }
        found
    }

    /// Takes note that what has changed is being written: what has ended first, then what is new or changed. Nothing
    /// counts as written before it is: a process that ends meanwhile leaves all of it to the next pass. Rows that rest
    /// are left out, see [`RowBackoff::rests`].
    pub fn take_changes(&self, now: Moment, pass: Pass) -> Vec<RecordRowChange> {
        let was_set = self.clock_was_set();
        self.unwritten.begin_pass();
        let (mut changes, mut changed) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            let mut shard = shard.lock();
            for entry in shard.iter_mut() {
                if entry.has_ended {
                    changes.push(entry.end());
                    continue;
                }
                let state = &mut entry.record.state;
                if was_set && state.row_state == RecordRowState::Clean {
                    state.row_state = RecordRowState::Update;
                }
                // What has expired and what has no answer is not worth a row; what its owner still wants is.
                let over = state.expires_at < now && state.desired_until.is_before(now);
                let waits = state.row_state != RecordRowState::Clean && !entry.aside.rests(now, pass);
                if waits && !over && !entry.record.is_temporary() {
                    changed.extend(entry.take_change());
                }
            }
        }
        changes.append(&mut changed);
        changes
    }

    /// Whether the wall clock was set since this was asked: the times of day in rows are old.
    fn clock_was_set(&self) -> bool {
        let set_by = clock::set_by();
        (set_by - Seconds(self.clock_set_by.swap(set_by.0, Ordering::Relaxed))).abs() > Seconds(1)
    }

    /// Takes note of what became of a change; that needs no memory. `true` when the database has refused its row, which
    /// was not known.
    pub fn note_fate(&self, change: &RecordRowChange, fate: RowOutcome, now: Moment) -> bool {
        match (change, fate) {
            // It is there, and tried again.
            (RecordRowChange::Ended { .. }, RowOutcome::Kept) => {}
            (RecordRowChange::Ended { row, .. }, _) => self.note_ended(row),
            (RecordRowChange::Changed { record, .. }, RowOutcome::Written) => self.note_written(record),
            (RecordRowChange::Changed { record, .. }, fate) => return self.note_unwritten(record, fate, now),
        }
        false
    }

    /// The row of a record that has ended is deleted. One that may not be deleted ends by its own time. What a process
    /// is writing is not there yet, and is deleted by the next pass.
    fn note_ended(&self, row: &Record) {
        self.settle(row, |entry| {
            entry.record.state.row_state = RecordRowState::Insert;
            entry.left_etag = None;
        });
    }

    /// The row is as the copy; a record that has changed since is newer again, and of one that was removed meanwhile
    /// the row goes, too.
    fn note_written(&self, copy: &Record) {
        self.settle(copy, |entry| {
            if let Some(tag) = entry.written_etag.take() {
                entry.row_etag = tag;
            }
            entry.left_etag = None;
            let is_same = std::mem::take(&mut entry.is_as_copied);
            entry.record.state.row_state = if is_same { RecordRowState::Clean } else { RecordRowState::Update };
            entry.aside = RowBackoff::default();
        });
    }

    /// What could not be written is tried again.
    fn note_unwritten(&self, copy: &Record, fate: RowOutcome, now: Moment) -> bool {
        let mut is_news = false;
        self.settle(copy, |entry| {
            let was_refused = entry.aside.is_refused();
            (entry.written_etag, entry.is_as_copied) = (None, false);
            // Another process has written an older copy meanwhile.
            if entry.record.state.row_state == RecordRowState::Clean {
                entry.record.state.row_state = RecordRowState::Update;
            }
            entry.aside = entry.aside.after(fate, now);
            is_news = fate == RowOutcome::Refused && !was_refused;
        });
        is_news
    }

    /// Records whose rows the database has refused, at most `limit`.
    pub fn refused(&self, limit: usize) -> Vec<Record> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let refused = shard.iter().filter(|entry| entry.lives() && entry.aside.is_refused());
            found.extend(refused.take(limit - found.len()).map(|entry| entry.record.to_private()));
            if found.len() >= limit {
                break;
            }
        }
        found
    }

    /// Changes an entry by what became of its row, if it is there still. One that has ended goes with its last row.
    fn settle(&self, record: &Record, change: impl FnOnce(&mut RecordEntry)) {
        let hash = self.hash_of(record);
        let serial = record.state.serial;
        let mut shard = self.shard(hash).lock();
        let Ok(mut found) = shard.find_entry(hash, |entry| entry.record.state.serial == serial) else { return };
        change(found.get_mut());
        let is_over = found.get().has_ended && found.get().has_no_row();
        let gone = is_over.then(|| found.remove().0);
        drop(shard);
        drop(gone);
    }
}

#[cfg(test)]
mod tests;
