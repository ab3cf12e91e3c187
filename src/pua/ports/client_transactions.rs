//! The client transactions of requests (RFC 3261 17.1).
use crate::pua::client_request::{ClientRequest, RequestIds, SendOutcome};
use crate::pua::error::RequestError;
use crate::pua::pending_request::PendingRequestId;

/// What carries requests to their servers.
pub trait ClientTransactions {
    /// What identifies a new request to `target`.
    fn new_ids(&mut self, target: &[u8]) -> RequestIds;
    /// Sends the request that a pending request has come to.
    ///
    /// # Errors
    ///
    /// Fails when tm cannot send it: no answer will come.
    fn send(&mut self, pending: PendingRequestId, outgoing: &ClientRequest<'_>) -> Result<SendOutcome, RequestError>;
}
