//! The authorization of a watcher (RFC 3856 6.6, RFC 5025 3.2.1).
pub mod judgement;
pub mod sphere;

use super::subscription::Status;

/// Why it is not known what a presentity's rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoVerdict {
    /// The rules cannot be read now, so that none of the presentity's watchers can be judged.
    #[error("the presentity's rules cannot be read")]
    Unreadable,
    /// The event package cannot say what the rules mean for this watcher.
    #[error("the event package cannot say what the rules mean for the watcher")]
    Unclear,
    /// A decision about a watcher could not be carried out yet.
    #[error("decisions about the presentity's watchers are not carried out yet")]
    Outstanding,
}

/// What a decision that could not be carried out leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outstanding {
    /// What is remembered of a watcher is older than the decision: its next subscription is judged by the rules.
    Remembered,
    /// A subscription may have another authorization than its watcher: until that is known nobody is shown the state.
    Subscribed,
}

/// A watcher's authorization with a presentity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Active, pending, terminated, waiting.
    pub status: Status,
    /// `polite-block`, `rejected` ...; empty for none.
    pub reason: Vec<u8>,
}
