//! Standings of watchers, kept in shared memory, so that the `watchers` table is not asked at each SUBSCRIBE.
use crate::host::shm::{NoMemory, Shm, ShmVec};
use crate::host::sync::Lock;
use crate::presence::ports::Standing;
use crate::presence::resource::UriRule;
use crate::presence::subscription::Status;
use hashbrown::HashTable;

/// What is known of one watcher of one presentity.
struct Kept {
    hash: u64,
    read_at: i64,
    /// Where its text begins.
    start: u32,
    /// Where the parts of the key and the reason end, counted from there.
    ends: [u16; 5],
    status: Status,
    /// Whether the table says the same.
    written: bool,
}

/// One part of what is known, under one lock. The texts of all lie in one block: blocks of their own would lie between those of
/// transactions, and leave the host's memory in pieces.
struct Shard {
    entries: HashTable<Kept, Shm>,
    text: ShmVec<u8>,
}

/// The standings that are known.
pub struct Standings {
    shards: ShmVec<Lock<Shard>>,
    rule: UriRule,
}

/// Whose standing: presentity URI, watcher's user and host, event package.
pub type Key<'a> = [&'a [u8]; 4];

const SHARDS: usize = 64;

impl Standings {
    /// None is known; call before the processes fork.
    pub fn new(rule: UriRule) -> Result<Standings, NoMemory> {
        let mut shards = ShmVec::new_in(Shm);
        shards.try_reserve_exact(SHARDS).map_err(|_| NoMemory)?;
        (0..SHARDS).for_each(|_| shards.push(Lock::new(Shard::new())));
        Ok(Standings { shards, rule })
    }

    fn shard(&self, hash: u64) -> &Lock<Shard> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// What is known, if it was read from the table after `since`.
    pub fn get(&self, key: &Key<'_>, since: i64) -> Option<Standing> {
        let hash = self.rule.exact_hash(key);
        let mut shard = self.shard(hash).lock();
        let (kept, text) = shard.find(hash, key)?;
        (kept.read_at > since || !kept.written).then(|| kept.standing(text))
    }

    /// Remembers a standing; without memory it is not remembered. `written` says that the table has it.
    pub fn put(&self, key: &Key<'_>, standing: &Standing, now: i64, written: bool) {
        let hash = self.rule.exact_hash(key);
        let mut shard = self.shard(hash).lock();
        if shard.put(hash, key, standing, now, written).is_err() {
            // What is known is not true any more.
            shard.remove(hash, key);
        }
    }

    /// Standings that the table does not have yet, with their keys: at most `limit` of one part, see [`Standings::parts`].
    pub fn unwritten(&self, part: usize, limit: usize) -> Vec<([Vec<u8>; 4], Standing)> {
        let shard = self.shards[part].lock();
        let missing = shard.entries.iter().filter(|kept| !kept.written).take(limit);
        missing.map(|kept| (kept.key(&shard.text), kept.standing(&shard.text))).collect()
    }

    /// The table has this standing now; another one that was decided meanwhile still has to be written.
    pub fn mark_written(&self, key: &Key<'_>, standing: &Standing, now: i64) {
        let hash = self.rule.exact_hash(key);
        let mut shard = self.shard(hash).lock();
        if let Some((kept, _)) = shard.find(hash, key).filter(|(kept, text)| kept.standing(text) == *standing) {
            (kept.written, kept.read_at) = (true, now);
        }
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.shards.len()
    }

    /// Forgets what was read before `since`, and watchers that nobody has decided about: their rows are cleaned.
    pub fn forget_old(&self, since: i64) {
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            shard.entries.retain(|kept| !kept.written || (kept.read_at > since && kept.status != Status::Pending));
            shard.tidy();
        }
    }
}

impl Shard {
    fn new() -> Shard {
        Shard { entries: HashTable::new_in(Shm), text: ShmVec::new_in(Shm) }
    }

    fn find(&mut self, hash: u64, key: &Key<'_>) -> Option<(&mut Kept, &[u8])> {
        let text = &self.text;
        let kept = self.entries.find_mut(hash, |kept| kept.is(hash, key, text))?;
        Some((kept, text))
    }

    fn remove(&mut self, hash: u64, key: &Key<'_>) {
        let text = &self.text;
        if let Ok(entry) = self.entries.find_entry(hash, |kept| kept.is(hash, key, text)) {
            entry.remove();
        }
    }

    fn put(&mut self, hash: u64, key: &Key<'_>, standing: &Standing, now: i64, written: bool) -> Result<(), NoMemory> {
        if let Some((kept, _)) = self.find(hash, key).filter(|(kept, text)| kept.reason(text) == standing.reason) {
            (kept.status, kept.read_at, kept.written) = (standing.status, now, written);
            return Ok(());
        }
        self.remove(hash, key);
        let parts = [key[0], key[1], key[2], key[3], &standing.reason];
        let start = u32::try_from(self.text.len()).map_err(|_| NoMemory)?;
        let mut ends = [0; 5];
        let mut end = 0;
        for (part, slot) in parts.iter().zip(&mut ends) {
            end += part.len();
            *slot = u16::try_from(end).map_err(|_| NoMemory)?;
        }
        self.entries.try_reserve(1, |kept| kept.hash).map_err(|_| NoMemory)?;
        self.text.try_reserve(end).map_err(|_| NoMemory)?;
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
        let fresh = Kept { hash, read_at: now, start, ends, status: standing.status, written };
        self.entries.insert_unique(hash, fresh, |kept| kept.hash);
        Ok(())
    }

    /// Gives back what the texts of the forgotten took.
    fn tidy(&mut self) {
        if self.entries.is_empty() {
            *self = Shard::new();
            return;
        }
        let live: usize = self.entries.iter().map(|kept| usize::from(kept.ends[4])).sum();
        let mut text = ShmVec::new_in(Shm);
        if 2 * live > self.text.len() || text.try_reserve_exact(live).is_err() {
            return;
        }
        for kept in self.entries.iter_mut() {
            let start = text.len() as u32;
            text.extend_from_slice(kept.text(&self.text));
            kept.start = start;
        }
        self.text = text;
    }
}

impl Kept {
    /// The parts of the key and the reason, one after the other.
    fn text<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        &text[self.start as usize..][..usize::from(self.ends[4])]
    }

    fn part<'t>(&self, text: &'t [u8], index: usize) -> &'t [u8] {
        let start = if index == 0 { 0 } else { usize::from(self.ends[index - 1]) };
        &self.text(text)[start..usize::from(self.ends[index])]
    }

    fn key(&self, text: &[u8]) -> [Vec<u8>; 4] {
        [0, 1, 2, 3].map(|index| self.part(text, index).to_vec())
    }

    fn reason<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        self.part(text, 4)
    }

    fn standing(&self, text: &[u8]) -> Standing {
        Standing { status: self.status, reason: self.reason(text).to_vec() }
    }

    fn is(&self, hash: u64, key: &Key<'_>, text: &[u8]) -> bool {
        self.hash == hash && key.iter().enumerate().all(|(index, part)| self.part(text, index) == *part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    const RULE: UriRule = UriRule { ignore_case: false, seed: 7 };
    const ALICE: Key<'static> = [b"sip:alice@a", b"bob", b"b", b"presence"];

    fn standing(status: Status, reason: &[u8]) -> Standing {
        Standing { status, reason: reason.to_vec() }
    }

    #[test]
    fn the_last_word_counts_until_it_is_old() {
        let standings = Standings::new(RULE).unwrap();
        assert_eq!(standings.get(&ALICE, 0), None);
        standings.put(&ALICE, &standing(Status::Pending, b""), 10, true);
        standings.put(&ALICE, &standing(Status::Active, b"polite-block"), 20, true);
        assert_eq!(standings.get(&ALICE, 0), Some(standing(Status::Active, b"polite-block")));
        assert_eq!(standings.get(&ALICE, 20), None);
        assert_eq!(standings.get(&[b"sip:alice@a", b"bo", b"bb", b"presence"], 0), None);
    }

    #[test]
    fn what_is_not_written_stays_until_it_is() {
        let standings = &Standings::new(RULE).unwrap();
        standings.put(&ALICE, &standing(Status::Pending, b"r"), 10, false);
        standings.forget_old(100);
        assert_eq!(standings.get(&ALICE, 100), Some(standing(Status::Pending, b"r")));
        let unwritten = |limit| (0..standings.parts()).flat_map(move |part| standings.unwritten(part, limit));
        let (key, kept) = unwritten(1).next().unwrap();
        assert_eq!((key.each_ref().map(Vec::as_slice), kept), (ALICE, standing(Status::Pending, b"r")));
        standings.mark_written(&ALICE, &standing(Status::Active, b""), 20);
        assert!(unwritten(1).next().is_some(), "another standing was written");
        standings.mark_written(&ALICE, &standing(Status::Pending, b"r"), 20);
        assert_eq!(unwritten(1).next(), None);
    }

    #[test]
    fn what_is_forgotten_is_given_back() {
        let standings = Standings::new(RULE).unwrap();
        let before = fake::live_blocks();
        for watcher in 0..100 {
            let user = watcher.to_string();
            standings.put(&[b"sip:a@b", user.as_bytes(), b"c", b"presence"], &standing(Status::Active, b""), 10, true);
        }
        let all = fake::live_blocks();
        assert!(all > before);
        for watcher in 0..10 {
            let user = watcher.to_string();
            let key: Key<'_> = [b"sip:a@b", user.as_bytes(), b"c", b"presence"];
            standings.put(&key, &standing(Status::Active, b"polite-block"), 20, true);
        }
        standings.forget_old(10);
        for watcher in 0..100 {
            let user = watcher.to_string();
            let known = standings.get(&[b"sip:a@b", user.as_bytes(), b"c", b"presence"], 0);
            assert_eq!(known, (watcher < 10).then(|| standing(Status::Active, b"polite-block")));
        }
        standings.forget_old(20);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_nothing_is_remembered() {
        for n in 0..2 {
            let standings = Standings::new(RULE).unwrap();
            let (_, failed) = fake::failing_at(n, || standings.put(&ALICE, &standing(Status::Active, b""), 10, true));
            assert!(failed);
            assert_eq!(standings.get(&ALICE, 0), None);
            assert_eq!(fake::held_locks(), 0);
        }
    }
}
