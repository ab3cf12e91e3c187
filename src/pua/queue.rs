//! One request at a time for each publication or subscription: what goes next, what waits, and who is answered when nothing goes.
use super::answer::{Answer, backoff};
use super::ports::{Claim, Departure, Flight, FlightId, Ports, Refusal};
use super::record::Change;
use super::request::{Part, Request, Wish};
use super::{publish, subscribe};

/// `RPC_PUBLISH` and `RPC_ASYN_PUBLISH`: the caller waits for the answer and acts on it.
const CALLER_WAITS: i32 = (1 << 6) | (1 << 7);

/// What a request came to when it was prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launched {
    /// An answer will come.
    UnderWay,
    /// There is nothing to send, or the script dropped it.
    Nothing,
}

/// What follows from an answer.
#[derive(Debug)]
pub enum Next {
    /// Nothing more is sent for this request.
    Nothing,
    /// This is sent, and the caller has been answered.
    Now(Request),
    /// This is sent, and its answer is the one the caller gets.
    Quietly(Request),
    /// This is sent later.
    After {
        /// After so many seconds.
        seconds: i64,
        /// What is sent.
        request: Request,
        /// The server may have something of it.
        stored: bool,
    },
}

/// The presentity a request is about, for a log line.
pub fn show(request: &Request) -> String {
    String::from_utf8_lossy(request.get(Part::PresUri)).into_owned()
}

fn method(request: &Request) -> &'static str {
    if request.is_subscription() { "SUBSCRIBE" } else { "PUBLISH" }
}

/// Whether the caller of a request decides about another try itself.
pub fn caller_decides(request: &Request) -> bool {
    request.wish.flag & CALLER_WAITS != 0 && !request.wish.own
}

/// Takes a request from a caller.
pub fn submit<P: Ports>(ports: &mut P, request: &Request) -> Result<(), Refusal> {
    let event = ports.event(request.wish.event).ok_or(Refusal::UnknownEvent(request.wish.event))?;
    request.check()?;
    let departure = match ports.depart(request, false)? {
        Departure::Busy => {
            // What can never go is refused before it takes the place of what waits.
            if request.wish.expires != 0 && request.body().is_some() {
                ports.process(&event, request, request.wish.version_floor, b"")?;
            }
            let names_one = !request.get(Part::Etag).is_empty();
            if names_one && ports.find(&request.search(false))?.is_none() {
                return Err(Refusal::UnknownEtag);
            }
            ports.depart(request, true)?
        }
        other => other,
    };
    match departure {
        Departure::Go(flight) => launch_for_caller(ports, flight, request),
        Departure::Busy | Departure::Queued | Departure::Covered => Ok(()),
    }
}

fn prepare_and_send<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<Launched, Refusal> {
    match request.is_subscription() {
        true => subscribe::prepare_and_send(ports, flight, request),
        false => publish::prepare_and_send(ports, flight, request),
    }
}

/// Sends a request whose caller is still there: what goes wrong is returned, and is not reported besides.
fn launch_for_caller<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<(), Refusal> {
    let why = match prepare_and_send(ports, flight, request) {
        Ok(Launched::UnderWay) => return Ok(()),
        Ok(Launched::Nothing) => None,
        Err(why) => Some(why),
    };
    if let Some(why) = &why {
        if may_work_later(why, request) {
            ports.complain(&format!("{} for {} waits: {why}", method(request), show(request)));
            hold(ports, flight, backoff(0), request, true);
            return Ok(());
        }
        // Callers of SUBSCRIBE go on with their work when a target cannot be reached.
        if *why == Refusal::NotSent && request.is_subscription() {
            ports.complain(&format!("SUBSCRIBE to {} could not be sent", show(request)));
            fail(ports, flight, request);
            go_on(ports, flight, None);
            return Ok(());
        }
        if Claim::of(request).is_some() {
            ports.withdraw(flight);
        }
    }
    fail(ports, flight, request);
    go_on(ports, flight, None);
    why.map_or(Ok(()), Err)
}

/// A store that is away comes back, and a target of our own refreshes may; nobody else is kept waiting.
fn may_work_later(why: &Refusal, request: &Request) -> bool {
    match why {
        Refusal::Store(_) => !caller_decides(request),
        Refusal::NotSent => request.wish.own,
        _ => false,
    }
}

/// Sends a request whose caller has gone on; `false` when nothing is under way now and the flight is free.
pub fn launch<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> bool {
    match prepare_and_send(ports, flight, request) {
        Ok(Launched::UnderWay) => return true,
        Ok(Launched::Nothing) => {}
        Err(why) => {
            ports.complain(&format!("{} for {}: {why}", method(request), show(request)));
            if may_work_later(&why, request) {
                let seconds = backoff(ports.attempts(flight));
                return ports.wait(flight, seconds, request, true) || {
                    fail(ports, flight, request);
                    false
                };
            }
        }
    }
    fail(ports, flight, request);
    false
}

/// Sends what was kept while a flight was busy, or ends the flight. `tag` is the entity tag the publication has now, when
/// that is known: empty when it is gone.
pub fn go_on<P: Ports>(ports: &mut P, flight: FlightId, tag: Option<&[u8]>) {
    while let Some(mut next) = ports.end(flight) {
        if let (true, Some(tag)) = (next.wish.follows, tag) {
            next = following(&next, tag);
        }
        if launch(ports, flight, &next) {
            return;
        }
    }
}

/// Sends `request` on a flight, then whatever waits behind it.
pub fn launch_then_go_on<P: Ports>(ports: &mut P, flight: FlightId, request: &Request, tag: Option<&[u8]>) {
    if !launch(ports, flight, request) {
        go_on(ports, flight, tag);
    }
}

/// A request that named the entity tag of the one before it, now that this has another tag, or is gone.
fn following(request: &Request, tag: &[u8]) -> Request {
    let wish = Wish { follows: false, insert: request.wish.insert || tag.is_empty(), ..request.wish };
    request.with(&[(Part::Etag, tag)]).wishing(wish)
}

/// Nothing will come of a request: those who wait for it are answered as if by silence.
fn fail<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) {
    let claims = ports.claims(flight);
    if !claims.is_empty() {
        ports.report(&claims, &Flight::unsent(request), true);
    }
}

/// No answer will come to what was sent: that is taken for silence.
pub fn lost<P: Ports>(ports: &mut P, flight: FlightId) {
    let silence = Answer { code: 408, silence: true, ..Answer::default() };
    match ports.landed(flight) {
        Some(landed) => match landed.request.is_subscription() {
            true => subscribe::settled_by(ports, flight, &landed, &silence),
            false => publish::settled_by(ports, flight, &landed, &silence),
        },
        None => go_on(ports, flight, None),
    }
}

/// Answers those who wait for what was sent.
pub fn report<P: Ports>(ports: &mut P, flight: FlightId, landed: &Flight, as_silence: bool) {
    let claims = ports.claims(flight);
    if !claims.is_empty() {
        ports.report(&claims, landed, as_silence);
    }
}

/// Lets a request wait for another try; without memory nothing will come of it.
fn hold<P: Ports>(ports: &mut P, flight: FlightId, seconds: i64, request: &Request, stored: bool) {
    if !ports.wait(flight, seconds, request, stored) {
        fail(ports, flight, request);
        go_on(ports, flight, None);
    }
}

/// Does what follows from an answer, then what waits.
pub fn follow<P: Ports>(ports: &mut P, flight: FlightId, next: Next, tag: Option<&[u8]>) {
    match next {
        Next::Nothing => go_on(ports, flight, tag),
        Next::Now(request) | Next::Quietly(request) => launch_then_go_on(ports, flight, &request, tag),
        Next::After { seconds, request, stored } => hold(ports, flight, seconds, &request, stored),
    }
}

/// What an answer says could not be stored: that is tried first, then what follows from the answer.
pub fn store_then_follow<P: Ports>(ports: &mut P, flight: FlightId, change: &Change, next: Next) {
    let (seconds, request) = match next {
        Next::Nothing => (0, None),
        Next::Now(request) | Next::Quietly(request) => (0, Some(request)),
        Next::After { seconds, request, .. } => (seconds, Some(request)),
    };
    if let Some(request) = request {
        if !ports.wait(flight, seconds, &request, true) {
            fail(ports, flight, &request);
        }
    }
    ports.postpone(flight, seconds.max(backoff(0)), change);
}

/// Carries out a change; what was to be replaced and is gone is stored anew.
pub fn apply<P: Ports>(ports: &mut P, change: &Change) -> Result<(), Refusal> {
    let before = match &change.before {
        // A NOTIFY may have changed the dialog since.
        Some(dialog) if dialog.is_subscription() => ports.find_dialog(&dialog.dialog())?,
        other => other.clone(),
    };
    match (before, &change.after) {
        (Some(before), Some(after)) => {
            if !ports.replace(&before, after)? {
                ports.insert(&as_new(after))?;
            }
            Ok(())
        }
        (None, Some(after)) => ports.insert(&as_new(after)),
        (Some(before), None) => ports.remove(&before),
        (None, None) => Ok(()),
    }
}

fn as_new(record: &super::record::Record) -> super::record::Record {
    let mut fresh = record.clone();
    fresh.numbers.serial = 0;
    fresh.numbers.journal = super::record::Journal::Insert;
    fresh
}
