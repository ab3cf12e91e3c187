//! The C entries: arguments become types, a panic becomes an error answer, a Result becomes the int its caller expects.
//! What a request, a document or a node comes to is decided elsewhere; the order of a timer's tasks and of a start's
//! steps is written here.
#![expect(
    clippy::missing_safety_doc,
    reason = "the contract of every entry is the host's: arguments of the call in progress"
)]
#[macro_use]
mod entry;
#[macro_use]
pub mod commands;
pub mod c_types;
pub mod gauges;
pub mod metrics;
mod module_state;
#[cfg(test)]
mod parameter_tests;
pub mod presence;
pub mod pua;
#[cfg(test)]
mod reference_pages;
