//! What the server asks of the place where publications live. `publ_cache` names that place; `server::storage` chooses
//! it once at start.
use crate::common::row_groups::Pass;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::history::remembered::{Digested, KnownBody};
use crate::presence::publication::row_limits::{PublicationRows, RowLimits};
use crate::presence::publication::{Applied, Change, Publication};
use crate::presence::resource::Resource;
use crate::time::{Expiry, Moment, Seconds};

/// Which resources are asked for, by URI and event package.
pub type ResourceFilter<'a> = &'a dyn Fn(&[u8], PackageId) -> bool;

/// The store of publications: memory, memory with a table behind it, or the table.
pub trait PublicationStore {
    /// See [`crate::presence::ports::publications::Publications::publish`].
    ///
    /// # Errors
    ///
    /// Fails when memory or the database does; nothing has changed then.
    fn change(&self, resource: &Resource, change: &Change) -> Result<Applied, StoreError>;

    /// The live documents of a resource, in the order in which they are put together.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read.
    fn documents(&self, resource: &Resource) -> Result<Vec<Publication>, StoreError>;

    /// Reads the documents that memory should know, and does not since the start.
    ///
    /// # Errors
    ///
    /// Fails when they cannot be read.
    fn read_unknown(&self, _resource: &Resource) -> Result<(), StoreError> {
        Ok(())
    }

    /// See [`crate::presence::ports::publications::Publications::composed`].
    fn composed(&self, resource: &Resource) -> KnownBody<Digested>;

    /// See [`crate::presence::ports::publications::Publications::cache_composed`].
    fn cache_composed(&self, resource: &Resource, documents: u32, body: Option<&Digested>, valid_until: Expiry);

    /// See [`crate::presence::ports::publications::Publications::forget`].
    fn forget(&self, resource: &Resource);

    /// Removes at most `limit` publications that ended before `now` (seconds since 1970); returns whose they were.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read; none was removed then.
    fn take_ended(&self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError>;

    /// The resources that have publications, or may have, in a stable order.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read.
    fn resources(&self, wanted: ResourceFilter<'_>) -> Result<Vec<Resource>, StoreError>;

    /// The resources that have publications now, as the table says once it was brought up to date.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read.
    fn published(&self) -> Result<Vec<Resource>, StoreError>;

    /// When rows are written. The store's own question; others ask what follows from it.
    fn row_timing(&self) -> PublicationRows;
    /// What a database takes of a publication whose statements have room for a body of this length.
    fn row_limits(&self, longest_body: usize) -> RowLimits {
        RowLimits { longest_body, rows: self.row_timing() }
    }

    /// Whether publications have rows, which other servers may have written.
    fn has_rows(&self) -> bool {
        self.row_timing() != PublicationRows::None
    }

    /// Whether rows are written after a change was answered, by a timer.
    fn writes_later(&self) -> bool {
        self.row_timing() == PublicationRows::Later
    }

    /// Learns at start which resources have rows; returns how many rows there are.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read.
    fn restore(&self) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// Reads which resources have rows again (`presence.publish_cache_sync`); `None` where there is no cache of a
    /// table.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read.
    fn sync(&self) -> Option<Result<(), StoreError>> {
        None
    }

    /// Writes what the table lacks; returns how many rows changed.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn write(&self, pass: Pass) -> Result<usize, StoreError> {
        let _ = pass;
        Ok(0)
    }

    /// The wall clock was set; before, it was `before` seconds ahead of what it was at the start. Rows of documents in
    /// memory get the times of day at which these end now. All are tried; the first failure is returned.
    ///
    /// # Errors
    ///
    /// Fails when not all rows could be written.
    fn clock_was_set(&self, before: Seconds) -> Result<(), StoreError> {
        let _ = before;
        Ok(())
    }
}
