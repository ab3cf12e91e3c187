use super::*;
use crate::host::fake;
use crate::sip::client_transaction::{Reliability, Timers};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const TIMERS: Timers = Timers { t1: Millis(500), t2: Millis(4_000), timeout: Millis(30_000) };

/// The tick `millis` after a test has begun, where the wheel begins a turn.
fn at(millis: u64) -> MilliTick {
    MilliTick::at((POSITIONS << POSITION_BITS) + millis)
}

type Tested = Transactions<u32>;

fn started(all: &Tested, now: u64, payload: u32) -> TransactionKey {
    let claim = all.claim().expect("a free slot");
    let key = claim.key();
    assert!(claim.start(ClientTransaction::start(at(now), TIMERS, Reliability::Unreliable), || payload, at(now)));
    key
}

fn resent(all: &Tested, now: u64) -> Vec<u32> {
    let mut sent = Vec::new();
    all.turn(
        at(now),
        |payload| *payload,
        |payload| {
            sent.push(payload);
            Ok(())
        },
    );
    sent
}

/// A turn of the wheel in which nothing can be sent.
fn unsent(all: &Tested, now: u64, mut meanwhile: impl FnMut(u32)) {
    all.turn(
        at(now),
        |payload| *payload,
        |payload| {
            meanwhile(payload);
            Err(TransportError(90))
        },
    );
}

fn timed_out(all: &Tested, now: u64) -> Vec<u32> {
    let mut ended = Vec::new();
    all.take_timed_out(at(now), |payload, _| ended.push(*payload));
    ended
}

/// What becomes of an answer.
fn answer(all: &Tested, key: TransactionKey, code: u16, now: u64) -> Answered {
    all.answer(key, code, at(now), |_| (), |_, _| ())
}

/// What becomes of an answer that must find no transaction.
fn late_answer(all: &Tested, key: TransactionKey, code: u16, now: u64) -> Answered {
    all.answer(key, code, at(now), |_| panic!("nothing is kept"), |_, _| panic!("nothing has ended"))
}

#[test]
fn an_answer_ends_a_transaction_once() {
    let all = Tested::new(10).unwrap();
    let key = started(&all, 0, 7);
    assert_eq!(all.under_way(), 1);
    assert_eq!(answer(&all, key, 100, 10), Answered::Provisional);
    let (mut seen, mut ended) = (0, None);
    let answered = all.answer(
        key,
        200,
        at(20),
        |payload| seen = *payload,
        |payload, age| ended = Some((*payload, age, all.under_way())),
    );
    assert_eq!((answered, seen, ended), (Answered::Final, 7, Some((7, Millis(20), 0))));
    for code in [100, 200, 481] {
        assert_eq!(late_answer(&all, key, code, 30), Answered::Late);
    }
    // The slot is another transaction's: the old answer does not touch it.
    let next = started(&all, 40, 8);
    assert_eq!(next, TransactionKey { slot: key.slot, generation: key.generation + 1 });
    assert_eq!(late_answer(&all, key, 200, 50), Answered::Late, "the slot is another's");
    for slot in [1, 300, u32::MAX] {
        assert_eq!(late_answer(&all, TransactionKey { slot, generation: 0 }, 200, 50), Answered::Late);
    }
    assert_eq!(all.under_way(), 1);
}

#[test]
fn what_is_not_answered_is_sent_again_and_ends() {
    let all = Tested::new(10).unwrap();
    started(&all, 0, 7);
    let mut sent_at = Vec::new();
    for now in (0..40_000).step_by(62) {
        sent_at.extend(resent(&all, now).iter().map(|_| now));
        if !timed_out(&all, now).is_empty() {
            assert!((30_000..30_200).contains(&now), "{now}");
            break;
        }
    }
    assert_eq!(sent_at.len(), 9, "{sent_at:?}");
    assert_eq!(all.under_way(), 0);
    assert!(resent(&all, 50_000).is_empty() && timed_out(&all, 50_000).is_empty());
}

#[test]
fn what_cannot_be_sent_again_is_over_and_says_why() {
    let all = Tested::new(10).unwrap();
    started(&all, 0, 7);
    unsent(&all, 600, |_| ());
    let mut ended = Vec::new();
    all.take_timed_out(at(610), |payload, why| ended.push((*payload, why)));
    assert_eq!(ended, [(7, Some(TransportError(90)))]);
    assert_eq!(all.under_way(), 0);
    assert!(resent(&all, 40_000).is_empty() && timed_out(&all, 40_000).is_empty());
    // One that nobody answers says nothing.
    started(&all, 40_000, 8);
    assert_eq!(resent(&all, 40_600), [8]);
    resent(&all, 80_000);
    all.take_timed_out(at(80_000), |payload, why| ended.push((*payload, why)));
    assert_eq!(ended[1..], [(8, None)]);
}

#[test]
fn an_answer_counts_although_the_request_cannot_be_sent_again() {
    let all = Tested::new(10).unwrap();
    let key = started(&all, 0, 7);
    // While it is sent, the first one is answered, and another one takes the slot.
    unsent(&all, 600, |_| {
        assert_eq!(answer(&all, key, 200, 600), Answered::Final);
        started(&all, 600, 8);
    });
    assert!(timed_out(&all, 610).is_empty());
    assert_eq!(all.under_way(), 1);
    // Afterwards, before the end of the transaction is noticed.
    let key = started(&all, 600, 9);
    unsent(&all, 1_300, |_| ());
    assert_eq!(answer(&all, key, 200, 1_310), Answered::Final);
    assert_eq!(timed_out(&all, 1_320), [8]);
    assert_eq!(all.under_way(), 0);
}

#[test]
fn an_answer_in_the_last_moment_counts() {
    let all = Tested::new(10).unwrap();
    let key = started(&all, 0, 7);
    assert!(resent(&all, 31_000).is_empty());
    assert_eq!(answer(&all, key, 200, 31_010), Answered::Final);
    started(&all, 31_020, 8);
    assert!(timed_out(&all, 31_030).is_empty(), "the slot is another's by now");
    assert_eq!(all.under_way(), 1);
}

#[test]
fn a_full_table_takes_no_more_and_a_claim_that_is_dropped_is_free() {
    let all = Tested::new(CHUNK + 1).unwrap();
    let keys: Vec<_> = (0..2 * CHUNK as u32).map(|n| started(&all, 0, n)).collect();
    assert!(all.claim().is_none());
    assert_eq!(answer(&all, keys[300], 200, 1), Answered::Final);
    let claim = all.claim().expect("one is free again");
    assert_eq!(claim.key().slot, keys[300].slot);
    assert!(all.claim().is_none());
    drop(claim);
    assert_eq!(all.under_way(), 2 * CHUNK - 1);
    assert!(all.claim().is_some());
}

#[test]
fn without_memory_there_is_no_slot_and_nothing_is_lost() {
    let before = fake::live_blocks();
    let all = Tested::new(CHUNK).unwrap();
    for n in 0..2 {
        assert!(fake::failing_at(n, || all.claim().is_none()).0);
    }
    started(&all, 0, 1);
    drop(all);
    assert_eq!(fake::live_blocks(), before);
}

#[test]
fn a_slot_that_another_process_holds_is_left_alone() {
    let all = Tested::new(10).unwrap();
    let key = started(&all, 0, 7);
    let chunk = all.chunks.get(0).unwrap();
    let stopped = chunk.slots[key.slot as usize].lock_if_free();
    assert!(stopped.is_some());
    assert_eq!(answer(&all, key, 200, 10), Answered::Busy);
    assert!(resent(&all, 600).is_empty());
    // Others go on meanwhile, and it goes on when it is let go of.
    started(&all, 600, 8);
    drop(stopped);
    assert_eq!(resent(&all, 700), [7]);
    assert_eq!(answer(&all, key, 200, 710), Answered::Final);
}

/// What a step of the property does.
#[derive(Debug, Clone)]
enum TransactionStep {
    Start,
    Answer(usize, u16),
    Pass(u64),
}

fn step() -> impl Strategy<Value = TransactionStep> {
    let code = prop_oneof![Just(100), Just(180), Just(200), Just(481), Just(603)];
    prop_oneof![
        3 => Just(TransactionStep::Start),
        3 => (any::<usize>(), code).prop_map(|(which, code)| TransactionStep::Answer(which, code)),
        4 => (0u64..3_000).prop_map(TransactionStep::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(200)
    })]
    /// Whatever comes in whatever order: each transaction ends once, by its answer or its timer and in time, is
    /// never sent again after that, and no slot is lost.
    #[test]
    fn each_transaction_ends_once(steps in proptest::collection::vec(step(), 1..300)) {
        let all = Tested::new(CHUNK).unwrap();
        // When each began, and whether it has ended.
        let mut lives: Vec<(TransactionKey, u64, bool)> = Vec::new();
        let mut now = 0;
        for step in steps {
            match step {
                TransactionStep::Start => {
                    let key = started(&all, now, lives.len() as u32);
                    lives.push((key, now, false));
                }
                TransactionStep::Answer(which, code) if !lives.is_empty() => {
                    let index = which % lives.len();
                    let (key, _, over) = &mut lives[index];
                    let mut ended = None;
                    match all.answer(*key, code, at(now), |_| (), |payload, _| ended = Some(*payload as usize)) {
                        Answered::Final => {
                            prop_assert!(!*over && code >= 200 && ended == Some(index));
                            *over = true;
                        }
                        Answered::Provisional => prop_assert!(!*over && code < 200),
                        Answered::Late => prop_assert!(*over),
                        Answered::Busy => prop_assert!(false, "nobody holds it"),
                    }
                }
                TransactionStep::Answer(..) => {}
                TransactionStep::Pass(millis) => {
                    now += millis;
                    for payload in resent(&all, now) {
                        prop_assert!(!lives[payload as usize].2, "sent again although it is over");
                    }
                    for payload in timed_out(&all, now) {
                        let (_, began, over) = &mut lives[payload as usize];
                        prop_assert!(!*over && now - *began >= TIMERS.timeout.0);
                        *over = true;
                    }
                    // The wheel has looked at all that was due.
                    let most = TIMERS.timeout.0 + 200;
                    prop_assert!(lives.iter().all(|(_, began, over)| *over || now - began < most + millis));
                }
            }
            let under_way = lives.iter().filter(|(.., over)| !over).count();
            prop_assert_eq!(all.under_way(), under_way);
        }
        now += 40_000;
        resent(&all, now);
        timed_out(&all, now);
        prop_assert_eq!(all.under_way(), 0);
        let claims: Vec<_> = std::iter::from_fn(|| all.claim()).collect();
        prop_assert_eq!(claims.len(), CHUNK);
    }
}
