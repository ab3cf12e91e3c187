//! Rows of publications that have expired: found page by page and removed one by one.
use crate::common::ended_rows::EndedStep;
use crate::host::clock;
use crate::limited;
use crate::presence::error::StoreError;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::server::publications::presentity_table::{EndedRow, PresentityRows, RowChange};
use crate::time::Moment;
use std::cell::Cell;

impl EndedRow {
    /// The row's removal, unless another server has refreshed it.
    pub(crate) fn removal(&self) -> RowChange {
        RowChange::Delete { etag: self.etag.clone(), ruid: self.ruid.clone() }
    }

    /// Whether the publication has expired among the documents as they are stored now: it may have been refreshed since
    /// its row was read.
    pub(crate) fn is_over(&self, documents: &[Publication], now: Moment) -> bool {
        documents.iter().any(|p| p.etag == self.etag && p.expires_at.is_before(now))
    }
}

thread_local! {
    /// The key of the row that the next step of this process begins behind.
    static NEXT_STEP: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Removes at most `limit` publications that ended before `now`; returns whose they were. `remove` removes one of a
/// resource and says whether it was still there and over.
///
/// # Errors
///
/// Fails when the database cannot be read or written.
pub(crate) fn take(
    rows: &PresentityRows,
    now: Moment,
    limit: usize,
    remove: &mut dyn FnMut(&Resource, &EndedRow) -> Result<bool, StoreError>,
) -> Result<Vec<Resource>, StoreError> {
    let began = clock::instant();
    let step = EndedStep {
        read: &mut |after| rows.ended_rows(now, limit, after),
        end_one: &mut |row: &EndedRow| {
            let Some(resource) = &row.resource else { return rows.delete_foreign_row(row).map(|()| None) };
            Ok(remove(resource, row)?.then(|| resource.clone()))
        },
        failed: &|row, error| match row {
            Some(_) => limited!(Error, "a publication has run out and cannot be removed now: {error}"),
            None => limited!(Error, "cannot read which publications ran out: {error}"),
        },
        waited: &|| clock::instant().since(began),
        next: None,
    };
    step.resume(&NEXT_STEP, limit)
}
