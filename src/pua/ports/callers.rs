//! The callers that wait for the outcome of their requests.
use crate::pua::pending_request::{Claim, PendingRequest, PendingRequestId, RequestOutcome};

/// The callers of pending requests, and their callbacks.
pub trait Callers {
    /// Takes the callers that wait for a pending request: each is handed out once.
    fn claims(&mut self, pending: PendingRequestId) -> Vec<Claim>;
    /// Forgets the first caller of a pending request: it learns the outcome from its call.
    fn withdraw(&mut self, pending: PendingRequestId);
    /// Calls the callbacks of these callers with the outcome of their request.
    fn report(&mut self, claims: &[Claim], pending: &PendingRequest, outcome: RequestOutcome);
}
