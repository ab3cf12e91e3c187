//! From module parameters to the settings of the presence server; what makes no sense stops start-up with one clear
//! line.
use crate::common::parameters::{BadParameter, at_least_zero, bad, corrected, table};
use crate::host::params::PresenceParams;
use crate::host::{clock, log};
use crate::log;
use crate::presence::config::{BelowMinimum, Config, Limits, NotifyFailures, PublicationMode, SubscriptionMode};

/// `retrieve_order_by` goes into SQL text: column names, `asc`, `desc`, separated by commas.
fn order(value: &'static [u8]) -> Result<&'static [u8], BadParameter> {
    let fits = |c: &u8| c.is_ascii_alphanumeric() || b"_, .".contains(c);
    if value.is_empty() || !value.iter().all(fits) {
        return Err(bad("retrieve_order_by", log::show(value), "column names separated by commas"));
    }
    Ok(value)
}

fn limits(params: &PresenceParams<'_>, subscriptions: SubscriptionMode) -> Result<Limits, BadParameter> {
    let limit = |name: &'static str, value: i32| {
        usize::try_from(value).map_err(|_| bad(name, value, "0 (no limit) or a positive number"))
    };
    let refresh_interval = at_least_zero("min_refresh_interval", params.min_refresh_interval())?;
    if refresh_interval > 0 && subscriptions == SubscriptionMode::Database {
        let allowed = "0 with subs_db_mode 3: the table does not say when a subscription was refreshed";
        return Err(bad("min_refresh_interval", refresh_interval, allowed));
    }
    Ok(Limits {
        body_size: limit("max_body_size", params.max_body_size())?,
        publications: limit("max_publications", params.max_publications())?,
        watchers: limit("max_watchers", params.max_watchers())?,
        subscriptions: limit("max_subscriptions", params.max_subscriptions())?,
        refresh_interval: refresh_interval.into(),
        memory_percent: match params.overload_memory() {
            percent @ 0..=99 => percent as usize,
            other => return Err(bad("overload_memory", other, "0 (off) or 1 to 99 percent")),
        },
    })
}

/// Writing later needs a memory that is the truth meanwhile, which `publ_cache` 1 alone has beside the table.
fn publication_period(params: &PresenceParams<'_>, mode: PublicationMode) -> Result<i32, BadParameter> {
    match params.publ_update_period() {
        0 => Ok(0),
        seconds if seconds < 0 => Err(bad("publ_update_period", seconds, "0 (write at once) or a number of seconds")),
        seconds if mode == PublicationMode::Cached => Ok(seconds),
        seconds => Err(bad("publ_update_period", seconds, "0 unless publ_cache is 1 and retrieve_order is 0")),
    }
}

/// Whether nodes tell each other their subscriptions; where they share a table of them there is nothing to tell.
fn shares_subscriptions(params: &PresenceParams<'_>, mode: SubscriptionMode) -> bool {
    let wanted = params.enable_subs_dmq() > 0;
    if wanted && mode == SubscriptionMode::Database {
        log!(Warn, "parameter enable_subs_dmq is not used: with subs_db_mode 3 the nodes share the table");
    }
    wanted && mode != SubscriptionMode::Database
}

/// Settings that stock takes without a word although they do not do what they say: one line each, with what to do.
fn doubts(params: &PresenceParams<'_>, config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let shared = config.subscriptions == SubscriptionMode::Database;
    let asked = params.notifier_processes();
    if !shared && asked > DEFAULT_NOTIFIERS {
        found.push(format!(
            "notifier_processes {asked} has no effect with subs_db_mode {}: remove it, or set subs_db_mode 3",
            config.subscriptions.number()
        ));
    }
    if shared && config.publications == PublicationMode::Cached {
        found.push(
            "subs_db_mode 3 with publ_cache 1: what another server on this database publishes may be missed; \
             set publ_cache 0"
                .into(),
        );
    }
    if shared && config.publications == PublicationMode::Memory {
        found.push("subs_db_mode 3 with publ_cache 2: publications are not in the database; set publ_cache 0".into());
    }
    if config.subscriptions == SubscriptionMode::WriteBack && config.db_update_period == 0 {
        found.push(
            "db_update_period 0 with subs_db_mode 2: subscriptions are written at shutdown only and a crash loses all; \
             set db_update_period, or subs_db_mode 1 or 0"
                .into(),
        );
    }
    if config.expires_offset >= i64::from(config.max_expires) {
        found.push(format!(
            "expires_offset {} is not below max_expires {}: publishers are answered with Expires 0; lower expires_offset",
            config.expires_offset, config.max_expires
        ));
    }
    if !config.server_address.is_empty() && !is_sip_uri(config.server_address) {
        found.push(format!(
            "server_address {} is no SIP URI, and phones cannot use it as a Contact; write sip:HOST:PORT",
            log::show(config.server_address)
        ));
    }
    found
}

/// The largest `history_size`: the ring is copied under its lock when somebody reads it.
const LARGEST_HISTORY: i32 = 10_000;

/// Notifier processes when the parameter is not set.
const DEFAULT_NOTIFIERS: i32 = 1;

fn is_sip_uri(text: &[u8]) -> bool {
    let scheme = text.iter().position(|c| *c == b':').map(|at| (text[..at].to_ascii_lowercase(), &text[at + 1..]));
    scheme.is_some_and(|(scheme, rest)| matches!(&*scheme, b"sip" | b"sips") && !rest.is_empty())
}

/// Checks the parameters.
pub fn read(params: &PresenceParams<'_>) -> Result<Config, BadParameter> {
    let config = checked(params)?;
    for doubt in doubts(params, &config) {
        log!(Warn, "{doubt}");
    }
    Ok(config)
}

fn checked(params: &PresenceParams<'_>) -> Result<Config, BadParameter> {
    let database = !params.db_url().is_empty();
    let subscriptions = match params.subs_db_mode() {
        0 => SubscriptionMode::Memory,
        1 => SubscriptionMode::WriteThrough,
        2 => SubscriptionMode::WriteBack,
        3 => SubscriptionMode::Database,
        other => {
            return Err(bad("subs_db_mode", other, "0 (memory), 1 (write-through), 2 (write-back) or 3 (database)"));
        }
    };
    let publications = match params.publ_cache() {
        0 => PublicationMode::Database,
        // The order of a column is the database's to know.
        1 if params.retrieve_order() == 1 => PublicationMode::Database,
        1 => PublicationMode::Cached,
        2 => PublicationMode::Memory,
        other => return Err(bad("publ_cache", other, "0 (database), 1 (database and cache) or 2 (memory)")),
    };
    let below_minimum = match params.min_expires_action() {
        1 => BelowMinimum::Reject,
        2 => BelowMinimum::Raise,
        other => return Err(bad("min_expires_action", other, "1 (423 Interval Too Brief) or 2 (use min_expires)")),
    };
    let max_expires = match params.max_expires() {
        seconds if seconds > 0 => seconds as u32,
        other => corrected("max_expires", other, 3600) as u32,
    };
    let min_expires = at_least_zero("min_expires", params.min_expires())?;
    let min_expires = if min_expires > max_expires {
        corrected("min_expires", min_expires as i32, max_expires as i32) as u32
    } else {
        min_expires
    };
    let expires_offset = match params.expires_offset() {
        seconds if seconds >= 0 => seconds,
        other => corrected("expires_offset", other, 0),
    };
    let log_facility = match params.local_log_facility() {
        None => None,
        Some(name) => Some(log::facility(&name).ok_or_else(|| {
            bad("local_log_facility", name.to_string_lossy(), "a syslog facility such as LOG_LOCAL3")
        })?),
    };
    let notifiers = if subscriptions == SubscriptionMode::Database { params.notifier_processes().max(0) } else { 0 };
    if notifiers > 0 && (params.waitn_time() <= 0 || params.notifier_poll_rate() <= 0) {
        let (name, value) = if params.waitn_time() <= 0 {
            ("waitn_time", params.waitn_time())
        } else {
            ("notifier_poll_rate", params.notifier_poll_rate())
        };
        return Err(bad(name, value, "a positive number when notifier_processes is above 0"));
    }
    let mut seed = [0; 8];
    clock::random(&mut seed);
    Ok(Config {
        subscriptions,
        publications,
        presentity_table: table("presentity_table", params.presentity_table())?,
        active_watchers_table: table("active_watchers_table", params.active_watchers_table())?,
        watchers_table: table("watchers_table", params.watchers_table())?,
        server_address: params.server_address(),
        max_expires,
        min_expires,
        below_minimum,
        expires_offset: i64::from(expires_offset),
        cseq_offset: params.cseq_offset().max(0) as u32,
        clean_period: params.clean_period().max(0),
        db_update_period: params.db_update_period().max(0),
        publ_update_period: publication_period(params, publications)?,
        waitn_time: params.waitn_time(),
        notifier_poll_rate: params.notifier_poll_rate(),
        notifier_processes: notifiers,
        force_delete: params.force_delete() > 0,
        winfo_details: params.winfo_details() != 0,
        replicates: params.enable_dmq() > 0 && params.enable_pres_dmq() != 0,
        asks_for_all: params.enable_pres_sync_dmq() != 0,
        replicas_are_silent: params.skip_notify_dmq() != 0,
        shares_subscriptions: params.enable_dmq() > 0 && shares_subscriptions(params, subscriptions),
        asks_for_subscriptions: params.enable_subs_sync_dmq() != 0,
        default_socket: params.default_socket(),
        dmq_peer: params.dmq_peer_id(),
        send_fast_notify: params.send_fast_notify() != 0,
        sphere_check: params.enable_sphere_check() != 0,
        remove_on_timeout: params.timeout_rm_subs() != 0,
        notify_failures: match params.notify_failures() {
            0 => NotifyFailures::Stock,
            1 => NotifyFailures::Rfc6665,
            other => return Err(bad("notify_failures", other, "0 (404 and 481, as stock) or 1 (as RFC 6665 4.2.2)")),
        },
        fetch_rows: if params.fetch_rows() > 0 {
            params.fetch_rows()
        } else {
            corrected("fetch_rows", params.fetch_rows(), 500)
        },
        log_level: params.local_log_level(),
        log_facility,
        xavp: params.xavp_cfg(),
        order_by_column: params.retrieve_order() == 1,
        order_by: order(params.retrieve_order_by())?,
        ignore_case: params.sip_uri_match() == 1,
        subs_variable: params.pres_subs_mode() != 0,
        delete_same_subs: params.delete_same_subs() != 0,
        secondary_timer: params.timer_mode() != 0,
        respond_200: params.subs_respond_200() != 0,
        force_active: params.force_active() != 0,
        share_watcher_bodies: params.share_watcher_bodies() != 0,
        watchers_cache: at_least_zero("watchers_cache", params.watchers_cache())?.into(),
        limits: limits(params, subscriptions)?,
        sender_processes: match (subscriptions, params.sender_processes()) {
            (SubscriptionMode::Database, _) => 0,
            (_, count @ 0..=64) => count,
            (_, other) => return Err(bad("sender_processes", other, "0 to 64 processes")),
        },
        history_size: match params.history_size() {
            size @ 0..=LARGEST_HISTORY => size as usize,
            other => return Err(bad("history_size", other, "0 (nothing is remembered) to 10000 ended subscriptions")),
        },
        commit: params.commit(),
        host_version: params.host_version(),
        database,
        hash_seed: u64::from_ne_bytes(seed),
        started: clock::now(),
    })
}
