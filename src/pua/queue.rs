//! One request at a time for each publication or subscription: what goes next, what waits, and who is answered when
//! nothing goes.
use super::error::RequestError;
use super::next_step::{Launched, Next, caller_decides, show};
use super::pending_request::{
    Admission, AtServer, Claim, PendingRequest, PendingRequestId, RequestCheck, RequestOutcome,
};
use super::ports::AgentPorts;
use super::ports::callers::Callers;
use super::ports::stored_records::StoredRecords;
use super::record::RecordChange;
use super::request::{RemoteTarget, Request, RequestField, RequestOptions, Start};
use super::response::backoff;
use super::{publish, subscriber};
use crate::sip::entity_tag::EntityTag;
use crate::time::Seconds;

/// A view of the entity tag that a publication has now; empty: it is gone.
type TagView<'a> = EntityTag<&'a [u8]>;

/// Takes a request from a caller.
///
/// # Errors
///
/// Fails when no event has the flag, a string cannot be sent, the entity tag is of no publication, the body cannot be
/// published, too many requests wait, the request cannot be sent, or a store fails.
pub fn submit<P: AgentPorts>(ports: &mut P, request: &Request) -> Result<(), RequestError> {
    let event = ports.event(request.options.event).ok_or(RequestError::UnknownEvent(request.options.event))?;
    request.check()?;
    let departure = match ports.admit(request, RequestCheck::Pending)? {
        Admission::Busy { known } => {
            // What can never go is refused before it takes the place of what waits.
            if !request.options.expires.is_end() && request.body().is_some() {
                ports.process(&event, request, request.options.version_floor, b"")?;
            }
            let names_another = !known && request.etag().is_some();
            if names_another && ports.find(&request.search(RemoteTarget::Any))?.is_none() {
                return Err(RequestError::UnknownEtag);
            }
            ports.admit(request, RequestCheck::Passed)?
        }
        other => other,
    };
    match departure {
        Admission::Go(pending) => launch_for_caller(ports, pending, request),
        Admission::Busy { .. } | Admission::Queued | Admission::Covered => Ok(()),
    }
}

fn prepare_and_send<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    request: &Request,
) -> Result<Launched, RequestError> {
    match request.is_subscription() {
        true => subscriber::prepare_and_send(ports, pending, request),
        false => publish::prepare_and_send(ports, pending, request),
    }
}

/// Sends a request whose caller is still there: what goes wrong is returned, and is not reported besides.
fn launch_for_caller<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    request: &Request,
) -> Result<(), RequestError> {
    let why = match prepare_and_send(ports, pending, request) {
        Ok(Launched::UnderWay) => return Ok(()),
        Ok(Launched::Nothing) => None,
        Err(why) => Some(why),
    };
    if let Some(why) = &why {
        if may_work_later(why, request) {
            ports.warn(&format!("{} for {} waits: {why}", request.kind().method(), show(request)));
            hold(ports, pending, backoff(0), request, AtServer::Something);
            return Ok(());
        }
        // Callers of SUBSCRIBE go on with their work when a target cannot be reached.
        if *why == RequestError::NotSent && request.is_subscription() {
            ports.warn(&format!("SUBSCRIBE to {} could not be sent", show(request)));
            fail(ports, pending, request);
            resume(ports, pending, None);
            return Ok(());
        }
        if Claim::of(request).is_some() {
            ports.withdraw(pending);
        }
    }
    fail(ports, pending, request);
    resume(ports, pending, None);
    why.map_or(Ok(()), Err)
}

/// A store that is away comes back, and a target of our own refreshes may; nobody else is kept waiting.
fn may_work_later(why: &RequestError, request: &Request) -> bool {
    match why {
        RequestError::Store(_) => !caller_decides(request),
        RequestError::NotSent => request.options.is_own(),
        _ => false,
    }
}

/// Sends a request whose caller has gone on; `false` when nothing is under way now and the pending request is free.
pub fn send_request<P: AgentPorts>(ports: &mut P, pending: PendingRequestId, request: &Request) -> bool {
    match prepare_and_send(ports, pending, request) {
        Ok(Launched::UnderWay) => return true,
        Ok(Launched::Nothing) => {}
        Err(why) => {
            ports.warn(&format!("{} for {}: {why}", request.kind().method(), show(request)));
            if may_work_later(&why, request) {
                let wait = backoff(ports.attempts(pending));
                return ports.wait(pending, wait, request, AtServer::Something) || {
                    fail(ports, pending, request);
                    false
                };
            }
        }
    }
    fail(ports, pending, request);
    false
}

/// Sends what was kept while a pending request was busy, or ends the pending request. `tag` is the entity tag the
/// publication has now, when that is known: empty when it is gone.
pub fn resume<P: AgentPorts>(ports: &mut P, pending: PendingRequestId, tag: Option<TagView<'_>>) {
    while let Some(mut next) = ports.end(pending) {
        if let (true, Some(tag)) = (next.options.follows, tag) {
            next = following(&next, tag);
        }
        if send_request(ports, pending, &next) {
            return;
        }
    }
}

/// Sends `request` on a pending request, then whatever waits behind it.
pub fn launch_then_go_on<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    request: &Request,
    tag: Option<TagView<'_>>,
) {
    if !send_request(ports, pending, request) {
        resume(ports, pending, tag);
    }
}

/// A request that named the entity tag of the one before it, now that this has another tag, or is gone.
fn following(request: &Request, tag: TagView<'_>) -> Request {
    let options = RequestOptions {
        follows: false,
        start: if tag.is_empty() { Start::Anew } else { request.options.start },
        ..request.options
    };
    request.with(&[(RequestField::Etag, tag.bytes())]).with_options(options)
}

/// Gives a request up: those who wait for it are answered as if by silence.
pub fn fail<P: Callers>(ports: &mut P, pending: PendingRequestId, request: &Request) {
    let claims = ports.claims(pending);
    if !claims.is_empty() {
        ports.report(&claims, &PendingRequest::unsent(request), RequestOutcome::Silence);
    }
}

/// Answers those who wait for what was sent.
pub fn report<P: Callers>(ports: &mut P, pending: PendingRequestId, sent: &PendingRequest, outcome: RequestOutcome) {
    let claims = ports.claims(pending);
    if !claims.is_empty() {
        ports.report(&claims, sent, outcome);
    }
}

/// Lets a request wait for another try; without memory nothing will come of it.
fn hold<P: AgentPorts>(ports: &mut P, pending: PendingRequestId, wait: Seconds, request: &Request, server: AtServer) {
    if !ports.wait(pending, wait, request, server) {
        fail(ports, pending, request);
        resume(ports, pending, None);
    }
}

/// Does what follows from an answer, then what waits.
pub fn follow<P: AgentPorts>(ports: &mut P, pending: PendingRequestId, next: Next, tag: Option<TagView<'_>>) {
    match next {
        Next::Nothing => resume(ports, pending, tag),
        Next::Now(request) | Next::Quietly(request) => launch_then_go_on(ports, pending, &request, tag),
        Next::After { wait, request, server } => hold(ports, pending, wait, &request, server),
    }
}

/// What an answer says could not be stored: that is tried first, then what follows from the answer.
pub fn store_then_follow<P: AgentPorts>(ports: &mut P, pending: PendingRequestId, change: &RecordChange, next: Next) {
    let (wait, request) = match next {
        Next::Nothing => (Seconds::ZERO, None),
        Next::Now(request) | Next::Quietly(request) => (Seconds::ZERO, Some(request)),
        Next::After { wait, request, .. } => (wait, Some(request)),
    };
    if let Some(request) = request {
        if !ports.wait(pending, wait, &request, AtServer::Something) {
            fail(ports, pending, &request);
        }
    }
    ports.postpone(pending, wait.max(backoff(0)), change);
}

/// Carries out a change; what was to be replaced and is gone is stored anew.
///
/// # Errors
///
/// Fails when a store fails.
pub fn apply<P: StoredRecords>(ports: &mut P, change: &RecordChange) -> Result<(), RequestError> {
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
    fresh.state.serial = 0;
    fresh.state.row_state = super::record::RecordRowState::Insert;
    fresh
}
