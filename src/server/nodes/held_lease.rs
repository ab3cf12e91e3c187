//! The lease of this node, and what has become of those of the others, as all its processes see it.
use crate::cluster::arbiter::Arbiter;
use crate::cluster::digest::RecordKey;
use crate::cluster::inheritance::{self, LeaseOutcome, LeaseRow, Successor, resolve};
use crate::host::lock::Lock;
use crate::host::shm::{self, Shm, ShmVec};
use crate::shm_safe::shm_safe;
use crate::time::{AtomicInstant, Instant};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What the processes share; in shared memory.
pub struct Arbitration {
    /// The number of our lease, which is none below 1.
    lease: AtomicU32,
    /// Until when NOTIFYs may be sent.
    until: AtomicInstant,
    /// All that was owned under our earlier leases, as far as their rows are left, has come to this one.
    has_inherited_own: AtomicBool,
    /// Subscriptions may have come to us that have not been looked at.
    has_news: AtomicBool,
    /// Counts up whenever what is known of the successors changes.
    generation: AtomicU32,
    successors: Lock<ShmVec<Successor>>,
}
shm_safe!(Arbitration { lease, until, has_inherited_own, has_news, generation, successors });

impl Default for Arbitration {
    fn default() -> Self {
        Arbitration {
            lease: AtomicU32::new(0),
            until: AtomicInstant::default(),
            has_inherited_own: AtomicBool::new(false),
            has_news: AtomicBool::new(false),
            generation: AtomicU32::new(0),
            successors: Lock::new(ShmVec::new_in(Shm)),
        }
    }
}

impl Arbitration {
    /// Our lease, if there is one.
    pub fn lease(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.lease.load(Ordering::Relaxed))
    }

    /// Whether NOTIFYs may be sent under it now.
    pub fn is_held(&self, now: Instant) -> bool {
        self.until.get().is_some_and(|until| now < until)
    }

    /// No NOTIFY is sent under it any more.
    pub(crate) fn let_go(&self) {
        self.until.set(None);
    }

    /// Whether what this node owned before it was restarted is its own still.
    pub fn has_inherited_own(&self) -> bool {
        self.has_inherited_own.load(Ordering::Relaxed)
    }

    /// Whether somebody has to look for subscriptions that have come to us: once.
    #[must_use = "the caller looks for them"]
    pub fn take_news(&self) -> bool {
        self.has_news.swap(false, Ordering::Relaxed)
    }

    /// There is more to look for.
    pub fn note_news(&self) {
        self.has_news.store(true, Ordering::Relaxed);
    }

    /// After how many changes of hands what is owned under another lease has come to ours, where it has; `own` is the
    /// digest of our name.
    pub fn steps_to(&self, own: u64, owner: u64, lease: NonZeroU32) -> Option<u32> {
        let ours = (own, self.lease()?.get());
        let (holder, steps) = resolve(&self.successors.lock(), (owner, lease.get()));
        (holder == ours).then_some(steps)
    }

    /// What to hand to [`Arbitration::learn`] with rows that are read after this.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Shows all processes our lease as the process that beats knows it, and returns how many others have come to it.
    pub(crate) fn publish(&self, arbiter: &Arbiter, own_name: &[u8], generation: u32) -> usize {
        let own = arbiter.own();
        let (lease, until) = (own.map_or(0, |own| own.lease), own.and_then(|own| own.until));
        // The lease first: under a new one nothing is sent before it is known which one it is.
        if self.lease.swap(lease, Ordering::Relaxed) != lease {
            self.note_news();
        }
        let inherited = self.learn(&arbiter.rows().collect::<Vec<_>>(), own_name, generation);
        self.until.set(until);
        inherited
    }

    /// Notes whose the leases in the table are; returns how many that were taken over have come to ours. What was read
    /// before another process has learned more says nothing.
    pub(crate) fn learn(&self, rows: &[&LeaseRow], own_name: &[u8], generation: u32) -> usize {
        let key = |name: &[u8]| RecordKey::of_names(&[name]).0;
        let mut list = ShmVec::new_in(Shm);
        for row in rows {
            if let LeaseOutcome::TakenOver(node, lease) = &row.outcome {
                let successor = Successor { lost: (key(&row.node), row.lease), by: (key(node), *lease) };
                // Without memory for all of them those that were known are kept: nothing is inherited too early.
                if shm::push(&mut list, successor).is_err() {
                    return 0;
                }
            }
        }
        list.sort_unstable();
        let (own, lease) = (key(own_name), self.lease());
        let has_inherited_own = inheritance::has_inherited_own(rows, (own_name, lease.map_or(0, NonZeroU32::get)));
        let mut successors = self.successors.lock();
        if self.generation() != generation {
            return 0;
        }
        self.has_inherited_own.store(has_inherited_own, Ordering::Relaxed);
        if *successors == list {
            return 0;
        }
        let came_to_us = |successor: &Successor| lease.is_some_and(|lease| successor.by == (own, lease.get()));
        let is_ours = |successor: &&Successor| came_to_us(successor) && successors.binary_search(successor).is_err();
        let ours = list.iter().filter(is_ours).count();
        *successors = list;
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.note_news();
        ours
    }
}
