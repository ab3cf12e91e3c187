//! A publication: one document of a presentity under its entity tag (RFC 3903 4), and how a PUBLISH changes the list of them.
use super::dialog_info::DialogInfo;
use std::hash::Hasher;

/// The dialogs a dialog document speaks of (RFC 4235); empty for other documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dialogs {
    /// Hashes of the dialog ids.
    pub ids: Vec<u64>,
    /// There are dialogs and all of them have ended.
    pub all_ended: bool,
}

impl Dialogs {
    /// Those of a dialog document.
    pub fn of(document: &[u8]) -> Dialogs {
        let Some(info) = DialogInfo::parse(document) else { return Dialogs::default() };
        let hash = |id: &Vec<u8>| {
            let mut hasher = std::hash::DefaultHasher::new();
            hasher.write(id);
            hasher.finish()
        };
        Dialogs { ids: info.ids.iter().map(hash).collect(), all_ended: info.all_terminated() }
    }
}

/// The expiry of a document that does not expire (hard state).
pub const NEVER: i64 = -1;

/// One published document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// The entity tag.
    pub etag: Vec<u8>,
    /// The id of the record over all its entity tags.
    pub ruid: Vec<u8>,
    /// Who sent it (`handle_publish`'s argument); empty for nobody.
    pub sender: Vec<u8>,
    /// The document.
    pub body: Vec<u8>,
    /// When it ends, in seconds since 1970, or [`NEVER`].
    pub expires_at: i64,
    /// When it was received.
    pub received_at: i64,
    /// Its place among the presentity's documents.
    pub priority: i32,
    /// The dialogs in it.
    pub dialogs: Dialogs,
}

/// A refresh or modification.
#[derive(Debug, Clone, Default)]
pub struct Modification {
    /// The entity tag asked for.
    pub etag: Vec<u8>,
    /// The entity tag from now on.
    pub new_etag: Vec<u8>,
    /// The new document; none for a refresh.
    pub body: Option<Vec<u8>>,
    /// The dialogs in it.
    pub dialogs: Dialogs,
    /// When it ends from now on.
    pub expires_at: i64,
    /// Now.
    pub received_at: i64,
    /// Its place among the documents.
    pub priority: i32,
    /// Who sends it.
    pub sender: Vec<u8>,
}

/// A change of a presentity's documents.
#[derive(Debug, Clone)]
pub enum Change {
    /// An initial publication.
    Insert(Publication),
    /// A refresh or a modification.
    Modify(Modification),
    /// The removal of the document under this entity tag.
    Remove(Vec<u8>),
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The document was stored; documents of the same dialogs went.
    Inserted,
    /// The document has its new tag.
    Modified {
        /// Whether watchers have to be told.
        changed: bool,
    },
    /// The document is gone; this is what it was, and its place among the others.
    Removed(Publication, usize),
    /// There is no document under that tag.
    NoMatch,
}

/// What a store sees of a stored document when it plans a change.
pub trait Stored {
    /// Its entity tag.
    fn etag(&self) -> &[u8];
    /// The hashes of its dialogs' ids.
    fn dialog_ids(&self) -> &[u64];
    /// Whether all its dialogs have ended.
    fn all_ended(&self) -> bool;
}

impl Stored for Publication {
    fn etag(&self) -> &[u8] {
        &self.etag
    }
    fn dialog_ids(&self) -> &[u64] {
        &self.dialogs.ids
    }
    fn all_ended(&self) -> bool {
        self.dialogs.all_ended
    }
}

/// What a store has to do for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Add the new document, remove those at these places (ascending).
    Insert {
        /// Documents of the same dialogs.
        replaced: Vec<usize>,
    },
    /// Change the document at this place.
    Modify {
        /// Its place.
        at: usize,
        /// Its dialogs have all ended: only tag and times change (RFC 4235 3.7.1).
        keep_body: bool,
    },
    /// Remove the document at this place.
    Remove {
        /// Its place.
        at: usize,
    },
    /// Nothing matches.
    NoMatch,
}

impl Plan {
    /// Decides what a change means for these documents.
    pub fn of<D: Stored>(documents: &[D], change: &Change) -> Plan {
        let find = |etag: &[u8]| documents.iter().position(|document| document.etag() == etag);
        match change {
            // Another process was faster with what another node told.
            Change::Insert(new) if find(&new.etag).is_some() => Plan::NoMatch,
            Change::Insert(new) => {
                let same = |d: &D| d.dialog_ids().iter().any(|id| new.dialogs.ids.contains(id));
                let places = documents.iter().enumerate().filter(|(_, d)| same(d)).map(|(at, _)| at);
                Plan::Insert { replaced: places.collect() }
            }
            Change::Modify(new) => find(&new.etag).map_or(Plan::NoMatch, |at| Plan::Modify {
                at,
                keep_body: documents[at].all_ended() && new.body.is_some(),
            }),
            Change::Remove(etag) => find(etag).map_or(Plan::NoMatch, |at| Plan::Remove { at }),
        }
    }
}

/// Sorts documents into the order in which they are put together.
pub fn sort(documents: &mut [Publication], by_priority: bool) {
    if by_priority {
        documents.sort_by_key(|d| (d.priority, d.received_at));
    } else {
        documents.sort_by_key(|d| d.received_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialog(id: &str, state: &str) -> Publication {
        let body =
            format!("<dialog-info><dialog id=\"{id}\"><state>{state}</state></dialog></dialog-info>").into_bytes();
        Publication { etag: id.as_bytes().to_vec(), dialogs: Dialogs::of(&body), body, ..Default::default() }
    }

    #[test]
    fn one_document_for_each_dialog() {
        let stored = [dialog("a", "early"), dialog("b", "early")];
        let change = Publication { etag: b"c".to_vec(), ..dialog("b", "confirmed") };
        assert_eq!(Plan::of(&stored, &Change::Insert(change)), Plan::Insert { replaced: vec![1] });
        assert_eq!(Plan::of(&stored, &Change::Insert(dialog("b", "confirmed"))), Plan::NoMatch);
    }

    #[test]
    fn an_ended_dialog_stays_ended() {
        let stored = [dialog("a", "terminated")];
        let change = Modification {
            etag: b"a".to_vec(),
            new_etag: b"n".to_vec(),
            body: Some(b"x".to_vec()),
            dialogs: Dialogs::default(),
            expires_at: 0,
            received_at: 0,
            priority: 0,
            sender: Vec::new(),
        };
        assert_eq!(Plan::of(&stored, &Change::Modify(change)), Plan::Modify { at: 0, keep_body: true });
        assert_eq!(Plan::of(&stored, &Change::Remove(b"zz".to_vec())), Plan::NoMatch);
    }
}
