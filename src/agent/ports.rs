//! What the decisions of [`crate::pua`] ask for, carried out on Kamailio.
use crate::agent::context::{AgentContext, AgentShared};
use crate::agent::storage::store::SweepPart;
use crate::agent::{bodies, records};
use crate::common::counters::{self, Counter};
use crate::host::shm::{CallbackParam, NumberOnly};
use crate::host::{clock, tm};
use crate::limited_refusal;
use crate::pua::config::Config;
use crate::pua::error::RequestError;
use crate::pua::event::{Event, Processing};
use crate::pua::ports::{
    self, Admission, AgentPorts, AtServer, Claim, ClientRequest, DueRequest, PendingRequest, PendingRequestId,
    Processed, RequestCheck, RequestIds, SendOutcome,
};
use crate::pua::record::{Dialog, Record, RecordChange, Search};
use crate::pua::request::{Request, RequestField};
use crate::sip::entity_tag::EntityTag;
use crate::time::{Moment, Seconds, Tick};

/// The tick from which a wait is counted: the one that has begun is not a whole one.
fn whole_seconds(wait: Seconds) -> Tick {
    clock::ticks() + Seconds(i64::from(wait > Seconds::ZERO))
}

/// The key of the publication or subscription a request is about.
fn key_of(shared: &AgentShared, request: &Request) -> u64 {
    let options = &request.options;
    let (event, flag) = (options.event.to_ne_bytes(), options.flag.to_ne_bytes());
    let names = [
        request.get(RequestField::PresUri),
        request.get(RequestField::WatcherUri),
        request.get(RequestField::Id),
        &event,
        &flag,
    ];
    records::hash(shared.seed, &names)
}

impl AgentPorts for AgentContext<'_> {
    fn config(&self) -> &Config {
        &self.process.config
    }
    fn now(&self) -> Moment {
        clock::now()
    }
    fn event(&self, flag: i32) -> Option<Event> {
        self.process.registry.event(flag)
    }

    fn process(
        &mut self,
        event: &Event,
        request: &Request,
        version: u32,
        tuple_id: &[u8],
    ) -> Result<Processed, RequestError> {
        let body = request.get(RequestField::Body);
        match event.processing {
            Processing::AsIs => Ok(Processed { body: body.to_vec(), tuple_id: tuple_id.to_vec() }),
            Processing::TupleId => bodies::with_tuple_id(body, tuple_id, || self.process.ids.borrow_mut().tuple_id()),
            Processing::Version(element) => bodies::with_version(body, element, version),
            Processing::Foreign(index) => self.process.registry.process_foreign(index, request, version, tuple_id),
        }
    }

    fn new_ids(&mut self, target: &[u8]) -> RequestIds {
        let tm::NewIds { call_id, from_tag } = tm::new_ids(target);
        RequestIds { call_id, from_tag }
    }

    fn new_cnonce(&mut self) -> Vec<u8> {
        format!("{:016x}", clock::random_number()).into_bytes()
    }
    fn known_challenges(&mut self, server: &[u8]) -> Vec<u8> {
        self.process.shared.known_challenges.of(server)
    }
    fn count_nonce(&mut self, server: &[u8], challenge: &[u8]) -> u32 {
        self.process.shared.known_challenges.count(server, challenge)
    }
    fn forget_challenges(&mut self, server: &[u8]) {
        self.process.shared.known_challenges.forget(server);
    }

    fn find(&mut self, search: &Search<'_>) -> Result<Option<Record>, RequestError> {
        self.process.records.find(search)
    }
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError> {
        self.process.records.find_dialog(dialog)
    }
    fn insert(&mut self, record: &Record) -> Result<(), RequestError> {
        self.process.records.insert(record)
    }
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, RequestError> {
        self.process.records.replace(before, after)
    }
    fn remove(&mut self, record: &Record) -> Result<(), RequestError> {
        self.process.records.remove(record)
    }

    fn ending(&mut self, before: Moment) -> Result<Vec<Record>, RequestError> {
        if self.whole_sweep {
            return self.process.records.ending(before, SweepPart::WHOLE);
        }
        // A part of the records each second, so that refreshes are spread over the period.
        let of = self.process.config.sweep_period().0 as usize;
        let number = self.process.turn.get() % of;
        self.process.turn.set(number + 1);
        self.process.records.ending(before, SweepPart { number, of })
    }

    fn admit(&mut self, request: &Request, checked: RequestCheck) -> Result<Admission, RequestError> {
        let key = key_of(&self.process.shared, request);
        let departure = self.process.shared.pending_requests.admit(key, request, checked, clock::ticks())?;
        match departure {
            Admission::Go(pending) => match Claim::of(request) {
                Some(_) => self.in_hand.take_for_caller(pending),
                None => self.in_hand.take(pending),
            },
            Admission::Queued => counters::count(Counter::PuaQueued),
            Admission::Busy { .. } | Admission::Covered => {}
        }
        Ok(departure)
    }
    fn record_sent(
        &mut self,
        pending: PendingRequestId,
        request: &Request,
        record: &Record,
    ) -> Result<(), RequestError> {
        self.process
            .shared
            .pending_requests
            .record_sent(pending, request, record, clock::ticks())
            .map_err(RequestError::from)
    }
    fn take_sent(&mut self, pending: PendingRequestId) -> Option<PendingRequest> {
        let sent = self.process.shared.pending_requests.take_sent(pending);
        if sent.is_some() {
            self.in_hand.take(pending);
        }
        sent
    }
    fn settled(&mut self, pending: PendingRequestId, unstored: Option<&RecordChange>, next: Option<&Request>) {
        self.process.shared.pending_requests.settled(pending, unstored, next);
    }
    fn retag(&mut self, pending: PendingRequestId, tag: EntityTag<&[u8]>) {
        self.process.shared.pending_requests.retag(pending, tag);
    }
    fn end(&mut self, pending: PendingRequestId) -> Option<Request> {
        let next = self.process.shared.pending_requests.end(pending, clock::ticks());
        match next {
            Some(_) => self.in_hand.take(pending),
            None => self.in_hand.let_go(pending),
        }
        next
    }
    fn wait(&mut self, pending: PendingRequestId, wait: Seconds, request: &Request, server: AtServer) -> bool {
        let waits = self.process.shared.pending_requests.wait(pending, wait, request, server, whole_seconds(wait));
        if waits {
            self.in_hand.let_go(pending);
        }
        waits
    }
    fn attempts(&mut self, pending: PendingRequestId) -> u32 {
        self.process.shared.pending_requests.attempts(pending)
    }
    fn postpone(&mut self, pending: PendingRequestId, wait: Seconds, change: &RecordChange) {
        self.process.shared.pending_requests.postpone(pending, wait, change, clock::ticks());
        self.in_hand.let_go(pending);
    }
    fn later(&mut self, request: &Request, wait: Seconds) -> Result<Option<PendingRequestId>, RequestError> {
        let key = key_of(&self.process.shared, request);
        let pending = self.process.shared.pending_requests.later(key, request, wait, whole_seconds(wait))?;
        pending.into_iter().for_each(|pending| self.in_hand.take(pending));
        Ok(pending)
    }
    fn restarts(&mut self, request: &Request) -> u32 {
        self.process.shared.pending_requests.restarts(key_of(&self.process.shared, request), clock::ticks())
    }
    fn timed_out(&mut self) -> Vec<DueRequest> {
        let due = self.process.shared.pending_requests.timed_out(clock::ticks());
        due.iter().filter(|due| matches!(due, DueRequest::Send(..))).for_each(|_| counters::count(Counter::PuaRetried));
        due
    }
    fn take(&mut self, pending: PendingRequestId) {
        self.in_hand.take(pending);
    }
    fn broken_off(&mut self, what: &str, why: &str) {
        limited_refusal!(Error, ("pua", 0, what), "panic while {what}: {why}");
        self.in_hand.break_off();
    }
    fn claims(&mut self, pending: PendingRequestId) -> Vec<Claim> {
        self.process.shared.pending_requests.claims(pending)
    }
    fn withdraw(&mut self, pending: PendingRequestId) {
        self.process.shared.pending_requests.withdraw(pending);
        self.in_hand.withdraw();
    }

    fn send(&mut self, pending: PendingRequestId, outgoing: &ClientRequest<'_>) -> Result<SendOutcome, RequestError> {
        let request = tm::InDialog {
            method: outgoing.method,
            headers: &outgoing.headers,
            body: outgoing.body,
            call_id: outgoing.call_id,
            local_tag: outgoing.from_tag,
            remote_tag: outgoing.to_tag,
            local_uri: outgoing.from,
            remote_uri: outgoing.to,
            remote_target: outgoing.target,
            routes: outgoing.routes,
            cseq: outgoing.cseq,
            socket: b"",
            proxy: outgoing.proxy,
        };
        let callback =
            if outgoing.method == "PUBLISH" { self.process.on_published } else { self.process.on_subscribed };
        let sent = tm::send_in_dialog(&request, Some(callback), CallbackParam::<NumberOnly>::number(pending));
        counters::count(match sent {
            Ok(tm::TmOutcome::UnderWay) if outgoing.method == "PUBLISH" => Counter::PuaPublish,
            Ok(tm::TmOutcome::UnderWay) => Counter::PuaSubscribe,
            _ => Counter::PuaUnsent,
        });
        match sent {
            Ok(tm::TmOutcome::UnderWay) => {
                self.in_hand.let_go(pending);
                Ok(SendOutcome::UnderWay)
            }
            Ok(tm::TmOutcome::Dropped) => Ok(SendOutcome::Dropped),
            Err(tm::NotSent) => Err(RequestError::NotSent),
        }
    }

    fn report(&mut self, claims: &[Claim], pending: &PendingRequest, outcome: ports::RequestOutcome) {
        let reply = if outcome == ports::RequestOutcome::Silence { tm::TmReply::none() } else { self.reply };
        self.process.registry.report(claims, pending, reply);
    }

    fn warn(&self, what: &str) {
        limited_refusal!(Warn, ("pua", 0, what), "{what}");
    }
}
