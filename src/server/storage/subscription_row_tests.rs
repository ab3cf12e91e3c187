//! The stores of subscriptions over the table `active_watchers`, in each of the modes that have one: when a row is
//! written, what becomes of one that is refused, and what a start finds.
use crate::common::row_groups::Pass;
use crate::common::unwritten_rows::MOST_UNWRITTEN;
use crate::host::clock;
use crate::presence::error::StoreError;
use crate::presence::ports::subscriptions::{NewDialog, Renewed, Stored};
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Renewal, RowState, Status, Subscription, SubscriptionState};
use crate::presence::testing::{PRESENCE, fixtures};
use crate::server::notifications::row_run::RowWork;
use crate::server::shared::Parts;
use crate::server::storage;
use crate::server::subscriptions::database::InDatabase;
use crate::server::subscriptions::store::SubscriptionStore;
use crate::sip::transport::Transport;
use crate::time::Seconds;

/// `subs_db_mode`.
const WRITE_THROUGH: u8 = 1;
const WRITE_BACK: u8 = 2;
const DATABASE: u8 = 3;

/// A store over its table.
struct StoreOverRows {
    parts: Parts,
    store: &'static dyn SubscriptionStore,
    work: RowWork,
}

impl StoreOverRows {
    fn over_parts(parts: Parts) -> StoreOverRows {
        let store = storage::choose(parts).subscriptions;
        StoreOverRows { parts, store, work: RowWork::new(parts.shared.missed_changes) }
    }

    fn new(mode: u8) -> StoreOverRows {
        StoreOverRows::over_parts(Parts::over_tables(fixtures::config_with_modes(mode, 2)))
    }

    /// The server ends and starts again, with what the table has.
    fn restarted(self, mode: u8) -> StoreOverRows {
        let bench = StoreOverRows::over_parts(self.parts.restarted(fixtures::config_with_modes(mode, 2)));
        bench.store.restore().expect("the table can be read");
        bench
    }

    fn subscribe(&mut self, call_id: &str) -> Result<Stored, StoreError> {
        let new = subscription(call_id);
        let dialog = NewDialog(self.parts.shared.tables.dialog_hash(new.dialog()));
        let resource = self.parts.shared.tables.rule().resource(b"sip:alice@example.org", PRESENCE);
        self.store.subscribe(&mut self.work, &new, &resource, dialog)
    }

    fn renew(&mut self, call_id: &str, cseq: u32) -> Result<Renewed, StoreError> {
        let current = self.found(call_id).expect("a subscription");
        let renewal = Renewal {
            expires_at: clock::now() + Seconds(3600),
            remote_cseq: cseq,
            contact: b"sip:bob@192.0.2.2",
            socket: b"",
            transport: Transport::Udp,
            local_contact: b"",
        };
        self.store.renew(&mut self.work, &current, &renewal)
    }

    fn remove(&self, call_id: &str) -> bool {
        self.store.remove(subscription(call_id).dialog()).expect("the database is there").is_some()
    }

    fn found(&self, call_id: &str) -> Option<Subscription> {
        self.store.find(subscription(call_id).dialog()).expect("the database is there")
    }

    /// Call-ID, CSeq of the watcher and Contact of each row, by Call-ID.
    fn rows(&self) -> Vec<String> {
        self.parts.database.lines("SELECT callid, remote_cseq, contact FROM active_watchers ORDER BY callid")
    }

    /// What a step left in the table, before the timer has written what waits and after it.
    fn rows_before_and_after_the_timer(&self) -> [Vec<String>; 2] {
        let before = self.rows();
        self.store.write_back(Pass::Regular).expect("the database is there");
        [before, self.rows()]
    }
}

fn subscription(call_id: &str) -> Subscription {
    let expires_at = clock::now() + Seconds(3600);
    let row_state = RowState::Insert;
    let new = SubscriptionState::new(PRESENCE, Status::Active);
    let state = SubscriptionState { remote_cseq: 1, expires_at, row_state, ..new };
    let fields: [(Field, &[u8]); 11] = [
        (Field::PresUri, b"sip:alice@example.org"),
        (Field::WatcherUser, b"bob"),
        (Field::WatcherDomain, b"example.org"),
        (Field::ToUser, b"alice"),
        (Field::ToDomain, b"example.org"),
        (Field::FromUser, b"bob"),
        (Field::FromDomain, b"example.org"),
        (Field::CallId, call_id.as_bytes()),
        (Field::ToTag, b"to"),
        (Field::FromTag, b"from"),
        (Field::Contact, b"sip:bob@192.0.2.1"),
    ];
    Subscription::from_fields(state, &fields).expect("short strings")
}

const MADE: &str = "one 1 sip:bob@192.0.2.1";
const RENEWED: &str = "one 2 sip:bob@192.0.2.2";

#[test]
fn rows_are_written_when_the_mode_says() {
    let nothing: &[&str] = &[];
    // Before and after the timer: when it is made, renewed and removed.
    for (mode, made, renewed) in [
        (WRITE_THROUGH, [&[MADE][..], &[MADE]], [&[RENEWED][..], &[RENEWED]]),
        (WRITE_BACK, [nothing, &[MADE]], [&[MADE][..], &[RENEWED]]),
        (DATABASE, [&[MADE][..], &[MADE]], [&[RENEWED][..], &[RENEWED]]),
    ] {
        let mut bench = StoreOverRows::new(mode);
        assert_eq!(bench.subscribe("one"), Ok(Stored::New), "subs_db_mode {mode}");
        assert_eq!(bench.rows_before_and_after_the_timer(), made, "subs_db_mode {mode}: made");
        assert!(matches!(bench.renew("one", 2), Ok(Renewed::Done)), "subs_db_mode {mode}");
        assert_eq!(bench.rows_before_and_after_the_timer(), renewed, "subs_db_mode {mode}: renewed");
        assert!(bench.remove("one"), "subs_db_mode {mode}");
        assert_eq!(bench.rows_before_and_after_the_timer(), [nothing, nothing], "subs_db_mode {mode}: removed");
    }
}

#[test]
fn a_row_that_is_refused_costs_its_own_subscription_and_no_other() {
    for mode in [WRITE_THROUGH, WRITE_BACK, DATABASE] {
        let mut bench = StoreOverRows::new(mode);
        bench.parts.database.carry_out(
            "CREATE TRIGGER refuses BEFORE INSERT ON active_watchers WHEN new.callid = 'bad'
                BEGIN SELECT RAISE(ABORT, 'no'); END",
        );
        let stored = ["one", "bad", "two"].map(|call_id| bench.subscribe(call_id));
        let written_later = mode == WRITE_BACK;
        let bad = if written_later { Ok(Stored::New) } else { Err(StoreError::Refused) };
        assert_eq!(stored, [Ok(Stored::New), bad, Ok(Stored::New)], "subs_db_mode {mode}");
        assert_eq!(
            bench.found("bad").is_some(),
            written_later,
            "subs_db_mode {mode}: nothing is stored without its row"
        );
        bench.store.write_back(Pass::Regular).expect("the database is there");
        let call_ids = |bench: &StoreOverRows| -> Vec<String> {
            bench.parts.database.lines("SELECT callid FROM active_watchers ORDER BY callid")
        };
        assert_eq!(call_ids(&bench), ["one", "two"], "subs_db_mode {mode}");
        // What was refused is tried once more, at the latest when the server ends.
        bench.parts.database.carry_out("DROP TRIGGER refuses");
        bench.store.write_back(Pass::Last).expect("the database is there");
        let all: &[&str] = if written_later { &["bad", "one", "two"] } else { &["one", "two"] };
        assert_eq!(call_ids(&bench), all, "subs_db_mode {mode}");
    }
}

#[test]
fn a_database_that_takes_nothing_loses_nothing() {
    for mode in [WRITE_THROUGH, WRITE_BACK, DATABASE] {
        let mut bench = StoreOverRows::new(mode);
        assert_eq!(bench.subscribe("one"), Ok(Stored::New), "subs_db_mode {mode}");
        bench.store.write_back(Pass::Regular).expect("the database is there");
        bench.parts.database.refuse_changes();
        let (renewed, made) = (bench.renew("one", 2).map(drop), bench.subscribe("two"));
        if mode == WRITE_BACK {
            assert_eq!((renewed, made), (Ok(()), Ok(Stored::New)));
            assert_eq!(bench.store.write_back(Pass::Regular), Err(StoreError::Database));
        } else {
            assert_eq!((renewed, made), (Err(StoreError::Database), Err(StoreError::Database)), "subs_db_mode {mode}");
            let before = bench.found("one").expect("it stays");
            assert_eq!(before.get(Field::Contact), b"sip:bob@192.0.2.1", "subs_db_mode {mode}: nothing has changed");
        }
        bench.parts.database.take_changes();
        assert_eq!(bench.rows(), [MADE], "subs_db_mode {mode}");
        // The same requests come again, where they have failed; the rest is written by the timer.
        if mode != WRITE_BACK {
            assert!(matches!(bench.renew("one", 2), Ok(Renewed::Done)), "subs_db_mode {mode}");
            assert_eq!(bench.subscribe("two"), Ok(Stored::New), "subs_db_mode {mode}");
        }
        bench.store.write_back(Pass::Last).expect("the database is there");
        assert_eq!(bench.rows(), [RENEWED, "two 1 sip:bob@192.0.2.1"], "subs_db_mode {mode}");
    }
}

#[test]
fn a_start_finds_what_was_written() {
    for mode in [WRITE_THROUGH, WRITE_BACK, DATABASE] {
        let mut bench = StoreOverRows::new(mode);
        for call_id in ["one", "two", "gone"] {
            assert_eq!(bench.subscribe(call_id), Ok(Stored::New), "subs_db_mode {mode}");
        }
        assert!(matches!(bench.renew("two", 2), Ok(Renewed::Done)), "subs_db_mode {mode}");
        assert!(bench.remove("gone"), "subs_db_mode {mode}");
        bench.store.write_back(Pass::Last).expect("the database is there");
        let sent_before = bench.found("two").expect("stored").state.local_cseq;
        let mut bench = bench.restarted(mode);
        assert_eq!(
            ["one", "two", "gone"].map(|call_id| bench.found(call_id).is_some()),
            [true, true, false],
            "subs_db_mode {mode}"
        );
        let two = bench.found("two").expect("stored");
        assert_eq!(
            (two.state.remote_cseq, two.get(Field::Contact)),
            (2, &b"sip:bob@192.0.2.2"[..]),
            "subs_db_mode {mode}"
        );
        assert!(two.state.local_cseq >= sent_before, "subs_db_mode {mode}: no CSeq is used twice");
        assert!(matches!(bench.renew("two", 3), Ok(Renewed::Done)), "subs_db_mode {mode}");
        bench.store.write_back(Pass::Last).expect("the database is there");
        assert_eq!(bench.rows()[1], "two 3 sip:bob@192.0.2.2", "subs_db_mode {mode}");
    }
}

/// Another program may have written the row: it is ended as one that has run out, and gone (stock does the same).
#[test]
fn a_row_whose_end_is_no_time_ends() {
    for expires in [-1_i64, -5, i64::from(i32::MIN) - 1, 0, 5] {
        let mut bench = StoreOverRows::new(DATABASE);
        for call_id in ["odd", "one"] {
            assert_eq!(bench.subscribe(call_id), Ok(Stored::New));
        }
        let update = format!("UPDATE active_watchers SET expires = {expires} WHERE callid = 'odd'");
        bench.parts.database.carry_out(&update);
        let now = clock::now() + Seconds(1);
        let ended = bench.store.end_expired(&mut bench.work, now, 256).expect("the database is there");
        assert_eq!(ended.len(), 1, "{expires}");
        assert_eq!(bench.rows(), [MADE], "{expires}");
    }
}

#[test]
fn rows_that_are_written_with_their_changes_never_wait() {
    for mode in [0, WRITE_THROUGH, WRITE_BACK, DATABASE] {
        let bench = StoreOverRows::new(mode);
        let unwritten = bench.parts.shared.tables.unwritten;
        (0..MOST_UNWRITTEN).for_each(|_| unwritten.note());
        assert_eq!(bench.store.is_written_early(unwritten), mode == WRITE_BACK, "subs_db_mode {mode}");
    }
}

/// Processes have counted a watcher up at the same time, and some of their NOTIFYs are not sent.
#[test]
fn numbers_that_nobody_uses_are_given_back_in_any_order() {
    for (given_back, left) in [
        (&[0, 1][..], 0),
        (&[1, 0], 0),
        (&[0, 2, 1], 0),
        (&[0, 1, 2], 0),
        (&[2, 1, 0], 0),
        // The last one was sent, or the one in the middle: what is before it is lost.
        (&[0], 2),
        (&[0, 2], 2),
    ] {
        let mut bench = StoreOverRows::new(DATABASE);
        assert_eq!(bench.subscribe("one"), Ok(Stored::New));
        let store = InDatabase::new(bench.parts);
        let before = bench.found("one").expect("stored").state;
        let count = given_back.iter().max().map_or(0, |last| last + 1).max(left as usize);
        let counted: Vec<Subscription> = (0..count)
            .map(|_| store.count_up(bench.found("one").expect("stored"), |_| true).unwrap().expect("a row"))
            .collect();
        given_back.iter().for_each(|at| store.give_back(&counted[*at]).expect("the database is there"));
        let after = bench.found("one").expect("stored").state;
        let numbers = (after.local_cseq - before.local_cseq, after.version - before.version);
        assert_eq!(numbers, (left, left), "{given_back:?}");
        assert_eq!(after.updated, before.updated);
    }
}
