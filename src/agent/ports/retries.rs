//! Pending requests that wait, counted in the ticks of the host.
use crate::agent::context::AgentContext;
use crate::agent::ports::key_of;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::pua::error::RequestError;
use crate::pua::pending_request::{AtServer, DueRequest, PendingRequestId};
use crate::pua::ports::retries::Retries;
use crate::pua::record::RecordChange;
use crate::pua::request::Request;
use crate::time::{Seconds, Tick};

/// The tick from which a wait is counted: the one that has begun is not a whole one.
fn whole_seconds(wait: Seconds) -> Tick {
    clock::ticks() + Seconds(i64::from(wait > Seconds::ZERO))
}

impl Retries for AgentContext<'_> {
    fn wait(&mut self, pending: PendingRequestId, wait: Seconds, request: &Request, server: AtServer) -> bool {
        let waits = self.process.shared.pending_requests.wait(pending, wait, request, server, whole_seconds(wait));
        if waits {
            self.in_hand.let_go(pending);
        }
        waits
    }
    fn postpone(&mut self, pending: PendingRequestId, wait: Seconds, change: &RecordChange) {
        self.process.shared.pending_requests.postpone(pending, wait, change, clock::ticks());
        self.in_hand.let_go(pending);
    }
    fn later(&mut self, request: &Request, wait: Seconds) -> Result<Option<PendingRequestId>, RequestError> {
        let key = key_of(&self.process.shared, request);
        let pending = self.process.shared.pending_requests.later(key, request, wait, whole_seconds(wait))?;
        pending.into_iter().for_each(|pending| self.in_hand.take(pending));
        Ok(pending)
    }
    fn attempts(&mut self, pending: PendingRequestId) -> u32 {
        self.process.shared.pending_requests.attempts(pending)
    }
    fn restarts(&mut self, request: &Request) -> u32 {
        self.process.shared.pending_requests.restarts(key_of(&self.process.shared, request), clock::ticks())
    }
    fn timed_out(&mut self) -> Vec<DueRequest> {
        let due = self.process.shared.pending_requests.timed_out(clock::ticks());
        due.iter().filter(|due| matches!(due, DueRequest::Send(..))).for_each(|_| counters::count(Counter::PuaRetried));
        due
    }
}
