//! Rows of publications that have expired: found page by page and removed one by one.
use crate::limited;
use crate::presence::error::StoreError;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::server::publications::presentity_table::{EndedRow, PresentityRows, RowChange};
use crate::time::Moment;

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
    let mut take_one = |row: &EndedRow| -> Result<Option<Resource>, StoreError> {
        let Some(resource) = &row.resource else { return rows.delete_foreign_row(row).map(|()| None) };
        Ok(remove(resource, row)?.then(|| resource.clone()))
    };
    let (mut ended, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = match rows.ended_rows(now, limit, after) {
            Err(error) if !ended.is_empty() => {
                limited!(Error, "cannot read which publications ran out: {error}");
                return Ok(ended);
            }
            page => page?,
        };
        for row in &page {
            match take_one(row) {
                Ok(resource) => ended.extend(resource),
                // The watchers of what has ended are notified, whatever becomes of the others.
                Err(StoreError::Database) if ended.is_empty() => return Err(StoreError::Database),
                Err(error) => {
                    limited!(Error, "a publication has run out and cannot be removed now: {error}");
                    if error == StoreError::Database {
                        return Ok(ended);
                    }
                }
            }
        }
        after = next;
        if after.is_none() || ended.len() >= limit {
            return Ok(ended);
        }
    }
}
