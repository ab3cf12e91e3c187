//! Other nodes: who is present, replicas of their subscriptions, those that stock's nodes share, and removals they must
//! not undo.
pub mod announce;
pub mod arbitration;
pub mod asking;
pub mod cluster_state;
pub mod comparison;
pub mod door;
pub mod held_lease;
pub mod holders;
mod known_node;
pub mod leases_table;
pub mod merging;
pub mod message_rate;
pub mod node_id;
mod node_messages;
pub mod nodes;
mod own_removals;
pub mod placing;
mod ports;
pub mod refreshes;
pub mod removals;
pub mod replacement;
pub mod replicas;
pub mod sending;
pub mod stock_announce;
pub mod stock_nodes;
pub mod stock_subscriptions;
pub mod takeover;
