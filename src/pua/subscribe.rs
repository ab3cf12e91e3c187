//! SUBSCRIBE (RFC 6665 4.1): dialogs that are opened, refreshed, mended and ended for other modules.
use super::answer::{Answer, Verdict};
use super::headers;
use super::ports::{Departure, Flight, FlightId, Outgoing, Ports, Refusal, Sent};
use super::record::{Dialog, Field, Journal, Numbers, Record};
use super::request::{Part, Request, Wish};

/// How long a dialog without an answer is remembered: twice the 64 T1 of RFC 3261 17.1.2.2, in seconds.
const UNANSWERED: i64 = 64;

/// The CSeq of a dialog's first request, as tm counts them.
const FIRST_CSEQ: u32 = 10;

/// Subscribes, refreshes or unsubscribes.
pub fn submit<P: Ports>(ports: &mut P, request: &Request) -> Result<(), Refusal> {
    if ports.event(request.wish.event).is_none() {
        return Err(Refusal::UnknownEvent(request.wish.event));
    }
    if request.wish.only_if_new && find(ports, request)?.is_some() {
        return Ok(());
    }
    match ports.depart(request)? {
        Departure::Go(flight) => launch(ports, flight, request),
        Departure::Queued => Ok(()),
        Departure::Covered => {
            ports.complain(&format!("a SUBSCRIBE to {} is under way already: no other is sent", show(request)));
            Ok(())
        }
    }
}

fn show(request: &Request) -> String {
    String::from_utf8_lossy(request.get(Part::PresUri)).into_owned()
}

fn find<P: Ports>(ports: &mut P, request: &Request) -> Result<Option<Record>, Refusal> {
    let check = ports.config().check_remote_contact;
    ports.find(&request.search(check))
}

/// Sends `request` on a flight; when there is nothing to send, what was kept meanwhile goes next.
pub fn launch<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<(), Refusal> {
    let first = prepare_and_send(ports, flight, request);
    if !matches!(first, Ok(true)) {
        go_on(ports, flight);
    }
    match first {
        // Callers go on with their work when a target cannot be reached.
        Err(Refusal::NotSent) => {
            ports.complain(&format!("SUBSCRIBE to {} could not be sent", show(request)));
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

fn go_on<P: Ports>(ports: &mut P, flight: FlightId) {
    while let Some(next) = ports.end(flight) {
        match prepare_and_send(ports, flight, &next) {
            Ok(true) => return,
            Ok(false) => {}
            Err(why) => ports.complain(&format!("SUBSCRIBE to {}: {why}", show(&next))),
        }
    }
}

/// `true`: an answer will come.
fn prepare_and_send<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<bool, Refusal> {
    let mut found = if request.wish.insert { None } else { find(ports, request)? };
    if let Some(stale) = found.take_if(|record| record.is_temporary()) {
        // No flight is under way for it: its answer never came.
        ports.remove(&stale)?;
    }
    match found {
        None if request.wish.expires == 0 => Ok(false),
        None => open_dialog(ports, flight, request),
        Some(record) => send_within(ports, flight, request, &record),
    }
}

fn open_dialog<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<bool, Refusal> {
    let event = ports.event(request.wish.event).ok_or(Refusal::UnknownEvent(request.wish.event))?;
    let headers = headers::subscribe(ports.config(), &event, request);
    let pres_uri = request.get(Part::PresUri);
    let target = match request.get(Part::RemoteTarget) {
        b"" => pres_uri,
        given => given,
    };
    let (call_id, from_tag) = ports.new_ids(target);
    let until = ports.now() + UNANSWERED;
    let numbers = Numbers {
        serial: 0,
        event: request.wish.event,
        flag: request.wish.flag,
        expires_at: until,
        desired_until: until,
        cseq: FIRST_CSEQ,
        version: 0,
        journal: Journal::Insert,
    };
    // A NOTIFY may come before the answer (RFC 6665 4.1.2.4): the dialog is known before the request leaves.
    let record = Record::new(
        numbers,
        &[
            (Field::PresUri, pres_uri),
            (Field::WatcherUri, request.get(Part::WatcherUri)),
            (Field::Id, request.get(Part::Id)),
            (Field::CallId, &call_id),
            (Field::FromTag, &from_tag),
            (Field::Contact, request.get(Part::Contact)),
            (Field::ExtraHeaders, request.get(Part::ExtraHeaders)),
            (Field::OutboundProxy, request.get(Part::OutboundProxy)),
        ],
    );
    ports.board(flight, request, &record)?;
    ports.insert(&record)?;
    let outgoing = Outgoing {
        method: "SUBSCRIBE",
        target,
        to: pres_uri,
        from: request.get(Part::WatcherUri),
        proxy: request.get(Part::OutboundProxy),
        call_id: &call_id,
        from_tag: &from_tag,
        to_tag: b"",
        routes: b"",
        cseq: FIRST_CSEQ,
        headers,
        body: None,
    };
    let sent = ports.send(flight, &outgoing);
    if sent != Ok(Sent::UnderWay) {
        remove_dialog(ports, &record)?;
    }
    Ok(sent? == Sent::UnderWay)
}

fn send_within<P: Ports>(ports: &mut P, flight: FlightId, request: &Request, record: &Record) -> Result<bool, Refusal> {
    let event = ports.event(request.wish.event).ok_or(Refusal::UnknownEvent(request.wish.event))?;
    let headers = headers::subscribe(ports.config(), &event, request);
    let mut next = record.clone();
    next.numbers.cseq += 1;
    next.numbers.desired_until = request.desired_until(ports.now());
    ports.board(flight, request, &next)?;
    let outgoing = Outgoing {
        method: "SUBSCRIBE",
        target: record.get(Field::RemoteContact),
        to: record.get(Field::PresUri),
        from: record.get(Field::WatcherUri),
        proxy: b"",
        call_id: record.get(Field::CallId),
        from_tag: record.get(Field::FromTag),
        to_tag: record.get(Field::ToTag),
        routes: record.get(Field::RecordRoute),
        cseq: next.numbers.cseq,
        headers,
        body: None,
    };
    Ok(ports.send(flight, &outgoing)? == Sent::UnderWay)
}

fn remove_dialog<P: Ports>(ports: &mut P, record: &Record) -> Result<(), Refusal> {
    match ports.find_dialog(&record.dialog())? {
        Some(stored) => ports.remove(&stored),
        None => Ok(()),
    }
}

/// A SUBSCRIBE was answered, or was not.
pub fn answered<P: Ports>(ports: &mut P, flight: FlightId, answer: &Answer) {
    let Some(landed) = ports.landed(flight) else { return };
    let within = !landed.record.get(Field::ToTag).is_empty();
    let verdict = answer.verdict(landed.attempts);
    let next = match settle(ports, &landed, answer, verdict, within) {
        Ok(next) => next,
        Err(why) => {
            ports.complain(&format!("answer {} to SUBSCRIBE for {}: {why}", answer.code, show(&landed.request)));
            Next::Nothing
        }
    };
    let misses = verdict == Verdict::Done && answer.expires.is_none();
    if !landed.request.wish.own && !matches!(next, Next::Quietly(_)) {
        ports.report(&landed, misses);
    }
    match next {
        Next::Nothing => go_on(ports, flight),
        Next::Now(request) | Next::Quietly(request) => {
            if let Err(why) = launch(ports, flight, &request) {
                ports.complain(&format!("SUBSCRIBE to {}: {why}", show(&request)));
            }
        }
        Next::At(at, request) => ports.wait(flight, at, &request),
    }
}

enum Next {
    Nothing,
    /// This, and the caller has been told.
    Now(Request),
    /// This, and its answer is the one the caller gets.
    Quietly(Request),
    At(i64, Request),
}

/// Brings the record in line with the answer, and says what is sent next.
fn settle<P: Ports>(
    ports: &mut P,
    landed: &Flight,
    answer: &Answer,
    verdict: Verdict,
    within: bool,
) -> Result<Next, Refusal> {
    let (request, record) = (&landed.request, &landed.record);
    let now = ports.now();
    match verdict {
        Verdict::Done => {
            match answer.expires {
                Some(expires) if expires > 0 => confirm(ports, landed, answer, now + expires)?,
                _ => remove_dialog(ports, record)?,
            }
            Ok(Next::Nothing)
        }
        Verdict::TooBrief(minimum) if request.wish.server_minimum == 0 && request.wish.expires != 0 => {
            if !within {
                remove_dialog(ports, record)?;
            }
            let wish = Wish { server_minimum: minimum, ..request.wish };
            Ok(Next::Quietly(request.wishing(wish)))
        }
        Verdict::Later(seconds) if within && request.wish.expires != 0 && record.numbers.expires_at > now => {
            // RFC 6665 4.1.2.2: the subscription goes on as long as the last answer said.
            let wish = Wish { own: true, expires: left(request, record, now), ..request.wish };
            Ok(Next::At(now + seconds, request.wishing(wish)))
        }
        Verdict::Later(seconds) if !within && request.wish.own => {
            remove_dialog(ports, record)?;
            Ok(Next::At(now + seconds, request.clone()))
        }
        _ => {
            remove_dialog(ports, record)?;
            if !within || request.wish.expires == 0 {
                return Ok(Next::Nothing);
            }
            // The server forgot the dialog: a new one takes its place.
            let wish = Wish { insert: true, own: true, expires: left(request, record, now) + 3, ..request.wish };
            let forever = record.numbers.desired_until == 0;
            let wish = if forever { Wish { expires: -1, ..wish } } else { wish };
            let fresh = request.with(&[(Part::OutboundProxy, record.get(Field::OutboundProxy))]);
            Ok(Next::Now(fresh.wishing(wish)))
        }
    }
}

/// How long the owner still wants it.
fn left(request: &Request, record: &Record, now: i64) -> i64 {
    match record.numbers.desired_until {
        _ if request.wish.expires < 0 => -1,
        0 => -1,
        until => (until - now).max(0),
    }
}

/// The server has granted it until `until`.
fn confirm<P: Ports>(ports: &mut P, landed: &Flight, answer: &Answer, until: i64) -> Result<(), Refusal> {
    let (request, record) = (&landed.request, &landed.record);
    let within = !record.get(Field::ToTag).is_empty();
    if !within && answer.to_tag.is_empty() {
        remove_dialog(ports, record)?;
        return Err(Refusal::BadBody("no To tag in it".into()));
    }
    let Some(stored) = ports.find_dialog(&record.dialog())? else {
        return Err(Refusal::BadBody("its dialog is gone".into()));
    };
    let mut changes: Vec<(Field, &[u8])> = Vec::new();
    if !answer.contact.is_empty() {
        changes.push((Field::RemoteContact, &answer.contact));
    } else if stored.get(Field::RemoteContact).is_empty() {
        remove_dialog(ports, record)?;
        return Err(Refusal::BadBody("no Contact in it".into()));
    }
    if !within && stored.get(Field::ToTag).is_empty() {
        changes.push((Field::ToTag, &answer.to_tag));
        changes.push((Field::RecordRoute, &answer.route_set));
    }
    let mut next = stored.with(&changes);
    next.numbers.expires_at = until;
    next.numbers.desired_until = request.desired_until(ports.now());
    next.numbers.cseq = record.numbers.cseq;
    ports.replace(&stored, &next).map(|_| ())
}

/// What a NOTIFY says about its dialog.
#[derive(Debug, Clone, Copy)]
pub struct Notified<'a> {
    /// Its Contact.
    pub contact: &'a [u8],
    /// Its Record-Route headers as the route set of the one who gets it.
    pub route_set: &'a [u8],
    /// Subscription-State says that it is over.
    pub terminated: bool,
    /// Why, as `reason` says; empty when it does not.
    pub reason: &'a [u8],
}

/// A NOTIFY came in: its Contact is the target from now on. `false`: it belongs to no dialog of ours.
pub fn notified<P: Ports>(ports: &mut P, dialog: &Dialog<'_>, said: &Notified<'_>) -> Result<bool, Refusal> {
    let Some(stored) = ports.find_dialog(dialog)? else { return Ok(false) };
    if said.terminated {
        ports.remove(&stored)?;
        if begins_anew(said.reason) && !stored.is_temporary() {
            subscribe_anew(ports, &stored)?;
        }
        return Ok(true);
    }
    let mut changes: Vec<(Field, &[u8])> = Vec::new();
    if !said.contact.is_empty() {
        changes.push((Field::RemoteContact, said.contact));
    }
    if stored.is_temporary() {
        // The NOTIFY came first: it makes the dialog (RFC 6665 4.4.1).
        changes.push((Field::ToTag, dialog.to_tag));
        changes.push((Field::RecordRoute, said.route_set));
    }
    let next = stored.with(&changes);
    ports.replace(&stored, &next)?;
    Ok(true)
}

/// RFC 6665 4.1.3: after these reasons a subscriber may subscribe again at once.
fn begins_anew(reason: &[u8]) -> bool {
    reason.is_empty() || [b"deactivated".as_slice(), b"timeout"].iter().any(|known| known.eq_ignore_ascii_case(reason))
}

fn subscribe_anew<P: Ports>(ports: &mut P, record: &Record) -> Result<(), Refusal> {
    let expires = match record.numbers.desired_until {
        0 => -1,
        until => until - ports.now(),
    };
    // What is nearly over is not begun again.
    if (0..10).contains(&expires) || expires < -1 {
        return Ok(());
    }
    submit(ports, &request_of(record, expires, true))
}

/// The request that renews a subscription.
pub fn request_of(record: &Record, expires: i64, insert: bool) -> Request {
    let wish =
        Wish { event: record.numbers.event, flag: record.numbers.flag, expires, insert, own: true, ..Wish::default() };
    Request::new(
        wish,
        &[
            (Part::PresUri, record.get(Field::PresUri)),
            (Part::WatcherUri, record.get(Field::WatcherUri)),
            (Part::Id, record.get(Field::Id)),
            (Part::Contact, record.get(Field::Contact)),
            (Part::RemoteTarget, if insert { b"" } else { record.get(Field::RemoteContact) }),
            (Part::OutboundProxy, record.get(Field::OutboundProxy)),
            (Part::ExtraHeaders, record.get(Field::ExtraHeaders)),
        ],
    )
}
