//! Rust definitions of the shim symbols for unit tests.
