//! The ports of publications: the store that the mode names, documents that are held back, those that are unreadable.
use crate::common::counters;
use crate::common::counters::Counter;
use crate::host::clock;
use crate::host::log;
use crate::log;
use crate::presence::composition::late::{Late, LateSelection};
use crate::presence::composition::unreadable::{Unshown, UnshownLine};
use crate::presence::error::StoreError;
use crate::presence::history::remembered::{ChangeKind, Digested, KnownBody};
use crate::presence::ports::publications::Publications;
use crate::presence::publication::row_limits::RowLimits;
use crate::presence::publication::{Applied, Change, Publication};
use crate::presence::resource::Resource;
use crate::server::context::Context;
use crate::server::history::NewChange;
use crate::server::history::recording;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment};

impl Publications for Context<'_> {
    fn leave_out_unreadable(&self, documents: &mut Vec<Publication>) -> Option<Moment> {
        self.process.unreadable.leave_out(documents, clock::now())
    }
    fn note_unreadable(&mut self, resource: &Resource, document: &Publication, why: Unshown<'_>) {
        let line = self.process.unreadable.note(document, why, clock::now());
        if line != UnshownLine::SaidBefore {
            counters::count(Counter::DocumentsUnreadable);
        }
        if let UnshownLine::Due { others } = line {
            let (uri, etag) = (log::show(&resource.uri), log::show(document.etag.bytes()));
            let what = match why {
                Unshown::Unreadable => "cannot be read",
                Unshown::Alone => "shows nothing",
                Unshown::Among(_) => "does not go with the others",
            };
            log!(Warn, "a stored document of {uri} {what} and is passed over: entity tag {etag} ({others} others)");
        }
    }
    fn publish(&mut self, resource: &Resource, change: Change) -> Result<Applied, StoreError> {
        self.storage.queue.begin_change(&mut self.work, resource);
        let applied = self.storage.publications.change(resource, &change);
        if !applied.as_ref().is_ok_and(|applied| !matches!(applied, Applied::NoMatch)) {
            self.storage.queue.forget_change(&mut self.work);
        }
        let applied = applied?;
        if self.shared.history.is_on() {
            recording::note_publication(self.shared.history, resource, &change, &applied);
        }
        if !matches!(applied, Applied::NoMatch) {
            self.storage.queue.note_change(&mut self.work, resource);
        }
        Ok(applied)
    }
    fn documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        self.storage.publications.documents(resource)
    }
    fn composed(&mut self, resource: &Resource) -> KnownBody<Digested> {
        self.storage.publications.composed(resource)
    }
    fn cache_composed(&mut self, resource: &Resource, documents: u32, body: Option<&Digested>, valid_until: Expiry) {
        self.storage.publications.cache_composed(resource, documents, body, valid_until)
    }
    fn forget(&mut self, resource: &Resource) {
        self.storage.publications.forget(resource)
    }
    fn hold_late(&mut self, late: &Late) -> bool {
        self.shared.late_documents.hold(late, clock::now())
    }
    fn find_late(&mut self, resource: &Resource, etag: EntityTag<&[u8]>) -> Option<Late> {
        self.shared.late_documents.find(resource, etag, clock::now())
    }
    fn due_late(&mut self, taken: LateSelection) -> Vec<Late> {
        self.shared.late_documents.due(self.shared.tables.rule(), clock::now(), taken)
    }
    fn release_late(&mut self, late: &Late) {
        self.shared.late_documents.release(late);
    }
    fn note_late_broken_off(&mut self, late: &Late) {
        self.shared.late_documents.note_broken_off(late);
    }
    fn take_ended_publications(&mut self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError> {
        let ended = self.storage.publications.take_ended(now, limit)?;
        for resource in &ended {
            counters::count(Counter::PublicationsExpired);
            self.shared.change_counts.note(resource);
            self.shared.history.note_change(&NewChange::of_kind(resource, ChangeKind::RanOut), clock::micro_tick());
        }
        Ok(ended)
    }
    fn row_limits(&self) -> Option<RowLimits> {
        Some(self.storage.publications.row_limits(self.database.longest_body()?))
    }
    fn shares_publications(&self) -> bool {
        self.storage.publications.has_rows()
    }
}
