//! Documents that lose some of their dialogs to another document (RFC 4235): read and written anew outside of the lock.
use crate::host::lock::Guard;
use crate::presence::error::StoreError;
use crate::presence::publication::{Change, Plan, Publication, StoredDocument};
use crate::presence::resource::Resource;
use crate::server::tables::resource_entry::{Documents, ResourceEntry};
use crate::server::tables::{Shard, Tables};

/// How often documents that others change meanwhile are read again before they are trimmed.
const TRIES: usize = 20;

/// Documents that go on without some of their dialogs, as they are from then on.
pub(crate) struct Trims(pub(crate) Vec<Publication>);

impl Trims {
    /// The shorter form of a document.
    pub(crate) fn trimmed<D: StoredDocument>(&self, document: &D) -> Option<&Publication> {
        self.0.iter().find(|trim| trim.etag == document.etag())
    }

    /// What a change trims, of documents that can be read at leisure.
    pub(crate) fn prepare(documents: impl Iterator<Item = Publication>, change: &Change) -> Trims {
        let dialogs = match change {
            Change::Insert(new) => new.dialogs.view(),
            Change::End(dialogs) => dialogs.view(),
            _ => return Trims(Vec::new()),
        };
        Trims(documents.filter_map(|document| document.without(&dialogs)).collect())
    }
}

/// The documents in memory that a change trims, and the lock under which they are as they were read: `prepare` reads
/// and writes them anew outside of it. A document that is changed meanwhile may keep its entity tag.
///
/// # Errors
///
/// Fails when other processes change the documents again and again meanwhile.
pub(crate) fn prepared<'t>(
    tables: &'t Tables,
    resource: &Resource,
    change: &Change,
    mut prepare: impl FnMut(Vec<Publication>) -> Trims,
) -> Result<(Trims, Guard<'t, Shard>), StoreError> {
    let speaks = match change {
        Change::Insert(new) => !new.dialogs.marks.is_empty(),
        Change::End(_) => true,
        _ => false,
    };
    let mut shard = tables.shard(resource.hash);
    if !speaks {
        return Ok((Trims(Vec::new()), shard));
    }
    for _ in 0..TRIES {
        let entry = shard.entry(tables.rule(), resource);
        let read = entry.as_ref().map(|entry| entry.documents_version);
        let affected = entry.map(|entry| trimmed(entry, change)).unwrap_or_default();
        if affected.is_empty() {
            return Ok((Trims(Vec::new()), shard));
        }
        drop(shard);
        let trims = prepare(affected);
        shard = tables.shard(resource.hash);
        if shard.entry(tables.rule(), resource).map(|entry| entry.documents_version) == read {
            return Ok((trims, shard));
        }
    }
    Err(StoreError::Busy)
}

/// Copies of the documents that a change trims.
fn trimmed(entry: &ResourceEntry, change: &Change) -> Vec<Publication> {
    match &entry.documents {
        // Most documents have one dialog, and go as a whole.
        Documents::Known(list) if list.iter().any(|document| document.dialogs().marks.len() > 1) => {
            match Plan::for_change(list, change) {
                Plan::Insert { trimmed, .. } => trimmed.iter().map(|at| list[*at].to_private()).collect(),
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::shm::{Shm, ShmVec};
    use crate::presence::event_package::PackageId;
    use crate::presence::publication::Dialogs;
    use crate::presence::resource::UriComparison;
    use crate::server::tables::Sharing;
    use crate::server::tables::publication_entry::SharedPublication;
    use crate::server::tables::watcher_counts::Counting;
    use crate::time::{Expiry, Moment};

    const RULE: UriComparison = UriComparison { ignore_case: false, seed: 7 };

    fn document(etag: &str, dialogs: &[(&str, &str)]) -> Publication {
        let text = |(id, state): &(&str, &str)| format!("<dialog id=\"{id}\"><state>{state}</state></dialog>");
        let body = format!("<dialog-info>{}</dialog-info>", dialogs.iter().map(text).collect::<String>()).into_bytes();
        let dialogs = Dialogs::of_document(&body);
        Publication {
            etag: etag.into(),
            body,
            dialogs,
            expires_at: Expiry::At(Moment::at(600)),
            ..Publication::default()
        }
    }

    fn store(tables: &Tables, resource: &Resource, document: &Publication) {
        let fresh = SharedPublication::new(document).expect("memory");
        let mut shard = tables.shard(resource.hash);
        let empty = Documents::Known(ShmVec::new_in(Shm));
        let entry = shard.entry_or_new(RULE, resource, empty).expect("memory");
        let Documents::Known(list) = &mut entry.documents else { panic!("they are known") };
        list.clear();
        list.push(fresh);
        entry.documents_changed();
    }

    /// How often another process changes the document, keeping its entity tag, while it is trimmed.
    fn a_document_is_trimmed_as_it_is((changes, outcome): (usize, Result<usize, StoreError>)) {
        let tables = Tables::new(RULE, Counting::PerWatcher, Sharing::None).expect("memory");
        let resource = RULE.resource(b"sip:alice@example.org", PackageId(1));
        store(&tables, &resource, &document("same", &[("a", "early"), ("b", "early")]));
        let new = Change::Insert(document("new", &[("a", "confirmed")]));
        let mut tries = 0;
        let prepared = prepared(&tables, &resource, &new, |affected| {
            tries += 1;
            if tries <= changes {
                store(&tables, &resource, &document("same", &[("a", "early"), ("b", &format!("state {tries}"))]));
            }
            Trims::prepare(affected.into_iter(), &new)
        });
        let trims = prepared.map(|(trims, _)| trims);
        assert_eq!(trims.as_ref().map(|_| tries).map_err(|error| *error), outcome);
        if let Ok(trims) = trims {
            let wanted = if changes == 0 { "early".to_string() } else { format!("state {changes}") };
            let body = String::from_utf8_lossy(&trims.0[0].body).into_owned();
            assert!(body.contains(&wanted) && !body.contains("\"a\""), "{body}");
        }
    }

    table! { a_document_is_trimmed_as_it_is:
        nobody_changes_it => (0, Ok(1));
        another_process_changes_it => (1, Ok(2));
        it_changes_again => (3, Ok(4));
        it_changes_until_the_last_try => (TRIES - 1, Ok(TRIES));
        it_never_stops_changing => (TRIES, Err(StoreError::Busy));
    }
}
