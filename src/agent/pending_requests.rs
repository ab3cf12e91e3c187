//! Requests under way, in shared memory: one for each publication or subscription, with the next one that waits behind
//! it.
use crate::agent::request_queue::RequestHolder;
use crate::agent::request_queue::{ANSWER_TIMEOUT, NextRequest, QueueEntry, RequestPhase, TakenPart, new_entry};
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::pua::error::RequestError;
use crate::pua::pending_request::{
    Admission, AtServer, Claim, DueRequest, PendingRequest, PendingRequestId, RequestCheck,
};
use crate::pua::record::{Record, RecordChange, RecordField};
use crate::pua::request::{Request, Start};
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Seconds, Tick};
use hashbrown::HashTable;

impl From<NoMemory> for RequestError {
    fn from(error: NoMemory) -> Self {
        RequestError::Store(error.to_string())
    }
}

struct PendingTable {
    by_key: HashTable<ShmBox<QueueEntry>, Shm>,
    /// Number and key of each pending request.
    keys: HashTable<(PendingRequestId, u64), Shm>,
    /// How often the subscription of a key was begun anew, and when it was last.
    restarts: HashTable<(u64, u32, Tick), Shm>,
    last: PendingRequestId,
}

shm_safe!(PendingTable { by_key, keys, restarts, last });

/// All pending requests of the server.
pub struct PendingRequests {
    table: Lock<PendingTable>,
}

shm_safe!(PendingRequests { table });

/// How many callers may wait for one publication or subscription.
const LONGEST_QUEUE: usize = 1000;

/// For how long it is remembered that a subscription was begun anew.
const RESTARTS_REMEMBERED: Seconds = Seconds(600);

/// Of how many subscriptions it is remembered; beyond them each is paced as one that was begun anew this often.
const MOST_RESTARTED: usize = 20_000;
const UNREMEMBERED: u32 = 4;

/// The hash of a number that this server counts up, and nobody outside chooses: it needs no seed, and multiplying by an
/// odd number gives no two of them the same hash. What comes from outside is hashed by [`crate::agent::records::hash`].
fn spread(id: PendingRequestId) -> u64 {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl PendingTable {
    fn entry(&mut self, id: PendingRequestId) -> Option<&mut QueueEntry> {
        let (_, key) = *self.keys.find(spread(id), |(known, _)| *known == id)?;
        self.by_key.find_mut(key, |entry| entry.id == id).map(|entry| &mut **entry)
    }

    /// The one that requests without an entity tag mean.
    fn unnamed(&mut self, key: u64) -> Option<&mut QueueEntry> {
        self.by_key.find_mut(key, |entry| entry.key == key && !entry.is_second).map(|entry| &mut **entry)
    }

    /// The one that is under way for what `request` is about.
    fn meant_by(&mut self, key: u64, request: &Request) -> Option<&mut QueueEntry> {
        let tag = request.etag();
        if request.options.start == Start::Anew {
            return None;
        }
        let is_named = |entry: &ShmBox<QueueEntry>| entry.key == key && tag.is_some_and(|tag| entry.has_tag(tag));
        if self.by_key.find(key, is_named).is_some() {
            return self.by_key.find_mut(key, is_named).map(|entry| &mut **entry);
        }
        // Before anything was sent it is not known which tag it is about.
        self.unnamed(key).filter(|busy| tag.is_none() || busy.etag.is_none())
    }

    fn insert(&mut self, mut entry: ShmBox<QueueEntry>) -> Result<PendingRequestId, NoMemory> {
        self.by_key.try_reserve(1, |entry| entry.key).map_err(|_| NoMemory)?;
        self.keys.try_reserve(1, |(id, _)| spread(*id)).map_err(|_| NoMemory)?;
        self.last += 1;
        let (id, key) = (self.last, entry.key);
        entry.id = id;
        self.by_key.insert_unique(key, entry, |entry| entry.key);
        self.keys.insert_unique(spread(id), (id, key), |(id, _)| spread(*id));
        Ok(id)
    }

    fn remove(&mut self, id: PendingRequestId) -> Option<ShmBox<QueueEntry>> {
        let key = match self.keys.find_entry(spread(id), |(known, _)| *known == id) {
            Ok(found) => found.remove().0.1,
            Err(_) => return None,
        };
        self.by_key.find_entry(key, |entry| entry.id == id).ok().map(|found| found.remove().0)
    }
}

/// What came of asking an entry that is busy, and what it took the place of.
type Joined = (Admission, Option<NextRequest>);

fn join(busy: &mut QueueEntry, request: &Request, checked: RequestCheck, now: Tick) -> Result<Joined, RequestError> {
    if request.options.is_own() {
        return Ok((Admission::Covered, None));
    }
    if busy.waiting() >= LONGEST_QUEUE {
        return Err(RequestError::Crowded(LONGEST_QUEUE));
    }
    if busy.covers(request, now) {
        if let Some(claim) = Claim::of(request) {
            shm::push(&mut busy.claims, claim)?;
        }
        return Ok((Admission::Covered, None));
    }
    if matches!(busy.phase, RequestPhase::Waiting { .. })
        && busy.at_server == AtServer::Nothing
        && request.options.expires.is_end()
    {
        return Ok((Admission::Go(busy.id), busy.give_way(request, now)?));
    }
    if checked == RequestCheck::Pending && (request.options.has_body || request.etag().is_some()) {
        return Ok((Admission::Busy { known: request.etag().is_some_and(|tag| busy.has_tag(tag)) }, None));
    }
    Ok((Admission::Queued, busy.queue(request, now, None)?))
}

impl Default for PendingRequests {
    /// No pending requests; call before the processes fork.
    fn default() -> PendingRequests {
        let (by_key, keys, restarts) = (HashTable::new_in(Shm), HashTable::new_in(Shm), HashTable::new_in(Shm));
        PendingRequests { table: Lock::new(PendingTable { by_key, keys, restarts, last: 0 }) }
    }
}

impl PendingRequests {
    /// See [`crate::pua::ports::request_queue::RequestQueue::admit`]; `key` names the publications or subscriptions of
    /// one name.
    ///
    /// # Errors
    ///
    /// Fails with `Crowded` when `LONGEST_QUEUE` requests wait for the publication or subscription already, with
    /// `NoBody` when a PUBLISH without a body would begin anew what a waiting one ends, and when shared memory runs
    /// out.
    pub fn admit(
        &self,
        key: u64,
        request: &Request,
        checked: RequestCheck,
        now: Tick,
    ) -> Result<Admission, RequestError> {
        let mut entry = new_entry(key, request, RequestPhase::UnderWay { until: now + ANSWER_TIMEOUT }, now)?;
        let mut table = self.table.lock();
        if let Some(busy) = table.meant_by(key, request) {
            let joined = join(busy, request, checked, now);
            drop(table);
            return joined.map(|(departure, _)| departure);
        }
        entry.is_second = table.unnamed(key).is_some();
        Ok(Admission::Go(table.insert(entry)?))
    }

    /// See [`crate::pua::ports::retries::Retries::later`].
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn later(
        &self,
        key: u64,
        request: &Request,
        wait: Seconds,
        now: Tick,
    ) -> Result<Option<PendingRequestId>, RequestError> {
        let waits = wait > Seconds::ZERO;
        let phase = match waits {
            false => RequestPhase::UnderWay { until: now + ANSWER_TIMEOUT },
            true => RequestPhase::Waiting { at: now + wait },
        };
        let mut entry = new_entry(key, request, phase, now)?;
        if waits {
            drop(entry.queue(request, now, None)?);
        }
        let mut table = self.table.lock();
        if let Some(busy) = table.unnamed(key) {
            if !busy.asked.0.is_end() && busy.next.is_none() {
                busy.queue(request, now, Some(now + wait))?;
            }
            return Ok(None);
        }
        let id = table.insert(entry)?;
        Ok((!waits).then_some(id))
    }

    /// See [`crate::pua::ports::retries::Retries::restarts`].
    pub fn restarts(&self, key: u64, now: Tick) -> u32 {
        let mut table = self.table.lock();
        let table = &mut *table;
        if let Some((_, count, at)) = table.restarts.find_mut(key, |(known, ..)| *known == key) {
            let before = if now - *at > RESTARTS_REMEMBERED { 0 } else { *count };
            (*count, *at) = (before + 1, now);
            return before;
        }
        if table.restarts.len() >= MOST_RESTARTED {
            table.restarts.retain(|(_, _, at)| now - *at <= RESTARTS_REMEMBERED);
        }
        if table.restarts.len() >= MOST_RESTARTED || table.restarts.try_reserve(1, |(key, ..)| *key).is_err() {
            return UNREMEMBERED;
        }
        table.restarts.insert_unique(key, (key, 1, now), |(key, ..)| *key);
        0
    }

    /// See [`crate::pua::ports::request_queue::RequestQueue::record_sent`].
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out; what was noted before stays.
    pub fn record_sent(
        &self,
        id: PendingRequestId,
        request: &Request,
        record: &Record,
        now: Tick,
    ) -> Result<(), NoMemory> {
        let fresh = Some((request.map(shm::copy)?, record.map(shm::copy)?));
        let etag = EntityTag::new(record.get(RecordField::Etag)).map(shm::copy)?;
        let mut table = self.table.lock();
        let Some(entry) = table.entry(id) else { return Ok(()) };
        entry.phase = RequestPhase::UnderWay { until: now + ANSWER_TIMEOUT };
        entry.asked = (request.options.expires, now);
        let old = (std::mem::replace(&mut entry.sent, fresh), entry.etag.replace(etag), entry.former_etag.take());
        let taken = entry.in_hand.take();
        drop(table);
        drop((old, taken));
        Ok(())
    }

    /// See [`crate::pua::ports::request_queue::RequestQueue::take_sent`].
    pub fn take_sent(&self, id: PendingRequestId) -> Option<PendingRequest> {
        let mut table = self.table.lock();
        let entry = table.entry(id)?;
        let (request, record) = entry.sent.take()?;
        let before = entry.in_hand.replace(TakenPart::Sent(request, record));
        let Some(TakenPart::Sent(request, record)) = &entry.in_hand else { return None };
        let taken =
            PendingRequest { request: request.to_private(), record: record.to_private(), attempts: entry.attempts };
        drop(table);
        drop(before);
        Some(taken)
    }

    /// See [`crate::pua::ports::request_queue::RequestQueue::settled`]. Without memory what is left to be done is lost
    /// with a panic.
    pub fn settled(&self, id: PendingRequestId, unstored: Option<&RecordChange>, next: Option<&Request>) {
        let unstored = unstored.and_then(|change| change.map(shm::copy).ok()).map(TakenPart::Change);
        let left = unstored.or_else(|| next.and_then(|next| next.map(shm::copy).ok()).map(TakenPart::Next));
        let mut table = self.table.lock();
        let Some(entry) = table.entry(id) else { return };
        let before = std::mem::replace(&mut entry.in_hand, left);
        drop(table);
        drop(before);
    }

    /// What an entry from the host was doing with a pending request was broken off, see [`QueueEntry::break_off`].
    pub fn break_off(&self, id: PendingRequestId, holder: RequestHolder, now: Tick) {
        let mut table = self.table.lock();
        if let Some(entry) = table.entry(id) {
            entry.break_off(holder, now);
        }
    }

    /// See [`crate::pua::ports::request_queue::RequestQueue::retag`]. Without memory it keeps the tag it had.
    pub fn retag(&self, id: PendingRequestId, tag: EntityTag<&[u8]>) {
        let Ok(copy) = tag.map(shm::copy) else { return };
        let mut table = self.table.lock();
        let Some(entry) = table.entry(id).filter(|entry| entry.etag.as_ref().is_none_or(|etag| *etag != tag)) else {
            return;
        };
        let before = entry.etag.replace(copy);
        let old = std::mem::replace(&mut entry.former_etag, before);
        drop(table);
        drop(old);
    }

    /// See [`crate::pua::ports::request_queue::RequestQueue::end`].
    pub fn end(&self, id: PendingRequestId, now: Tick) -> Option<Request> {
        let mut table = self.table.lock();
        let entry = table.entry(id)?;
        match &entry.next {
            Some(NextRequest { not_before: Some(at), .. }) if *at > now => {
                entry.phase = RequestPhase::Waiting { at: *at };
                entry.at_server = AtServer::Nothing;
                entry.was_broken_off = false;
                let over = entry.in_hand.take();
                drop(table);
                drop(over);
                return None;
            }
            Some(_) => {
                entry.attempts = 0;
                entry.was_broken_off = false;
                return entry.hand_out_next(now);
            }
            None => {}
        }
        let gone = table.remove(id);
        drop(table);
        drop(gone);
        None
    }

    /// See [`crate::pua::ports::retries::Retries::wait`].
    pub fn wait(&self, id: PendingRequestId, wait: Seconds, request: &Request, server: AtServer, now: Tick) -> bool {
        let mut table = self.table.lock();
        let Some(entry) = table.entry(id) else { return false };
        let newer = entry.next.as_ref().map(|newer| newer.request.to_private());
        let goes = newer.as_ref().map_or_else(|| request.clone(), |newer| newer.in_place_of(request));
        let Ok(copy) = goes.map(shm::copy) else { return newer.is_some() };
        match &mut entry.next {
            Some(next) => next.request = copy,
            empty => {
                let claims = ShmVec::new_in(Shm);
                *empty = Some(NextRequest { request: copy, since: now, not_before: None, claims });
            }
        }
        entry.phase = RequestPhase::Waiting { at: now + wait };
        entry.at_server = server;
        entry.attempts += 1;
        let over = entry.in_hand.take();
        drop(table);
        drop(over);
        true
    }

    /// See [`crate::pua::ports::retries::Retries::attempts`].
    pub fn attempts(&self, id: PendingRequestId) -> u32 {
        self.table.lock().entry(id).map_or(0, |entry| entry.attempts)
    }

    /// See [`crate::pua::ports::retries::Retries::postpone`]. Without memory the change is lost.
    pub fn postpone(&self, id: PendingRequestId, wait: Seconds, change: &RecordChange, now: Tick) {
        let copy = change.map(shm::copy).ok();
        let mut table = self.table.lock();
        let Some(entry) = table.entry(id) else { return };
        entry.change = copy;
        entry.phase = RequestPhase::Unstored { at: now + wait };
        entry.attempts += 1;
        let over = entry.in_hand.take();
        drop(table);
        drop(over);
    }

    /// See [`crate::pua::ports::callers::Callers::claims`].
    pub fn claims(&self, id: PendingRequestId) -> Vec<Claim> {
        let mut table = self.table.lock();
        let Some(entry) = table.entry(id) else { return Vec::new() };
        let taken = std::mem::replace(&mut entry.claims, ShmVec::new_in(Shm));
        drop(table);
        taken.to_vec()
    }

    /// See [`crate::pua::ports::callers::Callers::withdraw`].
    pub fn withdraw(&self, id: PendingRequestId) {
        let mut table = self.table.lock();
        if let Some(entry) = table.entry(id).filter(|entry| !entry.claims.is_empty()) {
            entry.claims.remove(0);
        }
    }

    /// See [`crate::pua::ports::retries::Retries::timed_out`].
    pub fn timed_out(&self, now: Tick) -> Vec<DueRequest> {
        let mut table = self.table.lock();
        let mut due = Vec::new();
        for entry in table.by_key.iter_mut() {
            let is_due = match entry.phase {
                RequestPhase::UnderWay { until } => until < now,
                RequestPhase::BrokenOff => true,
                RequestPhase::Waiting { at } | RequestPhase::Unstored { at } => at <= now,
            };
            match entry.phase {
                _ if !is_due => {}
                RequestPhase::UnderWay { .. } | RequestPhase::BrokenOff => {
                    // Once is enough, whatever comes of it.
                    entry.phase = RequestPhase::UnderWay { until: now + ANSWER_TIMEOUT };
                    due.push(match entry.take_given_up() {
                        Some(request) => DueRequest::GivenUp(entry.id, request),
                        None => DueRequest::Lost(entry.id),
                    });
                }
                RequestPhase::Waiting { .. } => match entry.hand_out_next(now) {
                    Some(next) => due.push(DueRequest::Send(entry.id, next)),
                    None => due.push(DueRequest::Lost(entry.id)),
                },
                RequestPhase::Unstored { .. } => {
                    entry.phase = RequestPhase::UnderWay { until: now + ANSWER_TIMEOUT };
                    due.push(match entry.change.take() {
                        Some(change) => {
                            let copy = change.to_private();
                            entry.in_hand = Some(TakenPart::Change(change));
                            DueRequest::Store(entry.id, copy)
                        }
                        None => DueRequest::Lost(entry.id),
                    });
                }
            }
        }
        due
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table.lock().by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pua::flags::{EventFlags, SourceFlags};
    use crate::pua::request::RequestField;

    use crate::host::fake;
    use crate::pua::request::{RequestOptions, RequestedExpires};

    fn request(body: &str, cb_param: usize) -> Request {
        let options = RequestOptions {
            event: EventFlags::from_word(1),
            flag: SourceFlags::from_word(1),
            expires: RequestedExpires::For(Seconds(60)),
            has_body: true,
            cb_param,
            ..RequestOptions::default()
        };
        Request::new(options, &[(RequestField::PresUri, b"sip:a@b"), (RequestField::Body, body.as_bytes())])
    }

    fn words(claims: &[Claim]) -> Vec<usize> {
        claims.iter().map(|claim| claim.cb_param).collect()
    }

    fn go(pending_requests: &PendingRequests, request: &Request) -> PendingRequestId {
        match pending_requests.admit(5, request, RequestCheck::Passed, Tick(0)) {
            Ok(Admission::Go(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_newest_request_goes_next_and_each_caller_is_handed_out_once() {
        let pending_requests = PendingRequests::default();
        let id = go(&pending_requests, &request("1", 11));
        for (body, param) in [("2", 22), ("3", 33), ("4", 44)] {
            assert_eq!(
                pending_requests.admit(5, &request(body, param), RequestCheck::Passed, Tick(0)),
                Ok(Admission::Queued)
            );
        }
        assert_eq!(words(&pending_requests.claims(id)), [11]);
        assert!(pending_requests.claims(id).is_empty());
        let next = pending_requests.end(id, Tick(0)).unwrap();
        assert_eq!((next.get(RequestField::Body), next.options.cb_param), (b"4".as_slice(), 44));
        assert_eq!(words(&pending_requests.claims(id)), [22, 33, 44]);
        assert_eq!(pending_requests.end(id, Tick(0)), None);
        assert_eq!(pending_requests.count(), 0);
    }

    #[test]
    fn a_request_that_waits_is_overdue_in_time_and_a_lost_one_is_named() {
        let before = fake::live_blocks();
        let pending_requests = PendingRequests::default();
        let id = go(&pending_requests, &request("1", 0));
        assert!(pending_requests.wait(id, Seconds(20), &request("1", 0), AtServer::Nothing, Tick(0)));
        assert!(pending_requests.timed_out(Tick(19)).is_empty());
        assert!(matches!(pending_requests.timed_out(Tick(20))[..], [DueRequest::Send(..)]));
        assert!(pending_requests.timed_out(Tick(20) + ANSWER_TIMEOUT).is_empty());
        assert_eq!(pending_requests.timed_out(Tick(21) + ANSWER_TIMEOUT), [DueRequest::Lost(id)]);
        pending_requests.end(id, Tick(700));
        assert_eq!(pending_requests.count(), 0);
        drop(pending_requests);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn the_queue_is_bounded_and_what_was_not_checked_replaces_nothing() {
        let pending_requests = PendingRequests::default();
        let id = go(&pending_requests, &request("1", 1));
        assert_eq!(pending_requests.admit(5, &request("2", 2), RequestCheck::Passed, Tick(0)), Ok(Admission::Queued));
        assert_eq!(
            pending_requests.admit(5, &request("broken", 3), RequestCheck::Pending, Tick(0)),
            Ok(Admission::Busy { known: false })
        );
        for n in 2..LONGEST_QUEUE {
            assert_eq!(
                pending_requests.admit(5, &request("2", n), RequestCheck::Passed, Tick(0)),
                Ok(Admission::Queued)
            );
        }
        assert_eq!(
            pending_requests.admit(5, &request("3", 0), RequestCheck::Passed, Tick(0)),
            Err(RequestError::Crowded(LONGEST_QUEUE))
        );
        assert_eq!(pending_requests.end(id, Tick(0)).unwrap().get(RequestField::Body), b"2");
    }

    #[test]
    fn without_memory_a_caller_is_in_no_list() {
        let pending_requests = PendingRequests::default();
        let before = fake::live_blocks();
        let id = go(&pending_requests, &request("1", 1));
        for n in 0.. {
            let (joined, failed) =
                fake::failing_at(n, || pending_requests.admit(5, &request("2", 2), RequestCheck::Passed, Tick(0)));
            assert_eq!(fake::held_locks(), 0);
            if !failed {
                assert_eq!(joined, Ok(Admission::Queued));
                break;
            }
            assert!(joined.is_err());
        }
        assert_eq!(words(&pending_requests.claims(id)), [1]);
        pending_requests.end(id, Tick(0));
        assert_eq!(words(&pending_requests.claims(id)), [2]);
        pending_requests.end(id, Tick(0));
        // The tables keep the room they once needed.
        assert!(fake::live_blocks() <= before + 2);
    }

    #[test]
    fn subscriptions_begun_anew_are_counted_for_a_while() {
        let pending_requests = PendingRequests::default();
        assert_eq!([0, 0, 10, 700].map(|now| pending_requests.restarts(5, Tick(now))), [0, 1, 2, 0]);
    }

    #[test]
    fn a_bounded_number_of_restarts_is_counted() {
        let pending_requests = PendingRequests::default();
        assert!((0..MOST_RESTARTED as u64).all(|key| pending_requests.restarts(key, Tick(0)) == 0));
        let beyond = MOST_RESTARTED as u64;
        assert_eq!([0, 0].map(|now| pending_requests.restarts(beyond, Tick(now))), [UNREMEMBERED; 2]);
        assert_eq!(pending_requests.restarts(7, Tick(0)), 1, "those that are known are counted");
        // Once the others are forgotten there is room.
        let later = Tick(0) + RESTARTS_REMEMBERED + Seconds(1);
        assert_eq!([later; 2].map(|now| pending_requests.restarts(beyond, now)), [0, 1]);
    }
}
