//! How two nodes come to hold the same, whatever was lost between them (anti-entropy). One says what the sum of its
//! records is; where the other's differs they compare parts, and send each other what differs. A node that lacks much
//! asks for it page by page, and for the next page when it has taken in the last one and has memory for more. Nothing
//! depends on a single message: what is lost is found the next time.
use super::clock::Stamp;
use super::digest::{DEEPEST, DigestEntry, KeyRange, PARTS, RecordKey, mixed, sum, sums};
use crate::shm_safe::shm_safe;
use crate::time::{Instant, Millis};
use std::collections::BTreeMap;

/// The sum of all records of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Root {
    /// How many there are.
    pub count: u64,
    /// The sum of the records' digests.
    pub sum: u64,
}

/// What nodes say to each other about their records.
#[derive(Debug, Clone, PartialEq)]
pub enum ExchangeMessage<R> {
    /// What I hold.
    Root(Root),
    /// What I hold in the parts of a range.
    Sums(KeyRange, Vec<u64>),
    /// What I hold in a range, which is little.
    Keys(KeyRange, Vec<DigestEntry>),
    /// Send me these.
    Want(Vec<RecordKey>),
    /// Records, as the sender holds them.
    Records(Vec<R>),
    /// Send me a page.
    Pull(Pull),
    /// Records of a page, and which part of it they are.
    Part(Pull, u8, Vec<R>),
    /// The page has been sent.
    Page(Pull, PageEnd),
}

/// What a node says that has sent a page. Messages overtake each other: the page has come when all its parts have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageEnd {
    /// Where the next one begins; `None`: it was the last.
    pub next: Option<u64>,
    /// In how many parts it was sent, [`MOST_COUNTED`] at most; 0 from nodes that do not say.
    pub parts: u8,
}

shm_safe!(PageEnd { next, parts });

/// At most this many parts of a page are waited for; those beyond, of pages of publications or with unusually long
/// records, are taken as they come.
pub const MOST_COUNTED: u8 = 64;

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
    /// When the question was asked.
    pub asked_at: Instant,
    /// When it began.
    pub began_at: Instant,
    /// When something of it came last, or it was begun.
    pub came_at: Instant,
    /// Which parts of the page have been taken in, as bits.
    pub taken: u64,
    /// The end of the page, when it came before all of them.
    pub end: Option<PageEnd>,
}

shm_safe!(Pulling { pull, asked_at, began_at, came_at, taken, end });

impl Pulling {
    /// What is asked for, from now on.
    pub fn begun(pull: Pull, now: Instant) -> Pulling {
        Pulling { pull, asked_at: now, began_at: now, came_at: now, taken: 0, end: None }
    }

    /// Whether it moves: a node that has no memory to spare sends no page, for as long as that lasts.
    pub fn moves(&self, now: Instant) -> bool {
        now.since(self.came_at) < PAGE_TIMEOUT
    }

    /// The end of the page when all of it has been taken in.
    fn ended(&self) -> Option<PageEnd> {
        self.end.filter(|end| u32::from(end.parts) <= self.taken.trailing_ones())
    }
}

/// Records of a node, and where its next ones begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPage<R> {
    /// The records.
    pub records: Vec<R>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<u64>,
}

/// What the exchange asks of the node it runs on.
pub trait ExchangePorts {
    /// Another node.
    type Peer: Copy;
    /// A record as it travels.
    type Record;

    /// The records in a range.
    fn entries(&mut self, range: KeyRange) -> Vec<DigestEntry>;
    /// The records with these keys.
    fn records(&mut self, keys: &[RecordKey]) -> Vec<Self::Record>;
    /// The page of records that is pulled.
    fn page(&mut self, pull: Pull) -> RecordPage<Self::Record>;
    /// Takes in what another node holds.
    fn merge(&mut self, from: Self::Peer, record: Self::Record);
    /// Records in as many parts as it takes messages to send them.
    fn parts(&mut self, records: Vec<Self::Record>) -> Vec<Vec<Self::Record>>;
    /// Sends a message.
    fn send(&mut self, to: Self::Peer, message: ExchangeMessage<Self::Record>);
    /// Whether there is memory for another page.
    fn has_room(&mut self) -> bool;
    /// The pull under way from a node, looked at and changed before anybody else does.
    fn with_pulling<T>(&mut self, from: Self::Peer, work: impl FnOnce(&mut Option<Pulling>) -> T) -> T;
    /// Notes that both nodes hold the same now, or nearly so.
    fn note_agreed(&mut self, with: Self::Peer);
    /// Since when a node is asked for what it has changed, where too much differs for a comparison; `None` when both
    /// never held the same, or it was asked since.
    fn take_catch_up(&mut self, with: Self::Peer) -> Option<Stamp>;
    /// More differs than this comparison settles: the next one is soon, if records were exchanged since the last one.
    fn note_more(&mut self, with: Self::Peer);
    /// Records that differ are exchanged with a node.
    fn note_exchanged(&mut self, with: Self::Peer);
    /// Whether a record is exchanged that both hold in these states, see [`super::unsettled`].
    fn may_exchange(&mut self, with: Self::Peer, key: RecordKey, states: u64, now: Instant) -> bool;
    /// A node has sent all that was changed since a moment.
    fn on_answered(&mut self, from: Self::Peer, since: Stamp);
}

/// A range with at most this many records is compared record by record.
pub const FEW: usize = 128;

/// At most this many parts of a range are compared for one message, and at most this many records are sent or asked
/// for.
const MOST_PARTS: usize = 16;
const MOST_RECORDS: usize = 256;

/// A page that has not come within this time is asked for again.
pub const PAGE_TIMEOUT: Millis = Millis(2_000);

/// A node that holds this many more records is asked for pages.
const FAR_BEHIND: u64 = 64;

/// The sum of all records here.
pub fn root<P: ExchangePorts>(ports: &mut P) -> Root {
    let entries = ports.entries(KeyRange::ALL);
    Root { count: entries.len() as u64, sum: sum(entries.iter()) }
}

/// Says to a node what there is here: it answers where it holds something else.
pub fn compare<P: ExchangePorts>(ports: &mut P, with: P::Peer) {
    let root = root(ports);
    ports.send(with, ExchangeMessage::Root(root));
}

/// Asks a node for all there is, or for what was changed since a moment.
pub fn pull<P: ExchangePorts>(ports: &mut P, from: P::Peer, since: Stamp, now: Instant) {
    let pull = Pull { cursor: 0, since };
    ports.with_pulling(from, |pulling| *pulling = Some(Pulling::begun(pull, now)));
    ports.send(from, ExchangeMessage::Pull(pull));
}

/// Goes on with a pull whose page was lost, or had to wait for memory; `false` when none is under way.
pub fn go_on<P: ExchangePorts>(ports: &mut P, from: P::Peer, now: Instant) -> bool {
    let Some(pulling) = ports.with_pulling(from, |pulling| *pulling) else { return false };
    if now.since(pulling.asked_at) >= PAGE_TIMEOUT && ports.has_room() {
        ports.with_pulling(from, |latest| {
            for latest in latest.iter_mut().filter(|latest| latest.pull == pulling.pull) {
                // The second answer may be cut differently: what has come of the first does not count for it.
                (latest.asked_at, latest.taken, latest.end) = (now, 0, None);
            }
        });
        ports.send(from, ExchangeMessage::Pull(pulling.pull));
    }
    true
}

/// Answers a message of another node.
pub fn on_message<P: ExchangePorts>(ports: &mut P, from: P::Peer, message: ExchangeMessage<P::Record>, now: Instant) {
    match message {
        ExchangeMessage::Root(theirs) => on_root(ports, from, theirs, now),
        ExchangeMessage::Sums(range, theirs) => on_sums(ports, from, range, &theirs, now),
        ExchangeMessage::Keys(range, theirs) => on_keys(ports, from, range, &theirs, now),
        ExchangeMessage::Want(mut keys) => {
            keys.truncate(MOST_RECORDS);
            ports.note_exchanged(from);
            send_records(ports, from, &keys);
        }
        ExchangeMessage::Records(records) => {
            ports.note_exchanged(from);
            records.into_iter().for_each(|record| ports.merge(from, record));
        }
        // The other node asks again by itself.
        ExchangeMessage::Pull(_) if !ports.has_room() => {}
        ExchangeMessage::Pull(pull) => send_page(ports, from, pull),
        ExchangeMessage::Part(page, part, records) => {
            records.into_iter().for_each(|record| ports.merge(from, record));
            let taken = 1u64.checked_shl(part.into()).unwrap_or_default();
            on_page(ports, from, page, |pulling| pulling.taken |= taken, now);
        }
        ExchangeMessage::Page(page, end) => on_page(ports, from, page, |pulling| pulling.end = Some(end), now),
    }
}

fn send_page<P: ExchangePorts>(ports: &mut P, to: P::Peer, pull: Pull) {
    let RecordPage { records, next } = ports.page(pull);
    let parts = ports.parts(records);
    let end = PageEnd { next, parts: parts.len().min(MOST_COUNTED.into()) as u8 };
    for (at, part) in parts.into_iter().enumerate() {
        ports.send(to, ExchangeMessage::Part(pull, at.min(u8::MAX.into()) as u8, part));
    }
    ports.send(to, ExchangeMessage::Page(pull, end));
}

fn send_records<P: ExchangePorts>(ports: &mut P, to: P::Peer, keys: &[RecordKey]) {
    let records = if keys.is_empty() { Vec::new() } else { ports.records(keys) };
    for part in ports.parts(records) {
        ports.send(to, ExchangeMessage::Records(part));
    }
}

fn on_root<P: ExchangePorts>(ports: &mut P, from: P::Peer, theirs: Root, now: Instant) {
    let entries = ports.entries(KeyRange::ALL);
    let mine = Root { count: entries.len() as u64, sum: sum(entries.iter()) };
    if mine == theirs {
        return ports.note_agreed(from);
    }
    if theirs.count > 2 * mine.count + FAR_BEHIND {
        if ports.with_pulling(from, |pulling| pulling.is_none()) {
            pull(ports, from, Stamp::default(), now);
        }
    } else if mine.count > 2 * theirs.count + FAR_BEHIND {
        ports.send(from, ExchangeMessage::Root(mine));
    } else {
        ports.send(from, ExchangeMessage::Sums(KeyRange::ALL, sums(KeyRange::ALL, &entries)));
    }
}

fn on_sums<P: ExchangePorts>(ports: &mut P, from: P::Peer, range: KeyRange, theirs: &[u64], now: Instant) {
    if !range.is_valid() || range.depth >= DEEPEST || theirs.len() != PARTS {
        return;
    }
    let entries = ports.entries(range);
    let mine = sums(range, &entries);
    // Another part comes first each time, also where what came first the last time has not settled: where too much
    // differs for one message nothing waits for ever.
    let sum = mine.iter().fold(0, |sum: u64, part| sum.wrapping_add(*part));
    let first = (mixed(sum ^ now.since(Instant::at(0)).0) % PARTS as u64) as usize;
    let differing = (0..PARTS).map(|at| (first + at) % PARTS).filter(|part| mine[*part] != theirs[*part]);
    let mut parts: Vec<usize> = differing.collect();
    if range == KeyRange::ALL && parts.len() <= MOST_PARTS {
        ports.note_agreed(from);
    } else if range == KeyRange::ALL && ports.with_pulling(from, |pulling| pulling.is_none()) {
        // After a cut: what was changed meanwhile comes page by page, in place of one comparison after the other.
        if let Some(since) = ports.take_catch_up(from) {
            pull(ports, from, since, now);
        }
    }
    if parts.len() > MOST_PARTS {
        ports.note_more(from);
        parts.truncate(MOST_PARTS);
    }
    for part in parts {
        let part = range.part(part);
        let held: Vec<DigestEntry> = entries.iter().copied().filter(|entry| part.contains(entry.key)).collect();
        let message = match held.len() > FEW && part.depth < DEEPEST {
            true => ExchangeMessage::Sums(part, sums(part, &held)),
            false => ExchangeMessage::Keys(part, held),
        };
        ports.send(from, message);
    }
}

fn on_keys<P: ExchangePorts>(ports: &mut P, from: P::Peer, range: KeyRange, theirs: &[DigestEntry], now: Instant) {
    if !range.is_valid() {
        return;
    }
    let theirs: BTreeMap<RecordKey, u32> = theirs.iter().map(|entry| (entry.key, entry.state)).collect();
    let mine: BTreeMap<RecordKey, u32> =
        ports.entries(range).into_iter().map(|entry| (entry.key, entry.state)).collect();
    let mut differing: Vec<RecordKey> =
        mine.iter().filter(|(key, state)| theirs.get(key) != Some(state)).map(|(key, _)| *key).collect();
    differing.extend(theirs.keys().filter(|key| !mine.contains_key(key)));
    differing.sort_unstable();
    // 32 bits of each, and that there is none.
    let half = |state: Option<&u32>| state.map_or(0, |state| u64::from(*state) + 1);
    let (mut lacking, mut wanted) = (Vec::new(), Vec::new());
    for key in differing {
        let (here, there) = (mine.get(&key), theirs.get(&key));
        let has_room = |keys: &Vec<RecordKey>| keys.len() < MOST_RECORDS;
        let (is_lacking, is_wanted) = (here.is_some() && has_room(&lacking), there.is_some() && has_room(&wanted));
        let states = mixed(half(here)).wrapping_add(half(there));
        if (is_lacking || is_wanted) && ports.may_exchange(from, key, states, now) {
            lacking.extend(is_lacking.then_some(key));
            wanted.extend(is_wanted.then_some(key));
        }
    }
    send_records(ports, from, &lacking);
    if !wanted.is_empty() {
        ports.send(from, ExchangeMessage::Want(wanted));
    }
}

/// Notes what has come of a page, and goes on when that is all of it.
fn on_page<P: ExchangePorts>(ports: &mut P, from: P::Peer, page: Pull, note: impl FnOnce(&mut Pulling), now: Instant) {
    let ended = ports.with_pulling(from, |pulling| {
        let under_way = pulling.as_mut().filter(|pulling| pulling.pull == page)?;
        note(under_way);
        under_way.came_at = now;
        let (began_at, end) = (under_way.began_at, under_way.ended()?);
        let next = end.next.map(|cursor| Pull { cursor, ..page });
        *pulling = next.map(|pull| Pulling { began_at, ..Pulling::begun(pull, now) });
        Some(next)
    });
    match ended {
        Some(None) => ports.on_answered(from, page.since),
        // Without room the timer asks, once there is.
        Some(Some(pull)) if ports.has_room() => ports.send(from, ExchangeMessage::Pull(pull)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
