//! SUBSCRIBE (RFC 6665 4.1): dialogs that are opened, refreshed, mended and ended for other modules.
use super::client_request::{ClientDialog, ClientRequest, RequestIds, SendOutcome};
use super::error::RequestError;
use super::headers;
use super::next_step::Launched;
use super::pending_request::PendingRequestId;
use super::ports::AgentPorts;
use super::ports::stored_records::StoredRecords;
use super::ports::user_agent::UserAgent;
use super::record::{Record, RecordField, RecordRowState, RecordState};
use super::request::{Request, RequestField, RequestKind, Start};
use crate::pua::request::RemoteTarget;
use crate::time::{Moment, Seconds};

/// How long a dialog without an answer is remembered: twice the 64 T1 of RFC 3261 17.1.2.2.
const UNANSWERED: Seconds = Seconds(64);

/// A dialog whose CSeq comes near the 2^31 of RFC 3261 8.1.1.5 is replaced by a new one.
const LAST_CSEQ: u32 = i32::MAX as u32 - 10_000;

/// The record of the dialog that a request is about.
///
/// # Errors
///
/// Fails when the records cannot be read.
pub(crate) fn find<P: UserAgent + StoredRecords>(
    ports: &mut P,
    request: &Request,
) -> Result<Option<Record>, RequestError> {
    let target = match ports.config().check_remote_contact {
        true => RemoteTarget::Same,
        false => RemoteTarget::Any,
    };
    ports.find(&request.search(target))
}

/// Prepares and sends a request on its pending request.
///
/// # Errors
///
/// Fails when the request cannot be sent or a store fails.
pub fn prepare_and_send<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    request: &Request,
) -> Result<Launched, RequestError> {
    let is_new = request.options.start == Start::Anew;
    let mut found = if is_new { None } else { find(ports, request)? };
    let unusable = |record: &mut Record| record.is_temporary() || record.state.cseq >= LAST_CSEQ;
    if let Some(stale) = found.take_if(unusable) {
        // Nothing is under way for it: its answer never came, or its numbers are used up.
        ports.remove(&stale)?;
    }
    match found {
        None if request.options.expires.is_end() => Ok(Launched::Nothing),
        // The dialog that was meant has ended.
        None if !request.get(RequestField::CallId).is_empty() && !is_new => Ok(Launched::Nothing),
        None => open_dialog(ports, pending, request),
        Some(record) => send_within(ports, pending, request, &record),
    }
}

fn open_dialog<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    request: &Request,
) -> Result<Launched, RequestError> {
    let event = ports.event(request.options.event).ok_or(RequestError::UnknownEvent(request.options.event))?;
    let mut headers = headers::subscribe(ports.config(), &event, request);
    let pres_uri = request.get(RequestField::PresUri);
    let target = request.first_target();
    headers::credentials(ports, &mut headers, request, "SUBSCRIBE", target);
    let ids = ports.new_ids(target);
    let record = first_record(ports.now(), request, &ids);
    // A NOTIFY may come before the answer (RFC 6665 4.1.2.4): the dialog is known before the request leaves.
    ports.record_sent(pending, request, &record)?;
    ports.insert(&record)?;
    let outgoing = ClientRequest {
        kind: RequestKind::Subscription,
        dialog: ClientDialog::outside(&ids, request.get(RequestField::WatcherUri), pres_uri, target),
        proxy: if request.options.redirects > 0 { b"" } else { request.get(RequestField::OutboundProxy) },
        headers,
        body: None,
    };
    let sent = ports.send(pending, &outgoing);
    if sent != Ok(SendOutcome::UnderWay) {
        remove_dialog(ports, &record)?;
    }
    Ok(sent?.into())
}

fn first_record(now: Moment, request: &Request, ids: &RequestIds) -> Record {
    let state = RecordState {
        serial: 0,
        event: request.options.event,
        flag: request.options.flag,
        expires_at: now + UNANSWERED,
        desired_until: request.desired_until(now),
        cseq: ClientDialog::FIRST_CSEQ,
        version: 0,
        row_state: RecordRowState::Insert,
    };
    Record::new(
        state,
        &[
            (RecordField::PresUri, request.get(RequestField::PresUri)),
            (RecordField::WatcherUri, request.get(RequestField::WatcherUri)),
            (RecordField::Id, request.get(RequestField::Id)),
            (RecordField::CallId, &ids.call_id),
            (RecordField::FromTag, &ids.from_tag),
            (RecordField::Contact, request.get(RequestField::Contact)),
            (RecordField::ExtraHeaders, request.get(RequestField::ExtraHeaders)),
            (RecordField::OutboundProxy, request.get(RequestField::OutboundProxy)),
        ],
    )
}

fn send_within<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    request: &Request,
    record: &Record,
) -> Result<Launched, RequestError> {
    let event = ports.event(request.options.event).ok_or(RequestError::UnknownEvent(request.options.event))?;
    let mut headers = headers::subscribe(ports.config(), &event, request);
    headers::credentials(ports, &mut headers, request, "SUBSCRIBE", record.get(RecordField::RemoteContact));
    let mut counted = record.clone();
    counted.state.cseq += 1;
    // The number is used up whatever becomes of the request (RFC 3261 12.2.1.1).
    ports.replace(record, &counted)?;
    let mut next = counted;
    next.state.desired_until = request.desired_until(ports.now());
    ports.record_sent(pending, request, &next)?;
    let outgoing = ClientRequest {
        kind: RequestKind::Subscription,
        dialog: ClientDialog {
            call_id: record.get(RecordField::CallId),
            from: record.get(RecordField::WatcherUri),
            from_tag: record.get(RecordField::FromTag),
            to: record.get(RecordField::PresUri),
            to_tag: record.get(RecordField::ToTag),
            target: record.get(RecordField::RemoteContact),
            routes: record.get(RecordField::RecordRoute),
            cseq: next.state.cseq,
        },
        proxy: b"",
        headers,
        body: None,
    };
    Ok(ports.send(pending, &outgoing)?.into())
}

/// Removes the dialog of a record; `false`: it was not there any more.
///
/// # Errors
///
/// Fails when the record cannot be read or removed.
pub(crate) fn remove_dialog<P: StoredRecords>(ports: &mut P, record: &Record) -> Result<bool, RequestError> {
    match ports.find_dialog(&record.dialog())? {
        Some(stored) => ports.remove(&stored).map(|()| true),
        None => Ok(false),
    }
}
