//! The queue of large fan-outs that wait for a sender process.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::semaphore::Semaphore;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::host::{clock, process};
use crate::limited;
use crate::presence::event_package::PackageId;
use crate::presence::resource::Resource;
use crate::server::notify::outstanding::Outstanding;
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What workers and senders share.
pub struct Senders {
    pub(crate) queue: Lock<ShmVec<QueuedFanOut>>,
    pub(crate) bell: &'static Semaphore,
    pub(crate) answered: AtomicU64,
    /// The NOTIFYs of all processes that wait for their answer.
    pub outstanding: Outstanding,
    /// What the sender processes have sent: a second of the monotonic clock in the upper half, the count in the lower.
    pub(crate) sent: [AtomicU64; SECONDS],
    /// A timer has stopped for want of memory.
    pub(crate) left_over: AtomicBool,
}

shm_safe!(Senders { queue, bell, answered, outstanding, sent, left_over });

impl Senders {
    /// An empty queue; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<Senders, NoMemory> {
        Ok(Senders {
            queue: Lock::new(ShmVec::new_in(Shm)),
            bell: Semaphore::leak()?,
            answered: AtomicU64::new(0),
            outstanding: Outstanding::default(),
            sent: Default::default(),
            left_over: AtomicBool::new(false),
        })
    }

    /// Hands a busy resource entry over; `false` without memory: then the caller sends.
    pub fn hand_over(&self, resource: &Resource) -> bool {
        let Ok(uri) = shm::copy(&resource.uri) else { return false };
        let handed = QueuedFanOut { uri, event: resource.event, hash: resource.hash, at: clock::now() };
        let queued = shm::push(&mut self.queue.lock(), handed).is_ok();
        if queued {
            self.bell.ring();
        }
        queued
    }

    /// How many changes wait for a sender.
    pub fn waiting(&self) -> usize {
        self.queue.lock().len()
    }

    /// For how many seconds the oldest change has waited for a sender; 0 where none waits.
    pub fn oldest_age(&self) -> i64 {
        self.queue.lock().first().map_or(0, |handed| (clock::now() - handed.at).max(0))
    }

    /// A NOTIFY was completed, at `now`; `sent_at` where that is known. Microseconds of the clock for measuring.
    pub fn note_answer(&self, sent_at: Option<u64>, now: u64) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        sent_at.into_iter().for_each(|sent_at| self.outstanding.note_done(sent_at, now));
    }

    /// A timer has stopped for want of memory: the rest is done in the next second.
    pub fn note_left_over(&self) {
        self.left_over.store(true, Ordering::Relaxed);
    }

    /// Whether a timer has stopped for want of memory since this was last asked.
    pub fn take_left_over(&self) -> bool {
        self.left_over.swap(false, Ordering::Relaxed)
    }

    /// A sender process has sent a NOTIFY.
    pub(crate) fn note_sent(&self) {
        let second = clock::monotonic();
        let slot = &self.sent[second as usize % SECONDS];
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| match old >> 32 == second {
            true => Some(old + 1),
            false => Some((second << 32) | 1),
        });
    }

    /// About how many bytes the NOTIFYs of the sender processes take that are under way.
    pub(crate) fn bytes_under_way(&self) -> usize {
        let now = clock::monotonic();
        let recent = self.sent.iter().map(|slot| slot.load(Ordering::Relaxed));
        let count: u64 = recent.filter(|sent| (sent >> 32) + UNDER_WAY >= now).map(|sent| sent & 0xffff_ffff).sum();
        count as usize * NOTIFY_BYTES
    }

    pub(crate) fn next(&self) -> Option<Resource> {
        let mut queue = self.queue.lock();
        if queue.is_empty() {
            return None;
        }
        let handed = queue.remove(0);
        drop(queue);
        Some(Resource { uri: handed.uri.to_vec(), event: handed.event, hash: handed.hash })
    }

    /// Sleeps until something is handed over.
    pub(crate) fn wait(&self) {
        self.bell.wait();
    }
}

/// A resource whose resource entry has been handed over.
pub(crate) struct QueuedFanOut {
    pub(crate) uri: ShmBox<[u8]>,
    pub(crate) event: PackageId,
    pub(crate) hash: u64,
    /// When it was handed over.
    pub(crate) at: i64,
}

shm_safe!(QueuedFanOut { uri, event, hash, at });

/// How far a process is ahead of the answers.
pub struct Pacing {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) is_sender: bool,
}

impl Pacing {
    /// Whether this is a sender process: what is handed over to those ends here.
    pub fn is_of_a_sender(&self) -> bool {
        self.is_sender
    }

    /// Counts a NOTIFY, and waits where too many are out. A sender waits where memory is short, too: what tm keeps of a
    /// NOTIFY it keeps for seconds.
    pub fn step(&mut self, senders: &Senders, by_tm: bool) {
        self.sent += 1;
        let (mut patience, mut seen) = (PATIENCE_MILLIS, self.answers(senders));
        while self.sent.saturating_sub(seen) > WINDOW && patience > 0 {
            process::sleep_millis(1);
            let now = self.answers(senders);
            patience = if now > seen { PATIENCE_MILLIS } else { patience - 1 };
            seen = now;
        }
        if patience == 0 {
            // What has not been answered by now is not waited for.
            self.sent = seen;
        }
        // The window of all processes is looked at after that of this one: so a single fan-out goes its old pace.
        for _ in 0..LONGEST_WAIT_MILLIS {
            if !senders.outstanding.are_many(clock::monotonic_micros) {
                break;
            }
            process::sleep_millis(1);
        }
        if self.is_sender {
            if by_tm {
                senders.note_sent();
            }
            wait_for_memory(senders);
        }
    }

    pub(crate) fn answers(&self, senders: &Senders) -> u64 {
        senders.answered.load(Ordering::Relaxed).wrapping_sub(self.answered)
    }
}

/// How many NOTIFYs may wait for their answer before a sender pauses.
pub(crate) const WINDOW: u64 = 96;

/// How long a sender waits for an answer, in milliseconds, before it takes those that are missing for lost.
pub(crate) const PATIENCE_MILLIS: u32 = 20;

/// How long a sender waits before one more NOTIFY while the other processes leave it no place in the window.
const LONGEST_WAIT_MILLIS: u32 = 1_000;

/// How many bytes of shared memory are left to requests.
pub(crate) fn reserve() -> usize {
    (shm::size() / RESERVED_SHARE).min(LARGEST_RESERVE)
}

/// How long a sender waits for shared memory before it sends one more NOTIFY, in steps of 50 milliseconds: transactions
/// are freed after 5 seconds or so.
pub(crate) const MEMORY_STEPS: u32 = 120;

/// Whether less shared memory is free than what is left to requests.
pub fn memory_is_short() -> bool {
    shm::available() < reserve()
}

/// What a NOTIFY under way takes, in bytes.
pub(crate) const NOTIFY_BYTES: usize = 10 << 10;

/// Seconds for which it is known how many NOTIFYs were sent.
pub(crate) const SECONDS: usize = 8;

/// For how many seconds a NOTIFY counts as under way.
pub(crate) const UNDER_WAY: u64 = 6;

/// Waits until NOTIFYs that are under way have given their memory back. Where little is free although few are under
/// way, waiting would not help: then a quarter of what there is stays free.
pub(crate) fn wait_for_memory(senders: &Senders) {
    let reserve = reserve();
    for step in 0..MEMORY_STEPS {
        let free = shm::available();
        if free > reserve || free > (free + senders.bytes_under_way()) / 4 {
            return;
        }
        if step == 1 {
            limited!(
                Warn,
                "{free} bytes of shared memory are free: a fan-out waits for the NOTIFYs under way (option -m)"
            );
        }
        process::sleep_millis(50);
    }
}

/// Senders leave a sixteenth of the shared memory to requests, at most so many bytes.
pub(crate) const LARGEST_RESERVE: usize = 12 << 20;

pub(crate) const RESERVED_SHARE: usize = 16;
