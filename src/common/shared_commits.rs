//! Rows of several processes in one transaction: where SQLite waits for the disk at each commit, processes that wait
//! for their turn to write leave their statement here, and the one that has the turn carries out all of them. Each
//! process goes on when its row is on the disk.
use crate::host::db::{DbError, StatementOutcome};
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::semaphore::Semaphore;
use crate::host::shm::{self, ShmBox};
use crate::shm_safe::shm_safe;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// How many processes can leave a statement at a time; further ones wait for their turn.
const PLACES: usize = 64;

/// The longest statement that is left to another process, in bytes; longer ones wait for their turn.
const LONGEST_STATEMENT: usize = 65_536;

/// The places for statements, in shared memory.
pub struct WriteQueue {
    places: [StatementPlace; PLACES],
    /// How many statements wait.
    waiting: AtomicU32,
    next_ticket: AtomicU64,
}

shm_safe!(WriteQueue { places, waiting, next_ticket });

struct StatementPlace {
    state: Lock<PlaceState>,
    /// The process that left the statement sleeps here.
    sleeper: &'static Semaphore,
}

shm_safe!(StatementPlace { state, sleeper });

/// A statement, with the ticket of the process that left it; tickets are never used twice.
enum PlaceState {
    Free,
    Waiting(u64, ShmBox<[u8]>),
    Taken(u64),
    Done(u64, SharedOutcome),
}

shm_safe!(
    enum PlaceState {
        Free,
        Waiting(ticket, statement),
        Taken(ticket),
        Done(ticket, outcome),
    }
);

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SharedOutcome {
    /// How many rows it has touched.
    Touched(i32),
    Refused,
    /// The transaction was undone: its process writes by itself.
    Undone,
}

shm_safe!(
    enum SharedOutcome {
        Touched(rows),
        Refused,
        Undone,
    }
);

impl WriteQueue {
    /// An empty queue in shared memory; made before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn leak() -> Result<&'static WriteQueue, NoMemory> {
        let sleepers = (0..PLACES).map(|_| Semaphore::leak()).collect::<Result<Vec<_>, _>>()?;
        let places =
            std::array::from_fn(|at| StatementPlace { state: Lock::new(PlaceState::Free), sleeper: sleepers[at] });
        Ok(shm::leak(WriteQueue { places, waiting: AtomicU32::new(0), next_ticket: AtomicU64::new(0) })?)
    }

    /// Leaves a statement for the process that writes next; `None` where there is no room for it.
    pub fn leave(&'static self, statement: &[u8]) -> Option<LeftStatement> {
        if statement.len() > LONGEST_STATEMENT {
            return None;
        }
        let statement = shm::copy(statement).ok()?;
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (place, mut state) = self.places.iter().find_map(|place| {
            let state = place.state.lock();
            matches!(*state, PlaceState::Free).then_some((place, state))
        })?;
        *state = PlaceState::Waiting(ticket, statement);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(state);
        // A process that ends its turn after this sees the statement; if none does, we find the turn free.
        fence(Ordering::SeqCst);
        Some(LeftStatement { queue: self, place, ticket })
    }

    /// Takes all statements that wait. Call it with the turn to write.
    pub fn take_all(&'static self) -> Vec<TakenStatement> {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        self.places.iter().filter_map(|place| self.take(place)).collect()
    }

    fn take(&'static self, place: &'static StatementPlace) -> Option<TakenStatement> {
        let mut state = place.state.lock();
        let PlaceState::Waiting(ticket, _) = *state else { return None };
        let PlaceState::Waiting(_, statement) = std::mem::replace(&mut *state, PlaceState::Taken(ticket)) else {
            return None;
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Some(TakenStatement { place, ticket, statement, outcome: SharedOutcome::Undone })
    }

    /// Wakes one process that waits for its turn, which is free now.
    pub fn turn_is_free(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waits = |place: &&StatementPlace| matches!(*place.state.lock(), PlaceState::Waiting(..));
        if let Some(place) = self.places.iter().find(waits) {
            place.sleeper.wake();
        }
    }
}

/// A statement of this process that waits for another one; taken back when dropped.
pub struct LeftStatement {
    queue: &'static WriteQueue,
    place: &'static StatementPlace,
    ticket: u64,
}

/// What is known of a statement that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nobody has taken it.
    Waiting,
    /// Somebody is about to carry it out.
    Taken,
    /// The database has carried it out.
    Done(StatementOutcome),
    /// No transaction was completed with it: its process writes by itself.
    Undone,
}

impl LeftStatement {
    /// What has become of it.
    pub fn state(&self) -> Left {
        match *self.place.state.lock() {
            PlaceState::Waiting(..) | PlaceState::Free => Left::Waiting,
            PlaceState::Taken(_) => Left::Taken,
            PlaceState::Done(_, SharedOutcome::Touched(rows)) => Left::Done(Ok(rows)),
            PlaceState::Done(_, SharedOutcome::Refused) => Left::Done(Err(DbError::Refused)),
            PlaceState::Done(_, SharedOutcome::Undone) => Left::Undone,
        }
    }

    /// Sleeps until something has become of it, or the turn to write is free; a second at most.
    pub fn sleep(&self) {
        self.place.sleeper.wait();
    }
}

impl Drop for LeftStatement {
    fn drop(&mut self) {
        let mut state = self.place.state.lock();
        let (PlaceState::Waiting(ticket, _) | PlaceState::Taken(ticket) | PlaceState::Done(ticket, _)) = *state else {
            return;
        };
        if ticket != self.ticket {
            return;
        }
        if matches!(*state, PlaceState::Waiting(..)) {
            self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        *state = PlaceState::Free;
    }
}

/// A statement of another process. Its process learns of the outcome when this is dropped; without one it writes by
/// itself.
pub struct TakenStatement {
    place: &'static StatementPlace,
    ticket: u64,
    statement: ShmBox<[u8]>,
    outcome: SharedOutcome,
}

impl TakenStatement {
    /// The statement's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.statement
    }

    /// Notes what became of it. What the database has neither carried out nor refused its own process tries again.
    pub fn note(&mut self, outcome: StatementOutcome) {
        self.outcome = match outcome {
            Ok(rows) => SharedOutcome::Touched(rows),
            Err(DbError::Refused) => SharedOutcome::Refused,
            Err(DbError::Away | DbError::Busy | DbError::Unexplained) => SharedOutcome::Undone,
        };
    }
}

impl Drop for TakenStatement {
    fn drop(&mut self) {
        let mut state = self.place.state.lock();
        // The process that left it may be gone, and the place be another one's.
        if !matches!(*state, PlaceState::Taken(ticket) if ticket == self.ticket) {
            return;
        }
        *state = PlaceState::Done(self.ticket, self.outcome);
        drop(state);
        self.place.sleeper.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake;

    #[test]
    fn a_statement_is_carried_out_refused_or_undone() {
        let queue = WriteQueue::leak().unwrap();
        let left: Vec<_> = (0..3u8).map(|n| queue.leave(&[n]).unwrap()).collect();
        let mut taken = queue.take_all();
        assert_eq!(taken.iter().map(|one| one.bytes()[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(queue.take_all().is_empty() && left.iter().all(|one| one.state() == Left::Taken));
        for (one, outcome) in taken.iter_mut().zip([Ok(7), Err(DbError::Refused), Err(DbError::Busy)]) {
            one.note(outcome);
        }
        drop(taken);
        let states: Vec<_> = left.iter().map(LeftStatement::state).collect();
        assert_eq!(states, [Left::Done(Ok(7)), Left::Done(Err(DbError::Refused)), Left::Undone]);
        assert!(queue.take_all().is_empty());
    }

    #[test]
    fn nothing_is_left_of_who_does_not_wait_any_more() {
        let queue = WriteQueue::leak().unwrap();
        let before = fake::live_blocks();
        drop(queue.leave(b"waits"));
        assert!(queue.take_all().is_empty());
        let left = queue.leave(b"is taken").unwrap();
        let mut taken = queue.take_all();
        drop(left);
        let next = queue.leave(b"has the place now").unwrap();
        taken[0].note(Ok(1));
        drop(taken);
        assert_eq!(next.state(), Left::Waiting);
        drop(next);
        assert_eq!(fake::live_blocks(), before);
    }

    #[test]
    fn places_and_lengths_are_bounded() {
        let queue = WriteQueue::leak().unwrap();
        assert!(queue.leave(&[0; LONGEST_STATEMENT + 1]).is_none());
        let left: Vec<_> = (0..PLACES).map(|_| queue.leave(b"s").unwrap()).collect();
        assert!(queue.leave(b"s").is_none());
        assert_eq!(queue.take_all().len(), PLACES);
        drop(left);
        assert!(queue.leave(&[0; LONGEST_STATEMENT]).is_some());
    }
}
