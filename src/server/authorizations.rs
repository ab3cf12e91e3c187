//! Authorization of watchers (RFC 3856 6.6, RFC 5025): the table `watchers`, or nothing.
pub mod not_remembered;
pub mod store;
#[cfg(test)]
mod tests;
pub mod watchers_table;
