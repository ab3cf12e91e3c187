//! The settings of the presence user agent, checked once at start-up.

/// Where publications and subscriptions live (`db_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 0: memory, written to the table by a timer.
    Memory,
    /// 2: the table only.
    Database,
}

/// Everything the user agent decides by.
#[derive(Debug, Clone)]
pub struct Config {
    /// `db_mode`.
    pub mode: Mode,
    /// `db_table`.
    pub table: &'static [u8],
    /// `min_expires`, seconds.
    pub min_expires: i64,
    /// `default_expires`, seconds: what is asked for when the caller wants it for ever.
    pub default_expires: i64,
    /// `update_period`, seconds; 0 switches the timers off.
    pub update_period: i32,
    /// `outbound_proxy`: where PUBLISHes go whose caller names none; empty: to the presentity.
    pub outbound_proxy: &'static [u8],
    /// `dlginfo_increase_version`.
    pub count_dialog_versions: bool,
    /// `reginfo_increase_version`.
    pub count_reg_versions: bool,
    /// `check_remote_contact`.
    pub check_remote_contact: bool,
    /// `fetch_rows`.
    pub fetch_rows: i32,
}

impl Config {
    /// How often the records are looked through, in seconds; a record is refreshed in the period before it would end.
    pub fn sweep_period(&self) -> i32 {
        (self.update_period - 5).max(1)
    }
}
