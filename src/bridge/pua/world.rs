//! The presence user agent on Kamailio: one [`PuaWorld`] for each entry from the host, over what the process keeps.
use super::bodies;
use super::callbacks::Registry;
use super::flights::Flights;
use super::records::{self, Records, RowChange};
use super::rows::Rows;
use crate::bridge::counters::{self, Counter};
use crate::bridge::database::Database;
use crate::bridge::ids::Ids;
use crate::bridge::row_groups::{Fate, GROUP, Outcome, RefusalLog};
use crate::host::msg::{Header, SipMsg};
use crate::host::shm::{self, NoMemory, Ticket};
use crate::host::{clock, log, tm};
use crate::log;
use crate::presence::error::StoreError;
use crate::pua::answer::Answer;
use crate::pua::config::{Config, Mode};
use crate::pua::event::{Event, Processing};
use crate::pua::ports::{Claim, Departure, Due, Flight, FlightId, Outgoing, Ports, Processed, Refusal, Sent};
use crate::pua::record::{Change, Dialog, Field, Journal, Record, Search};
use crate::pua::request::{Part, Request};
use std::cell::{Cell, RefCell};

/// What all processes of the server share.
#[derive(Clone, Copy)]
pub struct Shared {
    /// Records (`db_mode` 0).
    pub records: &'static Records,
    /// Requests under way.
    pub flights: &'static Flights,
    seed: u64,
}

impl Shared {
    /// Empty tables; call before the processes fork.
    pub fn new() -> Result<Shared, NoMemory> {
        let mut seed = [0; 8];
        clock::random(&mut seed);
        let seed = u64::from_ne_bytes(seed);
        Ok(Shared { records: shm::leak(Records::new(seed)?)?, flights: shm::leak(Flights::new()?)?, seed })
    }
}

/// How far the CSeq of a dialog moves on at a restart: more than can be used between two writes of its row.
const CSEQ_RESERVE: u32 = 1000;

/// What one process keeps from request to request.
pub struct PuaProcess {
    /// The settings.
    pub config: Config,
    /// Events and callbacks.
    pub registry: Registry,
    /// The shared tables.
    pub shared: Shared,
    /// The database.
    pub database: Database,
    /// Ids of tuples that have none.
    pub ids: RefCell<Ids>,
    /// Which part of the records is looked through next.
    pub turn: Cell<usize>,
    /// Called by tm when a PUBLISH is completed.
    pub on_published: tm::Callback,
    /// Called by tm when a SUBSCRIBE is completed.
    pub on_subscribed: tm::Callback,
}

/// One entry from the host: the process, and the reply in hand.
pub struct PuaWorld {
    process: &'static PuaProcess,
    reply: *mut crate::sys::sip_msg,
    whole_sweep: bool,
}

fn store(error: StoreError) -> Refusal {
    Refusal::Store(error.to_string())
}

/// The tick from which so many seconds are counted: the one that has begun is not a whole one.
fn whole_seconds(seconds: i64) -> i64 {
    clock::ticks() + i64::from(seconds > 0)
}

fn memory(error: NoMemory) -> Refusal {
    Refusal::Store(error.to_string())
}

impl PuaWorld {
    /// A world without a reply.
    pub fn new(process: &'static PuaProcess) -> PuaWorld {
        PuaWorld { process, reply: tm::no_reply(), whole_sweep: false }
    }

    /// A world for an answer.
    pub fn for_reply(process: &'static PuaProcess, reply: *mut crate::sys::sip_msg) -> PuaWorld {
        PuaWorld { reply, ..PuaWorld::new(process) }
    }

    /// A world that looks through all records at once (`pua.cleanup`).
    pub fn for_cleanup(process: &'static PuaProcess) -> PuaWorld {
        PuaWorld { whole_sweep: true, ..PuaWorld::new(process) }
    }

    fn rows(&self) -> Rows<'static> {
        Rows { database: &self.process.database, config: &self.process.config }
    }

    fn flights(&self) -> &'static Flights {
        self.process.shared.flights
    }

    /// The key of the publication or subscription a request is about.
    fn key_of(&self, request: &Request) -> u64 {
        let wish = &request.wish;
        let (event, flag) = (wish.event.to_ne_bytes(), wish.flag.to_ne_bytes());
        let names = [request.get(Part::PresUri), request.get(Part::WatcherUri), request.get(Part::Id), &event, &flag];
        records::hash(self.process.shared.seed, &names)
    }

    fn in_memory(&self) -> Option<&'static Records> {
        (self.process.config.mode == Mode::Memory).then_some(self.process.shared.records)
    }

    /// URIs of the presentities that records with this id are about.
    pub fn uris_with_id(&self, id: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
        match self.in_memory() {
            Some(records) => Ok(records.uris_with_id(id)),
            None => self.rows().uris_with_id(id).map_err(store),
        }
    }

    /// Some of the records whose presentity is `wanted`.
    pub fn page_of_records(
        &self,
        offset: usize,
        limit: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Record>, Refusal> {
        let mut all = match self.in_memory() {
            Some(records) => records.ending(i64::MAX, 0, 1),
            None => {
                let mut rows = Vec::new();
                self.rows().each(|record| rows.push(record)).map_err(store)?;
                rows
            }
        };
        all.retain(|record| wanted(record.get(Field::PresUri)));
        all.sort_by_key(|record| record.numbers.serial);
        Ok(all.into_iter().skip(offset).take(limit).collect())
    }

    /// Fills the memory from the table; returns how many rows were read.
    pub fn restore(&self) -> Result<usize, Refusal> {
        let Some(records) = self.in_memory() else { return Ok(0) };
        let (mut failed, mut watching) = (0, false);
        let keep = |mut record: Record| {
            if record.is_subscription() {
                // After a crash the row does not say which numbers were used since it was written.
                record.numbers.cseq = record.numbers.cseq.saturating_add(CSEQ_RESERVE);
                record.numbers.journal = Journal::Update;
                watching = true;
            }
            failed += usize::from(records.insert(&record).is_err());
        };
        let count = self.rows().each(keep).map_err(store)?;
        if failed > 0 {
            return Err(Refusal::Store(format!("{failed} records do not fit the shared memory: raise it (option -m)")));
        }
        if watching {
            // The numbers taken are in the rows before the first of them is used: another crash takes others.
            self.write_back(false);
        }
        Ok(count)
    }

    /// Writes what memory has changed to the table. `is_last`: the server ends, and what was refused is tried once more.
    pub fn write_back(&self, is_last: bool) {
        let Some(records) = self.in_memory() else { return };
        let (now, mut refusals, mut lost) = (clock::now(), RefusalLog::default(), None);
        let changes = records.take_changes(now, is_last);
        for group in changes.chunks(GROUP) {
            // What the database has no connection for is kept without a try.
            let outcome = match lost {
                None => self.rows().write_changes(group),
                Some(_) => Outcome { fates: vec![Fate::Kept; group.len()], error: lost },
            };
            for (change, fate) in group.iter().zip(&outcome.fates) {
                if records.note_fate(change, *fate, now) {
                    refusals.note(self.process.config.table, || named(change));
                }
            }
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
fn named(change: &RowChange) -> String {
    let (RowChange::Ended(record) | RowChange::Changed { record, .. }) = change;
    let uri = log::show(record.get(Field::PresUri));
    match record.is_subscription() {
        true => format!("the subscription of {} to {uri}", log::show(record.get(Field::WatcherUri))),
        false => format!("a publication of {uri}"),
    }
}

/// What a reply says; `None` for a reply that cannot be read.
pub fn read_answer(reply: Option<SipMsg<'_>>, code: i32) -> Option<Answer> {
    let code = u16::try_from(code).unwrap_or(500);
    let Some(reply) = reply else { return Some(Answer { code, silence: true, ..Answer::default() }) };
    if !reply.parse_headers() {
        return None;
    }
    let number = |name: &[u8]| crate::sip::text::leading_number(reply.find(name)?.trim_ascii());
    Some(Answer {
        code,
        silence: false,
        expires: match reply.parsed_expires() {
            Header::Value(seconds) => Some(i64::from(seconds)),
            _ => None,
        },
        min_expires: number(b"Min-Expires"),
        retry_after: number(b"Retry-After"),
        etag: reply.find(b"SIP-ETag").map(|tag| tag.trim_ascii().to_vec()).filter(|tag| !tag.is_empty()),
        to_tag: reply.to().map(|to| to.tag.to_vec()).unwrap_or_default(),
        contact: match reply.contact() {
            Header::Value(uri) => uri.to_vec(),
            _ => Vec::new(),
        },
        route_set: match reply.route_set_of_caller() {
            Header::Value(routes) => routes,
            _ => Vec::new(),
        },
    })
}

impl Ports for PuaWorld {
    fn config(&self) -> &Config {
        &self.process.config
    }
    fn now(&self) -> i64 {
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
    ) -> Result<Processed, Refusal> {
        let body = request.get(Part::Body);
        match event.processing {
            Processing::AsIs => Ok(Processed { body: body.to_vec(), tuple_id: tuple_id.to_vec() }),
            Processing::TupleId => bodies::with_tuple_id(body, tuple_id, || self.process.ids.borrow_mut().tuple_id()),
            Processing::Version(element) => bodies::with_version(body, element, version),
            Processing::Foreign(index) => self.process.registry.process_foreign(index, request, version, tuple_id),
        }
    }

    fn new_ids(&mut self, target: &[u8]) -> (Vec<u8>, Vec<u8>) {
        tm::new_ids(target)
    }

    fn find(&mut self, search: &Search<'_>) -> Result<Option<Record>, Refusal> {
        match self.in_memory() {
            Some(records) => Ok(records.find(search)),
            None => self.rows().find(search).map_err(store),
        }
    }
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, Refusal> {
        match self.in_memory() {
            Some(records) => Ok(records.find_dialog(dialog)),
            None => self.rows().find_dialog(dialog).map_err(store),
        }
    }
    fn insert(&mut self, record: &Record) -> Result<(), Refusal> {
        match self.in_memory() {
            Some(records) => records.insert(record).map_err(memory),
            None => self.rows().insert(record).map_err(store),
        }
    }
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, Refusal> {
        match self.in_memory() {
            Some(records) => records.replace(before, after).map_err(memory),
            None => self.rows().replace(before, after).map_err(store),
        }
    }
    fn remove(&mut self, record: &Record) -> Result<(), Refusal> {
        match self.in_memory() {
            Some(records) => {
                records.remove(record);
                Ok(())
            }
            None => self.rows().remove(record).map_err(store),
        }
    }

    fn ending(&mut self, before: i64) -> Result<Vec<Record>, Refusal> {
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

    fn depart(&mut self, request: &Request, checked: bool) -> Result<Departure, Refusal> {
        let key = self.key_of(request);
        let beside = match request.get(Part::Etag) {
            b"" => self.process.ids.borrow_mut().number(),
            tag => records::hash(key, &[tag]),
        };
        let departure = self.flights().depart(key, beside, request, checked, clock::ticks())?;
        if departure == Departure::Queued {
            counters::count(Counter::PuaQueued);
        }
        Ok(departure)
    }
    fn board(&mut self, flight: FlightId, request: &Request, record: &Record) -> Result<(), Refusal> {
        self.flights().board(flight, request, record, clock::ticks()).map_err(memory)
    }
    fn landed(&mut self, flight: FlightId) -> Option<Flight> {
        self.flights().landed(flight)
    }
    fn retag(&mut self, flight: FlightId, tag: &[u8]) {
        self.flights().retag(flight, tag);
    }
    fn end(&mut self, flight: FlightId) -> Option<Request> {
        self.flights().end(flight, clock::ticks())
    }
    fn wait(&mut self, flight: FlightId, seconds: i64, request: &Request, stored: bool) -> bool {
        self.flights().wait(flight, seconds, request, stored, whole_seconds(seconds))
    }
    fn attempts(&mut self, flight: FlightId) -> u32 {
        self.flights().attempts(flight)
    }
    fn postpone(&mut self, flight: FlightId, seconds: i64, change: &Change) {
        self.flights().postpone(flight, seconds, change, clock::ticks());
    }
    fn later(&mut self, request: &Request, seconds: i64) -> Result<Option<FlightId>, Refusal> {
        self.flights().later(self.key_of(request), request, seconds, whole_seconds(seconds))
    }
    fn restarts(&mut self, request: &Request) -> u32 {
        self.flights().restarts(self.key_of(request), clock::ticks())
    }
    fn overdue(&mut self) -> Vec<Due> {
        let due = self.flights().overdue(clock::ticks());
        due.iter().filter(|due| matches!(due, Due::Send(..))).for_each(|_| counters::count(Counter::PuaRetried));
        due
    }
    fn claims(&mut self, flight: FlightId) -> Vec<Claim> {
        self.flights().claims(flight)
    }
    fn withdraw(&mut self, flight: FlightId) {
        self.flights().withdraw(flight);
    }

    fn send(&mut self, flight: FlightId, outgoing: &Outgoing<'_>) -> Result<Sent, Refusal> {
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
        let sent = tm::send_in_dialog(&request, Some(callback), Ticket(flight as usize));
        counters::count(match sent {
            Ok(tm::Sent::UnderWay) if outgoing.method == "PUBLISH" => Counter::PuaPublish,
            Ok(tm::Sent::UnderWay) => Counter::PuaSubscribe,
            _ => Counter::PuaUnsent,
        });
        match sent {
            Ok(tm::Sent::UnderWay) => Ok(Sent::UnderWay),
            Ok(tm::Sent::Dropped) => Ok(Sent::Dropped),
            Err(tm::NotSent) => Err(Refusal::NotSent),
        }
    }

    fn report(&mut self, claims: &[Claim], flight: &Flight, as_silence: bool) {
        let reply = if as_silence { tm::no_reply() } else { self.reply };
        // SAFETY: the reply of the tm callback in progress, or the host's mark.
        unsafe { self.process.registry.report(claims, flight, reply) }
    }

    fn complain(&self, what: &str) {
        log!(Warn, "{}", log::show(what.as_bytes()));
    }
}
