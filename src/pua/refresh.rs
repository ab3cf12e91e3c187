//! Keeps publications and subscriptions alive as long as their owners want them, and forgets the others.
use super::dialog::When;
use super::error::RequestError;
use super::pending_request::{DueRequest, PendingRequestId};
use super::ports::AgentPorts;
use super::ports::user_agent::UserAgent;
use super::ports::work_in_hand::WorkInHand;
use super::queue::{self, resume};
use super::record::{Record, RecordChange, RecordField};
use super::request::{Request, RequestField, RequestOptions, RequestOrigin, RequestedExpires, Start};
use super::response::{FinalResponse, backoff};
use super::{dialog, publication};
use crate::sip::entity_tag::EntityTag;
use crate::time::{Moment, Seconds};

/// How long a record is kept after its end: an answer may still be under way.
const GRACE: Seconds = Seconds(10);

/// Goes on with every pending request whose time has come.
pub fn retry<P: AgentPorts>(ports: &mut P) {
    for due in ports.timed_out() {
        each_on_its_own(ports, "a request is tried again", |ports| {
            ports.take(due.pending());
            match due {
                DueRequest::Send(pending, request) => queue::launch_then_go_on(ports, pending, &request, None),
                DueRequest::Store(pending, change) => store_again(ports, pending, &change),
                DueRequest::Lost(pending) => lost(ports, pending),
                DueRequest::GivenUp(pending, request) => {
                    queue::fail(ports, pending, &request);
                    resume(ports, pending, None);
                }
            }
        });
    }
}

/// One of many: a panic in it does not hold up the others.
fn each_on_its_own<P: WorkInHand>(ports: &mut P, what: &str, work: impl FnOnce(&mut P)) {
    // What `work` has changed half is left to what is tried again.
    if let Err(why) = crate::caught::caught(|| work(&mut *ports)) {
        ports.broken_off(what, &why);
    }
}

/// What an answer granted is stored as soon as the store is there again, before anything newer is sent.
fn store_again<P: AgentPorts>(ports: &mut P, pending: PendingRequestId, change: &RecordChange) {
    let ended = change.after.as_ref().is_some_and(|record| record.state.expires_at < ports.now());
    if !ended {
        if let Err(why) = queue::apply(ports, change) {
            let wait = backoff(ports.attempts(pending));
            ports.warn(&format!("what was granted cannot be stored: {why}; tried again in {} s", wait.0));
            return ports.postpone(pending, wait, change);
        }
    }
    let tag = change
        .after
        .as_ref()
        .map_or(EntityTag::new(b"".as_slice()), |record| EntityTag::new(record.get(RecordField::Etag)));
    queue::resume(ports, pending, Some(tag));
}

/// Refreshes or removes what ends soon. One that fails does not hold up the others.
///
/// # Errors
///
/// Fails when the records cannot be read.
pub fn sweep<P: AgentPorts>(ports: &mut P) -> Result<(), RequestError> {
    let now = ports.now();
    let period = ports.config().update_period.unwrap_or_default();
    for record in ports.ending(now + period)? {
        each_on_its_own(ports, "what ends soon is refreshed", |ports| {
            let done = match (wants_more(&record, ports.config().min_expires), record.state.expires_at < now - GRACE) {
                (true, _) => refresh(ports, &record, now),
                (false, true) => ports.remove(&record),
                (false, false) => Ok(()),
            };
            warn(ports, record.get(RecordField::PresUri), done);
        });
    }
    Ok(())
}

fn warn<P: UserAgent>(ports: &P, uri: &[u8], done: Result<(), RequestError>) {
    if let Err(why) = done {
        ports.warn(&format!("cannot refresh what is kept for {}: {why}", String::from_utf8_lossy(uri)));
    }
}

/// Whether the owner wants it for longer than the server has granted.
fn wants_more(record: &Record, min_expires: Seconds) -> bool {
    let state = &record.state;
    state.desired_until.is_after(state.expires_at + min_expires)
}

fn refresh<P: AgentPorts>(ports: &mut P, record: &Record, now: Moment) -> Result<(), RequestError> {
    let expires = RequestedExpires::until(record.state.desired_until, now, Seconds(1));
    if record.is_subscription() {
        return dialog::submit(ports, &dialog::request_of(record, expires, Start::AsFound), When::Always);
    }
    let options = RequestOptions {
        event: record.state.event,
        flag: record.state.flag,
        expires,
        origin: RequestOrigin::Agent,
        ..RequestOptions::default()
    };
    let request = Request::new(
        options,
        &[
            (RequestField::PresUri, record.get(RecordField::PresUri)),
            (RequestField::Id, record.get(RecordField::Id)),
            (RequestField::Etag, record.get(RecordField::Etag)),
            (RequestField::OutboundProxy, record.get(RecordField::OutboundProxy)),
            (RequestField::ExtraHeaders, record.get(RecordField::ExtraHeaders)),
        ],
    );
    queue::submit(ports, &request)
}

/// No answer will come to what was sent: that is taken for silence.
pub fn lost<P: AgentPorts>(ports: &mut P, pending: PendingRequestId) {
    let silence = FinalResponse::silence();
    match ports.take_sent(pending) {
        Some(sent) => match sent.request.is_subscription() {
            true => dialog::settled_by(ports, pending, &sent, &silence),
            false => publication::settled_by(ports, pending, &sent, &silence),
        },
        None => resume(ports, pending, None),
    }
}
