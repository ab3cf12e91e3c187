//! Safe wrappers around the host, one Kamailio service a file. The domain does not know this layer.
pub mod bytes;
pub mod clock;
pub mod counters;
pub mod datagram;
pub mod db;
pub mod db_url;
pub mod direct;
pub mod dmq;
#[cfg(feature = "fault-injection")]
pub mod fault;
pub mod fork_signals;
pub mod histogram;
pub mod last_process;
pub mod lock;
pub mod log;
pub mod log_rate;
pub mod measured;
pub mod msg;
pub mod no_memory;
pub mod params;
pub mod pkg;
mod plain_address;
pub mod process;
pub mod process_mutex;
pub mod pv;
pub mod rpc;
pub mod script;
pub mod semaphore;
pub mod shared_bytes;
pub mod shm;
pub mod shm_chunks;
pub mod sl;
pub mod slab;
pub mod sockets;
pub mod sqlite;
pub mod symbols;
pub mod tm;
pub mod tm_relay;
pub mod warm_up;
pub mod xhttp;
pub mod xml;

#[cfg(test)]
pub mod fake;
