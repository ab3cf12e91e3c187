//! What the modules offer, described once: the tables from which exports, defaults, checks and the reference pages are
//! made.
#[macro_use]
mod table;
pub mod command;
pub mod function;
#[cfg(test)]
pub mod page;
pub mod parameter;
pub mod reading;
pub mod setting;
