//! Authorization of watchers (RFC 3856 6.6, RFC 5025): the cache of decisions and the table `watchers`.
pub mod cache;
pub mod judgements;
pub mod judging;
pub mod not_remembered;
mod ports;
pub mod store;
#[cfg(test)]
mod tests;
pub mod watchers_table;
