//! The NOTIFYs under way that are our own transactions: a fixed slot for each in shared memory, and a timing wheel over
//! the slots.
//!
//! A slot is under a lock of its own, which is held while a few words are copied. Which slots are free, and which are
//! to be looked at when, is kept in words of bits that change by single atomic steps: no process waits for another, and
//! one that is stopped keeps no more than the slot in its hand.
use crate::host::lock::{Guard, Lock};
use crate::host::no_memory::NoMemory;
use crate::host::process;
use crate::host::shm::{Shm, ShmVec};
use crate::host::shm_chunks::AppendOnlyList;
use crate::shm_safe::{ShmSafe, shm_safe};
use crate::sip::branch::TransactionKey;
use crate::sip::client_transaction::{ClientTransaction, TimerAction};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Slots are made so many at a time.
pub const CHUNK: usize = 256;
/// How many milliseconds one position of the wheel stands for, as a power of two.
const POSITION_BITS: u32 = 6;
/// Positions of the wheel: what is due later is looked at once on the way.
const POSITIONS: u64 = 128;
const WORDS: usize = CHUNK / 64;
/// How often a process looks at a slot that another one has in its hand.
const MOST_LOOKS: u32 = 2_000;

/// One bit for each slot of a chunk.
type Bits = [AtomicU64; WORDS];

fn put(bits: &Bits, at: usize) {
    bits[at / 64].fetch_or(1 << (at % 64), Ordering::AcqRel);
}

fn take(bits: &Bits, at: usize) -> bool {
    let bit = 1 << (at % 64);
    bits[at / 64].fetch_and(!bit, Ordering::AcqRel) & bit != 0
}

/// Takes all that are set, and calls `each` for them.
fn take_all(bits: &Bits, mut each: impl FnMut(usize)) {
    for (index, word) in bits.iter().enumerate() {
        if word.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let mut set = word.swap(0, Ordering::AcqRel);
        while set != 0 {
            each(index * 64 + set.trailing_zeros() as usize);
            set &= set - 1;
        }
    }
}

struct TransactionSlot<P> {
    /// How many transactions were here before.
    generation: u32,
    under_way: Option<OpenTransaction<P>>,
}

shm_safe!([P: ShmSafe] TransactionSlot<P> { generation, under_way });

struct OpenTransaction<P> {
    transaction: ClientTransaction,
    payload: P,
}

shm_safe!([P: ShmSafe] OpenTransaction<P> { transaction, payload });

struct SlotChunk<P> {
    slots: ShmVec<Lock<TransactionSlot<P>>>,
    free: Bits,
    wheel: [Bits; POSITIONS as usize],
    /// Those without an answer: what that means is found out in another process than that of the wheel.
    timed_out: Bits,
}

shm_safe!([P: ShmSafe] SlotChunk<P> { slots, free, wheel, timed_out });

impl<P: ShmSafe> SlotChunk<P> {
    fn new() -> Result<SlotChunk<P>, NoMemory> {
        let mut slots = ShmVec::new_in(Shm);
        slots.try_reserve_exact(CHUNK).map_err(|_| NoMemory)?;
        (0..CHUNK).for_each(|_| slots.push(Lock::new(TransactionSlot { generation: 0, under_way: None })));
        let none = || std::array::from_fn(|_| AtomicU64::new(0));
        let all = std::array::from_fn(|_| AtomicU64::new(u64::MAX));
        Ok(SlotChunk { slots, free: all, wheel: std::array::from_fn(|_| none()), timed_out: none() })
    }

    /// Has a slot looked at when its transaction wants it, or earlier.
    fn wake(&self, at: usize, wakes_at: u64, now: u64) {
        put(&self.wheel[(position(wakes_at, now) % POSITIONS) as usize], at);
    }

    fn forget(&self, at: usize, wakes_at: u64, now: u64) {
        take(&self.wheel[(position(wakes_at, now) % POSITIONS) as usize], at);
    }
}

/// The position of the wheel at which something is due that wants to be looked at then: no earlier, where the wheel
/// reaches so far.
fn position(wakes_at: u64, now: u64) -> u64 {
    let wanted = wakes_at.saturating_add((1 << POSITION_BITS) - 1) >> POSITION_BITS;
    wanted.clamp((now >> POSITION_BITS) + 1, (now >> POSITION_BITS) + POSITIONS - 1)
}

/// The transactions of all processes; `P` is what each keeps.
pub struct Transactions<P> {
    chunks: AppendOnlyList<SlotChunk<P>>,
    /// The position of the wheel that was looked at last.
    position: AtomicU64,
    under_way: AtomicU32,
    /// The chunk in which a free slot was found last.
    roomy: AtomicU32,
}

shm_safe!([P: ShmSafe] Transactions<P> { chunks, position, under_way, roomy });

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// A final one: the transaction has ended.
    Final,
    /// A provisional one.
    Provisional,
    /// The transaction had ended before: the answer has come again, or late.
    Late,
    /// Another process has the slot in its hand and does not let go of it: as if the answer had been lost.
    Busy,
}

impl<P: Send + ShmSafe> Transactions<P> {
    /// Room for so many NOTIFYs under way, rounded up to whole chunks; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(bound: usize) -> Result<Transactions<P>, NoMemory> {
        Ok(Transactions {
            chunks: AppendOnlyList::new(bound.div_ceil(CHUNK))?,
            position: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            roomy: AtomicU32::new(0),
        })
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed) as usize
    }

    /// A free slot; `None`: all are taken, or there is no memory for more.
    pub fn claim(&self) -> Option<FreeSlot<'_, P>> {
        loop {
            let count = self.chunks.len();
            let first = self.roomy.load(Ordering::Relaxed) as usize;
            for step in 0..count {
                let index = (first + step) % count;
                if let Some(claim) = self.claim_in(index) {
                    if step > 0 {
                        self.roomy.store(index as u32, Ordering::Relaxed);
                    }
                    return Some(claim);
                }
            }
            if !matches!(self.chunks.grow(SlotChunk::new), Ok(true)) {
                return None;
            }
        }
    }

    fn claim_in(&self, index: usize) -> Option<FreeSlot<'_, P>> {
        let chunk = self.chunks.get(index)?;
        for (word_index, word) in chunk.free.iter().enumerate() {
            let mut free = word.load(Ordering::Relaxed);
            while free != 0 {
                let at = word_index * 64 + free.trailing_zeros() as usize;
                free &= free - 1;
                if !take(&chunk.free, at) {
                    continue;
                }
                // Nobody holds a free slot for long: the wheel or a late answer may just look at it.
                let Some(generation) = held(&chunk.slots[at]).map(|slot| slot.generation) else {
                    put(&chunk.free, at);
                    continue;
                };
                self.under_way.fetch_add(1, Ordering::Relaxed);
                let key = TransactionKey { slot: (index * CHUNK + at) as u32, generation };
                return Some(FreeSlot { all: self, chunk, key });
            }
        }
        None
    }

    fn find(&self, key: TransactionKey) -> Option<(&SlotChunk<P>, usize)> {
        Some((self.chunks.get(key.slot as usize / CHUNK)?, key.slot as usize % CHUNK))
    }

    /// An answer to the transaction of this key. `seen` is shown what it keeps, while its slot is held. `over` is shown
    /// what an ended one has kept, once its slot is free, and for how many milliseconds it was under way.
    #[inline]
    pub fn answer(
        &self,
        key: TransactionKey,
        code: u16,
        now: u64,
        seen: impl FnOnce(&P),
        over: impl FnOnce(&P, u64),
    ) -> Answered {
        let Some((chunk, at)) = self.find(key) else { return Answered::Late };
        let Some(mut slot) = held(&chunk.slots[at]) else { return Answered::Busy };
        if slot.generation != key.generation {
            return Answered::Late;
        }
        let Some(under_way) = &mut slot.under_way else { return Answered::Late };
        seen(&under_way.payload);
        if code < 200 {
            under_way.transaction.provisional();
            return Answered::Provisional;
        }
        self.end(chunk, at, slot, now, over);
        Answered::Final
    }

    /// Frees a slot that is held, and shows `over` what it has kept, and for how long.
    #[inline]
    fn end(
        &self,
        chunk: &SlotChunk<P>,
        at: usize,
        mut slot: Guard<'_, TransactionSlot<P>>,
        now: u64,
        over: impl FnOnce(&P, u64),
    ) {
        let ended = slot.under_way.take();
        slot.generation = slot.generation.wrapping_add(1);
        drop(slot);
        // A transaction is ended by the process that has seen it in the slot it holds.
        let Some(ended) = &ended else { return };
        chunk.forget(at, ended.transaction.wakes_at(), now);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        put(&chunk.free, at);
        over(&ended.payload, ended.transaction.age(now));
    }

    /// Turns the wheel up to `now`: `copy` is shown what is to be sent again, while its slot is held, and `send` is
    /// given what it made of it afterwards. One process does this.
    pub fn turn<C>(&self, now: u64, mut copy: impl FnMut(&P) -> C, mut send: impl FnMut(C)) {
        let to = now >> POSITION_BITS;
        let from = self.position.swap(to, Ordering::Relaxed);
        // A process that was held up for a whole turn looks at each position once.
        for position in (from + 1).max((to + 1).saturating_sub(POSITIONS))..=to {
            for chunk in (0..self.chunks.len()).filter_map(|index| self.chunks.get(index)) {
                take_all(&chunk.wheel[(position % POSITIONS) as usize], |at| {
                    if let Some(copied) = self.look(chunk, at, now, &mut copy) {
                        send(copied);
                    }
                });
            }
        }
    }

    fn look<C>(&self, chunk: &SlotChunk<P>, at: usize, now: u64, copy: &mut impl FnMut(&P) -> C) -> Option<C> {
        let Some(mut slot) = chunk.slots[at].lock_if_free() else {
            // The process that has it in hand is done by the next turn.
            chunk.wake(at, now, now);
            return None;
        };
        let under_way = slot.under_way.as_mut()?;
        let copied = match under_way.transaction.due(now) {
            TimerAction::Timeout => {
                put(&chunk.timed_out, at);
                return None;
            }
            TimerAction::Nothing => None,
            TimerAction::Resend => Some(copy(&under_way.payload)),
        };
        chunk.wake(at, under_way.transaction.wakes_at(), now);
        copied
    }

    /// Takes the transactions that were not answered in time, and calls `each` for them, with how long they waited. One
    /// process does this.
    pub fn take_timed_out(&self, now: u64, mut each: impl FnMut(&P, u64)) {
        for chunk in (0..self.chunks.len()).filter_map(|index| self.chunks.get(index)) {
            take_all(&chunk.timed_out, |at| {
                let Some(slot) = chunk.slots[at].lock_if_free() else { return put(&chunk.timed_out, at) };
                // It may have been answered meanwhile, and be another's by now.
                if slot.under_way.as_ref().is_none_or(|found| !found.transaction.is_over(now)) {
                    return;
                }
                self.end(chunk, at, slot, now, &mut each);
            });
        }
    }
}

/// A slot, once no other process has it in its hand; `None` when that takes too long.
fn held<P>(slot: &Lock<TransactionSlot<P>>) -> Option<Guard<'_, TransactionSlot<P>>> {
    for turn in 0..MOST_LOOKS {
        if let Some(guard) = slot.lock_if_free() {
            return Some(guard);
        }
        // The process that holds it may wait for this processor.
        if turn % 16 == 15 {
            process::give_way();
        }
    }
    None
}

/// A slot that is taken and not used yet; what becomes of it is said once. Dropped, it is free again.
pub struct FreeSlot<'a, P: Send> {
    all: &'a Transactions<P>,
    chunk: &'a SlotChunk<P>,
    key: TransactionKey,
}

impl<P: Send + ShmSafe> FreeSlot<'_, P> {
    /// The key its transaction will have.
    pub fn key(&self) -> TransactionKey {
        self.key
    }

    /// The transaction begins, and keeps what `payload` makes: from now on it is answered, and the wheel looks after
    /// it. `false`: another process does not let go of the slot, and nothing has begun.
    #[inline]
    pub fn start(self, transaction: ClientTransaction, payload: impl FnOnce() -> P, now: u64) -> bool {
        fault_point!("slot");
        let at = self.key.slot as usize % CHUNK;
        let Some(mut slot) = held(&self.chunk.slots[at]) else { return false };
        slot.under_way = Some(OpenTransaction { transaction, payload: payload() });
        drop(slot);
        self.chunk.wake(at, transaction.wakes_at(), now);
        std::mem::forget(self);
        true
    }
}

impl<P: Send> Drop for FreeSlot<'_, P> {
    fn drop(&mut self) {
        self.all.under_way.fetch_sub(1, Ordering::Relaxed);
        put(&self.chunk.free, self.key.slot as usize % CHUNK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;
    use crate::sip::client_transaction::{Reliability, Timers};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    const TIMERS: Timers = Timers { t1: 500, t2: 4_000, timeout: 30_000 };

    type Tested = Transactions<u32>;

    fn started(all: &Tested, now: u64, payload: u32) -> TransactionKey {
        let claim = all.claim().expect("a free slot");
        let key = claim.key();
        assert!(claim.start(ClientTransaction::start(now, TIMERS, Reliability::Unreliable), || payload, now));
        key
    }

    fn resent(all: &Tested, now: u64) -> Vec<u32> {
        let mut sent = Vec::new();
        all.turn(now, |payload| *payload, |payload| sent.push(payload));
        sent
    }

    fn timed_out(all: &Tested, now: u64) -> Vec<u32> {
        let mut ended = Vec::new();
        all.take_timed_out(now, |payload, _| ended.push(*payload));
        ended
    }

    /// What becomes of an answer.
    fn answer(all: &Tested, key: TransactionKey, code: u16, now: u64) -> Answered {
        all.answer(key, code, now, |_| (), |_, _| ())
    }

    /// What becomes of an answer that must find no transaction.
    fn late_answer(all: &Tested, key: TransactionKey, code: u16, now: u64) -> Answered {
        all.answer(key, code, now, |_| panic!("nothing is kept"), |_, _| panic!("nothing has ended"))
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
            20,
            |payload| seen = *payload,
            |payload, age| ended = Some((*payload, age, all.under_way())),
        );
        assert_eq!((answered, seen, ended), (Answered::Final, 7, Some((7, 20, 0))));
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
                        match all.answer(*key, code, now, |_| (), |payload, _| ended = Some(*payload as usize)) {
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
                            prop_assert!(!*over && now - *began >= u64::from(TIMERS.timeout));
                            *over = true;
                        }
                        // The wheel has looked at all that was due.
                        let most = u64::from(TIMERS.timeout) + 200;
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
}
