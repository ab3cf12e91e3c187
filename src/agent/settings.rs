//! From module parameters to the settings of the user agent; what makes no sense stops start-up with one clear line.
use crate::common::parameters::{BadParameter, bad, corrected, table};
use crate::host::params::PuaParams;
use crate::pua::config::{Config, Mode};

/// Below this many seconds `default_expires` is not taken.
const LEAST_DEFAULT: i32 = 600;

/// Checks the parameters.
pub fn read(params: &PuaParams<'_>) -> Result<Config, BadParameter> {
    let mode = match params.db_mode() {
        2 => Mode::Database,
        given => {
            corrected("db_mode", given, 0);
            Mode::Memory
        }
    };
    let update_period = params.update_period();
    if update_period < 0 || (1..=5).contains(&update_period) {
        return Err(bad("update_period", update_period, "0 (no timers) or more than 5 seconds"));
    }
    let check_remote_contact = match params.check_remote_contact() {
        0 => false,
        1 => true,
        other => return Err(bad("check_remote_contact", other, "0 or 1")),
    };
    let default_expires = match params.default_expires() {
        small if small < LEAST_DEFAULT => corrected("default_expires", small, 3600),
        given => given,
    };
    Ok(Config {
        mode,
        table: table("db_table", params.db_table())?,
        min_expires: corrected("min_expires", params.min_expires(), params.min_expires().max(0)).into(),
        default_expires: default_expires.into(),
        update_period,
        outbound_proxy: params.outbound_proxy(),
        count_dialog_versions: params.dlginfo_increase_version() != 0,
        count_reg_versions: params.reginfo_increase_version() != 0,
        check_remote_contact,
        fetch_rows: params.fetch_rows(),
    })
}
