//! Records that live in the table alone (`db_mode` 2): each change is written at once.
use crate::agent::pua_table::PuaRows;
use crate::agent::records::{self, RecordCounts};
use crate::agent::storage::store::{RecordStore, SweepPart};
use crate::common::row_groups::Pass;
use crate::pua::error::RequestError;
use crate::pua::record::{Dialog, Record, Search};
use crate::time::Moment;

/// The store without memory.
pub struct RecordsInTable {
    rows: PuaRows,
}

impl RecordsInTable {
    /// The store over these rows.
    pub fn new(rows: PuaRows) -> RecordsInTable {
        RecordsInTable { rows }
    }
}

impl RecordStore for RecordsInTable {
    fn find(&self, search: &Search<'_>) -> Result<Option<Record>, RequestError> {
        Ok(self.rows.find(search)?)
    }

    fn find_dialog(&self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError> {
        Ok(self.rows.find_dialog(dialog)?)
    }

    fn insert(&self, record: &Record) -> Result<(), RequestError> {
        Ok(self.rows.insert(record)?)
    }

    fn replace(&self, before: &Record, after: &Record) -> Result<bool, RequestError> {
        Ok(self.rows.replace(before, after)?)
    }

    fn remove(&self, record: &Record) -> Result<(), RequestError> {
        Ok(self.rows.remove(record)?)
    }

    fn ending(&self, before: Moment, part: SweepPart) -> Result<Vec<Record>, RequestError> {
        let mut due = self.rows.ending(before)?;
        let number_of = |record: &Record| {
            let dialog = record.dialog();
            records::hash(0, &[dialog.pres_uri, dialog.call_id]) as usize % part.of
        };
        due.retain(|record| number_of(record) == part.number);
        Ok(due)
    }

    fn all(&self) -> Result<Vec<Record>, RequestError> {
        let mut all = Vec::new();
        self.rows.each(|record| all.push(record))?;
        Ok(all)
    }

    fn uris_with_id(&self, id: &[u8]) -> Result<Vec<Vec<u8>>, RequestError> {
        Ok(self.rows.uris_with_id(id)?)
    }

    fn count(&self) -> RecordCounts {
        RecordCounts::default()
    }

    fn restore(&self) -> Result<usize, RequestError> {
        Ok(0)
    }

    fn writes_later(&self) -> bool {
        false
    }

    fn is_much_unwritten(&self) -> bool {
        false
    }

    fn write_back(&self, _: Pass) {}
}
