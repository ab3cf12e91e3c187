//! The databases that the parameters name are opened at start: that of the tables, and that of the leases.
use crate::cluster::arbiter::LeaseTable;
use crate::common::database::Database;
use crate::common::metrics::Owner;
use crate::common::opening::open_tables;
use crate::host::db::Ways;
use crate::host::db_url::DbUrl;
use crate::host::log;
use crate::log;
use crate::presence::config::Config;
use crate::server::announcing::leases_table::LeasesTable;
use crate::server::authorizations::watchers_table;
use crate::server::publications::presentity_table;
use crate::server::subscriptions::active_watchers_table;

fn ways(config: &Config) -> Ways {
    Ways {
        sqlite: config.sqlite_direct.into(),
        printing: config.print_statements.into(),
        commits: config.share_commits.into(),
    }
}

/// The database of the tables, or none.
///
/// # Errors
///
/// Fails with a sentence when the database cannot be opened, or a table has another version.
pub fn tables(config: &Config, url: DbUrl) -> Result<Database, String> {
    if url.is_empty() {
        return Ok(Database::new(None, None, Owner::Presence));
    }
    let versions = [
        (config.presentity_table, presentity_table::VERSION),
        (config.active_watchers_table, active_watchers_table::VERSION),
        (config.watchers_table, watchers_table::VERSION),
    ];
    let database = open_tables(url, ways(config), &versions, Owner::Presence)?;
    if config.has_subscription_rows_only() && !database.compares_and_writes() {
        log!(
            Warn,
            "subs_db_mode 3: the database driver does not say how many rows it has changed. The processes of this \
            server wait for each other; further servers on the same tables can undo what one of them writes"
        );
    }
    Ok(database)
}

/// The database with the leases of the nodes, where there is an arbiter.
///
/// # Errors
///
/// Fails with a sentence when parameters are missing, the database cannot be opened, or its table cannot be read.
pub fn leases(config: &Config, db_url: DbUrl) -> Result<Option<&'static Database>, String> {
    if !config.has_arbiter() {
        return Ok(None);
    }
    if !config.shares_subscriptions {
        return Err("cluster_arbiter decides between nodes that share subscriptions: set enable_subs_dmq, too".into());
    }
    let own = DbUrl::new(config.cluster_arbiter_url);
    let url = if own.is_empty() { db_url } else { own };
    if url.is_empty() {
        return Err("cluster_arbiter is database: set db_url or cluster_arbiter_url".into());
    }
    let opened = open_tables(url, ways(config), &[], Owner::Presence)?;
    let database: &'static Database = Box::leak(Box::new(opened));
    let table = config.cluster_leases_table;
    let found = LeasesTable { database, table }.rows();
    database.disconnect();
    match found {
        Ok(_) => Ok(Some(database)),
        Err(error) => Err(format!(
            "the table {} of the leases cannot be read: {error}. Is it there? docs/clustering.md has the statement \
             that creates it",
            log::show(table)
        )),
    }
}
