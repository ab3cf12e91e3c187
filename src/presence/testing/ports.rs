//! What the handlers ask of a server, answered from memory.
mod authorizations;
mod cluster;
mod event_packages;
mod notifications;
mod publications;
mod recorder;
mod server;
mod subscriptions;
mod transaction;
