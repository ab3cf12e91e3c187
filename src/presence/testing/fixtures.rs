//! The settings and event packages of the test server.
use super::{PRESENCE, WINFO};
use crate::presence::config::{BelowMinimum, Config, Limits, NotifyFailures, PublicationMode, SubscriptionMode};
use crate::presence::event_package::{Package, Packages};

fn package(name: &'static [u8], content_type: &'static [u8]) -> Package {
    Package {
        name,
        content_type,
        default_expires: 3600,
        is_winfo: false,
        keep_entity_tag: false,
        needs_authorization: false,
        aggregates: true,
        filters_body: false,
        per_watcher_body: false,
        differs_by_version_only: false,
        checks_publish: false,
        checks_form_only: false,
        peer: None,
    }
}

/// Presence with winfo, dialog, and message-summary.
pub fn packages() -> Packages {
    Packages(vec![
        Package { needs_authorization: true, peer: Some(WINFO), ..package(b"presence", b"application/pidf+xml") },
        Package { is_winfo: true, peer: Some(PRESENCE), ..package(b"presence.winfo", b"application/watcherinfo+xml") },
        package(b"dialog", b"application/dialog-info+xml"),
        Package { aggregates: false, ..package(b"message-summary", b"application/simple-message-summary") },
    ])
}

/// Memory only, everybody allowed, no limits.
pub fn config() -> Config {
    Config {
        subscriptions: SubscriptionMode::Memory,
        publications: PublicationMode::Memory,
        presentity_table: b"presentity",
        active_watchers_table: b"active_watchers",
        watchers_table: b"watchers",
        server_address: b"",
        max_expires: 3600,
        min_expires: 0,
        below_minimum: BelowMinimum::Reject,
        expires_offset: 0,
        cseq_offset: 0,
        clean_period: 100,
        db_update_period: 100,
        publ_update_period: 0,
        waitn_time: 5,
        notifier_poll_rate: 10,
        notifier_processes: 0,
        force_delete: false,
        replicates: false,
        asks_for_all: false,
        replicas_are_silent: false,
        shares_subscriptions: false,
        asks_for_subscriptions: false,
        default_socket: b"",
        dmq_peer: b"presence",
        winfo_details: false,
        send_fast_notify: true,
        sphere_check: false,
        remove_on_timeout: true,
        notify_failures: NotifyFailures::Stock,
        fetch_rows: 500,
        log_level: 2,
        log_facility: None,
        xavp: b"",
        order_by_column: false,
        order_by: b"priority",
        ignore_case: false,
        subs_variable: true,
        delete_same_subs: false,
        secondary_timer: false,
        respond_200: true,
        force_active: true,
        share_watcher_bodies: true,
        watchers_cache: 60,
        history_size: 100,
        commit: b"",
        host_version: b"",
        limits: Limits::default(),
        sender_processes: 0,
        database: false,
        hash_seed: 7,
        started: 0,
    }
}
