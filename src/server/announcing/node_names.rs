//! How this node and others are called.
use crate::host::dmq;
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;

/// How this node calls itself; empty while dmq does not know.
pub fn node_name(parts: &Parts) -> &'static [u8] {
    let known = parts.node_name;
    if let Some(name) = known.get() {
        return name;
    }
    match dmq::nodes().into_iter().find(|node| node.local) {
        Some(own) => known.get_or_init(|| own.address.name()),
        None => b"",
    }
}

pub(crate) fn owner_name(parts: &Parts, owner: NodeId) -> Vec<u8> {
    // What was read from our table and is not settled yet is ours, unless another node knows better.
    match owner {
        NodeId::HERE | NodeId::ELSEWHERE => node_name(parts).to_vec(),
        owner if owner.is_stock() => parts.shared.stock_nodes.name(owner),
        owner => parts.shared.nodes.name(owner),
    }
}
