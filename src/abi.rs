//! The C entries: arguments become types, a panic becomes an error answer, a Result becomes the int its caller expects.
//! No decisions are made here.
#![expect(
    clippy::missing_safety_doc,
    reason = "the contract of every entry is the host's: arguments of the call in progress"
)]
pub mod c_types;
mod entry;
pub mod explain_rpc;
mod frozen_table;
mod gauges;
pub mod operator_rpc;
pub mod presence_api;
mod presence_calls;
mod presence_dmq;
pub mod presence_module;
mod presence_requests;
pub mod presence_rpc;
mod presence_start;
pub mod presence_variables;
pub mod pua_api;
mod pua_libxml;
pub mod pua_module;
mod pua_start;
mod pua_state;
mod state;
pub mod status_page;
