//! Everything that hangs on one resource, as the tables hold it.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, ShmBox, ShmVec};
use crate::presence::event_package::PackageId;
use crate::presence::notification::{NotifyReason, TransientBody};
use crate::presence::remembered::BodyDigest;
use crate::presence::resource::Resource;
use crate::presence::subscription::Status;
use crate::presence::winfo::{WatcherEvent, WatcherTimes};
use crate::server::tables::lazy_vec::LazyVec;
use crate::server::tables::publication_entry::SharedPublication;
use crate::server::tables::slot_vec::SlotVec;
use crate::server::tables::subscription_entry::SharedSubscription;
use crate::shm_safe::shm_safe;
use crate::sip::packed::Strings;
use crate::time::{Expiry, Moment, ShortMoment};

/// What is known of the documents of a resource.
pub enum Documents {
    /// The table has to be asked.
    Unknown,
    /// These, in the order they were stored.
    Known(ShmVec<SharedPublication>),
}

shm_safe!(
    enum Documents {
        Unknown,
        Known(value),
    }
);

/// A composed body that is kept.
#[derive(Default)]
pub struct CachedBody {
    /// The body, unless it is that of the only document; `None`: it is known that there is none.
    body: Option<ShmBox<[u8]>>,
    /// It is that of the only document.
    is_document: bool,
    /// Its CRC-32.
    crc32: u32,
    /// Until when it is true; none: nothing is known.
    valid_until: Option<ShortMoment>,
}

shm_safe!(CachedBody { body, is_document, crc32, valid_until });

impl CachedBody {
    /// A body that is true for a while.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(body: Option<&[u8]>, digest: BodyDigest, valid_until: Expiry) -> Result<CachedBody, NoMemory> {
        let body = body.map(shm::copy).transpose()?;
        Ok(CachedBody { body, is_document: false, crc32: digest.crc32, valid_until: until(valid_until) })
    }

    /// The body of the only document.
    pub fn document(digest: BodyDigest, valid_until: Expiry) -> CachedBody {
        CachedBody { body: None, is_document: true, crc32: digest.crc32, valid_until: until(valid_until) }
    }
}

/// A moment, or the last one there is.
fn until(end: Expiry) -> Option<ShortMoment> {
    Some(ShortMoment::from(end.moment().unwrap_or(Moment::MAX)))
}

/// A watcher of the resource that the next document of a winfo resource has to list.
pub struct ChangedWatcher {
    /// URI and id.
    pub strings: Strings<1, ShmBox<[u8]>>,
    /// Its status.
    pub status: Status,
    /// What made it.
    pub event: WatcherEvent,
    /// When its subscription began and ends.
    pub times: WatcherTimes,
}

shm_safe!(ChangedWatcher { strings, status, event, times });

/// A subscription that has ended and whose last NOTIFY is due.
pub struct FinalNotify {
    /// The subscription as it was.
    pub subscription: SharedSubscription,
    /// Why it ended.
    pub notify_reason: NotifyReason,
}

shm_safe!(FinalNotify { subscription, notify_reason });

/// A document shown only in the next pass.
pub enum SharedTransientBody {
    /// It was removed from this place.
    Removed(SharedPublication, usize),
    /// It was published for once.
    Body(ShmBox<[u8]>),
}

impl SharedTransientBody {
    /// A copy in shared memory.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn shared(transient_body: &TransientBody) -> Result<ShmBox<SharedTransientBody>, NoMemory> {
        shm::boxed(match transient_body {
            TransientBody::Removed(publication, place) => {
                SharedTransientBody::Removed(SharedPublication::new(publication)?, *place)
            }
            TransientBody::Body(body) => SharedTransientBody::Body(shm::copy(body)?),
        })
    }

    /// A private copy.
    pub fn to_private(&self) -> TransientBody {
        match self {
            SharedTransientBody::Removed(publication, place) => {
                TransientBody::Removed(publication.to_private(), *place)
            }
            SharedTransientBody::Body(body) => TransientBody::Body(body.to_vec()),
        }
    }
}

shm_safe!(
    enum SharedTransientBody {
        Removed(first, second),
        Body(value),
    }
);

/// One thing that is due to the watchers of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DueNotify {
    /// Something, whatever it is.
    Something = 1,
    /// A change that goes to all watchers.
    ForAll = 2,
    /// The NOTIFY that a SUBSCRIBE is followed by.
    Asked = 4,
    /// A winfo pass that lists every watcher.
    FullList = 8,
}

/// What is due to the watchers of a resource: a set of [`DueNotify`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dues(u8);

shm_safe!(Dues(bits));

impl Dues {
    /// Whether this is due.
    pub const fn has(self, due: DueNotify) -> bool {
        self.0 & due as u8 != 0
    }

    /// Adds something.
    pub fn add(&mut self, due: DueNotify) {
        self.0 |= due as u8;
    }

    /// Takes something away; `true` when it was due.
    pub fn take(&mut self, due: DueNotify) -> bool {
        let was_due = self.has(due);
        self.0 &= !(due as u8);
        was_due
    }
}

/// Everything that hangs on one resource.
pub struct ResourceEntry {
    /// Presentity URI.
    pub uri: ShmBox<[u8]>,
    /// Event package.
    pub event: PackageId,
    /// The hash of both.
    pub hash: u64,
    /// Somebody is sending for it.
    pub busy: bool,
    /// What is due.
    pub due: Dues,
    /// When the oldest change of its documents came in that watchers have not been notified of, in microseconds of the
    /// clock for measuring; 0: there is none.
    pub changed_at: u64,
    /// Counts the changes that its watchers are notified of.
    pub generation: u32,
    /// Counts the states of its documents.
    pub documents_version: u32,
    /// The slots of its subscriptions.
    pub subscriptions: SlotVec,
    /// Last NOTIFYs that are due.
    pub final_notifies: LazyVec<FinalNotify>,
    /// A document for the next pass only.
    pub transient_body: Option<ShmBox<SharedTransientBody>>,
    /// Watchers for the next winfo pass.
    pub changes: LazyVec<ChangedWatcher>,
    /// Its subscriptions come from rows, and its rules have not been asked since.
    pub unjudged: bool,
    /// Its documents.
    pub documents: Documents,
    /// Documents that are gone and whose rows are still there.
    pub removed: LazyVec<SharedPublication>,
    /// Its composed body; see [`ResourceEntry::cached_body`].
    pub cached: CachedBody,
}

shm_safe!(ResourceEntry {
    uri,
    event,
    hash,
    busy,
    due,
    changed_at,
    generation,
    documents_version,
    subscriptions,
    final_notifies,
    transient_body,
    changes,
    unjudged,
    documents,
    removed,
    cached
});

impl ResourceEntry {
    /// A resource entry on which nothing hangs yet.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(resource: &Resource, documents: Documents) -> Result<ResourceEntry, NoMemory> {
        Ok(ResourceEntry {
            uri: shm::copy(&resource.uri)?,
            event: resource.event,
            hash: resource.hash,
            busy: false,
            due: Dues::default(),
            changed_at: 0,
            generation: 1,
            documents_version: 1,
            subscriptions: SlotVec::default(),
            final_notifies: LazyVec::default(),
            transient_body: None,
            changes: LazyVec::default(),
            unjudged: false,
            documents,
            removed: LazyVec::default(),
            cached: CachedBody::default(),
        })
    }

    /// Whether nothing hangs on it any more.
    pub fn is_idle(&self) -> bool {
        let no_documents =
            matches!(&self.documents, Documents::Known(list) if list.is_empty()) && self.removed.is_empty();
        !self.busy
            && !self.due.has(DueNotify::Something)
            && self.subscriptions.is_empty()
            && self.final_notifies.is_empty()
            && no_documents
    }

    /// A change of documents: the kept body is no longer true.
    pub fn documents_changed(&mut self) {
        self.cached = CachedBody::default();
        self.documents_version = self.documents_version.wrapping_add(1);
    }

    /// The body of the only document, if there is just one.
    pub fn only_document(&self) -> Option<&[u8]> {
        match &self.documents {
            Documents::Known(list) if list.len() == 1 => list.first().map(SharedPublication::body),
            _ => None,
        }
    }

    /// The composed body, if it is known now: `Some(None)` when it is known that there is none.
    pub fn cached_body(&self, now: Moment) -> Option<Option<(&[u8], BodyDigest)>> {
        self.cached.valid_until.filter(|until| Moment::from(*until) > now)?;
        let body = match self.cached.is_document {
            true => self.only_document().map(Some),
            false => Some(self.cached.body.as_deref()),
        };
        let bytes = |body: &[u8]| u32::try_from(body.len()).unwrap_or(u32::MAX);
        body.map(|body| body.map(|body| (body, BodyDigest { bytes: bytes(body), crc32: self.cached.crc32 })))
    }

    /// The resource of this resource entry.
    pub fn resource(&self) -> Resource {
        Resource { uri: self.uri.to_vec(), event: self.event, hash: self.hash }
    }
}
