//! Large fan-outs leave the worker: resources with many watchers are handed, with their lane, to sender processes. These send
//! with a bound on NOTIFYs that wait for their answer, so that the answers are read in between, and wait while shared memory
//! is short, so that the number of watchers does not matter.
use super::world::World;
use crate::host::shm::{self, NoMemory, Shm, ShmVec};
use crate::host::sync::{Bell, Lock};
use crate::host::{clock, process, shm::ShmBox};
use crate::presence::event_package::PackageId;
use crate::presence::notifier;
use crate::presence::resource::Resource;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many NOTIFYs may wait for their answer before a sender pauses.
const WINDOW: u64 = 96;
/// How long a sender waits for an answer, in milliseconds, before it takes those that are missing for lost.
const PATIENCE: u32 = 20;
/// Senders leave this much shared memory to requests.
const RESERVE: usize = 12 << 20;
/// How long a sender waits for shared memory, in steps of 50 milliseconds: transactions are freed after 5 seconds or so.
const MEMORY_STEPS: u32 = 600;

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
}

impl Senders {
    /// An empty queue; call before the processes fork.
    pub fn new() -> Result<Senders, NoMemory> {
        Ok(Senders { queue: Lock::new(ShmVec::new_in(Shm)), bell: Bell::leak()?, answered: AtomicU64::new(0) })
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
        while let Some(resource) = self.next() {
            if let Some(world) = world() {
                notifier::run(&mut world.paced(), &resource);
            }
        }
        self.bell.wait();
    }
}

impl World {
    /// The same world for whoever has many to tell and time: it does not run ahead of the answers.
    pub fn paced(mut self) -> World {
        self.pace = Some(Pace { sent: 0, answered: self.shared.senders.answered.load(Ordering::Relaxed) });
        self
    }
}

/// How far a sender is ahead of the answers.
pub struct Pace {
    sent: u64,
    answered: u64,
}

impl Pace {
    /// Counts a NOTIFY, and waits where too many are out or memory is short.
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
            // Whoever has not answered by now is not waited for.
            self.sent = seen;
        }
        for _ in 0..MEMORY_STEPS {
            if shm::available() > RESERVE {
                break;
            }
            process::sleep_millis(50);
        }
    }

    fn answers(&self, senders: &Senders) -> u64 {
        senders.answered.load(Ordering::Relaxed).wrapping_sub(self.answered)
    }
}
