//! The one pending request that an entry from the host works on.
use crate::pua::pending_request::PendingRequestId;

/// The pending request in hand.
pub trait WorkInHand {
    /// The caller goes on with one of them.
    fn take(&mut self, pending: PendingRequestId);
    /// A panic has broken off what was done for one of many: the timer goes on with its request, as if no answer had
    /// come.
    fn broken_off(&mut self, what: &str, why: &str);
}
