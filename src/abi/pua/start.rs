//! Start-up of `pua.so`: parameters, database, shared tables, timers.
use crate::abi::pua::state;
use crate::abi::pua::timers::{kr_pua_on_published, kr_pua_on_second, kr_pua_on_subscribed, kr_pua_on_write};
use crate::agent::context::{AgentProcess, AgentShared};
use crate::agent::storage::store::RecordStore;
use crate::agent::{pua_table, settings, storage};
use crate::callbacks::user_agent::CallbackRegistry;
use crate::common::database::Database;
use crate::common::ids::Ids;
use crate::common::metrics::{self, Owner};
use crate::common::opening::open_tables;
use crate::host::db::Ways;
use crate::host::process::TimerProcess;
use crate::host::{clock, process, slab, tm};
use crate::pua::config::Config;
use crate::pua::event;
use crate::time::Seconds;
use std::cell::{Cell, RefCell};

/// Reads the parameters and makes the state of the module; called in `mod_init`.
///
/// # Errors
///
/// Fails with a sentence about the parameter, module, table or memory that keeps the module from starting.
pub(crate) fn start() -> Result<(), String> {
    clock::start();
    let params = state::parameters();
    let config = settings::read(params).map_err(|error| error.to_string())?;
    crate::abi::gauges::register_pua()?;
    if !tm::load() {
        return Err("the tm module must be loaded before pua".into());
    }
    if params.db_url().is_empty() {
        return Err("parameter db_url is empty: pua needs a database".into());
    }
    let ways = Ways {
        sqlite: config.sqlite_direct.into(),
        printing: config.print_statements.into(),
        commits: config.share_commits.into(),
    };
    let database = open_tables(params.db_url(), ways, &[(config.table, pua_table::VERSION)], Owner::Pua)?;
    slab::start(config.shm_slab.into()).map_err(|error| error.to_string())?;
    metrics::start().map_err(|error| error.to_string())?;
    let database: &'static Database = Box::leak(Box::new(database));
    let shared = AgentShared::new().map_err(|error| error.to_string())?;
    let records = storage::choose(&config, database).map_err(|error| error.to_string())?;
    start_timers(&config, records)?;
    let events = event::built_in(&config);
    state::set(AgentProcess {
        config,
        registry: CallbackRegistry::with_events(events),
        shared,
        database,
        records,
        ids: RefCell::new(Ids::new(clock::now())),
        turn: Cell::new(0),
        on_published: kr_pua_on_published,
        on_subscribed: kr_pua_on_subscribed,
    });
    Ok(())
}

fn start_timers(config: &Config, records: &dyn RecordStore) -> Result<(), String> {
    let writes = config.update_period.filter(|_| records.writes_later());
    if !process::every(Seconds(1), TimerProcess::Main, kr_pua_on_second)
        || writes.is_some_and(|period| !process::every(period, TimerProcess::Main, kr_pua_on_write))
    {
        return Err("cannot register a timer".into());
    }
    Ok(())
}

/// What happens once all modules are initialised and nothing is forked yet: memory is filled from the table.
///
/// # Errors
///
/// Fails with a sentence when the tables cannot be read, or shared memory runs out.
pub(crate) fn restore() -> Result<(), String> {
    let Some(process) = state::process() else { return Ok(()) };
    let read = process.records.restore().map_err(|error| error.to_string());
    process.database.disconnect();
    let read = read?;
    if read > 0 {
        crate::log!(Info, "{read} publications and subscriptions restored");
    }
    Ok(())
}
