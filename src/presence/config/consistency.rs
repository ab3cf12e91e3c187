//! Rules for several parameters: what is refused, what counts as another value, and what deserves a warning.
use super::cluster::ReplicaCount;
use super::modes::DocumentOrder;
use super::{Config, PublicationMode, SubscriptionMode};
use crate::presence::composition::order;
use crate::reference::reading::BadParameter;
use crate::reference::setting::SettingField;
use crate::sip::uri::is_sip_uri;

/// Notifier processes when the parameter is not set.
const DEFAULT_NOTIFIERS: i32 = 1;

impl Config {
    /// Makes the settings those that apply; answers with warnings: one sentence each, with what to do.
    ///
    /// # Errors
    ///
    /// Fails when two parameters contradict each other.
    pub fn settle(&mut self) -> Result<Vec<String>, BadParameter> {
        let asked_notifiers = self.notifier_processes;
        self.looks_names_up = self.sender_processes > 0;
        self.settle_modes();
        self.check_write_back()?;
        self.check_replicas()?;
        let mut warnings = self.settle_numbers();
        warnings.extend(self.settle_turns());
        warnings.extend(self.settle_nodes());
        warnings.extend(self.doubts(asked_notifiers));
        Ok(warnings)
    }

    fn shared_table(&self) -> bool {
        self.subscriptions == SubscriptionMode::Database
    }

    fn settle_modes(&mut self) {
        // The order of a column is the database's to know.
        if self.publications == PublicationMode::Cached && self.order_by_column {
            self.publications = PublicationMode::Database;
        }
        if self.shared_table() {
            self.sender_processes = 0;
        } else {
            self.notifier_processes = 0;
        }
    }

    /// Each turn of each notifier process has a number, which the column `updated` holds.
    fn settle_turns(&mut self) -> Option<String> {
        let turns_per_second = self.notifier_poll_rate.saturating_mul(self.notifier_processes).max(1);
        let longest = i32::MAX / turns_per_second;
        let given = self.waitn_time;
        self.waitn_time = given.min(longest);
        (given > longest).then(|| {
            format!(
                "parameter waitn_time is {given}, which is not 1 to {longest} seconds with notifier_poll_rate {} and \
                 notifier_processes {}: {longest} is used",
                self.notifier_poll_rate, self.notifier_processes
            )
        })
    }

    /// Writing later needs a memory that is the truth meanwhile, which `publ_cache` 1 alone has beside the table.
    fn check_write_back(&self) -> Result<(), BadParameter> {
        if self.publ_update_period.is_some() && self.publications != PublicationMode::Cached {
            let allowed = "0 unless publ_cache is 1 and retrieve_order is 0";
            return Err(BadParameter::new("publ_update_period", self.publ_update_period.value(), allowed));
        }
        if let Some(interval) = self.min_refresh_interval.filter(|_| self.shared_table()) {
            let allowed = "0 with subs_db_mode 3: the table does not say when a subscription was refreshed";
            return Err(BadParameter::new("min_refresh_interval", interval.0, allowed));
        }
        Ok(())
    }

    /// Where nodes hold part of everything, requests, ownership and documents go by the same rule.
    fn check_replicas(&self) -> Result<(), BadParameter> {
        let ReplicaCount::Some(number) = self.cluster_replicas else { return Ok(()) };
        let refuse = |allowed| Err(BadParameter::new("cluster_replicas", number, allowed));
        if !self.dmq || !self.shares_subscriptions {
            return refuse("all unless enable_dmq and enable_subs_dmq are 1: nodes have to exchange what they hold");
        }
        if !self.replicates || !self.sync_on_join || !self.asks_for_subscriptions {
            return refuse("all unless enable_pres_dmq, enable_pres_sync_dmq and enable_subs_sync_dmq are 1");
        }
        if self.shared_table() {
            return refuse("all with subs_db_mode 3: every node reads the same table");
        }
        if self.publications == PublicationMode::Database {
            return refuse("all with publ_cache 0: publications are not held in memory");
        }
        if self.has_arbiter() {
            return refuse("all with cluster_arbiter database: a lease is owned by one node as a whole");
        }
        Ok(())
    }

    fn settle_numbers(&mut self) -> Vec<String> {
        if self.min_expires <= self.max_expires {
            return Vec::new();
        }
        let given = std::mem::replace(&mut self.min_expires, self.max_expires);
        vec![format!(
            "parameter min_expires is {}, which is above max_expires: {} is used",
            given.0, self.max_expires.0
        )]
    }

    fn settle_nodes(&mut self) -> Vec<String> {
        let unused = self.dmq && self.shares_subscriptions && self.shared_table();
        let alone = !self.dmq && self.shares_subscriptions;
        self.replicates &= self.dmq;
        self.shares_subscriptions &= self.dmq && !unused;
        self.sync_on_join &= self.replicates;
        self.asks_for_subscriptions &= self.shares_subscriptions;
        if alone {
            return vec!["enable_subs_dmq 1 has no effect without enable_dmq: set enable_dmq 1".into()];
        }
        if !unused {
            return Vec::new();
        }
        vec!["parameter enable_subs_dmq is not used: with subs_db_mode 3 the nodes share the table".into()]
    }

    /// Settings that stock accepts without a word although they do not do what they say.
    fn doubts(&self, asked_notifiers: i32) -> Vec<String> {
        let mut found = self.storage_doubts(asked_notifiers);
        if self.document_order() == DocumentOrder::Columns {
            found.extend(order::doubt(self.order_by, self.presentity_table));
        }
        if self.expires_offset >= self.max_expires {
            found.push(format!(
                "expires_offset {} is not below max_expires {}: publishers are answered with Expires 0; lower \
                 expires_offset",
                self.expires_offset.0, self.max_expires.0
            ));
        }
        if !self.send_fast_notify {
            found.push(
                "send_fast_notify 0: a watcher of a presentity without documents is not notified at first, and phones \
                 give up after 32 s (RFC 6665 4.1.2.4); set send_fast_notify 1"
                    .into(),
            );
        }
        if self.clean_period.is_none() && self.database {
            found.push(
                "clean_period 0: publications that ran out are never removed, and their watchers never notified; set \
                 clean_period"
                    .into(),
            );
        }
        if !self.server_address.is_empty() && !is_sip_uri(self.server_address) {
            found.push(format!(
                "server_address {} is no SIP URI, and phones cannot use it as a Contact; write sip:HOST:PORT",
                String::from_utf8_lossy(self.server_address)
            ));
        }
        found
    }

    fn storage_doubts(&self, asked_notifiers: i32) -> Vec<String> {
        let mut found = Vec::new();
        if !self.shared_table() && asked_notifiers > DEFAULT_NOTIFIERS {
            found.push(format!(
                "notifier_processes {asked_notifiers} has no effect with subs_db_mode {}: remove it, or set \
                    subs_db_mode 3",
                self.subscriptions.value()
            ));
        }
        if self.shared_table() && self.publications == PublicationMode::Cached {
            found.push(
                "subs_db_mode 3 with publ_cache 1: what another server on this database publishes may be missed; \
                 set publ_cache 0"
                    .into(),
            );
        }
        if self.shared_table() && self.publications == PublicationMode::Memory {
            found.push(
                "subs_db_mode 3 with publ_cache 2: publications are not in the database; set publ_cache 0".into(),
            );
        }
        if self.subscriptions == SubscriptionMode::WriteBack && self.db_update_period.is_none() {
            found.push(
                "db_update_period 0 with subs_db_mode 2: subscriptions are written at shutdown only and a crash loses \
                 all; set db_update_period, or subs_db_mode 1 or 0"
                    .into(),
            );
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::config::cluster::ClusterArbiter;
    use crate::time::Moment;
    use std::num::NonZeroU8;

    #[test]
    fn every_turn_has_a_number_that_the_column_holds() {
        for (wait, rate, processes) in [(86_400, 10_000, 256), (86_400, 10_000, 3), (86_400, 24_855, 1), (5, 10, 1)] {
            let mut config = Config {
                subscriptions: SubscriptionMode::Database,
                waitn_time: wait,
                notifier_poll_rate: rate,
                notifier_processes: processes,
                ..Config::defaults(None, b"", b"", 0, Moment::at(0), false)
            };
            let warnings = config.settle().unwrap();
            let all = i64::from(config.waitn_time) * i64::from(rate) * i64::from(processes);
            assert!(config.waitn_time >= 1 && all <= i64::from(i32::MAX), "{all}");
            let is_corrected = config.waitn_time < wait;
            assert_eq!(warnings.iter().any(|line| line.starts_with("parameter waitn_time")), is_corrected);
            assert_eq!(i64::from(config.turns()), all);
        }
    }

    /// What keeps nodes from holding part of everything each is named; the parameter is otherwise what it was.
    #[test]
    fn where_nodes_cannot_hold_part_of_everything_the_start_says_why() {
        let defaults = || Config::defaults(None, b"", b"", 0, Moment::at(0), false);
        let shared = || Config {
            dmq: true,
            shares_subscriptions: true,
            replicates: true,
            sync_on_join: true,
            asks_for_subscriptions: true,
            cluster_replicas: ReplicaCount::Some(NonZeroU8::MIN),
            ..defaults()
        };
        assert_eq!(shared().check_replicas(), Ok(()));
        assert_eq!(Config { cluster_replicas: ReplicaCount::All, ..defaults() }.check_replicas(), Ok(()));
        for (config, why) in [
            (Config { dmq: false, ..shared() }, "enable_dmq"),
            (Config { shares_subscriptions: false, ..shared() }, "enable_subs_dmq"),
            (Config { replicates: false, ..shared() }, "enable_pres_dmq"),
            (Config { sync_on_join: false, ..shared() }, "enable_pres_sync_dmq"),
            (Config { asks_for_subscriptions: false, ..shared() }, "enable_subs_sync_dmq"),
            (Config { subscriptions: SubscriptionMode::Database, ..shared() }, "subs_db_mode 3"),
            (Config { publications: PublicationMode::Database, ..shared() }, "publ_cache 0"),
            (Config { cluster_arbiter: ClusterArbiter::Database, ..shared() }, "cluster_arbiter"),
        ] {
            let bad = config.check_replicas().expect_err(why);
            assert!(bad.name == "cluster_replicas" && bad.allowed.contains(why), "{}: {why}", bad.allowed);
        }
    }
}
