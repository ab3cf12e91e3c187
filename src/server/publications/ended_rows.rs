//! Rows of publications that have expired: found page by page and removed one by one.
use crate::host::clock;
use crate::limited;
use crate::presence::error::StoreError;
use crate::presence::publication::Publication;
use crate::presence::resource::Resource;
use crate::server::publications::presentity_table::{EndedRow, PresentityRows, RowChange};
use crate::time::{Millis, Moment};
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

/// Once a step has waited so long for rows that others hold, it ends with the next one that it would wait for.
pub(crate) const LONGEST_WAIT: Millis = Millis(5_000);

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
    let mut step = Step {
        read: &mut |after| rows.ended_rows(now, limit, after),
        take_one: &mut |row| {
            let Some(resource) = &row.resource else { return rows.delete_foreign_row(row).map(|()| None) };
            Ok(remove(resource, row)?.then(|| resource.clone()))
        },
        waited: &|| clock::instant().since(began),
        next: None,
    };
    let ended = step.take(NEXT_STEP.take(), limit);
    NEXT_STEP.set(step.next);
    ended
}

/// Rows that have expired, and the key that they end at.
type PageOfEnded = (Vec<EndedRow>, Option<i64>);

/// One step through rows that have expired.
struct Step<'a> {
    /// The page behind a key.
    read: &'a mut dyn FnMut(Option<i64>) -> Result<PageOfEnded, StoreError>,
    /// Removes one; whose it was.
    take_one: &'a mut dyn FnMut(&EndedRow) -> Result<Option<Resource>, StoreError>,
    /// How long the step takes so far.
    waited: &'a dyn Fn() -> Millis,
    /// The key of the row that the next step begins behind, where this one has waited too long for it.
    next: Option<i64>,
}

impl Step<'_> {
    fn take(&mut self, mut after: Option<i64>, limit: usize) -> Result<Vec<Resource>, StoreError> {
        let mut ended = Vec::new();
        loop {
            let (page, next) = match (self.read)(after) {
                Err(error) if !ended.is_empty() => {
                    limited!(Error, "cannot read which publications ran out: {error}");
                    return Ok(ended);
                }
                page => page?,
            };
            for row in &page {
                match (self.take_one)(row) {
                    Ok(resource) => ended.extend(resource),
                    // The watchers of what has ended are notified, whatever becomes of the others.
                    Err(StoreError::Database) if ended.is_empty() => return Err(StoreError::Database),
                    Err(error) => {
                        limited!(Error, "a publication has run out and cannot be removed now: {error}");
                        if error == StoreError::Database {
                            return Ok(ended);
                        }
                        if error == StoreError::Busy && (self.waited)() >= LONGEST_WAIT {
                            self.next = Some(row.key);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::resource::UriComparison;
    use crate::sip::entity_tag::EntityTag;

    /// Four rows, each of which is taken in the time it needs where it is not held.
    fn step(after: Option<i64>, held: &[i64], each: Millis) -> (Vec<Vec<u8>>, Option<i64>) {
        let rule = UriComparison { ignore_case: false, seed: 1 };
        let row = |key: i64| EndedRow {
            key,
            resource: Some(rule.resource(format!("sip:{key}@b").as_bytes(), PackageId(1))),
            event: b"presence".to_vec(),
            etag: EntityTag::from("tag"),
            ruid: Vec::new(),
        };
        let waited = Cell::new(Millis::ZERO);
        let mut step = Step {
            read: &mut |after| {
                Ok(((1..=4).filter(|key| after.is_none_or(|after| *key > after)).map(row).collect(), None))
            },
            take_one: &mut |row| {
                let is_held = held.contains(&row.key);
                waited.set(Millis(waited.get().0 + if is_held { each.0 } else { 0 }));
                if is_held { Err(StoreError::Busy) } else { Ok(row.resource.clone()) }
            },
            waited: &|| waited.get(),
            next: None,
        };
        let ended = step.take(after, 256).unwrap();
        (ended.into_iter().map(|resource| resource.uri.to_vec()).collect(), step.next)
    }

    #[test]
    fn a_step_waits_for_a_bounded_time_and_the_next_one_begins_behind() {
        let uris = |keys: &[i64]| keys.iter().map(|key| format!("sip:{key}@b").into_bytes()).collect::<Vec<_>>();
        let short = Millis(LONGEST_WAIT.0 - 1);
        assert_eq!(step(None, &[2], short), (uris(&[1, 3, 4]), None));
        assert_eq!(step(None, &[2], LONGEST_WAIT), (uris(&[1]), Some(2)));
        assert_eq!(step(Some(2), &[2], LONGEST_WAIT), (uris(&[3, 4]), None));
        // Where all are held each step waits for one of them.
        assert_eq!(step(None, &[1, 2, 3, 4], LONGEST_WAIT), (Vec::new(), Some(1)));
        assert_eq!(step(None, &[1, 2, 3, 4], short), (Vec::new(), Some(2)));
        assert_eq!(step(Some(3), &[1, 2, 3, 4], LONGEST_WAIT), (Vec::new(), Some(4)));
        assert_eq!(step(Some(4), &[1, 2, 3, 4], LONGEST_WAIT), (Vec::new(), None));
    }
}
