//! Large fan-outs leave the worker: resources with many watchers are handed, with their lane, to sender processes. These send
//! with a bound on NOTIFYs that wait for their answer, so that the answers are read in between, and wait while shared memory
//! is short, so that the number of watchers does not matter.
use super::world::World;
use crate::host::shm::{self, NoMemory, Shm, ShmVec};
use crate::host::sync::{Bell, Lock};
use crate::host::{clock, process, shm::ShmBox};
use crate::limited;
use crate::presence::event_package::PackageId;
use crate::presence::notifier;
use crate::presence::resource::Resource;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many NOTIFYs may wait for their answer before a sender pauses.
const WINDOW: u64 = 96;
/// How long a sender waits for an answer, in milliseconds, before it takes those that are missing for lost.
const PATIENCE: u32 = 20;
/// Senders leave a sixteenth of the shared memory to requests, at most so many bytes.
const LARGEST_RESERVE: usize = 12 << 20;
const RESERVED_SHARE: usize = 16;
/// How long a sender waits for shared memory before it sends one more NOTIFY, in steps of 50 milliseconds: transactions are
/// freed after 5 seconds or so.
const MEMORY_STEPS: u32 = 120;
/// What a NOTIFY under way takes, in bytes.
const NOTIFY_BYTES: usize = 10 << 10;
/// For how many seconds a NOTIFY counts as under way.
const UNDER_WAY: u64 = 6;
/// Seconds for which it is known how many NOTIFYs were sent.
const SECONDS: usize = 8;

/// How many bytes of shared memory are left to requests.
fn reserve() -> usize {
    (shm::size() / RESERVED_SHARE).min(LARGEST_RESERVE)
}

/// Whether less shared memory is free than what is left to requests.
pub fn memory_is_short() -> bool {
    shm::available() < reserve()
}

/// A resource whose lane has been handed over.
struct Handed {
    uri: ShmBox<[u8]>,
    event: PackageId,
    hash: u64,
    /// When it was handed over.
    at: i64,
}

/// What workers and senders share.
pub struct Senders {
    queue: Lock<ShmVec<Handed>>,
    bell: &'static Bell,
    answered: AtomicU64,
    /// What the sender processes have sent: a second of the monotonic clock in the upper half, the count in the lower.
    sent: [AtomicU64; SECONDS],
    /// A timer has stopped for want of memory.
    left_over: AtomicBool,
}

impl Senders {
    /// An empty queue; call before the processes fork.
    pub fn new() -> Result<Senders, NoMemory> {
        Ok(Senders {
            queue: Lock::new(ShmVec::new_in(Shm)),
            bell: Bell::leak()?,
            answered: AtomicU64::new(0),
            sent: Default::default(),
            left_over: AtomicBool::new(false),
        })
    }

    /// Hands a busy lane over; `false` without memory: then the caller sends.
    pub fn hand_over(&self, resource: &Resource) -> bool {
        let Ok(uri) = shm::copy(&resource.uri) else { return false };
        let handed = Handed { uri, event: resource.event, hash: resource.hash, at: clock::now() };
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

    /// A NOTIFY was completed.
    pub fn note_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
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
    fn note_sent(&self) {
        let second = clock::monotonic();
        let slot = &self.sent[second as usize % SECONDS];
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| match old >> 32 == second {
            true => Some(old + 1),
            false => Some(second << 32 | 1),
        });
    }

    /// About how many bytes the NOTIFYs of the sender processes take that are under way.
    fn bytes_under_way(&self) -> usize {
        let now = clock::monotonic();
        let recent = self.sent.iter().map(|slot| slot.load(Ordering::Relaxed));
        let count: u64 = recent.filter(|sent| (sent >> 32) + UNDER_WAY >= now).map(|sent| sent & 0xffff_ffff).sum();
        count as usize * NOTIFY_BYTES
    }

    fn next(&self) -> Option<Resource> {
        let mut queue = self.queue.lock();
        if queue.is_empty() {
            return None;
        }
        let handed = queue.remove(0);
        drop(queue);
        Some(Resource { uri: handed.uri.to_vec(), event: handed.event, hash: handed.hash })
    }

    /// Sends for what has been handed over, then sleeps until there is more.
    pub fn serve(&self, world: impl Fn() -> Option<World>) {
        while let Some(mut world) = world() {
            let Some(resource) = self.next() else { break };
            world.held.hold(resource.hash);
            notifier::run(&mut world.of_a_sender(), &resource);
        }
        self.bell.wait();
    }
}

impl World {
    /// The same world for a timer, which has many NOTIFYs to send: it does not run ahead of the answers.
    pub fn paced(self) -> World {
        self.with_pace(false)
    }

    /// The same world for a sender process, which waits for shared memory, too.
    fn of_a_sender(self) -> World {
        self.with_pace(true)
    }

    fn with_pace(mut self, is_sender: bool) -> World {
        let answered = self.shared.senders.answered.load(Ordering::Relaxed);
        self.pace = Some(Pace { sent: 0, answered, is_sender });
        self
    }
}

/// How far a process is ahead of the answers.
pub struct Pace {
    sent: u64,
    answered: u64,
    is_sender: bool,
}

impl Pace {
    /// Whether this is a sender process: what is handed over to those ends here.
    pub fn is_of_a_sender(&self) -> bool {
        self.is_sender
    }

    /// Counts a NOTIFY, and waits where too many are out. A sender waits where memory is short, too.
    pub fn step(&mut self, senders: &Senders) {
        self.sent += 1;
        let (mut patience, mut seen) = (PATIENCE, self.answers(senders));
        while self.sent.saturating_sub(seen) > WINDOW && patience > 0 {
            process::sleep_millis(1);
            let now = self.answers(senders);
            patience = if now > seen { PATIENCE } else { patience - 1 };
            seen = now;
        }
        if patience == 0 {
            // What has not been answered by now is not waited for.
            self.sent = seen;
        }
        if self.is_sender {
            senders.note_sent();
            wait_for_memory(senders);
        }
    }

    fn answers(&self, senders: &Senders) -> u64 {
        senders.answered.load(Ordering::Relaxed).wrapping_sub(self.answered)
    }
}

/// Waits until NOTIFYs that are under way have given their memory back. Where little is free although few are under way,
/// waiting would not help: then a quarter of what there is stays free.
fn wait_for_memory(senders: &Senders) {
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
