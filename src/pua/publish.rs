//! PUBLISH (RFC 3903): what is sent for a publication, and what follows from its answer.
use super::answer::{Answer, Verdict};
use super::headers;
use super::ports::{Flight, FlightId, Outgoing, Ports, Processed, Refusal, Sent};
use super::queue::{self, Launched, Next, caller_decides, show};
use super::record::{Change, Field, Journal, Numbers, Record};
use super::request::{Part, Request, Wish};

/// The CSeq of requests outside of a dialog, as tm counts them.
const FIRST_CSEQ: u32 = 10;

/// How long the first try of a new publication that nobody answered is waited for, in seconds: the server may have made a
/// document that we cannot name, and each try may make another.
const UNANSWERED: i64 = 32;

/// How often one request may be sent elsewhere.
pub const MOST_REDIRECTS: u8 = 3;

/// Prepares and sends a request on its flight.
pub fn prepare_and_send<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<Launched, Refusal> {
    let event = ports.event(request.wish.event).ok_or(Refusal::UnknownEvent(request.wish.event))?;
    let found = match request.wish.insert {
        true => None,
        false => ports.find(&request.search(false))?,
    };
    if found.is_none() && !begins(request)? {
        return Ok(Launched::Nothing);
    }
    let version = next_version(request, found.as_ref());
    let tuple_id = found.as_ref().map(|record| record.get(Field::TupleId).to_vec()).unwrap_or_default();
    let processed = match request.body() {
        Some(_) if request.wish.expires != 0 => Some(ports.process(&event, request, version, &tuple_id)?),
        _ => None,
    };
    let record = next_record(ports, request, found.as_ref(), version, processed.as_ref());
    let body = processed.as_ref().map(|processed| processed.body.as_slice()).filter(|body| !body.is_empty());
    let headers = headers::publish(ports.config(), &event, request, record.get(Field::Etag), body.is_some());
    ports.board(flight, request, &record)?;
    send(ports, flight, request, headers, body)
}

/// Whether a request for which nothing is stored begins a publication; `false`: there is nothing to end.
fn begins(request: &Request) -> Result<bool, Refusal> {
    if !request.get(Part::Etag).is_empty() {
        return Err(Refusal::UnknownEtag);
    }
    if request.wish.expires == 0 {
        return Ok(false);
    }
    if request.body().is_none() {
        return Err(Refusal::NoBody);
    }
    Ok(true)
}

fn next_version(request: &Request, found: Option<&Record>) -> u32 {
    match found {
        Some(record) if request.wish.expires == 0 || request.body().is_none() && request.wish.own => {
            record.numbers.version
        }
        Some(record) => record.numbers.version + 1,
        None => request.wish.version_floor,
    }
}

fn send<P: Ports>(
    ports: &mut P,
    flight: FlightId,
    request: &Request,
    headers: Vec<u8>,
    body: Option<&[u8]>,
) -> Result<Launched, Refusal> {
    let uri = request.get(Part::PresUri);
    let redirected = request.get(Part::RemoteTarget);
    let (call_id, from_tag) = ports.new_ids(uri);
    let proxy = match request.get(Part::OutboundProxy) {
        _ if !redirected.is_empty() => Vec::new(),
        b"" => ports.config().outbound_proxy.to_vec(),
        given => given.to_vec(),
    };
    let outgoing = Outgoing {
        method: "PUBLISH",
        target: if redirected.is_empty() { uri } else { redirected },
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
    Ok(match ports.send(flight, &outgoing)? {
        Sent::UnderWay => Launched::UnderWay,
        Sent::Dropped => Launched::Nothing,
    })
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
    if let Some(landed) = ports.landed(flight) {
        settled_by(ports, flight, &landed, answer);
    }
}

/// This answer settles what was sent on a flight.
pub fn settled_by<P: Ports>(ports: &mut P, flight: FlightId, landed: &Flight, answer: &Answer) {
    let verdict = answer.verdict(landed.attempts);
    // An answer that grants without a tag or an interval is reported as if none had come.
    let misses = verdict == Verdict::Done && (answer.etag.is_none() || answer.expires.is_none());
    if misses {
        ports.complain(&format!(
            "answer {} to PUBLISH for {}: no SIP-ETag or no Expires in it",
            answer.code,
            show(&landed.request)
        ));
    }
    let change = if misses { None } else { change_after(ports.now(), landed, answer, verdict) };
    let stored = change.as_ref().map_or(Ok(()), |change| queue::apply(ports, change));
    let next = repair(ports, landed, answer, verdict);
    let tag = tag_after(landed, change.as_ref());
    // A caller that is answered now may name it at once.
    ports.retag(flight, &tag);
    if !matches!(next, Next::Quietly(_)) {
        queue::report(ports, flight, landed, misses);
    }
    match (stored, change) {
        (Err(why), Some(change)) => {
            ports.complain(&format!("answer {} to PUBLISH for {}: {why}", answer.code, show(&landed.request)));
            queue::store_then_follow(ports, flight, &change, next);
        }
        _ => queue::follow(ports, flight, next, Some(&tag)),
    }
}

/// The entity tag the publication has after an answer; empty when it has none.
fn tag_after(landed: &Flight, change: Option<&Change>) -> Vec<u8> {
    match change {
        Some(Change { after: Some(record), .. }) => record.get(Field::Etag).to_vec(),
        Some(Change { after: None, .. }) => Vec::new(),
        None => landed.record.get(Field::Etag).to_vec(),
    }
}

/// What becomes of the record by an answer; `None`: it stays as it is.
fn change_after(now: i64, landed: &Flight, answer: &Answer, verdict: Verdict) -> Option<Change> {
    let record = &landed.record;
    let before = || (!record.get(Field::Etag).is_empty()).then(|| record.clone());
    match verdict {
        Verdict::Done => match (&answer.etag, answer.granted()) {
            (Some(etag), Some(expires)) if expires > 0 => {
                let mut granted = record.with(&[(Field::Etag, etag)]);
                granted.numbers.expires_at = now + expires;
                Some(Change { before: before(), after: Some(granted) })
            }
            _ => Some(Change { before: before(), after: None }),
        },
        // The server may have taken it: its version must not be used again.
        Verdict::Later(_) => before().map(|stored| Change { after: Some(stored.clone()), before: Some(stored) }),
        Verdict::TooBrief(_) | Verdict::Elsewhere => None,
        // The document from before is still there, under the tag it has.
        Verdict::Refused if landed.request.body().is_some() && landed.request.wish.expires != 0 => None,
        Verdict::Forgotten | Verdict::Refused => before().map(|stored| Change { before: Some(stored), after: None }),
    }
}

/// What is sent to mend what the answer says.
fn repair<P: Ports>(ports: &P, landed: &Flight, answer: &Answer, verdict: Verdict) -> Next {
    let request = &landed.request;
    match verdict {
        Verdict::Forgotten => whole_document(ports.now(), landed).map_or(Next::Nothing, Next::Quietly),
        Verdict::TooBrief(minimum) if request.wish.server_minimum == 0 && request.wish.expires != 0 => {
            Next::Quietly(request.wishing(Wish { server_minimum: minimum, ..request.wish }))
        }
        Verdict::Elsewhere if request.wish.redirects < MOST_REDIRECTS => {
            let wish = Wish { redirects: request.wish.redirects + 1, ..request.wish };
            Next::Quietly(request.with(&[(Part::RemoteTarget, answer.contact.as_slice())]).wishing(wish))
        }
        Verdict::Later(seconds) if !caller_decides(request) => again(ports.now(), landed, answer, seconds),
        _ => Next::Nothing,
    }
}

/// The whole document once more, as a new publication. A first PUBLISH has no tag to be forgotten: asking again would be a loop.
fn whole_document(now: i64, landed: &Flight) -> Option<Request> {
    let (request, record) = (&landed.request, &landed.record);
    let wanted = !caller_decides(request) && request.wish.expires != 0;
    if !wanted || record.get(Field::Body).is_empty() || record.get(Field::Etag).is_empty() {
        return None;
    }
    let expires = match record.numbers.desired_until {
        0 => -1,
        until => (until - now).max(0) + 3,
    };
    let wish = Wish {
        expires,
        // Another publication may have the same id.
        insert: true,
        has_body: true,
        version_floor: record.numbers.version + 1,
        ..request.wish
    };
    let whole = [
        (Part::Etag, b"".as_slice()),
        (Part::Body, record.get(Field::Body)),
        (Part::ContentType, record.get(Field::ContentType)),
        (Part::OutboundProxy, record.get(Field::OutboundProxy)),
        (Part::ExtraHeaders, record.get(Field::ExtraHeaders)),
    ];
    Some(request.with(&whole).wishing(wish))
}

/// Another try after so many seconds, as long as somebody wants it.
fn again(now: i64, landed: &Flight, answer: &Answer, seconds: i64) -> Next {
    let (request, record) = (&landed.request, &landed.record);
    let stored = !record.get(Field::Etag).is_empty();
    let seconds = match answer.silence && !stored {
        true => (UNANSWERED << landed.attempts.min(3)).max(seconds),
        false => seconds,
    };
    let desired = record.numbers.desired_until;
    if request.wish.expires != 0 && desired != 0 && now + seconds >= desired {
        return Next::Nothing;
    }
    let left = if request.wish.expires <= 0 { request.wish.expires } else { (desired - now).max(1) };
    // A document that the server may have made without our knowledge had this version.
    let version_floor = if stored { request.wish.version_floor } else { record.numbers.version + 1 };
    let wish = Wish { own: true, expires: left, version_floor, redirects: 0, ..request.wish };
    let afresh = request.with(&[(Part::RemoteTarget, b"")]).wishing(wish);
    Next::After { seconds, request: afresh, stored: stored || answer.silence }
}
