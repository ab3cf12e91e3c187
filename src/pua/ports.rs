//! What the user agent asks of the world around it. `bridge` carries it out on Kamailio; tests use plain collections.
use super::config::Config;
use super::event::Event;
use super::record::{Change, Dialog, Field, Journal, Numbers, Record, Search};
use super::request::{Part, Request};

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No event has this flag.
    #[error("no event with flag {0}")]
    UnknownEvent(i32),
    /// There is no publication with the entity tag the caller named.
    #[error("no publication with this entity tag")]
    UnknownEtag,
    /// The first PUBLISH of a publication needs a body.
    #[error("a new publication needs a body")]
    NoBody,
    /// The body cannot be published.
    #[error("the body cannot be published: {0}")]
    BadBody(String),
    /// A string has a byte that would end its header line, or a header line is none.
    #[error("{0} has bytes that do not belong there")]
    BadText(&'static str),
    /// Too many requests wait for one publication or subscription.
    #[error("{0} requests wait for this already")]
    Crowded(usize),
    /// tm could not send it.
    #[error("the request could not be sent")]
    NotSent,
    /// A store failed, or there is no memory.
    #[error("{0}")]
    Store(String),
}

/// The number of a flight: one request on its way (or waiting for another try) for one publication or subscription.
pub type FlightId = u64;

/// A caller that waits for the outcome of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The word its callback gets back.
    pub cb_param: usize,
    /// The source flag its callback is found by and sees.
    pub told_flag: i32,
}

impl Claim {
    /// The claim of a request's caller; a request of our own has none.
    pub fn of<B: AsRef<[u8]>>(request: &Request<B>) -> Option<Claim> {
        let wish = &request.wish;
        (!wish.own).then_some(Claim { cb_param: wish.cb_param, told_flag: wish.told_flag })
    }
}

/// What came of asking for a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Nobody else is under way: go.
    Go(FlightId),
    /// A request is under way, and this one was not looked at yet: it is to be checked before it waits.
    Busy,
    /// A request is under way: this one waits and goes next, with what the one that waited before it wanted besides.
    Queued,
    /// What is under way asks for the same: its answer is this one's, too.
    Covered,
}

/// What was sent, and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    /// The request as its caller made it.
    pub request: Request,
    /// The record as it will be once the request is granted; its entity tag or dialog is still the old one.
    pub record: Record,
    /// How many tries there were before.
    pub attempts: u32,
}

impl Flight {
    /// A request that was never sent, as its callback sees it.
    pub fn unsent(request: &Request) -> Flight {
        let numbers = Numbers {
            serial: 0,
            event: request.wish.event,
            flag: request.wish.flag,
            expires_at: 0,
            desired_until: 0,
            cseq: 0,
            version: 0,
            journal: Journal::Insert,
        };
        let strings = [
            (Field::PresUri, request.get(Part::PresUri)),
            (Field::WatcherUri, request.get(Part::WatcherUri)),
            (Field::Id, request.get(Part::Id)),
            (Field::Etag, request.get(Part::Etag)),
            (Field::Body, request.get(Part::Body)),
        ];
        Flight { request: request.clone(), record: Record::new(numbers, &strings), attempts: 0 }
    }
}

/// A flight whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Its wait is over: this is sent.
    Send(FlightId, Request),
    /// What its answer says could not be stored: it is tried again.
    Store(FlightId, Change),
    /// No answer came, and none will.
    Lost(FlightId),
}

/// A message to send.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// PUBLISH or SUBSCRIBE.
    pub method: &'static str,
    /// The request URI.
    pub target: &'a [u8],
    /// To.
    pub to: &'a [u8],
    /// From.
    pub from: &'a [u8],
    /// Where it is sent; empty: to the target.
    pub proxy: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// From tag.
    pub from_tag: &'a [u8],
    /// To tag; empty outside of a dialog.
    pub to_tag: &'a [u8],
    /// Route set, comma separated.
    pub routes: &'a [u8],
    /// CSeq.
    pub cseq: u32,
    /// Header lines.
    pub headers: Vec<u8>,
    /// The body.
    pub body: Option<&'a [u8]>,
}

/// What came of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// An answer will come.
    UnderWay,
    /// The script dropped it (`drop` in `event_route[tm:local-request]`): no answer will come.
    Dropped,
}

/// A body that is ready, and the tuple id it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processed {
    /// The body.
    pub body: Vec<u8>,
    /// The id of its tuple; empty for none.
    pub tuple_id: Vec<u8>,
}

/// What the user agent needs done.
pub trait Ports {
    /// The settings.
    fn config(&self) -> &Config;
    /// Seconds since 1970.
    fn now(&self) -> i64;
    /// The event with this flag.
    fn event(&self, flag: i32) -> Option<Event>;
    /// Makes a body ready; `tuple_id` is the one the publication has, or empty.
    fn process(
        &mut self,
        event: &Event,
        request: &Request,
        version: u32,
        tuple_id: &[u8],
    ) -> Result<Processed, Refusal>;
    /// A Call-ID and a tag for a request to `target`.
    fn new_ids(&mut self, target: &[u8]) -> (Vec<u8>, Vec<u8>);

    /// The newest record that matches.
    fn find(&mut self, search: &Search<'_>) -> Result<Option<Record>, Refusal>;
    /// The record of a dialog, its established one first.
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, Refusal>;
    /// Stores a new record.
    fn insert(&mut self, record: &Record) -> Result<(), Refusal>;
    /// Puts `after` in place of `before`; `false` when `before` is gone.
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, Refusal>;
    /// Removes a record, if it is still there.
    fn remove(&mut self, record: &Record) -> Result<(), Refusal>;
    /// Records that are to be refreshed or removed in this turn.
    fn ending(&mut self, before: i64) -> Result<Vec<Record>, Refusal>;

    /// Asks for the flight of this request's publication or subscription. `checked`: it can be sent as far as is known
    /// now; a request that was not checked never takes the place of one that waits.
    fn depart(&mut self, request: &Request, checked: bool) -> Result<Departure, Refusal>;
    /// Notes what is about to be sent on a flight.
    fn board(&mut self, flight: FlightId, request: &Request, record: &Record) -> Result<(), Refusal>;
    /// What was sent on a flight; nothing when it is over.
    fn landed(&mut self, flight: FlightId) -> Option<Flight>;
    /// Notes the entity tag that what was sent on a flight has now.
    fn retag(&mut self, flight: FlightId, tag: &[u8]);
    /// Ends a flight, or gives the request that was kept meanwhile: the flight goes on with that.
    fn end(&mut self, flight: FlightId) -> Option<Request>;
    /// Lets a flight wait for this many seconds; then [`Ports::overdue`] names it. `request` is tried again, or what was
    /// kept meanwhile together with what `request` wanted besides. `stored`: the server may have something of it.
    /// `false`: there is no memory for it.
    fn wait(&mut self, flight: FlightId, seconds: i64, request: &Request, stored: bool) -> bool;
    /// How many tries of a flight have failed.
    fn attempts(&mut self, flight: FlightId) -> u32;
    /// Lets a flight wait for this many seconds until `change` is tried again.
    fn postpone(&mut self, flight: FlightId, seconds: i64, change: &Change);
    /// Has a request of our own sent in this many seconds, unless its subscription is being ended or something newer waits.
    /// Gives the flight when it can go now.
    fn later(&mut self, request: &Request, seconds: i64) -> Result<Option<FlightId>, Refusal>;
    /// How often this request's subscription was begun anew lately; counts one more.
    fn restarts(&mut self, request: &Request) -> u32;
    /// Flights whose time has come.
    fn overdue(&mut self) -> Vec<Due>;
    /// Takes the callers that wait for a flight: each is handed out once.
    fn claims(&mut self, flight: FlightId) -> Vec<Claim>;
    /// Forgets the first caller of a flight: it learns the outcome from its call.
    fn withdraw(&mut self, flight: FlightId);

    /// Sends.
    fn send(&mut self, flight: FlightId, outgoing: &Outgoing<'_>) -> Result<Sent, Refusal>;
    /// Calls the callbacks of these callers with the answer in hand; `as_silence`: as if none had come.
    fn report(&mut self, claims: &[Claim], flight: &Flight, as_silence: bool);
    /// One line for the log.
    fn complain(&self, what: &str);
}
