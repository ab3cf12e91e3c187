//! How settings are written: the numbers of the modes, what they are called, and which module this is.
use super::{BelowMinimum, Config, NotifyEngine, NotifyFailures, PARAMETERS, PublicationMode, SubscriptionMode};
use crate::reference::setting::{ParameterValue, Setting, SettingField};

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

impl SettingField for NotifyEngine {
    fn from_value(value: ParameterValue) -> NotifyEngine {
        let named = match value {
            ParameterValue::Text(name) => NotifyEngine::named(name),
            ParameterValue::Number(_) => None,
        };
        named.expect("the table allows the names alone")
    }

    fn value(&self) -> ParameterValue {
        ParameterValue::Text(self.name())
    }
}

/// Settings whose parameters have a number for each case; the table allows no other numbers.
macro_rules! numbered {
    ($($mode:ty { $($number:literal => $case:path,)* })*) => { $(
        impl SettingField for $mode {
            fn from_value(value: ParameterValue) -> $mode {
                [$(($number, $case),)*]
                    .into_iter()
                    .find_map(|(number, case)| (value == ParameterValue::Number(number)).then_some(case))
                    .expect("the table allows the numbers of the cases alone")
            }

            fn value(&self) -> ParameterValue {
                ParameterValue::Number(match self { $($case => $number,)* })
            }
        }
    )* };
}
numbered! {
    SubscriptionMode {
        0 => SubscriptionMode::Memory,
        1 => SubscriptionMode::WriteThrough,
        2 => SubscriptionMode::WriteBack,
        3 => SubscriptionMode::Database,
    }
    PublicationMode {
        0 => PublicationMode::Database,
        1 => PublicationMode::Cached,
        2 => PublicationMode::Memory,
    }
    BelowMinimum {
        1 => BelowMinimum::Reject,
        2 => BelowMinimum::Raise,
    }
    NotifyFailures {
        0 => NotifyFailures::Stock,
        1 => NotifyFailures::Rfc6665,
    }
}

impl Config {
    /// Which module this is: what `presence.version` shows and the first line in the log says. The stock module has
    /// neither.
    pub fn identity(&self) -> Vec<Setting> {
        vec![
            (c"name", ParameterValue::Text(env!("CARGO_PKG_NAME").as_bytes())),
            (c"version", ParameterValue::Text(env!("CARGO_PKG_VERSION").as_bytes())),
            (c"commit", ParameterValue::Text(self.commit)),
            (c"kamailio", ParameterValue::Text(self.host_version)),
            (c"subscriptions", ParameterValue::Text(self.subscriptions.word().as_bytes())),
            (c"publications", ParameterValue::Text(self.publications.word().as_bytes())),
        ]
    }

    /// The same in one line.
    pub fn introduction(&self) -> String {
        format!(
            "{} {} (commit {}) for Kamailio {}: subscriptions {}, publications {}, notify_engine {}, shortcuts {}",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            String::from_utf8_lossy(self.commit),
            String::from_utf8_lossy(self.host_version),
            self.subscriptions.word(),
            self.publications.word(),
            String::from_utf8_lossy(self.notify_engine.name()),
            self.shortcuts()
        )
    }

    /// Which shortcuts are taken: all of the section of that name, or all but some.
    fn shortcuts(&self) -> String {
        let settings = self.settings();
        let is_off = |name| settings.contains(&(name, ParameterValue::Number(0)));
        let of_the_section = PARAMETERS.iter().filter(|entry| entry.section == "Shortcuts");
        let off: Vec<_> =
            of_the_section.filter(|entry| is_off(entry.name)).map(|entry| entry.name.to_string_lossy()).collect();
        if off.is_empty() { "on".into() } else { format!("on except {}", off.join(", ")) }
    }
}
