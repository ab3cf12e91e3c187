//! The C entries of `pua.so`.
pub mod api;
pub mod commands;
pub mod functions;
pub mod libxml;
pub mod module;
pub mod rpc;
pub mod start;
pub mod state;
pub mod timers;
