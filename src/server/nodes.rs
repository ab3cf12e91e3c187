//! The nodes of the cluster, as all processes of this one know them: who is present, what each reads, which of them run
//! stock's module, who may speak as a node, where records belong, and what was removed.
pub mod admission;
pub mod cluster_state;

pub mod drain_state;
pub mod held_lease;
pub mod joining;
pub(crate) mod known_node;
pub mod known_nodes;
pub mod message_rate;
pub mod node_id;
pub(crate) mod node_messages;
pub mod old_documents;
pub(crate) mod open_claims;
pub(crate) mod own_removals;
pub mod placing;
pub mod removals;
pub mod stock_nodes;
pub mod taken_marks;

#[cfg(test)]
mod testing;
