//! What operators ask for: statistics, top lists, and draining a node.
pub mod catalogue;
pub mod drain;
pub mod drain_state;
pub mod exporter;
pub mod history;
pub mod inventory;
mod ports;
pub mod recording;
pub mod statistics;
pub mod subscription_lists;
pub mod top_lists;
