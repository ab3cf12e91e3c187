//! Subscriptions (RFC 6665): the store in memory, the store in the database, and the table `active_watchers`.
pub mod active_watchers_table;
pub mod database;
pub mod memory;
pub mod recent_dialogs;
pub mod write_back;
