//! Authorizations of watchers, kept in shared memory, so that the `watchers` table is not asked at each SUBSCRIBE.
pub mod owed_rows;

use crate::common::row_groups::RowBackoff;
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::process_mutex::ProcessMutex;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::authorization::Authorization;
use crate::presence::resource::UriComparison;
use crate::presence::subscription::Status;
use crate::shm_safe::shm_safe;
use crate::sip::packed::Strings;
use crate::time::Moment;
use hashbrown::HashTable;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Whether the table has an authorization as memory has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOf {
    /// The table has it.
    Written,
    /// The row is still to be written: it is the first decision that this server knows of.
    Owed,
    /// The same, for a decision that a row which says otherwise is older than.
    Outdated,
}

/// Whether an authorization that is not known yet is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The authorization gets a place.
    Made,
    /// Only what is known already is changed.
    None,
}

/// The place of the reason behind the parts of the key.
const REASON: usize = 4;

/// What is known of one watcher of one presentity.
struct CachedAuthorization {
    hash: u64,
    /// The parts of the key and the reason.
    strings: Strings<4, ShmBox<[u8]>>,
    status: Status,
    read_at: Moment,
    row: WatcherRowState,
    /// Where it stands among those that wait for their rows: by when it began to.
    turn: u32,
    /// When its row is tried again that could not be written.
    aside: RowBackoff,
}

shm_safe!(CachedAuthorization { hash, strings, status, read_at, row, turn, aside });

/// What the table has of an authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatcherRowState {
    /// The table has the same.
    Written,
    /// The table does not have this one yet.
    Owed(OwedState),
}

shm_safe!(
    enum WatcherRowState {
        Written,
        Owed(owed),
    }
);

/// How an authorization that the table does not have yet is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwedState {
    /// Whether it is another one than that which began to wait for its row.
    has_changed: bool,
    /// Whether a row that says otherwise is older.
    writes_over: bool,
}

shm_safe!(OwedState { has_changed, writes_over });

/// One part of what is known, and how many bytes it takes.
struct CacheShard {
    table: HashTable<CachedAuthorization, Shm>,
    bytes: usize,
    /// Counts what was put.
    puts: u64,
    /// The hashes of those that the table does not have yet, the oldest first as long as they are written in order.
    owed: ShmVec<u64>,
}

shm_safe!(CacheShard { table, bytes, puts, owed });

impl CacheShard {
    fn new() -> CacheShard {
        CacheShard { table: HashTable::new_in(Shm), bytes: 0, puts: 0, owed: ShmVec::new_in(Shm) }
    }

    /// Takes one out that is known already.
    fn take(&mut self, hash: u64, is: impl FnMut(&CachedAuthorization) -> bool) -> Option<CachedAuthorization> {
        let cached = self.table.find_entry(hash, is).ok()?.remove().0;
        self.bytes -= cached.size();
        Some(cached)
    }

    /// Puts one in; given back where there is no memory for it.
    fn insert(&mut self, fresh: CachedAuthorization) -> Result<(), CachedAuthorization> {
        let has_room = self.table.try_reserve(1, |cached| cached.hash).is_ok()
            && (fresh.is_written() || self.owed.try_reserve(1).is_ok());
        if !has_room {
            return Err(fresh);
        }
        if !fresh.is_written() {
            self.owed.push(fresh.hash);
        }
        self.bytes += fresh.size();
        self.table.insert_unique(fresh.hash, fresh, |cached| cached.hash);
        Ok(())
    }

    /// One with this hash is not owed to the table any more.
    fn settle(&mut self, hash: u64) {
        if let Some(at) = self.owed.iter().position(|owed| *owed == hash) {
            self.owed.remove(at);
        }
    }

    /// Returns the decisions that the table does not have yet.
    fn unwritten(&self) -> impl Iterator<Item = &CachedAuthorization> {
        self.owed
            .iter()
            .filter_map(|owed| self.table.find(*owed, |cached| cached.hash == *owed && !cached.is_written()))
    }

    /// Makes room by forgetting what was read longest ago, as far as a few of them show. What the table does not have
    /// yet is not forgotten. `false`: there is no room.
    fn make_room(&mut self, needed: usize, limit: usize, freed_unlocked: &mut Vec<CachedAuthorization>) -> bool {
        while self.bytes + needed > limit {
            let old =
                self.table.iter().filter(|cached| cached.is_written()).take(SAMPLE).min_by_key(|cached| cached.read_at);
            let Some((hash, place)) = old.map(|cached| (cached.hash, cached.strings.get(0).as_ptr())) else {
                return false;
            };
            freed_unlocked.extend(self.take(hash, |cached| cached.strings.get(0).as_ptr() == place));
        }
        true
    }
}

/// When this many are kept, the oldest is forgotten.
const SAMPLE: usize = 16;

/// All authorizations together take this share of the shared memory at most.
const SHARE: usize = 16;

/// Names that are longer together, in bytes, are not kept: the table is asked for them.
const LONGEST: usize = 1024;

/// The authorizations that are known.
pub struct AuthorizationCache {
    shards: ShmVec<Lock<CacheShard>>,
    rule: UriComparison,
    /// How many bytes each part may take.
    limit: usize,
    /// How many the table does not have yet.
    owed: &'static AtomicUsize,
    /// Counts those that began to wait for their rows.
    turns: &'static AtomicU32,
    /// One process at a time writes those: an older authorization must not follow a newer one.
    writer: &'static ProcessMutex,
}

/// Whose authorization it is, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuthorizationKey<'a> {
    /// The URI of the presentity.
    pub presentity: &'a [u8],
    /// The user part of the watcher's URI.
    pub watcher_user: &'a [u8],
    /// The host of the watcher's URI.
    pub watcher_domain: &'a [u8],
    /// The event package.
    pub event: &'a [u8],
}

impl<'a> AuthorizationKey<'a> {
    /// The parts, in the order in which they are stored.
    fn parts(&self) -> [&'a [u8]; 4] {
        [self.presentity, self.watcher_user, self.watcher_domain, self.event]
    }
}

/// The same with strings of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnAuthorizationKey {
    /// The URI of the presentity.
    pub presentity: Vec<u8>,
    /// The user part of the watcher's URI.
    pub watcher_user: Vec<u8>,
    /// The host of the watcher's URI.
    pub watcher_domain: Vec<u8>,
    /// The event package.
    pub event: Vec<u8>,
}

impl OwnAuthorizationKey {
    /// The key, lent.
    pub fn lent(&self) -> AuthorizationKey<'_> {
        let OwnAuthorizationKey { presentity, watcher_user, watcher_domain, event } = self;
        AuthorizationKey { presentity, watcher_user, watcher_domain, event }
    }
}

const SHARDS: usize = 64;

impl AuthorizationCache {
    /// None is known; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(rule: UriComparison) -> Result<AuthorizationCache, NoMemory> {
        AuthorizationCache::within(rule, shm::size() / SHARE)
    }

    /// The same, with at most `bytes`.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub(crate) fn within(rule: UriComparison, bytes: usize) -> Result<AuthorizationCache, NoMemory> {
        let mut shards = ShmVec::new_in(Shm);
        shards.try_reserve_exact(SHARDS).map_err(|_| NoMemory)?;
        (0..SHARDS).for_each(|_| shards.push(Lock::new(CacheShard::new())));
        let (owed, turns) = (shm::leak(AtomicUsize::new(0))?, shm::leak(AtomicU32::new(0))?);
        let writer = ProcessMutex::leak()?;
        Ok(AuthorizationCache { shards, rule, limit: bytes / SHARDS, owed, turns, writer })
    }

    fn shard(&self, hash: u64) -> &Lock<CacheShard> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// What is known, if it was read from the table after `since`.
    pub fn get(&self, key: &AuthorizationKey<'_>, since: Moment) -> Option<Authorization> {
        let hash = self.rule.exact_hash(&key.parts());
        let shard = self.shard(hash).lock();
        let cached = shard
            .table
            .find(hash, |cached| cached.is(hash, key))
            .filter(|cached| cached.read_at > since || !cached.is_written())?;
        Some(cached.authorization())
    }

    /// Counts what is put near this key: what is read from the table after the count is remembered by
    /// [`AuthorizationCache::put_as_read`].
    pub fn puts(&self, key: &AuthorizationKey<'_>) -> u64 {
        self.shard(self.rule.exact_hash(&key.parts())).lock().puts
    }

    /// Remembers what was read from the table, unless something was put since the count was `puts`: that may be newer.
    pub fn put_as_read(
        &self,
        key: &AuthorizationKey<'_>,
        authorization: &Authorization,
        now: Moment,
        room: Room,
        puts: u64,
    ) {
        self.put_if(key, authorization, now, (RowOf::Written, room), |shard| shard.puts == puts);
    }

    /// Remembers an authorization, as far as there is room for it; whether there was.
    pub fn put(
        &self,
        key: &AuthorizationKey<'_>,
        authorization: &Authorization,
        now: Moment,
        row: RowOf,
        room: Room,
    ) -> bool {
        self.put_if(key, authorization, now, (row, room), |_| true)
    }

    fn put_if(
        &self,
        key: &AuthorizationKey<'_>,
        authorization: &Authorization,
        now: Moment,
        (row, room): (RowOf, Room),
        wanted: impl FnOnce(&CacheShard) -> bool,
    ) -> bool {
        let hash = self.rule.exact_hash(&key.parts());
        let [presentity, user, host, event] = key.parts();
        let strings = [presentity, user, host, event, &authorization.reason];
        let is_short = strings.iter().map(|string| string.len()).sum::<usize>() <= LONGEST;
        let strings = if is_short { Strings::joined(&strings, shm::concat).ok() } else { None };
        let mut freed_unlocked = Vec::new();
        let mut shard = self.shard(hash).lock();
        if !wanted(&shard) {
            return false;
        }
        shard.puts = shard.puts.wrapping_add(1);
        let old = shard.take(hash, |cached| cached.is(hash, key));
        let owed_before = shard.owed.len();
        let waiting = old.as_ref().and_then(|old| Some((old, old.owed()?)));
        if waiting.is_some() {
            shard.settle(hash);
        }
        let mut kept = false;
        if let Some(strings) = strings.filter(|_| room == Room::Made || old.is_some()) {
            let is_another = waiting.is_some_and(|(old, _)| old.authorization() != *authorization);
            let owed = || OwedState {
                has_changed: is_another || waiting.is_some_and(|(_, owed)| owed.has_changed),
                writes_over: is_another || row == RowOf::Outdated || waiting.is_some_and(|(_, owed)| owed.writes_over),
            };
            let fresh = CachedAuthorization {
                hash,
                strings,
                status: authorization.status,
                read_at: now,
                row: if row == RowOf::Written { WatcherRowState::Written } else { WatcherRowState::Owed(owed()) },
                turn: waiting.map_or_else(|| self.turns.fetch_add(1, Ordering::Relaxed), |(old, _)| old.turn),
                aside: RowBackoff::default(),
            };
            let has_room = shard.make_room(fresh.size(), self.limit, &mut freed_unlocked);
            let put = if has_room { shard.insert(fresh) } else { Err(fresh) };
            kept = put.is_ok();
            freed_unlocked.extend(put.err());
        }
        self.count_owed(owed_before, shard.owed.len());
        drop(shard);
        drop((old, freed_unlocked));
        kept
    }

    fn count_owed(&self, before: usize, after: usize) {
        if before != after {
            self.owed.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// How many bytes all of them take.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    /// Forgets what was read before `since`, and watchers that nobody has decided about: their rows are cleaned.
    pub fn forget_old(&self, since: Moment) {
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            shard
                .table
                .retain(|cached| !cached.is_written() || (cached.read_at > since && cached.status != Status::Pending));
            shard.bytes = shard.table.iter().map(CachedAuthorization::size).sum();
            if shard.table.is_empty() {
                *shard = CacheShard { puts: shard.puts, ..CacheShard::new() };
            }
        }
    }
}

impl CachedAuthorization {
    fn is_written(&self) -> bool {
        self.row == WatcherRowState::Written
    }

    /// How it is to be written, unless the table has it.
    fn owed(&self) -> Option<OwedState> {
        match self.row {
            WatcherRowState::Written => None,
            WatcherRowState::Owed(owed) => Some(owed),
        }
    }

    /// How many bytes it takes, about.
    fn size(&self) -> usize {
        self.strings.len() + std::mem::size_of::<CachedAuthorization>() + 16
    }

    fn key(&self) -> OwnAuthorizationKey {
        let [presentity, watcher_user, watcher_domain, event] =
            std::array::from_fn(|part| self.strings.get(part).to_vec());
        OwnAuthorizationKey { presentity, watcher_user, watcher_domain, event }
    }

    fn authorization(&self) -> Authorization {
        Authorization { status: self.status, reason: self.strings.get(REASON).to_vec() }
    }

    fn is(&self, hash: u64, key: &AuthorizationKey<'_>) -> bool {
        self.hash == hash && key.parts().iter().enumerate().all(|(part, text)| self.strings.get(part) == *text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    pub(super) const RULE: UriComparison = UriComparison { ignore_case: false, seed: 7 };
    pub(super) const ALICE: AuthorizationKey<'static> =
        AuthorizationKey { watcher_user: b"bob", watcher_domain: b"b", ..key(b"sip:alice@a", b"") };

    /// The key of a watcher at host `c`.
    pub(super) const fn key<'a>(presentity: &'a [u8], watcher_user: &'a [u8]) -> AuthorizationKey<'a> {
        AuthorizationKey { presentity, watcher_user, watcher_domain: b"c", event: b"presence" }
    }

    pub(super) fn authorization(status: Status, reason: &[u8]) -> Authorization {
        Authorization { status, reason: reason.to_vec() }
    }

    /// Puts what is in the table, too.
    fn remember(cache: &AuthorizationCache, key: &AuthorizationKey<'_>, authorization: &Authorization, at: i64) {
        cache.put(key, authorization, Moment::at(at), RowOf::Written, Room::Made);
    }

    #[test]
    fn the_last_word_counts_until_it_is_old() {
        let authorizations = AuthorizationCache::within(RULE, 1 << 20).unwrap();
        assert_eq!(authorizations.get(&ALICE, Moment::at(0)), None);
        remember(&authorizations, &ALICE, &authorization(Status::Pending, b""), 10);
        remember(&authorizations, &ALICE, &authorization(Status::Active, b"polite-block"), 20);
        assert_eq!(authorizations.get(&ALICE, Moment::at(0)), Some(authorization(Status::Active, b"polite-block")));
        assert_eq!(authorizations.get(&ALICE, Moment::at(20)), None);
        assert_eq!(
            authorizations
                .get(&AuthorizationKey { watcher_user: b"bo", watcher_domain: b"bb", ..ALICE }, Moment::at(0)),
            None
        );
    }

    #[test]
    fn what_was_read_before_something_newer_was_put_is_not_remembered() {
        let authorizations = AuthorizationCache::within(RULE, 1 << 20).unwrap();
        let (old, new) = (authorization(Status::Active, b""), authorization(Status::Terminated, b"rejected"));
        let puts = authorizations.puts(&ALICE);
        remember(&authorizations, &ALICE, &new, 10);
        authorizations.put_as_read(&ALICE, &old, Moment::at(11), Room::Made, puts);
        assert_eq!(authorizations.get(&ALICE, Moment::at(0)), Some(new));
        authorizations.put_as_read(&ALICE, &old, Moment::at(12), Room::Made, authorizations.puts(&ALICE));
        assert_eq!(authorizations.get(&ALICE, Moment::at(0)), Some(old));
    }

    #[test]
    fn what_is_forgotten_is_given_back() {
        let authorizations = AuthorizationCache::within(RULE, 1 << 20).unwrap();
        let before = fake::live_blocks();
        for watcher in 0..100 {
            let user = watcher.to_string();
            remember(&authorizations, &key(b"sip:a@b", user.as_bytes()), &authorization(Status::Active, b""), 10);
        }
        let all = fake::live_blocks();
        assert!(all > before);
        for watcher in 0..10 {
            let user = watcher.to_string();
            let key = key(b"sip:a@b", user.as_bytes());
            remember(&authorizations, &key, &authorization(Status::Active, b"polite-block"), 20);
        }
        authorizations.forget_old(Moment::at(10));
        for watcher in 0..100 {
            let user = watcher.to_string();
            let known = authorizations.get(&key(b"sip:a@b", user.as_bytes()), Moment::at(0));
            assert_eq!(known, (watcher < 10).then(|| authorization(Status::Active, b"polite-block")));
        }
        authorizations.forget_old(Moment::at(20));
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_nothing_is_remembered() {
        for n in 0..2 {
            let authorizations = AuthorizationCache::within(RULE, 1 << 20).unwrap();
            let (_, failed) = fake::failing_at(n, || {
                authorizations.put(
                    &ALICE,
                    &authorization(Status::Active, b""),
                    Moment::at(10),
                    RowOf::Written,
                    Room::Made,
                )
            });
            assert!(failed);
            assert_eq!(authorizations.get(&ALICE, Moment::at(0)), None);
            assert_eq!(fake::held_locks(), 0);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes() {
        let limit = 64 << 10;
        let authorizations = AuthorizationCache::within(RULE, limit).unwrap();
        let user = |n: usize| format!("watcher-{n}");
        for n in 0..10_000 {
            let user = user(n);
            let key = key(b"sip:a@b", user.as_bytes());
            authorizations.put(
                &key,
                &authorization(Status::Active, b""),
                Moment::at(n as i64),
                RowOf::Written,
                Room::Made,
            );
            assert!(authorizations.bytes() <= limit);
        }
        assert!(authorizations.bytes() > limit / 2);
        let known = |n: usize| authorizations.get(&key(b"sip:a@b", user(n).as_bytes()), Moment::at(-1)).is_some();
        assert!((9_990..10_000).filter(|n| known(*n)).count() >= 8, "the newest are known");
        assert!((0..1_000).filter(|n| known(*n)).count() < 100, "the oldest are not");
        let long = vec![b'x'; 6_000];
        remember(&authorizations, &key(b"sip:a@b", &long), &authorization(Status::Active, b""), 1);
        assert_eq!(authorizations.get(&key(b"sip:a@b", &long), Moment::at(-1)), None);
    }

    #[test]
    fn what_is_not_written_is_not_pushed_out() {
        let authorizations = AuthorizationCache::within(RULE, 64 << 10).unwrap();
        authorizations.put(&ALICE, &authorization(Status::Pending, b""), Moment::at(0), RowOf::Owed, Room::Made);
        for n in 0..10_000 {
            let user = n.to_string();
            remember(&authorizations, &key(b"sip:a@b", user.as_bytes()), &authorization(Status::Active, b""), 9);
        }
        assert_eq!(authorizations.get(&ALICE, Moment::at(-1)), Some(authorization(Status::Pending, b"")));
    }

    #[test]
    fn a_poll_changes_what_is_known_and_adds_nothing() {
        let authorizations = AuthorizationCache::within(RULE, 64 << 10).unwrap();
        authorizations.put(&ALICE, &authorization(Status::Active, b""), Moment::at(1), RowOf::Written, Room::None);
        assert_eq!((authorizations.get(&ALICE, Moment::at(0)), authorizations.bytes()), (None, 0));
        remember(&authorizations, &ALICE, &authorization(Status::Pending, b""), 1);
        authorizations.put(&ALICE, &authorization(Status::Active, b""), Moment::at(2), RowOf::Written, Room::None);
        assert_eq!(authorizations.get(&ALICE, Moment::at(0)), Some(authorization(Status::Active, b"")));
    }
}
