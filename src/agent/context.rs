//! The presence user agent on Kamailio: one [`AgentContext`] for each entry from the host, over what the process keeps.
use crate::agent::bodies;
use crate::agent::callbacks::CallbackRegistry;
use crate::agent::known_challenges::KnownChallenges;
use crate::agent::pending_requests::PendingRequests;
use crate::agent::pua_table::PuaRows;
use crate::agent::records::{self, RecordRowChange, Records};
use crate::agent::request_in_hand::RequestInHand;
use crate::common::counters::{self, Counter};
use crate::common::database::{Database, StoreError};
use crate::common::ids::Ids;
use crate::common::row_groups::{GROUP, GroupOutcome, Pass, RefusalLog, RowOutcome, TakenRows};
use crate::host::msg::{Header, SipMsg, routes_of};
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, CallbackParam, NumberOnly};
use crate::host::{clock, log, tm};
use crate::pua::config::{Config, Mode};
use crate::pua::error::RequestError;
use crate::pua::event::{Event, Processing};
use crate::pua::ports::{
    self, Admission, AgentPorts, Claim, ClientRequest, DueRequest, PendingRequest, PendingRequestId, Processed,
    SendOutcome,
};
use crate::pua::ports::{AtServer, Checked, RequestIds};
use crate::pua::record::{Dialog, Record, RecordChange, RecordField, RecordRowState, Search};
use crate::pua::request::{Request, RequestField};
use crate::pua::response::{Challenge, FinalResponse};
use crate::sip::entity_tag::EntityTag;
use crate::sip::route_set::RouteSet;
use crate::time::{Moment, Seconds, Tick};
use crate::{limited_refusal, log};
use std::cell::{Cell, RefCell};

/// What all processes of the server share.
#[derive(Clone, Copy)]
pub struct AgentShared {
    /// Records (`db_mode` 0).
    pub records: &'static Records,
    /// Requests under way.
    pub pending_requests: &'static PendingRequests,
    /// What servers ask of us before they serve.
    pub known_challenges: &'static KnownChallenges,
    seed: u64,
}

impl AgentShared {
    /// Empty tables; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<AgentShared, NoMemory> {
        let mut seed = [0; 8];
        clock::random(&mut seed);
        let seed = u64::from_ne_bytes(seed);
        Ok(AgentShared {
            records: shm::leak(Records::new(seed)?)?,
            pending_requests: shm::leak(PendingRequests::default())?,
            known_challenges: shm::leak(KnownChallenges::new()?)?,
            seed,
        })
    }
}

/// How far the CSeq of a dialog moves on at a restart: more than can be used between two writes of its row.
const CSEQ_RESERVE: u32 = 1000;

/// What one process keeps from request to request.
pub struct AgentProcess {
    /// The settings.
    pub config: Config,
    /// Events and callbacks.
    pub registry: CallbackRegistry,
    /// The shared tables.
    pub shared: AgentShared,
    /// The database.
    pub database: Database,
    /// Ids of tuples that have none.
    pub ids: RefCell<Ids>,
    /// Which part of the records is looked through next.
    pub turn: Cell<usize>,
    /// Called by tm when a PUBLISH is completed.
    pub on_published: tm::TmCallback,
    /// Called by tm when a SUBSCRIBE is completed.
    pub on_subscribed: tm::TmCallback,
}

/// One entry from the host: the process, and the reply in hand.
pub struct AgentContext<'m> {
    process: &'static AgentProcess,
    reply: tm::TmReply<'m>,
    whole_sweep: bool,
    in_hand: RequestInHand,
}

fn store(error: StoreError) -> RequestError {
    RequestError::Store(error.to_string())
}

/// The tick from which a wait is counted: the one that has begun is not a whole one.
fn whole_seconds(wait: Seconds) -> Tick {
    clock::ticks() + Seconds(i64::from(wait > Seconds::ZERO))
}

fn memory(error: NoMemory) -> RequestError {
    RequestError::Store(error.to_string())
}

impl<'m> AgentContext<'m> {
    /// A context without a reply.
    pub fn new(process: &'static AgentProcess) -> AgentContext<'m> {
        let in_hand = RequestInHand::none(process.shared.pending_requests);
        AgentContext { process, reply: tm::TmReply::none(), whole_sweep: false, in_hand }
    }

    /// A context for an answer.
    pub fn for_reply(process: &'static AgentProcess, reply: tm::TmReply<'m>) -> AgentContext<'m> {
        AgentContext { reply, ..AgentContext::new(process) }
    }

    /// A context that looks through all records at once (`pua.cleanup`).
    pub fn for_cleanup(process: &'static AgentProcess) -> AgentContext<'m> {
        AgentContext { whole_sweep: true, ..AgentContext::new(process) }
    }

    fn rows(&self) -> PuaRows<'static> {
        PuaRows { database: &self.process.database, config: &self.process.config }
    }

    fn pending_requests(&self) -> &'static PendingRequests {
        self.process.shared.pending_requests
    }

    /// The key of the publication or subscription a request is about.
    fn key_of(&self, request: &Request) -> u64 {
        let options = &request.options;
        let (event, flag) = (options.event.to_ne_bytes(), options.flag.to_ne_bytes());
        let names = [
            request.get(RequestField::PresUri),
            request.get(RequestField::WatcherUri),
            request.get(RequestField::Id),
            &event,
            &flag,
        ];
        records::hash(self.process.shared.seed, &names)
    }

    fn in_memory(&self) -> Option<&'static Records> {
        (self.process.config.mode == Mode::Memory).then_some(self.process.shared.records)
    }

    /// URIs of the presentities that records with this id are about.
    ///
    /// # Errors
    ///
    /// Fails when the rows have to be read (`db_mode` without memory) and the database cannot be read.
    pub fn uris_with_id(&self, id: &[u8]) -> Result<Vec<Vec<u8>>, RequestError> {
        match self.in_memory() {
            Some(records) => Ok(records.uris_with_id(id)),
            None => self.rows().uris_with_id(id).map_err(store),
        }
    }

    /// Some of the records whose presentity is `wanted`.
    ///
    /// # Errors
    ///
    /// Fails when the rows have to be read (`db_mode` without memory) and the database cannot be read.
    pub fn page_of_records(
        &self,
        offset: usize,
        limit: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Record>, RequestError> {
        let mut all = match self.in_memory() {
            Some(records) => records.ending(Moment::MAX, 0, 1),
            None => {
                let mut rows = Vec::new();
                self.rows().each(|record| rows.push(record)).map_err(store)?;
                rows
            }
        };
        all.retain(|record| wanted(record.get(RecordField::PresUri)));
        all.sort_by_key(|record| record.state.serial);
        Ok(all.into_iter().skip(offset).take(limit).collect())
    }

    /// Fills the memory from the table; returns how many rows were read.
    ///
    /// # Errors
    ///
    /// Fails when the table cannot be read, or when shared memory has no room for all of its records: those that fit
    /// are kept.
    pub fn restore(&self) -> Result<usize, RequestError> {
        let Some(records) = self.in_memory() else { return Ok(0) };
        let (mut failed, mut watching) = (0, false);
        let keep = |mut record: Record| {
            if record.is_subscription() {
                // After a crash the row does not say which numbers were used since it was written.
                record.state.cseq = record.state.cseq.saturating_add(CSEQ_RESERVE);
                record.state.row_state = RecordRowState::Update;
                watching = true;
            }
            failed += usize::from(records.insert(&record).is_err());
        };
        let count = self.rows().each(keep).map_err(store)?;
        if failed > 0 {
            return Err(RequestError::Store(format!(
                "{failed} records do not fit the shared memory: raise it (option -m)"
            )));
        }
        if watching {
            // The numbers taken are in the rows before the first of them is used: another crash takes others.
            self.write_back(Pass::Regular);
        }
        Ok(count)
    }

    /// Writes what memory has changed to the table.
    pub fn write_back(&self, pass: Pass) {
        let Some(records) = self.in_memory() else { return };
        let (now, mut refusals, mut lost) = (clock::now(), RefusalLog::default(), None);
        let moment = pass.moment(now);
        let put_back = |change: &RecordRowChange| {
            records.note_fate(change, RowOutcome::Kept, moment);
        };
        let mut changes = TakenRows::new(records.take_changes(moment, pass), &put_back);
        for first in (0..changes.rows().len()).step_by(GROUP) {
            let group = &changes.rows()[first..changes.rows().len().min(first + GROUP)];
            // What the database has no connection for is kept without a try.
            let outcome = match lost {
                None => self.rows().write_changes(group),
                Some(_) => GroupOutcome { fates: vec![RowOutcome::Kept; group.len()], error: lost },
            };
            changes.settle(&outcome.fates, |change, fate| {
                if records.note_fate(change, fate, moment) {
                    refusals.note(self.process.config.table, || named(change));
                }
            });
            lost = outcome.error;
        }
        let written = match lost {
            Some(error) => Err(error),
            None => self.rows().delete_ended(now),
        };
        if let Err(error) = written {
            log!(Error, "cannot write what has changed to the pua table: {error}");
        }
    }
}

/// Whose row a change is about.
fn named(change: &RecordRowChange) -> String {
    let (RecordRowChange::Ended { row: record, .. } | RecordRowChange::Changed { record, .. }) = change;
    let uri = log::show(record.get(RecordField::PresUri));
    match record.is_subscription() {
        true => format!("the subscription of {} to {uri}", log::show(record.get(RecordField::WatcherUri))),
        false => format!("a publication of {uri}"),
    }
}

/// What a reply says; `None` for a reply that cannot be read.
pub fn read_answer(reply: Option<SipMsg<'_>>, code: i32) -> Option<FinalResponse> {
    let code = u16::try_from(code).unwrap_or(500);
    let Some(reply) = reply else { return Some(FinalResponse { code, silence: true, ..FinalResponse::default() }) };
    if !reply.parse_headers() {
        return None;
    }
    let number = |name: &[u8]| crate::sip::text::leading_number(reply.find(name)?.trim_ascii());
    Some(FinalResponse {
        code,
        silence: false,
        expires: match reply.parsed_expires() {
            Header::Value(seconds) => Some(Seconds::from(seconds)),
            _ => None,
        },
        min_expires: number(b"Min-Expires").map(Seconds),
        retry_after: number(b"Retry-After").map(Seconds),
        etag: reply
            .find(b"SIP-ETag")
            .map(|tag| tag.trim_ascii().to_vec())
            .filter(|tag| !tag.is_empty())
            .map(EntityTag::new),
        to_tag: reply.to().map(|to| to.tag.to_vec()).unwrap_or_default(),
        contact: match reply.contact() {
            Header::Value(uri) => uri.to_vec(),
            _ => Vec::new(),
        },
        challenges: if matches!(code, 401 | 407) { challenges(reply) } else { Vec::new() },
        route_set: RouteSet::of_caller(reply.record_routes(), routes_of).routes,
    })
}

/// How many challenges of one answer are looked at.
const MOST_CHALLENGES: usize = 8;

fn challenges(reply: SipMsg<'_>) -> Vec<Challenge> {
    let kinds = [(b"WWW-Authenticate".as_slice(), false), (b"Proxy-Authenticate", true)];
    kinds.into_iter().flat_map(|(name, of_proxy)| challenges_of(reply.find_all(name), of_proxy)).collect()
}

/// The first challenges among the headers of one kind.
fn challenges_of<'a>(headers: impl Iterator<Item = &'a [u8]>, of_proxy: bool) -> impl Iterator<Item = Challenge> {
    headers.take(MOST_CHALLENGES).map(move |text| Challenge { of_proxy, text: text.trim_ascii().to_vec() })
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
        let mut random = [0; 8];
        clock::random(&mut random);
        format!("{:016x}", u64::from_ne_bytes(random)).into_bytes()
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
        match self.in_memory() {
            Some(records) => Ok(records.find(search)),
            None => self.rows().find(search).map_err(store),
        }
    }
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError> {
        match self.in_memory() {
            Some(records) => Ok(records.find_dialog(dialog)),
            None => self.rows().find_dialog(dialog).map_err(store),
        }
    }
    fn insert(&mut self, record: &Record) -> Result<(), RequestError> {
        match self.in_memory() {
            Some(records) => records.insert(record).map_err(memory),
            None => self.rows().insert(record).map_err(store),
        }
    }
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, RequestError> {
        match self.in_memory() {
            Some(records) => records.replace(before, after).map_err(memory),
            None => self.rows().replace(before, after).map_err(store),
        }
    }
    fn remove(&mut self, record: &Record) -> Result<(), RequestError> {
        match self.in_memory() {
            Some(records) => {
                records.remove(record);
                Ok(())
            }
            None => self.rows().remove(record).map_err(store),
        }
    }

    fn ending(&mut self, before: Moment) -> Result<Vec<Record>, RequestError> {
        // A part of the records each second, so that refreshes are spread over the period.
        let turns = if self.whole_sweep { 1 } else { self.process.config.sweep_period() as usize };
        let turn = self.process.turn.get() % turns;
        if !self.whole_sweep {
            self.process.turn.set(turn + 1);
        }
        match self.in_memory() {
            Some(records) => Ok(records.ending(before, turn, turns)),
            None => {
                let mut due = self.rows().ending(before).map_err(store)?;
                let part = |record: &Record| {
                    let dialog = record.dialog();
                    let hash = records::hash(0, &[dialog.pres_uri, dialog.call_id]);
                    hash as usize % turns
                };
                due.retain(|record| part(record) == turn);
                Ok(due)
            }
        }
    }

    fn admit(&mut self, request: &Request, checked: Checked) -> Result<Admission, RequestError> {
        let key = self.key_of(request);
        let departure = self.pending_requests().admit(key, request, checked, clock::ticks())?;
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
        self.pending_requests().record_sent(pending, request, record, clock::ticks()).map_err(memory)
    }
    fn take_sent(&mut self, pending: PendingRequestId) -> Option<PendingRequest> {
        let sent = self.pending_requests().take_sent(pending);
        if sent.is_some() {
            self.in_hand.take(pending);
        }
        sent
    }
    fn settled(&mut self, pending: PendingRequestId, unstored: Option<&RecordChange>, next: Option<&Request>) {
        self.pending_requests().settled(pending, unstored, next);
    }
    fn retag(&mut self, pending: PendingRequestId, tag: EntityTag<&[u8]>) {
        self.pending_requests().retag(pending, tag);
    }
    fn end(&mut self, pending: PendingRequestId) -> Option<Request> {
        let next = self.pending_requests().end(pending, clock::ticks());
        match next {
            Some(_) => self.in_hand.take(pending),
            None => self.in_hand.let_go(pending),
        }
        next
    }
    fn wait(&mut self, pending: PendingRequestId, wait: Seconds, request: &Request, server: AtServer) -> bool {
        let waits = self.pending_requests().wait(pending, wait, request, server, whole_seconds(wait));
        if waits {
            self.in_hand.let_go(pending);
        }
        waits
    }
    fn attempts(&mut self, pending: PendingRequestId) -> u32 {
        self.pending_requests().attempts(pending)
    }
    fn postpone(&mut self, pending: PendingRequestId, wait: Seconds, change: &RecordChange) {
        self.pending_requests().postpone(pending, wait, change, clock::ticks());
        self.in_hand.let_go(pending);
    }
    fn later(&mut self, request: &Request, wait: Seconds) -> Result<Option<PendingRequestId>, RequestError> {
        let key = self.key_of(request);
        let pending = self.pending_requests().later(key, request, wait, whole_seconds(wait))?;
        pending.into_iter().for_each(|pending| self.in_hand.take(pending));
        Ok(pending)
    }
    fn restarts(&mut self, request: &Request) -> u32 {
        self.pending_requests().restarts(self.key_of(request), clock::ticks())
    }
    fn timed_out(&mut self) -> Vec<DueRequest> {
        let due = self.pending_requests().timed_out(clock::ticks());
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
        self.pending_requests().claims(pending)
    }
    fn withdraw(&mut self, pending: PendingRequestId) {
        self.pending_requests().withdraw(pending);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_challenges_of_each_kind_are_looked_at() {
        let texts: Vec<String> = (0..20).map(|n| format!(" Digest realm=\"{n}\"")).collect();
        let found: Vec<Challenge> = challenges_of(texts.iter().map(String::as_bytes), true).collect();
        assert_eq!(found.len(), MOST_CHALLENGES);
        assert_eq!(found[MOST_CHALLENGES - 1].text, b"Digest realm=\"7\"");
    }
}
