//! The settings of the presence server, checked once at start-up.

/// Where subscriptions live (`subs_db_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionMode {
    /// 0: memory only.
    Memory,
    /// 1: memory, and each change is written to the database before it is answered.
    WriteThrough,
    /// 2: memory, and changes are written to the database by a timer.
    WriteBack,
    /// 3: the database only.
    Database,
}

/// Where publications live (`publ_cache`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicationMode {
    /// 0: the table is the truth; others may write it.
    Database,
    /// 1: the table, with a cache in memory.
    Cached,
    /// 2: memory only.
    Memory,
}

/// What happens to an interval below `min_expires` (`min_expires_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BelowMinimum {
    /// 1: 423 with Min-Expires.
    Reject,
    /// 2: the minimum is used.
    Raise,
}

/// Which answers to a NOTIFY end the subscription (`notify_failures`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyFailures {
    /// 0: 404 and 481, as stock.
    Stock,
    /// 1: all that RFC 6665 4.2.2 names.
    Rfc6665,
}

impl NotifyFailures {
    /// Whether an answer says that the subscription is gone.
    pub fn end(self, code: i32) -> bool {
        match self {
            NotifyFailures::Stock => matches!(code, 404 | 481),
            NotifyFailures::Rfc6665 => matches!(code, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604),
        }
    }
}

/// What one user may ask of the server; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `max_body_size`: bytes of one document.
    pub body_size: usize,
    /// `max_publications`: documents of one presentity and event package.
    pub publications: usize,
    /// `max_watchers`: subscriptions to one presentity and event package.
    pub watchers: usize,
    /// `max_subscriptions`: subscriptions of one watcher.
    pub subscriptions: usize,
    /// `min_refresh_interval`: seconds between two SUBSCRIBEs that refresh the same subscription.
    pub refresh_interval: i64,
    /// `overload_memory`: percent of shared memory in use above which new subscriptions are refused.
    pub memory_percent: usize,
}

/// Everything the server decides by.
#[derive(Debug, Clone)]
pub struct Config {
    /// `subs_db_mode`.
    pub subscriptions: SubscriptionMode,
    /// `publ_cache`.
    pub publications: PublicationMode,
    /// `presentity_table`.
    pub presentity_table: &'static [u8],
    /// `active_watchers_table`.
    pub active_watchers_table: &'static [u8],
    /// `watchers_table`.
    pub watchers_table: &'static [u8],
    /// `server_address`; empty: the receiving socket.
    pub server_address: &'static [u8],
    /// `max_expires`, seconds.
    pub max_expires: u32,
    /// `min_expires`, seconds.
    pub min_expires: u32,
    /// `min_expires_action`.
    pub below_minimum: BelowMinimum,
    /// `expires_offset`, seconds.
    pub expires_offset: i64,
    /// `cseq_offset`.
    pub cseq_offset: u32,
    /// `clean_period`, seconds; 0 switches it off.
    pub clean_period: i32,
    /// `db_update_period`, seconds; 0 switches it off.
    pub db_update_period: i32,
    /// `publ_update_period`: seconds between two writings of what PUBLISHes have changed; 0 writes each before its
    /// answer.
    pub publ_update_period: i32,
    /// `waitn_time`, seconds.
    pub waitn_time: i32,
    /// `notifier_poll_rate`, per second.
    pub notifier_poll_rate: i32,
    /// `notifier_processes`; 0 outside of database-only mode.
    pub notifier_processes: i32,
    /// `force_delete`.
    pub force_delete: bool,
    /// `enable_dmq` and `enable_pres_dmq`: publications are exchanged with other nodes.
    pub replicates: bool,
    /// `enable_pres_sync_dmq`: a node that joins asks for what there is.
    pub asks_for_all: bool,
    /// `skip_notify_dmq`: what other nodes announce is stored, and our watchers are not told.
    pub replicas_are_silent: bool,
    /// `enable_dmq` and `enable_subs_dmq`: subscriptions are exchanged with other nodes.
    pub shares_subscriptions: bool,
    /// `enable_subs_sync_dmq`: a node that joins asks for the subscriptions there are.
    pub asks_for_subscriptions: bool,
    /// `default_socket`: the socket for NOTIFYs of subscriptions that another node took in; empty: the host chooses.
    pub default_socket: &'static [u8],
    /// `dmq_peer_id`.
    pub dmq_peer: &'static [u8],
    /// `winfo_details`: documents say of each watcher all that RFC 3858 knows.
    pub winfo_details: bool,
    /// `send_fast_notify`.
    pub send_fast_notify: bool,
    /// `enable_sphere_check`.
    pub sphere_check: bool,
    /// `timeout_rm_subs`.
    pub remove_on_timeout: bool,
    /// `notify_failures`: which answers to a NOTIFY end the subscription.
    pub notify_failures: NotifyFailures,
    /// `fetch_rows`.
    pub fetch_rows: i32,
    /// `local_log_level`.
    pub log_level: i32,
    /// `local_log_facility`.
    pub log_facility: Option<i32>,
    /// `xavp_cfg`; empty: not set.
    pub xavp: &'static [u8],
    /// `retrieve_order`.
    pub order_by_column: bool,
    /// `retrieve_order_by`.
    pub order_by: &'static [u8],
    /// `sip_uri_match` 1.
    pub ignore_case: bool,
    /// `pres_subs_mode`.
    pub subs_variable: bool,
    /// `delete_same_subs`.
    pub delete_same_subs: bool,
    /// `timer_mode`.
    pub secondary_timer: bool,
    /// `subs_respond_200`.
    pub respond_200: bool,
    /// `force_active` of OpenSER: no authorization.
    pub force_active: bool,
    /// `share_watcher_bodies`: bodies that differ in the version alone are not made one by one.
    pub share_watcher_bodies: bool,
    /// `watchers_cache`: how long the authorization of a watcher is known without asking the table, seconds.
    pub watchers_cache: i64,
    /// What one user may ask of the server.
    pub limits: Limits,
    /// `sender_processes`: who tells large numbers of watchers.
    pub sender_processes: i32,
    /// `history_size`: how many ended subscriptions are remembered.
    pub history_size: usize,
    /// Which sources the module was built from.
    pub commit: &'static [u8],
    /// The version of the host it was built for.
    pub host_version: &'static [u8],
    /// Whether there is a database.
    pub database: bool,
    /// Seeds the hash of resources and dialogs; random at each start.
    pub hash_seed: u64,
    /// When the server started.
    pub started: i64,
}

impl Config {
    /// The interval granted for a request: its Expires or the package's default, within the limits.
    /// `None` asks for 423.
    pub fn grant(&self, asked: Option<u32>, default: u32) -> Option<u32> {
        let wanted = asked.unwrap_or(default).min(self.max_expires);
        if wanted == 0 || wanted >= self.min_expires {
            return Some(wanted);
        }
        match self.below_minimum {
            BelowMinimum::Reject => None,
            BelowMinimum::Raise => Some(self.min_expires),
        }
    }
}
