//! A publication: one document of a presentity under its entity tag (RFC 3903 4), and how a PUBLISH changes the list
//! of them.
pub mod direct_publish;
pub(crate) mod document;
pub mod publish;
pub mod publish_request;
pub(crate) mod published_body;
pub mod row_limits;

use super::composition::dialogs::SameCall;
pub use super::composition::dialogs::{DialogSum, DialogView, Dialogs};
use crate::cluster::clock::ClusterSecond;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment, Seconds};
use std::borrow::Cow;

/// For this long after the end of a call a document may be a late one of that call. One that was left out ends
/// the time: no publication ever loses a second one.
pub(super) const LATE_SECONDS: Seconds = Seconds(5);

/// One published document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// The entity tag.
    pub etag: EntityTag,
    /// The id of the record over all its entity tags.
    pub ruid: Vec<u8>,
    /// The sender (`handle_publish`'s argument); empty for nobody.
    pub sender: Vec<u8>,
    /// The document.
    pub body: Vec<u8>,
    /// When it ends; hard state never does.
    pub expires_at: Expiry,
    /// When it was received, where that is known.
    pub received_at: Option<Moment>,
    /// The same by the clock that nodes share, where they share one: which of two documents is newer.
    pub stamp: Option<ClusterSecond>,
    /// The publication's place among the presentity's documents.
    pub priority: i32,
    /// The dialogs in it.
    pub dialogs: Dialogs,
}

/// A refresh or modification.
#[derive(Debug, Clone, Default)]
pub struct Modification<'a> {
    /// The entity tag asked for.
    pub etag: EntityTag,
    /// The entity tag from now on.
    pub new_etag: EntityTag,
    /// The new document; none for a refresh.
    pub body: Option<Cow<'a, [u8]>>,
    /// The dialogs in it.
    pub dialogs: Dialogs,
    /// When it ends from now on.
    pub expires_at: Expiry,
    /// Now, where the clock of the node that announces it is known.
    pub received_at: Option<Moment>,
    /// The same by the clock that nodes share.
    pub stamp: Option<ClusterSecond>,
    /// The publication's place among the documents.
    pub priority: i32,
    /// The sender.
    pub sender: Vec<u8>,
    /// Several phones share the line it belongs to.
    pub line: Option<SharedLine>,
}

/// A line that several phones share (`dialog;sla`): a phone that is idle does not wipe out another one's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedLine {
    /// Whether their URIs are compared without regard to case.
    pub ignore_case: bool,
}

impl SharedLine {
    fn is_same_phone(self, one: &[u8], other: &[u8]) -> bool {
        if self.ignore_case { one.eq_ignore_ascii_case(other) } else { one == other }
    }
}

/// A change of a presentity's documents.
#[derive(Debug, Clone)]
pub enum Change<'a> {
    /// An initial publication.
    Insert(Publication),
    /// A refresh or a modification.
    Modify(Modification<'a>),
    /// The removal of the document under this entity tag.
    Remove(EntityTag),
    /// Dialogs that have ended: what speaks of them is removed.
    End(Dialogs),
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The document was stored; what spoke of the same dialogs went.
    Inserted,
    /// What spoke of the dialogs went.
    Ended,
    /// The document has its new tag.
    Modified {
        /// What stayed of it.
        keeps: Keeps,
    },
    /// The document is gone; this is what it was, and its place among the others.
    Removed(Publication, usize),
    /// There is no document under that tag.
    NoMatch,
}

/// What a store sees of a stored document when it plans a change.
pub trait StoredDocument {
    /// The publication's entity tag.
    fn etag(&self) -> EntityTag<&[u8]>;
    /// The id of its record; empty when unknown.
    fn ruid(&self) -> &[u8];
    /// Returns the sender.
    fn sender(&self) -> &[u8];
    /// When it was received, where that is known.
    fn received_at(&self) -> Option<Moment>;
    /// The publication's dialogs.
    fn dialogs(&self) -> DialogView<'_>;
}

impl StoredDocument for Publication {
    fn etag(&self) -> EntityTag<&[u8]> {
        self.etag.view()
    }
    fn ruid(&self) -> &[u8] {
        &self.ruid
    }
    fn sender(&self) -> &[u8] {
        &self.sender
    }
    fn received_at(&self) -> Option<Moment> {
        self.received_at
    }
    fn dialogs(&self) -> DialogView<'_> {
        self.dialogs.view()
    }
}

/// What is known of a publication that is gone, where another node speaks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The publisher has removed it.
    ForGood,
    /// The state was replaced, or a later one has run out: what has changed since may go on.
    AsItWas,
}

/// What stays of a document that is modified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// The fields that the modification does not name stay.
    Nothing,
    /// The body that was stored: what came is a late state of a call that has ended, and is held back. Tag and times
    /// change.
    Body,
    /// All of it: an idle phone speaks over another one's call.
    Everything,
}

/// What a store has to do for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Add the new document, if there is one, and remove those at `replaced`.
    Insert {
        /// Documents that speak of nothing but the same dialogs, ascending.
        replaced: Vec<usize>,
        /// Documents that speak of other dialogs, too: those go on.
        trimmed: Vec<usize>,
        /// The document whose body the new one keeps: what came is a late state of a call that has ended.
        keeps: Option<usize>,
    },
    /// Change the document at this place.
    Modify {
        /// The document's place.
        at: usize,
        /// What stays.
        keeps: Keeps,
    },
    /// Remove the document at this place.
    Remove {
        /// The document's place.
        at: usize,
    },
    /// No stored document matches.
    NoMatch,
}

impl Plan {
    /// Decides what a change means for these documents.
    pub fn for_change<D: StoredDocument>(documents: &[D], change: &Change) -> Plan {
        let find = |etag: EntityTag<&[u8]>| documents.iter().position(|document| document.etag() == etag);
        match change {
            // Another process was faster with what another node announced, be it this state of the record or another
            // one.
            Change::Insert(new) if find(new.etag.view()).is_some() || has_record(documents, &new.ruid) => Plan::NoMatch,
            Change::Insert(new) => {
                let mut plan = Plan::over(documents, new.dialogs.view());
                if let Plan::Insert { replaced, keeps, .. } = &mut plan {
                    *keeps = replaced.iter().copied().find(|at| {
                        let old = &documents[*at];
                        is_soon(old, new.received_at) && new.dialogs.view().is_late(&old.dialogs(), SameCall::ByDialog)
                    });
                }
                plan
            }
            Change::End(dialogs) => Plan::over(documents, dialogs.view()),
            Change::Modify(new) => find(new.etag.view())
                .map_or(Plan::NoMatch, |at| Plan::Modify { at, keeps: what_stays(&documents[at], new) }),
            Change::Remove(etag) => find(etag.view()).map_or(Plan::NoMatch, |at| Plan::Remove { at }),
        }
    }

    /// Plans that other documents no longer speak of these dialogs.
    fn over<D: StoredDocument>(documents: &[D], dialogs: DialogView<'_>) -> Plan {
        let (mut replaced, mut trimmed) = (Vec::new(), Vec::new());
        for (at, document) in documents.iter().enumerate() {
            let old = document.dialogs();
            if !old.share_any(&dialogs) {
                continue;
            }
            if old.is_within(&dialogs) { &mut replaced } else { &mut trimmed }.push(at);
        }
        Plan::Insert { replaced, trimmed, keeps: None }
    }
}

fn has_record<D: StoredDocument>(documents: &[D], ruid: &[u8]) -> bool {
    !ruid.is_empty() && documents.iter().any(|document| document.ruid() == ruid)
}

fn is_soon<D: StoredDocument>(end: &D, now: Option<Moment>) -> bool {
    now.zip(end.received_at()).is_some_and(|(now, ended)| now - ended <= LATE_SECONDS)
}

fn what_stays<D: StoredDocument>(old: &D, new: &Modification) -> Keeps {
    if new.body.is_none() {
        return Keeps::Nothing;
    }
    let (before, now) = (old.dialogs(), new.dialogs.view());
    if let Some(line) = new.line {
        let from_another = !new.sender.is_empty() && !line.is_same_phone(&new.sender, old.sender());
        if now.sum.count == 0 && before.sum.count > 0 && from_another {
            return Keeps::Everything;
        }
    }
    if !before.all_ended() || !is_soon(old, new.received_at) {
        return Keeps::Nothing;
    }
    // A publication that began with the end of a call: whatever rang before was overtaken.
    let began_with_the_end = new.line.is_none() && old.etag().changes() == 0;
    let same_call = if began_with_the_end { SameCall::ByCallId } else { SameCall::ByDialog };
    if now.is_late(&before, same_call) { Keeps::Body } else { Keeps::Nothing }
}

impl Publication {
    /// Applies a modification, `true` when its body is another one now.
    pub fn modify(&mut self, change: &Modification, keeps: Keeps) -> bool {
        self.renew(change, keeps);
        let Some(body) = change.body.as_ref().filter(|_| keeps == Keeps::Nothing) else { return false };
        self.body.clear();
        self.body.extend_from_slice(body);
        self.dialogs = change.dialogs.clone();
        true
    }

    /// Applies a modification to all but the body and what is known of it.
    pub fn renew(&mut self, change: &Modification, keeps: Keeps) {
        if keeps == Keeps::Everything {
            return;
        }
        self.etag.clone_from(&change.new_etag);
        self.expires_at = change.expires_at;
        self.received_at = change.received_at;
        self.stamp = change.stamp;
        self.priority = change.priority;
        // A refresh does not make a call on a shared line somebody else's.
        if !change.sender.is_empty() && (change.body.is_some() || change.line.is_none()) {
            self.sender.clone_from(&change.sender);
        }
        if keeps == Keeps::Body {
            self.received_at = after_late(change.received_at);
        }
    }

    /// The publication with the body of an earlier one, whose call has ended.
    pub fn keeping(&self, ended: Publication) -> Publication {
        let received_at = after_late(self.received_at);
        Publication { body: ended.body, dialogs: ended.dialogs, received_at, ..self.clone() }
    }

    /// The document without these dialogs; `None` where it cannot be read.
    pub fn without(&self, dialogs: &DialogView<'_>) -> Option<Publication> {
        let removed: Vec<u64> = dialogs.marks.iter().map(|mark| mark.id).collect();
        let body = super::composition::dialog_info::without(&self.body, &removed)?;
        Some(Publication { dialogs: Dialogs::of_document(&body), body, ..self.clone() })
    }
}

/// A late state was left out: the next one counts.
fn after_late(now: Option<Moment>) -> Option<Moment> {
    now.map(|now| now - LATE_SECONDS - Seconds(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialog(id: &str, state: &str) -> Publication {
        let body =
            format!("<dialog-info><dialog id=\"{id}\"><state>{state}</state></dialog></dialog-info>").into_bytes();
        Publication { etag: id.into(), dialogs: Dialogs::of_document(&body), body, ..Default::default() }
    }

    #[test]
    fn a_record_is_there_once() {
        let record = |etag: &str| Publication { etag: etag.into(), ruid: b"r".to_vec(), ..dialog("a", "early") };
        // Two processes store two states of the record that another node announced: neither replaces the other.
        assert_eq!(Plan::for_change(&[record("e.1")], &Change::Insert(record("e.0"))), Plan::NoMatch);
        let unnamed = |etag: &str| Publication { ruid: Vec::new(), ..record(etag) };
        assert_eq!(Plan::for_change(&[unnamed("e.1")], &Change::Insert(unnamed("e.0"))), plan(&[0], &[], None));
    }

    fn plan(replaced: &[usize], trimmed: &[usize], keeps: Option<usize>) -> Plan {
        Plan::Insert { replaced: replaced.to_vec(), trimmed: trimmed.to_vec(), keeps }
    }

    #[test]
    fn one_document_for_each_dialog() {
        let stored = [dialog("a", "early"), dialog("b", "early")];
        let change = Publication { etag: "c".into(), ..dialog("b", "confirmed") };
        assert_eq!(Plan::for_change(&stored, &Change::Insert(change)), plan(&[1], &[], None));
        assert_eq!(Plan::for_change(&stored, &Change::Insert(dialog("b", "confirmed"))), Plan::NoMatch);
    }

    #[test]
    fn of_a_document_with_several_dialogs_the_rest_stays() {
        let both = b"<dialog-info><dialog id='a'/><dialog id='b'/></dialog-info>";
        let stored = [Publication { dialogs: Dialogs::of_document(both), body: both.to_vec(), ..dialog("x", "early") }];
        let ended = Dialogs::of_document(&dialog("b", "terminated").body);
        assert_eq!(Plan::for_change(&stored, &Change::End(ended.clone())), plan(&[], &[0], None));
        let rest = stored[0].without(&ended.view()).unwrap();
        assert_eq!(rest.body, b"<dialog-info><dialog id='a'/></dialog-info>");
        assert_eq!((rest.dialogs.marks.len(), rest.dialogs.sum.count), (1, 1));
        assert_eq!(Plan::for_change(&stored, &Change::End(Dialogs::of_document(both))), plan(&[0], &[], None));
    }

    /// A document of one dialog: version, call-id, tags, state.
    fn state(version: &str, call: &str, state: &str) -> Dialogs {
        let version = if version.is_empty() { String::new() } else { format!(" version='{version}'") };
        let text = format!("<dialog-info{version}><dialog id='x' {call}><state>{state}</state></dialog></dialog-info>");
        Dialogs::of_document(text.as_bytes())
    }

    const CALL: &str = "call-id='1' local-tag='a' remote-tag='b'";

    /// What stays when `new` follows `end` after `seconds`, under an entity tag that has changed `changes` times.
    fn stays(changes: u32, end: Dialogs, seconds: i64, new: Dialogs) -> Keeps {
        let etag = EntityTag::from(format!("a.1.2.3.{changes}").as_str());
        let stored = [Publication {
            etag: etag.clone(),
            received_at: Some(Moment::at(100)),
            dialogs: end,
            ..Publication::default()
        }];
        let received_at = Some(Moment::at(100 + seconds));
        let change = Modification {
            etag,
            body: Some(Cow::Borrowed(b"x")),
            dialogs: new,
            received_at,
            ..Modification::default()
        };
        match Plan::for_change(&stored, &Change::Modify(change)) {
            Plan::Modify { keeps, .. } => keeps,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_next_call_of_a_publication_is_a_new_state() {
        for (version, call) in [("", ""), ("0", ""), ("0", "call-id='1'"), ("0", "call-id='1' local-tag='a'")] {
            for next in ["trying", "early", "confirmed", "terminated"] {
                let keeps = stays(2, state(version, call, "terminated"), 0, state(version, call, next));
                assert_eq!(keeps, Keeps::Nothing, "{version} {call} {next}");
            }
        }
        // A higher version, another call, another dialog, or some time between.
        let end = || state("5", CALL, "terminated");
        assert_eq!(stays(2, end(), 0, state("6", CALL, "early")), Keeps::Nothing);
        assert_eq!(stays(2, end(), 0, state("1", "call-id='2'", "early")), Keeps::Nothing);
        assert_eq!(stays(2, end(), 0, Dialogs::of_document(&dialog("y", "early").body)), Keeps::Nothing);
        assert_eq!(stays(2, end(), 6, state("1", CALL, "early")), Keeps::Nothing);
        assert_eq!(stays(2, state("5", CALL, "confirmed"), 0, state("1", CALL, "early")), Keeps::Nothing);
    }

    #[test]
    fn a_late_state_of_an_ended_call_is_left_out() {
        let end = || state("5", CALL, "terminated");
        assert_eq!(stays(2, end(), 0, state("4", CALL, "confirmed")), Keeps::Body);
        assert_eq!(stays(2, state("5", "", "terminated"), 5, state("4", "", "early")), Keeps::Body);
        assert_eq!(stays(2, end(), 1, state("5", CALL, "early")), Keeps::Body);
        assert_eq!(stays(2, state("", CALL, "terminated"), 1, state("", CALL, "trying")), Keeps::Body);
        // What began with its end was overtaken.
        assert_eq!(
            stays(0, state("0", "call-id='1'", "terminated"), 0, state("0", "call-id='1'", "early")),
            Keeps::Body
        );
        assert_eq!(stays(0, state("0", "", "terminated"), 0, state("0", "", "early")), Keeps::Nothing);
    }

    #[test]
    fn one_document_after_the_end_may_be_left_out_and_no_more() {
        let etag = "a.1.2.3.7".into();
        let mut stored = Publication {
            etag,
            received_at: Some(Moment::at(100)),
            dialogs: state("9", "", "terminated"),
            ..Default::default()
        };
        let late = |stored: &Publication| Modification {
            etag: stored.etag.clone(),
            new_etag: "a.1.2.3.8".into(),
            body: Some(Cow::Borrowed(b"x")),
            dialogs: state("0", "", "early"),
            received_at: Some(Moment::at(100)),
            ..Modification::default()
        };
        for expected in [Keeps::Body, Keeps::Nothing] {
            let change = late(&stored);
            let plan = Plan::for_change(std::slice::from_ref(&stored), &Change::Modify(change.clone()));
            assert_eq!(plan, Plan::Modify { at: 0, keeps: expected });
            assert_eq!(stored.modify(&change, expected), expected == Keeps::Nothing);
        }
        assert_eq!(stored.body, b"x");
    }

    #[test]
    fn a_new_publication_keeps_the_end_that_has_overtaken_it() {
        let end = Publication {
            etag: "a".into(),
            body: b"end".to_vec(),
            dialogs: state("3", CALL, "terminated"),
            received_at: Some(Moment::at(100)),
            ..Default::default()
        };
        let new = |dialogs| Publication { etag: "b".into(), body: b"new".to_vec(), dialogs, ..end.clone() };
        let late = new(state("2", CALL, "early"));
        assert_eq!(
            Plan::for_change(std::slice::from_ref(&end), &Change::Insert(late.clone())),
            plan(&[0], &[], Some(0))
        );
        assert_eq!((late.keeping(end.clone()).body, late.keeping(end.clone()).etag), (b"end".to_vec(), "b".into()));
        let next = new(state("0", "call-id='2'", "early"));
        assert_eq!(Plan::for_change(&[end], &Change::Insert(next)), plan(&[0], &[], None));
    }

    #[test]
    fn an_idle_phone_does_not_wipe_out_a_call_on_a_shared_line() {
        let stored = [Publication { sender: b"sip:x@h".to_vec(), ..dialog("a", "confirmed") }];
        let idle = |sender: &[u8], ignore_case| {
            Change::Modify(Modification {
                etag: "a".into(),
                body: Some(Cow::Borrowed(b"<dialog-info/>")),
                sender: sender.to_vec(),
                line: Some(SharedLine { ignore_case }),
                ..Modification::default()
            })
        };
        let keeps = |change: Change| match Plan::for_change(&stored, &change) {
            Plan::Modify { keeps, .. } => keeps,
            other => panic!("{other:?}"),
        };
        assert_eq!(keeps(idle(b"sip:y@h", false)), Keeps::Everything);
        assert_eq!(keeps(idle(b"sip:X@h", false)), Keeps::Everything);
        assert_eq!(keeps(idle(b"sip:X@h", true)), Keeps::Nothing);
        assert_eq!(keeps(idle(b"sip:x@h", false)), Keeps::Nothing);
        assert_eq!(keeps(idle(b"", false)), Keeps::Nothing);
        assert_eq!(Plan::for_change(&stored, &Change::Remove("zz".into())), Plan::NoMatch);
    }
}
