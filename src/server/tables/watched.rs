//! What hangs on a resource only while somebody watches it, or asks for its state: most publications of a large server
//! are watched by nobody, and take no memory for this.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, ShmBox};
use crate::presence::history::remembered::BodyDigest;
use crate::presence::notification::{DocumentPlace, NotifyReason, TransientBody};
use crate::presence::subscription::Status;
use crate::presence::winfo::{WatcherEvent, WatcherTimes};
use crate::server::tables::lazy_vec::LazyVec;
use crate::server::tables::publication_entry::SharedPublication;
use crate::server::tables::slot_vec::SlotVec;
use crate::server::tables::subscription_entry::SharedSubscription;
use crate::shm_safe::shm_safe;
use crate::sip::packed::Strings;
use crate::time::{Expiry, MicroTick, Moment, ShortMoment};

/// The subscriptions to a resource, and what is kept for their next NOTIFYs.
#[derive(Default)]
pub struct Watched {
    /// The slots of its subscriptions.
    pub subscriptions: SlotVec,
    /// When the oldest change of its documents came in that watchers have not been notified of, if there is one.
    pub changed_at: Option<MicroTick>,
    /// Last NOTIFYs that are due.
    pub final_notifies: LazyVec<FinalNotify>,
    /// A document for the next pass only.
    pub transient_body: Option<ShmBox<SharedTransientBody>>,
    /// Watchers for the next winfo pass.
    pub changes: LazyVec<ChangedWatcher>,
    /// The resource's composed body; see [`CachedBody`].
    pub cached: CachedBody,
}

shm_safe!(Watched { subscriptions, changed_at, final_notifies, transient_body, changes, cached });

impl Watched {
    /// Whether nobody watches, and nobody is owed anything.
    pub fn is_over(&self) -> bool {
        self.subscriptions.is_empty() && self.final_notifies.is_empty() && self.changes.is_empty()
    }
}

/// A composed body that is kept.
#[derive(Default)]
pub struct CachedBody {
    /// The body, unless it is that of the only document; `None`: it is known that there is none.
    pub body: Option<ShmBox<[u8]>>,
    /// The body is that of the only document.
    pub is_document: bool,
    /// The body's CRC-32.
    pub crc32: u32,
    /// Until when it is valid; none: nothing is known.
    pub valid_until: Option<ShortMoment>,
}

shm_safe!(CachedBody { body, is_document, crc32, valid_until });

impl CachedBody {
    /// A body that is valid for a while.
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
    /// The watcher's status.
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
    /// The document was removed from this place.
    Removed(SharedPublication, DocumentPlace),
    /// The body was published for one NOTIFY alone.
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
