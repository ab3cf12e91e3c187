//! Event packages (RFC 6665 5): what can be predicted of their bodies, and what their parser reads.
pub mod foreseen_body;
pub mod omitted_check;
pub mod prediction;
pub mod unreadable;
pub mod version_patch;
