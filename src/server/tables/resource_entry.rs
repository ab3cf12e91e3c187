//! Everything that hangs on one resource, as the tables hold it.
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, ShmBox, ShmVec};
use crate::presence::event_package::PackageId;
use crate::presence::history::remembered::{BodyDigest, KnownBody};
use crate::presence::resource::Resource;
use crate::server::tables::lazy_vec::LazyVec;
use crate::server::tables::publication_entry::SharedPublication;
use crate::server::tables::watched::{CachedBody, FinalNotify, Watched};
use crate::shm_safe::shm_safe;
use crate::time::Moment;

/// What is known of the documents of a resource.
pub enum Documents {
    /// The table has to be asked.
    Unknown,
    /// The documents, in the order they were stored.
    Known(ShmVec<SharedPublication>),
}

shm_safe!(
    enum Documents {
        Unknown,
        Known(value),
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
    pub const fn contains(self, due: DueNotify) -> bool {
        self.0 & due as u8 != 0
    }

    /// Adds something.
    pub fn add(&mut self, due: DueNotify) {
        self.0 |= due as u8;
    }

    /// Takes something away; `true` when it was due.
    pub fn take(&mut self, due: DueNotify) -> bool {
        let was_due = self.contains(due);
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
    /// Counts the changes that its watchers are notified of.
    pub generation: u32,
    /// Counts the states of its documents.
    pub documents_version: u32,
    /// The resource's subscriptions come from rows, and its rules have not been asked since.
    pub unjudged: bool,
    /// The resource's documents.
    pub documents: Documents,
    /// Documents that are gone and whose rows are still there.
    pub removed: LazyVec<SharedPublication>,
    /// What hangs on the resource because it is watched.
    pub watched: Option<ShmBox<Watched>>,
}

const _: () = assert!(size_of::<ResourceEntry>() <= 80, "a resource that is published and not watched");

shm_safe!(ResourceEntry {
    uri,
    event,
    hash,
    busy,
    due,
    generation,
    documents_version,
    unjudged,
    documents,
    removed,
    watched
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
            generation: 1,
            documents_version: 1,
            unjudged: false,
            documents,
            removed: LazyVec::default(),
            watched: None,
        })
    }

    /// Whether nothing hangs on it any more.
    pub fn is_idle(&self) -> bool {
        let no_documents =
            matches!(&self.documents, Documents::Known(list) if list.is_empty()) && self.removed.is_empty();
        !self.busy
            && !self.due.contains(DueNotify::Something)
            && self.subscriptions().is_empty()
            && self.final_notifies().is_empty()
            && no_documents
    }

    /// A change of documents: the kept body is no longer true.
    pub fn documents_changed(&mut self) {
        self.forget_cached_body();
        self.documents_version = self.documents_version.wrapping_add(1);
    }

    /// What was composed is no longer true.
    pub fn forget_cached_body(&mut self) {
        if let Some(watched) = &mut self.watched {
            watched.cached = CachedBody::default();
        }
    }

    /// The body of the only document, if there is just one.
    pub fn only_document(&self) -> Option<&[u8]> {
        match &self.documents {
            Documents::Known(list) if list.len() == 1 => list.first().map(SharedPublication::body),
            _ => None,
        }
    }

    /// What is known of the composed body now.
    pub fn cached_body(&self, now: Moment) -> KnownBody<(&[u8], BodyDigest)> {
        let cached = self.watched.as_ref().map(|watched| &watched.cached);
        let is_valid = |cached: &&CachedBody| cached.valid_until.is_some_and(|until| Moment::from(until) > now);
        let Some(cached) = cached.filter(is_valid) else { return KnownBody::Unknown };
        let body = match cached.is_document {
            true => self.only_document().map_or(KnownBody::Unknown, KnownBody::Body),
            false => KnownBody::of_made(cached.body.as_deref()),
        };
        let bytes = |body: &[u8]| u32::try_from(body.len()).unwrap_or(u32::MAX);
        body.map(|body| (body, BodyDigest { bytes: bytes(body), crc32: cached.crc32 }))
    }

    /// The resource of this resource entry.
    pub fn resource(&self) -> Resource {
        Resource { uri: self.uri.to_vec(), event: self.event, hash: self.hash }
    }

    /// The slots of its subscriptions.
    pub fn subscriptions(&self) -> &[u32] {
        self.watched.as_ref().map_or(&[], |watched| &watched.subscriptions)
    }

    /// The last NOTIFYs that are due.
    pub fn final_notifies(&self) -> &[FinalNotify] {
        self.watched.as_ref().map_or(&[], |watched| &watched.final_notifies)
    }

    /// What hangs on it because it is watched, made when there is nothing yet.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out; nothing is changed then.
    pub fn watched_or_new(&mut self) -> Result<&mut Watched, NoMemory> {
        match &mut self.watched {
            Some(watched) => Ok(watched),
            none => Ok(none.insert(shm::boxed(Watched::default())?)),
        }
    }

    /// Makes room for one more last NOTIFY.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn reserve_final_notify(&mut self) -> Result<(), NoMemory> {
        self.watched_or_new()?.final_notifies.try_reserve(1)
    }

    /// Adds a last NOTIFY that is due.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out and there is no room for it.
    pub fn push_final_notify(&mut self, final_notify: FinalNotify) -> Result<(), NoMemory> {
        self.watched_or_new()?.final_notifies.push(final_notify)
    }

    /// Takes the last NOTIFYs that are due.
    pub fn take_final_notifies(&mut self) -> LazyVec<FinalNotify> {
        self.watched.as_mut().map(|watched| watched.final_notifies.take()).unwrap_or_default()
    }

    /// Lets go of what was kept for watchers when there are none any more.
    pub fn forget_if_unwatched(&mut self) {
        if self.watched.as_ref().is_some_and(|watched| watched.is_over()) {
            self.watched = None;
        }
    }
}

#[cfg(test)]
impl ResourceEntry {
    /// The entry of a resource that has no documents, and that nobody watches.
    pub(super) fn without_documents() -> ResourceEntry {
        let rule = crate::presence::resource::UriComparison { ignore_case: false, seed: 7 };
        let resource = rule.resource(b"sip:alice@example.org", PackageId(1));
        ResourceEntry::new(&resource, Documents::Known(ShmVec::new_in(shm::Shm))).expect("memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;
    use crate::time::Expiry;

    #[test]
    fn a_resource_that_nobody_watches_any_more_holds_no_more_than_one_that_never_was() {
        let mut entry = ResourceEntry::without_documents();
        let before = fake::live_blocks();
        let watched = entry.watched_or_new().expect("memory");
        watched.subscriptions.push(3).expect("memory");
        watched.cached = CachedBody::new(Some(b"body"), BodyDigest::of_body(b"body"), Expiry::Never).expect("memory");
        entry.forget_if_unwatched();
        assert_eq!(entry.subscriptions(), [3]);
        assert!(entry.cached_body(Moment::at(1)).body().is_some());
        entry.watched_or_new().expect("memory").subscriptions.swap_remove(0);
        entry.forget_if_unwatched();
        assert!(entry.subscriptions().is_empty() && entry.cached_body(Moment::at(1)) == KnownBody::Unknown);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn without_memory_it_stays_as_it_was() {
        let mut entry = ResourceEntry::without_documents();
        let (made, failed) = fake::failing_at(0, || entry.watched_or_new().map(|_| ()));
        assert!(failed && made.is_err() && entry.watched.is_none());
        let (room, failed) = fake::failing_at(1, || entry.reserve_final_notify());
        assert!(failed && room.is_err() && entry.final_notifies().is_empty());
    }
}
