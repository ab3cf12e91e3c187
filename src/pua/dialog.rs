//! What becomes of a subscription's dialog: answers to SUBSCRIBE, NOTIFYs, and new beginnings (RFC 6665 4.4.1).
use super::error::RequestError;
use super::headers;
use super::next_step::{Next, show};
use super::pending_request::{AtServer, Claim, PendingRequest, PendingRequestId, RequestOutcome};
use super::ports::AgentPorts;
use super::ports::stored_records::StoredRecords;
use super::ports::user_agent::UserAgent;
use super::publish::MOST_REDIRECTS;
use super::queue;
use super::record::{Dialog, Record, RecordChange, RecordField};
use super::request::{Request, RequestField, RequestOptions, RequestOrigin, RequestedExpires, Start};
use super::response::{FinalResponse, LONGEST_GRANT, LONGEST_PUT_OFF, ResponseMeaning, backoff};
use super::subscriber::{find, remove_dialog};
use crate::sip::subscription_state::SubscriptionStateHeader;
use crate::time::{Moment, Seconds};

/// When a request of a caller is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In any case.
    Always,
    /// Only when there is no subscription yet.
    IfNew,
}

/// Subscribes, refreshes or unsubscribes.
///
/// # Errors
///
/// Fails when no event has the flag, a string cannot be sent, too many requests wait for the subscription, the request
/// cannot be sent, or a store fails.
pub fn submit<P: AgentPorts>(ports: &mut P, request: &Request, when: When) -> Result<(), RequestError> {
    if when == When::IfNew && find(ports, request)?.is_some() {
        if let Some(claim) = Claim::of(request) {
            ports.report(&[claim], &PendingRequest::unsent(request), RequestOutcome::Silence);
        }
        return Ok(());
    }
    queue::submit(ports, request)
}

/// A SUBSCRIBE was answered, or was not.
pub fn answered<P: AgentPorts>(ports: &mut P, pending: PendingRequestId, answer: &FinalResponse) {
    if let Some(sent) = ports.take_sent(pending) {
        settled_by(ports, pending, &sent, answer);
    }
}

/// Carries out what an answer says of the request that was sent.
pub fn settled_by<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    sent: &PendingRequest,
    answer: &FinalResponse,
) {
    let (authorized, verdict) = headers::read_answer(ports, sent, answer);
    let stated;
    let answer = if verdict == ResponseMeaning::Done && answer.expires.is_none() {
        // No server may grant more than was asked for (RFC 6665 4.2.1.1); its NOTIFYs say if it is less.
        let expires = Some(headers::subscription_interval(ports.config(), &sent.request));
        stated = FinalResponse { expires, ..answer.clone() };
        &stated
    } else {
        answer
    };
    let mut undone = None;
    let next = match authorized {
        Some(request) => afresh(ports, sent, &mut undone, request),
        None => settle(ports, sent, answer, verdict, &mut undone),
    };
    ports.settled(pending, undone.as_ref(), next.at_once());
    if !matches!(next, Next::Quietly(_)) {
        queue::report(ports, pending, sent, RequestOutcome::Answered);
    }
    match undone {
        None => queue::follow(ports, pending, next, None),
        Some(change) => queue::store_then_follow(ports, pending, &change, next),
    }
}

/// What a granting answer makes of the record when the store cannot be asked what is in it.
pub(crate) fn unread(now: Moment, sent: &PendingRequest, answer: &FinalResponse) -> RecordChange {
    let record = &sent.record;
    let expires = answer.granted().unwrap_or_default();
    if expires == Seconds::ZERO {
        return RecordChange { before: Some(record.clone()), after: None };
    }
    let mut changes: Vec<(RecordField, &[u8])> = Vec::new();
    if !answer.contact.is_empty() {
        changes.push((RecordField::RemoteContact, &answer.contact));
    } else if record.get(RecordField::RemoteContact).is_empty() {
        changes.push((RecordField::RemoteContact, sent.request.first_target()));
    }
    if record.is_temporary() {
        changes.push((RecordField::ToTag, &answer.to_tag));
        changes.push((RecordField::RecordRoute, &answer.route_set));
    }
    let mut after = record.with(&changes);
    after.state.expires_at = now + expires;
    RecordChange { before: Some(record.clone()), after: Some(after) }
}

/// Changes the record as the answer says, and says what is sent next. `undone` is what could not be stored.
pub(crate) fn settle<P: AgentPorts>(
    ports: &mut P,
    sent: &PendingRequest,
    answer: &FinalResponse,
    verdict: ResponseMeaning,
    undone: &mut Option<RecordChange>,
) -> Next {
    let (request, record) = (&sent.request, &sent.record);
    let within = !record.is_temporary();
    let now = ports.now();
    let options = &request.options;
    match verdict {
        ResponseMeaning::Done => {
            let done = match answer.granted() {
                Some(expires) if expires > Seconds::ZERO => confirm(ports, sent, answer, now + expires),
                _ => remove_dialog(ports, record).map(|_| ()),
            };
            if let Err(why) = done {
                ports.warn(&format!("answer {} to SUBSCRIBE for {}: {why}", answer.status.counts_as(), show(request)));
                *undone = matches!(why, RequestError::Store(_)).then(|| unread(now, sent, answer));
            }
            Next::Nothing
        }
        ResponseMeaning::TooBrief(minimum) if options.server_minimum.is_none() && !options.expires.is_end() => afresh(
            ports,
            sent,
            undone,
            request.with_options(RequestOptions { server_minimum: Some(minimum), ..*options }),
        ),
        ResponseMeaning::Elsewhere if !within && options.redirects < MOST_REDIRECTS => {
            let options = RequestOptions { redirects: options.redirects + 1, ..*options };
            let there = [(RequestField::RemoteTarget, answer.contact.as_slice())];
            afresh(ports, sent, undone, request.with(&there).with_options(options))
        }
        ResponseMeaning::Later(wait) => put_off(ports, sent, wait, undone),
        _ => given_up(ports, sent, undone),
    }
}

/// The same once more, and the caller gets its answer: in the dialog there is, or in a new one.
pub(crate) fn afresh<P: UserAgent + StoredRecords>(
    ports: &mut P,
    sent: &PendingRequest,
    undone: &mut Option<RecordChange>,
    request: Request,
) -> Next {
    if !sent.record.is_temporary() {
        return Next::Quietly(pinned(&request, &sent.record));
    }
    discard(ports, &sent.record, undone);
    Next::Quietly(request)
}

/// A request for exactly the dialog of this record, wherever its target has moved meanwhile.
pub(crate) fn pinned(request: &Request, record: &Record) -> Request {
    let options = RequestOptions { start: Start::AsFound, ..request.options };
    request
        .with(&[(RequestField::CallId, record.get(RecordField::CallId)), (RequestField::RemoteTarget, b"")])
        .with_options(options)
}

/// The server cannot now: another try after a while, as long as somebody wants it.
pub(crate) fn put_off<P: UserAgent + StoredRecords>(
    ports: &mut P,
    sent: &PendingRequest,
    wait: Seconds,
    undone: &mut Option<RecordChange>,
) -> Next {
    let (request, record) = (&sent.request, &sent.record);
    let now = ports.now();
    let own = |start| RequestOptions {
        origin: RequestOrigin::Agent,
        start,
        redirects: 0,
        challenges: 0,
        expires: left(request, record, now),
        ..request.options
    };
    if !record.is_temporary() && record.state.expires_at > now {
        // RFC 6665 4.1.2.2: the subscription goes on as long as the last answer said.
        let again = pinned(&request.with_options(own(Start::AsFound)), record);
        return Next::After { wait, request: again, server: AtServer::Something };
    }
    let was_there = discard(ports, record, undone);
    let unwanted = request.options.expires.is_end() || !record.state.desired_until.is_after(now + wait);
    if unwanted || !record.is_temporary() && !was_there {
        return Next::Nothing;
    }
    let again = from_the_start(request, record).with_options(own(Start::Anew));
    Next::After { wait, request: again, server: AtServer::Nothing }
}

/// The request as the first of a new dialog.
pub(crate) fn from_the_start(request: &Request, record: &Record) -> Request {
    let proxy = (RequestField::OutboundProxy, record.get(RecordField::OutboundProxy));
    // A caller's target is where it wanted the first request to go; that of a dialog or a redirect is not.
    let of_caller = !request.options.is_own() && request.options.redirects == 0 && record.is_temporary();
    let target = (RequestField::RemoteTarget, if of_caller { request.get(RequestField::RemoteTarget) } else { b"" });
    request.with(&[proxy, target, (RequestField::CallId, b"")])
}

/// The server will not have it. A dialog that it forgot is replaced by a new one, unless a NOTIFY has ended it
/// meanwhile.
pub(crate) fn given_up<P: AgentPorts>(ports: &mut P, sent: &PendingRequest, undone: &mut Option<RecordChange>) -> Next {
    let (request, record) = (&sent.request, &sent.record);
    let was_there = discard(ports, record, undone);
    if record.is_temporary() || request.options.expires.is_end() || !was_there {
        return Next::Nothing;
    }
    let wanted = match left(request, record, ports.now()) {
        RequestedExpires::For(time) => RequestedExpires::For(time + Seconds(3)),
        other => other,
    };
    let options = RequestOptions {
        start: Start::Anew,
        origin: RequestOrigin::Agent,
        expires: wanted,
        redirects: 0,
        challenges: 0,
        ..request.options
    };
    let fresh = from_the_start(request, record).with_options(options);
    match pace(ports.restarts(&fresh)) {
        Seconds::ZERO => Next::Now(fresh),
        wait => Next::After { wait, request: fresh, server: AtServer::Nothing },
    }
}

/// The wait before a subscription is begun anew that was begun anew `restarts` times lately: none the first time.
pub(crate) fn pace(restarts: u32) -> Seconds {
    restarts.checked_sub(1).map_or(Seconds::ZERO, backoff)
}

/// How long the owner still wants it.
pub(crate) fn left(request: &Request, record: &Record, now: Moment) -> RequestedExpires {
    match request.options.expires {
        RequestedExpires::For(_) => RequestedExpires::until(record.state.desired_until, now, Seconds(1)),
        other => other,
    }
}

/// The server has granted it until `until`.
///
/// # Errors
///
/// Fails when the answer has no To tag, or when the record cannot be read or written.
pub(crate) fn confirm<P: UserAgent + StoredRecords>(
    ports: &mut P,
    sent: &PendingRequest,
    answer: &FinalResponse,
    until: Moment,
) -> Result<(), RequestError> {
    let (request, record) = (&sent.request, &sent.record);
    let within = !record.is_temporary();
    if !within && answer.to_tag.is_empty() {
        remove_dialog(ports, record)?;
        return Err(RequestError::BadBody("no To tag in it".into()));
    }
    // A NOTIFY may have ended it before this answer came.
    let Some(stored) = ports.find_dialog(&record.dialog())? else { return Ok(()) };
    let mut changes: Vec<(RecordField, &[u8])> = Vec::new();
    // A NOTIFY that came first made the dialog. When the request was forked, the answer may be another branch's: only
    // one dialog is kept (RFC 3856 6.9), and its tag and target are those of one and the same branch.
    let of_dialog = stored.is_temporary() || stored.get(RecordField::ToTag) == answer.to_tag;
    if of_dialog && !answer.contact.is_empty() {
        changes.push((RecordField::RemoteContact, &answer.contact));
    } else if stored.get(RecordField::RemoteContact).is_empty() {
        // Until a NOTIFY names a Contact, the dialog is found where it was begun.
        changes.push((RecordField::RemoteContact, request.first_target()));
    }
    if stored.is_temporary() {
        changes.push((RecordField::ToTag, &answer.to_tag));
        changes.push((RecordField::RecordRoute, &answer.route_set));
    }
    let mut next = stored.with(&changes);
    next.state.expires_at = until;
    next.state.desired_until = request.desired_until(ports.now());
    next.state.cseq = record.state.cseq;
    ports.replace(&stored, &next).map(|_| ())
}

/// What a NOTIFY says about its dialog.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceivedNotify<'a> {
    /// The Contact of the NOTIFY.
    pub contact: &'a [u8],
    /// The Record-Route headers of the NOTIFY, as the route set of the one who gets it.
    pub route_set: &'a [u8],
    /// What its Subscription-State says.
    pub state: SubscriptionStateHeader<'a>,
}

/// The time until the subscription may be begun anew after `restarts` of late (RFC 6665 4.1.3); `None`: never.
pub(crate) fn comes_back(state: &SubscriptionStateHeader<'_>, restarts: impl FnOnce() -> u32) -> Option<Seconds> {
    let is = |known: &[&str]| known.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(state.reason));
    if is(&["rejected", "noresource", "invariant"]) {
        return None;
    }
    let least = match state.retry_after {
        Some(wait) => wait.clamp(Seconds::ZERO, LONGEST_PUT_OFF),
        None if is(&["probation", "giveup"]) => PROBATION,
        None => Seconds::ZERO,
    };
    Some(least.max(pace(restarts())))
}

/// A NOTIFY came in: its Contact is the target from now on. `false`: it belongs to no dialog of ours.
///
/// # Errors
///
/// Fails when a store fails, and when the SUBSCRIBE that begins the subscription anew cannot be sent.
pub fn notified<P: AgentPorts>(
    ports: &mut P,
    dialog: &Dialog<'_>,
    said: &ReceivedNotify<'_>,
) -> Result<bool, RequestError> {
    let Some(stored) = ports.find_dialog(dialog)? else { return Ok(false) };
    if said.state.terminated {
        ports.remove(&stored)?;
        begin_anew(ports, &stored, &said.state)?;
        return Ok(true);
    }
    let mut changes: Vec<(RecordField, &[u8])> = Vec::new();
    if !said.contact.is_empty() {
        changes.push((RecordField::RemoteContact, said.contact));
    }
    if stored.is_temporary() {
        // The NOTIFY came first: it makes the dialog (RFC 6665 4.4.1).
        changes.push((RecordField::ToTag, dialog.to_tag));
        changes.push((RecordField::RecordRoute, said.route_set));
    }
    let mut next = stored.with(&changes);
    if let Some(left) = said.state.expires {
        // The notifier has the last word on a shorter life (RFC 6665 4.2.1.2); what is longer is refreshed earlier.
        let until = ports.now() + left.clamp(Seconds::ZERO, LONGEST_GRANT);
        if stored.is_temporary() || until < stored.state.expires_at {
            next.state.expires_at = until;
        }
    }
    if next != stored {
        ports.replace(&stored, &next)?;
    }
    Ok(true)
}

/// The server has ended a subscription that its owner still wants.
///
/// # Errors
///
/// Fails when the request cannot be admitted, prepared or sent.
pub(crate) fn begin_anew<P: AgentPorts>(
    ports: &mut P,
    record: &Record,
    state: &SubscriptionStateHeader<'_>,
) -> Result<(), RequestError> {
    let request = request_of(record, RequestedExpires::End, Start::Anew);
    let Some(wait) = comes_back(state, || ports.restarts(&request)) else { return Ok(()) };
    let (desired, now) = (record.state.desired_until, ports.now());
    // What is about to expire is not begun again.
    if desired.is_before(now + wait + NEARLY_OVER) {
        return Ok(());
    }
    let expires = RequestedExpires::until(desired, now, Seconds(1));
    let request = request_of(record, expires, Start::Anew);
    if let Some(pending) = ports.later(&request, wait)? {
        queue::launch_then_go_on(ports, pending, &request, None);
    }
    Ok(())
}

/// What its owner wants for less than this time is not begun again.
pub(crate) const NEARLY_OVER: Seconds = Seconds(10);

/// The request that renews a subscription: in its dialog, or in a new one.
pub fn request_of(record: &Record, expires: RequestedExpires, start: Start) -> Request {
    let options = RequestOptions {
        event: record.state.event,
        flag: record.state.flag,
        expires,
        start,
        origin: RequestOrigin::Agent,
        ..RequestOptions::default()
    };
    Request::new(
        options,
        &[
            (RequestField::PresUri, record.get(RecordField::PresUri)),
            (RequestField::WatcherUri, record.get(RecordField::WatcherUri)),
            (RequestField::Id, record.get(RecordField::Id)),
            (RequestField::Contact, record.get(RecordField::Contact)),
            (RequestField::CallId, if start == Start::Anew { b"" } else { record.get(RecordField::CallId) }),
            (RequestField::OutboundProxy, record.get(RecordField::OutboundProxy)),
            (RequestField::ExtraHeaders, record.get(RecordField::ExtraHeaders)),
        ],
    )
}

/// Removes the dialog of a record, now or as soon as the store is there again; `false`: it was not there any more.
pub(crate) fn discard<P: UserAgent + StoredRecords>(
    ports: &mut P,
    record: &Record,
    undone: &mut Option<RecordChange>,
) -> bool {
    remove_dialog(ports, record).unwrap_or_else(|why| {
        ports.warn(&format!("a dialog cannot be removed yet: {why}"));
        *undone = Some(RecordChange { before: Some(record.clone()), after: None });
        true
    })
}

/// How long a server that gives up, or puts us on probation without saying when to come back, is left alone.
pub(crate) const PROBATION: Seconds = Seconds(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_say_whether_and_when_to_come_back() {
        let comes_back =
            |text: &str, restarts| comes_back(&SubscriptionStateHeader::read(text.as_bytes()), || restarts);
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
            let expected = (first.map(Seconds), fourth.map(Seconds));
            assert_eq!((comes_back(text, 0), comes_back(text, 3)), expected, "{text}");
        }
    }
}
