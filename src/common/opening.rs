//! A database is opened at start: its driver is bound, and its tables are looked at.
use crate::common::database::Database;
use crate::common::metrics::Owner;
use crate::common::shared_commits::WriteQueue;
use crate::host::db::{Driver, Ways};
use crate::host::db_url::DbUrl;
use crate::host::log;
use crate::host::process_mutex::ProcessMutex;
use crate::log;

/// Binds the driver, and looks whether the tables have the versions that are wanted.
///
/// # Errors
///
/// Fails with a sentence when the driver is not loaded, the database cannot be reached, or a table has another version.
pub fn open_tables(url: DbUrl, ways: Ways, tables: &[(&'static [u8], u32)], owner: Owner) -> Result<Database, String> {
    if !url.is_readable() {
        return Err(format!("db_url {url} is not of the form scheme://user:password@host:port/database"));
    }
    let driver = Driver::bind(url, ways).ok_or_else(|| {
        format!(
            "no database driver for db_url {url}: load db_sqlite, db_postgres, db_mysql or another before this module"
        )
    })?;
    if let Some(why) = driver.lacks().filter(|_| owner == Owner::Presence) {
        return Err(format!("db_{} cannot be used for {url}: {why}", log::show(driver.scheme())));
    }
    let writer = match driver.writers_take_turns() {
        true => Some(ProcessMutex::leak().map_err(|error| error.to_string())? as &'static ProcessMutex),
        false => None,
    };
    let shares_commits = driver.shares_commits();
    let mut database = Database::new(Some(driver), writer, owner);
    if shares_commits {
        log!(Info, "processes that write to SQLite at the same time share a transaction");
        database = database.sharing_commits(WriteQueue::leak().map_err(|error| error.to_string())?);
    }
    for (table, version) in tables {
        let right = database
            .with(|connection| Ok(connection.check_version(table, *version)))
            .map_err(|_| format!("cannot connect to {url}"))?;
        if !right {
            return Err(format!(
                "table {table} is missing or does not have version {version}: create it with kamdbctl create; for \
                 SQLite with scripts/database.sh create FILE (in the package: kamailio-presence-database)",
                table = log::show(table)
            ));
        }
    }
    database.disconnect();
    Ok(database)
}
