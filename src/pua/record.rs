//! What is remembered of a publication or a subscription: a row of the `pua` table.
use crate::pua::flags::{EventFlags, SourceFlags};
use crate::shm_safe::{ShmSafe, shm_safe};
use crate::sip::entity_tag::EntityTag;
use crate::sip::packed::Strings;
use crate::time::{Expiry, Moment};

/// The strings of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum RecordField {
    PresUri,
    WatcherUri,
    Id,
    Etag,
    TupleId,
    CallId,
    FromTag,
    ToTag,
    RecordRoute,
    Contact,
    RemoteContact,
    ExtraHeaders,
    OutboundProxy,
    ContentType,
    Body,
}

/// How many [`RecordField`]s there are.
pub const FIELDS: usize = 15;

/// What has to be done to the row of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRowState {
    /// The row is as the memory is.
    Clean,
    /// There is no row yet.
    Insert,
    /// The row is older than the memory.
    Update,
}

shm_safe!(
    enum RecordRowState {
        Clean,
        Insert,
        Update,
    }
);

/// The numbers of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordState {
    /// The record's place in memory, and its age: larger is newer. 0 until it is stored.
    pub serial: u64,
    /// The event's flag.
    pub event: EventFlags,
    /// Whose it is: the caller's source flag.
    pub flag: SourceFlags,
    /// When it ends, as the server said.
    pub expires_at: Moment,
    /// Until when its owner wants it.
    pub desired_until: Expiry,
    /// The CSeq of the last SUBSCRIBE.
    pub cseq: u32,
    /// How often it was changed.
    pub version: u32,
    /// What the row needs.
    pub row_state: RecordRowState,
}

shm_safe!(RecordState { serial, event, flag, expires_at, desired_until, cseq, version, row_state });

/// A record whose strings are in `B`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<B = Box<[u8]>> {
    /// The numbers.
    pub state: RecordState,
    strings: Strings<{ FIELDS - 1 }, B>,
}

shm_safe!([B: ShmSafe] Record<B> { state, strings });

impl Record {
    /// A record of these strings; the others are empty.
    pub fn new(state: RecordState, given: &[(RecordField, &[u8])]) -> Record {
        let mut parts: [&[u8]; FIELDS] = [&[]; FIELDS];
        for (field, value) in given {
            parts[*field as usize] = value;
        }
        Record { state, strings: Strings::new(&parts) }
    }
}

impl<B: AsRef<[u8]>> Record<B> {
    /// One of its strings.
    pub fn get(&self, field: RecordField) -> &[u8] {
        self.strings.get(field as usize)
    }

    /// The entity tag of a publication that its server has granted.
    pub fn etag(&self) -> Option<EntityTag<&[u8]>> {
        EntityTag::named(self.get(RecordField::Etag))
    }

    /// The same with its strings in a block made by `copy`.
    ///
    /// # Errors
    ///
    /// Fails when `copy` fails.
    pub fn map<C, E>(&self, copy: impl FnOnce(&[u8]) -> Result<C, E>) -> Result<Record<C>, E> {
        Ok(Record { state: self.state, strings: self.strings.map(copy)? })
    }

    /// A private copy.
    pub fn to_private(&self) -> Record {
        Record { state: self.state, strings: self.strings.to_private() }
    }

    /// A private copy with some strings replaced.
    pub fn with(&self, changes: &[(RecordField, &[u8])]) -> Record {
        let changes: Vec<(usize, &[u8])> = changes.iter().map(|(field, value)| (*field as usize, *value)).collect();
        Record { state: self.state, strings: self.strings.with::<FIELDS>(&changes) }
    }

    /// Whether it is a subscription; otherwise it is a publication.
    pub fn is_subscription(&self) -> bool {
        !self.get(RecordField::WatcherUri).is_empty()
    }

    /// Whether it is a subscription whose server has not answered yet.
    pub fn is_temporary(&self) -> bool {
        self.is_subscription() && self.get(RecordField::ToTag).is_empty()
    }

    /// The dialog of a subscription.
    pub fn dialog(&self) -> Dialog<'_> {
        Dialog {
            pres_uri: self.get(RecordField::PresUri),
            watcher_uri: self.get(RecordField::WatcherUri),
            call_id: self.get(RecordField::CallId),
            from_tag: self.get(RecordField::FromTag),
            to_tag: self.get(RecordField::ToTag),
        }
    }
}

/// A dialog that we opened by a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialog<'a> {
    /// Whom it is about (To of the SUBSCRIBE).
    pub pres_uri: &'a [u8],
    /// The watcher (its From).
    pub watcher_uri: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// Our tag.
    pub from_tag: &'a [u8],
    /// The server's tag.
    pub to_tag: &'a [u8],
}

/// What a record is looked for by.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Presentity URI.
    pub pres_uri: &'a [u8],
    /// Watcher URI; empty: a publication is looked for.
    pub watcher_uri: &'a [u8],
    /// The caller's id; empty: any.
    pub id: &'a [u8],
    /// The entity tag; `None`: any.
    pub etag: Option<EntityTag<&'a [u8]>>,
    /// The remote target; only compared for subscriptions, as `check_remote_contact` wants it.
    pub remote_contact: &'a [u8],
    /// The Call-ID of the one dialog that is meant; empty: any.
    pub call_id: &'a [u8],
    /// The event's flag.
    pub event: EventFlags,
    /// Source flags, any of them.
    pub flag: SourceFlags,
    /// `check_remote_contact`.
    pub check_remote_contact: bool,
}

impl Search<'_> {
    /// Whether this record is one of those looked for.
    pub fn matches<B: AsRef<[u8]>>(&self, record: &Record<B>) -> bool {
        let state = &record.state;
        let same = state.flag.share_any(self.flag)
            && state.event.share_any(self.event)
            && record.get(RecordField::PresUri) == self.pres_uri
            && record.get(RecordField::WatcherUri) == self.watcher_uri
            && (self.id.is_empty() || record.get(RecordField::Id) == self.id);
        if !same {
            return false;
        }
        if self.watcher_uri.is_empty() {
            return self.etag.is_none_or(|etag| record.etag() == Some(etag));
        }
        if !self.call_id.is_empty() {
            return record.get(RecordField::CallId) == self.call_id;
        }
        // A search without a target means the one there is.
        !self.check_remote_contact
            || self.remote_contact.is_empty()
            || record.is_temporary()
            || record.get(RecordField::RemoteContact) == self.remote_contact
    }
}

/// What has to become of a record: `before` is what is stored, `after` what is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange<B = Box<[u8]>> {
    /// The record as it was found; `None` for a new one.
    pub before: Option<Record<B>>,
    /// The record as it is to be; `None` to remove it.
    pub after: Option<Record<B>>,
}

shm_safe!([B: ShmSafe] RecordChange<B> { before, after });

impl<B: AsRef<[u8]>> RecordChange<B> {
    /// The same with its strings in blocks made by `copy`.
    ///
    /// # Errors
    ///
    /// Fails when `copy` fails.
    pub fn map<C, E>(&self, copy: impl Fn(&[u8]) -> Result<C, E>) -> Result<RecordChange<C>, E> {
        let map = |record: &Option<Record<B>>| record.as_ref().map(|record| record.map(&copy)).transpose();
        Ok(RecordChange { before: map(&self.before)?, after: map(&self.after)? })
    }

    /// A private copy.
    pub fn to_private(&self) -> RecordChange {
        RecordChange {
            before: self.before.as_ref().map(Record::to_private),
            after: self.after.as_ref().map(Record::to_private),
        }
    }
}
