//! What operators ask for: statistics, top lists, and draining a node.
pub mod catalogue;
pub mod drain;
pub mod exporter;
pub mod statistics;
pub mod subscription_lists;
pub mod top_lists;
