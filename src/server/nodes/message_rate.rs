//! How many messages of the cluster are looked at in one second: those of one node, and those of one address that is
//! no node's. What exceeds the bound is refused before it is read; the comparison of the nodes makes it good.
use crate::cluster::succession::common_hash;
use crate::shm_safe::shm_safe;
use crate::time::{AtomicMoment, Moment, Seconds, ShortMoment};
use std::sync::atomic::{AtomicU64, Ordering};

/// At most this many messages of one node are looked at in one second.
pub const MOST_OF_NODE: u32 = 20_000;

/// At most this many messages of another address are looked at in one second.
pub const MOST_OF_STRANGER: u32 = 100;

/// Addresses are kept apart in this many places; those that fall on one share its bound.
const NODES: usize = 256;
const STRANGERS: usize = 1024;

/// How long one line about such messages keeps others from being written.
const LINE_INTERVAL: Seconds = Seconds(60);

/// An address and port that a message with the cluster's seal has come from are a node's for this long.
const LATELY: Seconds = Seconds(60);

/// The messages of this second, by address; in shared memory.
pub struct MessageRates {
    nodes: [AtomicU64; NODES],
    strangers: [AtomicU64; STRANGERS],
    /// From which address and port a message with the cluster's seal came last, and in which second.
    sealed: [AtomicU64; NODES],
    written_at: AtomicMoment,
}

shm_safe!(MessageRates { nodes, strangers, sealed, written_at });

/// A second in the half of a word.
fn second(now: Moment) -> u64 {
    ShortMoment::from(now).seconds().into()
}

/// The sender of a message.
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
            sealed: std::array::from_fn(|_| AtomicU64::new(0)),
            written_at: AtomicMoment::none(),
        }
    }
}

impl MessageRates {
    /// Whether a message that comes from `address` at `now` is looked at; it is counted.
    pub fn take(&self, sender: Sender, address: &[u8], now: Moment) -> bool {
        let Some((place, most)) = self.place(sender, address) else { return true };
        // The second in the upper half, the messages of it in the lower one.
        let now = second(now) << 32;
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

    /// Whether one more message that comes from `address` at `now` would be looked at; it is not counted.
    pub fn has_room(&self, sender: Sender, address: &[u8], now: Moment) -> bool {
        self.place(sender, address).is_none_or(|(place, most)| {
            let seen = place.load(Ordering::Relaxed);
            seen >> 32 != second(now) || (seen as u32) < most
        })
    }

    fn place(&self, sender: Sender, address: &[u8]) -> Option<(&AtomicU64, u32)> {
        let (places, most) = match sender {
            Sender::Node => (&self.nodes[..], MOST_OF_NODE),
            Sender::Stranger => (&self.strangers[..], MOST_OF_STRANGER),
        };
        Some((places.get((common_hash(&[address]) % places.len() as u64) as usize)?, most))
    }

    /// A new message with the cluster's seal has come from `source`, an address with its port. Its node may say that it
    /// is elsewhere.
    pub fn note_sealed(&self, source: &[u8], now: Moment) {
        let hash = common_hash(&[source]);
        if let Some(place) = self.sealed.get((hash % NODES as u64) as usize) {
            place.store(hash & !0xffff_ffff | second(now), Ordering::Relaxed);
        }
    }

    /// Whether one has come from there lately.
    pub fn has_sealed(&self, source: &[u8], now: Moment) -> bool {
        let hash = common_hash(&[source]);
        self.sealed.get((hash % NODES as u64) as usize).is_some_and(|place| {
            let noted = place.load(Ordering::Relaxed);
            let age = now - Moment::at((noted & 0xffff_ffff) as i64);
            noted != 0 && noted >> 32 == hash >> 32 && age < LATELY
        })
    }

    /// Whether a line about a message that was refused may be written: one a minute.
    pub fn may_write(&self, now: Moment) -> bool {
        self.written_at.begin_again(now, LINE_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_bound_in_each_second() {
        let rates = MessageRates::default();
        let taken =
            |sender, address: &[u8], now| (0..30_000).filter(|_| rates.take(sender, address, Moment::at(now))).count();
        assert_eq!(taken(Sender::Stranger, b"192.0.2.1", 7), MOST_OF_STRANGER as usize);
        assert_eq!(taken(Sender::Stranger, b"192.0.2.2", 7), MOST_OF_STRANGER as usize);
        assert_eq!(taken(Sender::Node, b"192.0.2.1", 7), MOST_OF_NODE as usize, "a stranger takes nothing from a node");
        assert_eq!(taken(Sender::Stranger, b"192.0.2.1", 7), 0);
        assert_eq!(taken(Sender::Stranger, b"192.0.2.1", 8), MOST_OF_STRANGER as usize);
    }

    #[test]
    fn who_has_the_seal_is_a_node_for_a_minute() {
        let rates = MessageRates::default();
        assert!(!rates.has_sealed(b"192.0.2.1", Moment::EPOCH));
        rates.note_sealed(b"192.0.2.1", Moment::at(1_000));
        let is_node = |address: &[u8], now| rates.has_sealed(address, Moment::at(now));
        assert!(is_node(b"192.0.2.1", 1_000) && is_node(b"192.0.2.1", 1_059) && !is_node(b"192.0.2.1", 1_060));
        let others = (0..2_000).map(|n| format!("198.51.{}.{}", n / 250, n % 250));
        assert_eq!(others.filter(|address| is_node(address.as_bytes(), 1_000)).count(), 0, "a place is not an address");
    }

    #[test]
    fn what_only_asks_for_room_takes_none() {
        let rates = MessageRates::default();
        let has_room = |now| rates.has_room(Sender::Stranger, b"192.0.2.1", Moment::at(now));
        assert!((0..1_000).all(|_| has_room(7)));
        let taken =
            (0..1_000).filter(|_| has_room(7) && rates.take(Sender::Stranger, b"192.0.2.1", Moment::at(7))).count();
        assert!(taken == MOST_OF_STRANGER as usize && !has_room(7) && has_room(8));
    }

    #[test]
    fn one_line_a_minute() {
        let rates = MessageRates::default();
        let written: Vec<i64> = (0..150).filter(|now| rates.may_write(Moment::at(*now))).collect();
        assert_eq!(written, [0, 60, 120]);
    }

    #[test]
    fn so_many_addresses_are_kept_apart() {
        let rates = MessageRates::default();
        let addresses: Vec<String> = (0..20_000).map(|n| format!("198.51.{}.{}:5060", n / 250, n % 250)).collect();
        let taken = |address: &String| {
            (0..).take_while(|_| rates.take(Sender::Stranger, address.as_bytes(), Moment::at(7))).count()
        };
        let all: usize = addresses.iter().map(taken).sum();
        assert_eq!(all, STRANGERS * MOST_OF_STRANGER as usize);
    }
}
