//! Subscriptions (RFC 6665): what the server asks of a store, the store in memory with what stands behind it, the store
//! in the database, and the table `active_watchers`.
pub mod active_watchers_table;
pub mod database;
pub mod kept_rows;
pub mod memory;
pub mod rows_behind;
pub mod store;
#[cfg(test)]
mod tests;
pub mod write_back;
pub mod write_through;
