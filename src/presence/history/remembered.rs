//! What is remembered of changes and of NOTIFYs: when, what, and how it was answered.
use crate::presence::event_package::PackageId;
use crate::presence::notification::NotifyReason;
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Lifetime, MicroMoment, Micros, Millis};

/// What was done to the documents of a presentity, or to the one that is made from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// An initial publication.
    New,
    /// A document took the place of the one under its entity tag.
    Modified,
    /// A publication was refreshed, its document stayed.
    Refreshed,
    /// A publication was removed.
    Removed,
    /// A publication expired.
    RanOut,
    /// The dialogs of documents ended, and the documents went.
    DialogsEnded,
    /// The event package has put the documents together.
    Composed,
}

shm_safe!(
    enum ChangeKind {
        New,
        Modified,
        Refreshed,
        Removed,
        RanOut,
        DialogsEnded,
        Composed,
    }
);

impl ChangeKind {
    /// The step this is, as the list names it.
    pub fn step(self) -> &'static str {
        match self {
            ChangeKind::Composed => "composed",
            _ => "published",
        }
    }

    /// In words.
    pub fn sentence(self) -> &'static str {
        match self {
            ChangeKind::New => "a new publication",
            ChangeKind::Modified => "a new document under an entity tag",
            ChangeKind::Refreshed => "a refresh without a document",
            ChangeKind::Removed => "a publication was removed (Expires: 0)",
            ChangeKind::RanOut => "a publication ran out: its publisher did not refresh it",
            ChangeKind::DialogsEnded => "the dialogs of a document have ended, and it was removed",
            ChangeKind::Composed => "the document for the watchers was put together",
        }
    }
}

/// A body, as far as it is remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BodyDigest {
    /// The body's length.
    pub bytes: u32,
    /// The body's CRC-32, that of no body being 0.
    pub crc32: u32,
}

shm_safe!(BodyDigest { bytes, crc32 });

impl BodyDigest {
    /// The digest of a body.
    pub fn of_body(body: &[u8]) -> BodyDigest {
        if body.is_empty() {
            return BodyDigest::default();
        }
        BodyDigest { bytes: u32::try_from(body.len()).unwrap_or(u32::MAX), crc32: crc32fast::hash(body) }
    }
}

/// What is known of a body that may have been made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownBody<B> {
    /// No body is known: it has to be made.
    Unknown,
    /// There is none.
    None,
    /// The body is this one.
    Body(B),
}

impl<B> KnownBody<B> {
    /// What was made just now.
    pub fn of_made(made: Option<B>) -> KnownBody<B> {
        made.map_or(KnownBody::None, KnownBody::Body)
    }

    /// The body, if it is known and there is one.
    pub fn body(self) -> Option<B> {
        match self {
            KnownBody::Unknown | KnownBody::None => None,
            KnownBody::Body(body) => Some(body),
        }
    }

    /// The same of what is made of the body.
    pub fn map<C>(self, make: impl FnOnce(B) -> C) -> KnownBody<C> {
        match self {
            KnownBody::Unknown => KnownBody::Unknown,
            KnownBody::None => KnownBody::None,
            KnownBody::Body(body) => KnownBody::Body(make(body)),
        }
    }
}

/// A body and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    /// The body.
    pub body: Vec<u8>,
    /// The digest of the body.
    pub digest: BodyDigest,
}

impl Digested {
    /// Digests a body.
    pub fn new(body: Vec<u8>) -> Digested {
        Digested { digest: BodyDigest::of_body(&body), body }
    }
}

/// A change of a presentity's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentChange {
    /// When the documents changed.
    pub at: MicroMoment,
    /// The event package.
    pub event: PackageId,
    /// Whose documents.
    pub presentity: Vec<u8>,
    /// What was done.
    pub kind: ChangeKind,
    /// The sender, where that is known.
    pub sender: Vec<u8>,
    /// The entity tag from then on, of a removal the one that went.
    pub etag: EntityTag,
    /// The document.
    pub body: BodyDigest,
    /// For how long it was accepted, where that has a meaning.
    pub expires: Option<Lifetime>,
}

/// What became of a NOTIFY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyOutcome {
    /// The NOTIFY's answer has not come yet.
    Awaited,
    /// The NOTIFY's final status; 408: nobody answered.
    Final(u16),
    /// The NOTIFY could not be sent.
    NotSent,
    /// The script dropped it in `event_route[tm:local-request]`.
    Dropped,
}

shm_safe!(
    enum NotifyOutcome {
        Awaited,
        Final(value),
        NotSent,
        Dropped,
    }
);

/// A NOTIFY that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentNotify {
    /// When the NOTIFY was sent.
    pub at: MicroMoment,
    /// The event package.
    pub event: PackageId,
    /// Whose state it carries.
    pub presentity: Vec<u8>,
    /// The watcher that got it.
    pub watcher: Vec<u8>,
    /// The hash of its dialog.
    pub dialog: u64,
    /// Why it was sent.
    pub reason: NotifyReason,
    /// The NOTIFY's CSeq.
    pub cseq: u32,
    /// The NOTIFY's body.
    pub body: BodyDigest,
    /// What became of it.
    pub answer: NotifyOutcome,
    /// When that was known.
    pub answered_at: MicroMoment,
}

impl SentNotify {
    /// The NOTIFY's answer and how long that took, in words.
    pub fn answer_in_words(&self, now: MicroMoment) -> String {
        match self.answer {
            NotifyOutcome::Awaited => format!("awaited for {}", span(now.since(self.at))),
            NotifyOutcome::Final(408) => {
                format!("408 after {} (nobody answered)", span(self.answered_at.since(self.at)))
            }
            NotifyOutcome::Final(code) => format!("{code} after {}", span(self.answered_at.since(self.at))),
            NotifyOutcome::NotSent => "none: it could not be sent".into(),
            NotifyOutcome::Dropped => "none: the script dropped it".into(),
        }
    }
}

/// A time that has passed: milliseconds below ten seconds, then seconds.
fn span(passed: Micros) -> String {
    let Millis(millis) = passed.millis();
    if millis < 10_000 { format!("{millis} ms") } else { format!("{} s", millis / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(answer: NotifyOutcome) -> SentNotify {
        SentNotify {
            at: MicroMoment(1_000_000),
            event: PackageId(0),
            presentity: Vec::new(),
            watcher: Vec::new(),
            dialog: 1,
            reason: NotifyReason::Change,
            cseq: 1,
            body: BodyDigest::default(),
            answer,
            answered_at: MicroMoment(1_012_900),
        }
    }

    #[test]
    fn an_answer_says_how_long_it_took() {
        assert_eq!(sent(NotifyOutcome::Final(200)).answer_in_words(MicroMoment(9)), "200 after 12 ms");
        assert_eq!(
            sent(NotifyOutcome::Final(408)).answer_in_words(MicroMoment(9)),
            "408 after 12 ms (nobody answered)"
        );
        assert_eq!(sent(NotifyOutcome::Awaited).answer_in_words(MicroMoment(31_000_000)), "awaited for 30 s");
        // The clock was set back.
        assert_eq!(sent(NotifyOutcome::Awaited).answer_in_words(MicroMoment(0)), "awaited for 0 ms");
    }

    #[test]
    fn no_body_has_no_digest() {
        assert_eq!(BodyDigest::of_body(b""), BodyDigest::default());
        assert_eq!(BodyDigest::of_body(b"123456789"), BodyDigest { bytes: 9, crc32: 0xcbf4_3926 });
    }
}
