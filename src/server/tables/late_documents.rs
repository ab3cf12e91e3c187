//! Late documents that are held back, in shared memory (see [`crate::presence::composition::late`]).
use crate::host::lock::Lock;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::composition::late::{HELD_FOR, Late, LateSelection, pause};
use crate::presence::event_package::PackageId;
use crate::presence::resource::{Resource, UriComparison};
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::sip::packed::Strings;
use crate::time::Moment;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many are held.
const MOST_HELD_BACK: usize = 256;

/// How long a document may be, in bytes.
const LONGEST: usize = 16_384;

struct Held {
    hash: u64,
    event: PackageId,
    /// URI, entity tag, document.
    strings: Strings<2, ShmBox<[u8]>>,
    due: Moment,
    tries: u8,
    is_broken_off: bool,
}

shm_safe!(Held { hash, event, strings, due, tries, is_broken_off });

impl Held {
    fn is_of(&self, resource: &Resource, etag: EntityTag<&[u8]>) -> bool {
        self.hash == resource.hash && self.strings.get(1) == etag.bytes()
    }
}

/// The documents that are held back.
pub struct LateDocuments {
    /// How many there are: most PUBLISHes need no lock to know that there is none.
    count: AtomicUsize,
    list: Lock<ShmVec<Held>>,
}

shm_safe!(LateDocuments { count, list });

impl LateDocuments {
    /// None; call before the processes fork.
    pub fn new() -> LateDocuments {
        LateDocuments { count: AtomicUsize::new(0), list: Lock::new(ShmVec::new_in(Shm)) }
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Holds one; `false` where there is no place.
    #[must_use = "what is not held is shown"]
    pub fn hold(&self, late: &Late, now: Moment) -> bool {
        if late.body.len() > LONGEST {
            return false;
        }
        let Ok(strings) = Strings::joined(&[&late.resource.uri, late.etag.bytes(), &late.body], shm::concat) else {
            return false;
        };
        let Resource { hash, event, .. } = late.resource;
        let held = Held { hash, event, strings, due: now + HELD_FOR, tries: 0, is_broken_off: false };
        let mut list = self.list.lock();
        let is_held = list.len() < MOST_HELD_BACK && shm::push(&mut list, held).is_ok();
        self.count.store(list.len(), Ordering::Relaxed);
        is_held
    }

    /// The document held for the publication under this entity tag. It stays held, for its whole time from now on,
    /// until [`LateDocuments::release`] is called with it.
    pub fn find(&self, resource: &Resource, etag: EntityTag<&[u8]>, now: Moment) -> Option<Late> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.list.lock();
        let found = list.iter_mut().find(|held| held.is_of(resource, etag))?;
        found.due = now + HELD_FOR;
        let (etag, body) = (etag.to_owned_tag(), found.strings.get(2).to_vec());
        let (tries, is_broken_off) = (found.tries, found.is_broken_off);
        Some(Late { resource: resource.clone(), etag, body, tries, is_broken_off })
    }

    /// Returns the documents whose time has come, or all, in the order in which they came; they stay held, and are due
    /// again later.
    pub fn due(&self, rule: UriComparison, now: Moment, taken: LateSelection) -> Vec<Late> {
        if self.is_empty() {
            return Vec::new();
        }
        let late = |held: &Held| Late {
            resource: rule.resource(held.strings.get(0), held.event),
            etag: EntityTag::new(held.strings.get(1).to_vec()),
            body: held.strings.get(2).to_vec(),
            tries: held.tries,
            is_broken_off: held.is_broken_off,
        };
        let mut list = self.list.lock();
        let due = list.iter_mut().filter(|held| taken == LateSelection::All || held.due <= now);
        due.map(|held| {
            let late = late(held);
            held.tries = held.tries.saturating_add(1);
            held.due = now + pause(held.tries);
            late
        })
        .collect()
    }

    /// A panic has kept this document from being shown.
    pub fn note_broken_off(&self, late: &Late) {
        let mut list = self.list.lock();
        let is_it = |held: &&mut Held| held.is_of(&late.resource, late.etag.view());
        list.iter_mut().filter(is_it).for_each(|held| held.is_broken_off = true);
    }

    /// Releases a document: it is stored, or nothing that is stored can be it any more.
    pub fn release(&self, late: &Late) {
        let mut list = self.list.lock();
        let is_it =
            |held: &Held| held.is_of(&late.resource, late.etag.view()) && held.strings.get(2) == late.body.as_slice();
        let released = list.iter().position(is_it).map(|at| list.remove(at));
        self.count.store(list.len(), Ordering::Relaxed);
        drop(list);
        drop(released);
    }
}

impl Default for LateDocuments {
    fn default() -> Self {
        LateDocuments::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> UriComparison {
        UriComparison { ignore_case: false, seed: 1 }
    }

    fn late(etag: &str, body: &[u8]) -> Late {
        let resource = rule().resource(b"sip:a@b", PackageId(1));
        Late { resource, etag: etag.into(), body: body.to_vec(), tries: 0, is_broken_off: false }
    }

    #[test]
    fn what_cannot_be_stored_is_tried_less_and_less_often() {
        let documents = LateDocuments::new();
        assert!(documents.hold(&late("1", b"one"), Moment::EPOCH));
        let tries: Vec<(i64, u8)> = (0..2_000)
            .flat_map(|now| {
                documents
                    .due(rule(), Moment::at(now), LateSelection::Due)
                    .into_iter()
                    .map(move |late| (now, late.tries))
            })
            .collect();
        let moments = [5, 10, 20, 40, 80, 160, 320, 640, 960, 1280, 1600, 1920];
        assert_eq!(tries, moments.into_iter().zip(0..).collect::<Vec<_>>());
    }

    #[test]
    fn a_document_is_held_for_its_time_and_within_bounds() {
        let documents = LateDocuments::new();
        assert!(
            documents.hold(&late("1", b"one"), Moment::at(100)) && documents.hold(&late("2", b"two"), Moment::at(101))
        );
        assert!(!documents.hold(&late("3", &[b'x'; LONGEST + 1]), Moment::at(100)));
        assert!(documents.due(rule(), Moment::at(104), LateSelection::Due).is_empty());
        assert_eq!(documents.due(rule(), Moment::at(105), LateSelection::Due), [late("1", b"one")]);
        assert!(documents.due(rule(), Moment::at(105), LateSelection::Due).is_empty(), "somebody has it in hand");
        documents.release(&late("1", b"one"));
        assert_eq!(documents.find(&late("2", b"").resource, EntityTag::new(b"1"), Moment::at(105)), None);
        assert_eq!(
            documents.find(&late("2", b"").resource, EntityTag::new(b"2"), Moment::at(105)),
            Some(late("2", b"two"))
        );
        assert!(documents.due(rule(), Moment::at(109), LateSelection::Due).is_empty());
        assert_eq!(
            documents.due(rule(), Moment::at(110), LateSelection::Due),
            [late("2", b"two")],
            "what is not released is due again"
        );
        documents.release(&late("2", b"another"));
        assert!(!documents.is_empty(), "a newer document under the same entity tag stays");
        documents.release(&late("2", b"two"));
        assert!(documents.is_empty());
        let held =
            (0..MOST_HELD_BACK + 1).filter(|n| documents.hold(&late(&n.to_string(), b"x"), Moment::at(0))).count();
        assert_eq!(held, MOST_HELD_BACK);
        assert_eq!(documents.due(rule(), Moment::at(0), LateSelection::All).len(), MOST_HELD_BACK);
    }
}
