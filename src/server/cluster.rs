//! What other nodes say, carried out: replicas of their subscriptions, those that stock's nodes share, takeovers, and
//! the comparison of what nodes hold.
pub mod activation;
pub mod admission;
pub mod comparison;
pub mod consent;
pub mod full_sync;
pub mod membership;
pub mod merging;
pub mod messages;
pub mod publications;
pub mod received;
pub mod refreshes;
pub mod relaying;
pub mod replacement;
pub mod replicas;
pub mod stock_subscriptions;
mod takeover;
mod watchers;
