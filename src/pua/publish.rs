//! PUBLISH (RFC 3903): what is sent for a publication, and what follows from its answer.
use super::client_request::{ClientDialog, ClientRequest};
use super::error::RequestError;
use super::event::Processed;
use super::headers;
use super::next_step::Launched;
use super::pending_request::PendingRequestId;
use super::ports::AgentPorts;
use super::ports::user_agent::UserAgent;
use super::record::{Record, RecordField, RecordRowState, RecordState};
use super::request::{RemoteTarget, Request, RequestField, RequestKind, Start};

/// How often one request may be sent elsewhere.
pub const MOST_REDIRECTS: u8 = 3;

/// Prepares and sends a request on its pending request.
///
/// # Errors
///
/// Fails when no event has the flag, a new publication has no body, the body cannot be published, the request cannot be
/// sent, or a store fails.
pub fn prepare_and_send<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    request: &Request,
) -> Result<Launched, RequestError> {
    let event = ports.event(request.options.event).ok_or(RequestError::UnknownEvent(request.options.event))?;
    let found = match request.options.start {
        Start::Anew => None,
        Start::AsFound => ports.find(&request.search(RemoteTarget::Any))?,
    };
    if found.is_none() && !begins(request)? {
        return Ok(Launched::Nothing);
    }
    let version = next_version(request, found.as_ref());
    let tuple_id = found.as_ref().map(|record| record.get(RecordField::TupleId).to_vec()).unwrap_or_default();
    let processed = match request.body() {
        Some(_) if !request.options.expires.is_end() => Some(ports.process(&event, request, version, &tuple_id)?),
        _ => None,
    };
    let record = next_record(ports, request, found.as_ref(), version, processed.as_ref());
    let body = processed.as_ref().map(|processed| processed.body.as_slice()).filter(|body| !body.is_empty());
    let content_type = body.map(|_| headers::content_type(&event, request));
    let headers = headers::publish(ports.config(), &event, request, record.etag(), content_type);
    ports.record_sent(pending, request, &record)?;
    send(ports, pending, request, headers, body)
}

/// Whether a request for which nothing is stored begins a publication; `false`: there is nothing to end.
fn begins(request: &Request) -> Result<bool, RequestError> {
    if request.etag().is_some() {
        return Err(RequestError::UnknownEtag);
    }
    if request.options.expires.is_end() {
        return Ok(false);
    }
    if request.body().is_none() {
        return Err(RequestError::NoBody);
    }
    Ok(true)
}

fn next_version(request: &Request, found: Option<&Record>) -> u32 {
    match found {
        Some(record) if request.options.expires.is_end() || request.body().is_none() && request.options.is_own() => {
            record.state.version
        }
        Some(record) => record.state.version + 1,
        None => request.options.version_floor,
    }
}

fn send<P: AgentPorts>(
    ports: &mut P,
    pending: PendingRequestId,
    request: &Request,
    mut headers: Vec<u8>,
    body: Option<&[u8]>,
) -> Result<Launched, RequestError> {
    let uri = request.get(RequestField::PresUri);
    let redirected = request.get(RequestField::RemoteTarget);
    let ids = ports.new_ids(uri);
    let proxy = match request.get(RequestField::OutboundProxy) {
        _ if !redirected.is_empty() => Vec::new(),
        b"" => ports.config().outbound_proxy.to_vec(),
        given => given.to_vec(),
    };
    let target = if redirected.is_empty() { uri } else { redirected };
    headers::credentials(ports, &mut headers, request, "PUBLISH", target);
    let outgoing = ClientRequest {
        kind: RequestKind::Publication,
        dialog: ClientDialog::outside(&ids, uri, uri, target),
        proxy: &proxy,
        headers,
        body,
    };
    Ok(ports.send(pending, &outgoing)?.into())
}

/// The record as it will be once the request is granted; the entity tag is still the old one.
fn next_record<P: UserAgent>(
    ports: &P,
    request: &Request,
    found: Option<&Record>,
    version: u32,
    processed: Option<&Processed>,
) -> Record {
    let desired_until = request.desired_until(ports.now());
    match found {
        Some(record) => {
            let mut changes: Vec<(RecordField, &[u8])> = Vec::new();
            if let Some(processed) = processed {
                changes.push((RecordField::Body, &processed.body));
                changes.push((RecordField::ContentType, request.get(RequestField::ContentType)));
            }
            if !request.get(RequestField::OutboundProxy).is_empty() {
                changes.push((RecordField::OutboundProxy, request.get(RequestField::OutboundProxy)));
            }
            let mut next = record.with(&changes);
            next.state.desired_until = desired_until;
            next.state.version = version;
            next
        }
        None => Record::new(
            RecordState {
                serial: 0,
                event: request.options.event,
                flag: request.options.flag,
                expires_at: ports.now(),
                desired_until,
                cseq: 0,
                version,
                row_state: RecordRowState::Insert,
            },
            &[
                (RecordField::PresUri, request.get(RequestField::PresUri)),
                (RecordField::Id, request.get(RequestField::Id)),
                (RecordField::TupleId, processed.map_or(b"", |processed| &processed.tuple_id)),
                (RecordField::ExtraHeaders, request.get(RequestField::ExtraHeaders)),
                (RecordField::OutboundProxy, request.get(RequestField::OutboundProxy)),
                (RecordField::ContentType, request.get(RequestField::ContentType)),
                (RecordField::Body, processed.map_or(b"", |processed| &processed.body)),
            ],
        ),
    }
}
