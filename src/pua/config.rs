//! The parameters of the presence user agent and the settings read by them, checked once at start-up.
use crate::reference::parameter::{Allowed, ConfigDisplay, LONGEST_LIST, LONGEST_URL, Switch, integer, switch, text};
use crate::reference::setting::{ParameterValue, SettingField};
use crate::time::Seconds;

/// Where publications and subscriptions live (`db_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 0: memory, written to the table by a timer.
    Memory,
    /// 2: the table only.
    Database,
}

impl SettingField for Mode {
    fn from_value(value: ParameterValue) -> Mode {
        if value == ParameterValue::Number(2) { Mode::Database } else { Mode::Memory }
    }

    fn value(&self) -> ParameterValue {
        ParameterValue::Number(if *self == Mode::Database { 2 } else { 0 })
    }
}

const DB_MODES: Allowed = Allowed::OneOf(&[(0, "memory"), (2, "database")]);

const CHECKED: Allowed = Allowed::OneOf(&[(0, "off"), (1, "on")]);

parameters! {
    /// Everything that the user agent decides by: one field for each parameter.
    Config,
    /// The parameters of `pua.so`.
    PARAMETERS;

    section "Parameters" {
        /// The database that keeps records over a restart. `pua.config` shows whether there is one, and never the
        /// address.
        database: bool = text(c"db_url", "mysql://kamailio:kamailiorw@localhost/kamailio")
            .range(Allowed::Text("a database URL")).taken().longest(LONGEST_URL)
            .shown(ConfigDisplay::Whether(c"database")).example("sqlite:////var/lib/kamailio/presence.sqlite");
        /// The table of records.
        table: &'static [u8] = text(c"db_table", "pua")
            .range(Allowed::Letters(b"_.-", "a table name of letters, digits, `_`, `.` and `-`")).taken()
            .example("pua");
        /// Where records live. 0: memory, written every `update_period` and at the end. 2: the table alone.
        mode: Mode = integer(c"db_mode", 0).range(DB_MODES).replaced_by(0).example("2");
        /// The interval where a module names none.
        default_expires: Seconds = integer(c"default_expires", 3600).unit("seconds").range(Allowed::AtLeast(600))
            .replaced_by(3600).example("1800");
        /// The shortest interval that is requested; a request that ends something has Expires 0 all the same.
        min_expires: Seconds = integer(c"min_expires", 0).unit("seconds").range(Allowed::AtLeast(0)).replaced_by(0)
            .example("60");
        /// Time between two passes over all records; refreshes are spread over it.
        update_period: Option<Seconds> = integer(c"update_period", 100).unit("seconds").zero("no timers")
            .range(Allowed::ZeroOrBetween(6, 100_000_000)).example("60");
        /// The proxy that requests are sent to.
        outbound_proxy: &'static [u8] = text(c"outbound_proxy", "").range(Allowed::Text("a SIP URI"))
            .example("sip:127.0.0.1:5060");
        /// The identity for a server or proxy that asks (401, 407): `user:realm:password`, as the `uac` module's
        /// `credential` has it; several are separated by commas. Digest with MD5 and SHA-256 is answered, in the order
        /// that the server prefers; later requests to that server carry the answer at once.
        credentials: &'static [u8] = text(c"credential", "").range(Allowed::Text("user:realm:password, ..."))
            .longest(LONGEST_LIST).shown(ConfigDisplay::Secret).ours("1.0.0").example("alice:example.org:secret");
        /// 1: a SUBSCRIBE belongs to the dialog with the same remote target; one without a target belongs to the dialog
        /// that exists. 0: the target is not compared.
        check_remote_contact: bool = integer(c"check_remote_contact", 1).range(CHECKED).example("1");
        /// 1: the version in dialog-info documents is counted up.
        count_dialog_versions: bool = switch(c"dlginfo_increase_version", Switch::Off).example("1");
        /// 1: the version in reginfo documents is counted up.
        count_reg_versions: bool = switch(c"reginfo_increase_version", Switch::Off).example("1");
        /// How many rows are read at once at start-up.
        fetch_rows: i32 = integer(c"fetch_rows", 500).unit("rows").range(Allowed::AtLeast(1)).replaced_by(500)
            .example("1000");
    }
    section "Shortcuts" {
        /// 1: on SQLite, statements go to the library that db_sqlite has loaded, where they are prepared once. 0: they
        /// go through db_sqlite.
        sqlite_direct: bool = switch(c"sqlite_direct", Switch::On).ours("1.0.0").example("0");
        /// 1: on SQLite, where several processes wait for their turn to write, the one that has it writes the rows of
        /// all in one transaction; each answers its request when its row is on the disk. 0: each
        /// row is a transaction of its own. It needs `sqlite_direct` 1.
        share_commits: bool = switch(c"share_commits", Switch::On).ours("1.0.0").example("0");
        /// 1: with db_mysql and db_postgres, a statement whose texts need no escaping is printed here, with the bytes
        /// that the driver would print, and handed to the driver as text. 0: the driver prints each.
        print_statements: bool = switch(c"print_statements", Switch::On).ours("1.0.0").example("0");
        /// 1: small blocks of shared memory are cut from chunks of our own. 0: each comes from the server's allocator,
        /// whose debugger then sees it. Of presence and pua the module that is loaded first decides for both.
        shm_slab: bool = switch(c"shm_slab", Switch::On).ours("1.0.0").example("0");
    }
    without effect "Accepted and without effect" {
        /// Accepted so that configurations need no change: tables grow by themselves.
        integer(c"hash_size", 9);
        /// Accepted so that configurations need no change: no table is locked.
        integer(c"db_table_lock_write", 1);
    }
    beside {}
}

impl Config {
    /// How often the records are looked through; a record is refreshed in the period before it would end.
    pub fn sweep_period(&self) -> Seconds {
        (self.update_period.unwrap_or_default() - Seconds(5)).max(Seconds(1))
    }
}
