//! The stores of publications over the table `presentity`, in each of the modes that have one: when a row is written,
//! what becomes of one that is refused, and what a start finds.
use crate::common::row_groups::Pass;
use crate::host::clock;
use crate::presence::config::Config;
use crate::presence::error::StoreError;
use crate::presence::publication::{Applied, Change, Modification, Publication};
use crate::presence::resource::Resource;
use crate::presence::testing::{PRESENCE, fixtures};
use crate::server::publications::store::PublicationStore;
use crate::server::shared::Parts;
use crate::server::storage;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Seconds};
use std::borrow::Cow;

/// How publications are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WhenWritten {
    publ_cache: u8,
    publ_update_period: Option<Seconds>,
}

const CACHED: WhenWritten = WhenWritten { publ_cache: 1, publ_update_period: None };
const BEHIND: WhenWritten = WhenWritten { publ_cache: 1, publ_update_period: Some(Seconds(1)) };
const TABLE: WhenWritten = WhenWritten { publ_cache: 0, publ_update_period: None };
const ALL: [WhenWritten; 3] = [CACHED, BEHIND, TABLE];

fn config(rows: WhenWritten) -> Config {
    let publ_update_period = rows.publ_update_period;
    Config { publ_update_period, ..fixtures::config_with_modes(0, rows.publ_cache) }
}

/// A store over its table.
struct DocumentsOverRows {
    parts: Parts,
    store: &'static dyn PublicationStore,
    alice: Resource,
}

impl DocumentsOverRows {
    fn over_parts(parts: Parts) -> DocumentsOverRows {
        let alice = parts.shared.tables.rule().resource(b"sip:alice@example.org", PRESENCE);
        DocumentsOverRows { parts, store: storage::choose(parts).publications, alice }
    }

    fn new(rows: WhenWritten) -> DocumentsOverRows {
        DocumentsOverRows::over_parts(Parts::over_tables(config(rows)))
    }

    fn publish(&self, etag: &str, body: &str) -> Result<Applied, StoreError> {
        let publication = Publication {
            etag: EntityTag::from(etag),
            ruid: format!("ruid-{etag}").into_bytes(),
            body: body.into(),
            expires_at: Expiry::At(clock::now() + Seconds(3600)),
            received_at: Some(clock::now()),
            ..Publication::default()
        };
        self.store.change(&self.alice, &Change::Insert(publication))
    }

    fn modify(&self, etag: &str, new_etag: &str, body: &str) -> Result<Applied, StoreError> {
        let change = Modification {
            etag: EntityTag::from(etag),
            new_etag: EntityTag::from(new_etag),
            body: Some(Cow::Borrowed(body.as_bytes())),
            expires_at: Expiry::At(clock::now() + Seconds(3600)),
            ..Modification::default()
        };
        self.store.change(&self.alice, &Change::Modify(change))
    }

    fn remove(&self, etag: &str) -> Result<Applied, StoreError> {
        self.store.change(&self.alice, &Change::Remove(EntityTag::from(etag)))
    }

    fn bodies(&self) -> Vec<String> {
        let documents = self.store.documents(&self.alice).expect("the table can be read");
        documents.into_iter().map(|document| String::from_utf8_lossy(&document.body).into_owned()).collect()
    }

    /// Entity tag and body of each row, by entity tag.
    fn rows(&self) -> Vec<String> {
        self.parts.database.lines("SELECT etag, body FROM presentity ORDER BY etag")
    }

    fn rows_before_and_after_the_timer(&self) -> [Vec<String>; 2] {
        let before = self.rows();
        self.store.write(Pass::Regular).expect("the database is there");
        [before, self.rows()]
    }
}

#[test]
fn rows_are_written_when_the_mode_says() {
    let nothing: &[&str] = &[];
    let (made, changed): (&[&str], &[&str]) = (&["e.1 one"], &["e.2 two"]);
    for rows in ALL {
        let bench = DocumentsOverRows::new(rows);
        let before = |at_once, later| [if rows == BEHIND { later } else { at_once }, at_once];
        assert_eq!(bench.publish("e.1", "one"), Ok(Applied::Inserted), "{rows:?}");
        assert_eq!(bench.rows_before_and_after_the_timer(), before(made, nothing), "{rows:?}: made");
        assert!(matches!(bench.modify("e.1", "e.2", "two"), Ok(Applied::Modified { .. })), "{rows:?}");
        assert_eq!(bench.rows_before_and_after_the_timer(), before(changed, made), "{rows:?}: changed");
        assert!(matches!(bench.remove("e.2"), Ok(Applied::Removed(..))), "{rows:?}");
        assert_eq!(bench.rows_before_and_after_the_timer(), before(nothing, changed), "{rows:?}: removed");
        assert!(bench.bodies().is_empty(), "{rows:?}");
    }
}

#[test]
fn a_change_that_is_taken_back_before_its_row_is_written_leaves_none() {
    let bench = DocumentsOverRows::new(BEHIND);
    assert_eq!(bench.publish("e.1", "one"), Ok(Applied::Inserted));
    assert!(matches!(bench.modify("e.1", "e.2", "two"), Ok(Applied::Modified { .. })));
    assert!(matches!(bench.remove("e.2"), Ok(Applied::Removed(..))));
    assert_eq!(bench.publish("e.3", "three"), Ok(Applied::Inserted));
    assert_eq!(bench.store.write(Pass::Regular), Ok(1), "only the newest state is written");
    assert_eq!(bench.rows(), ["e.3 three"]);
}

#[test]
fn a_row_that_is_refused_costs_its_own_publication_and_no_other() {
    for rows in ALL {
        let bench = DocumentsOverRows::new(rows);
        bench.parts.database.carry_out(
            "CREATE TRIGGER refuses BEFORE INSERT ON presentity WHEN new.etag = 'e.bad'
                BEGIN SELECT RAISE(ABORT, 'no'); END",
        );
        let applied = [("e.1", "one"), ("e.bad", "bad"), ("e.2", "two")].map(|(etag, body)| bench.publish(etag, body));
        let bad = if rows == BEHIND { Ok(Applied::Inserted) } else { Err(StoreError::Refused) };
        assert_eq!(applied, [Ok(Applied::Inserted), bad, Ok(Applied::Inserted)], "{rows:?}");
        bench.store.write(Pass::Regular).expect("the database is there");
        assert_eq!(bench.rows(), ["e.1 one", "e.2 two"], "{rows:?}");
        let known = bench.bodies();
        assert_eq!(known.contains(&"bad".to_owned()), rows == BEHIND, "{rows:?}: {known:?}");
        // What was refused is tried once more, at the latest when the server ends.
        bench.parts.database.carry_out("DROP TRIGGER refuses");
        bench.store.write(Pass::Last).expect("the database is there");
        assert_eq!(bench.rows().len(), if rows == BEHIND { 3 } else { 2 }, "{rows:?}");
    }
}

#[test]
fn a_database_that_takes_nothing_leaves_the_old_state() {
    for rows in ALL {
        let bench = DocumentsOverRows::new(rows);
        assert_eq!(bench.publish("e.1", "one"), Ok(Applied::Inserted), "{rows:?}");
        bench.store.write(Pass::Regular).expect("the database is there");
        bench.parts.database.refuse_changes();
        let modified = bench.modify("e.1", "e.2", "two");
        let expected = if rows == BEHIND { "two" } else { "one" };
        assert_eq!(modified.is_ok(), rows == BEHIND, "{rows:?}: {modified:?}");
        assert_eq!(bench.bodies(), [expected], "{rows:?}");
        if rows == BEHIND {
            assert_eq!(bench.store.write(Pass::Regular), Err(StoreError::Database));
        }
        bench.parts.database.take_changes();
        assert_eq!(bench.rows(), ["e.1 one"], "{rows:?}");
        if rows != BEHIND {
            assert!(matches!(bench.modify("e.1", "e.2", "two"), Ok(Applied::Modified { .. })), "{rows:?}: taken again");
        }
        bench.store.write(Pass::Last).expect("the database is there");
        assert_eq!((bench.rows(), bench.bodies()), (vec!["e.2 two".into()], vec!["two".into()]), "{rows:?}");
    }
}

#[test]
fn a_start_finds_what_was_written() {
    for rows in ALL {
        let bench = DocumentsOverRows::new(rows);
        assert_eq!(bench.publish("e.1", "one"), Ok(Applied::Inserted), "{rows:?}");
        assert_eq!(bench.publish("e.2", "two"), Ok(Applied::Inserted), "{rows:?}");
        assert!(matches!(bench.remove("e.1"), Ok(Applied::Removed(..))), "{rows:?}");
        bench.store.write(Pass::Last).expect("the database is there");
        let bench = DocumentsOverRows::over_parts(bench.parts.restarted(config(rows)));
        bench.store.restore().expect("the table can be read");
        assert_eq!(bench.bodies(), ["two"], "{rows:?}");
        assert_eq!(bench.modify("e.1", "e.3", "late"), Ok(Applied::NoMatch), "{rows:?}");
        assert!(matches!(bench.modify("e.2", "e.3", "three"), Ok(Applied::Modified { .. })), "{rows:?}");
        bench.store.write(Pass::Last).expect("the database is there");
        assert_eq!(bench.rows(), ["e.3 three"], "{rows:?}");
    }
}
