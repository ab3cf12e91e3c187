//! Stored documents that are passed over, so that the others show: rows of other programs, documents of other nodes and
//! modules.
use crate::presence::publication::Publication;
use crate::time::{Moment, Seconds};
use foldhash::quality::FixedState;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

/// How many documents a process remembers of each kind; then it forgets all of them, and finds them again.
const MAX_KNOWN: usize = 1024;
/// How long a document is passed over that can be read, but of which its package makes nothing.
pub const TRIED_AGAIN_AFTER: Seconds = Seconds(60);
/// The time between two log lines.
const QUIET: Seconds = Seconds(60);

/// Whether a document that is not shown deserves a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnshownLine {
    /// The document is known.
    SaidBefore,
    /// There was a line a moment ago: the next one counts it.
    Counted,
    /// A line is due, which says how many others had none.
    Due {
        /// The number of the others.
        others: u32,
    },
}

/// Why a document is passed over.
#[derive(Debug, Clone, Copy)]
pub enum Unshown<'a> {
    /// The document cannot be read: it never will be.
    Unreadable,
    /// The document's package makes nothing of it: that may be the package's fault, or want of memory.
    Alone,
    /// The document's package makes nothing of it together with the others of these: without one of them it may.
    Among(&'a [Publication]),
}

/// What a process knows of documents that are passed over.
pub struct Unreadable {
    for_good: RefCell<BTreeSet<u64>>,
    for_now: RefCell<BTreeMap<u64, Moment>>,
    hasher: FixedState,
    said_at: Cell<Option<Moment>>,
    unsaid: Cell<u32>,
}

impl Unreadable {
    /// Remembers no document yet. Nobody outside should know the seed: documents with one hash are one here.
    pub fn new(seed: u64) -> Unreadable {
        Unreadable {
            for_good: RefCell::default(),
            for_now: RefCell::default(),
            hasher: FixedState::with_seed(seed),
            said_at: Cell::default(),
            unsaid: Cell::default(),
        }
    }

    fn key(&self, document: &Publication) -> u64 {
        self.hasher.hash_one((&document.etag, &document.body))
    }

    /// The key of a document among these, in whatever order they are.
    fn key_among(&self, key: u64, documents: &[Publication]) -> u64 {
        let all = documents.iter().fold(0u64, |sum, document| sum.wrapping_add(self.key(document)));
        self.hasher.hash_one((key, all))
    }

    /// Leaves out the documents that are known to be unreadable, and those that are passed over for now; returns when
    /// the first of the latter is tried again.
    pub fn leave_out(&self, documents: &mut Vec<Publication>, now: Moment) -> Option<Moment> {
        let (for_good, for_now) = (self.for_good.borrow(), self.for_now.borrow());
        if !for_good.is_empty() {
            documents.retain(|document| !for_good.contains(&self.key(document)));
        }
        if for_now.is_empty() {
            return None;
        }
        let until = |key: u64| for_now.get(&key).copied().filter(|until| *until > now);
        let waits: Vec<Option<Moment>> = documents
            .iter()
            .map(|document| self.key(document))
            .map(|key| until(key).or_else(|| until(self.key_among(key, documents))))
            .collect();
        let mut left = waits.iter().map(Option::is_none);
        documents.retain(|_| left.next().unwrap_or(true));
        waits.into_iter().flatten().min()
    }

    /// Notes a document.
    pub fn note(&self, document: &Publication, why: Unshown<'_>, now: Moment) -> UnshownLine {
        let key = self.key(document);
        let is_new = match why {
            Unshown::Unreadable => {
                let mut known = self.for_good.borrow_mut();
                if known.len() >= MAX_KNOWN {
                    known.clear();
                }
                known.insert(key)
            }
            Unshown::Alone => self.note_for_now(key, now),
            Unshown::Among(documents) => self.note_for_now(self.key_among(key, documents), now),
        };
        if !is_new {
            return UnshownLine::SaidBefore;
        }
        if self.said_at.get().is_some_and(|said_at| now - said_at < QUIET) {
            self.unsaid.set(self.unsaid.get().saturating_add(1));
            return UnshownLine::Counted;
        }
        self.said_at.set(Some(now));
        UnshownLine::Due { others: self.unsaid.replace(0) }
    }

    fn note_for_now(&self, key: u64, now: Moment) -> bool {
        let mut known = self.for_now.borrow_mut();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key, now + TRIED_AGAIN_AFTER).is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(etag: u32) -> Publication {
        Publication { etag: etag.to_string().as_str().into(), ..Publication::default() }
    }

    fn documents(etags: &[u32]) -> Vec<Publication> {
        etags.iter().map(|etag| document(*etag)).collect()
    }

    fn left(noted: &Unreadable, etags: &[u32], now: i64) -> (Vec<Publication>, Option<i64>) {
        let mut list = documents(etags);
        let until = noted.leave_out(&mut list, Moment::at(now));
        (list, until.map(|until| until.seconds()))
    }

    #[test]
    fn each_document_is_noted_once_and_lines_are_rare() {
        let noted = Unreadable::new(7);
        let note = |etag: u32, now: i64| noted.note(&document(etag), Unshown::Unreadable, Moment::at(now));
        assert_eq!(left(&noted, &[1, 2], 100), (documents(&[1, 2]), None));
        assert_eq!(note(1, 100), UnshownLine::Due { others: 0 });
        assert_eq!(note(1, 100), UnshownLine::SaidBefore);
        assert_eq!(left(&noted, &[1, 2], 100), (documents(&[2]), None));
        assert_eq!((note(2, 101), note(3, 159)), (UnshownLine::Counted, UnshownLine::Counted));
        assert_eq!(note(4, 160), UnshownLine::Due { others: 2 });
        for etag in 10..10 + 2 * MAX_KNOWN as u32 {
            note(etag, 161);
            noted.note(&document(etag), Unshown::Alone, Moment::at(161));
        }
        assert!(noted.for_good.borrow().len() <= MAX_KNOWN && noted.for_now.borrow().len() <= MAX_KNOWN);
    }

    #[test]
    fn what_can_be_read_is_tried_again() {
        let noted = Unreadable::new(7);
        noted.note(&document(1), Unshown::Alone, Moment::at(100));
        assert_eq!(left(&noted, &[1, 2], 159), (documents(&[2]), Some(160)));
        assert_eq!(left(&noted, &[3, 1], 159), (documents(&[3]), Some(160)), "whatever is beside it");
        assert_eq!(left(&noted, &[1, 2], 160), (documents(&[1, 2]), None));
        assert_ne!(
            noted.note(&document(1), Unshown::Alone, Moment::at(160)),
            UnshownLine::SaidBefore,
            "it is noted anew"
        );
    }

    #[test]
    fn what_does_not_go_with_others_shows_without_them() {
        let noted = Unreadable::new(7);
        noted.note(&document(1), Unshown::Among(&documents(&[1, 2])), Moment::at(100));
        assert_eq!(left(&noted, &[2, 1], 101), (documents(&[2]), Some(160)), "in whatever order they are");
        for others in [&[1][..], &[1, 3], &[1, 2, 3]] {
            assert_eq!(left(&noted, others, 101), (documents(others), None));
        }
        assert_eq!(left(&noted, &[1, 2], 160), (documents(&[1, 2]), None));
    }
}
