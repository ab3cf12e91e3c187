//! Publications (RFC 3903): the store, the table `presentity`, and its delayed writing.
pub mod presentity_table;
pub mod store;
pub mod unreadable;
pub mod write_behind;
