//! Start-up of `pua.so`: parameters, database, shared tables, timers.
use super::presence_start::open_tables;
use super::pua_module::{kr_pua_on_published, kr_pua_on_second, kr_pua_on_subscribed, kr_pua_on_write};
use super::pua_state;
use crate::bridge::ids::Ids;
use crate::bridge::pua::callbacks::Registry;
use crate::bridge::pua::world::{PuaProcess, Shared};
use crate::bridge::pua::{rows, settings};
use crate::host::params::PuaParams;
use crate::host::{clock, pool, process, tm};
use crate::pua::config::{Config, Mode};
use crate::pua::event;
use crate::sys;
use std::cell::{Cell, RefCell};

pub(super) fn start(params: &sys::kr_pua_params) -> Result<(), String> {
    let params = PuaParams(params);
    let config = settings::read(&params).map_err(|error| error.to_string())?;
    super::gauges::register_pua()?;
    if !tm::load() {
        return Err("the tm module must be loaded before pua".into());
    }
    if params.db_url().is_empty() {
        return Err("parameter db_url is empty: pua needs a database".into());
    }
    let database = open_tables(params.db_url(), &[(config.table, rows::VERSION)])?;
    pool::start().map_err(|error| error.to_string())?;
    let shared = Shared::new().map_err(|error| error.to_string())?;
    start_timers(&config)?;
    let events = event::built_in(config.count_dialog_versions, config.count_reg_versions);
    pua_state::set(PuaProcess {
        config,
        registry: Registry::with_events(events),
        shared,
        database,
        ids: RefCell::new(Ids::new(clock::now())),
        turn: Cell::new(0),
        on_published: kr_pua_on_published,
        on_subscribed: kr_pua_on_subscribed,
    });
    Ok(())
}

fn start_timers(config: &Config) -> Result<(), String> {
    let writes = config.mode == Mode::Memory && config.update_period > 0;
    if !process::every(1, false, kr_pua_on_second)
        || writes && !process::every(config.update_period, false, kr_pua_on_write)
    {
        return Err("cannot register a timer".into());
    }
    Ok(())
}

/// What happens once all modules are initialised and nothing is forked yet: memory is filled from the table.
pub(super) fn restore() -> Result<(), String> {
    let (Some(world), Some(process)) = (pua_state::world(), pua_state::process()) else { return Ok(()) };
    let read = world.restore().map_err(|error| error.to_string());
    process.database.disconnect();
    let read = read?;
    if read > 0 {
        crate::log!(Info, "{read} publications and subscriptions restored");
    }
    Ok(())
}
