//! The C entries.
