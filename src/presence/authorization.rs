//! The authorization of a watcher (RFC 3856 6.6, RFC 5025 3.2.1).
use super::subscription::Status;

/// A watcher's authorization with a presentity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Active, pending, terminated, waiting.
    pub status: Status,
    /// `polite-block`, `rejected` ...; empty for none.
    pub reason: Vec<u8>,
}
