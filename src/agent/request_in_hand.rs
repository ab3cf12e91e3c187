//! The pending request that an entry from the host works on: what sends next on it is known to this entry alone.
use crate::agent::pending_requests::PendingRequests;
use crate::agent::request_queue::RequestHolder;
use crate::host::clock;
use crate::pua::pending_request::PendingRequestId;

/// Dropped while it holds a pending request, as after a panic, it has the timer go on with that one, as if no answer
/// had come.
pub(super) struct RequestInHand {
    all: &'static PendingRequests,
    held: Option<PendingRequestId>,
    holder: RequestHolder,
}

impl RequestInHand {
    /// Holds no pending request yet.
    pub(super) fn none(all: &'static PendingRequests) -> RequestInHand {
        RequestInHand { all, held: None, holder: RequestHolder::Queue }
    }

    /// Takes over a pending request: this entry goes on with it.
    pub(super) fn take(&mut self, pending: PendingRequestId) {
        (self.held, self.holder) = (Some(pending), RequestHolder::Queue);
        fault_point!("in-hand");
    }

    /// The same for a caller that waits for the end of its call.
    pub(super) fn take_for_caller(&mut self, pending: PendingRequestId) {
        (self.held, self.holder) = (Some(pending), RequestHolder::Caller);
        fault_point!("in-hand");
    }

    /// The caller is on no list any more.
    pub(super) fn withdraw(&mut self) {
        self.holder = RequestHolder::Queue;
    }

    /// The answer or the timer goes on with the pending request, or it has ended.
    pub(super) fn let_go(&mut self, pending: PendingRequestId) {
        self.held = self.held.filter(|held| *held != pending);
    }

    /// What is held was broken off.
    pub(super) fn break_off(&mut self) {
        if let Some(pending) = self.held.take() {
            self.all.break_off(pending, self.holder, clock::ticks());
        }
    }
}

impl Drop for RequestInHand {
    fn drop(&mut self) {
        self.break_off();
    }
}
