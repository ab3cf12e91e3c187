//! The resources whose state could not be read when their watchers were to be notified: the documents, or the rules
//! that say who may see them. The timer tries them again, after a pause that grows while nothing can be read: each try
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
pub(super) const MOST: usize = 1024;

/// The pause after the first pass in which nothing could be read, and the longest one.
const FIRST_PAUSE: Millis = Millis(2_000);
const LONGEST_PAUSE: Millis = Millis(64_000);

/// A timer that comes once a second may come that much early.
const EARLY: Millis = Millis(500);

/// What is known of a resource that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadTry {
    /// Not yet.
    Never,
    /// The state could not be read.
    InVain,
    /// The state could be read. Another process may be sending it, and find that it cannot.
    Read,
}

#[derive(Clone, Copy)]
struct UnreadResource {
    hash: u64,
    tried: ReadTry,
}

shm_safe!(
    enum ReadTry {
        Never,
        InVain,
        Read,
    }
);
shm_safe!(UnreadResource { hash, tried });

struct UnreadList {
    named: ShmVec<UnreadResource>,
    pause: Millis,
    /// When those are tried that were tried before; `None`: with the next pass.
    next: Option<Instant>,
}

shm_safe!(UnreadList { named, pause, next });

/// Resources that wait until their state can be read, by hash.
pub struct UnreadResources {
    waiting: Lock<UnreadList>,
    /// There are others, which something is due for and nobody sends.
    has_more: AtomicBool,
}

shm_safe!(UnreadResources { waiting, has_more });

/// One pass of the timer over what waits.
pub struct ReadingPass {
    /// So many of the list, from its beginning, were not come by yet.
    left: usize,
    /// What was tried before is tried, too.
    retries: bool,
    has_tried: bool,
}

impl UnreadResources {
    /// Nothing waits; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<UnreadResources, NoMemory> {
        let mut named = ShmVec::new_in(Shm);
        // Room from the start: it is needed when things go wrong.
        named.try_reserve_exact(MOST).map_err(|_| NoMemory)?;
        let waiting = UnreadList { named, pause: Millis::ZERO, next: None };
        Ok(UnreadResources { waiting: Lock::new(waiting), has_more: AtomicBool::new(false) })
    }

    /// The state of a resource cannot be read.
    pub fn add(&self, hash: u64) {
        let mut waiting = self.waiting.lock();
        let named = &mut waiting.named;
        match named.iter().position(|named| named.hash == hash) {
            Some(at) if named[at].tried == ReadTry::Read => named[at].tried = ReadTry::InVain,
            Some(_) => {}
            None if named.len() >= MOST => self.has_more.store(true, Ordering::Relaxed),
            None => named.push(UnreadResource { hash, tried: ReadTry::Never }),
        }
    }

    /// Begins a pass. What could be read in the pass before and was not left unread since is over, and shows that the
    /// others may be read again, too.
    pub fn begin_pass(&self, tables: &Tables, now: Instant) -> ReadingPass {
        let mut waiting = self.waiting.lock();
        let before = waiting.named.len();
        waiting.named.retain(|named| named.tried != ReadTry::Read);
        if waiting.named.len() < before {
            (waiting.pause, waiting.next) = (Millis::ZERO, None);
        }
        let is_empty = waiting.named.is_empty();
        drop(waiting);
        if is_empty && self.has_more.swap(false, Ordering::Relaxed) {
            waiting_in(tables, |hash| {
                self.add(hash);
                !self.has_more.load(Ordering::Relaxed)
            });
        }
        let waiting = self.waiting.lock();
        let retries = waiting.next.is_none_or(|next| now >= next);
        ReadingPass { left: waiting.named.len(), retries, has_tried: false }
    }

    /// The next one to be tried in this pass. It stays in the list until it is known to be read: a panic loses nothing.
    pub fn next(&self, pass: &mut ReadingPass) -> Option<u64> {
        let mut waiting = self.waiting.lock();
        let range = ..pass.left.min(waiting.named.len());
        let at = waiting.named[range].iter().position(|named| pass.retries || named.tried == ReadTry::Never)?;
        let hash = waiting.named.remove(at).hash;
        waiting.named.push(UnreadResource { hash, tried: ReadTry::InVain });
        (pass.left, pass.has_tried) = (pass.left - 1, true);
        Some(hash)
    }

    /// The state of a resource can be read: its watchers are about to be notified.
    pub fn is_read(&self, hash: u64) {
        let mut waiting = self.waiting.lock();
        if let Some(named) = waiting.named.iter_mut().find(|named| named.hash == hash) {
            named.tried = ReadTry::Read;
        }
    }

    /// Whether one was left unread since it could be read.
    pub fn waits(&self, hash: u64) -> bool {
        self.waiting.lock().named.iter().any(|named| named.hash == hash && named.tried != ReadTry::Read)
    }

    /// Ends a pass: until something could be read the next one for what was tried comes later.
    pub fn end_pass(&self, pass: &ReadingPass, now: Instant) {
        if pass.has_tried && pass.retries {
            let mut waiting = self.waiting.lock();
            waiting.pause = Millis((2 * waiting.pause.0).clamp(FIRST_PAUSE.0, LONGEST_PAUSE.0));
            waiting.next = Some(now + Millis(waiting.pause.0 - EARLY.0));
        }
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
        let waits = |entry: &&ResourceEntry| entry.due.has(DueNotify::Something) && !entry.busy;
        let waiting: Vec<u64> = tables.nth_shard(index).entries().filter(waits).map(|entry| entry.hash).collect();
        if waiting.into_iter().filter(|hash| !take(*hash)).count() > 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::resource::UriComparison;
    use crate::server::tables::Sharing;
    use crate::server::tables::watcher_counts::Counting;

    fn tables() -> Tables {
        Tables::new(UriComparison { ignore_case: false, seed: 7 }, Counting::PerWatcher, Sharing::None).unwrap()
    }

    /// One pass of each second: which are tried, where `readable` says what can be read.
    fn pass(unread: &UnreadResources, tables: &Tables, second: u64, readable: impl Fn(u64) -> bool) -> Vec<u64> {
        let (now, mut tried) = (Instant::at(second * 1_000), Vec::new());
        let mut pass = unread.begin_pass(tables, now);
        while let Some(hash) = unread.next(&mut pass) {
            tried.push(hash);
            if readable(hash) {
                unread.is_read(hash);
            }
        }
        unread.end_pass(&pass, now);
        tried
    }

    #[test]
    fn the_pause_grows_and_is_bounded() {
        let (unread, tables) = (UnreadResources::new().unwrap(), tables());
        unread.add(1);
        let tried: Vec<u64> = (1..400).filter(|at| !pass(&unread, &tables, *at, |_| false).is_empty()).collect();
        assert_eq!(tried, [1, 3, 7, 15, 31, 63, 127, 191, 255, 319, 383]);
        // A new one is tried soon, whatever the others wait for.
        unread.add(2);
        assert_eq!(pass(&unread, &tables, 400, |_| false), [2]);
        assert!(pass(&unread, &tables, 401, |_| false).is_empty());
        assert_eq!(pass(&unread, &tables, 447, |_| false), [1, 2], "and it makes them wait no longer");
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
        assert!(pass(&unread, &tables, 103, |_| false).is_empty(), "the pause begins anew");
        assert_eq!(pass(&unread, &tables, 104, |_| true), [2]);
        drop(pass(&unread, &tables, 105, |_| true));
        assert!(unread.is_idle());
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
        let mut reading = unread.begin_pass(&tables, Instant::at(1));
        // After four that cannot be read a pass ends; the next one begins with the others.
        let first: Vec<u64> = (0..4).filter_map(|_| unread.next(&mut reading)).collect();
        unread.end_pass(&reading, Instant::at(1));
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(pass(&unread, &tables, 1, |_| false), [4, 5, 6, 7, 8, 9]);
    }
}
