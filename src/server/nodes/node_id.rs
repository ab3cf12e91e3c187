//! Which node owns a subscription, in two bytes.
use crate::shm_safe::shm_safe;

/// The owner of a subscription: this node, or the one with this place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeId(u16);

shm_safe!(NodeId(value));

impl NodeId {
    /// The id of this node.
    pub const HERE: NodeId = NodeId(0);

    /// Some other node, no matter which.
    pub const ELSEWHERE: NodeId = NodeId(u16::MAX);

    /// A stock node that dmq does not know.
    pub const SOME_STOCK: NodeId = NodeId(STOCK | (STOCK - 1));

    /// The stock node with this place in its own list, see [`crate::server::nodes::stock_nodes`].
    pub fn of_stock(place: usize) -> NodeId {
        NodeId(STOCK | (place as u16).min(STOCK - 2))
    }

    /// Whether it is a stock node.
    pub fn is_stock(self) -> bool {
        self.0 & (STOCK | (STOCK << 1)) == STOCK
    }

    /// The place of a stock node in its list.
    pub fn stock_place(self) -> Option<usize> {
        (self.is_stock() && self != NodeId::SOME_STOCK).then_some(usize::from(self.0 & (STOCK - 1)))
    }

    /// The node with this place in the list of [`crate::server::nodes::known_nodes::Nodes`].
    pub fn at(place: usize) -> NodeId {
        NodeId(place as u16 + 1)
    }

    /// The place in that list, `None` for this node; ids of stock's nodes are beyond its end.
    pub fn place(self) -> Option<usize> {
        usize::from(self.0).checked_sub(1)
    }

    /// Whether it is this node.
    pub fn is_here(self) -> bool {
        self == NodeId::HERE
    }
}

/// What sets ids of stock's nodes apart from places in the list of ours.
const STOCK: u16 = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_stock_nodes_are_no_others() {
        let (first, last) = (NodeId::of_stock(0), NodeId::of_stock(255));
        assert!(first.is_stock() && last.is_stock() && NodeId::SOME_STOCK.is_stock());
        assert!(!NodeId::HERE.is_stock() && !NodeId::ELSEWHERE.is_stock() && !NodeId(256).is_stock());
        assert_eq!((first.stock_place(), last.stock_place()), (Some(0), Some(255)));
        assert_eq!((NodeId::SOME_STOCK.stock_place(), NodeId::HERE.stock_place()), (None, None));
    }
}
