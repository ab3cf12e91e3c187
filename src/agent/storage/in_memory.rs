//! Records that live in memory, with the table behind it (`db_mode` 0): a timer writes what has changed.
use crate::agent::pua_table::PuaRows;
use crate::agent::records::{RecordCounts, RecordRowChange, Records};
use crate::agent::storage::store::{RecordStore, SweepPart};
use crate::common::row_groups::{GROUP, GroupOutcome, Pass, RefusalLog, RowOutcome, TakenRows};
use crate::host::{clock, log};
use crate::log;
use crate::pua::error::RequestError;
use crate::pua::record::{Dialog, Record, RecordField, RecordRowState, Search};
use crate::time::Moment;

/// How far the CSeq of a dialog moves on at a restart: more than can be used between two writes of its row.
const CSEQ_RESERVE: u32 = 1000;

/// The store whose rows follow its memory.
pub struct RecordsInMemory {
    records: &'static Records,
    rows: PuaRows,
}

impl RecordsInMemory {
    /// The store of these records over these rows.
    pub fn new(records: &'static Records, rows: PuaRows) -> RecordsInMemory {
        RecordsInMemory { records, rows }
    }
}

impl RecordStore for RecordsInMemory {
    fn find(&self, search: &Search<'_>) -> Result<Option<Record>, RequestError> {
        Ok(self.records.find(search))
    }

    fn find_dialog(&self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError> {
        Ok(self.records.find_dialog(dialog))
    }

    fn insert(&self, record: &Record) -> Result<(), RequestError> {
        Ok(self.records.insert(record)?)
    }

    fn replace(&self, before: &Record, after: &Record) -> Result<bool, RequestError> {
        Ok(self.records.replace(before, after)?)
    }

    fn remove(&self, record: &Record) -> Result<(), RequestError> {
        self.records.remove(record);
        Ok(())
    }

    fn ending(&self, before: Moment, part: SweepPart) -> Result<Vec<Record>, RequestError> {
        Ok(self.records.ending(before, part.number, part.of))
    }

    fn all(&self) -> Result<Vec<Record>, RequestError> {
        self.ending(Moment::MAX, SweepPart::WHOLE)
    }

    fn uris_with_id(&self, id: &[u8]) -> Result<Vec<Vec<u8>>, RequestError> {
        Ok(self.records.uris_with_id(id))
    }

    fn count(&self) -> RecordCounts {
        self.records.count()
    }

    fn restore(&self) -> Result<usize, RequestError> {
        let (mut failed, mut watching) = (0, false);
        let keep = |mut record: Record| {
            if record.is_subscription() {
                // After a crash the row does not say which numbers were used since it was written.
                record.state.cseq = record.state.cseq.saturating_add(CSEQ_RESERVE);
                record.state.row_state = RecordRowState::Update;
                watching = true;
            }
            failed += usize::from(self.records.insert(&record).is_err());
        };
        let count = self.rows.each(keep)?;
        if failed > 0 {
            return Err(RequestError::Store(format!(
                "{failed} records do not fit the shared memory: raise it (option -m)"
            )));
        }
        if watching {
            // The numbers taken are in the rows before the first of them is used: another crash takes others.
            self.write_back(Pass::Regular);
        }
        Ok(count)
    }

    fn writes_later(&self) -> bool {
        true
    }

    fn is_much_unwritten(&self) -> bool {
        self.records.unwritten.are_many()
    }

    fn write_back(&self, pass: Pass) {
        let (now, mut refusals, mut lost) = (clock::now(), RefusalLog::default(), None);
        let moment = pass.moment(now);
        let put_back = |change: &RecordRowChange| {
            self.records.note_fate(change, RowOutcome::Kept, moment);
        };
        let mut changes = TakenRows::new(self.records.take_changes(moment, pass), &put_back);
        for first in (0..changes.rows().len()).step_by(GROUP) {
            let group = &changes.rows()[first..changes.rows().len().min(first + GROUP)];
            // What the database has no connection for is kept without a try.
            let outcome = match lost {
                None => self.rows.write_changes(group),
                Some(_) => GroupOutcome { of_rows: vec![RowOutcome::Kept; group.len()], error: lost },
            };
            changes.settle(&outcome.of_rows, |change, fate| {
                if self.records.note_fate(change, fate, moment) {
                    refusals.note(self.rows.table, || named(change));
                }
            });
            lost = outcome.error;
        }
        let written = match lost {
            Some(error) => Err(error),
            None => self.rows.delete_ended(now),
        };
        if let Err(error) = written {
            log!(Error, "cannot write what has changed to the pua table: {error}");
        }
    }
}

/// Whose row a change is about.
fn named(change: &RecordRowChange) -> String {
    let (RecordRowChange::Ended { row: record, .. } | RecordRowChange::Changed { record, .. }) = change;
    let uri = log::show(record.get(RecordField::PresUri));
    match record.is_subscription() {
        true => format!("the subscription of {} to {uri}", log::show(record.get(RecordField::WatcherUri))),
        false => format!("a publication of {uri}"),
    }
}
