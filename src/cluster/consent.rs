//! When a node that takes a subscription from another one may send its NOTIFYs: once every other node that holds it has
//! answered the message that says so, and none has answered that it knows a newer version. Of two nodes that take the
//! same subscription at the same time the one with the older version is refused by the other, or has yielded before it
//! answered that one: at no time do both send. A node that does not answer is waited for longer than its lease.
use super::digest::RecordKey;
use crate::shm_safe::shm_safe;
use crate::time::{Instant, Millis};

/// At most this many subscriptions wait for answers at the same time.
pub const MOST_CLAIMS: usize = 1024;

/// A node is waited for this long: one that was frozen asks before it sends, and what was lost was sent again.
pub const LONGEST_WAIT: Millis = Millis(2_500);

/// Nodes have places below 64 times this.
const WORDS: usize = 4;

/// A place that no node has: its answer never comes.
const NOBODY: usize = 64 * WORDS;

const SLOT_BITS: u32 = MOST_CLAIMS.trailing_zeros();

/// Some nodes, by their places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeSet([u64; WORDS + 1]);

shm_safe!(NodeSet(bits));

impl NodeSet {
    /// None.
    pub const NONE: NodeSet = NodeSet([0; WORDS + 1]);

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == NodeSet::NONE
    }

    /// Whether this one is among them.
    pub fn has_place(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|bits| bits & (1 << (place % 64)) != 0)
    }

    /// With one more.
    pub fn add(&mut self, place: usize) {
        self.0.get_mut(place / 64).into_iter().for_each(|bits| *bits |= 1 << (place % 64));
    }

    /// With those of another set.
    pub fn add_all(&mut self, others: &NodeSet) {
        self.0.iter_mut().zip(others.0).for_each(|(bits, others)| *bits |= others);
    }

    /// The nodes of this set that another one does not have.
    pub fn without(self, others: &NodeSet) -> NodeSet {
        let mut rest = self;
        rest.0.iter_mut().zip(others.0).for_each(|(bits, others)| *bits &= !others);
        rest
    }

    /// Without this one.
    pub fn remove(&mut self, place: usize) {
        self.0.get_mut(place / 64).into_iter().for_each(|bits| *bits &= !(1 << (place % 64)));
    }
}

/// What a node answers to: the message that takes a subscription, to each node that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u32);

impl Ticket {
    /// The ticket's number, below 2^26 and never 0.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The ticket with this number.
    pub fn of_number(number: u32) -> Option<Ticket> {
        (number != 0).then_some(Ticket(number))
    }
}

/// A subscription that was taken, and the nodes that have not answered yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenClaim {
    key: RecordKey,
    /// `None`: the place is free.
    since: Option<Instant>,
    awaited: NodeSet,
    /// How often the place was used: answers of before are known by it.
    turn: u16,
}

shm_safe!(OpenClaim { key, since, awaited, turn });

/// A subscription is about to be taken, and these nodes will be sent the message; `None` when too many wait already.
/// Answers to an earlier message about it count no more: another node may have had it meanwhile.
pub fn open(claims: &mut [OpenClaim], key: RecordKey, awaited: NodeSet, now: Instant) -> Option<Ticket> {
    claims.iter_mut().filter(|claim| claim.key == key).for_each(|claim| claim.since = None);
    let (slot, claim) = claims.iter_mut().enumerate().find(|(_, claim)| claim.since.is_none())?;
    let turn = claim.turn.wrapping_add(1).max(1);
    *claim = OpenClaim { key, since: Some(now), awaited, turn };
    Some(Ticket((u32::from(turn) << SLOT_BITS) | slot as u32))
}

/// A node has answered; the subscription, when it was the last one.
pub fn answered(claims: &mut [OpenClaim], ticket: Ticket, place: usize) -> Option<RecordKey> {
    let claim = claim_of(claims, ticket)?;
    claim.awaited.remove(place);
    if !claim.awaited.is_empty() {
        return None;
    }
    claim.since = None;
    Some(claim.key)
}

/// A node has answered that it knows a newer version, and says it: no other answer lets the subscription go on.
pub fn refused(claims: &mut [OpenClaim], ticket: Ticket, place: usize) {
    if let Some(claim) = claim_of(claims, ticket) {
        claim.awaited.remove(place);
        claim.awaited.add(NOBODY);
    }
}

fn claim_of(claims: &mut [OpenClaim], ticket: Ticket) -> Option<&mut OpenClaim> {
    let slot = ticket.0 as usize & (MOST_CLAIMS - 1);
    claims.get_mut(slot).filter(|claim| u32::from(claim.turn) == ticket.0 >> SLOT_BITS && claim.since.is_some())
}

/// The subscriptions that have waited long enough, and the nodes that have not answered.
pub fn take_overdue(claims: &mut [OpenClaim], now: Instant) -> (Vec<RecordKey>, NodeSet) {
    let (mut keys, mut silent) = (Vec::new(), NodeSet::NONE);
    for claim in claims {
        if claim.since.is_some_and(|since| now.since(since) >= LONGEST_WAIT) {
            claim.since = None;
            keys.push(claim.key);
            claim.awaited.remove(NOBODY);
            silent.add_all(&claim.awaited);
        }
    }
    (keys, silent)
}

#[cfg(test)]
mod tests {
    use super::super::lease::LEASE;
    use super::*;

    const NOW: Instant = Instant::at(10_000);

    fn nodes(places: &[usize]) -> NodeSet {
        places.iter().fold(NodeSet::NONE, |mut set, place| {
            set.add(*place);
            set
        })
    }

    #[test]
    fn the_last_answer_lets_it_speak() {
        let mut claims = vec![OpenClaim::default(); MOST_CLAIMS];
        let one = open(&mut claims, RecordKey(7), nodes(&[0, 255]), NOW).expect("room");
        let other = open(&mut claims, RecordKey(8), nodes(&[1]), NOW).expect("room");
        assert_eq!(answered(&mut claims, one, 0), None);
        assert_eq!(answered(&mut claims, one, 0), None, "the same node once more");
        assert_eq!(answered(&mut claims, other, 1), Some(RecordKey(8)));
        assert_eq!(answered(&mut claims, one, 255), Some(RecordKey(7)));
        assert_eq!(answered(&mut claims, one, 255), None, "once");
    }

    #[test]
    fn a_late_answer_is_not_one_to_a_later_claim() {
        let mut claims = vec![OpenClaim::default(); 1];
        assert!(LONGEST_WAIT > LEASE, "a node that was frozen asks by then");
        let first = open(&mut claims, RecordKey(7), nodes(&[3]), NOW).expect("room");
        assert_eq!(take_overdue(&mut claims, NOW + Millis(LONGEST_WAIT.0 - 1)), (vec![], NodeSet::NONE));
        assert_eq!(take_overdue(&mut claims, NOW + LONGEST_WAIT), (vec![RecordKey(7)], nodes(&[3])));
        let second = open(&mut claims, RecordKey(7), nodes(&[3]), NOW + LONGEST_WAIT).expect("room");
        assert_eq!(answered(&mut claims, first, 3), None);
        assert_eq!(answered(&mut claims, second, 3), Some(RecordKey(7)));
    }

    #[test]
    fn who_was_refused_waits_until_it_learns_why() {
        let mut claims = vec![OpenClaim::default(); MOST_CLAIMS];
        let ticket = open(&mut claims, RecordKey(7), nodes(&[3, 4]), NOW).expect("room");
        refused(&mut claims, ticket, 3);
        assert_eq!(answered(&mut claims, ticket, 4), None);
        let (keys, silent) = take_overdue(&mut claims, NOW + LONGEST_WAIT);
        assert!(keys == [RecordKey(7)] && !silent.has_place(3) && !silent.has_place(4));
    }

    #[test]
    fn an_answer_to_an_earlier_message_about_a_subscription_does_not_count() {
        let mut claims = vec![OpenClaim::default(); MOST_CLAIMS];
        let first = open(&mut claims, RecordKey(7), nodes(&[3]), NOW).expect("room");
        let second = open(&mut claims, RecordKey(7), nodes(&[3, 4]), NOW).expect("room");
        assert_eq!((answered(&mut claims, first, 3), answered(&mut claims, second, 3)), (None, None));
        assert_eq!(answered(&mut claims, second, 4), Some(RecordKey(7)));
    }

    #[test]
    fn tickets_have_numbers_that_fit_and_there_are_so_many_at_once() {
        let mut claims = vec![OpenClaim::default(); MOST_CLAIMS];
        for _ in 0..70_000 {
            let ticket = open(&mut claims, RecordKey(1), nodes(&[1]), NOW).expect("room");
            assert!((1..1 << 26).contains(&ticket.number()) && Ticket::of_number(ticket.number()) == Some(ticket));
            assert_eq!(answered(&mut claims, ticket, 1), Some(RecordKey(1)));
        }
        let mut next = |key| open(&mut claims, RecordKey(key), nodes(&[1]), NOW);
        assert!((0..MOST_CLAIMS as u64).all(|key| next(key).is_some()));
        assert!(next(MOST_CLAIMS as u64).is_none() && next(0).is_some());
        assert_eq!(
            (nodes(&[400]), nodes(&[64]).has_place(64), nodes(&[64]).has_place(0)),
            (NodeSet::NONE, true, false)
        );
    }
}
