//! Records in shared memory (`db_mode` 0): shards, each under one lock.
use crate::common::row_groups::{Aside, Pass, RowOutcome};
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
    /// The record is as in that copy.
    is_as_copied: bool,
    /// When its row is tried again that could not be written.
    aside: Aside,
}

shm_safe!(RecordEntry { hash, record, row_etag, written_etag, is_as_copied, aside });

/// What the timer writes to the table.
#[derive(Debug)]
pub enum RecordRowChange {
    /// A row whose record has ended.
    Ended(Record),
    /// A record that is new or changed, with the entity tag that its row has.
    Changed {
        /// The record.
        record: Record,
        /// The entity tag of its row.
        row_etag: EntityTag,
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
    ended: Lock<ShmVec<SharedRecord>>,
    /// Those whose rows a process is removing, or was when it ended.
    being_removed: Lock<ShmVec<SharedRecord>>,
    serial: AtomicU64,
    seed: u64,
    /// By how many seconds the wall clock was set when rows were last looked for.
    clock_set_by: AtomicI64,
    /// Records that are newer than their rows, and rows of those that have ended.
    pub unwritten: UnwrittenRows,
}

shm_safe!(Records { shards, ended, being_removed, serial, seed, clock_set_by, unwritten });

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
            ended: Lock::new(ShmVec::new_in(Shm)),
            being_removed: Lock::new(ShmVec::new_in(Shm)),
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
            .filter(|entry| entry.hash == hash && matches(&entry.record))
            .max_by_key(|entry| entry.record.state.serial)
            .map(|entry| entry.record.to_private())
    }

    /// See [`crate::pua::ports::AgentPorts::find`].
    pub fn find(&self, search: &Search<'_>) -> Option<Record> {
        self.newest(self.hash(search.pres_uri, search.watcher_uri), |record| search.matches(record))
    }

    /// See [`crate::pua::ports::AgentPorts::find_dialog`].
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
        let (written_etag, is_as_copied, aside) = (None, false, Aside::default());
        let entry = shm::boxed(RecordEntry { hash, record: shared, row_etag, written_etag, is_as_copied, aside })?;
        let mut shard = self.shard(hash).lock();
        shard.try_reserve(1, |entry| entry.hash).map_err(|_| NoMemory)?;
        shard.insert_unique(hash, entry, |entry| entry.hash);
        if record.state.row_state != RecordRowState::Clean {
            self.unwritten.note();
        }
        Ok(())
    }

    /// See [`crate::pua::ports::AgentPorts::replace`].
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out; the record is as before.
    pub fn replace(&self, before: &Record, after: &Record) -> Result<bool, NoMemory> {
        let hash = self.hash_of(before);
        let mut fresh = after.map(shm::copy)?;
        let mut shard = self.shard(hash).lock();
        let serial = before.state.serial;
        let Some(entry) = shard.find_mut(hash, |entry| entry.record.state.serial == serial) else { return Ok(false) };
        fresh.state.serial = serial;
        if entry.record.state.row_state == RecordRowState::Clean {
            self.unwritten.note();
        }
        fresh.state.row_state = match entry.record.state.row_state {
            RecordRowState::Insert => RecordRowState::Insert,
            _ => RecordRowState::Update,
        };
        (entry.aside, entry.is_as_copied) = (Aside::default(), false);
        let old = std::mem::replace(&mut entry.record, fresh);
        drop(shard);
        drop(old);
        Ok(true)
    }

    /// See [`crate::pua::ports::AgentPorts::remove`].
    pub fn remove(&self, record: &Record) {
        let hash = self.hash_of(record);
        let serial = record.state.serial;
        let mut shard = self.shard(hash).lock();
        let Ok(entry) = shard.find_entry(hash, |entry| entry.record.state.serial == serial) else { return };
        let (gone, _) = entry.remove();
        drop(shard);
        if gone.record.state.row_state != RecordRowState::Insert {
            self.end_row(&gone.record.with(&[(RecordField::Etag, gone.row_etag.bytes())]));
        }
    }

    /// Records that end before `before`, in part `turn` of `turns`.
    pub fn ending(&self, before: Moment, turn: usize, turns: usize) -> Vec<Record> {
        let mut found = Vec::new();
        for shard in self.shards.iter().enumerate().filter(|(index, _)| index % turns.max(1) == turn).map(|(_, s)| s) {
            let shard = shard.lock();
            found.extend(shard.iter().filter(|e| e.record.state.expires_at < before).map(|e| e.record.to_private()));
        }
        found
    }

    /// How many there are.
    pub fn count(&self) -> RecordCounts {
        let mut counts = RecordCounts::default();
        for shard in &self.shards {
            let shard = shard.lock();
            let watching = shard.iter().filter(|entry| entry.record.is_subscription()).count();
            counts.subscriptions += watching;
            counts.publications += shard.len() - watching;
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
                    .filter(|entry| !id.is_empty() && entry.record.get(RecordField::Id) == id)
                    .map(|entry| entry.record.get(RecordField::PresUri).to_vec()),
            );
        }
        found
    }

    /// Takes note that what has changed is being written: what has ended first, then what is new or changed. Nothing
    /// counts as written before it is: a process that ends meanwhile leaves all of it to the next pass. Rows that rest
    /// are left out, see [`Aside::rests`].
    pub fn take_changes(&self, now: Moment, pass: Pass) -> Vec<RecordRowChange> {
        self.begin_removing();
        let was_set = self.clock_was_set();
        self.unwritten.begin_pass();
        let mut changes: Vec<RecordRowChange> =
            self.being_removed.lock().iter().map(|record| RecordRowChange::Ended(record.to_private())).collect();
        for shard in &self.shards {
            let mut shard = shard.lock();
            for entry in shard.iter_mut() {
                let state = &mut entry.record.state;
                if was_set && state.row_state == RecordRowState::Clean {
                    state.row_state = RecordRowState::Update;
                }
                // What has expired and what has no answer is not worth a row; what its owner still wants is.
                let over = state.expires_at < now && state.desired_until.is_before(now);
                let waits = state.row_state != RecordRowState::Clean && !entry.aside.rests(now, pass);
                if !waits || over || entry.record.is_temporary() {
                    continue;
                }
                let Ok(tag) = EntityTag::new(entry.record.get(RecordField::Etag)).map(shm::copy) else { continue };
                (entry.written_etag, entry.is_as_copied) = (Some(tag), true);
                changes.push(RecordRowChange::Changed {
                    record: entry.record.to_private(),
                    row_etag: entry.row_etag.to_owned_tag(),
                });
            }
        }
        changes
    }

    /// What has ended is among those whose rows are being removed, as far as there is memory for it.
    fn begin_removing(&self) {
        let (mut ended, mut being_removed) = (self.ended.lock(), self.being_removed.lock());
        if being_removed.try_reserve(ended.len()).is_ok() {
            being_removed.append(&mut ended);
        }
    }

    /// All rows of what had ended are removed, or noted again.
    pub fn end_removing(&self) {
        let removed = std::mem::replace(&mut *self.being_removed.lock(), ShmVec::new_in(Shm));
        drop(removed);
    }

    /// Whether the wall clock was set since this was asked: the times of day in rows are old.
    fn clock_was_set(&self) -> bool {
        let set_by = clock::set_by();
        (set_by - Seconds(self.clock_set_by.swap(set_by.0, Ordering::Relaxed))).abs() > Seconds(1)
    }

    /// Takes note of what became of a change. `true` when the database has refused its row, which was not known.
    pub fn note_fate(&self, change: &RecordRowChange, fate: RowOutcome, now: Moment) -> bool {
        match (change, fate) {
            (RecordRowChange::Ended(row), RowOutcome::Kept) => self.end_row(row),
            // A row that may not be deleted ends by its own time.
            (RecordRowChange::Ended(_), _) => {}
            (RecordRowChange::Changed { record, .. }, RowOutcome::Written) => self.note_written(record),
            (RecordRowChange::Changed { record, .. }, fate) => return self.note_unwritten(record, fate, now),
        }
        false
    }

    /// The row is as the copy; a record that has changed since is newer again, and of one that was removed meanwhile
    /// the row goes, too.
    fn note_written(&self, copy: &Record) {
        let is_known = self.with_entry(copy, |entry| {
            if let Some(tag) = entry.written_etag.take() {
                entry.row_etag = tag;
            }
            let is_same = std::mem::take(&mut entry.is_as_copied);
            entry.record.state.row_state = if is_same { RecordRowState::Clean } else { RecordRowState::Update };
            entry.aside = Aside::default();
        });
        if !is_known {
            self.end_row(copy);
        }
    }

    /// What could not be written is tried again.
    fn note_unwritten(&self, copy: &Record, fate: RowOutcome, now: Moment) -> bool {
        let mut is_news = false;
        self.with_entry(copy, |entry| {
            let was_refused = entry.aside.is_refused();
            (entry.written_etag, entry.is_as_copied) = (None, false);
            // Another process has written an older copy meanwhile.
            if entry.record.state.row_state == RecordRowState::Clean {
                entry.record.state.row_state = RecordRowState::Update;
            }
            match fate {
                RowOutcome::Refused => entry.aside = Aside::refused(now),
                _ if !was_refused => entry.aside = Aside::later(now),
                _ => {}
            }
            is_news = fate == RowOutcome::Refused && !was_refused;
        });
        is_news
    }

    /// Records whose rows the database has refused, at most `limit`.
    pub fn refused(&self, limit: usize) -> Vec<Record> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let refused = shard.iter().filter(|entry| entry.aside.is_refused());
            found.extend(refused.take(limit - found.len()).map(|entry| entry.record.to_private()));
            if found.len() >= limit {
                break;
            }
        }
        found
    }

    /// Has a row deleted by the next write. Without memory it stays until it expires.
    fn end_row<B: AsRef<[u8]>>(&self, row: &Record<B>) {
        if let Ok(copy) = row.map(shm::copy) {
            let _ = shm::push(&mut self.ended.lock(), copy);
            self.unwritten.note();
        }
    }

    /// Changes an entry; `false` when it is gone.
    fn with_entry(&self, record: &Record, change: impl FnOnce(&mut RecordEntry)) -> bool {
        let hash = self.hash_of(record);
        let serial = record.state.serial;
        let mut shard = self.shard(hash).lock();
        shard.find_mut(hash, |entry| entry.record.state.serial == serial).map(|entry| change(entry)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;
    use crate::pua::record::RecordState;
    use crate::time::Expiry;

    fn record(id: &str, etag: &str) -> Record {
        let state = RecordState {
            serial: 0,
            event: 1,
            flag: 1,
            expires_at: Moment::at(100),
            desired_until: Expiry::Never,
            cseq: 0,
            version: 0,
            row_state: RecordRowState::Insert,
        };
        Record::new(
            state,
            &[
                (RecordField::PresUri, b"sip:alice@host"),
                (RecordField::Id, id.as_bytes()),
                (RecordField::Etag, etag.as_bytes()),
            ],
        )
    }

    fn search(id: &'static [u8]) -> Search<'static> {
        Search {
            pres_uri: b"sip:alice@host",
            watcher_uri: b"",
            id,
            etag: None,
            remote_contact: b"",
            call_id: b"",
            event: 1,
            flag: 3,
            check_remote_contact: true,
        }
    }

    #[test]
    fn the_newest_match_is_found_and_rows_are_remembered() {
        let records = Records::new(7).unwrap();
        records.insert(&record("a", "1")).unwrap();
        records.insert(&record("b", "2")).unwrap();
        assert_eq!(records.find(&search(b"")).unwrap().get(RecordField::Etag), b"2");
        let a = records.find(&search(b"a")).unwrap();
        assert!(records.replace(&a, &a.with(&[(RecordField::Etag, b"3")])).unwrap());
        let changes = records.take_changes(Moment::at(0), Pass::Regular);
        assert!(matches!(changes[..], [RecordRowChange::Changed { .. }, RecordRowChange::Changed { .. }]));
        changes.iter().for_each(|change| assert!(!records.note_fate(change, RowOutcome::Written, Moment::at(0))));
        records.remove(&records.find(&search(b"a")).unwrap());
        assert!(records.find(&search(b"a")).is_none());
        assert!(!records.replace(&a, &a).unwrap());
        let ended = records.take_changes(Moment::at(0), Pass::Regular);
        assert!(matches!(&ended[..], [RecordRowChange::Ended(row)] if row.get(RecordField::Etag) == b"3"));
        records.note_fate(&ended[0], RowOutcome::Kept, Moment::at(0));
        records.end_removing();
        assert_eq!(
            records.take_changes(Moment::at(0), Pass::Regular).len(),
            1,
            "what could not be deleted is tried again"
        );
    }

    #[test]
    fn a_refused_row_rests_until_its_record_changes() {
        let records = Records::new(7).unwrap();
        records.insert(&record("a", "1")).unwrap();
        let changes = records.take_changes(Moment::at(10), Pass::Regular);
        assert!(records.note_fate(&changes[0], RowOutcome::Refused, Moment::at(10)));
        assert!(records.take_changes(Moment::at(20), Pass::Regular).is_empty());
        assert_eq!(records.refused(9).len(), 1);
        let last = records.take_changes(Moment::at(20), Pass::Last);
        let [RecordRowChange::Changed { record, .. }] = &last[..] else { panic!("one row is new") };
        assert_eq!(record.state.row_state, RecordRowState::Insert);
        assert!(!records.note_fate(&last[0], RowOutcome::Refused, Moment::at(20)), "it is named once");
        let a = records.find(&search(b"a")).unwrap();
        assert!(records.replace(&a, &a.with(&[(RecordField::Etag, b"2")])).unwrap());
        assert_eq!(records.take_changes(Moment::at(21), Pass::Regular).len(), 1);
    }

    #[test]
    fn a_record_removed_while_it_is_written_leaves_no_row() {
        for written in [true, false] {
            let records = Records::new(7).unwrap();
            records.insert(&record("a", "1")).unwrap();
            let changes = records.take_changes(Moment::at(0), Pass::Regular);
            records.note_fate(&changes[0], RowOutcome::Written, Moment::at(0));
            let a = records.find(&search(b"a")).unwrap();
            records.replace(&a, &a.with(&[(RecordField::Etag, b"2")])).unwrap();
            let changes = records.take_changes(Moment::at(0), Pass::Regular);
            assert!(
                matches!(&changes[..], [RecordRowChange::Changed { row_etag, .. }] if *row_etag == EntityTag::from("1"))
            );
            records.remove(&records.find(&search(b"a")).unwrap());
            let fate = if written { RowOutcome::Written } else { RowOutcome::Kept };
            records.note_fate(&changes[0], fate, Moment::at(0));
            let etag = |change: &RecordRowChange| match change {
                RecordRowChange::Ended(row) => row.get(RecordField::Etag).to_vec(),
                RecordRowChange::Changed { .. } => Vec::new(),
            };
            let ended: Vec<_> = records.take_changes(Moment::at(1), Pass::Regular).iter().map(etag).collect();
            let wanted: &[&[u8]] = if written { &[b"1", b"2"] } else { &[b"1"] };
            assert_eq!(ended, wanted);
        }
    }

    #[test]
    fn what_a_process_was_writing_when_it_ended_is_written_by_the_next_pass() {
        let records = Records::new(7).unwrap();
        for id in ["a", "b"] {
            records.insert(&record(id, "1")).unwrap();
        }
        let changes = records.take_changes(Moment::at(0), Pass::Regular);
        changes.iter().for_each(|change| assert!(!records.note_fate(change, RowOutcome::Written, Moment::at(0))));
        let (a, b) = (records.find(&search(b"a")).unwrap(), records.find(&search(b"b")).unwrap());
        records.remove(&a);
        records.replace(&b, &b.with(&[(RecordField::Etag, b"2")])).unwrap();
        for _ in 0..3 {
            // Nobody says what became of these.
            let changes = records.take_changes(Moment::at(1), Pass::Regular);
            let [RecordRowChange::Ended(row), RecordRowChange::Changed { record, row_etag }] = &changes[..] else {
                panic!("one has ended, one has changed: {changes:?}")
            };
            assert_eq!((row.get(RecordField::Id), record.get(RecordField::Etag)), (&b"a"[..], &b"2"[..]));
            assert_eq!(*row_etag, EntityTag::from("1"));
        }
        let changes = records.take_changes(Moment::at(2), Pass::Last);
        changes.iter().for_each(|change| assert!(!records.note_fate(change, RowOutcome::Written, Moment::at(2))));
        records.end_removing();
        assert!(records.take_changes(Moment::at(3), Pass::Last).is_empty());
    }

    #[test]
    fn what_could_not_be_written_is_written_as_what_it_was() {
        let records = Records::new(7).unwrap();
        records.insert(&record("a", "1")).unwrap();
        let changes = records.take_changes(Moment::at(0), Pass::Regular);
        let a = records.find(&search(b"a")).unwrap();
        records.replace(&a, &a.with(&[(RecordField::Etag, b"2")])).unwrap();
        records.note_fate(&changes[0], RowOutcome::Kept, Moment::at(0));
        let RecordRowChange::Changed { record: again, .. } = &records.take_changes(Moment::at(1), Pass::Regular)[0]
        else {
            panic!("not changed")
        };
        assert_eq!((again.state.row_state, again.get(RecordField::Etag)), (RecordRowState::Insert, b"2".as_slice()));
    }

    #[test]
    fn what_is_wanted_keeps_its_row_though_its_grant_is_over() {
        let at = |seconds| Expiry::At(Moment::at(seconds));
        for (desired_until, rows) in [(Expiry::Never, 1), (at(900), 1), (at(400), 0)] {
            let records = Records::new(7).unwrap();
            let mut late = record("a", "1");
            late.state.desired_until = desired_until;
            records.insert(&late).unwrap();
            assert_eq!(records.take_changes(Moment::at(500), Pass::Regular).len(), rows);
        }
    }

    #[test]
    fn without_memory_nothing_changes() {
        let records = Records::new(7).unwrap();
        let before = fake::live_blocks();
        let mut n = 0;
        loop {
            let (stored, failed) = fake::failing_at(n, || records.insert(&record("a", "1")));
            assert_eq!(fake::held_locks(), 0);
            if !failed {
                stored.unwrap();
                break;
            }
            assert!(stored.is_err() && records.find(&search(b"a")).is_none());
            n += 1;
        }
        assert!(n > 0);
        records.remove(&records.find(&search(b"a")).unwrap());
        // The table keeps the room it once needed.
        assert!(fake::live_blocks() <= before + 1);
    }
}
