//! Standings of watchers, kept in shared memory, so that the `watchers` table is not asked at each SUBSCRIBE.
use crate::host::shm::{self, NoMemory, Shm, ShmBox, ShmVec};
use crate::host::sync::Lock;
use crate::presence::ports::Standing;
use crate::presence::resource::UriRule;
use crate::presence::subscription::Status;
use hashbrown::HashTable;

/// What is known of one watcher of one presentity.
struct Kept {
    hash: u64,
    /// The parts of the key and the reason, one after the other.
    bytes: ShmBox<[u8]>,
    /// Where each part of the key ends.
    ends: [u32; 4],
    status: Status,
    read_at: i64,
    /// Whether the table says the same.
    written: bool,
}

type Shard = HashTable<Kept, Shm>;

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
        (0..SHARDS).for_each(|_| shards.push(Lock::new(HashTable::new_in(Shm))));
        Ok(Standings { shards, rule })
    }

    fn shard(&self, hash: u64) -> &Lock<Shard> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// What is known, if it was read from the table after `since`.
    pub fn get(&self, key: &Key<'_>, since: i64) -> Option<Standing> {
        let hash = self.rule.exact_hash(key);
        let shard = self.shard(hash).lock();
        let kept = shard.find(hash, |kept| kept.is(hash, key)).filter(|kept| kept.read_at > since || !kept.written)?;
        Some(kept.standing())
    }

    /// Remembers a standing; without memory it is not remembered. `written` says that the table has it.
    pub fn put(&self, key: &Key<'_>, standing: &Standing, now: i64, written: bool) {
        let hash = self.rule.exact_hash(key);
        let [presentity, user, host, event] = *key;
        let mut end = 0;
        let ends = key.map(|part| {
            end += part.len() as u32;
            end
        });
        let bytes = shm::concat(&[presentity, user, host, event, &standing.reason]);
        let mut shard = self.shard(hash).lock();
        let old = shard.find_entry(hash, |kept| kept.is(hash, key)).ok().map(|entry| entry.remove().0);
        if let (Ok(bytes), Ok(())) = (bytes, shard.try_reserve(1, |kept| kept.hash)) {
            let fresh = Kept { hash, bytes, ends, status: standing.status, read_at: now, written };
            shard.insert_unique(hash, fresh, |kept| kept.hash);
        }
        drop(shard);
        drop(old);
    }

    /// Standings that the table does not have yet, with their keys: at most `limit` of one part, see [`Standings::parts`].
    pub fn unwritten(&self, part: usize, limit: usize) -> Vec<([Vec<u8>; 4], Standing)> {
        let shard = self.shards[part].lock();
        shard.iter().filter(|kept| !kept.written).take(limit).map(|kept| (kept.key(), kept.standing())).collect()
    }

    /// The table has this standing now; another one that was decided meanwhile still has to be written.
    pub fn mark_written(&self, key: &Key<'_>, standing: &Standing, now: i64) {
        let hash = self.rule.exact_hash(key);
        let mut shard = self.shard(hash).lock();
        if let Some(kept) = shard.find_mut(hash, |kept| kept.is(hash, key)).filter(|kept| kept.standing() == *standing)
        {
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
            shard.retain(|kept| !kept.written || (kept.read_at > since && kept.status != Status::Pending));
            if shard.is_empty() {
                *shard = HashTable::new_in(Shm);
            }
        }
    }
}

impl Kept {
    fn key(&self) -> [Vec<u8>; 4] {
        let mut start = 0;
        self.ends.map(|end| {
            let part = self.bytes[start..end as usize].to_vec();
            start = end as usize;
            part
        })
    }

    fn standing(&self) -> Standing {
        Standing { status: self.status, reason: self.bytes[self.ends[3] as usize..].to_vec() }
    }

    fn is(&self, hash: u64, key: &Key<'_>) -> bool {
        let mut rest = &self.bytes[..self.ends[3] as usize];
        self.hash == hash
            && key.iter().all(|part| match rest.strip_prefix(*part) {
                Some(after) => {
                    rest = after;
                    true
                }
                None => false,
            })
            && rest.is_empty()
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
