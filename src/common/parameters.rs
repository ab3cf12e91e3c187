//! Checking module parameters: what is wrong with a value, and what is allowed.
use crate::host::log;
use crate::log;

/// A parameter has a value it cannot have.
#[derive(Debug, thiserror::Error)]
#[error("parameter {name} is {value}: allowed is {allowed}")]
pub struct BadParameter {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) allowed: &'static str,
}

pub(crate) fn bad(name: &'static str, value: impl ToString, allowed: &'static str) -> BadParameter {
    BadParameter { name, value: value.to_string(), allowed }
}

/// A value that stock silently corrects is corrected the same way, with a line in the log.
pub(crate) fn corrected(name: &str, value: i32, used: i32) -> i32 {
    if value != used {
        log!(Warn, "parameter {name} is {value}: {used} is used");
    }
    used
}

pub(crate) fn at_least_zero(name: &'static str, value: i32) -> Result<u32, BadParameter> {
    u32::try_from(value).map_err(|_| bad(name, value, "0 or a positive number of seconds"))
}

/// A table name goes into SQL text: nothing but letters, digits, `_`, `.` and `-`.
pub(crate) fn table(name: &'static str, value: &'static [u8]) -> Result<&'static [u8], BadParameter> {
    let fits = |c: &u8| c.is_ascii_alphanumeric() || b"_.-".contains(c);
    if value.is_empty() || !value.iter().all(fits) {
        return Err(bad(name, log::show(value), "a table name of letters, digits, _ . and -"));
    }
    Ok(value)
}
