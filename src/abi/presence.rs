//! The C entries of `presence.so`.
pub mod answers;
pub mod api;
pub mod calls;
pub mod dmq;
pub mod explain_rpc;
mod filter;
pub mod history_rpc;
pub mod module;
pub mod operator_rpc;
pub mod requests;
pub mod rpc;
pub mod start;
pub mod state;
pub mod status_page;
pub mod subscription_hash_table;
pub mod timers;
pub mod variables;
