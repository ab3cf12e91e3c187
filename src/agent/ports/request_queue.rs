//! Pending requests, in shared memory: how they are admitted, sent, settled and ended.
use crate::agent::context::AgentContext;
use crate::agent::ports::key_of;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::pua::error::RequestError;
use crate::pua::pending_request::{Admission, Claim, PendingRequest, PendingRequestId, RequestCheck};
use crate::pua::ports::request_queue::RequestQueue;
use crate::pua::record::{Record, RecordChange};
use crate::pua::request::Request;
use crate::sip::entity_tag::EntityTag;

impl RequestQueue for AgentContext<'_> {
    fn admit(&mut self, request: &Request, checked: RequestCheck) -> Result<Admission, RequestError> {
        let key = key_of(&self.process.shared, request);
        let departure = self.process.shared.pending_requests.admit(key, request, checked, clock::ticks())?;
        match departure {
            Admission::Go(pending) => match Claim::of(request) {
                Some(_) => self.in_hand.take_for_caller(pending),
                None => self.in_hand.take(pending),
            },
            Admission::Queued => counters::count(Counter::PuaQueued),
            Admission::Busy { .. } | Admission::Covered => {}
        }
        Ok(departure)
    }
    fn record_sent(
        &mut self,
        pending: PendingRequestId,
        request: &Request,
        record: &Record,
    ) -> Result<(), RequestError> {
        self.process
            .shared
            .pending_requests
            .record_sent(pending, request, record, clock::ticks())
            .map_err(RequestError::from)
    }
    fn take_sent(&mut self, pending: PendingRequestId) -> Option<PendingRequest> {
        let sent = self.process.shared.pending_requests.take_sent(pending);
        if sent.is_some() {
            self.in_hand.take(pending);
        }
        sent
    }
    fn settled(&mut self, pending: PendingRequestId, unstored: Option<&RecordChange>, next: Option<&Request>) {
        self.process.shared.pending_requests.settled(pending, unstored, next);
    }
    fn retag(&mut self, pending: PendingRequestId, tag: EntityTag<&[u8]>) {
        self.process.shared.pending_requests.retag(pending, tag);
    }
    fn end(&mut self, pending: PendingRequestId) -> Option<Request> {
        let next = self.process.shared.pending_requests.end(pending, clock::ticks());
        match next {
            Some(_) => self.in_hand.take(pending),
            None => self.in_hand.let_go(pending),
        }
        next
    }
}
