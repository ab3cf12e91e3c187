//! The table of leases (`cluster_arbiter`): one row for each start of each node.
use crate::cluster::arbiter::LeaseTable;
use crate::cluster::inheritance::{LeaseOutcome, LeaseRow};
use crate::common::database::Database;
use crate::host::db::{Cell, Op, Value, row_columns};
use crate::presence::error::StoreError;

/// The table, over one process's connection.
pub struct LeasesTable {
    /// The database.
    pub database: &'static Database,
    /// The name of the table.
    pub table: &'static [u8],
}

row_columns! {
    /// A lease, and what became of it.
    enum LeaseColumn {
        Node = "node",
        Number = "lease",
        Beat = "beat",
        State = "state",
        Successor = "heir",
        SuccessorNumber = "heir_lease",
    }
}

const HELD: i64 = 0;
const RELEASED: i64 = 1;
const TAKEN_OVER: i64 = 2;

fn state_of(outcome: &LeaseOutcome) -> i64 {
    match outcome {
        LeaseOutcome::Held => HELD,
        LeaseOutcome::Released => RELEASED,
        LeaseOutcome::TakenOver(..) => TAKEN_OVER,
    }
}

/// What a row says when its lease is another one's.
fn owned_by(node: &[u8], lease: u32) -> [Cell<'_>; 3] {
    [("state", Value::Int(TAKEN_OVER)), ("heir", Value::Text(node)), ("heir_lease", Value::Int(lease.into()))]
}

impl LeasesTable {
    /// Changes a row that is as it is said to be; a row that is not is left alone.
    fn change(
        &self,
        row: (&[u8], u32),
        beat: Option<u32>,
        outcome: &LeaseOutcome,
        cells: &[Cell<'_>],
    ) -> Result<(), StoreError> {
        let mut conditions = vec![
            ("node", Op::Eq, Value::Text(row.0)),
            ("lease", Op::Eq, Value::Int(row.1.into())),
            ("state", Op::Eq, Value::Int(state_of(outcome))),
        ];
        conditions.extend(beat.map(|beat| ("beat", Op::Eq, Value::Int(beat.into()))));
        if let LeaseOutcome::TakenOver(successor, lease) = outcome {
            conditions.push(("heir", Op::Eq, Value::Text(successor)));
            conditions.push(("heir_lease", Op::Eq, Value::Int((*lease).into())));
        }
        self.database.write(|db| db.update(self.table, cells, &conditions))
    }
}

impl LeaseTable for LeasesTable {
    type Error = StoreError;

    fn rows(&mut self) -> Result<Vec<LeaseRow>, StoreError> {
        self.database.read(|db| {
            let rows = db.select::<LeaseColumn>(self.table, &[], None)?;
            let number = |n: i64| u32::try_from(n).unwrap_or_default();
            let read = rows.iter().map(|row| LeaseRow {
                node: row.bytes(LeaseColumn::Node).to_vec(),
                lease: number(row.int(LeaseColumn::Number)),
                beat: number(row.int(LeaseColumn::Beat)),
                outcome: match row.int(LeaseColumn::State) {
                    HELD => LeaseOutcome::Held,
                    RELEASED => LeaseOutcome::Released,
                    _ => LeaseOutcome::TakenOver(
                        row.bytes(LeaseColumn::Successor).to_vec(),
                        number(row.int(LeaseColumn::SuccessorNumber)),
                    ),
                },
            });
            Ok(read.collect())
        })
    }

    fn begin(&mut self, node: &[u8], lease: u32) -> Result<(), StoreError> {
        let cells: [Cell<'_>; 6] = [
            ("node", Value::Text(node)),
            ("lease", Value::Int(lease.into())),
            ("beat", Value::Int(1)),
            ("state", Value::Int(HELD)),
            ("heir", Value::Text(b"")),
            ("heir_lease", Value::Int(0)),
        ];
        self.database.write_once(|db| db.insert(self.table, &cells))
    }

    fn beat(&mut self, node: &[u8], lease: u32, from: u32) -> Result<(), StoreError> {
        self.change((node, lease), Some(from), &LeaseOutcome::Held, &[("beat", Value::Int(i64::from(from) + 1))])
    }

    fn take_over(&mut self, seen: &LeaseRow, node: &[u8], lease: u32) -> Result<(), StoreError> {
        let cells = owned_by(node, lease);
        self.change((&seen.node, seen.lease), Some(seen.beat), &seen.outcome, &cells)
    }

    fn release(&mut self, node: &[u8], lease: u32) -> Result<(), StoreError> {
        self.change((node, lease), None, &LeaseOutcome::Held, &[("state", Value::Int(RELEASED))])
    }

    fn hand_over(&mut self, own: (&[u8], u32), successor: (&[u8], u32)) -> Result<(), StoreError> {
        self.change(own, None, &LeaseOutcome::Held, &owned_by(successor.0, successor.1))
    }
}
