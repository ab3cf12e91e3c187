//! The macro that makes a table of parameters and the settings read by it.

/// Declares parameters once. Each entry has a text (its doc comment), the field of the settings, and what
/// [`crate::reference::parameter`] knows of a parameter:
///
/// ```text
/// /// The longest interval that is granted.
/// max_expires: u32 = integer(c"max_expires", 3600).unit("seconds").range(Range::AtLeast(1)).example("7200");
/// ```
///
/// Made of them are the table, from which the host's exports, the checks and the reference page come, and the structure
/// with `read`, `defaults` and `settings`. A new parameter is one such entry.
macro_rules! parameters {
    (
        $(#[$meta:meta])* $Config:ident, $(#[$table_meta:meta])* $TABLE:ident;
        $(section $title:literal {
            $($(#[doc = $text:literal])+ $field:ident: $type:ty = $entry:expr;)*
        })*
        without effect $unused_title:literal {
            $($(#[doc = $unused_text:literal])+ $unused:expr;)*
        }
        beside { $($(#[$other_meta:meta])* $other:ident: $other_type:ty,)* }
    ) => {
        $(#[$table_meta])*
        pub static $TABLE: &[$crate::reference::parameter::Parameter] = &[
            $($($entry.placed($title, concat!($($text),+)),)*)*
            $($unused.placed($unused_title, concat!($($unused_text),+)),)*
        ];

        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $Config {
            $($($(#[doc = $text])+ pub $field: $type,)*)*
            $($(#[$other_meta])* pub $other: $other_type,)*
            /// What was given for the parameters without effect.
            pub without_effect: Vec<$crate::reference::setting::Setting>,
        }

        impl $Config {
            /// Reads the values that are given for the table; says what was corrected.
            ///
            /// # Errors
            ///
            /// Fails when a parameter has a value that it cannot have.
            pub fn read(
                given: &dyn Fn(usize) -> $crate::reference::setting::ParameterValue,
                $($other: $other_type,)*
            ) -> Result<($Config, Vec<String>), $crate::reference::reading::BadParameter> {
                let mut reading = $crate::reference::reading::Reading::new($TABLE, given);
                let config = $Config {
                    $($($field: reading.next_setting()?,)*)*
                    $($other,)*
                    without_effect: reading.without_effect(),
                };
                Ok((config, reading.into_warnings()))
            }

            /// The settings of a configuration that sets no parameter.
            #[cfg(test)]
            pub fn defaults($($other: $other_type,)*) -> $Config {
                let read = $Config::read(&|at| $TABLE[at].default, $($other,)*);
                read.expect("defaults are in their ranges").0
            }

            /// Every parameter that decides something, in the order of the documentation, with the value that is used.
            pub fn settings(&self) -> Vec<$crate::reference::setting::Setting> {
                use $crate::reference::{parameter::ConfigDisplay, setting::{SettingField, ParameterValue}};
                let values: Vec<ParameterValue> = vec![$($(SettingField::value(&self.$field),)*)*];
                let shown = $TABLE.iter().zip(values).map(|(entry, value)| match entry.shown {
                    ConfigDisplay::Itself => (entry.name, value),
                    ConfigDisplay::Whether(name) => (name, value),
                    ConfigDisplay::Secret if value == ParameterValue::Text(b"") => (entry.name, value),
                    ConfigDisplay::Secret => (entry.name, ParameterValue::Text(b"is set")),
                });
                shown.collect()
            }
        }
    };
}
