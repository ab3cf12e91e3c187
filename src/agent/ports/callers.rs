//! Callers and their callbacks, on the shared tables and the registry of the process.
use crate::agent::context::AgentContext;
use crate::host::tm;
use crate::pua::pending_request::{Claim, PendingRequest, PendingRequestId, RequestOutcome};
use crate::pua::ports::callers::Callers;

impl Callers for AgentContext<'_> {
    fn claims(&mut self, pending: PendingRequestId) -> Vec<Claim> {
        self.process.shared.pending_requests.claims(pending)
    }
    fn withdraw(&mut self, pending: PendingRequestId) {
        self.process.shared.pending_requests.withdraw(pending);
        self.in_hand.withdraw();
    }
    fn report(&mut self, claims: &[Claim], pending: &PendingRequest, outcome: RequestOutcome) {
        let reply = if outcome == RequestOutcome::Silence { tm::TmReply::none() } else { self.reply };
        self.process.registry.report(claims, pending, reply);
    }
}
