//! The presence server: PUBLISH (RFC 3903), SUBSCRIBE and NOTIFY (RFC 6665), winfo (RFC 3857, 3858). Pure: what it
//! needs of the world it asks for through [`ports::Ports`].
#![forbid(unsafe_code)]
pub mod authorization;
pub mod bad_event;
pub mod cluster;
pub mod comparison;
pub mod config;
pub mod consistency;
pub mod dialog;
pub mod dialog_info;
pub mod direct_publish;
pub mod effective;
pub mod ended;
pub mod error;
pub mod event_package;
pub mod expiry;
pub mod explain;
mod fetch;
pub mod judgement;
pub mod late;
pub mod limits;
pub mod modes;
pub mod notification;
pub mod notifier;
pub mod occurrence;
pub mod order;
mod plain_tags;
pub mod ports;
pub mod publication;
pub mod publish;
pub mod readable;
pub mod refresh;
pub mod remembered;
pub mod replica;
pub mod replication;
pub mod resource;
pub mod row_limits;
pub mod sphere;
pub mod stock_subscription;
pub mod subscribe;
pub mod subscription;
pub mod subscription_field;
#[cfg(test)]
pub(crate) mod testing;
pub mod tuples;
mod versioned_body;
pub mod watcher_changes;
pub mod winfo;
