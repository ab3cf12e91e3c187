//! All that the server holds, for those who list and count it: operators, the page of metrics, other nodes.
use crate::server::shared::Parts;
use crate::server::stores::Stores;
use std::ops::Deref;

/// The parts and the stores of the server, with nothing of the entry in hand.
#[derive(Clone, Copy)]
pub struct Inventory {
    parts: Parts,
    /// Where subscriptions and publications live.
    pub(super) storage: Stores,
}

impl Inventory {
    /// What these stores hold.
    pub(crate) fn new(parts: Parts, storage: Stores) -> Inventory {
        Inventory { parts, storage }
    }
}

impl Deref for Inventory {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}
