//! PUBLISH (RFC 3903): one request at a time for each publication, the newest wish goes next, and what fails is mended.
use super::answer::{Answer, Verdict};
use super::headers;
use super::ports::{Departure, Flight, FlightId, Outgoing, Ports, Processed, Refusal, Sent};
use super::record::{Field, Journal, Numbers, Record};
use super::request::{Part, Request, Wish};

/// `RPC_PUBLISH` and `RPC_ASYN_PUBLISH`: the caller waits for the answer and acts on it.
const CALLER_WAITS: i32 = (1 << 6) | (1 << 7);

/// The CSeq of requests outside of a dialog, as tm counts them.
const FIRST_CSEQ: u32 = 10;

/// Publishes, changes, refreshes or removes.
pub fn submit<P: Ports>(ports: &mut P, request: &Request) -> Result<(), Refusal> {
    if ports.event(request.wish.event).is_none() {
        return Err(Refusal::UnknownEvent(request.wish.event));
    }
    match ports.depart(request)? {
        Departure::Go(flight) => launch(ports, flight, request),
        Departure::Queued | Departure::Covered => Ok(()),
    }
}

/// What a request came to when it was prepared.
enum Launched {
    UnderWay,
    /// There is nothing to send.
    Nothing,
}

/// Sends `request` on a flight; when there is nothing to send, what was kept meanwhile goes next.
pub fn launch<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<(), Refusal> {
    let first = prepare_and_send(ports, flight, request);
    if !matches!(first, Ok(Launched::UnderWay)) {
        go_on(ports, flight);
    }
    first.map(|_| ())
}

/// Sends what was kept while a flight was busy, or ends it.
pub fn go_on<P: Ports>(ports: &mut P, flight: FlightId) {
    while let Some(next) = ports.end(flight) {
        match prepare_and_send(ports, flight, &next) {
            Ok(Launched::UnderWay) => return,
            Ok(Launched::Nothing) => {}
            Err(why) => ports.complain(&format!("PUBLISH for {}: {why}", show(&next))),
        }
    }
}

fn show(request: &Request) -> String {
    String::from_utf8_lossy(request.get(Part::PresUri)).into_owned()
}

fn prepare_and_send<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<Launched, Refusal> {
    let event = ports.event(request.wish.event).ok_or(Refusal::UnknownEvent(request.wish.event))?;
    let found = match request.wish.insert {
        true => None,
        false => ports.find(&request.search(false))?,
    };
    if found.is_none() {
        if !request.get(Part::Etag).is_empty() {
            return Err(Refusal::UnknownEtag);
        }
        if request.wish.expires == 0 {
            return Ok(Launched::Nothing);
        }
        if request.body().is_none() {
            return Err(Refusal::NoBody);
        }
    }
    let version = match &found {
        Some(record) if request.wish.expires == 0 || request.body().is_none() && request.wish.own => {
            record.numbers.version
        }
        Some(record) => record.numbers.version + 1,
        None => request.wish.version_floor,
    };
    let tuple_id = found.as_ref().map(|record| record.get(Field::TupleId).to_vec()).unwrap_or_default();
    let processed = match request.body() {
        Some(_) if request.wish.expires != 0 => Some(ports.process(&event, request, version, &tuple_id)?),
        _ => None,
    };
    let record = next_record(ports, request, found.as_ref(), version, processed.as_ref());
    let body = processed.as_ref().map(|processed| processed.body.as_slice()).filter(|body| !body.is_empty());
    let headers = headers::publish(ports.config(), &event, request, record.get(Field::Etag), body.is_some());
    ports.board(flight, request, &record)?;
    let uri = request.get(Part::PresUri);
    let (call_id, from_tag) = ports.new_ids(uri);
    let proxy = match request.get(Part::OutboundProxy) {
        b"" => ports.config().outbound_proxy.to_vec(),
        given => given.to_vec(),
    };
    let outgoing = Outgoing {
        method: "PUBLISH",
        target: uri,
        to: uri,
        from: uri,
        proxy: &proxy,
        call_id: &call_id,
        from_tag: &from_tag,
        to_tag: b"",
        routes: b"",
        cseq: FIRST_CSEQ,
        headers,
        body,
    };
    match ports.send(flight, &outgoing)? {
        Sent::UnderWay => Ok(Launched::UnderWay),
        Sent::Dropped => {
            tell_silence(ports, flight);
            Ok(Launched::Nothing)
        }
    }
}

/// Nobody will answer: whoever waits is told so.
fn tell_silence<P: Ports>(ports: &mut P, flight: FlightId) {
    if let Some(landed) = ports.landed(flight) {
        if !landed.request.wish.own {
            ports.report(&landed, true);
        }
    }
}

/// The record as it will be once the request is granted; the entity tag is still the old one.
fn next_record<P: Ports>(
    ports: &P,
    request: &Request,
    found: Option<&Record>,
    version: u32,
    processed: Option<&Processed>,
) -> Record {
    let desired_until = request.desired_until(ports.now());
    match found {
        Some(record) => {
            let mut changes: Vec<(Field, &[u8])> = Vec::new();
            if let Some(processed) = processed {
                changes.push((Field::Body, &processed.body));
                changes.push((Field::ContentType, request.get(Part::ContentType)));
            }
            if !request.get(Part::OutboundProxy).is_empty() {
                changes.push((Field::OutboundProxy, request.get(Part::OutboundProxy)));
            }
            let mut next = record.with(&changes);
            next.numbers.desired_until = desired_until;
            next.numbers.version = version;
            next
        }
        None => Record::new(
            Numbers {
                serial: 0,
                event: request.wish.event,
                flag: request.wish.flag,
                expires_at: 0,
                desired_until,
                cseq: 0,
                version,
                journal: Journal::Insert,
            },
            &[
                (Field::PresUri, request.get(Part::PresUri)),
                (Field::Id, request.get(Part::Id)),
                (Field::TupleId, processed.map_or(b"", |processed| &processed.tuple_id)),
                (Field::ExtraHeaders, request.get(Part::ExtraHeaders)),
                (Field::OutboundProxy, request.get(Part::OutboundProxy)),
                (Field::ContentType, request.get(Part::ContentType)),
                (Field::Body, processed.map_or(b"", |processed| &processed.body)),
            ],
        ),
    }
}

/// A PUBLISH was answered, or was not.
pub fn answered<P: Ports>(ports: &mut P, flight: FlightId, answer: &Answer) {
    let Some(landed) = ports.landed(flight) else { return };
    let verdict = answer.verdict(landed.attempts);
    if let Err(why) = settle(ports, &landed, answer, verdict) {
        ports.complain(&format!("answer {} to PUBLISH for {}: {why}", answer.code, show(&landed.request)));
    }
    let again = repair(ports, &landed, verdict);
    // An answer that grants without saying what is told as if none had come.
    let misses = verdict == Verdict::Done && (answer.etag.is_none() || answer.expires.is_none());
    if !landed.request.wish.own && !matches!(again, Repair::Now(_)) {
        ports.report(&landed, misses);
    }
    match again {
        Repair::Nothing => go_on(ports, flight),
        Repair::Now(request) => {
            if let Err(why) = launch(ports, flight, &request) {
                ports.complain(&format!("PUBLISH for {}: {why}", show(&request)));
            }
        }
        Repair::At(at, request) => ports.wait(flight, at, &request),
    }
}

/// Brings the record in line with the answer.
fn settle<P: Ports>(ports: &mut P, landed: &Flight, answer: &Answer, verdict: Verdict) -> Result<(), Refusal> {
    let record = &landed.record;
    let is_stored = !record.get(Field::Etag).is_empty();
    match verdict {
        Verdict::Done => {
            let (Some(etag), Some(expires)) = (&answer.etag, answer.expires) else {
                return Err(Refusal::BadBody("no SIP-ETag or no Expires in it".into()));
            };
            if expires == 0 {
                return ports.remove(record);
            }
            let mut granted = record.with(&[(Field::Etag, etag)]);
            granted.numbers.expires_at = ports.now() + expires;
            if is_stored && ports.replace(record, &granted)? {
                return Ok(());
            }
            granted.numbers.serial = 0;
            ports.insert(&granted)
        }
        Verdict::Later(_) if is_stored => {
            // The server may have taken it: its version must not be used again.
            let mut counted = record.clone();
            counted.numbers.journal = Journal::Update;
            ports.replace(record, &counted).map(|_| ())
        }
        Verdict::Later(_) | Verdict::TooBrief(_) => Ok(()),
        Verdict::Forgotten | Verdict::Refused => ports.remove(record),
    }
}

enum Repair {
    Nothing,
    Now(Request),
    At(i64, Request),
}

/// What is sent to mend what the answer says.
fn repair<P: Ports>(ports: &P, landed: &Flight, verdict: Verdict) -> Repair {
    let (request, record) = (&landed.request, &landed.record);
    let waits = request.wish.flag & CALLER_WAITS != 0 && !request.wish.own;
    match verdict {
        // The whole document once more, as a new publication.
        Verdict::Forgotten if !waits && request.wish.expires != 0 && !record.get(Field::Body).is_empty() => {
            let left = match record.numbers.desired_until {
                0 => -1,
                until => (until - ports.now()).max(0) + 3,
            };
            let wish = Wish {
                expires: left,
                insert: false,
                has_body: true,
                version_floor: record.numbers.version + 1,
                ..request.wish
            };
            let fresh = request.with(&[
                (Part::Etag, b""),
                (Part::Body, record.get(Field::Body)),
                (Part::ContentType, record.get(Field::ContentType)),
            ]);
            match record.get(Field::Etag).is_empty() {
                // A first PUBLISH has no tag to be forgotten: asking again would be a loop.
                true => Repair::Nothing,
                false => Repair::Now(fresh.wishing(wish)),
            }
        }
        Verdict::TooBrief(minimum) if request.wish.server_minimum == 0 && request.wish.expires != 0 => {
            Repair::Now(request.wishing(Wish { server_minimum: minimum, ..request.wish }))
        }
        Verdict::Later(seconds) if !waits => {
            let at = ports.now() + seconds;
            let desired = record.numbers.desired_until;
            // Nobody wants it any more by then.
            if request.wish.expires != 0 && desired != 0 && at >= desired {
                return Repair::Nothing;
            }
            let left = if request.wish.expires <= 0 { request.wish.expires } else { (desired - at).max(1) };
            Repair::At(at, request.wishing(Wish { own: true, expires: left, ..request.wish }))
        }
        _ => Repair::Nothing,
    }
}
