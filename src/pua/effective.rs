//! The settings in force, by the names of their parameters: what operators are shown.
use super::config::{Config, Mode};
use crate::sip::setting::{Setting, Value};

impl Config {
    /// Every parameter that decides something; what was corrected shows as what it became.
    pub fn effective(&self) -> Vec<Setting> {
        let mode = match self.mode {
            Mode::Memory => 0,
            Mode::Database => 2,
        };
        vec![
            (c"db_mode", Value::Number(mode)),
            (c"db_table", Value::Text(self.table)),
            (c"fetch_rows", Value::Number(self.fetch_rows.into())),
            (c"min_expires", Value::Number(self.min_expires)),
            (c"default_expires", Value::Number(self.default_expires)),
            (c"update_period", Value::Number(self.update_period.into())),
            (c"outbound_proxy", Value::Text(self.outbound_proxy)),
            (c"dlginfo_increase_version", Value::Number(self.count_dialog_versions.into())),
            (c"reginfo_increase_version", Value::Number(self.count_reg_versions.into())),
            (c"check_remote_contact", Value::Number(self.check_remote_contact.into())),
        ]
    }
}
