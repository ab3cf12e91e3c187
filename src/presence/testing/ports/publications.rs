//! Publications in a map.
use crate::presence::composition::late;
use crate::presence::composition::late::{Late, LateSelection};
use crate::presence::composition::unreadable::Unshown;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::history::remembered::{Digested, KnownBody};
use crate::presence::ports::publications::Publications;
use crate::presence::ports::server::Server;
use crate::presence::publication::{Applied, Change, Keeps, Plan, Publication};
use crate::presence::resource::Resource;
use crate::presence::testing::{MemoryPorts, key};
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment};

impl Publications for MemoryPorts {
    fn leave_out_unreadable(&self, documents: &mut Vec<Publication>) -> Option<Moment> {
        self.unreadable.leave_out(documents, self.now)
    }
    fn note_unreadable(&mut self, _resource: &Resource, document: &Publication, why: Unshown<'_>) {
        self.unreadable.note(document, why, self.now);
    }
    fn publish(&mut self, resource: &Resource, change: Change) -> Result<Applied, StoreError> {
        if self.panics_at_stores > 0 {
            self.panics_at_stores -= 1;
            panic!("asked for by the test");
        }
        self.may_store()?;
        if self.overtaken > 0 {
            self.overtaken -= 1;
            return Ok(Applied::NoMatch);
        }
        let list = self.publications.entry(key(resource)).or_default();
        let applied = match (Plan::for_change(list, &change), change) {
            (Plan::Insert { replaced, trimmed, keeps }, change @ (Change::Insert(_) | Change::End(_))) => {
                let kept = keeps.map(|at| list[at].clone());
                for at in trimmed {
                    let others = match &change {
                        Change::Insert(new) => list[at].without(&new.dialogs.view()),
                        Change::End(dialogs) => list[at].without(&dialogs.view()),
                        _ => None,
                    };
                    list[at] = others.unwrap_or_else(|| list[at].clone());
                }
                for at in replaced.into_iter().rev() {
                    self.removed.push((list.remove(at).ruid, u32::MAX));
                }
                match (change, kept) {
                    (Change::Insert(new), Some(kept)) => list.push(new.keeping(kept)),
                    (Change::Insert(new), None) => list.push(new),
                    _ => return Ok(Applied::Ended),
                }
                Applied::Inserted
            }
            (Plan::Modify { at, keeps }, Change::Modify(new)) => {
                if keeps == Keeps::Everything {
                    return Ok(Applied::Modified { keeps });
                }
                let mut document = list.remove(at);
                document.renew(&new, keeps);
                let changed = keeps == Keeps::Nothing;
                if let Some(body) = new.body.filter(|_| changed) {
                    document.body = body.into_owned();
                    document.dialogs = new.dialogs;
                }
                list.push(document);
                Applied::Modified { keeps }
            }
            (Plan::Remove { at }, Change::Remove(_)) => {
                let old = list.remove(at);
                self.removed.push((old.ruid.clone(), u32::MAX));
                Applied::Removed(old, at)
            }
            _ => return Ok(Applied::NoMatch),
        };
        self.queue(resource).documents += 1;
        Ok(applied)
    }
    fn documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        self.may_read()?;
        let now = self.now;
        let live = |d: &&Publication| d.expires_at.is_after(now);
        let list = self.publications.get(&key(resource));
        Ok(list.into_iter().flatten().filter(live).cloned().collect())
    }
    fn composed(&mut self, _resource: &Resource) -> KnownBody<Digested> {
        KnownBody::Unknown
    }
    fn cache_composed(&mut self, _: &Resource, _: u32, _: Option<&Digested>, valid_until: Expiry) {
        self.composed_until = Some(valid_until);
    }
    fn forget(&mut self, _resource: &Resource) {}
    fn hold_late(&mut self, late: &Late) -> bool {
        self.late.push((self.now + late::HELD_FOR, late.clone()));
        true
    }
    fn find_late(&mut self, resource: &Resource, etag: EntityTag<&[u8]>) -> Option<Late> {
        let later = self.now + late::HELD_FOR;
        let (due, late) = self.late.iter_mut().find(|(_, late)| late.resource == *resource && late.etag == etag)?;
        *due = later;
        Some(late.clone())
    }
    fn due_late(&mut self, taken: LateSelection) -> Vec<Late> {
        let now = self.now;
        let due = self.late.iter_mut().filter(|(at, _)| taken == LateSelection::All || *at <= now);
        due.map(|(at, late)| {
            let due = late.clone();
            late.tries += 1;
            *at = now + late::pause(late.tries);
            due
        })
        .collect()
    }
    fn release_late(&mut self, late: &Late) {
        self.late
            .retain(|(_, held)| (&held.resource, &held.etag, &held.body) != (&late.resource, &late.etag, &late.body));
    }
    fn note_late_broken_off(&mut self, late: &Late) {
        let same = self.late.iter_mut().filter(|(_, held)| held.resource == late.resource && held.etag == late.etag);
        same.for_each(|(_, held)| held.is_broken_off = true);
    }
    fn take_ended_publications(&mut self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError> {
        let rule = self.uri_rule();
        let mut ended = Vec::new();
        for ((uri, event), list) in &mut self.publications {
            while ended.len() < limit {
                let Some(at) = list.iter().position(|d| d.expires_at.is_before(now)) else { break };
                list.remove(at);
                ended.push(rule.resource(uri, PackageId(*event)));
            }
        }
        Ok(ended)
    }
    fn shares_publications(&self) -> bool {
        false
    }
}
