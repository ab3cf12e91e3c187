//! Publications (RFC 3903): what the server asks of a store, the store in memory, the table `presentity` with and
//! without a cache in memory, and its delayed writing.
pub mod cached;
pub(crate) mod edit;
pub mod ended_rows;
pub mod memory;
pub mod presentity_table;
pub mod store;
pub mod table;
#[cfg(test)]
mod tests;
pub mod trims;
pub(crate) mod undo;
pub mod write_behind;
