//! A parameter and the value in force, as operators are shown them.
use std::ffi::CStr;

/// The name of a parameter and the value that is used.
pub type Setting = (&'static CStr, Value);

/// The value of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A number, a switch.
    Number(i64),
    /// A text.
    Text(&'static [u8]),
}
