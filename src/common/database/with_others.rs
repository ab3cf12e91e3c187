//! Writing together with other processes: the one that has the turn carries out what the others have left, see
//! [`shared_commits`](crate::common::shared_commits).
use super::{Database, TRIES, WriterTurn};
use crate::common::counters::{self, Counter};
use crate::common::shared_commits::{Left, LeftStatement, TakenStatement, WriteQueue};
use crate::host::db::{Connection, DbError, StatementOutcome};
use crate::host::{clock, measured};
use crate::presence::error::StoreError;

impl Database {
    /// Whether this process is connected in a way that carries out what others have noted.
    pub(super) fn takes_noted_statements(&self) -> bool {
        self.connection.borrow().as_ref().is_some_and(Connection::takes_noted_statements)
    }

    /// Writes with the turn to write, together with what other processes have left; where another one has the turn,
    /// leaves it a single statement.
    ///
    /// # Errors
    ///
    /// Fails as [`Database::write`] does.
    pub(super) fn write_with_others<T>(
        &self,
        queue: &'static WriteQueue,
        work: &dyn Fn(&Connection) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        if let Some(turn) = self.turn_if_free() {
            return self.write_in_turn(queue, turn, work);
        }
        let Some(left) = self.leave(queue, work) else { return self.write_up_to(TRIES, None, work) };
        fault_point!("left");
        let began = clock::micro_tick();
        let outcome = loop {
            match left.state() {
                Left::Done(outcome) => break outcome,
                Left::Undone => {
                    drop(left);
                    return self.write_up_to(TRIES, None, work);
                }
                Left::Waiting | Left::Taken => {}
            }
            let Some(turn) = self.turn_if_free() else {
                left.sleep();
                continue;
            };
            // With the turn in hand nobody else changes it: what was read before may have been overtaken.
            match left.state() {
                Left::Done(outcome) => break outcome,
                Left::Waiting | Left::Undone => {
                    drop(left);
                    return self.write_in_turn(queue, turn, work);
                }
                // The process that took it has died with the turn: the row may be written, or not.
                Left::Taken => return Err(StoreError::Database),
            }
        };
        measured::database_waited(clock::micro_tick().since(began));
        self.answered(outcome, work)
    }

    /// Leaves the single statement of `work` to the process that writes next; `None` where it is none, or has no room.
    fn leave<T>(
        &self,
        queue: &'static WriteQueue,
        work: &dyn Fn(&Connection) -> Result<T, DbError>,
    ) -> Option<LeftStatement> {
        let recording = Connection::recording(self.driver.as_ref()?);
        work(&recording).ok()?;
        queue.leave(&recording.noted()?)
    }

    /// What `work` says of the outcome of its statement.
    fn answered<T>(
        &self,
        outcome: StatementOutcome,
        work: &dyn Fn(&Connection) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        let driver = self.driver.as_ref().ok_or(StoreError::NoDatabase)?;
        let done = work(&Connection::answering(driver, outcome));
        // No row was touched, and the work looks why: that needs the database.
        if done.as_ref().err() == Some(&DbError::Unexplained) {
            return self.write_up_to(TRIES, None, work);
        }
        counters::count(Counter::DbWrites);
        counters::count(Counter::DbSharedCommits);
        done.map_err(|error| {
            counters::count(Counter::DbErrors);
            error.into()
        })
    }

    /// Writes, and what other processes have left with it. Where the transaction cannot be completed all of them write
    /// by themselves.
    fn write_in_turn<T>(
        &self,
        queue: &'static WriteQueue,
        turn: WriterTurn,
        work: &dyn Fn(&Connection) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        self.write_up_to(TRIES, Some(turn), |connection| {
            let mut others = queue.take_all();
            if others.is_empty() {
                return work(connection);
            }
            fault_point!("together");
            match connection.transaction(|db| write_all(db, work, &others)) {
                Ok((own, outcomes)) => {
                    others.iter_mut().zip(outcomes).for_each(|(other, outcome)| other.note(outcome));
                    own
                }
                // A file that others have locked has been waited for already, and a full disk stays full.
                Err(DbError::Away) => Err(DbError::Away),
                Err(_) => {
                    drop(others);
                    work(connection)
                }
            }
        })
    }
}

/// Carries out `work` and the statements of others in an open transaction; each fails by itself. What became of the
/// others counts when the transaction is completed.
///
/// # Errors
///
/// Fails when a failure has ended the transaction ([`DbError::Unexplained`]).
fn write_all<T>(
    db: &Connection,
    work: &dyn Fn(&Connection) -> Result<T, DbError>,
    others: &[TakenStatement],
) -> Result<(Result<T, DbError>, Vec<StatementOutcome>), DbError> {
    let own = work(db);
    let mut outcomes = Vec::with_capacity(others.len());
    let rest = others.iter().take_while(|_| db.is_in_transaction());
    outcomes.extend(rest.map(|other| db.carry_out_noted(other.bytes())));
    if db.is_in_transaction() { Ok((own, outcomes)) } else { Err(DbError::Unexplained) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::metrics::Owner;
    use crate::host::db::{Op, Value};

    /// Leaves the row of a watcher to the process that writes next, as another process does.
    fn left(database: &Database, queue: &'static WriteQueue, watcher: &'static [u8]) -> LeftStatement {
        database.leave(queue, &move |db| insert(db, watcher)).expect("a single statement")
    }

    fn insert(db: &Connection, watcher: &[u8]) -> Result<(), DbError> {
        let text = Value::Text(watcher);
        let names = ["presentity_uri", "watcher_username", "watcher_domain", "event"].map(|column| (column, text));
        let numbers = ["status", "inserted_time"].map(|column| (column, Value::Int(1)));
        db.insert(b"watchers", &[&names[..], &numbers].concat())
    }

    fn watchers(database: &Database) -> Vec<String> {
        database.lines("SELECT watcher_username FROM watchers ORDER BY 1")
    }

    #[test]
    fn who_writes_takes_along_what_others_have_left() {
        let queue = WriteQueue::leak().unwrap();
        let database = Database::in_memory(Owner::Presence).in_turns(queue);
        let (a, b) = (left(&database, queue, b"a"), left(&database, queue, b"b"));
        database.write(|db| insert(db, b"own")).unwrap();
        assert_eq!((a.state(), b.state()), (Left::Done(Ok(1)), Left::Done(Ok(1))));
        assert_eq!(watchers(&database), ["a", "b", "own"]);
        // What reads, or consists of several statements, is left to nobody.
        assert!(database.leave(queue, &|db| insert(db, b"c").and_then(|()| insert(db, b"d"))).is_none());
        assert!(database.leave(queue, &|db| db.transaction(|db| insert(db, b"c"))).is_none());
        assert!(database.leave(queue, &|db| db.raw_statement("DELETE FROM watchers")).is_none());
        assert!(queue.take_all().is_empty());
    }

    #[test]
    fn a_row_that_is_refused_fails_alone() {
        let queue = WriteQueue::leak().unwrap();
        let database = Database::in_memory(Owner::Presence).in_turns(queue);
        let (bad, good) = (left(&database, queue, b"own"), left(&database, queue, b"good"));
        database.write(|db| insert(db, b"own")).unwrap();
        assert_eq!((bad.state(), good.state()), (Left::Done(Err(DbError::Refused)), Left::Done(Ok(1))));
        let other = left(&database, queue, b"other");
        assert_eq!(database.write(|db| insert(db, b"own")), Err(StoreError::Refused));
        assert_eq!(other.state(), Left::Done(Ok(1)));
        assert_eq!(watchers(&database), ["good", "other", "own"]);
    }

    #[test]
    fn where_the_transaction_is_lost_each_writes_by_itself() {
        let queue = WriteQueue::leak().unwrap();
        let database = Database::in_memory(Owner::Presence).in_turns(queue);
        database.carry_out(
            "CREATE TRIGGER t BEFORE INSERT ON watchers WHEN new.watcher_username = 'bad'
             BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END",
        );
        let (good, bad) = (left(&database, queue, b"good"), left(&database, queue, b"bad"));
        database.write(|db| insert(db, b"own")).unwrap();
        assert_eq!((good.state(), bad.state()), (Left::Undone, Left::Undone));
        assert_eq!(watchers(&database), ["own"]);
        // The other way round: the one that writes loses the transaction.
        drop((good, bad));
        let good = left(&database, queue, b"good");
        assert_eq!(database.write(|db| insert(db, b"bad")), Err(StoreError::Refused));
        assert_eq!(good.state(), Left::Undone);
        assert_eq!(watchers(&database), ["own"]);
        // Nobody takes it a second time.
        database.write(|db| insert(db, b"last")).unwrap();
        assert_eq!(watchers(&database), ["last", "own"]);
    }

    #[test]
    fn an_outcome_is_what_the_work_would_have_seen() {
        let queue = WriteQueue::leak().unwrap();
        let database = Database::in_memory(Owner::Presence).in_turns(queue);
        database.write(|db| insert(db, b"a")).unwrap();
        let renamed = |db: &Connection, from: &'static [u8]| {
            let row = [("watcher_username", Op::Eq, Value::Text(from))];
            db.update(b"watchers", &[("status", Value::Int(2))], &row)?;
            Ok(db.affected_rows())
        };
        for (from, rows) in [(&b"a"[..], 1), (b"nobody", 0)] {
            let work = move |db: &Connection| renamed(db, from);
            let statement = database.leave(queue, &work).unwrap();
            database.write(|db| insert(db, b"z")).ok();
            let Left::Done(outcome) = statement.state() else { panic!("nobody has written it") };
            assert_eq!(database.answered(outcome, &work), Ok(Some(rows)));
        }
        assert_eq!(database.answered(Err(DbError::Refused), &|db| insert(db, b"x")), Err(StoreError::Refused));
    }

    #[test]
    fn work_that_goes_on_after_its_statement_is_done_by_its_own_process() {
        let queue = WriteQueue::leak().unwrap();
        let database = Database::in_memory(Owner::Presence).in_turns(queue);
        // An update that finds no row, and then an insert: noted as the one statement that it seems to be.
        let work = |db: &Connection| {
            db.update(b"watchers", &[("status", Value::Int(2))], &[("watcher_username", Op::Eq, Value::Text(b"a"))])?;
            if db.affected_rows() == Some(0) { insert(db, b"a") } else { Ok(()) }
        };
        let left = database.leave(queue, &work).unwrap();
        database.write(|db| insert(db, b"own")).unwrap();
        let Left::Done(outcome) = left.state() else { panic!("nobody has written it") };
        assert_eq!(outcome, Ok(0));
        assert_eq!(database.answered(outcome, &work), Ok(()));
        assert_eq!(watchers(&database), ["a", "own"]);
    }
}
