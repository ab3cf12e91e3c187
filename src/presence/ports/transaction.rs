//! The request in hand: its answer is given once.
use crate::presence::error::Failure;
use crate::presence::event_package::PackageId;

/// The server transaction of the request in hand (RFC 3261 17.2).
pub trait ServerTransaction {
    /// The request in hand is about this package: its answer is counted there.
    fn note_package(&mut self, _package: PackageId) {}
    /// Answers the request in hand. Header lines end in CRLF.
    fn reply(&mut self, code: u16, reason: &str, headers: &[u8]);
    /// The To tag of that answer.
    ///
    /// # Errors
    ///
    /// Fails when the host has no tag for the reply.
    fn reply_tag(&mut self) -> Result<Vec<u8>, Failure>;
}
