//! The settings and event packages of the test server, and a subscription.
use crate::presence::config::{Config, PublicationMode, SubscriptionMode};
use crate::presence::event_package::{Package, PackageId, Packages, Trait, Traits};
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription, SubscriptionState};
use crate::time::{Moment, Seconds};

/// The packages of the test server, by their place in the registry.
pub const PRESENCE: PackageId = PackageId(0);
/// Watcher information of [`PRESENCE`].
pub const WINFO: PackageId = PackageId(1);
/// Dialog information (RFC 4235).
pub const DIALOG: PackageId = PackageId(2);
/// Message waiting (RFC 3842): it shows one document.
pub const VOICEMAIL: PackageId = PackageId(3);

fn package(name: &'static [u8], content_type: &'static [u8]) -> Package {
    Package { traits: Traits::of_list(&[Trait::Aggregates]), ..Package::plain(name, content_type) }
}

/// Presence with winfo, dialog, and message-summary.
pub fn packages() -> Packages {
    Packages(vec![
        Package {
            traits: Traits::of_list(&[Trait::Aggregates, Trait::NeedsAuthorization]),
            peer: Some(WINFO),
            ..package(b"presence", b"application/pidf+xml")
        },
        Package {
            traits: Traits::of_list(&[Trait::Aggregates, Trait::Winfo]),
            peer: Some(PRESENCE),
            ..package(b"presence.winfo", b"application/watcherinfo+xml")
        },
        package(b"dialog", b"application/dialog-info+xml"),
        Package { traits: Traits::NONE, ..package(b"message-summary", b"application/simple-message-summary") },
    ])
}

/// Memory only, everybody allowed, no limits.
pub fn config() -> Config {
    Config {
        subscriptions: SubscriptionMode::Memory,
        publications: PublicationMode::Memory,
        force_active: true,
        replicates: false,
        sync_on_join: false,
        asks_for_subscriptions: false,
        secondary_timer: false,
        watchers_cache: Some(Seconds(60)),
        history_size: 100,
        sender_processes: 0,
        notifier_processes: 0,
        ..Config::defaults(None, b"", b"", 7, Moment::at(0), false)
    }
}

/// The same with these numbers of `subs_db_mode` and `publ_cache`.
pub fn config_with_modes(subs_db_mode: u8, publ_cache: u8) -> Config {
    Config {
        subscriptions: match subs_db_mode {
            0 => SubscriptionMode::Memory,
            1 => SubscriptionMode::WriteThrough,
            2 => SubscriptionMode::WriteBack,
            _ => SubscriptionMode::Database,
        },
        publications: match publ_cache {
            0 => PublicationMode::Database,
            1 => PublicationMode::Cached,
            _ => PublicationMode::Memory,
        },
        ..config()
    }
}

/// An active subscription of bob to alice, which has had one SUBSCRIBE.
pub fn subscription(call_id: &str, expires_at: Moment) -> Subscription {
    let state = SubscriptionState { remote_cseq: 1, expires_at, ..SubscriptionState::new(PRESENCE, Status::Active) };
    let fields: [(Field, &[u8]); 7] = [
        (Field::PresUri, b"sip:alice@example.org"),
        (Field::WatcherUser, b"bob"),
        (Field::WatcherDomain, b"example.org"),
        (Field::CallId, call_id.as_bytes()),
        (Field::ToTag, b"to"),
        (Field::FromTag, b"from"),
        (Field::Contact, b"sip:bob@192.0.2.1"),
    ];
    Subscription::from_fields(state, &fields).expect("short strings")
}
