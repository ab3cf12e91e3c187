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

/// So many parts of a page are waited for; those beyond, of pages of publications or with unusually long records, are
/// taken as they come.
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
    pub fn of(pull: Pull, now: Instant) -> Pulling {
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
    /// Since when a node is asked for what it has changed, where so much differs that it is asked; `None` when both
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

/// A range with at most so many records is compared record by record.
pub const FEW: usize = 128;

/// At most so many parts of a range are compared for one message, and at most so many records are sent or asked for.
const MOST_PARTS: usize = 16;
const MOST_RECORDS: usize = 256;

/// A page that has not come after so long is asked for again.
pub const PAGE_TIMEOUT: Millis = Millis(2_000);

/// A node that holds so many more records is asked for pages.
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
    ports.with_pulling(from, |pulling| *pulling = Some(Pulling::of(pull, now)));
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
        *pulling = next.map(|pull| Pulling { began_at, ..Pulling::of(pull, now) });
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
mod tests {
    use super::super::unsettled::{self, Difference, ExchangeVerdict};
    use super::*;

    const START: Instant = Instant::at(1);

    /// A node that asks another one, and notes what it has taken in when it is answered.
    #[derive(Default)]
    struct Asking {
        pulling: Option<Pulling>,
        taken: Vec<u8>,
        sent: Vec<ExchangeMessage<u8>>,
        answered: Vec<Vec<u8>>,
        agreed: bool,
        more: usize,
        exchanged: usize,
        held: Vec<DigestEntry>,
        differences: Vec<Difference>,
        /// All that there is goes into one page, which has so many records.
        one_page: Option<u8>,
        is_full: bool,
    }

    impl ExchangePorts for Asking {
        type Peer = ();
        type Record = u8;

        fn entries(&mut self, _: KeyRange) -> Vec<DigestEntry> {
            self.held.clone()
        }

        fn records(&mut self, keys: &[RecordKey]) -> Vec<u8> {
            keys.iter().map(|key| key.0 as u8).collect()
        }

        fn page(&mut self, pull: Pull) -> RecordPage<u8> {
            if let Some(records) = self.one_page {
                return RecordPage { records: (0..records).collect(), next: None };
            }
            let first = pull.cursor as u8;
            RecordPage { records: (first..first + 5).collect(), next: (first == 0).then_some(5) }
        }

        fn merge(&mut self, (): (), record: u8) {
            self.taken.push(record);
        }

        fn parts(&mut self, records: Vec<u8>) -> Vec<Vec<u8>> {
            records.chunks(2).map(<[u8]>::to_vec).collect()
        }

        fn send(&mut self, (): (), message: ExchangeMessage<u8>) {
            self.sent.push(message);
        }

        fn has_room(&mut self) -> bool {
            !self.is_full
        }

        fn with_pulling<T>(&mut self, (): (), work: impl FnOnce(&mut Option<Pulling>) -> T) -> T {
            work(&mut self.pulling)
        }

        fn note_agreed(&mut self, (): ()) {
            self.agreed = true;
        }

        fn take_catch_up(&mut self, (): ()) -> Option<Stamp> {
            std::mem::take(&mut self.agreed).then_some(Stamp(7))
        }

        fn note_more(&mut self, (): ()) {
            self.more += 1;
        }

        fn note_exchanged(&mut self, (): ()) {
            self.exchanged += 1;
        }

        fn may_exchange(&mut self, (): (), key: RecordKey, states: u64, now: Instant) -> bool {
            self.differences.resize(unsettled::MOST_DIFFERENCES, Difference::default());
            unsettled::judge(&mut self.differences, key.0, states, now) != ExchangeVerdict::LeaveAlone
        }

        fn on_answered(&mut self, (): (), _: Stamp) {
            self.answered.push(self.taken.clone());
        }
    }

    fn answer_to(pull: ExchangeMessage<u8>) -> Vec<ExchangeMessage<u8>> {
        let mut asked = Asking::default();
        on_message(&mut asked, (), pull, Instant::at(0));
        asked.sent
    }

    fn asking() -> (Asking, ExchangeMessage<u8>) {
        let mut asking = Asking::default();
        super::pull(&mut asking, (), Stamp::default(), START);
        let question = asking.sent.remove(0);
        (asking, question)
    }

    #[test]
    fn a_page_has_come_when_all_its_parts_have_in_whatever_order() {
        for turned in 0..4 {
            let (mut asking, question) = asking();
            let mut messages = answer_to(question);
            messages.rotate_left(turned);
            for message in messages {
                assert!(asking.sent.is_empty());
                on_message(&mut asking, (), message, Instant::at(1));
            }
            assert_eq!(asking.sent, [ExchangeMessage::Pull(Pull { cursor: 5, since: Stamp::default() })]);
            let question = asking.sent.remove(0);
            let mut messages = answer_to(question);
            messages.rotate_right(turned);
            messages.into_iter().for_each(|message| on_message(&mut asking, (), message, Instant::at(2)));
            asking.taken.sort_unstable();
            assert_eq!(asking.answered.iter().map(Vec::len).collect::<Vec<_>>(), [10]);
            assert_eq!((asking.taken, asking.pulling), ((0..10).collect(), None));
        }
    }

    #[test]
    fn a_part_that_is_lost_is_asked_for_with_its_page() {
        let (mut asking, question) = asking();
        let mut messages = answer_to(question.clone());
        messages.remove(1);
        // What comes twice counts once.
        messages.push(messages[0].clone());
        messages.into_iter().for_each(|message| on_message(&mut asking, (), message, Instant::at(1)));
        assert!(
            asking.sent.is_empty()
                && go_on(&mut asking, (), START + Millis(PAGE_TIMEOUT.0 - 1))
                && asking.sent.is_empty()
        );
        assert!(go_on(&mut asking, (), START + PAGE_TIMEOUT));
        assert_eq!(asking.sent, std::slice::from_ref(&question));
        answer_to(question).into_iter().for_each(|message| on_message(&mut asking, (), message, START + PAGE_TIMEOUT));
        assert_eq!(asking.sent.len(), 2, "the next page is asked for, once");
    }

    #[test]
    fn each_part_is_compared_though_what_comes_before_it_never_settles() {
        let mut node = Asking::default();
        let mut compared = std::collections::BTreeSet::new();
        for second in 1..=100 {
            // The same differs each time, in all parts.
            on_message(
                &mut node,
                (),
                ExchangeMessage::Sums(KeyRange::ALL, vec![1; PARTS]),
                Instant::at(second * 1_000),
            );
            let sent = node.sent.drain(..);
            compared.extend(sent.filter_map(|message| match message {
                ExchangeMessage::Keys(range, _) => Some((0..PARTS).find(|part| KeyRange::ALL.part(*part) == range)),
                _ => None,
            }));
        }
        assert_eq!((compared.len(), node.more), (PARTS, 100));
    }

    #[test]
    fn where_much_differs_what_was_changed_is_asked_for_once() {
        let mut node = Asking { agreed: true, ..Asking::default() };
        let sums = |differing: usize| {
            ExchangeMessage::Sums(KeyRange::ALL, (0..PARTS).map(|at| (at < differing).into()).collect())
        };
        on_message(&mut node, (), sums(MOST_PARTS + 1), Instant::at(1));
        let question = ExchangeMessage::Pull(Pull { cursor: 0, since: Stamp(7) });
        let sent = |node: &mut Asking| {
            let sent = std::mem::take(&mut node.sent);
            (sent.contains(&question), sent.len(), std::mem::take(&mut node.more))
        };
        assert_eq!(sent(&mut node), (true, 1 + MOST_PARTS, 1));
        // What still differs then is compared part by part, and soon again.
        node.pulling = None;
        on_message(&mut node, (), sums(MOST_PARTS + 1), Instant::at(2));
        assert_eq!(sent(&mut node), (false, MOST_PARTS, 1));
        // As soon as little differs there is a new beginning.
        on_message(&mut node, (), sums(MOST_PARTS), Instant::at(3));
        assert_eq!(sent(&mut node), (false, MOST_PARTS, 0));
        on_message(&mut node, (), sums(PARTS), Instant::at(4));
        assert_eq!(sent(&mut node), (true, 1 + MOST_PARTS, 1));
    }

    #[test]
    fn a_node_that_does_not_count_parts_is_believed() {
        let (mut asking, question) = asking();
        let ExchangeMessage::Pull(pull) = question else { unreachable!() };
        on_message(&mut asking, (), ExchangeMessage::Page(pull, PageEnd { next: None, parts: 0 }), Instant::at(1));
        assert_eq!(asking.answered.len(), 1);
        // An answer to something else is none.
        on_message(&mut asking, (), ExchangeMessage::Page(pull, PageEnd { next: None, parts: 0 }), Instant::at(1));
        assert_eq!(asking.answered.len(), 1);
    }

    #[test]
    fn what_exchanging_does_not_settle_holds_up_nothing_else() {
        let entry = |key: u64, state: u32| DigestEntry { key: RecordKey(key), state };
        let mut asking = Asking { held: vec![entry(1, 1), entry(2, 5)], ..Asking::default() };
        let mut exchanges = 0;
        for round in 0..200 {
            let theirs = vec![entry(1, 2), entry(2, 5), entry(3, 9)];
            on_message(&mut asking, (), ExchangeMessage::Keys(KeyRange::ALL, theirs), Instant::at(round * 5_000));
            let (sent, wanted) =
                (ExchangeMessage::Records(vec![1]), ExchangeMessage::Want(vec![RecordKey(1), RecordKey(3)]));
            let said = std::mem::take(&mut asking.sent);
            assert!(said.is_empty() || said == [sent, wanted], "{said:?}");
            exchanges += usize::from(!said.is_empty());
        }
        assert!((20..=30).contains(&exchanges), "{exchanges} of 200");
        // A record that has changed is exchanged at once.
        asking.held[0].state = 3;
        on_message(
            &mut asking,
            (),
            ExchangeMessage::Keys(KeyRange::ALL, vec![entry(1, 2), entry(2, 5), entry(3, 9)]),
            Instant::at(1_000_001),
        );
        assert_eq!(asking.sent, [ExchangeMessage::Records(vec![1]), ExchangeMessage::Want(vec![RecordKey(1)])]);
        // What comes of an exchange, from the other node, is a sign that it goes on.
        for message in [ExchangeMessage::Records(vec![7]), ExchangeMessage::Want(vec![RecordKey(2)])] {
            on_message(&mut asking, (), message, Instant::at(0));
        }
        assert_eq!((asking.exchanged, asking.taken), (2, vec![7]));
    }

    #[test]
    fn parts_beyond_those_that_are_counted_are_not_waited_for() {
        let counted = usize::from(MOST_COUNTED);
        for parts in [counted, counted + 1, 100] {
            let (mut asking, question) = asking();
            let mut asked = Asking { one_page: Some(2 * parts as u8), ..Asking::default() };
            on_message(&mut asked, (), question, Instant::at(0));
            // The end of the page comes first, the first part last.
            let messages: Vec<_> = asked.sent.into_iter().rev().collect();
            let (first, others) = messages.split_last().unwrap();
            others.iter().for_each(|message| on_message(&mut asking, (), message.clone(), Instant::at(1)));
            assert!(asking.answered.is_empty() && asking.taken.len() == 2 * (parts - 1));
            on_message(&mut asking, (), first.clone(), Instant::at(1));
            assert_eq!((asking.answered.len(), asking.taken.len()), (1, 2 * parts));
            // What is beyond is taken in when it comes, and nobody waits for it.
            let (mut asking, _) = self::asking();
            let (late, in_time): (Vec<_>, Vec<_>) = messages
                .into_iter()
                .partition(|message| matches!(message, ExchangeMessage::Part(_, part, _) if *part >= MOST_COUNTED));
            in_time.into_iter().for_each(|message| on_message(&mut asking, (), message, Instant::at(1)));
            assert_eq!((asking.answered.len(), asking.taken.len()), (1, 2 * counted));
            late.into_iter().for_each(|message| on_message(&mut asking, (), message, Instant::at(1)));
            assert_eq!(asking.taken.len(), 2 * parts);
        }
    }

    #[test]
    fn one_message_asks_for_a_bounded_number_of_records() {
        let entries =
            |first: u64| (first..first + 300).map(|key| DigestEntry { key: RecordKey(key), state: 1 }).collect();
        let mut node = Asking { held: entries(0), ..Asking::default() };
        on_message(&mut node, (), ExchangeMessage::Keys(KeyRange::ALL, entries(1_000)), Instant::at(1));
        let (mut sent, mut wanted) = (0, 0);
        for message in std::mem::take(&mut node.sent) {
            match message {
                ExchangeMessage::Records(records) => sent += records.len(),
                ExchangeMessage::Want(keys) => wanted += keys.len(),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((sent, wanted), (MOST_RECORDS, MOST_RECORDS));
        // A node that is asked for more sends no more.
        on_message(&mut node, (), ExchangeMessage::Want((0..300).map(RecordKey).collect()), Instant::at(1));
        assert_eq!(node.sent.len(), MOST_RECORDS / 2, "two records in each message");
    }

    #[test]
    fn without_room_no_page_is_asked_for_or_sent() {
        let (mut asking, question) = asking();
        let mut asked = Asking { is_full: true, ..Asking::default() };
        on_message(&mut asked, (), question.clone(), Instant::at(0));
        assert!(asked.sent.is_empty());
        asking.is_full = true;
        answer_to(question).into_iter().for_each(|message| on_message(&mut asking, (), message, START));
        assert_eq!((asking.taken.len(), asking.sent.len()), (5, 0), "what comes is taken in");
        assert!(go_on(&mut asking, (), START + PAGE_TIMEOUT) && asking.sent.is_empty());
        asking.is_full = false;
        assert!(go_on(&mut asking, (), START + PAGE_TIMEOUT));
        assert_eq!(asking.sent, [ExchangeMessage::Pull(Pull { cursor: 5, since: Stamp::default() })]);
    }
}
