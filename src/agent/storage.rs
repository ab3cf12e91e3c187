//! Where records live. The mode is looked at here, once, when the module starts; whatever needs it later asks the
//! store.
pub mod in_memory;
pub mod in_table;
pub mod store;

use crate::agent::pua_table::PuaRows;
use crate::agent::records::Records;
use crate::common::database::Database;
use crate::host::no_memory::NoMemory;
use crate::host::{clock, shm};
use crate::pua::config::{Config, Mode};
use in_memory::RecordsInMemory;
use in_table::RecordsInTable;
use store::RecordStore;

/// The store that the settings name, for the life of the process; call before the processes fork.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub fn choose(config: &Config, database: &'static Database) -> Result<&'static dyn RecordStore, NoMemory> {
    let rows = PuaRows { database, table: config.table, fetch_rows: config.fetch_rows };
    Ok(match config.mode {
        Mode::Memory => kept(RecordsInMemory::new(shm::leak(Records::new(clock::random_number())?)?, rows)),
        Mode::Database => kept(RecordsInTable::new(rows)),
    })
}

/// Keeps a store for the life of the process.
fn kept<T>(store: T) -> &'static T {
    Box::leak(Box::new(store))
}
