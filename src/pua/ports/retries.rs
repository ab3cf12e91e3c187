//! Pending requests that wait for another try, and those whose time has come.
use crate::pua::error::RequestError;
use crate::pua::pending_request::{AtServer, DueRequest, PendingRequestId};
use crate::pua::record::RecordChange;
use crate::pua::request::Request;
use crate::time::Seconds;

/// Requests that are tried again.
pub trait Retries {
    /// Lets a pending request wait for `wait`; then [`Retries::timed_out`] names it. `request` is tried again, or what
    /// was kept meanwhile together with what `request` wanted besides. `false`: there is no memory for it.
    #[must_use = "without memory nobody tries again, and the callers are to be answered"]
    fn wait(&mut self, pending: PendingRequestId, wait: Seconds, request: &Request, server: AtServer) -> bool;
    /// Lets a pending request wait for `wait`, until `change` is tried again.
    fn postpone(&mut self, pending: PendingRequestId, wait: Seconds, change: &RecordChange);
    /// Has a request of our own sent after this time, unless its subscription is being ended or something newer
    /// waits.
    /// Gives the pending request when it can go now.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    fn later(&mut self, request: &Request, wait: Seconds) -> Result<Option<PendingRequestId>, RequestError>;
    /// How many tries of a pending request have failed.
    fn attempts(&mut self, pending: PendingRequestId) -> u32;
    /// How often this request's subscription was begun anew lately; counts one more.
    fn restarts(&mut self, request: &Request) -> u32;
    /// Pending requests whose time has come.
    fn timed_out(&mut self) -> Vec<DueRequest>;
}
