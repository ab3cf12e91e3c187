//! Nodes as dmq shows them, for the tests of this room.
use crate::host::dmq::{Address, DmqNode};

/// The address of the node at a port.
pub(super) fn at(port: u16) -> Address {
    Address { host: b"10.0.0.1".to_vec(), port }
}

/// The nodes at these ports, and whether dmq finds each of them there.
pub(super) fn seen(list: &[(u16, bool)]) -> Vec<DmqNode> {
    list.iter().map(|(port, active)| DmqNode { address: at(*port), active: *active, local: false }).collect()
}
