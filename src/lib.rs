//! A SIP presence server and presence user agent as native Kamailio modules.
//!
//! The layers, lowest first; an arrow `a <- b` means that `b` may use `a` (`tests/layering` checks them):
//!
//! ```text
//! reference, sip, cluster <- presence       pure: no Kamailio, no clock, no unsafe
//! reference, sip <- pua                     the same
//! reference, sys <- host                    bindgen output; one file a Kamailio service
//! reference, sip, presence, host <- common  what server and agent share: database, statistics, ids
//! presence, pua, host <- callbacks          functions that other modules have registered
//! common, presence, cluster <- server       carries out on the host what presence asks for
//! common, pua <- agent                      carries out on the host what pua asks for
//! everything <- abi                         the C entries, one macro for all
//! ```
#![cfg_attr(test, allow(unreachable_pub, reason = "what tests offer each other is seen in private modules"))]

#[cfg(not(panic = "unwind"))]
compile_error!("a panic must stay inside one request: build with panic = \"unwind\"");

/// `VERSIONVAL` of the Kamailio that this is built for: 5006003 for 5.6.3. What hosts do differently is decided by it.
pub const HOST_VERSION: u32 = decimal(env!("KAMAILIO_VERSIONVAL"));

const fn decimal(text: &str) -> u32 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u32;
        at += 1;
    }
    value
}

#[cfg(test)]
#[macro_use]
mod case_table;
#[macro_use]
pub mod caught;
#[macro_use]
mod fault_point;
#[macro_use]
pub mod reference;
pub mod abi;
pub mod agent;
pub mod callbacks;
pub mod cluster;
pub mod common;
pub mod host;
pub mod presence;
pub mod pua;
pub mod scoped_value;
pub mod server;
pub mod shm_safe;
pub mod sip;
mod sys;
pub mod time;
