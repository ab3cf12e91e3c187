//! Carries out on the host what the presence server asks for: shared tables, database rows, NOTIFYs through tm, packages.
pub mod active_watchers;
pub mod callbacks;
pub mod database;
pub mod ids;
pub mod journal;
pub mod lanes;
pub mod pages;
pub mod presentities;
pub mod pua;
pub mod rows;
pub mod senders;
pub mod settings;
pub mod single;
pub mod tables;
pub mod watchers;
pub mod world;
