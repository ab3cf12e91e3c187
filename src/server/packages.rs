//! Event packages (RFC 6665 5): the callbacks of their modules, and what can be predicted of their bodies.
pub mod foreseen_body;
pub mod omitted_check;
pub mod prediction;
pub mod unreadable;
pub mod version_patch;
