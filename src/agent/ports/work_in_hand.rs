//! The pending request in hand, held by its guard.
use crate::agent::context::AgentContext;
use crate::limited_refusal;
use crate::pua::pending_request::PendingRequestId;
use crate::pua::ports::work_in_hand::WorkInHand;

impl WorkInHand for AgentContext<'_> {
    fn take(&mut self, pending: PendingRequestId) {
        self.in_hand.take(pending);
    }
    fn broken_off(&mut self, what: &str, why: &str) {
        limited_refusal!(Error, ("pua", 0, what), "panic while {what}: {why}");
        self.in_hand.break_off();
    }
}
