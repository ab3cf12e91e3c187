//! The C entries: arguments become types, a panic becomes an error answer, a Result becomes the int its caller expects.
//! No decisions are made here.
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
pub mod presence;
pub mod pua;
#[cfg(test)]
mod reference_pages;
