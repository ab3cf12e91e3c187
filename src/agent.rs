//! The presence user agent on Kamailio: carries out what [`crate::pua`] asks for.
pub mod answer;
pub mod bodies;
pub mod context;
pub mod exporter;
#[cfg(test)]
mod interleavings;
pub mod known_challenges;
pub mod pending_requests;
pub mod ports;
pub mod pua_table;
#[cfg(test)]
mod pua_table_tests;
pub mod records;
pub(crate) mod request_in_hand;
mod request_queue;
#[cfg(test)]
mod scenarios;
pub mod settings;
pub mod storage;
#[cfg(test)]
mod testing;
