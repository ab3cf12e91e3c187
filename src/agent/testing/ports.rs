//! The ports of the user agent, on the tables, the clock and the wire of the bench.
use super::{Bench, SendingFails, Wire};
use crate::agent::request_queue::RequestHolder;
use crate::pua::client_request::{ClientRequest, RequestIds, SendOutcome};
use crate::pua::config::Config;
use crate::pua::error::RequestError;
use crate::pua::event::{self, Event, Processed};
use crate::pua::flags::EventFlags;
use crate::pua::pending_request::{
    Admission, AtServer, Claim, DueRequest, PendingRequest, PendingRequestId, RequestCheck, RequestOutcome,
};
use crate::pua::ports::callers::Callers;
use crate::pua::ports::challenges::Challenges;
use crate::pua::ports::client_transactions::ClientTransactions;
use crate::pua::ports::event_bodies::EventBodies;
use crate::pua::ports::request_queue::RequestQueue;
use crate::pua::ports::retries::Retries;
use crate::pua::ports::stored_records::StoredRecords;
use crate::pua::ports::user_agent::UserAgent;
use crate::pua::ports::work_in_hand::WorkInHand;
use crate::pua::record::{Dialog, Record, RecordChange, Search};
use crate::pua::request::{Request, RequestField};
use crate::sip::entity_tag::EntityTag;
use crate::time::{Moment, Seconds};

impl UserAgent for Bench {
    fn config(&self) -> &Config {
        &self.config
    }
    fn now(&self) -> Moment {
        self.wall
    }
    fn warn(&self, _: &str) {}
}

impl EventBodies for Bench {
    fn event(&self, flag: EventFlags) -> Option<Event> {
        event::built_in(&self.config).into_iter().find(|event| event.flag == flag)
    }
    fn process(&mut self, _: &Event, request: &Request, _: u32, tuple_id: &[u8]) -> Result<Processed, RequestError> {
        let body = request.get(RequestField::Body).to_vec();
        if let (b"fragile", Some(left)) = (&*body, self.fragile.checked_sub(1)) {
            self.fragile = left;
            panic!("asked for by the test");
        }
        match &*body {
            b"broken" => Err(RequestError::BadBody("broken".into())),
            _ => Ok(Processed { body, tuple_id: tuple_id.to_vec() }),
        }
    }
}

impl Challenges for Bench {
    fn new_cnonce(&mut self) -> Vec<u8> {
        format!("cnonce-{}", self.number()).into_bytes()
    }
    fn known_challenges(&mut self, server: &[u8]) -> Vec<u8> {
        self.known_challenges.of(server)
    }
    fn count_nonce(&mut self, server: &[u8], challenge: &[u8]) -> u32 {
        self.known_challenges.count(server, challenge)
    }
    fn forget_challenges(&mut self, server: &[u8]) {
        self.known_challenges.forget(server);
    }
}

impl StoredRecords for Bench {
    fn find(&mut self, search: &Search<'_>) -> Result<Option<Record>, RequestError> {
        self.reachable().map(|()| self.records.find(search))
    }
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError> {
        self.reachable().map(|()| self.records.find_dialog(dialog))
    }
    fn insert(&mut self, record: &Record) -> Result<(), RequestError> {
        self.may_panic();
        self.reachable()?;
        self.records.insert(record).map_err(RequestError::from)
    }
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, RequestError> {
        self.reachable()?;
        self.records.replace(before, after).map_err(RequestError::from)
    }
    fn remove(&mut self, record: &Record) -> Result<(), RequestError> {
        self.reachable().map(|()| self.records.remove(record))
    }
    fn ending(&mut self, before: Moment) -> Result<Vec<Record>, RequestError> {
        self.reachable().map(|()| self.records.ending(before, 0, 1))
    }
}

impl RequestQueue for Bench {
    fn admit(&mut self, request: &Request, checked: RequestCheck) -> Result<Admission, RequestError> {
        let key = Bench::key_of(request);
        let admission = self.pending_requests.admit(key, request, checked, self.ticks)?;
        if let Admission::Go(pending) = admission {
            let caller = Claim::of(request).map(|_| RequestHolder::Caller);
            self.in_hand = Some((pending, caller.unwrap_or(RequestHolder::Queue)));
        }
        Ok(admission)
    }
    fn record_sent(
        &mut self,
        pending: PendingRequestId,
        request: &Request,
        record: &Record,
    ) -> Result<(), RequestError> {
        self.sending = String::from_utf8_lossy(request.get(RequestField::Id)).into_owned();
        self.pending_requests.record_sent(pending, request, record, self.ticks).map_err(RequestError::from)
    }
    fn take_sent(&mut self, pending: PendingRequestId) -> Option<PendingRequest> {
        let sent = self.pending_requests.take_sent(pending);
        self.in_hand = sent.is_some().then_some((pending, RequestHolder::Queue));
        sent
    }
    fn settled(&mut self, pending: PendingRequestId, unstored: Option<&RecordChange>, next: Option<&Request>) {
        self.pending_requests.settled(pending, unstored, next);
    }
    fn retag(&mut self, pending: PendingRequestId, tag: EntityTag<&[u8]>) {
        self.pending_requests.retag(pending, tag);
    }
    fn end(&mut self, pending: PendingRequestId) -> Option<Request> {
        let next = self.pending_requests.end(pending, self.ticks);
        self.in_hand = next.is_some().then_some((pending, RequestHolder::Queue));
        next
    }
}

impl Retries for Bench {
    fn wait(&mut self, pending: PendingRequestId, wait: Seconds, request: &Request, server: AtServer) -> bool {
        self.pending_requests.wait(pending, wait, request, server, self.ticks)
    }
    fn postpone(&mut self, pending: PendingRequestId, wait: Seconds, change: &RecordChange) {
        self.pending_requests.postpone(pending, wait, change, self.ticks);
    }
    fn later(&mut self, request: &Request, wait: Seconds) -> Result<Option<PendingRequestId>, RequestError> {
        self.pending_requests.later(Bench::key_of(request), request, wait, self.ticks)
    }
    fn attempts(&mut self, pending: PendingRequestId) -> u32 {
        self.pending_requests.attempts(pending)
    }
    fn restarts(&mut self, request: &Request) -> u32 {
        self.pending_requests.restarts(Bench::key_of(request), self.ticks)
    }
    fn timed_out(&mut self) -> Vec<DueRequest> {
        self.pending_requests.timed_out(self.ticks)
    }
}

impl WorkInHand for Bench {
    fn take(&mut self, pending: PendingRequestId) {
        self.in_hand = Some((pending, RequestHolder::Queue));
    }
    fn broken_off(&mut self, _: &str, _: &str) {
        if let Some((pending, holder)) = self.in_hand.take() {
            self.pending_requests.break_off(pending, holder, self.ticks);
        }
    }
}

impl Callers for Bench {
    fn claims(&mut self, pending: PendingRequestId) -> Vec<Claim> {
        self.pending_requests.claims(pending)
    }
    fn withdraw(&mut self, pending: PendingRequestId) {
        self.pending_requests.withdraw(pending);
        self.in_hand = Some((pending, RequestHolder::Queue));
    }
    fn report(&mut self, claims: &[Claim], _: &PendingRequest, outcome: RequestOutcome) {
        self.answered_callers.extend(claims.iter().map(|claim| (claim.cb_param, outcome == RequestOutcome::Silence)));
    }
}

impl ClientTransactions for Bench {
    fn new_ids(&mut self, _: &[u8]) -> RequestIds {
        let number = self.number();
        let ids = ["call", "tag"].map(|what| format!("{what}-{number}").into_bytes());
        let [call_id, from_tag] = ids;
        RequestIds { call_id, from_tag }
    }
    fn send(&mut self, pending: PendingRequestId, outgoing: &ClientRequest<'_>) -> Result<SendOutcome, RequestError> {
        self.may_panic();
        match self.sending_fails {
            Some(SendingFails::AtOnce) => return Err(RequestError::NotSent),
            Some(SendingFails::Silently) => return Ok(SendOutcome::Dropped),
            None => {}
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.wire.push(Wire {
            pending,
            id: self.sending.clone(),
            method: outgoing.kind.method(),
            target: text(outgoing.dialog.target),
            to: text(outgoing.dialog.to),
            call_id: outgoing.dialog.call_id.to_vec(),
            from_tag: outgoing.dialog.from_tag.to_vec(),
            cseq: outgoing.dialog.cseq,
            headers: text(&outgoing.headers),
            body: outgoing.body.map(text),
            at: self.ticks,
            answered: false,
        });
        Ok(SendOutcome::UnderWay)
    }
}
