//! Unit tests of the records.
use super::*;
use crate::host::fake;
use crate::pua::flags::{EventFlags, SourceFlags};
use crate::pua::record::RecordState;
use crate::time::Expiry;

fn record(id: &str, etag: &str) -> Record {
    let state = RecordState {
        serial: 0,
        event: EventFlags::from_word(1),
        flag: SourceFlags::from_word(1),
        expires_at: Moment::at(100),
        desired_until: Expiry::Never,
        cseq: 0,
        version: 0,
        row_state: RecordRowState::Insert,
    };
    Record::new(
        state,
        &[
            (RecordField::PresUri, b"sip:alice@host"),
            (RecordField::Id, id.as_bytes()),
            (RecordField::Etag, etag.as_bytes()),
        ],
    )
}

fn search(id: &'static [u8]) -> Search<'static> {
    Search {
        pres_uri: b"sip:alice@host",
        watcher_uri: b"",
        id,
        etag: None,
        remote_contact: b"",
        call_id: b"",
        event: EventFlags::from_word(1),
        flag: SourceFlags::from_word(3),
        check_remote_contact: true,
    }
}

#[test]
fn the_newest_match_is_found_and_rows_are_remembered() {
    let records = Records::new(7).unwrap();
    records.insert(&record("a", "1")).unwrap();
    records.insert(&record("b", "2")).unwrap();
    assert_eq!(records.find(&search(b"")).unwrap().get(RecordField::Etag), b"2");
    let a = records.find(&search(b"a")).unwrap();
    assert!(records.replace(&a, &a.with(&[(RecordField::Etag, b"3")])).unwrap());
    let changes = records.take_changes(Moment::at(0), Pass::Regular);
    assert!(matches!(changes[..], [RecordRowChange::Changed { .. }, RecordRowChange::Changed { .. }]));
    changes.iter().for_each(|change| assert!(!records.note_fate(change, RowOutcome::Written, Moment::at(0))));
    records.remove(&records.find(&search(b"a")).unwrap());
    assert!(records.find(&search(b"a")).is_none());
    assert!(!records.replace(&a, &a).unwrap());
    let ended = records.take_changes(Moment::at(0), Pass::Regular);
    assert!(matches!(&ended[..], [RecordRowChange::Ended { row, .. }] if row.get(RecordField::Etag) == b"3"));
    records.note_fate(&ended[0], RowOutcome::Kept, Moment::at(0));
    assert_eq!(records.take_changes(Moment::at(0), Pass::Regular).len(), 1, "what could not be deleted is tried again");
}

#[test]
fn a_refused_row_rests_until_its_record_changes() {
    let records = Records::new(7).unwrap();
    records.insert(&record("a", "1")).unwrap();
    let changes = records.take_changes(Moment::at(10), Pass::Regular);
    assert!(records.note_fate(&changes[0], RowOutcome::Refused, Moment::at(10)));
    assert!(records.take_changes(Moment::at(20), Pass::Regular).is_empty());
    assert_eq!(records.refused(9).len(), 1);
    let last = records.take_changes(Moment::at(20), Pass::Last);
    let [RecordRowChange::Changed { record, .. }] = &last[..] else { panic!("one row is new") };
    assert_eq!(record.state.row_state, RecordRowState::Insert);
    assert!(!records.note_fate(&last[0], RowOutcome::Refused, Moment::at(20)), "it is named once");
    let a = records.find(&search(b"a")).unwrap();
    assert!(records.replace(&a, &a.with(&[(RecordField::Etag, b"2")])).unwrap());
    assert_eq!(records.take_changes(Moment::at(21), Pass::Regular).len(), 1);
}

/// The entity tags of the rows that are to be deleted.
fn ended(records: &Records) -> Vec<Vec<u8>> {
    let tags = |change: RecordRowChange| match change {
        RecordRowChange::Ended { row, written_etags } => {
            let written = written_etags.iter().map(|tag| tag.bytes().to_vec());
            Some(row.get(RecordField::Etag).to_vec()).into_iter().chain(written).collect()
        }
        RecordRowChange::Changed { .. } => Vec::new(),
    };
    records.take_changes(Moment::at(1), Pass::Regular).into_iter().flat_map(tags).collect()
}

/// A record that has a row with this entity tag.
fn with_row(records: &Records, etag: &str) -> Record {
    records.insert(&record("a", etag)).unwrap();
    let changes = records.take_changes(Moment::at(0), Pass::Regular);
    changes.iter().for_each(|change| assert!(!records.note_fate(change, RowOutcome::Written, Moment::at(0))));
    records.find(&search(b"a")).unwrap()
}

/// Has the table do what is to be done now, all of it.
fn write_all(records: &Records) {
    let changes = records.take_changes(Moment::at(2), Pass::Regular);
    changes.iter().for_each(|change| assert!(!records.note_fate(change, RowOutcome::Written, Moment::at(2))));
}

#[test]
fn a_record_removed_while_it_is_written_leaves_no_row() {
    for (fate, wanted) in [(RowOutcome::Written, b"2"), (RowOutcome::Kept, b"1"), (RowOutcome::Refused, b"1")] {
        let records = Records::new(7).unwrap();
        let a = with_row(&records, "1");
        records.replace(&a, &a.with(&[(RecordField::Etag, b"2")])).unwrap();
        let changes = records.take_changes(Moment::at(0), Pass::Regular);
        assert!(
            matches!(&changes[..], [RecordRowChange::Changed { row_etag, .. }] if *row_etag == EntityTag::from("1"))
        );
        records.remove(&records.find(&search(b"a")).unwrap());
        // The process that writes may have ended: the row has one entity tag or the other.
        assert_eq!(ended(&records), [b"1", b"2"]);
        records.note_fate(&changes[0], fate, Moment::at(0));
        assert_eq!(ended(&records), [wanted], "{fate:?}");
        write_all(&records);
        assert!(ended(&records).is_empty(), "{fate:?}");
    }
}

#[test]
fn a_new_record_removed_while_it_is_written_leaves_no_row() {
    for (fate, wanted) in [(RowOutcome::Written, 1), (RowOutcome::Kept, 0), (RowOutcome::Refused, 0)] {
        let records = Records::new(7).unwrap();
        records.insert(&record("a", "1")).unwrap();
        let changes = records.take_changes(Moment::at(0), Pass::Regular);
        records.remove(&records.find(&search(b"a")).unwrap());
        // Deleted before it is written, the row is deleted once more behind that.
        write_all(&records);
        records.note_fate(&changes[0], fate, Moment::at(0));
        assert_eq!(ended(&records).len(), wanted, "{fate:?}");
        assert_eq!(records.count(), RecordCounts::default());
        write_all(&records);
        assert!(ended(&records).is_empty(), "{fate:?}");
    }
}

#[test]
fn a_row_that_may_not_be_deleted_is_left_to_its_own_time() {
    let records = Records::new(7).unwrap();
    records.remove(&with_row(&records, "1"));
    let changes = records.take_changes(Moment::at(0), Pass::Regular);
    assert!(!records.note_fate(&changes[0], RowOutcome::Refused, Moment::at(0)));
    assert!(ended(&records).is_empty());
}

#[test]
fn what_becomes_of_a_row_needs_no_memory() {
    let (records, at) = (Records::new(7).unwrap(), Moment::at(0));
    let blocks = fake::live_blocks();
    let a = with_row(&records, "1");
    // A change that could not be written, and one that was.
    for (tag, fate) in [(b"2", RowOutcome::Refused), (b"2", RowOutcome::Kept), (b"3", RowOutcome::Written)] {
        records.replace(&a, &a.with(&[(RecordField::Etag, tag)])).unwrap();
        let changes = records.take_changes(at, Pass::Regular);
        let [RecordRowChange::Changed { row_etag, .. }] = &changes[..] else { panic!("one has changed") };
        assert_eq!(*row_etag, EntityTag::from("1"));
        let (_, asked) = fake::failing_at(0, || records.note_fate(&changes[0], fate, at));
        assert!(!asked && fake::held_locks() == 0, "{fate:?}");
    }
    // An end, until its row is gone.
    let (_, asked) = fake::failing_at(0, || records.remove(&a));
    assert!(!asked && records.find(&search(b"a")).is_none() && records.count() == RecordCounts::default());
    assert!(!records.replace(&a, &a).unwrap() && records.ending(Moment::MAX, 0, 1).is_empty());
    assert!(records.uris_with_id(b"a").is_empty() && records.refused(9).is_empty());
    for (fate, left) in [(RowOutcome::Kept, 1), (RowOutcome::Written, 0)] {
        let (changes, asked) = fake::failing_at(0, || records.take_changes(at, Pass::Regular));
        assert!(matches!(&changes[..], [RecordRowChange::Ended { row, .. }] if row.get(RecordField::Etag) == b"3"));
        let (_, asked_then) = fake::failing_at(0, || records.note_fate(&changes[0], fate, at));
        assert!(!asked && !asked_then && ended(&records).len() == left, "{fate:?}");
    }
    // The table keeps the room it once needed.
    assert!(fake::live_blocks() <= blocks + 1);
}

#[test]
fn a_change_for_which_there_is_no_memory_is_taken_later() {
    let records = Records::new(7).unwrap();
    let a = with_row(&records, "1");
    records.insert(&record("b", "1")).unwrap();
    write_all(&records);
    let b = records.find(&search(b"b")).unwrap();
    for before in [&a, &b] {
        records.replace(before, &before.with(&[(RecordField::Etag, b"2")])).unwrap();
    }
    for n in 0..2 {
        let (taken, failed) = fake::failing_at(n, || records.take_changes(Moment::at(0), Pass::Regular));
        assert!(failed && fake::held_locks() == 0);
        assert_eq!(taken.len(), n);
    }
    assert_eq!(records.take_changes(Moment::at(0), Pass::Regular).len(), 2);
}

#[test]
fn what_a_process_was_writing_when_it_ended_is_written_by_the_next_pass() {
    let records = Records::new(7).unwrap();
    for id in ["a", "b"] {
        records.insert(&record(id, "1")).unwrap();
    }
    let changes = records.take_changes(Moment::at(0), Pass::Regular);
    changes.iter().for_each(|change| assert!(!records.note_fate(change, RowOutcome::Written, Moment::at(0))));
    let (a, b) = (records.find(&search(b"a")).unwrap(), records.find(&search(b"b")).unwrap());
    records.remove(&a);
    records.replace(&b, &b.with(&[(RecordField::Etag, b"2")])).unwrap();
    for _ in 0..3 {
        // Nobody says what became of these.
        let changes = records.take_changes(Moment::at(1), Pass::Regular);
        let [RecordRowChange::Ended { row, .. }, RecordRowChange::Changed { record, row_etag, .. }] = &changes[..]
        else {
            panic!("one has ended, one has changed: {changes:?}")
        };
        assert_eq!((row.get(RecordField::Id), record.get(RecordField::Etag)), (&b"a"[..], &b"2"[..]));
        assert_eq!(*row_etag, EntityTag::from("1"));
    }
    let changes = records.take_changes(Moment::at(2), Pass::Last);
    changes.iter().for_each(|change| assert!(!records.note_fate(change, RowOutcome::Written, Moment::at(2))));
    assert!(records.take_changes(Moment::at(3), Pass::Last).is_empty());
}

#[test]
fn a_copy_that_was_left_behind_is_replaced() {
    for fate in [RowOutcome::Kept, RowOutcome::Refused, RowOutcome::Written] {
        let records = Records::new(7).unwrap();
        records.insert(&record("a", "1")).unwrap();
        // The process that took it has ended: the table may have the row.
        drop(records.take_changes(Moment::at(0), Pass::Regular));
        let a = records.find(&search(b"a")).unwrap();
        records.replace(&a, &a.with(&[(RecordField::Etag, b"2")])).unwrap();
        let changes = records.take_changes(Moment::at(1), Pass::Last);
        let [RecordRowChange::Changed { left_etag, record, .. }] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((left_etag.clone(), record.get(RecordField::Etag)), (Some(EntityTag::from("1")), &b"2"[..]));
        records.note_fate(&changes[0], fate, Moment::at(1));
        records.replace(&a, &a.with(&[(RecordField::Etag, b"3")])).unwrap();
        let changes = records.take_changes(Moment::at(9), Pass::Last);
        let [RecordRowChange::Changed { left_etag, row_etag, .. }] = &changes[..] else { panic!("{changes:?}") };
        match fate {
            RowOutcome::Written => assert_eq!((left_etag, row_etag), (&None, &EntityTag::from("2"))),
            _ => assert_eq!(*left_etag, Some(EntityTag::from("1")), "{fate:?}"),
        }
        records.note_fate(&changes[0], RowOutcome::Kept, Moment::at(9));
        records.remove(&a);
        let row = if fate == RowOutcome::Written { "2" } else { "1" };
        assert!(ended(&records).contains(&row.as_bytes().to_vec()), "{fate:?}");
        write_all(&records);
        assert!(ended(&records).is_empty(), "{fate:?}");
    }
}

#[test]
fn what_could_not_be_written_is_written_as_what_it_was() {
    let records = Records::new(7).unwrap();
    records.insert(&record("a", "1")).unwrap();
    let changes = records.take_changes(Moment::at(0), Pass::Regular);
    let a = records.find(&search(b"a")).unwrap();
    records.replace(&a, &a.with(&[(RecordField::Etag, b"2")])).unwrap();
    records.note_fate(&changes[0], RowOutcome::Kept, Moment::at(0));
    let RecordRowChange::Changed { record: again, .. } = &records.take_changes(Moment::at(1), Pass::Regular)[0] else {
        panic!("not changed")
    };
    assert_eq!((again.state.row_state, again.get(RecordField::Etag)), (RecordRowState::Insert, b"2".as_slice()));
}

#[test]
fn what_is_wanted_keeps_its_row_though_its_grant_is_over() {
    let at = |seconds| Expiry::At(Moment::at(seconds));
    for (desired_until, rows) in [(Expiry::Never, 1), (at(900), 1), (at(400), 0)] {
        let records = Records::new(7).unwrap();
        let mut late = record("a", "1");
        late.state.desired_until = desired_until;
        records.insert(&late).unwrap();
        assert_eq!(records.take_changes(Moment::at(500), Pass::Regular).len(), rows);
    }
}

#[test]
fn without_memory_nothing_changes() {
    let records = Records::new(7).unwrap();
    let before = fake::live_blocks();
    let mut n = 0;
    loop {
        let (stored, failed) = fake::failing_at(n, || records.insert(&record("a", "1")));
        assert_eq!(fake::held_locks(), 0);
        if !failed {
            stored.unwrap();
            break;
        }
        assert!(stored.is_err() && records.find(&search(b"a")).is_none());
        n += 1;
    }
    assert!(n > 0);
    records.remove(&records.find(&search(b"a")).unwrap());
    // The table keeps the room it once needed.
    assert!(fake::live_blocks() <= before + 1);
}
