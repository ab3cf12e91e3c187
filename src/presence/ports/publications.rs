//! Publications (RFC 3903): stored, listed, composed, held back.
use crate::presence::composition::late::{Late, LateSelection};
use crate::presence::composition::unreadable::Unshown;
use crate::presence::error::StoreError;
use crate::presence::history::remembered::{Digested, KnownBody};
use crate::presence::publication::row_limits::RowLimits;
use crate::presence::publication::{Applied, Change, Publication};
use crate::presence::resource::Resource;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment};

/// The store of publications.
pub trait Publications {
    /// Leaves out the stored documents that are passed over, see
    /// [`crate::presence::composition::unreadable::Unreadable::leave_out`].
    fn leave_out_unreadable(&self, documents: &mut Vec<Publication>) -> Option<Moment>;
    /// Notes that a stored document is passed over.
    fn note_unreadable(&mut self, resource: &Resource, document: &Publication, why: Unshown<'_>);
    /// Changes the documents of a resource, in all stores its mode names.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row: nothing is changed
    /// then.
    fn publish(&mut self, resource: &Resource, change: Change) -> Result<Applied, StoreError>;
    /// The live documents of a resource, in the order they are put together.
    ///
    /// # Errors
    ///
    /// Fails when the documents have to be read from the database and it cannot be read, and when shared memory runs
    /// out.
    fn documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError>;
    /// What is kept of the composed body of a resource, and still true.
    fn composed(&mut self, resource: &Resource) -> KnownBody<Digested>;
    /// Keeps a composed body until a document changes; `documents` is the
    /// [`crate::presence::notification::NotifyRun::documents`] it was made from.
    fn cache_composed(&mut self, resource: &Resource, documents: u32, body: Option<&Digested>, valid_until: Expiry);
    /// Forgets what is cached for a resource: the tables may have been changed by others.
    fn forget(&mut self, resource: &Resource);
    /// Holds back a document that may have been overtaken; `false` where there is no place for it.
    #[must_use = "what is not held is shown"]
    fn hold_late(&mut self, late: &Late) -> bool;
    /// The document that is held back for the publication under this entity tag. Once it is stored
    /// [`Self::release_late`] is called; if that does not happen it is due later.
    fn find_late(&mut self, resource: &Resource, etag: EntityTag<&[u8]>) -> Option<Late>;
    /// The documents that have been held back long enough, or all, likewise.
    fn due_late(&mut self, taken: LateSelection) -> Vec<Late>;
    /// Releases a document that was held back.
    fn release_late(&mut self, late: &Late);
    /// A panic has kept one that was due from being shown.
    fn note_late_broken_off(&mut self, late: &Late);
    /// Removes publications that have ended, at most `limit`, and says whose they were.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or written, and when shared memory runs out.
    fn take_ended_publications(&mut self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError>;
    /// What the database takes; `None` where there is none, or one that takes whatever a request can bring.
    fn row_limits(&self) -> Option<RowLimits> {
        None
    }
    /// Whether others may have written the publications we read.
    fn shares_publications(&self) -> bool;
}
