//! A SIP presence server and presence user agent as native Kamailio modules.
//!
//! The layers, lowest first; an arrow `a <- b` means that `b` may use `a` (`tests/layering.rs` checks them):
//!
//! ```text
//! sip <- presence, pua        pure: no Kamailio, no clock, no unsafe
//! sys <- host                 bindgen output; one file a Kamailio service
//! sip, presence, pua, host <- bridge   carries out on the host what presence and pua ask for
//! everything <- abi           the C entries, one macro for all
//! ```
#[cfg(not(panic = "unwind"))]
compile_error!("a panic must stay inside one request: build with panic = \"unwind\"");

#[allow(missing_docs)]
pub mod abi;
pub mod bridge;
pub mod host;
pub mod presence;
pub mod pua;
pub mod setting;
pub mod sip;
mod sys;
