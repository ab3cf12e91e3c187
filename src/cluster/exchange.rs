//! How two nodes come to hold the same, whatever was lost between them (anti-entropy). One says what the sum of its
//! records is; where the other's differs they compare parts, and send each other what differs. A node that lacks much
//! asks for it page by page, and for the next page when it has taken in the last one and has memory for more. Nothing
//! depends on a single message: what is lost is found the next time.
use super::clock::Stamp;
use super::digest::{DEEPEST, Entry, Key, PARTS, Range, sum, sums};
use crate::shm_safe::shm_safe;
use std::collections::HashMap;

/// The sum of all records of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Root {
    /// How many there are.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

/// What nodes say to each other about their records.
#[derive(Debug, Clone, PartialEq)]
pub enum Message<R> {
    /// What I hold.
    Root(Root),
    /// What I hold in the parts of a range.
    Sums(Range, Vec<u64>),
    /// What I hold in a range, which is little.
    Keys(Range, Vec<Entry>),
    /// Send me these.
    Want(Vec<Key>),
    /// These records, as I hold them.
    Records(Vec<R>),
    /// Send me a page.
    Pull(Pull),
    /// The page has been sent, and the next one begins here; `None`: it was the last.
    Page(Pull, Option<u64>),
}

/// Which page a node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pull {
    /// Where it begins; 0: at the beginning.
    pub cursor: u64,
    /// Only records that were changed since.
    pub since: Stamp,
}

shm_safe!(Pull { cursor, since });

/// A pull under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulling {
    /// What was asked for last.
    pub pull: Pull,
    /// When, in milliseconds of a clock that nobody sets.
    pub asked_at: u64,
    /// When it began.
    pub began_at: u64,
}

shm_safe!(Pulling { pull, asked_at, began_at });

/// What the exchange asks of the node it runs on.
pub trait Ports {
    /// Another node.
    type Peer: Copy;
    /// A record as it travels.
    type Record;

    /// The records in a range.
    fn entries(&mut self, range: Range) -> Vec<Entry>;
    /// The records with these keys.
    fn records(&mut self, keys: &[Key]) -> Vec<Self::Record>;
    /// The records of a page, and where the next one begins.
    fn page(&mut self, pull: Pull) -> (Vec<Self::Record>, Option<u64>);
    /// Takes in what another node holds.
    fn merge(&mut self, from: Self::Peer, record: Self::Record);
    /// Sends a message; [`Message::Records`] in as many as it takes.
    fn send(&mut self, to: Self::Peer, message: Message<Self::Record>);
    /// Whether there is memory for another page.
    fn has_room(&mut self) -> bool;
    /// The pull under way from a node.
    fn pulling(&mut self, from: Self::Peer) -> Option<Pulling>;
    /// Notes what becomes of it.
    fn set_pulling(&mut self, from: Self::Peer, pulling: Option<Pulling>);
    /// A node has sent all that was changed since a moment.
    fn on_answered(&mut self, from: Self::Peer, since: Stamp);
}

/// A range with at most so many records is compared record by record.
pub const FEW: usize = 128;

/// At most so many parts of a range are compared for one message, and at most so many records are sent or asked for.
const MOST_PARTS: usize = 16;
const MOST_RECORDS: usize = 256;

/// A page that has not come after so long is asked for again, in milliseconds.
pub const PAGE_TIMEOUT: u64 = 2_000;

/// A node that holds so many more records is asked for pages.
const FAR_BEHIND: u64 = 64;

/// The sum of all records here.
pub fn root<P: Ports>(ports: &mut P) -> Root {
    let entries = ports.entries(Range::ALL);
    Root { count: entries.len() as u64, sum: sum(entries.iter()) }
}

/// Says to a node what there is here: it answers where it holds something else.
pub fn compare<P: Ports>(ports: &mut P, with: P::Peer) {
    let root = root(ports);
    ports.send(with, Message::Root(root));
}

/// Asks a node for all there is, or for what was changed since a moment.
pub fn pull<P: Ports>(ports: &mut P, from: P::Peer, since: Stamp, now: u64) {
    let pull = Pull { cursor: 0, since };
    ports.set_pulling(from, Some(Pulling { pull, asked_at: now, began_at: now }));
    ports.send(from, Message::Pull(pull));
}

/// Goes on with a pull whose page was lost, or had to wait for memory; `false` when none is under way.
pub fn go_on<P: Ports>(ports: &mut P, from: P::Peer, now: u64) -> bool {
    let Some(pulling) = ports.pulling(from) else { return false };
    if now.saturating_sub(pulling.asked_at) >= PAGE_TIMEOUT && ports.has_room() {
        ports.set_pulling(from, Some(Pulling { asked_at: now, ..pulling }));
        ports.send(from, Message::Pull(pulling.pull));
    }
    true
}

/// Answers a message of another node.
pub fn on_message<P: Ports>(ports: &mut P, from: P::Peer, message: Message<P::Record>, now: u64) {
    match message {
        Message::Root(theirs) => on_root(ports, from, theirs, now),
        Message::Sums(range, theirs) => on_sums(ports, from, range, &theirs),
        Message::Keys(range, theirs) => on_keys(ports, from, range, &theirs),
        Message::Want(mut keys) => {
            keys.truncate(MOST_RECORDS);
            send_records(ports, from, &keys);
        }
        Message::Records(records) => records.into_iter().for_each(|record| ports.merge(from, record)),
        // Who asks asks again.
        Message::Pull(_) if !ports.has_room() => {}
        Message::Pull(pull) => {
            let (records, next) = ports.page(pull);
            if !records.is_empty() {
                ports.send(from, Message::Records(records));
            }
            ports.send(from, Message::Page(pull, next));
        }
        Message::Page(page, next) => on_page(ports, from, page, next, now),
    }
}

fn send_records<P: Ports>(ports: &mut P, to: P::Peer, keys: &[Key]) {
    let records = if keys.is_empty() { Vec::new() } else { ports.records(keys) };
    if !records.is_empty() {
        ports.send(to, Message::Records(records));
    }
}

fn on_root<P: Ports>(ports: &mut P, from: P::Peer, theirs: Root, now: u64) {
    let entries = ports.entries(Range::ALL);
    let mine = Root { count: entries.len() as u64, sum: sum(entries.iter()) };
    if mine == theirs {
        return;
    }
    if theirs.count > 2 * mine.count + FAR_BEHIND {
        if ports.pulling(from).is_none() {
            pull(ports, from, Stamp::default(), now);
        }
    } else if mine.count > 2 * theirs.count + FAR_BEHIND {
        ports.send(from, Message::Root(mine));
    } else {
        ports.send(from, Message::Sums(Range::ALL, sums(Range::ALL, &entries)));
    }
}

fn on_sums<P: Ports>(ports: &mut P, from: P::Peer, range: Range, theirs: &[u64]) {
    if !range.is_valid() || range.depth >= DEEPEST || theirs.len() != PARTS {
        return;
    }
    let entries = ports.entries(range);
    let mine = sums(range, &entries);
    // Another part comes first each time: where too much differs for one message nothing waits for ever.
    let first = (mine.iter().fold(0, |sum: u64, part| sum.wrapping_add(*part)) % PARTS as u64) as usize;
    let parts = (0..PARTS).map(|at| (first + at) % PARTS).filter(|part| mine[*part] != theirs[*part]);
    for part in parts.take(MOST_PARTS) {
        let part = range.part(part);
        let held: Vec<Entry> = entries.iter().copied().filter(|entry| part.contains(entry.key)).collect();
        let message = match held.len() > FEW && part.depth < DEEPEST {
            true => Message::Sums(part, sums(part, &held)),
            false => Message::Keys(part, held),
        };
        ports.send(from, message);
    }
}

fn on_keys<P: Ports>(ports: &mut P, from: P::Peer, range: Range, theirs: &[Entry]) {
    if !range.is_valid() {
        return;
    }
    let theirs: HashMap<Key, u32> = theirs.iter().map(|entry| (entry.key, entry.state)).collect();
    let mine: HashMap<Key, u32> = ports.entries(range).into_iter().map(|entry| (entry.key, entry.state)).collect();
    let differing = |a: &HashMap<Key, u32>, b: &HashMap<Key, u32>| {
        let mut keys: Vec<Key> =
            a.iter().filter(|(key, state)| b.get(key) != Some(state)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.truncate(MOST_RECORDS);
        keys
    };
    let (lacking, wanted) = (differing(&mine, &theirs), differing(&theirs, &mine));
    send_records(ports, from, &lacking);
    if !wanted.is_empty() {
        ports.send(from, Message::Want(wanted));
    }
}

fn on_page<P: Ports>(ports: &mut P, from: P::Peer, page: Pull, next: Option<u64>, now: u64) {
    let Some(pulling) = ports.pulling(from).filter(|pulling| pulling.pull == page) else { return };
    match next {
        None => {
            ports.set_pulling(from, None);
            ports.on_answered(from, page.since);
        }
        Some(cursor) => {
            let pull = Pull { cursor, ..page };
            // Without room the timer asks, once there is.
            let may_ask = ports.has_room();
            ports.set_pulling(from, Some(Pulling { pull, asked_at: now, ..pulling }));
            if may_ask {
                ports.send(from, Message::Pull(pull));
            }
        }
    }
}
