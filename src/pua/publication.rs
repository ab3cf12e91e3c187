//! What becomes of a publication: answers to PUBLISH, and repairs (RFC 3903 4.1).
use super::dialog;
use super::headers;
use super::next_step::{Next, caller_decides, show};
use super::pending_request::{AtServer, PendingRequest, PendingRequestId, RequestOutcome};
use super::ports::AgentPorts;
use super::ports::user_agent::UserAgent;
use super::publish::MOST_REDIRECTS;
use super::queue;
use super::record::{RecordChange, RecordField};
use super::request::{Request, RequestField, RequestOptions, RequestOrigin, RequestedExpires, Start};
use super::response::{FinalResponse, ResponseMeaning, ResponseStatus};
use crate::sip::entity_tag::EntityTag;
use crate::time::{Moment, Seconds};

/// A PUBLISH was answered, or was not.
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
    // An answer that grants without a tag or an interval is reported as if none had come.
    let misses = verdict == ResponseMeaning::Done && (answer.etag.is_none() || answer.expires.is_none());
    if misses {
        ports.warn(&format!(
            "answer {} to PUBLISH for {}: no SIP-ETag or no Expires in it",
            answer.status.counts_as(),
            show(&sent.request)
        ));
    }
    let change = if misses { None } else { change_after(ports.now(), sent, answer, verdict) };
    let tag = tag_after(sent, change.as_ref());
    // A caller that is answered now may name it at once, and so may a refresh that finds it in the record.
    ports.retag(pending, tag.view());
    let next = match authorized {
        Some(request) => Next::Quietly(request),
        None => repair(ports, sent, answer, verdict),
    };
    let stored = change.as_ref().map_or(Ok(()), |change| queue::apply(ports, change));
    ports.settled(pending, change.as_ref().filter(|_| stored.is_err()), next.at_once());
    if !matches!(next, Next::Quietly(_)) {
        queue::report(ports, pending, sent, if misses { RequestOutcome::Silence } else { RequestOutcome::Answered });
    }
    match (stored, change) {
        (Err(why), Some(change)) => {
            ports.warn(&format!("answer {} to PUBLISH for {}: {why}", answer.status.counts_as(), show(&sent.request)));
            queue::store_then_follow(ports, pending, &change, next);
        }
        _ => queue::follow(ports, pending, next, Some(tag.view())),
    }
}

/// The entity tag the publication has after an answer; empty when it has none.
pub(crate) fn tag_after(sent: &PendingRequest, change: Option<&RecordChange>) -> EntityTag {
    match change {
        Some(RecordChange { after: Some(record), .. }) => EntityTag::new(record.get(RecordField::Etag).to_vec()),
        Some(RecordChange { after: None, .. }) => EntityTag::default(),
        None => EntityTag::new(sent.record.get(RecordField::Etag).to_vec()),
    }
}

/// What becomes of the record by an answer; `None`: it stays as it is.
pub(crate) fn change_after(
    now: Moment,
    sent: &PendingRequest,
    answer: &FinalResponse,
    verdict: ResponseMeaning,
) -> Option<RecordChange> {
    let record = &sent.record;
    let before = || record.etag().is_some().then(|| record.clone());
    match verdict {
        ResponseMeaning::Done => match (&answer.etag, answer.granted()) {
            (Some(etag), Some(expires)) if expires > Seconds::ZERO => {
                let mut granted = record.with(&[(RecordField::Etag, etag.bytes())]);
                granted.state.expires_at = now + expires;
                Some(RecordChange { before: before(), after: Some(granted) })
            }
            _ => Some(RecordChange { before: before(), after: None }),
        },
        // The server may have taken it: its version must not be used again.
        ResponseMeaning::Later(_) => {
            before().map(|stored| RecordChange { after: Some(stored.clone()), before: Some(stored) })
        }
        ResponseMeaning::TooBrief(_) | ResponseMeaning::Elsewhere | ResponseMeaning::Challenged => None,
        // The document from before is still there, under the tag it has.
        ResponseMeaning::Refused if sent.request.body().is_some() && !sent.request.options.expires.is_end() => None,
        ResponseMeaning::Forgotten | ResponseMeaning::Refused => {
            before().map(|stored| RecordChange { before: Some(stored), after: None })
        }
    }
}

/// What is sent to mend what the answer says.
pub(crate) fn repair<P: UserAgent>(
    ports: &P,
    sent: &PendingRequest,
    answer: &FinalResponse,
    verdict: ResponseMeaning,
) -> Next {
    let request = &sent.request;
    match verdict {
        ResponseMeaning::Forgotten => whole_document(ports.now(), sent).map_or(Next::Nothing, Next::Quietly),
        ResponseMeaning::TooBrief(minimum)
            if request.options.server_minimum.is_none() && !request.options.expires.is_end() =>
        {
            Next::Quietly(request.with_options(RequestOptions { server_minimum: Some(minimum), ..request.options }))
        }
        ResponseMeaning::Elsewhere if request.options.redirects < MOST_REDIRECTS => {
            let options = RequestOptions { redirects: request.options.redirects + 1, ..request.options };
            Next::Quietly(
                request.with(&[(RequestField::RemoteTarget, answer.contact.as_slice())]).with_options(options),
            )
        }
        ResponseMeaning::Later(wait) if !caller_decides(request) => again(ports.now(), sent, answer, wait),
        _ => Next::Nothing,
    }
}

/// The whole document once more, as a new publication. A first PUBLISH has no tag to be forgotten: asking again would
/// be a loop.
pub(crate) fn whole_document(now: Moment, sent: &PendingRequest) -> Option<Request> {
    let (request, record) = (&sent.request, &sent.record);
    let wanted = !caller_decides(request) && !request.options.expires.is_end();
    if !wanted || record.get(RecordField::Body).is_empty() || record.etag().is_none() {
        return None;
    }
    let expires = match RequestedExpires::until(record.state.desired_until, now, Seconds::ZERO) {
        RequestedExpires::For(left) => RequestedExpires::For(left + Seconds(3)),
        other => other,
    };
    let options = RequestOptions {
        expires,
        // Another publication may have the same id.
        start: Start::Anew,
        has_body: true,
        version_floor: record.state.version + 1,
        challenges: 0,
        ..request.options
    };
    let whole = [
        (RequestField::Etag, b"".as_slice()),
        (RequestField::Body, record.get(RecordField::Body)),
        (RequestField::ContentType, record.get(RecordField::ContentType)),
        (RequestField::OutboundProxy, record.get(RecordField::OutboundProxy)),
        (RequestField::ExtraHeaders, record.get(RecordField::ExtraHeaders)),
    ];
    Some(request.with(&whole).with_options(options))
}

/// Another try after a while, as long as somebody wants it.
pub(crate) fn again(now: Moment, sent: &PendingRequest, answer: &FinalResponse, wait: Seconds) -> Next {
    let (request, record) = (&sent.request, &sent.record);
    let stored = record.etag().is_some();
    let is_silence = answer.status == ResponseStatus::Silence;
    let wait = match is_silence && !stored {
        true => Seconds(UNANSWERED.0 << sent.attempts.min(3)).max(wait),
        false => wait,
    };
    if !request.options.expires.is_end() && !record.state.desired_until.is_after(now + wait) {
        return Next::Nothing;
    }
    let left = dialog::left(request, record, now);
    // A document that the server may have made without our knowledge had this version.
    let version_floor = if stored { request.options.version_floor } else { record.state.version + 1 };
    let options = RequestOptions {
        origin: RequestOrigin::Agent,
        expires: left,
        version_floor,
        redirects: 0,
        challenges: 0,
        ..request.options
    };
    let afresh = request.with(&[(RequestField::RemoteTarget, b"")]).with_options(options);
    let server = if stored || is_silence { AtServer::Something } else { AtServer::Nothing };
    Next::After { wait, request: afresh, server }
}

/// How long the first try of a new publication that nobody answered is waited for: the server may have made
/// a document that we cannot name, and each try may make another.
pub(crate) const UNANSWERED: Seconds = Seconds(32);
