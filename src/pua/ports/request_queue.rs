//! One request at a time for each publication or subscription: the life of a pending request.
use crate::pua::error::RequestError;
use crate::pua::pending_request::{Admission, PendingRequest, PendingRequestId, RequestCheck};
use crate::pua::record::{Record, RecordChange};
use crate::pua::request::Request;
use crate::sip::entity_tag::EntityTag;

/// The queue of each publication and subscription.
pub trait RequestQueue {
    /// Asks for the pending request of this request's publication or subscription.
    ///
    /// # Errors
    ///
    /// Fails when too many requests wait for it, when a PUBLISH without a body would begin anew what a waiting one
    /// ends, and when shared memory runs out.
    fn admit(&mut self, request: &Request, checked: RequestCheck) -> Result<Admission, RequestError>;
    /// Notes what is about to be sent on a pending request.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out: the request must not be sent then.
    fn record_sent(
        &mut self,
        pending: PendingRequestId,
        request: &Request,
        record: &Record,
    ) -> Result<(), RequestError>;
    /// What was sent on a pending request; nothing when it has ended.
    fn take_sent(&mut self, pending: PendingRequestId) -> Option<PendingRequest>;
    /// What was sent on a pending request is settled by its answer, and never again: what is left to be done is to
    /// store what could not be stored, or to send `next`.
    fn settled(&mut self, pending: PendingRequestId, unstored: Option<&RecordChange>, next: Option<&Request>);
    /// Notes the entity tag that what was sent on a pending request has now. Requests that name the one before it mean
    /// the same publication until the next request is sent: the record may still have that.
    fn retag(&mut self, pending: PendingRequestId, tag: EntityTag<&[u8]>);
    /// Ends a pending request, or gives the request that was kept meanwhile: the pending request goes on with that.
    fn end(&mut self, pending: PendingRequestId) -> Option<Request>;
}
