//! Two nodes compare and exchange what they hold, in memory.
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
    /// All that there is goes into one page: the number of its records.
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
        asking.sent.is_empty() && go_on(&mut asking, (), START + Millis(PAGE_TIMEOUT.0 - 1)) && asking.sent.is_empty()
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
        on_message(&mut node, (), ExchangeMessage::Sums(KeyRange::ALL, vec![1; PARTS]), Instant::at(second * 1_000));
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
    let sums =
        |differing: usize| ExchangeMessage::Sums(KeyRange::ALL, (0..PARTS).map(|at| (at < differing).into()).collect());
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
    let entries = |first: u64| (first..first + 300).map(|key| DigestEntry { key: RecordKey(key), state: 1 }).collect();
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
