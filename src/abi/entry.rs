//! Every C entry is written with `entry!` (`caught.rs`).
pub use crate::caught::guarded;
