//! Publications in shared memory.
use crate::cluster::clock::ClusterSecond;
use crate::common::row_groups::RowBackoff;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::composition::dialog_info::Mark;
use crate::presence::publication::{DialogSum, DialogView, Dialogs, Publication, StoredDocument};
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::sip::packed::Strings;
use crate::time::{Expiry, Moment, ShortMoment};

const ETAG: usize = 0;
const RUID: usize = 1;
const SENDER: usize = 2;
const BODY: usize = 3;

/// A publication in shared memory: its strings in one block.
pub struct SharedPublication {
    strings: Strings<3, ShmBox<[u8]>, u16>,
    /// What is known of its dialogs; none: it is no dialog document, or one that cannot be read.
    dialogs: Option<ShmBox<SharedDialogs>>,
    /// When it ends, if it does.
    expires_at: Option<ShortMoment>,
    /// When it was received, where that is known.
    received_at: Option<ShortMoment>,
    /// The same by the clock that nodes share, where they share one.
    stamp: Option<ClusterSecond>,
    /// The publication's priority.
    priority: i32,
    /// What its row lacks.
    pub row_state: PublicationRowState,
    /// A process is writing its row, or ended while it did.
    pub is_being_written: bool,
    /// When its row is tried again that could not be written.
    pub aside: RowBackoff,
}

shm_safe!(SharedPublication {
    strings,
    dialogs,
    expires_at,
    received_at,
    stamp,
    priority,
    row_state,
    is_being_written,
    aside
});

const _: () = assert!(size_of::<SharedPublication>() <= 56, "a document beside its strings");

/// The dialogs a document speaks of.
struct SharedDialogs {
    /// The dialogs that have an id, sorted by it.
    marks: ShmVec<Mark>,
    /// What is known of all of them together.
    sum: DialogSum,
}

shm_safe!(SharedDialogs { marks, sum });

impl SharedDialogs {
    /// A copy in shared memory; `None` where there is nothing to remember.
    fn new(dialogs: &Dialogs) -> Result<Option<ShmBox<SharedDialogs>>, NoMemory> {
        if *dialogs == Dialogs::default() {
            return Ok(None);
        }
        let mut marks = ShmVec::new_in(Shm);
        marks.try_reserve_exact(dialogs.marks.len()).map_err(|_| NoMemory)?;
        marks.extend_from_slice(&dialogs.marks);
        shm::boxed(SharedDialogs { marks, sum: dialogs.sum }).map(Some)
    }
}

impl SharedPublication {
    /// A copy in shared memory.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(publication: &Publication) -> Result<SharedPublication, NoMemory> {
        SharedPublication::with_body(publication, &publication.body, &publication.dialogs)
    }

    /// A copy in shared memory, with another body.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn with_body(publication: &Publication, body: &[u8], dialogs: &Dialogs) -> Result<SharedPublication, NoMemory> {
        let parts = [publication.etag.bytes(), &publication.ruid, &publication.sender, body];
        let strings = Strings::joined(&parts, shm::concat)?;
        Ok(SharedPublication {
            strings,
            dialogs: SharedDialogs::new(dialogs)?,
            expires_at: publication.expires_at.moment().map(ShortMoment::from),
            received_at: publication.received_at.map(ShortMoment::from),
            stamp: publication.stamp,
            priority: publication.priority,
            row_state: PublicationRowState::Nothing,
            is_being_written: false,
            aside: RowBackoff::default(),
        })
    }

    /// When it ends.
    pub fn expires_at(&self) -> Expiry {
        Expiry::from(self.expires_at.map(Moment::from))
    }

    /// When it was received by the clock that nodes share.
    pub fn stamp(&self) -> Option<ClusterSecond> {
        self.stamp
    }

    /// The id of its record.
    pub fn ruid(&self) -> &[u8] {
        self.strings.get(RUID)
    }

    /// The document.
    pub fn body(&self) -> &[u8] {
        self.strings.get(BODY)
    }

    /// A private copy.
    pub fn to_private(&self) -> Publication {
        Publication { body: self.body().to_vec(), dialogs: self.dialogs().to_owned_dialogs(), ..self.without_body() }
    }

    /// A private copy of all but the body, and of what is known of it.
    pub fn without_body(&self) -> Publication {
        Publication {
            etag: EntityTag::new(self.strings.get(ETAG).to_vec()),
            ruid: self.strings.get(RUID).to_vec(),
            sender: self.strings.get(SENDER).to_vec(),
            expires_at: self.expires_at(),
            received_at: self.received_at(),
            stamp: self.stamp,
            priority: self.priority,
            ..Publication::default()
        }
    }
}

impl StoredDocument for SharedPublication {
    fn etag(&self) -> EntityTag<&[u8]> {
        EntityTag::new(self.strings.get(ETAG))
    }
    fn ruid(&self) -> &[u8] {
        self.strings.get(RUID)
    }
    fn sender(&self) -> &[u8] {
        self.strings.get(SENDER)
    }
    fn received_at(&self) -> Option<Moment> {
        self.received_at.map(Moment::from)
    }
    fn dialogs(&self) -> DialogView<'_> {
        match &self.dialogs {
            Some(dialogs) => DialogView { marks: &dialogs.marks, sum: dialogs.sum },
            None => DialogView { marks: &[], sum: DialogSum::default() },
        }
    }
}

/// What the table lacks of a document in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PublicationRowState {
    /// The row has all that the record has.
    #[default]
    Nothing,
    /// The publication's row has older values.
    Change,
    /// The row is missing.
    Row,
    /// Nobody knows what the row is: a process has ended while it wrote it.
    Unknown,
}

shm_safe!(
    enum PublicationRowState {
        Nothing,
        Change,
        Row,
        Unknown,
    }
);

impl PublicationRowState {
    /// What the table lacks after one more change.
    pub fn changed(self) -> PublicationRowState {
        self.max(PublicationRowState::Change)
    }
}
