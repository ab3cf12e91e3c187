//! What is announced to other nodes, and what they say: replicas of their subscriptions, those that stock's nodes
//! share, and removals that must not be undone.
pub mod activation;
pub mod announce;
pub mod arbitration;
pub mod asking;
pub mod comparison;
pub mod full_sync;
pub mod holders;
pub mod leases_table;
pub mod membership;
pub mod merging;
pub mod node_clocks;
pub mod publications;
pub mod refreshes;
pub mod replacement;
pub mod replicas;
pub mod sending;
pub mod stock_announce;
pub mod stock_subscriptions;
mod takeover;
mod watchers;
