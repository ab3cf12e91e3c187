//! The resources whose state could not be read when their watchers were to be notified: the documents, or the rules
//! that say who may see them. The timer tries them again, each after a pause of its own that grows with each try: a try
//! costs the database a statement, and the log a line of the event package.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::server::tables::Tables;
use crate::server::tables::resource_entry::{DueNotify, ResourceEntry};
use crate::shm_safe::shm_safe;
use crate::time::{Instant, Millis};
use std::sync::atomic::{AtomicBool, Ordering};

/// How many resources may wait by name to be tried again; further ones are looked for when these have been tried.
pub(super) const MOST_UNREAD: usize = 1024;

/// At most this many of them give up their names for further ones: those that were tried longest ago.
const TURN: usize = 64;

/// The pause of a resource after it could not be read for the first time, and the longest one.
const FIRST_PAUSE: Millis = Millis(2_000);
const LONGEST_PAUSE: Millis = Millis(64_000);

/// A timer that comes once a second may come that much early.
const EARLY: Millis = Millis(500);

/// A resource that waits.
#[derive(Clone, Copy)]
struct UnreadResource {
    hash: u64,
    /// The state could be read. Another process may be sending it, and find that it cannot.
    is_read: bool,
    /// None before the first try.
    pause: Millis,
    /// When it is tried; `None`: with the next pass.
    next: Option<Instant>,
}

shm_safe!(UnreadResource { hash, is_read, pause, next });

/// A place among all resources: behind the one with this hash in this part of the tables.
#[derive(Clone, Copy)]
struct SearchPlace {
    shard: usize,
    hash: u64,
}

shm_safe!(SearchPlace { shard, hash });

struct UnreadList {
    /// The resources with a name: those that were tried longest ago come first, behind them those that were not tried
    /// yet.
    named: ShmVec<UnreadResource>,
    /// Where the search for further ones goes on.
    place: SearchPlace,
}

shm_safe!(UnreadList { named, place });

/// Resources that wait until their state can be read, by hash.
pub struct UnreadResources {
    waiting: Lock<UnreadList>,
    /// There are others, which something is due for and nobody sends.
    has_more: AtomicBool,
}

shm_safe!(UnreadResources { waiting, has_more });

/// One pass of the timer over what waits.
pub struct ReadingPass {
    now: Instant,
    /// How many may still be tried: as many as waited at its beginning.
    left: usize,
    /// The next one is the one that waits longest, and not the one that has failed least.
    takes_oldest: bool,
}

impl UnreadResource {
    fn is_due(&self, now: Instant) -> bool {
        !self.is_read && self.next.is_none_or(|next| now >= next)
    }
}

impl UnreadResources {
    /// Makes an empty list; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<UnreadResources, NoMemory> {
        let mut named = ShmVec::new_in(Shm);
        // Room from the start: it is needed when things go wrong.
        named.try_reserve_exact(MOST_UNREAD).map_err(|_| NoMemory)?;
        let waiting = UnreadList { named, place: SearchPlace { shard: 0, hash: 0 } };
        Ok(UnreadResources { waiting: Lock::new(waiting), has_more: AtomicBool::new(false) })
    }

    /// The state of a resource cannot be read.
    pub fn add(&self, hash: u64) {
        self.name(hash);
    }

    /// `false`: there is no room for its name.
    fn name(&self, hash: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let named = &mut waiting.named;
        match named.iter().position(|named| named.hash == hash) {
            Some(at) => named[at].is_read = false,
            None if named.len() >= MOST_UNREAD => {
                self.has_more.store(true, Ordering::Relaxed);
                return false;
            }
            None => named.push(UnreadResource { hash, is_read: false, pause: Millis::ZERO, next: None }),
        }
        true
    }

    /// Begins a pass. What could be read in the pass before and was not left unread since is over, and shows that the
    /// others may be read again, too.
    pub fn begin_pass(&self, tables: &Tables, now: Instant) -> ReadingPass {
        let mut waiting = self.waiting.lock();
        let before = waiting.named.len();
        waiting.named.retain(|named| !named.is_read);
        if waiting.named.len() < before {
            waiting.named.iter_mut().for_each(|named| named.next = None);
        }
        let are_tried = waiting.named.iter().all(|named| named.pause > Millis::ZERO);
        drop(waiting);
        if are_tried && self.has_more.swap(false, Ordering::Relaxed) {
            self.find_more(tables);
        }
        ReadingPass { now, left: self.len(), takes_oldest: false }
    }

    /// Looks for those that could not be named, from where the search before has ended. Those that give up their names
    /// for them are found again when the search has come round.
    fn find_more(&self, tables: &Tables) {
        let mut waiting = self.waiting.lock();
        let without_room = waiting.named.len().saturating_sub(MOST_UNREAD - TURN);
        waiting.named.drain(..without_room);
        let SearchPlace { shard: first, hash: behind } = waiting.place;
        drop(waiting);
        let count = tables.shard_count();
        // The part that it begins in comes twice: what is before its place there comes last.
        for step in 0..=count {
            let shard = (first + step) % count;
            let mut found = waiting_in_shard(tables, shard);
            found.retain(|hash| (step > 0 || *hash > behind) && (step < count || *hash <= behind));
            found.sort_unstable();
            for hash in found {
                if !self.name(hash) {
                    return;
                }
                self.waiting.lock().place = SearchPlace { shard, hash };
            }
        }
    }

    /// The next one to be tried in this pass: in turn the one that has failed least and the one that waits longest, so
    /// that neither many that cannot be read nor many new ones keep the others waiting. It stays in the list until it
    /// is known to be read: a panic loses nothing.
    pub fn next(&self, pass: &mut ReadingPass) -> Option<u64> {
        pass.left = pass.left.checked_sub(1)?;
        let mut waiting = self.waiting.lock();
        let mut due = waiting.named.iter().enumerate().filter(|(_, named)| named.is_due(pass.now));
        let (at, _) = if pass.takes_oldest { due.next() } else { due.min_by_key(|(_, named)| named.pause) }?;
        pass.takes_oldest = !pass.takes_oldest;
        let mut tried = waiting.named.remove(at);
        tried.pause = Millis((2 * tried.pause.0).clamp(FIRST_PAUSE.0, LONGEST_PAUSE.0));
        tried.next = Some(pass.now + Millis(tried.pause.0 - EARLY.0));
        waiting.named.push(tried);
        Some(tried.hash)
    }

    /// The state of a resource can be read: its watchers are about to be notified.
    pub fn is_read(&self, hash: u64) {
        let mut waiting = self.waiting.lock();
        if let Some(named) = waiting.named.iter_mut().find(|named| named.hash == hash) {
            named.is_read = true;
        }
    }

    /// Whether one was left unread since it could be read.
    pub fn waits(&self, hash: u64) -> bool {
        self.waiting.lock().named.iter().any(|named| named.hash == hash && !named.is_read)
    }

    /// How many wait by name.
    pub fn len(&self) -> usize {
        self.waiting.lock().named.len()
    }

    /// Whether none waits by name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether none waits, by name or without.
    pub fn is_idle(&self) -> bool {
        self.is_empty() && !self.has_more.load(Ordering::Relaxed)
    }
}

/// Calls `take` with the hash of each resource that something is due for and nobody sends; it says whether it has room
/// for those of another part of the tables.
pub(super) fn waiting_in(tables: &Tables, take: impl Fn(u64) -> bool) {
    for index in 0..tables.shard_count() {
        if waiting_in_shard(tables, index).into_iter().filter(|hash| !take(*hash)).count() > 0 {
            return;
        }
    }
}

fn waiting_in_shard(tables: &Tables, index: usize) -> Vec<u64> {
    let waits = |entry: &&ResourceEntry| entry.due.contains(DueNotify::Something) && !entry.busy;
    tables.nth_shard(index).entries().filter(waits).map(|entry| entry.hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::resource::UriComparison;
    use crate::server::tables::Sharing;
    use crate::server::tables::resource_entry::Documents;
    use crate::server::tables::watcher_counts::Counting;

    fn tables() -> Tables {
        Tables::new(UriComparison { ignore_case: false, seed: 7 }, Counting::PerWatcher, Sharing::None).unwrap()
    }

    /// One pass of each second: which are tried, where `readable` says what can be read. It ends when four cannot.
    fn pass(unread: &UnreadResources, tables: &Tables, second: u64, readable: impl Fn(u64) -> bool) -> Vec<u64> {
        let (mut tried, mut failed) = (Vec::new(), 0);
        let mut pass = unread.begin_pass(tables, Instant::at(second * 1_000));
        while failed < 4 {
            let Some(hash) = unread.next(&mut pass) else { break };
            tried.push(hash);
            match readable(hash) {
                true => {
                    unread.is_read(hash);
                    let mut shard = tables.shard(hash);
                    shard.entry_by_hash(hash).into_iter().for_each(|entry| entry.due = Default::default());
                }
                false => failed += 1,
            }
        }
        tried
    }

    /// Resources that something is due for, by hash.
    fn due_in(tables: &Tables, count: usize) -> Vec<u64> {
        let rule = UriComparison { ignore_case: false, seed: 7 };
        let due = |n: usize| {
            let resource = rule.resource(format!("sip:{n}@example.org").as_bytes(), PackageId(0));
            let mut shard = tables.shard(resource.hash);
            let entry = shard.entry_or_new(rule, &resource, Documents::Known(ShmVec::new_in(Shm))).unwrap();
            entry.due.add(DueNotify::Something);
            resource.hash
        };
        (0..count).map(due).collect()
    }

    #[test]
    fn the_pause_of_each_grows_and_is_bounded() {
        let (unread, tables) = (UnreadResources::new().unwrap(), tables());
        unread.add(1);
        let tried: Vec<u64> = (1..400).filter(|at| !pass(&unread, &tables, *at, |_| false).is_empty()).collect();
        assert_eq!(tried, [1, 3, 7, 15, 31, 63, 127, 191, 255, 319, 383]);
        // A new one is tried soon, whatever the others wait for, and makes them wait no longer.
        unread.add(2);
        let tried = (400..448).map(|second| (second, pass(&unread, &tables, second, |_| false)));
        let tried: Vec<_> = tried.filter(|(_, tried)| !tried.is_empty()).collect();
        let alone = [400, 402, 406, 414, 430].map(|second| (second, vec![2]));
        assert_eq!(tried, [&alone[..], &[(447, vec![1])]].concat());
    }

    #[test]
    fn what_can_be_read_brings_the_others_forward() {
        let (unread, tables) = (UnreadResources::new().unwrap(), tables());
        (1..=3).for_each(|hash| unread.add(hash));
        (1..100).for_each(|at| drop(pass(&unread, &tables, at, |_| false)));
        unread.add(4);
        assert_eq!(pass(&unread, &tables, 100, |_| true), [4]);
        assert_eq!(pass(&unread, &tables, 101, |hash| hash != 2), [1, 2, 3]);
        assert_eq!(pass(&unread, &tables, 102, |_| false), [2]);
        assert!((103..166).all(|second| pass(&unread, &tables, second, |_| true).is_empty()), "it is broken itself");
        assert_eq!(pass(&unread, &tables, 166, |_| true), [2]);
        drop(pass(&unread, &tables, 167, |_| true));
        assert!(unread.is_idle());
    }

    #[test]
    fn one_that_fails_once_does_not_wait_for_those_that_always_do() {
        for broken in [40, 1_000] {
            let (unread, tables) = (UnreadResources::new().unwrap(), tables());
            (0..broken).for_each(|hash| unread.add(hash));
            (1..2_000).for_each(|at| drop(pass(&unread, &tables, at, |_| false)));
            unread.add(broken);
            assert!(pass(&unread, &tables, 2_000, |_| false).contains(&broken));
            let read = (2_001..).find(|at| pass(&unread, &tables, *at, |hash| hash == broken).contains(&broken));
            assert_eq!(read, Some(2_002), "{broken} are broken");
        }
    }

    #[test]
    fn new_ones_do_not_keep_the_others_from_being_tried() {
        let (unread, tables) = (UnreadResources::new().unwrap(), tables());
        unread.add(0);
        (1..100).for_each(|at| drop(pass(&unread, &tables, at, |_| false)));
        // Each second there are five more, more than one pass tries.
        let tried = (100..).find(|second| {
            (0..5).for_each(|n| unread.add(second * 10 + n));
            pass(&unread, &tables, *second, |_| false).contains(&0)
        });
        assert_eq!(tried, Some(127));
    }

    #[test]
    fn a_name_that_stays_unread_keeps_no_other_from_being_found() {
        let (unread, tables) = (UnreadResources::new().unwrap(), tables());
        let due = due_in(&tables, 3 * MOST_UNREAD);
        due.iter().for_each(|hash| unread.add(*hash));
        let mut tried: Vec<u64> = (0..8).flat_map(|at| pass(&unread, &tables, at, |hash| hash != due[0])).collect();
        tried.sort_unstable();
        tried.dedup();
        assert_eq!((tried.len(), unread.len()), (due.len(), 1));
    }

    #[test]
    fn names_that_stay_unread_keep_no_other_from_being_found() {
        let (unread, tables) = (UnreadResources::new().unwrap(), tables());
        let due = due_in(&tables, 2 * MOST_UNREAD + 1);
        due.iter().for_each(|hash| unread.add(*hash));
        // All but the last one are broken for good.
        let last = due[2 * MOST_UNREAD];
        let second = (0..2_000).find(|at| pass(&unread, &tables, *at, |hash| hash == last).contains(&last));
        assert!(second.is_some_and(|second| second <= (MOST_UNREAD + TURN) as u64), "{second:?}");
        // They are tried in turns, and each pass does no more for them.
        let mut tried: Vec<u64> = (2_000..4_000).flat_map(|at| pass(&unread, &tables, at, |_| false)).collect();
        assert!(tried.len() <= 4 * 2_000 && unread.len() <= MOST_UNREAD);
        tried.sort_unstable();
        tried.dedup();
        assert_eq!(tried.len(), 2 * MOST_UNREAD);
    }

    #[test]
    fn what_another_process_cannot_send_is_not_tried_each_second() {
        let (unread, tables) = (UnreadResources::new().unwrap(), tables());
        unread.add(1);
        let mut tried = Vec::new();
        for second in 1..70 {
            // It can be read here; the process that sends for it finds a watcher that cannot be judged.
            if !pass(&unread, &tables, second, |_| true).is_empty() {
                tried.push(second);
                unread.add(1);
                assert!(unread.waits(1));
            }
        }
        assert_eq!(tried, [1, 3, 7, 15, 31, 63]);
    }

    #[test]
    fn a_pass_tries_each_once() {
        let (unread, tables) = (UnreadResources::new().unwrap(), tables());
        (0..10).for_each(|hash| unread.add(hash));
        // After four that cannot be read a pass ends; the next one begins with the others.
        assert_eq!(pass(&unread, &tables, 1, |_| false), [0, 1, 2, 3]);
        let mut reading = unread.begin_pass(&tables, Instant::at(1));
        let tried: Vec<u64> = std::iter::from_fn(|| unread.next(&mut reading)).collect();
        assert_eq!(tried, [4, 5, 6, 7, 8, 9]);
    }
}
