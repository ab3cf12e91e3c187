//! Other nodes: who is present, replicas of their subscriptions, and removals they must not undo.
pub mod announce;
pub mod asking;
pub mod comparison;
pub mod nodes;
pub mod removals;
pub mod replicas;
pub mod standing;
