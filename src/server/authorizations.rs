//! Authorization of watchers (RFC 3856 6.6, RFC 5025): judging watchers, and the table `watchers`.
pub mod not_remembered;
pub mod store;
#[cfg(test)]
mod tests;
pub mod watchers_table;
