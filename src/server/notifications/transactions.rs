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
use crate::sip::client_transaction::{ClientTransaction, TimerAction, TransportError};
use crate::time::{MilliTick, Millis};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Slots are made this many at a time.
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
    /// The slots without an answer: what that means is found out in another process than that of the wheel.
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
    fn wake(&self, at: usize, wakes_at: MilliTick, now: MilliTick) {
        put(&self.wheel[(position(wakes_at, now) % POSITIONS) as usize], at);
    }

    fn forget(&self, at: usize, wakes_at: MilliTick, now: MilliTick) {
        take(&self.wheel[(position(wakes_at, now) % POSITIONS) as usize], at);
    }
}

/// The position of the wheel at which something is due that wants to be looked at then: no earlier, where the wheel
/// reaches so far.
fn position(wakes_at: MilliTick, now: MilliTick) -> u64 {
    let wanted = wakes_at.millis().saturating_add((1 << POSITION_BITS) - 1) >> POSITION_BITS;
    let now = now.millis() >> POSITION_BITS;
    wanted.clamp(now + 1, now + POSITIONS - 1)
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
    /// Room for `bound` NOTIFYs under way, rounded up to whole chunks; call before the processes fork.
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
    /// what an ended one has kept, once its slot is free, and for how long it was under way.
    #[inline]
    pub fn answer(
        &self,
        key: TransactionKey,
        code: u16,
        now: MilliTick,
        seen: impl FnOnce(&P),
        over: impl FnOnce(&P, Millis),
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
        self.end(chunk, at, slot, now, |payload, transaction| over(payload, transaction.age(now)));
        Answered::Final
    }

    /// Frees a slot that is held, and shows `over` what it has kept, and its transaction.
    #[inline]
    fn end(
        &self,
        chunk: &SlotChunk<P>,
        at: usize,
        mut slot: Guard<'_, TransactionSlot<P>>,
        now: MilliTick,
        over: impl FnOnce(&P, &ClientTransaction),
    ) {
        let ended = slot.under_way.take();
        slot.generation = slot.generation.wrapping_add(1);
        drop(slot);
        // A transaction is ended by the process that has seen it in the slot it holds.
        let Some(ended) = &ended else { return };
        chunk.forget(at, ended.transaction.wakes_at(), now);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        put(&chunk.free, at);
        over(&ended.payload, &ended.transaction);
    }

    /// Turns the wheel up to `now`: `copy` is shown what is to be sent again, while its slot is held, and `send` is
    /// given what it made of it afterwards; the transaction of what it cannot send ends. One process does this.
    pub fn turn<C>(
        &self,
        now: MilliTick,
        mut copy: impl FnMut(&P) -> C,
        mut send: impl FnMut(C) -> Result<(), TransportError>,
    ) {
        let to = now.millis() >> POSITION_BITS;
        let from = self.position.swap(to, Ordering::Relaxed);
        // A process that was held up for a whole turn looks at each position once.
        for position in (from + 1).max((to + 1).saturating_sub(POSITIONS))..=to {
            for chunk in (0..self.chunks.len()).filter_map(|index| self.chunks.get(index)) {
                take_all(&chunk.wheel[(position % POSITIONS) as usize], |at| {
                    let Some((copied, generation)) = self.look(chunk, at, now, &mut copy) else { return };
                    if let Err(why) = send(copied) {
                        fail(chunk, at, generation, why);
                    }
                });
            }
        }
    }

    fn look<C>(
        &self,
        chunk: &SlotChunk<P>,
        at: usize,
        now: MilliTick,
        copy: &mut impl FnMut(&P) -> C,
    ) -> Option<(C, u32)> {
        let Some(mut slot) = chunk.slots[at].lock_if_free() else {
            // The process that has it in hand is done by the next turn.
            chunk.wake(at, now, now);
            return None;
        };
        let generation = slot.generation;
        let under_way = slot.under_way.as_mut()?;
        let copied = match under_way.transaction.due(now) {
            TimerAction::Timeout => {
                put(&chunk.timed_out, at);
                return None;
            }
            TimerAction::Nothing => None,
            TimerAction::Resend => Some((copy(&under_way.payload), generation)),
        };
        chunk.wake(at, under_way.transaction.wakes_at(), now);
        copied
    }

    /// Takes the transactions that were not answered in time or could not be sent, and calls `each` for them, with what
    /// kept them from being sent. One process does this.
    pub fn take_timed_out(&self, now: MilliTick, mut each: impl FnMut(&P, Option<TransportError>)) {
        for chunk in (0..self.chunks.len()).filter_map(|index| self.chunks.get(index)) {
            take_all(&chunk.timed_out, |at| {
                let Some(slot) = chunk.slots[at].lock_if_free() else { return put(&chunk.timed_out, at) };
                // It may have been answered meanwhile, and be another's by now.
                if slot.under_way.as_ref().is_none_or(|found| !found.transaction.is_over(now)) {
                    return;
                }
                self.end(chunk, at, slot, now, |payload, transaction| each(payload, transaction.failed()));
            });
        }
    }
}

/// What is under way in a slot could not be sent again: its transaction ends, unless it was answered meanwhile. Where
/// another process has the slot, the next sending decides.
#[cold]
fn fail<P: Send + ShmSafe>(chunk: &SlotChunk<P>, at: usize, generation: u32, why: TransportError) {
    let Some(mut slot) = held(&chunk.slots[at]).filter(|slot| slot.generation == generation) else { return };
    if let Some(under_way) = &mut slot.under_way {
        under_way.transaction.fail(why);
        put(&chunk.timed_out, at);
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
    pub fn start(self, transaction: ClientTransaction, payload: impl FnOnce() -> P, now: MilliTick) -> bool {
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
mod tests;
