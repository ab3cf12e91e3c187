//! Judgements of the watchers of presentities, in shared memory: how often they were judged, in which sphere, and what
//! of that could not be carried out yet. The timer judges those again; until then the state is shown to nobody who
//! might not be allowed to see it.
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::authorization::Outstanding;
use crate::presence::event_package::PackageId;
use crate::presence::resource::{Resource, UriComparison};
use crate::shm_safe::shm_safe;
use crate::time::{Moment, Seconds};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The resources are spread over this many counts: one that shares its count with another is judged once more.
const COUNTS: usize = 4096;

/// Decisions about this many resources may be outstanding by name.
const MOST_UNJUDGED: usize = 1024;

/// When a resource is judged again at first, and at the latest: each time that fails may cost the database a statement,
/// and the log a line of the event package.
const FIRST_WAIT: Seconds = Seconds(1);
const LONGEST_WAIT: Seconds = Seconds(64);

/// A resource whose watchers have to be judged again.
struct Unjudged {
    uri: ShmBox<[u8]>,
    event: PackageId,
    hash: u64,
    is_shut: bool,
    /// The judgement that left it so: what was begun later stands for it.
    judgement: u32,
    wait: Seconds,
    next_at: Moment,
}

shm_safe!(Unjudged { uri, event, hash, is_shut, judgement, wait, next_at });

/// Why the watchers of a resource have to be judged again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhyUnjudged {
    /// Something has changed that the rules look at.
    Shut,
    /// A judgement could not be carried out.
    Failed,
}

/// The digest of a sphere, or none, that all processes read and write.
#[derive(Default)]
struct AtomicSphere(AtomicU32);

shm_safe!(AtomicSphere(digest));

impl AtomicSphere {
    fn get(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.0.load(Ordering::SeqCst))
    }

    fn set(&self, digest: Option<NonZeroU32>) {
        self.0.store(digest.map_or(0, NonZeroU32::get), Ordering::SeqCst);
    }
}

/// What is noted of all resources.
pub struct Judgements {
    counts: ShmVec<AtomicU32>,
    /// The spheres that watchers were judged in last.
    spheres: ShmVec<AtomicSphere>,
    unjudged: Lock<ShmVec<Unjudged>>,
    /// How many are in the list, to be read without its lock.
    len: AtomicUsize,
}

shm_safe!(Judgements { counts, spheres, unjudged, len });

impl Judgements {
    /// Nobody was judged; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<Judgements, NoMemory> {
        let numbers = || {
            let mut numbers = ShmVec::new_in(Shm);
            numbers.try_reserve_exact(COUNTS).map_err(|_| NoMemory)?;
            (0..COUNTS).for_each(|_| numbers.push(AtomicU32::new(0)));
            Ok(numbers)
        };
        let mut spheres = ShmVec::new_in(Shm);
        spheres.try_reserve_exact(COUNTS).map_err(|_| NoMemory)?;
        (0..COUNTS).for_each(|_| spheres.push(AtomicSphere::default()));
        let mut unjudged = ShmVec::new_in(Shm);
        // Room from the start: it is needed when things go wrong.
        unjudged.try_reserve_exact(MOST_UNJUDGED).map_err(|_| NoMemory)?;
        Ok(Judgements { counts: numbers()?, spheres, unjudged: Lock::new(unjudged), len: AtomicUsize::new(0) })
    }

    fn place(resource: &Resource) -> usize {
        (resource.hash >> 20) as usize % COUNTS
    }

    /// A sphere of a resource as one number.
    fn digest(resource: &Resource, sphere: Option<&[u8]>) -> NonZeroU32 {
        let rule = UriComparison { ignore_case: false, seed: resource.hash };
        NonZeroU32::MIN | rule.hash(&[sphere.unwrap_or_default()], u64::from(sphere.is_some())) as u32
    }

    /// The watchers of a resource are about to be judged; returns the count from then on.
    pub fn begin(&self, resource: &Resource, sphere: Option<&[u8]>) -> u32 {
        let place = Judgements::place(resource);
        self.spheres[place].set(Some(Judgements::digest(resource, sphere)));
        self.counts[place].fetch_add(1, Ordering::SeqCst).wrapping_add(1)
    }

    /// How often they were judged.
    pub fn count(&self, resource: &Resource) -> u32 {
        self.counts[Judgements::place(resource)].load(Ordering::SeqCst)
    }

    /// Whether they were judged last in this sphere.
    pub fn was_in(&self, resource: &Resource, sphere: Option<&[u8]>) -> bool {
        self.spheres[Judgements::place(resource)].get() == Some(Judgements::digest(resource, sphere))
    }

    /// Until a judgement that begins from now on is carried out nobody is shown the state of a resource. `false`: there
    /// is no room to note that.
    pub fn shut(&self, resource: &Resource, now: Moment) -> bool {
        // One that is under way may have read the sphere of before: it does not stand for this.
        let judgement = self.counts[Judgements::place(resource)].fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        self.note(resource, judgement, Outstanding::Subscribed, (now, WhyUnjudged::Shut))
    }

    /// Notes that not all decisions of the judgement with this count could be carried out. `false`: there is no room to
    /// note that.
    pub fn leave(&self, resource: &Resource, judgement: u32, outstanding: Outstanding, now: Moment) -> bool {
        self.note(resource, judgement, outstanding, (now, WhyUnjudged::Failed))
    }

    fn note(
        &self,
        resource: &Resource,
        judgement: u32,
        outstanding: Outstanding,
        (now, why): (Moment, WhyUnjudged),
    ) -> bool {
        // The next change of the sphere judges again, whichever sphere it is.
        self.spheres[Judgements::place(resource)].set(None);
        let is_shut = outstanding == Outstanding::Subscribed;
        let Ok(uri) = shm::copy(&resource.uri) else { return false };
        let mut list = self.unjudged.lock();
        if let Some(known) = list.iter_mut().find(|known| known.is_of(resource)) {
            if known.judgement.wrapping_sub(judgement) as i32 > 0 {
                // What was left so by a later one stands.
                known.is_shut |= is_shut;
                return true;
            }
            let is_new = why == WhyUnjudged::Shut || (is_shut && !known.is_shut);
            // A change that is judged before the time has come makes nothing wait longer.
            if is_new || now >= known.next_at {
                known.wait = if is_new { FIRST_WAIT } else { (known.wait + known.wait).min(LONGEST_WAIT) };
                known.next_at = now + known.wait;
            }
            (known.is_shut, known.judgement) = (is_shut, judgement);
            return true;
        }
        if list.len() >= MOST_UNJUDGED {
            return false;
        }
        let (event, hash) = (resource.event, resource.hash);
        list.push(Unjudged { uri, event, hash, is_shut, judgement, wait: FIRST_WAIT, next_at: now + FIRST_WAIT });
        self.len.store(list.len(), Ordering::SeqCst);
        true
    }

    /// All decisions of the judgement with this count are carried out. What was in the way may be gone for the others:
    /// they are judged again at once.
    pub fn carried_out(&self, resource: &Resource, judgement: u32) {
        if self.is_empty() {
            return;
        }
        let mut list = self.unjudged.lock();
        let is_later = |known: &Unjudged| known.judgement.wrapping_sub(judgement) as i32 > 0;
        let at = list.iter().position(|known| known.is_of(resource) && !is_later(known));
        let done = at.map(|at| list.swap_remove(at));
        if done.as_ref().is_some_and(|done| done.wait > FIRST_WAIT) {
            list.iter_mut().for_each(|waiting| waiting.next_at = Moment::EPOCH);
        }
        self.len.store(list.len(), Ordering::SeqCst);
        drop(list);
        drop(done);
    }

    /// What of a resource's decisions is outstanding.
    pub fn outstanding(&self, resource: &Resource) -> Option<Outstanding> {
        if self.is_empty() {
            return None;
        }
        let list = self.unjudged.lock();
        let known = list.iter().find(|known| known.is_of(resource))?;
        Some(if known.is_shut { Outstanding::Subscribed } else { Outstanding::Remembered })
    }

    /// The resources that are judged again now, at most `limit`: in turn the one that has failed least and the one that
    /// waits longest, so that neither many that cannot be judged nor many new ones keep the others waiting.
    pub fn due(&self, now: Moment, limit: usize) -> Vec<(Vec<u8>, PackageId)> {
        if self.is_empty() {
            return Vec::new();
        }
        let list = self.unjudged.lock();
        let due: Vec<&Unjudged> = list.iter().filter(|known| known.next_at <= now).collect();
        in_turn(&due).into_iter().take(limit).map(|known| (known.uri.to_vec(), known.event)).collect()
    }

    /// Of how many resources decisions are outstanding.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// Whether all are carried out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Each of them once: in turn one with the shortest wait and one whose time came first.
fn in_turn<'d>(due: &[&'d Unjudged]) -> Vec<&'d Unjudged> {
    let mut by_wait: Vec<usize> = (0..due.len()).collect();
    let mut by_time = by_wait.clone();
    by_wait.sort_by_key(|at| (due[*at].wait, due[*at].next_at));
    by_time.sort_by_key(|at| due[*at].next_at);
    let mut is_taken = vec![false; due.len()];
    let in_turn = by_wait.into_iter().zip(by_time).flat_map(|(least, oldest)| [least, oldest]);
    in_turn.filter(|at| !std::mem::replace(&mut is_taken[*at], true)).map(|at| due[at]).collect()
}

impl Unjudged {
    fn is_of(&self, resource: &Resource) -> bool {
        self.hash == resource.hash && self.event == resource.event && *self.uri == *resource.uri
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Resource {
        UriComparison { ignore_case: false, seed: 1 }.resource(name.as_bytes(), PackageId(0))
    }

    #[test]
    fn what_is_outstanding_stays_until_a_later_judgement_is_carried_out() {
        let judgements = Judgements::new().unwrap();
        let alice = resource("sip:alice@b");
        let first = judgements.begin(&alice, None);
        assert!(judgements.leave(&alice, first, Outstanding::Subscribed, Moment::at(10)));
        assert_eq!(judgements.outstanding(&alice), Some(Outstanding::Subscribed));
        assert_eq!(judgements.outstanding(&resource("sip:bob@b")), None);
        judgements.carried_out(&alice, first.wrapping_sub(1));
        assert_eq!(judgements.len(), 1, "that one began before");
        let second = judgements.begin(&alice, None);
        assert!(judgements.leave(&alice, second, Outstanding::Remembered, Moment::at(11)));
        assert_eq!((judgements.len(), judgements.outstanding(&alice)), (1, Some(Outstanding::Remembered)));
        judgements.carried_out(&alice, second);
        assert_eq!((judgements.len(), judgements.outstanding(&alice)), (0, None));
    }

    #[test]
    fn a_judgement_that_began_before_does_not_open_what_was_shut() {
        let judgements = Judgements::new().unwrap();
        let alice = resource("sip:alice@b");
        let before = judgements.begin(&alice, Some(b"work"));
        assert!(judgements.shut(&alice, Moment::at(10)));
        assert_ne!(judgements.count(&alice), before, "a judgement under way is repeated");
        judgements.carried_out(&alice, before);
        assert_eq!(judgements.outstanding(&alice), Some(Outstanding::Subscribed));
        assert!(judgements.leave(&alice, before, Outstanding::Remembered, Moment::at(10)));
        assert_eq!(judgements.outstanding(&alice), Some(Outstanding::Subscribed));
        let after = judgements.begin(&alice, Some(b"home"));
        assert!(judgements.leave(&alice, after, Outstanding::Remembered, Moment::at(10)));
        assert_eq!(judgements.outstanding(&alice), Some(Outstanding::Remembered));
        judgements.carried_out(&alice, after);
        assert_eq!(judgements.outstanding(&alice), None);
    }

    #[test]
    fn what_fails_is_tried_less_and_less_often() {
        for outstanding in [Outstanding::Remembered, Outstanding::Subscribed] {
            let judgements = Judgements::new().unwrap();
            let (alice, mut now, mut waits) = (resource("sip:alice@b"), Moment::at(100), Vec::new());
            judgements.leave(&alice, 0, outstanding, now);
            for _ in 0..9 {
                let before = now;
                now = (1..).map(|more| now + Seconds(more)).find(|now| !judgements.due(*now, 9).is_empty()).unwrap();
                waits.push((now - before).0);
                judgements.leave(&alice, 0, outstanding, now);
            }
            assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
            // Changes in between are judged, too, and make it no later.
            judgements.leave(&alice, 0, outstanding, now + Seconds(3));
            let is_due = |seconds| !judgements.due(now + Seconds(seconds), 9).is_empty();
            assert!(!is_due(63) && is_due(64));
            // What is newly shut is tried soon.
            assert!(judgements.shut(&alice, now));
            assert_eq!(judgements.due(now + Seconds(1), 9), [(b"sip:alice@b".to_vec(), PackageId(0))]);
        }
    }

    #[test]
    fn what_could_be_judged_again_brings_the_others_forward() {
        let judgements = Judgements::new().unwrap();
        let [alice, bob] = ["sip:alice@b", "sip:bob@b"].map(resource);
        for now in [100, 101, 103, 107].map(Moment::at) {
            [&alice, &bob].into_iter().for_each(|one| assert!(judgements.leave(one, 0, Outstanding::Subscribed, now)));
        }
        assert!(judgements.due(Moment::at(114), 9).is_empty());
        judgements.carried_out(&alice, 0);
        assert_eq!(judgements.due(Moment::at(108), 9), [(b"sip:bob@b".to_vec(), PackageId(0))]);
        // It has its own pause again when it fails once more.
        judgements.leave(&bob, 0, Outstanding::Subscribed, Moment::at(108));
        assert!(judgements.due(Moment::at(123), 9).is_empty() && !judgements.due(Moment::at(124), 9).is_empty());
    }

    #[test]
    fn what_is_newly_shut_does_not_wait_for_those_that_always_fail() {
        let judgements = Judgements::new().unwrap();
        let failing = |n: usize| resource(&format!("sip:{n}@b"));
        // One more has failed as often; it can be judged then.
        for now in [100, 101, 103, 107].map(Moment::at) {
            (0..MOST_UNJUDGED).for_each(|n| assert!(judgements.leave(&failing(n), 0, Outstanding::Subscribed, now)));
        }
        judgements.carried_out(&failing(7), 0);
        let new = resource("sip:new@b");
        assert!(judgements.shut(&new, Moment::at(108)));
        let due = judgements.due(Moment::at(109), MOST_UNJUDGED);
        assert_eq!((due.len(), &due[0].0[..]), (MOST_UNJUDGED, &b"sip:new@b"[..]), "all are brought forward");
        assert_eq!(due.iter().collect::<std::collections::BTreeSet<_>>().len(), MOST_UNJUDGED, "each is there once");
    }

    #[test]
    fn many_that_are_new_do_not_keep_the_oldest_waiting() {
        let judgements = Judgements::new().unwrap();
        let old = resource("sip:old@b");
        [100, 101, 103].map(Moment::at).into_iter().for_each(|now| {
            judgements.leave(&old, 0, Outstanding::Subscribed, now);
        });
        (1..MOST_UNJUDGED).for_each(|n| assert!(judgements.shut(&resource(&format!("sip:{n}@b")), Moment::at(107))));
        assert_eq!(&judgements.due(Moment::at(108), 2)[1].0[..], b"sip:old@b");
    }

    #[test]
    fn the_list_is_bounded_and_each_resource_is_in_it_once() {
        let judgements = Judgements::new().unwrap();
        for n in (0..MOST_UNJUDGED).chain(0..MOST_UNJUDGED) {
            assert!(judgements.leave(&resource(&format!("sip:{n}@b")), 0, Outstanding::Subscribed, Moment::at(1)));
        }
        assert!(!judgements.leave(&resource("sip:more@b"), 0, Outstanding::Subscribed, Moment::at(1)));
        assert_eq!((judgements.len(), judgements.due(Moment::at(2), 4).len()), (MOST_UNJUDGED, 4));
    }

    #[test]
    fn a_sphere_is_the_one_that_was_judged_in() {
        let judgements = Judgements::new().unwrap();
        let alice = resource("sip:alice@b");
        assert!(!judgements.was_in(&alice, None), "nobody was judged yet");
        for sphere in [None, Some(&b"work"[..]), Some(b"")] {
            judgements.begin(&alice, sphere);
            for other in [None, Some(&b"work"[..]), Some(b""), Some(b"home")] {
                assert_eq!(judgements.was_in(&alice, other), other == sphere, "{sphere:?} {other:?}");
            }
        }
        judgements.leave(&alice, 0, Outstanding::Remembered, Moment::at(1));
        assert!(!judgements.was_in(&alice, Some(b"")));
    }
}
