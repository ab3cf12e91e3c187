//! SUBSCRIBE (RFC 6665 4.1): dialogs that are opened, refreshed, mended and ended for other modules.
use super::answer::{Answer, LONGEST_GRANT, LONGEST_PUT_OFF, Verdict, backoff};
use super::headers;
use super::ports::{Claim, Flight, FlightId, Outgoing, Ports, Refusal, Sent};
use super::publish::MOST_REDIRECTS;
use super::queue::{self, Launched, Next, show};
use super::record::{Change, Dialog, Field, Journal, Numbers, Record};
use super::request::{Part, Request, Wish};

/// How long a dialog without an answer is remembered: twice the 64 T1 of RFC 3261 17.1.2.2, in seconds.
const UNANSWERED: i64 = 64;

/// The CSeq of a dialog's first request, as tm counts them.
const FIRST_CSEQ: u32 = 10;

/// A dialog whose CSeq comes near the 2^31 of RFC 3261 8.1.1.5 is replaced by a new one.
const LAST_CSEQ: u32 = i32::MAX as u32 - 10_000;

/// How long a server that gives up, or puts us on probation without saying when to come back, is left alone, in seconds.
const PROBATION: i64 = 10;

/// Subscribes, refreshes or unsubscribes.
pub fn submit<P: Ports>(ports: &mut P, request: &Request) -> Result<(), Refusal> {
    if request.wish.only_if_new && find(ports, request)?.is_some() {
        if let Some(claim) = Claim::of(request) {
            ports.report(&[claim], &Flight::unsent(request), true);
        }
        return Ok(());
    }
    queue::submit(ports, request)
}

fn find<P: Ports>(ports: &mut P, request: &Request) -> Result<Option<Record>, Refusal> {
    let check = ports.config().check_remote_contact;
    ports.find(&request.search(check))
}

/// Prepares and sends a request on its flight.
pub fn prepare_and_send<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<Launched, Refusal> {
    let mut found = if request.wish.insert { None } else { find(ports, request)? };
    let unusable = |record: &mut Record| record.is_temporary() || record.numbers.cseq >= LAST_CSEQ;
    if let Some(stale) = found.take_if(unusable) {
        // Nothing is under way for it: its answer never came, or its numbers are used up.
        ports.remove(&stale)?;
    }
    match found {
        None if request.wish.expires == 0 => Ok(Launched::Nothing),
        // The dialog that was meant is over.
        None if !request.get(Part::CallId).is_empty() && !request.wish.insert => Ok(Launched::Nothing),
        None => open_dialog(ports, flight, request),
        Some(record) => send_within(ports, flight, request, &record),
    }
}

fn open_dialog<P: Ports>(ports: &mut P, flight: FlightId, request: &Request) -> Result<Launched, Refusal> {
    let event = ports.event(request.wish.event).ok_or(Refusal::UnknownEvent(request.wish.event))?;
    let headers = headers::subscribe(ports.config(), &event, request);
    let pres_uri = request.get(Part::PresUri);
    let target = match request.get(Part::RemoteTarget) {
        b"" => pres_uri,
        given => given,
    };
    let (call_id, from_tag) = ports.new_ids(target);
    let record = first_record(ports.now(), request, &call_id, &from_tag);
    // A NOTIFY may come before the answer (RFC 6665 4.1.2.4): the dialog is known before the request leaves.
    ports.board(flight, request, &record)?;
    ports.insert(&record)?;
    let outgoing = Outgoing {
        method: "SUBSCRIBE",
        target,
        to: pres_uri,
        from: request.get(Part::WatcherUri),
        proxy: if request.wish.redirects > 0 { b"" } else { request.get(Part::OutboundProxy) },
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
    launched(sent)
}

fn launched(sent: Result<Sent, Refusal>) -> Result<Launched, Refusal> {
    Ok(match sent? {
        Sent::UnderWay => Launched::UnderWay,
        Sent::Dropped => Launched::Nothing,
    })
}

fn first_record(now: i64, request: &Request, call_id: &[u8], from_tag: &[u8]) -> Record {
    let numbers = Numbers {
        serial: 0,
        event: request.wish.event,
        flag: request.wish.flag,
        expires_at: now + UNANSWERED,
        desired_until: request.desired_until(now),
        cseq: FIRST_CSEQ,
        version: 0,
        journal: Journal::Insert,
    };
    Record::new(
        numbers,
        &[
            (Field::PresUri, request.get(Part::PresUri)),
            (Field::WatcherUri, request.get(Part::WatcherUri)),
            (Field::Id, request.get(Part::Id)),
            (Field::CallId, call_id),
            (Field::FromTag, from_tag),
            (Field::Contact, request.get(Part::Contact)),
            (Field::ExtraHeaders, request.get(Part::ExtraHeaders)),
            (Field::OutboundProxy, request.get(Part::OutboundProxy)),
        ],
    )
}

fn send_within<P: Ports>(
    ports: &mut P,
    flight: FlightId,
    request: &Request,
    record: &Record,
) -> Result<Launched, Refusal> {
    let event = ports.event(request.wish.event).ok_or(Refusal::UnknownEvent(request.wish.event))?;
    let headers = headers::subscribe(ports.config(), &event, request);
    let mut counted = record.clone();
    counted.numbers.cseq += 1;
    // The number is used up whatever becomes of the request (RFC 3261 12.2.1.1).
    ports.replace(record, &counted)?;
    let mut next = counted;
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
    launched(ports.send(flight, &outgoing))
}

/// Removes the dialog of a record; `false`: it was not there any more.
fn remove_dialog<P: Ports>(ports: &mut P, record: &Record) -> Result<bool, Refusal> {
    match ports.find_dialog(&record.dialog())? {
        Some(stored) => ports.remove(&stored).map(|()| true),
        None => Ok(false),
    }
}

/// Removes the dialog of a record, now or as soon as the store is there again; `false`: it was not there any more.
fn discard<P: Ports>(ports: &mut P, record: &Record, undone: &mut Option<Change>) -> bool {
    remove_dialog(ports, record).unwrap_or_else(|why| {
        ports.complain(&format!("a dialog cannot be removed yet: {why}"));
        *undone = Some(Change { before: Some(record.clone()), after: None });
        true
    })
}

/// A SUBSCRIBE was answered, or was not.
pub fn answered<P: Ports>(ports: &mut P, flight: FlightId, answer: &Answer) {
    if let Some(landed) = ports.landed(flight) {
        settled_by(ports, flight, &landed, answer);
    }
}

/// This answer settles what was sent on a flight.
pub fn settled_by<P: Ports>(ports: &mut P, flight: FlightId, landed: &Flight, answer: &Answer) {
    let verdict = answer.verdict(landed.attempts);
    let mut undone = None;
    let next = settle(ports, landed, answer, verdict, &mut undone);
    if !matches!(next, Next::Quietly(_)) {
        let misses = verdict == Verdict::Done && answer.expires.is_none();
        queue::report(ports, flight, landed, misses);
    }
    match undone {
        None => queue::follow(ports, flight, next, None),
        Some(change) => queue::store_then_follow(ports, flight, &change, next),
    }
}

/// What a granting answer makes of the record when the store cannot be asked what is in it.
fn unread(now: i64, landed: &Flight, answer: &Answer) -> Change {
    let record = &landed.record;
    let expires = answer.granted().unwrap_or_default();
    if expires == 0 {
        return Change { before: Some(record.clone()), after: None };
    }
    let mut changes: Vec<(Field, &[u8])> = Vec::new();
    if !answer.contact.is_empty() {
        changes.push((Field::RemoteContact, &answer.contact));
    }
    if record.is_temporary() {
        changes.push((Field::ToTag, &answer.to_tag));
        changes.push((Field::RecordRoute, &answer.route_set));
    }
    let mut after = record.with(&changes);
    after.numbers.expires_at = now + expires;
    Change { before: Some(record.clone()), after: Some(after) }
}

/// Brings the record in line with the answer, and says what is sent next. `undone` is what could not be stored.
fn settle<P: Ports>(
    ports: &mut P,
    landed: &Flight,
    answer: &Answer,
    verdict: Verdict,
    undone: &mut Option<Change>,
) -> Next {
    let (request, record) = (&landed.request, &landed.record);
    let within = !record.is_temporary();
    let now = ports.now();
    let wish = &request.wish;
    match verdict {
        Verdict::Done => {
            let done = match answer.granted() {
                Some(expires) if expires > 0 => confirm(ports, landed, answer, now + expires),
                _ => remove_dialog(ports, record).map(|_| ()),
            };
            if let Err(why) = done {
                ports.complain(&format!("answer {} to SUBSCRIBE for {}: {why}", answer.code, show(request)));
                *undone = matches!(why, Refusal::Store(_)).then(|| unread(now, landed, answer));
            }
            Next::Nothing
        }
        Verdict::TooBrief(minimum) if wish.server_minimum == 0 && wish.expires != 0 => {
            afresh(ports, landed, undone, request.wishing(Wish { server_minimum: minimum, ..*wish }))
        }
        Verdict::Elsewhere if !within && wish.redirects < MOST_REDIRECTS => {
            let wish = Wish { redirects: wish.redirects + 1, ..*wish };
            let there = [(Part::RemoteTarget, answer.contact.as_slice())];
            afresh(ports, landed, undone, request.with(&there).wishing(wish))
        }
        Verdict::Later(seconds) => put_off(ports, landed, seconds, undone),
        _ => given_up(ports, landed, undone),
    }
}

/// The same once more, and the caller gets its answer: in the dialog there is, or in a new one.
fn afresh<P: Ports>(ports: &mut P, landed: &Flight, undone: &mut Option<Change>, request: Request) -> Next {
    if !landed.record.is_temporary() {
        return Next::Quietly(pinned(&request, &landed.record));
    }
    discard(ports, &landed.record, undone);
    Next::Quietly(request)
}

/// A request for exactly the dialog of this record, wherever its target has moved meanwhile.
fn pinned(request: &Request, record: &Record) -> Request {
    let wish = Wish { insert: false, ..request.wish };
    request.with(&[(Part::CallId, record.get(Field::CallId)), (Part::RemoteTarget, b"")]).wishing(wish)
}

/// The server cannot now: another try after so many seconds, as long as somebody wants it.
fn put_off<P: Ports>(ports: &mut P, landed: &Flight, seconds: i64, undone: &mut Option<Change>) -> Next {
    let (request, record) = (&landed.request, &landed.record);
    let now = ports.now();
    let own = |insert| Wish { own: true, insert, redirects: 0, expires: left(request, record, now), ..request.wish };
    if !record.is_temporary() && record.numbers.expires_at > now {
        // RFC 6665 4.1.2.2: the subscription goes on as long as the last answer said.
        let again = pinned(&request.wishing(own(false)), record);
        return Next::After { seconds, request: again, stored: true };
    }
    let was_there = discard(ports, record, undone);
    let desired = record.numbers.desired_until;
    let unwanted = request.wish.expires == 0 || desired != 0 && now + seconds >= desired;
    if unwanted || !record.is_temporary() && !was_there {
        return Next::Nothing;
    }
    let again = from_the_start(request, record).wishing(own(true));
    Next::After { seconds, request: again, stored: false }
}

/// The request as the first of a new dialog.
fn from_the_start(request: &Request, record: &Record) -> Request {
    let proxy = (Part::OutboundProxy, record.get(Field::OutboundProxy));
    // A caller's target is where it wanted the first request to go; that of a dialog or a redirect is not.
    let of_caller = !request.wish.own && request.wish.redirects == 0 && record.is_temporary();
    let target = (Part::RemoteTarget, if of_caller { request.get(Part::RemoteTarget) } else { b"" });
    request.with(&[proxy, target, (Part::CallId, b"")])
}

/// The server will not have it. A dialog that it forgot is replaced by a new one, unless a NOTIFY has ended it meanwhile.
fn given_up<P: Ports>(ports: &mut P, landed: &Flight, undone: &mut Option<Change>) -> Next {
    let (request, record) = (&landed.request, &landed.record);
    let was_there = discard(ports, record, undone);
    if record.is_temporary() || request.wish.expires == 0 || !was_there {
        return Next::Nothing;
    }
    let wanted = match left(request, record, ports.now()) {
        forever if forever < 0 => -1,
        seconds => seconds + 3,
    };
    let wish = Wish { insert: true, own: true, expires: wanted, redirects: 0, ..request.wish };
    let fresh = from_the_start(request, record).wishing(wish);
    match pace(ports.restarts(&fresh)) {
        0 => Next::Now(fresh),
        seconds => Next::After { seconds, request: fresh, stored: false },
    }
}

/// Seconds before a subscription is begun anew that was begun anew so often lately: the first time at once.
fn pace(restarts: u32) -> i64 {
    restarts.checked_sub(1).map_or(0, backoff)
}

/// How long the owner still wants it; below 0: for ever.
fn left(request: &Request, record: &Record, now: i64) -> i64 {
    match record.numbers.desired_until {
        _ if request.wish.expires <= 0 => request.wish.expires,
        0 => -1,
        until => (until - now).max(1),
    }
}

/// The server has granted it until `until`.
fn confirm<P: Ports>(ports: &mut P, landed: &Flight, answer: &Answer, until: i64) -> Result<(), Refusal> {
    let (request, record) = (&landed.request, &landed.record);
    let within = !record.is_temporary();
    if !within && answer.to_tag.is_empty() {
        remove_dialog(ports, record)?;
        return Err(Refusal::BadBody("no To tag in it".into()));
    }
    // A NOTIFY may have ended it before this answer came.
    let Some(stored) = ports.find_dialog(&record.dialog())? else { return Ok(()) };
    let mut changes: Vec<(Field, &[u8])> = Vec::new();
    // A NOTIFY that came first made the dialog. When the request was forked, the answer may be another branch's: only one
    // dialog is kept (RFC 3856 6.9), and its tag and target are those of one and the same branch.
    let of_dialog = stored.is_temporary() || stored.get(Field::ToTag) == answer.to_tag;
    if of_dialog && !answer.contact.is_empty() {
        changes.push((Field::RemoteContact, &answer.contact));
    } else if stored.get(Field::RemoteContact).is_empty() {
        remove_dialog(ports, record)?;
        return Err(Refusal::BadBody("no Contact in it".into()));
    }
    if stored.is_temporary() {
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
#[derive(Debug, Clone, Copy, Default)]
pub struct Notified<'a> {
    /// Its Contact.
    pub contact: &'a [u8],
    /// Its Record-Route headers as the route set of the one who gets it.
    pub route_set: &'a [u8],
    /// What its Subscription-State says.
    pub state: State<'a>,
}

/// A Subscription-State header (RFC 6665 8.2.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State<'a> {
    /// It is over.
    pub terminated: bool,
    /// Why, as `reason` says; empty when it does not.
    pub reason: &'a [u8],
    /// When to come back, in seconds.
    pub retry_after: Option<i64>,
    /// How long it still lasts, in seconds.
    pub expires: Option<i64>,
}

impl State<'_> {
    /// Reads the header's body: names and values are compared without case, and blanks may stand around `;` and `=`.
    pub fn read(header: &[u8]) -> State<'_> {
        let mut parts = header.split(|c| *c == b';').map(<[u8]>::trim_ascii);
        let word = parts.next().unwrap_or_default();
        let mut state = State { terminated: word.eq_ignore_ascii_case(b"terminated"), ..State::default() };
        for part in parts {
            let at = part.iter().position(|c| *c == b'=').unwrap_or(part.len());
            let (name, value) = (part[..at].trim_ascii(), part.get(at + 1..).unwrap_or_default().trim_ascii());
            let seconds = || crate::sip::text::leading_number(value);
            if name.eq_ignore_ascii_case(b"reason") {
                state.reason = value;
            } else if name.eq_ignore_ascii_case(b"retry-after") {
                state.retry_after = seconds();
            } else if name.eq_ignore_ascii_case(b"expires") {
                state.expires = seconds();
            }
        }
        state
    }

    /// Seconds until the subscription may be begun anew after `restarts` of late (RFC 6665 4.1.3); `None`: never.
    fn comes_back(&self, restarts: impl FnOnce() -> u32) -> Option<i64> {
        let is = |known: &[&str]| known.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(self.reason));
        if is(&["rejected", "noresource", "invariant"]) {
            return None;
        }
        let least = match self.retry_after {
            Some(seconds) => seconds.clamp(0, LONGEST_PUT_OFF),
            None if is(&["probation", "giveup"]) => PROBATION,
            None => 0,
        };
        Some(least.max(pace(restarts())))
    }
}

/// A NOTIFY came in: its Contact is the target from now on. `false`: it belongs to no dialog of ours.
pub fn notified<P: Ports>(ports: &mut P, dialog: &Dialog<'_>, said: &Notified<'_>) -> Result<bool, Refusal> {
    let Some(stored) = ports.find_dialog(dialog)? else { return Ok(false) };
    if said.state.terminated {
        ports.remove(&stored)?;
        begin_anew(ports, &stored, &said.state)?;
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
    let mut next = stored.with(&changes);
    if let Some(seconds) = said.state.expires {
        // The notifier has the last word on a shorter life (RFC 6665 4.2.1.2); what is longer is refreshed earlier.
        let until = ports.now() + seconds.clamp(0, LONGEST_GRANT);
        if stored.is_temporary() || until < stored.numbers.expires_at {
            next.numbers.expires_at = until;
        }
    }
    if next != stored {
        ports.replace(&stored, &next)?;
    }
    Ok(true)
}

/// The server has ended a subscription that its owner still wants.
fn begin_anew<P: Ports>(ports: &mut P, record: &Record, state: &State<'_>) -> Result<(), Refusal> {
    let request = request_of(record, 0, true);
    let Some(seconds) = state.comes_back(|| ports.restarts(&request)) else { return Ok(()) };
    let expires = match record.numbers.desired_until {
        0 => -1,
        until => until - ports.now(),
    };
    // What is nearly over is not begun again.
    if expires >= 0 && expires < seconds + NEARLY_OVER || expires < -1 {
        return Ok(());
    }
    let request = request_of(record, expires, true);
    if let Some(flight) = ports.later(&request, seconds)? {
        queue::launch_then_go_on(ports, flight, &request, None);
    }
    Ok(())
}

/// What its owner wants for less than this many seconds is not begun again.
const NEARLY_OVER: i64 = 10;

/// The request that renews a subscription: in its dialog, or in a new one.
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
            (Part::CallId, if insert { b"" } else { record.get(Field::CallId) }),
            (Part::OutboundProxy, record.get(Field::OutboundProxy)),
            (Part::ExtraHeaders, record.get(Field::ExtraHeaders)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscription_state_is_read_without_case_and_with_blanks() {
        let read = |text: &'static str| State::read(text.as_bytes());
        let over = State { terminated: true, ..State::default() };
        assert_eq!(read("active;expires=60"), State { expires: Some(60), ..State::default() });
        assert_eq!(read("terminated"), over);
        for text in ["terminated;reason=rejected", "Terminated ; Reason = rejected", " TERMINATED;x;REASON= rejected "]
        {
            assert_eq!(read(text), State { reason: b"rejected", ..over }, "{text}");
        }
        let later = State { reason: b"giveup", retry_after: Some(60), ..over };
        assert_eq!(read("terminated;reason=giveup;retry-after=60"), later);
        assert_eq!(read("terminated;retry-after=99999999999999999999"), State { retry_after: Some(i64::MAX), ..over });
    }

    #[test]
    fn reasons_say_whether_and_when_to_come_back() {
        let comes_back = |text: &str, restarts| State::read(text.as_bytes()).comes_back(|| restarts);
        for (text, first, fourth) in [
            ("terminated", Some(0), Some(8)),
            ("terminated;reason=deactivated", Some(0), Some(8)),
            ("terminated;reason=TimeOut", Some(0), Some(8)),
            ("terminated;reason=somethingnew", Some(0), Some(8)),
            ("terminated;retry-after=60", Some(60), Some(60)),
            ("terminated;reason=probation", Some(10), Some(10)),
            ("terminated;reason=giveup;retry-after=5", Some(5), Some(8)),
            ("terminated;reason=probation;retry-after=9223372036854775807", Some(86_400), Some(86_400)),
            ("terminated;reason=rejected", None, None),
            ("terminated;reason=noresource;retry-after=5", None, None),
            ("terminated; Reason = Invariant", None, None),
        ] {
            assert_eq!((comes_back(text, 0), comes_back(text, 3)), (first, fourth), "{text}");
        }
    }
}
