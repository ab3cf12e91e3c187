//! How many messages of the cluster are looked at in one second: those of one node, and those of one address that is
//! no node's. What exceeds the bound is refused before it is read; the comparison of the nodes makes it good.
use crate::cluster::succession::common_hash;
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicU64, Ordering};

/// At most so many messages of one node are looked at in one second.
pub const MOST_OF_NODE: u32 = 20_000;

/// At most so many messages of another address are looked at in one second.
pub const MOST_OF_STRANGER: u32 = 100;

/// Addresses are told apart by so many places; those that fall on one share its bound.
const NODES: usize = 256;
const STRANGERS: usize = 1024;

/// How long one line about such messages keeps others from being written, in seconds.
const LINE_INTERVAL: u64 = 60;

/// The messages of this second, by address; in shared memory.
pub struct MessageRates {
    nodes: [AtomicU64; NODES],
    strangers: [AtomicU64; STRANGERS],
    written_at: AtomicU64,
}

shm_safe!(MessageRates { nodes, strangers, written_at });

/// Who has sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A node of the cluster.
    Node,
    /// Somebody else.
    Stranger,
}

impl Default for MessageRates {
    fn default() -> MessageRates {
        MessageRates {
            nodes: std::array::from_fn(|_| AtomicU64::new(0)),
            strangers: std::array::from_fn(|_| AtomicU64::new(0)),
            written_at: AtomicU64::new(0),
        }
    }
}

impl MessageRates {
    /// Whether a message that comes from `address` in second `now` is looked at.
    pub fn take(&self, sender: Sender, address: &[u8], now: u64) -> bool {
        let (places, most) = match sender {
            Sender::Node => (&self.nodes[..], MOST_OF_NODE),
            Sender::Stranger => (&self.strangers[..], MOST_OF_STRANGER),
        };
        let Some(place) = places.get((common_hash(&[address]) % places.len() as u64) as usize) else { return true };
        // The second in the upper half, the messages of it in the lower one.
        let now = now << 32;
        let count = |before: u64| if before & !0xffff_ffff == now { before.saturating_add(1) } else { now | 1 };
        let mut seen = place.load(Ordering::Relaxed);
        loop {
            let counted = count(seen);
            if counted as u32 > most {
                return false;
            }
            match place.compare_exchange_weak(seen, counted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }

    /// Whether a line about a message that was refused may be written: one a minute.
    pub fn may_write(&self, now: u64) -> bool {
        let (now, last) = (now.max(1), self.written_at.load(Ordering::Relaxed));
        let is_due = last == 0 || now.saturating_sub(last) >= LINE_INTERVAL;
        is_due && self.written_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_bound_in_each_second() {
        let rates = MessageRates::default();
        let taken = |sender, address: &[u8], now| (0..30_000).filter(|_| rates.take(sender, address, now)).count();
        assert_eq!(taken(Sender::Stranger, b"192.0.2.1", 7), MOST_OF_STRANGER as usize);
        assert_eq!(taken(Sender::Stranger, b"192.0.2.2", 7), MOST_OF_STRANGER as usize);
        assert_eq!(taken(Sender::Node, b"192.0.2.1", 7), MOST_OF_NODE as usize, "a stranger takes nothing from a node");
        assert_eq!(taken(Sender::Stranger, b"192.0.2.1", 7), 0);
        assert_eq!(taken(Sender::Stranger, b"192.0.2.1", 8), MOST_OF_STRANGER as usize);
    }

    #[test]
    fn one_line_a_minute() {
        let rates = MessageRates::default();
        let written: Vec<u64> = (0..150).filter(|now| rates.may_write(*now)).collect();
        assert_eq!(written, [0, 61, 121]);
    }
}
