//! The presence server: PUBLISH (RFC 3903), SUBSCRIBE and NOTIFY (RFC 6665), winfo (RFC 3857, 3858). Pure: what it
//! needs from outside it asks for through [`ports::Ports`].
#![deny(unsafe_code)]
pub mod authorization;
pub mod composition;
pub mod config;
pub mod error;
pub mod event_package;
pub mod expires;
pub mod expiry;
pub mod history;
pub mod limits;
pub mod notification;
pub mod ports;
pub mod publication;
pub mod refresh_watchers;
pub mod replication;
pub mod resource;
pub mod subscription;
#[cfg(test)]
pub(crate) mod testing;
pub mod winfo;
