//! Standings of watchers, kept in shared memory, so that the `watchers` table is not asked at each SUBSCRIBE.
use super::row_groups::Aside;
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
    /// When its row is tried again that could not be written.
    aside: Aside,
}

/// One part of what is known, and how many bytes it takes.
struct Shard {
    table: HashTable<Kept, Shm>,
    bytes: usize,
}

impl Shard {
    fn new() -> Shard {
        Shard { table: HashTable::new_in(Shm), bytes: 0 }
    }

    /// Takes one out that is known already.
    fn take(&mut self, hash: u64, is: impl FnMut(&Kept) -> bool) -> Option<Kept> {
        let kept = self.table.find_entry(hash, is).ok()?.remove().0;
        self.bytes -= kept.size();
        Some(kept)
    }

    /// Makes room by forgetting what was read longest ago, as far as a few of them show. What the table does not have yet is
    /// not forgotten. `false`: there is no room.
    fn make_room(&mut self, needed: usize, limit: usize, garbage: &mut Vec<Kept>) -> bool {
        while self.bytes + needed > limit {
            let old = self.table.iter().filter(|kept| kept.written).take(SAMPLE).min_by_key(|kept| kept.read_at);
            let Some((hash, bytes)) = old.map(|kept| (kept.hash, kept.bytes.as_ptr())) else { return false };
            garbage.extend(self.take(hash, |kept| kept.bytes.as_ptr() == bytes));
        }
        true
    }
}

/// Of so many the oldest is forgotten.
const SAMPLE: usize = 16;

/// All standings together take this share of the shared memory at most.
const SHARE: usize = 16;

/// Names that are longer together, in bytes, are not kept: the table is asked for them.
const LONGEST: usize = 1024;

/// The standings that are known.
pub struct Standings {
    shards: ShmVec<Lock<Shard>>,
    rule: UriRule,
    /// How many bytes each part may take.
    limit: usize,
}

/// Whose standing: presentity URI, watcher's user and host, event package.
pub type Key<'a> = [&'a [u8]; 4];

const SHARDS: usize = 64;

impl Standings {
    /// None is known; call before the processes fork.
    pub fn new(rule: UriRule) -> Result<Standings, NoMemory> {
        Standings::within(rule, shm::size() / SHARE)
    }

    /// The same, with at most so many bytes.
    fn within(rule: UriRule, bytes: usize) -> Result<Standings, NoMemory> {
        let mut shards = ShmVec::new_in(Shm);
        shards.try_reserve_exact(SHARDS).map_err(|_| NoMemory)?;
        (0..SHARDS).for_each(|_| shards.push(Lock::new(Shard::new())));
        Ok(Standings { shards, rule, limit: bytes / SHARDS })
    }

    fn shard(&self, hash: u64) -> &Lock<Shard> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// What is known, if it was read from the table after `since`.
    pub fn get(&self, key: &Key<'_>, since: i64) -> Option<Standing> {
        let hash = self.rule.exact_hash(key);
        let shard = self.shard(hash).lock();
        let kept =
            shard.table.find(hash, |kept| kept.is(hash, key)).filter(|kept| kept.read_at > since || !kept.written)?;
        Some(kept.standing())
    }

    /// Remembers a standing, as far as there is room for it. `written` says that the table has it; `add` is false where only
    /// what is known already is changed.
    pub fn put(&self, key: &Key<'_>, standing: &Standing, now: i64, written: bool, add: bool) {
        let hash = self.rule.exact_hash(key);
        let [presentity, user, host, event] = *key;
        let mut end = 0;
        let ends = key.map(|part| {
            end += part.len() as u32;
            end
        });
        let is_short = end as usize + standing.reason.len() <= LONGEST;
        let bytes = if is_short { shm::concat(&[presentity, user, host, event, &standing.reason]).ok() } else { None };
        let mut garbage = Vec::new();
        let mut shard = self.shard(hash).lock();
        let old = shard.take(hash, |kept| kept.is(hash, key));
        if let Some(bytes) = bytes.filter(|_| add || old.is_some()) {
            let aside = Aside::default();
            let fresh = Kept { hash, bytes, ends, status: standing.status, read_at: now, written, aside };
            let has_room = shard.make_room(fresh.size(), self.limit, &mut garbage);
            if has_room && shard.table.try_reserve(1, |kept| kept.hash).is_ok() {
                shard.bytes += fresh.size();
                shard.table.insert_unique(hash, fresh, |kept| kept.hash);
            } else {
                garbage.push(fresh);
            }
        }
        drop(shard);
        drop((old, garbage));
    }

    /// How many bytes all of them take.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    /// Standings that the table does not have yet, with their keys: at most `limit` of one part, see [`Standings::parts`].
    /// Those that rest are left out, see [`Aside::rests`].
    pub fn unwritten(&self, part: usize, limit: usize, now: i64, is_last: bool) -> Vec<([Vec<u8>; 4], Standing)> {
        let shard = self.shards[part].lock();
        let waits = |kept: &&Kept| !kept.written && !kept.aside.rests(now, is_last);
        shard.table.iter().filter(waits).take(limit).map(|kept| (kept.key(), kept.standing())).collect()
    }

    /// The table does not take this standing now; `true` when that was not known of it.
    pub fn set_aside(&self, key: &Key<'_>, aside: Aside) -> bool {
        let hash = self.rule.exact_hash(key);
        let mut shard = self.shard(hash).lock();
        let Some(kept) = shard.table.find_mut(hash, |kept| kept.is(hash, key)) else { return false };
        let was_refused = kept.aside.is_refused();
        if aside.is_refused() || !was_refused {
            kept.aside = aside;
        }
        !was_refused
    }

    /// Keys of standings whose rows the database has refused, at most `limit`.
    pub fn refused(&self, limit: usize) -> Vec<[Vec<u8>; 4]> {
        let mut found = Vec::new();
        for shard in self.shards.iter() {
            let shard = shard.lock();
            let refused = shard.table.iter().filter(|kept| !kept.written && kept.aside.is_refused());
            found.extend(refused.take(limit - found.len()).map(Kept::key));
            if found.len() >= limit {
                break;
            }
        }
        found
    }

    /// The table has this standing now; another one that was decided meanwhile still has to be written.
    pub fn mark_written(&self, key: &Key<'_>, standing: &Standing, now: i64) {
        let hash = self.rule.exact_hash(key);
        let mut shard = self.shard(hash).lock();
        if let Some(kept) =
            shard.table.find_mut(hash, |kept| kept.is(hash, key)).filter(|kept| kept.standing() == *standing)
        {
            (kept.written, kept.read_at, kept.aside) = (true, now, Aside::default());
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
            shard.table.retain(|kept| !kept.written || (kept.read_at > since && kept.status != Status::Pending));
            shard.bytes = shard.table.iter().map(Kept::size).sum();
            if shard.table.is_empty() {
                *shard = Shard::new();
            }
        }
    }
}

impl Kept {
    /// How many bytes it takes, about.
    fn size(&self) -> usize {
        self.bytes.len() + std::mem::size_of::<Kept>() + 16
    }

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
        let standings = Standings::within(RULE, 1 << 20).unwrap();
        assert_eq!(standings.get(&ALICE, 0), None);
        standings.put(&ALICE, &standing(Status::Pending, b""), 10, true, true);
        standings.put(&ALICE, &standing(Status::Active, b"polite-block"), 20, true, true);
        assert_eq!(standings.get(&ALICE, 0), Some(standing(Status::Active, b"polite-block")));
        assert_eq!(standings.get(&ALICE, 20), None);
        assert_eq!(standings.get(&[b"sip:alice@a", b"bo", b"bb", b"presence"], 0), None);
    }

    #[test]
    fn what_is_not_written_stays_until_it_is() {
        let standings = &Standings::within(RULE, 1 << 20).unwrap();
        standings.put(&ALICE, &standing(Status::Pending, b"r"), 10, false, true);
        standings.forget_old(100);
        assert_eq!(standings.get(&ALICE, 100), Some(standing(Status::Pending, b"r")));
        let unwritten =
            |limit| (0..standings.parts()).flat_map(move |part| standings.unwritten(part, limit, 100, false));
        let (key, kept) = unwritten(1).next().unwrap();
        assert_eq!((key.each_ref().map(Vec::as_slice), kept), (ALICE, standing(Status::Pending, b"r")));
        standings.mark_written(&ALICE, &standing(Status::Active, b""), 20);
        assert!(unwritten(1).next().is_some(), "another standing was written");
        standings.mark_written(&ALICE, &standing(Status::Pending, b"r"), 20);
        assert_eq!(unwritten(1).next(), None);
    }

    #[test]
    fn what_is_forgotten_is_given_back() {
        let standings = Standings::within(RULE, 1 << 20).unwrap();
        let before = fake::live_blocks();
        for watcher in 0..100 {
            let user = watcher.to_string();
            standings.put(
                &[b"sip:a@b", user.as_bytes(), b"c", b"presence"],
                &standing(Status::Active, b""),
                10,
                true,
                true,
            );
        }
        let all = fake::live_blocks();
        assert!(all > before);
        for watcher in 0..10 {
            let user = watcher.to_string();
            let key: Key<'_> = [b"sip:a@b", user.as_bytes(), b"c", b"presence"];
            standings.put(&key, &standing(Status::Active, b"polite-block"), 20, true, true);
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
            let standings = Standings::within(RULE, 1 << 20).unwrap();
            let (_, failed) =
                fake::failing_at(n, || standings.put(&ALICE, &standing(Status::Active, b""), 10, true, true));
            assert!(failed);
            assert_eq!(standings.get(&ALICE, 0), None);
            assert_eq!(fake::held_locks(), 0);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes() {
        let limit = 64 << 10;
        let standings = Standings::within(RULE, limit).unwrap();
        let user = |n: usize| format!("watcher-{n}");
        for n in 0..10_000 {
            let user = user(n);
            let key: Key<'_> = [b"sip:a@b", user.as_bytes(), b"c", b"presence"];
            standings.put(&key, &standing(Status::Active, b""), n as i64, true, true);
            assert!(standings.bytes() <= limit);
        }
        assert!(standings.bytes() > limit / 2);
        let known = |n: usize| standings.get(&[b"sip:a@b", user(n).as_bytes(), b"c", b"presence"], -1).is_some();
        assert!((9_990..10_000).filter(|n| known(*n)).count() >= 8, "the newest are known");
        assert!((0..1_000).filter(|n| known(*n)).count() < 100, "the oldest are not");
        let long = vec![b'x'; 6_000];
        standings.put(&[b"sip:a@b", &long, b"c", b"presence"], &standing(Status::Active, b""), 1, true, true);
        assert_eq!(standings.get(&[b"sip:a@b", &long, b"c", b"presence"], -1), None);
    }

    #[test]
    fn what_is_not_written_is_not_pushed_out() {
        let standings = Standings::within(RULE, 64 << 10).unwrap();
        standings.put(&ALICE, &standing(Status::Pending, b""), 0, false, true);
        for n in 0..10_000 {
            let user = n.to_string();
            standings.put(&[b"sip:a@b", user.as_bytes(), b"c", b"e"], &standing(Status::Active, b""), 9, true, true);
        }
        assert_eq!(standings.get(&ALICE, -1), Some(standing(Status::Pending, b"")));
    }

    #[test]
    fn a_poll_changes_what_is_known_and_adds_nothing() {
        let standings = Standings::within(RULE, 64 << 10).unwrap();
        standings.put(&ALICE, &standing(Status::Active, b""), 1, true, false);
        assert_eq!((standings.get(&ALICE, 0), standings.bytes()), (None, 0));
        standings.put(&ALICE, &standing(Status::Pending, b""), 1, true, true);
        standings.put(&ALICE, &standing(Status::Active, b""), 2, true, false);
        assert_eq!(standings.get(&ALICE, 0), Some(standing(Status::Active, b"")));
    }
}
