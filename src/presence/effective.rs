//! The settings in force, by the names of their parameters: what operators are shown.
use super::config::{BelowMinimum, Config, NotifyFailures, PublicationMode, SubscriptionMode};
use crate::sip::setting::{Setting, Value};

impl SubscriptionMode {
    /// The value of `subs_db_mode`.
    pub fn number(self) -> i64 {
        match self {
            SubscriptionMode::Memory => 0,
            SubscriptionMode::WriteThrough => 1,
            SubscriptionMode::WriteBack => 2,
            SubscriptionMode::Database => 3,
        }
    }
}

impl PublicationMode {
    /// The value of `publ_cache`.
    pub fn number(self) -> i64 {
        match self {
            PublicationMode::Database => 0,
            PublicationMode::Cached => 1,
            PublicationMode::Memory => 2,
        }
    }
}

impl SubscriptionMode {
    /// What the mode is called in the documentation.
    fn word(self) -> &'static str {
        match self {
            SubscriptionMode::Memory => "memory",
            SubscriptionMode::WriteThrough => "write-through",
            SubscriptionMode::WriteBack => "write-back",
            SubscriptionMode::Database => "database",
        }
    }
}

impl PublicationMode {
    /// What the mode is called in the documentation.
    fn word(self) -> &'static str {
        match self {
            PublicationMode::Database => "database",
            PublicationMode::Cached => "cached",
            PublicationMode::Memory => "memory",
        }
    }
}

impl Config {
    /// Which module this is: what `presence.version` shows and the first line in the log says. The stock module has
    /// neither.
    pub fn identity(&self) -> Vec<Setting> {
        vec![
            (c"name", Value::Text(env!("CARGO_PKG_NAME").as_bytes())),
            (c"version", Value::Text(env!("CARGO_PKG_VERSION").as_bytes())),
            (c"commit", Value::Text(self.commit)),
            (c"kamailio", Value::Text(self.host_version)),
            (c"subscriptions", Value::Text(self.subscriptions.word().as_bytes())),
            (c"publications", Value::Text(self.publications.word().as_bytes())),
        ]
    }

    /// The same in one line.
    pub fn introduction(&self) -> String {
        format!(
            "{} {} (commit {}) for Kamailio {}: subscriptions {}, publications {}",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            String::from_utf8_lossy(self.commit),
            String::from_utf8_lossy(self.host_version),
            self.subscriptions.word(),
            self.publications.word()
        )
    }

    /// Every parameter that decides something, in the order of the documentation, with the value that is used: what was
    /// corrected or does not apply shows as what it became.
    pub fn effective(&self) -> Vec<Setting> {
        [self.storage(), self.timers(), self.behaviour(), self.nodes(), self.bounds()].concat()
    }

    fn storage(&self) -> Vec<Setting> {
        vec![
            (c"database", Value::Number(self.database.into())),
            (c"presentity_table", Value::Text(self.presentity_table)),
            (c"active_watchers_table", Value::Text(self.active_watchers_table)),
            (c"watchers_table", Value::Text(self.watchers_table)),
            (c"subs_db_mode", Value::Number(self.subscriptions.number())),
            (c"publ_cache", Value::Number(self.publications.number())),
            (c"fetch_rows", Value::Number(self.fetch_rows.into())),
            (c"retrieve_order", Value::Number(self.order_by_column.into())),
            (c"retrieve_order_by", Value::Text(self.order_by)),
            (c"watchers_cache", Value::Number(self.watchers_cache)),
        ]
    }

    fn timers(&self) -> Vec<Setting> {
        vec![
            (c"clean_period", Value::Number(self.clean_period.into())),
            (c"db_update_period", Value::Number(self.db_update_period.into())),
            (c"publ_update_period", Value::Number(self.publ_update_period.into())),
            (c"waitn_time", Value::Number(self.waitn_time.into())),
            (c"notifier_poll_rate", Value::Number(self.notifier_poll_rate.into())),
            (c"notifier_processes", Value::Number(self.notifier_processes.into())),
            (c"sender_processes", Value::Number(self.sender_processes.into())),
            (c"timer_mode", Value::Number(self.secondary_timer.into())),
            (c"expires_offset", Value::Number(self.expires_offset)),
            (c"max_expires", Value::Number(self.max_expires.into())),
            (c"min_expires", Value::Number(self.min_expires.into())),
            (
                c"min_expires_action",
                Value::Number(match self.below_minimum {
                    BelowMinimum::Reject => 1,
                    BelowMinimum::Raise => 2,
                }),
            ),
        ]
    }

    fn behaviour(&self) -> Vec<Setting> {
        let failures = match self.notify_failures {
            NotifyFailures::Stock => 0,
            NotifyFailures::Rfc6665 => 1,
        };
        vec![
            (c"server_address", Value::Text(self.server_address)),
            (c"cseq_offset", Value::Number(self.cseq_offset.into())),
            (c"force_delete", Value::Number(self.force_delete.into())),
            (c"send_fast_notify", Value::Number(self.send_fast_notify.into())),
            (c"enable_sphere_check", Value::Number(self.sphere_check.into())),
            (c"timeout_rm_subs", Value::Number(self.remove_on_timeout.into())),
            (c"notify_failures", Value::Number(failures)),
            (c"local_log_level", Value::Number(self.log_level.into())),
            (c"xavp_cfg", Value::Text(self.xavp)),
            (c"sip_uri_match", Value::Number(self.ignore_case.into())),
            (c"pres_subs_mode", Value::Number(self.subs_variable.into())),
            (c"delete_same_subs", Value::Number(self.delete_same_subs.into())),
            (c"subs_respond_200", Value::Number(self.respond_200.into())),
            (c"force_active", Value::Number(self.force_active.into())),
            (c"share_watcher_bodies", Value::Number(self.share_watcher_bodies.into())),
            (c"winfo_details", Value::Number(self.winfo_details.into())),
        ]
    }

    fn nodes(&self) -> Vec<Setting> {
        vec![
            (c"enable_pres_dmq", Value::Number(self.replicates.into())),
            (c"enable_pres_sync_dmq", Value::Number((self.replicates && self.asks_for_all).into())),
            (c"enable_subs_dmq", Value::Number(self.shares_subscriptions.into())),
            (c"enable_subs_sync_dmq", Value::Number((self.shares_subscriptions && self.asks_for_subscriptions).into())),
            (c"skip_notify_dmq", Value::Number(self.replicas_are_silent.into())),
            (c"default_socket", Value::Text(self.default_socket)),
            (c"dmq_peer_id", Value::Text(self.dmq_peer)),
        ]
    }

    fn bounds(&self) -> Vec<Setting> {
        let limits = &self.limits;
        vec![
            (c"max_body_size", Value::Number(limits.body_size as i64)),
            (c"max_publications", Value::Number(limits.publications as i64)),
            (c"max_watchers", Value::Number(limits.watchers as i64)),
            (c"max_subscriptions", Value::Number(limits.subscriptions as i64)),
            (c"min_refresh_interval", Value::Number(limits.refresh_interval)),
            (c"history_size", Value::Number(self.history_size as i64)),
            (c"overload_memory", Value::Number(limits.memory_percent as i64)),
        ]
    }
}
