//! Exhausted shared memory.

/// There was no shared memory left. State is as it was before the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no more shared memory")]
pub struct NoMemory;
