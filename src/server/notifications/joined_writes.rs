//! Several NOTIFYs of one pass to one connection go out in one write.
use crate::common::counters::{Counter, count, count_many};
use crate::host::direct::Destination;

/// A write is no longer than this, in bytes, unless a single NOTIFY is: half of what the host keeps for a connection
/// that does not take it at once (`tcp_conn_wq_max`).
const LONGEST_WRITE: usize = 16 << 10;

/// At most this many connections are written to at a time.
const MOST_CONNECTIONS: usize = 32;

/// What waits in this process to be written.
#[derive(Default)]
pub struct JoinedWrites {
    /// NOTIFYs may wait for others.
    pub is_open: bool,
    writes: Vec<Write>,
}

struct Write {
    destination: Destination,
    text: Vec<u8>,
    notifies: usize,
}

impl Write {
    /// Gives the text to the host. NOTIFYs that a connection does not take any more go unanswered.
    fn send(self) {
        if self.notifies > 1 {
            count(Counter::NotifyJoinedWrites);
        }
        if self.destination.send(&self.text).is_err() {
            count_many(Counter::NotifyTransportErrors, self.notifies);
        }
    }
}

impl JoinedWrites {
    /// Adds a NOTIFY, behind what goes to the same connection.
    pub fn push(&mut self, destination: &Destination, text: &[u8]) {
        let index = self.writes.iter().position(|write| write.destination.is_same(destination));
        if let Some(index) = index {
            if self.writes[index].text.len() + text.len() <= LONGEST_WRITE {
                self.writes[index].text.extend_from_slice(text);
                self.writes[index].notifies += 1;
                return;
            }
            self.writes.remove(index).send();
        } else if self.writes.len() == MOST_CONNECTIONS {
            self.writes.remove(0).send();
        }
        self.writes.push(Write { destination: destination.clone(), text: text.to_vec(), notifies: 1 });
    }

    /// Writes all of it; what follows is not joined.
    pub fn part(&mut self) {
        self.is_open = false;
        self.writes.drain(..).for_each(Write::send);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn writes_are_bounded_in_size_and_number() {
        let mut writes = JoinedWrites::default();
        let one = Destination::of_port(1);
        for bytes in [LONGEST_WRITE - 10, 10, 1] {
            writes.push(&one, &vec![b'x'; bytes]);
        }
        assert_eq!(fake::taken_writes(), [LONGEST_WRITE]);
        writes.part();
        assert_eq!(fake::taken_writes(), [1]);
        // A NOTIFY that is longer by itself goes alone.
        writes.push(&one, b"x");
        writes.push(&one, &vec![b'x'; LONGEST_WRITE + 1]);
        writes.push(&one, b"xx");
        writes.part();
        assert_eq!(fake::taken_writes(), [1, LONGEST_WRITE + 1, 2]);
        // The connection that was written to first gives way to one more.
        (1..=MOST_CONNECTIONS).for_each(|port| writes.push(&Destination::of_port(port as u16), &vec![b'x'; port]));
        assert!(fake::taken_writes().is_empty());
        writes.push(&Destination::of_port(1_000), b"x");
        assert_eq!(fake::taken_writes(), [1]);
        writes.part();
        assert_eq!(fake::taken_writes().len(), MOST_CONNECTIONS);
    }
}
