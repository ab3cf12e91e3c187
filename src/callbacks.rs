//! Functions that other modules have registered, and the structures of C that they get: event packages are asked for
//! bodies and rules, callers of the user agent for bodies, and these are given answers.
pub mod event_packages;
pub mod user_agent;
