//! The records of the user agent over the table `pua`, in memory with a table behind it (`db_mode` 0) and in the table
//! alone (2): when a row is written, what becomes of one that is refused, and what a start finds.
use crate::agent::context::{AgentContext, AgentProcess, AgentShared};
use crate::agent::storage;
use crate::callbacks::user_agent::CallbackRegistry;
use crate::common::database::Database;
use crate::common::ids::Ids;
use crate::common::metrics::Owner;
use crate::common::row_groups::Pass;
use crate::host::{clock, fake};
use crate::pua::config::{Config, Mode};
use crate::pua::flags::{EventFlags, SourceFlags};
use crate::pua::ports::stored_records::StoredRecords;
use crate::pua::record::{Record, RecordField, RecordRowState, RecordState, Search};
use crate::time::{Expiry, Seconds};
use std::cell::{Cell, RefCell};

/// As many as presence reads: pages are tried with that number (`common::paging`).
#[test]
fn as_many_rows_are_read_at_once_as_stock_reads() {
    assert_eq!(Config::defaults().fetch_rows, 500);
}

const MODES: [Mode; 2] = [Mode::Memory, Mode::Database];

fn process(mode: Mode, database: Database) -> &'static AgentProcess {
    let config = Config { mode, ..Config::defaults() };
    let database = Box::leak(Box::new(database));
    Box::leak(Box::new(AgentProcess {
        records: storage::choose(&config, database).expect("memory"),
        config,
        registry: CallbackRegistry::default(),
        shared: AgentShared::new().expect("memory"),
        database,
        ids: RefCell::new(Ids::new(clock::now())),
        turn: Cell::new(0),
        on_published: fake::on_completed,
        on_subscribed: fake::on_completed,
    }))
}

/// A user agent over its table.
struct RecordsOverRows {
    process: &'static AgentProcess,
}

impl RecordsOverRows {
    fn new(mode: Mode) -> RecordsOverRows {
        RecordsOverRows { process: process(mode, Database::in_memory(Owner::Pua)) }
    }

    fn context(&self) -> AgentContext<'static> {
        AgentContext::new(self.process)
    }

    fn find(&self, record: &Record) -> Option<Record> {
        let search = Search {
            pres_uri: record.get(RecordField::PresUri),
            watcher_uri: record.get(RecordField::WatcherUri),
            id: record.get(RecordField::Id),
            etag: None,
            remote_contact: b"",
            call_id: b"",
            event: record.state.event,
            flag: record.state.flag,
            check_remote_contact: false,
        };
        self.context().find(&search).expect("the table can be read")
    }

    /// Id, entity tag and version of each row, by id: a group is written in the order of the shards, not of time.
    fn rows(&self) -> Vec<String> {
        self.process.database.lines("SELECT pres_id, etag, version FROM pua ORDER BY pres_id")
    }

    fn rows_before_and_after_the_timer(&self) -> [Vec<String>; 2] {
        let before = self.rows();
        self.process.records.write_back(Pass::Regular);
        [before, self.rows()]
    }
}

fn record(id: &str, etag: &str, version: u32) -> Record {
    let in_an_hour = clock::now() + Seconds(3600);
    let state = RecordState {
        serial: 0,
        event: EventFlags::from_word(1),
        flag: SourceFlags::from_word(1),
        expires_at: in_an_hour,
        desired_until: Expiry::At(in_an_hour),
        cseq: 0,
        version,
        row_state: RecordRowState::Insert,
    };
    Record::new(
        state,
        &[
            (RecordField::PresUri, b"sip:alice@example.org"),
            (RecordField::Id, id.as_bytes()),
            (RecordField::Etag, etag.as_bytes()),
        ],
    )
}

/// The record as it is stored, with another entity tag and version.
fn changed(bench: &RecordsOverRows, known: &Record, etag: &str, version: u32) -> (Record, Record) {
    let before = bench.find(known).expect("a record");
    let mut after = before.with(&[(RecordField::Etag, etag.as_bytes())]);
    after.state.version = version;
    (before, after)
}

#[test]
fn rows_are_written_when_the_mode_says() {
    let nothing: &[&str] = &[];
    let (made, replaced): (&[&str], &[&str]) = (&["one e.1 1"], &["one e.2 2"]);
    for mode in MODES {
        let bench = RecordsOverRows::new(mode);
        let before = |at_once, later| [if mode == Mode::Memory { later } else { at_once }, at_once];
        let one = record("one", "e.1", 1);
        bench.context().insert(&one).expect("stored");
        assert_eq!(bench.rows_before_and_after_the_timer(), before(made, nothing), "{mode:?}: made");
        let (old, new) = changed(&bench, &one, "e.2", 2);
        assert_eq!(bench.context().replace(&old, &new).ok(), Some(true), "{mode:?}");
        assert_eq!(bench.rows_before_and_after_the_timer(), before(replaced, made), "{mode:?}: changed");
        bench.context().remove(&bench.find(&one).expect("a record")).expect("removed");
        assert_eq!(bench.rows_before_and_after_the_timer(), before(nothing, replaced), "{mode:?}: removed");
        assert_eq!(bench.find(&one), None, "{mode:?}");
    }
}

#[test]
fn a_row_that_is_refused_costs_its_own_record_and_no_other() {
    for mode in MODES {
        let bench = RecordsOverRows::new(mode);
        bench.process.database.carry_out(
            "CREATE TRIGGER refuses BEFORE INSERT ON pua WHEN new.pres_id = 'bad'
                BEGIN SELECT RAISE(ABORT, 'no'); END",
        );
        let is_behind = mode == Mode::Memory;
        for (id, is_stored) in [("one", true), ("bad", is_behind), ("two", true)] {
            let stored = bench.context().insert(&record(id, id, 1));
            assert_eq!(stored.is_ok(), is_stored, "{mode:?}: {id}");
            assert_eq!(bench.find(&record(id, id, 1)).is_some(), is_stored, "{mode:?}: {id}");
        }
        bench.process.records.write_back(Pass::Regular);
        let ids = |bench: &RecordsOverRows| bench.process.database.lines("SELECT pres_id FROM pua ORDER BY pres_id");
        assert_eq!(ids(&bench), ["one", "two"], "{mode:?}");
        // What was refused is tried once more, at the latest when the server ends.
        bench.process.database.carry_out("DROP TRIGGER refuses");
        bench.process.records.write_back(Pass::Last);
        let all: &[&str] = if is_behind { &["bad", "one", "two"] } else { &["one", "two"] };
        assert_eq!(ids(&bench), all, "{mode:?}");
    }
}

#[test]
fn a_database_that_takes_nothing_loses_nothing() {
    for mode in MODES {
        let bench = RecordsOverRows::new(mode);
        let one = record("one", "e.1", 1);
        bench.context().insert(&one).expect("stored");
        bench.process.records.write_back(Pass::Regular);
        bench.process.database.refuse_changes();
        let (old, new) = changed(&bench, &one, "e.2", 2);
        let replaced = bench.context().replace(&old, &new);
        assert_eq!(replaced.is_ok(), mode == Mode::Memory, "{mode:?}");
        bench.process.records.write_back(Pass::Regular);
        bench.process.database.take_changes();
        assert_eq!(bench.rows(), ["one e.1 1"], "{mode:?}");
        if mode == Mode::Database {
            assert_eq!(bench.context().replace(&old, &new).ok(), Some(true), "taken again");
        }
        bench.process.records.write_back(Pass::Last);
        assert_eq!(bench.rows(), ["one e.2 2"], "{mode:?}");
    }
}

#[test]
fn a_start_finds_what_was_written() {
    for mode in MODES {
        let bench = RecordsOverRows::new(mode);
        for id in ["one", "two", "gone"] {
            bench.context().insert(&record(id, id, 1)).expect("stored");
        }
        bench.context().remove(&bench.find(&record("gone", "gone", 1)).expect("a record")).expect("removed");
        bench.process.records.write_back(Pass::Last);
        let started = process(mode, bench.process.database.handed_over());
        let bench = RecordsOverRows { process: started };
        bench.process.records.restore().expect("the table can be read");
        let is_known = ["one", "two", "gone"].map(|id| bench.find(&record(id, id, 1)).is_some());
        assert_eq!(is_known, [true, true, false], "{mode:?}");
        let (old, new) = changed(&bench, &record("two", "two", 1), "e.2", 2);
        assert_eq!(bench.context().replace(&old, &new).ok(), Some(true), "{mode:?}");
        bench.process.records.write_back(Pass::Last);
        assert_eq!(bench.rows(), ["one one 1", "two e.2 2"], "{mode:?}");
    }
}
