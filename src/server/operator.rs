//! What operators and scripts ask for: lists and statistics of what there is, refreshing, ending, and draining a node.
pub mod authorization_status;
pub mod catalogue;
pub mod drain;
pub mod ending;
pub mod exporter;
pub mod names;
pub mod pairs;
pub mod refreshing;
pub mod selection;
pub mod statistics;
pub mod subscription_lists;
pub mod top_lists;
pub mod what_happened;
