//! The queue of large fan-outs that wait for a sender process.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::semaphore::Semaphore;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::host::{clock, process};
use crate::limited;
use crate::presence::event_package::PackageId;
use crate::presence::resource::Resource;
use crate::server::notifications::outstanding::UnansweredNotifies;
use crate::shm_safe::shm_safe;
use crate::time::{MicroTick, Millis, Moment, Seconds, ShortMoment};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What workers and senders share.
pub struct Senders {
    pub(crate) queue: Lock<ShmVec<QueuedFanOut>>,
    pub(crate) waker: &'static Semaphore,
    /// How many large fan-outs wait for a sender process or are in its hand; changed while the queue is locked.
    pub(crate) large: AtomicU64,
    /// How many NOTIFYs that went out over UDP were answered.
    pub(crate) answered: AtomicU64,
    /// The NOTIFYs of all processes that wait for their answer.
    pub outstanding: UnansweredNotifies,
    /// What the sender processes have sent: a second, as [`ShortMoment`] counts, in the upper half of a word, and the
    /// count in the lower.
    pub(crate) sent: [AtomicU64; SECONDS],
    /// A timer has stopped for want of memory.
    pub(crate) left_over: AtomicBool,
}

shm_safe!(Senders { queue, waker, large, answered, outstanding, sent, left_over });

impl Senders {
    /// An empty queue; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<Senders, NoMemory> {
        Ok(Senders {
            queue: Lock::new(ShmVec::new_in(Shm)),
            waker: Semaphore::leak()?,
            large: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            outstanding: UnansweredNotifies::default(),
            sent: Default::default(),
            left_over: AtomicBool::new(false),
        })
    }

    /// Hands a busy resource entry over; `false`: the caller sends, because there is no memory, or because a small
    /// fan-out would have to wait for others.
    pub fn hand_over(&self, resource: &Resource, size: FanOutSize) -> bool {
        let Ok(uri) = shm::copy(&resource.uri) else { return false };
        let handed = QueuedFanOut { uri, event: resource.event, hash: resource.hash, at: clock::now(), size };
        let mut queue = self.queue.lock();
        let large = self.large.load(Ordering::Relaxed);
        if size == FanOutSize::Small && (large > 0 || queue.len() >= MOST_SMALL) {
            drop(queue);
            return false;
        }
        let queued = shm::push(&mut queue, handed).is_ok();
        if queued && size == FanOutSize::Large {
            self.large.store(large + 1, Ordering::Relaxed);
        }
        drop(queue);
        if queued {
            self.waker.wake();
        }
        queued
    }

    /// How many changes wait for a sender.
    pub fn waiting(&self) -> usize {
        self.queue.lock().len()
    }

    /// For how long the oldest change has waited for a sender; no time where none waits.
    pub fn oldest_age(&self) -> Seconds {
        self.queue.lock().first().map_or(Seconds::ZERO, |handed| (clock::now() - handed.at).max(Seconds::ZERO))
    }

    /// A NOTIFY that went out over UDP at `sent_at` was answered.
    pub fn note_answer(&self, sent_at: MicroTick) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.outstanding.note_done(sent_at);
    }

    /// A timer has stopped for want of memory: the rest is done in the next second.
    pub fn note_left_over(&self) {
        self.left_over.store(true, Ordering::Relaxed);
    }

    /// Whether a timer has stopped for want of memory since this was last asked.
    #[must_use = "the caller sends what is left"]
    pub fn take_left_over(&self) -> bool {
        self.left_over.swap(false, Ordering::Relaxed)
    }

    /// A sender process has sent a NOTIFY.
    pub(crate) fn note_sent(&self) {
        let second = u64::from(ShortMoment::from(clock::now()).seconds());
        let slot = &self.sent[second as usize % SECONDS];
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| match old >> 32 == second {
            true => Some(old + 1),
            false => Some((second << 32) | 1),
        });
    }

    /// About how many bytes the NOTIFYs of the sender processes take that are under way.
    pub(crate) fn bytes_under_way(&self) -> usize {
        let now = clock::now();
        let (sent, second) =
            (self.sent.iter().map(|slot| slot.load(Ordering::Relaxed)), |sent: u64| Moment::at((sent >> 32) as i64));
        let recent = sent.filter(|sent| second(*sent) + UNDER_WAY >= now);
        let count: u64 = recent.map(|sent| sent & 0xffff_ffff).sum();
        count as usize * NOTIFY_BYTES
    }

    /// What a sender process turns to: small fan-outs, of which there are few, before large ones. `hold` takes its
    /// queue over as soon as it is off the list: nobody else would open it.
    pub(crate) fn next(&self, hold: impl FnOnce(u64)) -> Option<FanOutInHand<'_>> {
        let mut queue = self.queue.lock();
        if queue.is_empty() {
            return None;
        }
        let small = queue.iter().position(|handed| handed.size == FanOutSize::Small);
        let handed = queue.remove(small.unwrap_or(0));
        hold(handed.hash);
        drop(queue);
        let resource = Resource { uri: handed.uri.to_vec(), event: handed.event, hash: handed.hash };
        let in_hand = FanOutInHand { senders: self, resource, size: handed.size };
        fault_point!("turn");
        Some(in_hand)
    }

    /// Sleeps until something is handed over.
    pub(crate) fn wait(&self) {
        self.waker.wait();
    }
}

/// A resource that has been handed over to a sender process.
pub(crate) struct QueuedFanOut {
    pub(crate) uri: ShmBox<[u8]>,
    pub(crate) event: PackageId,
    pub(crate) hash: u64,
    /// When it was handed over.
    pub(crate) at: Moment,
    pub(crate) size: FanOutSize,
}

shm_safe!(QueuedFanOut { uri, event, hash, at, size });

/// Why a fan-out was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FanOutSize {
    /// The change goes to few watchers, and many NOTIFYs wait for their answer.
    Small,
    /// The change goes to many watchers.
    Large,
}

shm_safe!(
    enum FanOutSize {
        Small,
        Large,
    }
);

/// A fan-out in the hand of a sender process.
pub(crate) struct FanOutInHand<'a> {
    senders: &'a Senders,
    pub(crate) resource: Resource,
    pub(crate) size: FanOutSize,
}

impl Drop for FanOutInHand<'_> {
    fn drop(&mut self) {
        if self.size == FanOutSize::Large {
            let _queue = self.senders.queue.lock();
            let large = self.senders.large.load(Ordering::Relaxed);
            self.senders.large.store(large.saturating_sub(1), Ordering::Relaxed);
        }
    }
}

/// At most this many small fan-outs wait for a sender process; the process that handled the change sends further ones.
const MOST_SMALL: usize = 64;

/// How many bytes of shared memory are left to requests.
pub(crate) fn reserve() -> usize {
    reserve_of(shm::size())
}

fn reserve_of(memory: usize) -> usize {
    (memory / RESERVED_SHARE).min(LARGEST_RESERVE)
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

/// How long a NOTIFY counts as under way.
pub(crate) const UNDER_WAY: Seconds = Seconds(6);

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
        process::sleep(Millis(50));
    }
}

/// Senders leave a sixteenth of the shared memory to requests, at most this many bytes.
pub(crate) const LARGEST_RESERVE: usize = 12 << 20;

pub(crate) const RESERVED_SHARE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::resource::UriComparison;

    #[test]
    fn a_bounded_number_of_small_changes_waits() {
        let senders = Senders::new().unwrap();
        let rule = UriComparison { ignore_case: false, seed: 7 };
        let hand_over =
            |n: usize, size| senders.hand_over(&rule.resource(format!("sip:{n}@b").as_bytes(), PackageId(0)), size);
        assert!((0..MOST_SMALL).all(|n| hand_over(n, FanOutSize::Small)));
        assert!(!hand_over(MOST_SMALL, FanOutSize::Small), "its own process sends");
        // A large one is taken in any case, and small ones do not wait for it.
        assert!(hand_over(MOST_SMALL, FanOutSize::Large));
        assert_eq!(senders.waiting(), MOST_SMALL + 1);
        let turns: Vec<FanOutSize> = std::iter::from_fn(|| senders.next(|_| ()).map(|turn| turn.size)).collect();
        assert!(turns[..MOST_SMALL].iter().all(|size| *size == FanOutSize::Small));
        assert_eq!(turns[MOST_SMALL..], [FanOutSize::Large]);
        assert!(hand_over(0, FanOutSize::Small));
    }

    #[test]
    fn what_is_left_to_requests_is_a_share_of_the_memory() {
        assert_eq!([16 << 20, 64 << 20, 192 << 20, 1 << 30].map(reserve_of), [1 << 20, 4 << 20, 12 << 20, 12 << 20]);
        // Where nothing is free a sender waits its time, and sends its next NOTIFY then.
        let began = clock::instant();
        wait_for_memory(&Senders::new().unwrap());
        let waited = clock::instant().since(began).0;
        assert!((6_000..30_000).contains(&waited), "{waited}");
    }
}
