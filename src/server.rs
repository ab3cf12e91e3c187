//! The presence server on Kamailio: carries out what [`crate::presence`] asks for.
pub mod authorizations;
pub mod cluster;
pub mod context;
pub mod history;
pub mod nodes;
pub mod notify;
pub mod operator;
pub mod packages;
pub mod ports;
pub mod publications;
pub mod settings;
pub mod shared;
pub mod storage;
pub mod subscriptions;
pub mod tables;
