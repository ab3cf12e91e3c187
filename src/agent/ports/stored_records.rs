//! Records, in the store that `db_mode` has chosen.
use crate::agent::context::AgentContext;
use crate::agent::storage::store::SweepPart;
use crate::pua::error::RequestError;
use crate::pua::ports::stored_records::StoredRecords;
use crate::pua::record::{Dialog, Record, Search};
use crate::time::Moment;

impl StoredRecords for AgentContext<'_> {
    fn find(&mut self, search: &Search<'_>) -> Result<Option<Record>, RequestError> {
        self.process.records.find(search)
    }
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError> {
        self.process.records.find_dialog(dialog)
    }
    fn insert(&mut self, record: &Record) -> Result<(), RequestError> {
        self.process.records.insert(record)
    }
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, RequestError> {
        self.process.records.replace(before, after)
    }
    fn remove(&mut self, record: &Record) -> Result<(), RequestError> {
        self.process.records.remove(record)
    }
    fn ending(&mut self, before: Moment) -> Result<Vec<Record>, RequestError> {
        if self.whole_sweep {
            return self.process.records.ending(before, SweepPart::WHOLE);
        }
        // A part of the records each second, so that refreshes are spread over the period.
        let of = self.process.config.sweep_period().0 as usize;
        let number = self.process.turn.get() % of;
        self.process.turn.set(number + 1);
        self.process.records.ending(before, SweepPart { number, of })
    }
}
