//! The parameters of the presence server and the settings read by them, checked once at start-up.
pub mod cluster;
pub mod consistency;
pub mod effective;
pub mod modes;

use super::expires::{Expires, TooBrief};
use crate::reference::parameter::{
    Allowed, ConfigDisplay, LONGEST_LIST, LONGEST_URL, On, Origin, Parameter, Switch, integer, switch, text,
};
use crate::shm_safe::shm_safe;
use crate::time::{Moment, Seconds};
use cluster::{ClusterArbiter, MOST_REPLICAS, ReplicaCount};
use std::num::NonZeroUsize;

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
    pub fn end(self, code: u16) -> bool {
        match self {
            NotifyFailures::Stock => matches!(code, 404 | 481),
            NotifyFailures::Rfc6665 => matches!(code, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604),
        }
    }
}

/// The part that looks after NOTIFYs under way (`notify_engine`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyEngine {
    /// `auto`: transactions of our own, unless something of the configuration would miss tm's.
    Auto,
    /// `tm`: tm alone.
    Tm,
    /// `direct`: transactions of our own, whatever would miss tm's.
    Direct,
}

shm_safe!(
    enum NotifyEngine {
        Auto,
        Tm,
        Direct,
    }
);

impl NotifyEngine {
    /// By its name.
    pub fn named(name: &[u8]) -> Option<NotifyEngine> {
        [NotifyEngine::Auto, NotifyEngine::Tm, NotifyEngine::Direct].into_iter().find(|engine| engine.name() == name)
    }

    /// The mode's name.
    pub fn name(self) -> &'static [u8] {
        match self {
            NotifyEngine::Auto => b"auto",
            NotifyEngine::Tm => b"tm",
            NotifyEngine::Direct => b"direct",
        }
    }
}

/// Database tables: their names go into SQL text.
const TABLE_NAME: Allowed = Allowed::Letters(b"_.-", "a table name of letters, digits, `_`, `.` and `-`");

/// `retrieve_order_by` goes into SQL text: column names, `asc`, `desc`, separated by commas.
const COLUMN_NAMES: Allowed = Allowed::Letters(b"_, .", "column names separated by commas");

/// The name of a channel in dmq.
const PEER_NAME: Allowed = Allowed::Letters(b"_.-", "a word of letters, digits, `_`, `.` and `-`");

/// A period of a timer, in seconds: three years, which the host's timers can count.
const PERIOD: Allowed = Allowed::Between(0, 100_000_000);

/// How often a notifier process looks for changes at most, per second.
const LARGEST_POLL_RATE: i64 = 10_000;

/// Over how many seconds the notifier processes spread a change at most.
const LONGEST_WAIT: i64 = 86_400;

const SUBS_DB_MODES: Allowed =
    Allowed::OneOf(&[(0, "memory"), (1, "write-through"), (2, "write-back"), (3, "database")]);
const PUBL_CACHES: Allowed = Allowed::OneOf(&[(0, "database"), (1, "database and cache"), (2, "memory")]);
const BELOW_MINIMUM: Allowed = Allowed::OneOf(&[(1, "423 Interval Too Brief"), (2, "use min_expires")]);
const NOTIFY_FAILURES: Allowed = Allowed::OneOf(&[(0, "404 and 481, as stock"), (1, "as RFC 6665 4.2.2")]);

const NOTIFY_ENGINES: Allowed = Allowed::Words(&["auto", "tm", "direct"]);

/// A limit that is off by default.
const fn limit(name: &'static std::ffi::CStr) -> Parameter {
    integer(name, 0).zero("no limit").range(Allowed::AtLeast(0)).ours("1.0.0")
}

parameters! {
    /// Everything that the server decides by: one field for each parameter, and what is known at start-up beside them.
    Config,
    /// The parameters of `presence.so`.
    PARAMETERS;

    section "Storage" {
        /// The database. Without it the module serves other modules only, unless `subs_db_mode` is 0 and `publ_cache`
        /// 2. The driver module is loaded before this one. The tables come from `kamdbctl create`, or for SQLite from
        /// `scripts/database.sh create FILE`. `presence.config` shows whether there is one, and never the address.
        database: bool = text(c"db_url", "").range(Allowed::Text("a database URL")).taken().longest(LONGEST_URL)
            .shown(ConfigDisplay::Whether(c"database")).example("sqlite:////var/lib/kamailio/presence.sqlite");
        /// The table of publications.
        presentity_table: &'static [u8] = text(c"presentity_table", "presentity").range(TABLE_NAME)
            .example("presentity");
        /// The table of subscriptions.
        active_watchers_table: &'static [u8] = text(c"active_watchers_table", "active_watchers").range(TABLE_NAME)
            .example("active_watchers");
        /// The table of authorization decisions about watchers.
        watchers_table: &'static [u8] = text(c"watchers_table", "watchers").range(TABLE_NAME)
            .example("watchers");
        /// Where subscriptions live. 0: memory. 1: memory, and each change is in the table before it is answered.
        /// 2: memory, written every `db_update_period`. 3: the table alone, which several servers may share.
        subscriptions: SubscriptionMode = integer(c"subs_db_mode", 2).range(SUBS_DB_MODES).example("1");
        /// Where publications live. 0: the table, which others may write. 1: the table, read once and kept in memory.
        /// 2: memory. Several servers on one database with `subs_db_mode` 3 need 0. With `retrieve_order` 1, 1 counts
        /// as 0.
        publications: PublicationMode = integer(c"publ_cache", 1).range(PUBL_CACHES).example("0");
        /// Time between two passes that write what has changed and end subscriptions that have expired. 0: there are no
        /// such passes; with `subs_db_mode` 2 subscriptions are then written at shutdown alone.
        db_update_period: Option<Seconds> = integer(c"db_update_period", 100).unit("seconds").zero("never")
            .range(PERIOD).replaced_by(0).example("60");
        /// 0 writes each PUBLISH to the table before it is answered. Otherwise changes are written together, this far
        /// apart, and a crash loses no more than that.
        publ_update_period: Option<Seconds> = integer(c"publ_update_period", 0).unit("seconds").zero("write at once")
            .range(PERIOD).condition("0 unless `publ_cache` is 1 and `retrieve_order` 0").ours("1.0.0")
            .example("10");
        /// Time between two passes that remove expired publications.
        clean_period: Option<Seconds> = integer(c"clean_period", 100).unit("seconds").zero("never").range(PERIOD)
            .replaced_by(0).example("60");
        /// How many rows are read at once at start-up.
        fetch_rows: i32 = integer(c"fetch_rows", 500).unit("rows").range(Allowed::AtLeast(1)).replaced_by(500)
            .example("1000");
        /// How long the authorization of a watcher is known without reading the table at a new SUBSCRIBE. The decisions
        /// that are kept take at most a sixteenth of the shared memory; beyond that the oldest are dropped.
        watchers_cache: Option<Seconds> = integer(c"watchers_cache", 3600).unit("seconds").zero("read each time")
            .range(Allowed::AtLeast(0)).ours("1.0.0").example("600");
        /// 1: documents are put together in the order of `retrieve_order_by` (in memory: by priority); see
        /// [composition](composition.md).
        order_by_column: bool = switch(c"retrieve_order", Switch::Off).range(Allowed::Switch(On::One)).example("1");
        /// The columns for `retrieve_order` 1.
        order_by: &'static [u8] = text(c"retrieve_order_by", "priority").range(COLUMN_NAMES).taken()
            .example("priority, received_time");
        /// 1: periodic work runs in a process of its own. 0: it runs in the main timer.
        secondary_timer: bool = switch(c"timer_mode", Switch::On).example("1");
    }
    section "Intervals" {
        /// The longest interval that is granted.
        max_expires: Seconds = integer(c"max_expires", 3600).unit("seconds").range(Allowed::AtLeast(1))
            .replaced_by(3600).example("7200");
        /// The shortest interval that is granted. A value above `max_expires` counts as `max_expires`, with a warning.
        min_expires: Seconds = integer(c"min_expires", 0).unit("seconds").range(Allowed::AtLeast(0)).example("60")
            .difference("differs: a value below 0 counts as `max_expires`");
        /// What happens to a request for less than `min_expires`. 1: it is answered 423 with Min-Expires. 2: the
        /// minimum is granted.
        below_minimum: BelowMinimum = integer(c"min_expires_action", 1).range(BELOW_MINIMUM).example("2")
            .difference("differs: it does not apply the parameter to PUBLISH (RFC 3903 6)");
        /// A publication's Expires in the answer is this much shorter than what is stored, and a subscription lives
        /// this much longer than was answered, so that refreshes come in time. It has to be below `max_expires`.
        expires_offset: Seconds = integer(c"expires_offset", 0).unit("seconds").range(Allowed::AtLeast(0))
            .replaced_by(0).example("10");
    }
    section "Requests and NOTIFYs" {
        /// The URI in Contact. Without a `transport` of its own it gets that of the dialog (tcp, tls, sctp, ws).
        server_address: &'static [u8] = text(c"server_address", "").empty("the socket that received the request")
            .range(Allowed::Text("a SIP URI")).example("sip:presence.example.org:5060");
        /// A SUBSCRIBE in a dialog is accepted although its CSeq is up to this much behind.
        cseq_offset: u32 = integer(c"cseq_offset", 0).range(Allowed::AtLeast(0)).replaced_by(0).example("1");
        /// 0: SUBSCRIBE is answered 202 instead of 200.
        respond_200: bool = switch(c"subs_respond_200", Switch::On).example("0");
        /// 0: there is no first NOTIFY without a body, for phones that do not understand one. The lamp of an idle phone
        /// then gets its first NOTIFY with the first call; `force_dummy_dialog` of presence_dialoginfo gives it a
        /// document at once.
        send_fast_notify: bool = switch(c"send_fast_notify", Switch::On).example("0");
        /// 1: a NOTIFY without an answer ends the subscription (`presence.history` remembers it).
        remove_on_timeout: bool = switch(c"timeout_rm_subs", Switch::On).example("0");
        /// Which answers to a NOTIFY end the subscription. 0: 404 and 481. 1: 404, 405, 410, 416, 480 to 485, 489, 501
        /// and 604 (RFC 6665 4.2.2), but not a 480 with Retry-After.
        notify_failures: NotifyFailures = integer(c"notify_failures", 0).range(NOTIFY_FAILURES).ours("1.0.0")
            .example("1");
        /// 1: a new subscription ends others of the same Call-ID, watcher and event id to the same presentity.
        delete_same_subs: bool = switch(c"delete_same_subs", Switch::Off).example("1");
        /// 1: URIs are compared without regard to case (in memory).
        ignore_case: bool = switch(c"sip_uri_match", Switch::Off).range(Allowed::Switch(On::One)).example("1");
        /// 1: rules that depend on the presentity's sphere are evaluated again when it changes.
        sphere_check: bool = switch(c"enable_sphere_check", Switch::Off).example("1");
        /// 1: watchers are not notified of publications that expire.
        force_delete: bool = switch(c"force_delete", Switch::Off).range(Allowed::Switch(On::Positive)).example("1");
        /// 1: every watcher is allowed. presence_xml has a parameter of the same name.
        force_active: bool = switch(c"force_active", Switch::Off).origin(Origin::OpenSer).example("1");
        /// The name of an XAVP. Its `priority` is read by `handle_publish()` and becomes the priority of the document;
        /// its `delete_subscription` is read after `event_route[presence:notify-reply]`, and 1 ends the subscription
        /// regardless of the answer.
        xavp: &'static [u8] = text(c"xavp_cfg", "").range(Allowed::Text("the name of an XAVP")).example("pres");
        /// 0: `$subs` is not filled.
        subs_variable: bool = switch(c"pres_subs_mode", Switch::On).example("0");
        /// The level of two lines for each NOTIFY, one when it is sent and one when it is answered: -1 error, 0
        /// warning, 1 notice, 2 info, 3 debug. They are written when the server's `debug` is this or more.
        log_level: i32 = integer(c"local_log_level", 3).range(Allowed::Between(-1, 3)).replaced_by(-1)
            .example("2");
        /// Where that line goes.
        log_facility_name: &'static [u8] = text(c"local_log_facility", "").empty("the server's")
            .range(Allowed::Text("a syslog facility such as LOG_LOCAL3")).example("LOG_LOCAL3");
    }
    section "Database-only mode (subs_db_mode 3)" {
        /// Processes that notify watchers. 0: the process that changed the document does it. Without effect in the
        /// other modes.
        notifier_processes: i32 = integer(c"notifier_processes", 1).unit("processes").range(Allowed::Between(0, 256))
            .replaced_by(0).example("2");
        /// How often each notifier process looks for changes.
        notifier_poll_rate: i32 = integer(c"notifier_poll_rate", 10).unit("per second")
            .range(Allowed::Between(1, LARGEST_POLL_RATE)).replaced_by(10).example("20");
        /// Time over which the notifier processes spread a change that another server has marked. What this server has
        /// marked they send at once.
        waitn_time: i32 = integer(c"waitn_time", 5).unit("seconds")
            .range(Allowed::Between(1, LONGEST_WAIT)).replaced_by(5).example("1");
    }
    section "Limits and load" {
        /// The size of a document; longer ones are answered 413.
        max_body_size: Option<NonZeroUsize> = limit(c"max_body_size").unit("bytes").example("65536");
        /// Documents of one presentity and event package; more are answered 403.
        max_publications: Option<NonZeroUsize> = limit(c"max_publications").example("20");
        /// Subscriptions to one presentity and event package; more are answered 403.
        max_watchers: Option<NonZeroUsize> = limit(c"max_watchers").example("500");
        /// Subscriptions of one watcher; more are answered 403.
        max_subscriptions: Option<NonZeroUsize> = limit(c"max_subscriptions").example("200");
        /// Time between two refreshes of a subscription; earlier ones are answered 403.
        min_refresh_interval: Option<Seconds> = limit(c"min_refresh_interval").unit("seconds")
            .condition("0 with `subs_db_mode` 3, whose table does not say when a subscription was refreshed")
            .example("10");
        /// Shared memory in use above which new subscriptions are answered 503 with Retry-After.
        overload_memory: Option<NonZeroUsize> = integer(c"overload_memory", 0).unit("percent").zero("off")
            .range(Allowed::Between(0, 99)).ours("1.0.0").example("90");
        /// Processes that notify the watchers of a change which has more than 64 of them. None with `subs_db_mode` 3.
        /// Unless it is 0, one more process, with `subs_db_mode` 3 as well, sends to targets whose names have to be
        /// looked up.
        sender_processes: i32 = integer(c"sender_processes", 1).unit("processes").range(Allowed::Between(0, 64))
            .ours("1.0.0").example("2");
        /// 1: the bodies of presence_dialoginfo and presence_conference, which differ from watcher to watcher in the
        /// version alone, are made from each other. 0: the package makes the body for each watcher, each time.
        share_watcher_bodies: bool = switch(c"share_watcher_bodies", Switch::On).ours("1.0.0").example("0");
        /// The part that looks after a NOTIFY until it is answered. `tm`: the host's transaction module, as with stock.
        /// `auto`: the module itself, with tm's timers and a fraction of its memory, unless something of the
        /// configuration would miss what tm does; see [without tm](operations.md#notifys-without-tm). `direct`: the
        /// module itself, even then.
        notify_engine: NotifyEngine = text(c"notify_engine", "auto").range(NOTIFY_ENGINES).ours("1.0.0").example("tm");
        /// NOTIFYs that may be under way without tm, rounded up to the next multiple of 256, for which 80 KB of shared
        /// memory are taken when they are first needed. Further ones go through tm, and `notify_slots_full` counts
        /// them.
        notify_slots: usize = integer(c"notify_slots", 16384).unit("NOTIFYs").zero("tm serves all")
            .range(Allowed::Between(0, 1_000_000)).ours("1.0.0").example("65536");
        /// 1: a 2xx to a NOTIFY without tm is taken from its datagram, before the host makes a message of it, unless
        /// something of the configuration would miss that; see [early answers](operations.md#early-answers). 0: it is
        /// read as other messages are.
        notify_early_answers: bool = switch(c"notify_early_answers", Switch::On).ours("1.0.0").example("0");
        /// The receive buffer of each UDP socket, for packets that no worker has read yet. At startup it is raised to
        /// this many bytes, or to what the system allows (`net.core.rmem_max`), and the log shows the result. A socket
        /// that has more, by the core's `maxbuffer`, keeps it. See
        /// [the receive buffer](operations.md#the-receive-buffer).
        receive_buffer: Option<NonZeroUsize> = integer(c"receive_buffer", 4194304).unit("bytes")
            .zero("as `maxbuffer` says").range(Allowed::Between(0, 67_108_864)).ours("1.0.0").example("8388608");
        /// How much `presence.explain` and `presence.history` remember: this many ended subscriptions, as many changes
        /// of publications, and four times as many NOTIFYs with their answers, the newest of each. Each unit takes
        /// 1,600 bytes of shared memory, from startup on. Remembering takes about 340 instructions for each NOTIFY of a
        /// fan-out, and 1,800 for a PUBLISH with one watcher; 0 saves both.
        history_size: usize = integer(c"history_size", 1000).unit("entries").zero("none")
            .range(Allowed::Between(0, 10_000)).ours("1.0.0").example("5000");
        /// 1: documents of watcher information have everything that RFC 3858 defines.
        winfo_details: bool = switch(c"winfo_details", Switch::Off).ours("1.0.0").example("1");
    }
    section "Shortcuts" {
        /// 1: a body that an event package makes of a single document, or for each watcher, is made here, once the
        /// package was seen to make the same; the package is asked again now and then, and always after it made another
        /// one (`bodies_unexpected`). 0: the package makes each body.
        predict_bodies: bool = switch(c"predict_bodies", Switch::On).ours("1.0.0").example("0");
        /// 1: presence_xml's check of a published document, which does nothing but parse it once more, is left out; it
        /// is made now and then, and always after it refused a document (`checks_unexpected`). 0: it is made each time.
        omit_xml_check: bool = switch(c"omit_xml_check", Switch::On).ours("1.0.0").example("0");
        /// 1: on SQLite, statements go to the library that db_sqlite has loaded, where they are prepared once. 0: they
        /// go through db_sqlite.
        sqlite_direct: bool = switch(c"sqlite_direct", Switch::On).ours("1.0.0").example("0");
        /// 1: on SQLite, where several processes wait for their turn to write, the one that has it writes the rows of
        /// all in one transaction; each answers its request when its row is on the disk (`db_shared_commits`). 0: each
        /// row is a transaction of its own. It needs `sqlite_direct` 1.
        share_commits: bool = switch(c"share_commits", Switch::On).ours("1.0.0").example("0");
        /// 1: with db_mysql and db_postgres, a statement whose texts need no escaping is printed here, with the bytes
        /// that the driver would print, and handed to the driver as text; documents for PostgreSQL are written as
        /// `E'\\x...'`. 0: the driver prints each.
        print_statements: bool = switch(c"print_statements", Switch::On).ours("1.0.0").example("0");
        /// 1: with `subs_db_mode` 2, the row of `watchers` of a watcher that the table does not know is written within
        /// the second after its SUBSCRIBE was answered, with those of others (`watchers_queued`). A crash loses it
        /// with the subscription, which is written later still; a row that an application adds in that second stays as
        /// it is. 0: it is written before the answer, as in the other modes and with `watchers_cache` 0.
        watchers_write_behind: bool = switch(c"watchers_write_behind", Switch::On).ours("1.0.0").example("0");
        /// 1: at the start, free blocks of the usual sizes are left in shared and private memory, so that the
        /// allocators fm and qm find one at once. 0: memory is left as it is, as it always is with other allocators.
        seed_memory: bool = switch(c"seed_memory", Switch::On).ours("1.0.0").example("0");
        /// 1: small blocks of shared memory are cut from chunks of our own. 0: each comes from the server's allocator,
        /// whose debugger then sees it. Of presence and pua the module that is loaded first decides for both.
        shm_slab: bool = switch(c"shm_slab", Switch::On).ours("1.0.0").example("0");
    }
    section "Several nodes" {
        /// 1: nodes exchange what `enable_pres_dmq` and `enable_subs_dmq` name. The dmq module is loaded before this
        /// one. See [clustering](clustering.md).
        dmq: bool = switch(c"enable_dmq", Switch::Off).range(Allowed::Switch(On::Positive)).example("1");
        /// 1: nodes exchange publications, where `enable_dmq` is 1.
        replicates: bool = switch(c"enable_pres_dmq", Switch::On).origin(Origin::StockSince("6.1")).example("0");
        /// 1: a node that joins asks for the publications of the others.
        sync_on_join: bool = switch(c"enable_pres_sync_dmq", Switch::On).origin(Origin::StockSince("6.1")).example("0");
        /// 1: nodes exchange subscriptions, where `enable_dmq` is 1, and another node takes over those of a lost one.
        /// Stock's nodes of 6.1 and later take part; see [clustering](clustering.md#with-stocks-nodes). Not used with
        /// `subs_db_mode` 3, where the nodes share the table.
        shares_subscriptions: bool = switch(c"enable_subs_dmq", Switch::Off).range(Allowed::Switch(On::Positive))
            .origin(Origin::StockSince("6.1")).example("1");
        /// 1: a node that joins asks for the subscriptions of the others.
        asks_for_subscriptions: bool = switch(c"enable_subs_sync_dmq", Switch::On).origin(Origin::StockSince("6.1"))
            .example("0");
        /// The socket for NOTIFYs in dialogs that another node accepted.
        default_socket: &'static [u8] = text(c"default_socket", "").empty("the server chooses")
            .range(Allowed::Text("proto:address:port")).origin(Origin::StockSince("6.1")).example("udp:192.0.2.1:5060");
        /// 1: what other nodes announce is stored, and watchers are not notified of it: the node where it happened does
        /// that. Between nodes of ours that share subscriptions (`enable_subs_dmq`) the owner of each notifies its
        /// watcher all the same.
        skips_notify_of_replicas: bool = switch(c"skip_notify_dmq", Switch::Off)
            .origin(Origin::StockSince("6.1")).example("1");
        /// The secret of the cluster: messages among its nodes are authenticated (HMAC-SHA-256), and others are
        /// refused. Several secrets, each with a name before a colon and separated by commas, are all accepted, and the
        /// first one is used: so it can be changed node by node. See [clustering](clustering.md).
        cluster_secret: &'static [u8] = text(c"cluster_secret", "").empty("messages are not authenticated")
            .range(Allowed::Text("at least 16 characters, no comma, or several as 2:NEW,1:OLD")).longest(LONGEST_LIST)
            .ours("1.0.0").shown(ConfigDisplay::Secret).example("2:correct horse battery,1:an older secret here");
        /// The addresses and networks of the nodes, separated by commas: no other address is accepted as a node, or is
        /// sent what nodes exchange.
        cluster_peers: &'static [u8] = text(c"cluster_peers", "").empty("every address, or every node that knows the \
            secret")
            .range(Allowed::Text("addresses, or networks as 192.0.2.0/24")).longest(LONGEST_LIST)
            .ours("1.0.0").example("192.0.2.1,192.0.2.2");
        /// The arbiter that decides which node sends the NOTIFYs of a subscription when nodes do not reach each other.
        /// `database`: leases in a table that all of them reach; a node that does not reach it sends none. See
        /// [clustering](clustering.md#an-arbiter).
        cluster_arbiter: ClusterArbiter = text(c"cluster_arbiter", "none").range(Allowed::Words(&["none", "database"]))
            .ours("1.0.0").example("database");
        /// The database with the leases, where it is not that of `db_url`.
        cluster_arbiter_url: &'static [u8] = text(c"cluster_arbiter_url", "").empty("db_url")
            .range(Allowed::Text("a database URL")).longest(LONGEST_URL).ours("1.0.0").shown(ConfigDisplay::Secret)
            .example("postgres://kamailio:secret@192.0.2.9/kamailio");
        /// The table of the leases.
        cluster_leases_table: &'static [u8] = text(c"cluster_leases_table", "presence_leases").range(TABLE_NAME)
            .ours("1.0.0").example("presence_leases");
        /// On how many nodes beside the first one the subscriptions and publications of a presentity are held: `all`,
        /// or a number. With a number, requests that reach a node which does not serve their presentity are sent on to
        /// the one that does. All nodes of a cluster have the same value. See
        /// [clustering](clustering.md#part-of-everything).
        cluster_replicas: ReplicaCount = text(c"cluster_replicas", "all")
            .range(Allowed::WordOrBetween("all", 1, MOST_REPLICAS)).ours("1.0.0").example("1");
        /// The name of the cluster's channel in dmq.
        dmq_peer: &'static [u8] = text(c"dmq_peer_id", "presence").range(PEER_NAME)
            .origin(Origin::StockSince("6.2")).example("presence");
    }
    without effect "Accepted and without effect" {
        /// Accepted so that configurations need no change: expired documents are never delivered.
        integer(c"startup_mode", 1);
        /// Accepted so that configurations need no change: tables grow by themselves.
        integer(c"subs_htable_size", 9);
        /// Accepted so that configurations need no change: tables grow by themselves.
        integer(c"pres_htable_size", 9);
        /// Accepted so that configurations need no change: no table is locked.
        integer(c"db_table_lock_type", 1);
        /// Accepted so that configurations need no change: dialogs are always matched by Call-ID and both tags.
        integer(c"subs_remove_match", 0);
        /// Accepted so that configurations need no change.
        text(c"to_tag_pref", "").origin(Origin::OpenSer);
        /// Accepted so that configurations need no change.
        integer(c"totag_avpid", 0).origin(Origin::OpenSer);
        /// Accepted so that configurations need no change.
        integer(c"lock_set_size", 0).origin(Origin::OpenSer);
    }
    beside {
        /// The facility that `local_log_facility` names.
        log_facility: Option<i32>,
        /// The commit that the module was built from.
        commit: &'static [u8],
        /// The version of the host that it was built for.
        host_version: &'static [u8],
        /// Seeds the hash of resources and dialogs; random at each start.
        hash_seed: u64,
        /// When the server started.
        started: Moment,
        /// A process of its own sends to targets whose names have to be looked up.
        looks_names_up: bool,
    }
}

impl Config {
    /// Whether publications are compared with those of other nodes: memory has them all, and nobody else writes them.
    pub fn compares_publications(&self) -> bool {
        self.replicates && self.publications != PublicationMode::Database
    }

    /// The turns of one notifier process in `waitn_time`.
    pub fn turns_of_one_process(&self) -> i32 {
        self.waitn_time * self.notifier_poll_rate
    }

    /// The turns of all notifier processes in `waitn_time`: as many as a column of the table can number.
    pub fn turns(&self) -> i32 {
        self.turns_of_one_process() * self.notifier_processes
    }

    /// Whether there may be other nodes.
    pub fn is_in_cluster(&self) -> bool {
        self.dmq || self.shares_subscriptions
    }

    /// On how many nodes beside the first a record is held; `None`: on all nodes.
    pub fn replicas(&self) -> Option<usize> {
        match self.cluster_replicas {
            ReplicaCount::Some(number) if self.shares_subscriptions => Some(number.get().into()),
            _ => None,
        }
    }

    /// Whether leases in a table decide which node sends the NOTIFYs of a subscription (`cluster_arbiter`).
    pub fn has_arbiter(&self) -> bool {
        self.cluster_arbiter == ClusterArbiter::Database
    }

    /// The interval granted for a request: its Expires or the package's default, within the limits.
    ///
    /// # Errors
    ///
    /// Fails when it is shorter than `min_expires`, and the parameters do not raise it.
    pub fn grant(&self, asked: Option<Expires>, default: Expires) -> Result<Expires, TooBrief> {
        let wanted = asked.unwrap_or(default).at_most(self.max_expires);
        if wanted.is_end() || wanted.duration() >= self.min_expires {
            return Ok(wanted);
        }
        match self.below_minimum {
            BelowMinimum::Reject => Err(TooBrief(self.min_expires)),
            BelowMinimum::Raise => Ok(self.min_expires.as_expires().into()),
        }
    }
}
