//! The connection of a process, opened when first needed; on databases that take one writer, writers queue here.
mod with_others;

use crate::common::counters::{self, Counter};
use crate::common::metrics::DatabaseOutcome;
use crate::common::metrics::{self, Operation, Owner};
use crate::common::shared_commits::WriteQueue;
#[cfg(test)]
use crate::host::db::in_memory;
use crate::host::db::{Connection, DbError, Driver};
use crate::host::no_memory::NoMemory;
use crate::host::process_mutex::{ProcessMutex, ProcessMutexGuard};
use crate::host::{clock, last_process, process};
pub use crate::presence::error::StoreError;
use crate::time::Millis;
use std::cell::RefCell;

/// How often a statement or transaction is tried that collided with another one.
const TRIES: u32 = 4;

/// How long is waited before the second try; twice as long before each further one, and up to as much
/// again, so that two that collided do not meet again.
const FIRST_WAIT: Millis = Millis(5);

/// The database as one process sees it. Statements never call back into us, so the borrow of the connection is always
/// short.
pub struct Database {
    driver: Option<Driver>,
    connection: RefCell<Option<Connection>>,
    writer: Option<&'static ProcessMutex>,
    /// Where those wait who may leave their statement to another process.
    queue: Option<&'static WriteQueue>,
    owner: Owner,
}

/// The turn to write. A process that waits for it is woken when it ends.
struct WriterTurn {
    guard: Option<ProcessMutexGuard>,
    queue: Option<&'static WriteQueue>,
}

impl Drop for WriterTurn {
    fn drop(&mut self) {
        self.guard = None;
        if let Some(queue) = self.queue {
            queue.turn_is_free();
        }
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Refused => StoreError::Refused,
            DbError::Busy => StoreError::Busy,
            DbError::Away | DbError::Unexplained => StoreError::Database,
        }
    }
}

impl From<NoMemory> for StoreError {
    fn from(_: NoMemory) -> Self {
        StoreError::NoMemory
    }
}

/// What one try came to.
enum Try<T> {
    Done(Result<T, StoreError>),
    /// Another transaction was, or may have been, in the way.
    Again(StoreError),
}

impl Database {
    /// The database of `driver`, or none: then every use is an error. `writer` is given where it takes one writer at a
    /// time.
    pub fn new(driver: Option<Driver>, writer: Option<&'static ProcessMutex>, owner: Owner) -> Self {
        Database { driver, connection: RefCell::new(None), writer, queue: None, owner }
    }

    /// The same whose processes leave statements to each other, see [`shared_commits`](crate::common::shared_commits),
    /// where writers take turns.
    #[must_use]
    pub fn sharing_commits(mut self, queue: &'static WriteQueue) -> Database {
        self.queue = self.writer.and(Some(queue));
        self
    }

    /// Whether there is one.
    pub fn is_configured(&self) -> bool {
        self.driver.is_some()
    }

    /// Whether statements are meant to go to SQLite past its driver.
    pub fn goes_past_driver(&self) -> bool {
        self.driver.as_ref().is_some_and(Driver::goes_past_sqlite_driver)
    }

    /// See [`Driver::prints_statements`].
    pub fn prints_statements(&self) -> bool {
        self.driver.as_ref().is_some_and(Driver::prints_statements)
    }

    /// Whether texts are limited in length and have to be UTF-8, see [`crate::sip::columns`].
    pub fn limits_texts(&self) -> bool {
        self.driver.as_ref().is_some_and(Driver::limits_texts)
    }

    /// See [`Driver::longest_body`].
    pub fn longest_body(&self) -> Option<usize> {
        self.driver.as_ref().and_then(Driver::longest_body)
    }

    /// Whether several rows can be written as one, or not at all.
    pub fn has_transactions(&self) -> bool {
        self.driver.as_ref().is_some_and(Driver::has_transactions)
    }

    /// See [`Driver::compares_and_writes`].
    pub fn compares_and_writes(&self) -> bool {
        self.driver.as_ref().is_none_or(Driver::compares_and_writes)
    }

    /// See [`Driver::batch`].
    pub fn batch(&self, rows: i32) -> Option<String> {
        self.driver.as_ref().and_then(|driver| driver.batch(rows))
    }

    /// Waits for the turn to write, where writers take turns.
    fn turn(&self) -> Option<WriterTurn> {
        Some(WriterTurn { guard: Some(self.writer?.lock()), queue: self.queue })
    }

    /// The turn to write, if nobody has it.
    fn turn_if_free(&self) -> Option<WriterTurn> {
        Some(WriterTurn { guard: Some(self.writer?.lock_if_free()?), queue: self.queue })
    }

    /// Runs `work`, and measures it: not how long it waits for its turn to write.
    fn measured<T>(
        &self,
        operation: Operation,
        turn: Option<WriterTurn>,
        work: impl FnOnce() -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let _turn = if operation == Operation::Write { turn.or_else(|| self.turn()) } else { None };
        let began = clock::micro_tick();
        let done = work();
        let outcome = if done.is_ok() { DatabaseOutcome::Done } else { DatabaseOutcome::Failed };
        metrics::database_done(self.owner, operation, clock::micro_tick().since(began), outcome);
        done
    }

    /// Tries once; `turn` is given where this process has the turn to write already, and is connected.
    fn attempt<T>(
        &self,
        operation: Operation,
        turn: Option<WriterTurn>,
        work: &mut dyn FnMut(&mut Connection) -> Result<T, DbError>,
    ) -> Try<T> {
        let mut slot = self.connection.borrow_mut();
        let connection = match &mut *slot {
            Some(connection) => connection,
            empty => {
                let Some(driver) = self.driver.as_ref() else { return Try::Done(Err(StoreError::NoDatabase)) };
                let _turn = self.turn();
                match driver.connect() {
                    Ok(connection) => empty.insert(connection),
                    Err(error) => {
                        counters::count(Counter::DbErrors);
                        return Try::Done(Err(error.into()));
                    }
                }
            }
        };
        match self.measured(operation, turn, || work(connection)) {
            Ok(value) => Try::Done(Ok(value)),
            Err(error) => {
                counters::count(Counter::DbErrors);
                match connection.explain(error) {
                    DbError::Busy => Try::Again(StoreError::Busy),
                    DbError::Refused if !connection.explains_refusals() => Try::Again(StoreError::Refused),
                    error => Try::Done(Err(error.into())),
                }
            }
        }
    }

    /// Opens the connection if it is not open yet, and hands it to `work`.
    ///
    /// # Errors
    ///
    /// Fails when there is no database, when it cannot be reached, and when `work` fails.
    pub fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        let mut work = Some(work);
        let once = &mut |connection: &mut Connection| match work.take() {
            Some(work) => work(connection),
            None => Err(DbError::Unexplained),
        };
        match self.attempt(Operation::Read, None, once) {
            Try::Done(done) => done,
            Try::Again(error) => Err(error),
        }
    }

    /// Closes the connection: a forked process must not use its parent's.
    pub fn disconnect(&self) {
        *self.connection.borrow_mut() = None;
    }

    /// Runs a reading statement. What collides with another transaction is tried again, see [`TRIES`].
    ///
    /// # Errors
    ///
    /// Fails when there is no database, when it cannot be reached, and when `work` fails.
    pub fn read<T>(&self, mut work: impl FnMut(&Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        self.try_up_to(TRIES, Operation::Read, None, &mut |connection| work(connection))
    }

    /// Runs a writing statement, alone where the database wants that. What collides with another transaction is tried
    /// again, see [`TRIES`].
    ///
    /// # Errors
    ///
    /// Fails when there is no database, when it cannot be reached, and when `work` fails: after a collision, or a
    /// refusal that may have been one, only when it has failed [`TRIES`] times.
    pub fn write<T>(&self, work: impl Fn(&Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        match self.queue.filter(|_| !last_process::is_last() && self.takes_noted_statements()) {
            Some(queue) => self.write_with_others(queue, &work),
            None => self.write_up_to(TRIES, None, work),
        }
    }

    /// Runs several writing statements as one where the database knows transactions.
    ///
    /// # Errors
    ///
    /// Fails as [`Database::write`] does. Nothing is written then where the database knows transactions.
    pub fn write_together<T>(&self, work: impl Fn(&Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        self.write_up_to(TRIES, None, |connection| connection.transaction(&work))
    }

    /// Runs a writing statement that the database is expected to refuse: once.
    ///
    /// # Errors
    ///
    /// Fails when there is no database, when it cannot be reached, and when `work` fails.
    pub fn write_once<T>(&self, work: impl Fn(&Connection) -> Result<T, DbError>) -> Result<T, StoreError> {
        self.write_up_to(1, None, work)
    }

    fn write_up_to<T>(
        &self,
        tries: u32,
        turn: Option<WriterTurn>,
        work: impl Fn(&Connection) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        self.try_up_to(tries, Operation::Write, turn, &mut |connection| {
            counters::count(Counter::DbWrites);
            work(connection)
        })
    }

    fn try_up_to<T>(
        &self,
        tries: u32,
        operation: Operation,
        mut turn: Option<WriterTurn>,
        work: &mut dyn FnMut(&mut Connection) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        let mut tried = 0;
        loop {
            let outcome = self.attempt(operation, turn.take(), work);
            tried += 1;
            match outcome {
                Try::Done(done) => return done,
                Try::Again(error) if tried >= tries => return Err(error),
                Try::Again(_) => pause(tried),
            }
        }
    }
}

#[cfg(test)]
impl Database {
    /// One with empty tables in memory.
    pub(crate) fn in_memory(owner: Owner) -> Database {
        let connection = RefCell::new(Some(in_memory::connection()));
        Database { driver: Some(in_memory::driver()), connection, writer: None, queue: None, owner }
    }

    /// The same whose writers take turns, and leave statements to each other.
    pub(crate) fn in_turns(mut self, queue: &'static WriteQueue) -> Database {
        self.writer = Some(ProcessMutex::leak().expect("memory for a lock"));
        self.sharing_commits(queue)
    }

    /// The same tables as another process has them, after this one has ended.
    pub(crate) fn handed_over(&self) -> Database {
        let connection = RefCell::new(self.connection.take());
        Database { driver: self.driver.clone(), connection, writer: None, queue: None, owner: self.owner }
    }

    /// The rows that a statement finds, the values of each joined by blanks.
    pub(crate) fn lines(&self, statement: &str) -> Vec<String> {
        self.connection.borrow().as_ref().expect("the database in memory is there").lines(statement)
    }

    /// Carries out a statement of a test: one that makes a trigger, for example.
    pub(crate) fn carry_out(&self, statement: &str) {
        assert!(self.lines(statement).is_empty(), "{statement}");
    }

    /// From now on the database takes no change, as one whose disk is full.
    pub(crate) fn refuse_changes(&self) {
        self.carry_out("PRAGMA query_only=1");
    }

    /// From now on the database takes changes again.
    pub(crate) fn take_changes(&self) {
        self.carry_out("PRAGMA query_only=0");
    }
}

/// Waits before the next try. No lock is held.
fn pause(tried: u32) {
    process::sleep(wait(tried, crate::host::clock::random_number()));
}

/// The wait after this many tries.
fn wait(tried: u32, random: u64) -> Millis {
    let wait = FIRST_WAIT.0 << (tried - 1);
    Millis(wait + random % wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_between_tries_are_bounded() {
        let waits = (1..TRIES).map(|tried| {
            let waits: Vec<u64> = (0..100).map(|random| wait(tried, random).0).collect();
            (waits.iter().copied().min().unwrap(), waits.iter().copied().max().unwrap())
        });
        assert_eq!(waits.collect::<Vec<_>>(), [(5, 9), (10, 19), (20, 39)]);
    }
}
