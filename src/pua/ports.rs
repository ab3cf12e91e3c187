//! What the user agent asks of the world around it. `bridge` carries it out on Kamailio; tests use plain collections.
use super::config::Config;
use super::event::Event;
use super::record::{Dialog, Record, Search};
use super::request::Request;

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
    /// tm could not send it.
    #[error("the request could not be sent")]
    NotSent,
    /// A store failed, or there is no memory.
    #[error("{0}")]
    Store(String),
}

/// The number of a flight: one request on its way (or waiting for another try) for one publication or subscription.
pub type FlightId = u64;

/// What came of asking for a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Nobody else is under way: go.
    Go(FlightId),
    /// A request is under way: this one is kept and goes next, in place of any that was kept before.
    Queued,
    /// A first SUBSCRIBE is under way already: nothing is to be done.
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
    /// Callback words of requests that this one superseded.
    pub superseded: Vec<usize>,
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

/// The world.
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

    /// Asks for the flight of this request's publication or subscription.
    fn depart(&mut self, request: &Request) -> Result<Departure, Refusal>;
    /// Notes what is about to be sent on a flight.
    fn board(&mut self, flight: FlightId, request: &Request, record: &Record) -> Result<(), Refusal>;
    /// What was sent on a flight; nothing when it is over.
    fn landed(&mut self, flight: FlightId) -> Option<Flight>;
    /// Ends a flight, or gives the request that was kept meanwhile: the flight goes on with that.
    fn end(&mut self, flight: FlightId) -> Option<Request>;
    /// Lets a flight wait until `at`; then [`Ports::overdue`] names it. `request` is tried again if nothing newer was kept.
    fn wait(&mut self, flight: FlightId, at: i64, request: &Request);
    /// Flights whose wait is over, with what is to be sent; and silently forgets those that nobody will ever answer.
    fn overdue(&mut self) -> Vec<(FlightId, Request)>;

    /// Sends.
    fn send(&mut self, flight: FlightId, outgoing: &Outgoing<'_>) -> Result<Sent, Refusal>;
    /// Tells the callers' callbacks the answer in hand; `as_silence`: as if none had come.
    fn report(&mut self, flight: &Flight, as_silence: bool);
    /// One line for the log.
    fn complain(&self, what: &str);
}
