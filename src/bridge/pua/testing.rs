//! The user agent without a server around it: the shared tables on plain memory, a clock that is set, a wire that is looked at.
use super::flights::Flights;
use super::records::{Records, RowChange};
use crate::pua::answer::Answer;
use crate::pua::config::{Config, Mode};
use crate::pua::event::{self, Event};
use crate::pua::ports::{Claim, Departure, Due, Flight, FlightId, Outgoing, Ports, Processed, Refusal, Sent};
use crate::pua::record::{Change, Dialog, Field, Journal, Record, Search};
use crate::pua::request::{Part, Request, Wish};
use crate::pua::subscribe::{Notified, State};
use crate::pua::{publish, queue, refresh, subscribe};

/// A request on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) flight: FlightId,
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) to: String,
    pub(super) call_id: Vec<u8>,
    pub(super) from_tag: Vec<u8>,
    pub(super) cseq: u32,
    pub(super) headers: String,
    pub(super) body: Option<String>,
    pub(super) at: i64,
    pub(super) answered: bool,
}

impl Wire {
    /// The value of a header; empty when there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let line = self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default()
    }
}

/// The ports on plain memory.
pub(super) struct Bench {
    config: Config,
    pub(super) flights: Flights,
    pub(super) records: Records,
    /// Rows as the last write left them.
    rows: Vec<Record>,
    /// The wall clock, and the one that nobody sets; both in seconds.
    pub(super) wall: i64,
    pub(super) ticks: i64,
    numbers: u64,
    pub(super) wire: Vec<Wire>,
    /// Words of callers whose callbacks were called, and whether with silence.
    pub(super) told: Vec<(usize, bool)>,
    pub(super) store_away: bool,
    pub(super) unsendable: bool,
    pub(super) dropped: bool,
}

const AWAY: &str = "the database is away";

impl Bench {
    pub(super) fn new() -> Bench {
        let config = Config {
            mode: Mode::Memory,
            table: b"pua",
            min_expires: 0,
            default_expires: 3600,
            update_period: 10,
            outbound_proxy: b"",
            count_dialog_versions: false,
            count_reg_versions: false,
            check_remote_contact: true,
            fetch_rows: 500,
        };
        Bench {
            config,
            flights: Flights::new().unwrap(),
            records: Records::new(1).unwrap(),
            rows: Vec::new(),
            wall: 1_000_000,
            ticks: 5_000,
            numbers: 0,
            wire: Vec::new(),
            told: Vec::new(),
            store_away: false,
            unsendable: false,
            dropped: false,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn key_of(request: &Request) -> u64 {
        super::records::hash(
            7,
            &[
                request.get(Part::PresUri),
                request.get(Part::WatcherUri),
                request.get(Part::Id),
                &[request.wish.flag as u8],
            ],
        )
    }

    fn reachable(&self) -> Result<(), Refusal> {
        if self.store_away { Err(Refusal::Store(AWAY.into())) } else { Ok(()) }
    }

    /// A caller publishes.
    pub(super) fn publish(&mut self, id: &str, body: Option<&str>, expires: i64, word: usize) -> Result<(), Refusal> {
        self.submit(&publication(id, body, expires, word))
    }

    pub(super) fn submit(&mut self, request: &Request) -> Result<(), Refusal> {
        match request.is_subscription() {
            true => subscribe::submit(self, request),
            false => queue::submit(self, request),
        }
    }

    /// A caller subscribes to bob.
    pub(super) fn subscribe(&mut self, expires: i64, word: usize) -> Result<(), Refusal> {
        self.submit(&subscription(expires, word))
    }

    /// The newest request that has no answer yet.
    pub(super) fn open(&self) -> Option<usize> {
        self.wire.iter().rposition(|wire| !wire.answered)
    }

    /// Answers the newest open request.
    pub(super) fn answer(&mut self, answer: &Answer) {
        let index = self.open().expect("a request under way");
        self.answer_to(index, answer);
    }

    pub(super) fn answer_to(&mut self, index: usize, answer: &Answer) {
        self.wire[index].answered = true;
        let (flight, method) = (self.wire[index].flight, self.wire[index].method);
        match method {
            "PUBLISH" => publish::answered(self, flight, answer),
            _ => subscribe::answered(self, flight, answer),
        }
    }

    /// A NOTIFY in the dialog of a SUBSCRIBE.
    pub(super) fn notify(&mut self, index: usize, tag: &str, contact: &str, state: &str) -> bool {
        let wire = self.wire[index].clone();
        let dialog = Dialog {
            pres_uri: wire.to.as_bytes(),
            watcher_uri: b"sip:alice@a",
            call_id: &wire.call_id,
            from_tag: &wire.from_tag,
            to_tag: tag.as_bytes(),
        };
        let said = Notified { contact: contact.as_bytes(), route_set: b"", state: State::read(state.as_bytes()) };
        subscribe::notified(self, &dialog, &said).unwrap()
    }

    /// Time goes by, with the timer of each second.
    pub(super) fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.wall += 1;
            self.ticks += 1;
            refresh::retry(self);
            let _ = refresh::sweep(self);
        }
    }

    /// The write timer.
    pub(super) fn write(&mut self) {
        let now = self.wall;
        let (mut changed, mut ended) = (Vec::new(), Vec::new());
        for change in self.records.take_changes(now, false) {
            match change {
                RowChange::Changed { record, row_etag } => changed.push((record, row_etag)),
                RowChange::Ended(record) => ended.push(record),
            }
        }
        let same = |a: &Record, b: &Record| {
            [Field::PresUri, Field::WatcherUri, Field::Id, Field::CallId].iter().all(|f| a.get(*f) == b.get(*f))
        };
        for row in &ended {
            self.rows.retain(|known| !same(known, row));
        }
        for (record, _) in changed {
            self.rows.retain(|known| !same(known, &record));
            self.rows.push(record);
        }
    }

    /// The server is killed and starts again: callers, flights and what was not written are gone.
    pub(super) fn crash(&mut self, reserve: u32) {
        self.flights = Flights::new().unwrap();
        self.records = Records::new(1).unwrap();
        self.wire.iter_mut().for_each(|wire| wire.answered = true);
        for row in std::mem::take(&mut self.rows) {
            let mut row = row.with(&[(Field::Body, b""), (Field::OutboundProxy, b""), (Field::ContentType, b"")]);
            row.numbers.journal = Journal::Clean;
            if row.is_subscription() {
                row.numbers.cseq += reserve;
            }
            self.rows.push(row.clone());
            self.records.insert(&row).unwrap();
        }
    }
}

pub(super) fn publication(id: &str, body: Option<&str>, expires: i64, word: usize) -> Request {
    let wish = Wish {
        event: event::XCAP_DIFF,
        flag: 1,
        told_flag: 1,
        expires,
        has_body: body.is_some(),
        cb_param: word,
        ..Wish::default()
    };
    let body = body.unwrap_or_default().as_bytes();
    Request::new(wish, &[(Part::PresUri, b"sip:alice@a"), (Part::Id, id.as_bytes()), (Part::Body, body)])
}

pub(super) fn subscription(expires: i64, word: usize) -> Request {
    let wish = Wish { event: event::PRESENCE, flag: 1, told_flag: 1, expires, cb_param: word, ..Wish::default() };
    Request::new(
        wish,
        &[(Part::PresUri, b"sip:bob@b"), (Part::WatcherUri, b"sip:alice@a"), (Part::Contact, b"sip:alice@host")],
    )
}

pub(super) fn code(code: u16) -> Answer {
    Answer { code, silence: code == 0, ..Answer::default() }.with_code()
}

impl Answer {
    fn with_code(mut self) -> Answer {
        if self.silence {
            self.code = 408;
        }
        self
    }
}

pub(super) fn granted(tag: &str, expires: i64) -> Answer {
    let tag = tag.as_bytes().to_vec();
    let contact = [b"sip:", tag.as_slice(), b"@server"].concat();
    Answer { code: 200, expires: Some(expires), etag: Some(tag.clone()), to_tag: tag, contact, ..Answer::default() }
}

impl Ports for Bench {
    fn config(&self) -> &Config {
        &self.config
    }
    fn now(&self) -> i64 {
        self.wall
    }
    fn event(&self, flag: i32) -> Option<Event> {
        event::built_in(false, false).into_iter().find(|event| event.flag == flag)
    }
    fn process(&mut self, _: &Event, request: &Request, _: u32, tuple_id: &[u8]) -> Result<Processed, Refusal> {
        let body = request.get(Part::Body).to_vec();
        match &*body {
            b"broken" => Err(Refusal::BadBody("broken".into())),
            _ => Ok(Processed { body, tuple_id: tuple_id.to_vec() }),
        }
    }
    fn new_ids(&mut self, _: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let number = self.number();
        (format!("call-{number}").into_bytes(), format!("tag-{number}").into_bytes())
    }
    fn find(&mut self, search: &Search<'_>) -> Result<Option<Record>, Refusal> {
        self.reachable().map(|()| self.records.find(search))
    }
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, Refusal> {
        self.reachable().map(|()| self.records.find_dialog(dialog))
    }
    fn insert(&mut self, record: &Record) -> Result<(), Refusal> {
        self.reachable()?;
        self.records.insert(record).map_err(Refusal::from)
    }
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, Refusal> {
        self.reachable()?;
        self.records.replace(before, after).map_err(Refusal::from)
    }
    fn remove(&mut self, record: &Record) -> Result<(), Refusal> {
        self.reachable().map(|()| self.records.remove(record))
    }
    fn ending(&mut self, before: i64) -> Result<Vec<Record>, Refusal> {
        self.reachable().map(|()| self.records.ending(before, 0, 1))
    }
    fn depart(&mut self, request: &Request, checked: bool) -> Result<Departure, Refusal> {
        let key = Bench::key_of(request);
        let beside = self.number();
        self.flights.depart(key, beside, request, checked, self.ticks)
    }
    fn board(&mut self, flight: FlightId, request: &Request, record: &Record) -> Result<(), Refusal> {
        self.flights.board(flight, request, record, self.ticks).map_err(Refusal::from)
    }
    fn landed(&mut self, flight: FlightId) -> Option<Flight> {
        self.flights.landed(flight)
    }
    fn retag(&mut self, flight: FlightId, tag: &[u8]) {
        self.flights.retag(flight, tag);
    }
    fn end(&mut self, flight: FlightId) -> Option<Request> {
        self.flights.end(flight, self.ticks)
    }
    fn wait(&mut self, flight: FlightId, seconds: i64, request: &Request, stored: bool) -> bool {
        self.flights.wait(flight, seconds, request, stored, self.ticks)
    }
    fn attempts(&mut self, flight: FlightId) -> u32 {
        self.flights.attempts(flight)
    }
    fn postpone(&mut self, flight: FlightId, seconds: i64, change: &Change) {
        self.flights.postpone(flight, seconds, change, self.ticks);
    }
    fn later(&mut self, request: &Request, seconds: i64) -> Result<Option<FlightId>, Refusal> {
        self.flights.later(Bench::key_of(request), request, seconds, self.ticks)
    }
    fn restarts(&mut self, request: &Request) -> u32 {
        self.flights.restarts(Bench::key_of(request), self.ticks)
    }
    fn overdue(&mut self) -> Vec<Due> {
        self.flights.overdue(self.ticks)
    }
    fn claims(&mut self, flight: FlightId) -> Vec<Claim> {
        self.flights.claims(flight)
    }
    fn withdraw(&mut self, flight: FlightId) {
        self.flights.withdraw(flight);
    }
    fn send(&mut self, flight: FlightId, outgoing: &Outgoing<'_>) -> Result<Sent, Refusal> {
        if self.unsendable {
            return Err(Refusal::NotSent);
        }
        if self.dropped {
            return Ok(Sent::Dropped);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.wire.push(Wire {
            flight,
            method: outgoing.method,
            target: text(outgoing.target),
            to: text(outgoing.to),
            call_id: outgoing.call_id.to_vec(),
            from_tag: outgoing.from_tag.to_vec(),
            cseq: outgoing.cseq,
            headers: text(&outgoing.headers),
            body: outgoing.body.map(text),
            at: self.ticks,
            answered: false,
        });
        Ok(Sent::UnderWay)
    }
    fn report(&mut self, claims: &[Claim], _: &Flight, as_silence: bool) {
        self.told.extend(claims.iter().map(|claim| (claim.cb_param, as_silence)));
    }
    fn complain(&self, _: &str) {}
}
