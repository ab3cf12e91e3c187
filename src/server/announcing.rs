//! What this node says to the others: how its subscriptions are, to those that hold them; whose a subscription is; and
//! whether this node may speak at all.
pub mod arbitration;
pub mod asking;
pub(crate) mod claims;
pub mod holders;
pub mod leases_table;
pub mod node_clocks;
pub mod node_names;
pub mod ownership;
pub(crate) mod refreshes;
pub mod sending;
pub mod stock_announce;
pub mod subscriptions;
pub mod texts;
