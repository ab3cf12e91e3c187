//! Safe wrappers around the host, one Kamailio service a file. The domain does not know this layer.
pub mod bytes;
pub mod clock;
pub mod counters;
pub mod db;
pub mod db_url;
pub mod dmq;
#[cfg(feature = "fault-injection")]
pub mod fault;
pub mod log;
pub mod log_rate;
pub mod msg;
pub mod params;
pub mod pool;
pub mod process;
pub mod pv;
pub mod rpc;
pub mod script;
pub mod shm;
pub mod sl;
mod sockets;
pub mod sqlite;
pub mod symbols;
pub mod sync;
pub mod tm;
pub mod xml;

#[cfg(test)]
pub mod fake;
