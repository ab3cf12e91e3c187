//! A parameter and the value in force, as operators see them.
use crate::time::Seconds;
use std::ffi::CStr;
use std::num::NonZeroUsize;

/// The name of a parameter and the value that is used.
pub type Setting = (&'static CStr, ParameterValue);

/// The value of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterValue {
    /// A number, a switch.
    Number(i64),
    /// A text.
    Text(&'static [u8]),
}

/// A type that a parameter has in the settings.
pub trait SettingField {
    /// The setting, from a value that its parameter allows.
    fn from_value(value: ParameterValue) -> Self;

    /// The value that operators see.
    fn value(&self) -> ParameterValue;
}

impl SettingField for bool {
    fn from_value(value: ParameterValue) -> bool {
        match value {
            ParameterValue::Number(number) => number != 0,
            ParameterValue::Text(text) => !text.is_empty(),
        }
    }

    fn value(&self) -> ParameterValue {
        ParameterValue::Number(i64::from(*self))
    }
}

impl SettingField for &'static [u8] {
    fn from_value(value: ParameterValue) -> &'static [u8] {
        match value {
            ParameterValue::Number(_) => b"",
            ParameterValue::Text(text) => text,
        }
    }

    fn value(&self) -> ParameterValue {
        ParameterValue::Text(self)
    }
}

impl SettingField for Seconds {
    fn from_value(value: ParameterValue) -> Seconds {
        Seconds(i64::from_value(value))
    }

    fn value(&self) -> ParameterValue {
        ParameterValue::Number(self.0)
    }
}

/// 0 in the configuration: none.
impl SettingField for Option<Seconds> {
    fn from_value(value: ParameterValue) -> Option<Seconds> {
        Some(Seconds::from_value(value)).filter(|time| *time != Seconds::ZERO)
    }

    fn value(&self) -> ParameterValue {
        self.unwrap_or_default().value()
    }
}

/// 0 in the configuration: no limit.
impl SettingField for Option<NonZeroUsize> {
    fn from_value(value: ParameterValue) -> Option<NonZeroUsize> {
        NonZeroUsize::new(usize::from_value(value))
    }

    fn value(&self) -> ParameterValue {
        self.map_or(0, NonZeroUsize::get).value()
    }
}

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl SettingField for $number {
            fn from_value(value: ParameterValue) -> $number {
                match value {
                    ParameterValue::Number(number) => <$number>::try_from(number).unwrap_or_default(),
                    ParameterValue::Text(_) => 0,
                }
            }

            fn value(&self) -> ParameterValue {
                ParameterValue::Number(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
    )* };
}
numbers! { i32 u32 i64 usize }
