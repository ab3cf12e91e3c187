//! Values of statements: how they are given, and how the drivers want them.
use crate::host::bytes::{lend, null};
use crate::host::clock;
use crate::sys;
use crate::time::{Expiry, Moment, UnixTime};

/// A value to write or to compare with.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// An integer column: its lower 32 bits, as the tables have them.
    Int(i64),
    /// A moment, which the column holds as a time of day ([`number_of`]). A column of 32 bits gets the last second it
    /// can hold rather than a negative number.
    Time(Expiry),
    /// An integer of 64 bits: the id of a row.
    Long(i64),
    /// A text column.
    Text(&'a [u8]),
    /// A binary column.
    Blob(&'a [u8]),
    /// NULL of a text column.
    NullText,
    /// A text whose absence SQLite's driver writes as NULL, and every other one as an empty text.
    Optional(&'a [u8]),
}

/// What a column of times has for what never ends.
const NEVER: i64 = -1;

/// The number by which a column of times says when something ends, or happened: seconds since 1970 of the wall clock.
pub fn number_of(time: Expiry) -> i64 {
    match time {
        Expiry::At(moment) => clock::to_wall(moment).0,
        Expiry::Never => NEVER,
    }
}

/// A moment in a column of times: 0 where there is none.
pub fn moment(at: Option<Moment>) -> Value<'static> {
    at.map_or(Value::Int(0), |at| Value::Time(at.into()))
}

/// When something ends by the number in a column that may say that it never does.
pub fn expiry_of(number: i64) -> Expiry {
    match number {
        NEVER => Expiry::Never,
        at => Expiry::At(end_of(at)),
    }
}

/// When something ends by the number in a column.
pub fn end_of(number: i64) -> Moment {
    // The clock is asked for the odd ones alone: this is done for each row.
    let end = if number < 0 { unwrapped(number, clock::to_wall(clock::now())) } else { UnixTime(number) };
    clock::from_wall(end)
}

/// A time beyond 2038 that was written with 32 bits came back negative. It is not further away than the longest
/// interval of 31 bits: any other negative number is a time long ago.
fn unwrapped(number: i64, now: UnixTime) -> UnixTime {
    let end = number & 0xffff_ffff;
    UnixTime(if (i64::from(i32::MIN)..0).contains(&number) && end - now.0 <= i64::from(i32::MAX) {
        end
    } else {
        number
    })
}

/// When something happened by the number in a column; `None` where none was written.
pub fn moment_of(number: i64) -> Option<Moment> {
    expiry_of(number).moment().filter(|_| number != 0)
}

/// A column and its value.
pub type Cell<'a> = (&'static str, Value<'a>);

/// A comparison in a WHERE clause.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// `=`
    Eq,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
}

/// A column, a comparison, a value.
pub type Cond<'a> = (&'static str, Op, Value<'a>);

fn key(name: &'static str) -> sys::_str {
    lend(name.as_bytes()).unbound()
}

/// What is written of an integer.
pub(in crate::host) fn int_of(number: i64) -> i32 {
    number as i32
}

/// What is written of a moment.
pub(super) fn time_of(time: Expiry) -> i32 {
    let time = number_of(time);
    i32::try_from(time).unwrap_or(if time < 0 { i32::MIN } else { i32::MAX })
}

fn raw_value(value: &Value<'_>, empty: &'static [u8]) -> sys::db_val_t {
    let mut raw = sys::db_val_t::default();
    match *value {
        Value::Int(n) => {
            raw.type_ = sys::db_type_t_DB1_INT;
            raw.val.int_val = int_of(n);
        }
        Value::Time(time) => {
            raw.type_ = sys::db_type_t_DB1_INT;
            raw.val.int_val = time_of(time);
        }
        Value::Long(n) => match i32::try_from(n) {
            Ok(n) => {
                raw.type_ = sys::db_type_t_DB1_INT;
                raw.val.int_val = n;
            }
            Err(_) => {
                raw.type_ = sys::db_type_t_DB1_BIGINT;
                raw.val.ll_val = n;
            }
        },
        Value::Text(text) => {
            raw.type_ = sys::db_type_t_DB1_STR;
            raw.val.str_val = lend(if text.is_empty() { empty } else { text }).unbound();
        }
        Value::Optional(text) if !text.is_empty() => return raw_value(&Value::Text(text), empty),
        Value::Optional(_) => {
            raw.type_ = sys::db_type_t_DB1_STR;
            raw.val.str_val = null();
            // db_text refuses a table with an empty field.
            raw.nul = i32::from(!empty.is_empty());
        }
        Value::Blob(blob) => {
            raw.type_ = sys::db_type_t_DB1_BLOB;
            raw.val.blob_val = lend(blob).unbound();
        }
        Value::NullText => {
            raw.type_ = sys::db_type_t_DB1_STR;
            raw.nul = 1;
            raw.val.str_val = null();
        }
    }
    raw
}

pub(super) fn raw_op(op: Op) -> *const libc::c_char {
    match op {
        Op::Eq => c"=".as_ptr(),
        Op::Lt => c"<".as_ptr(),
        Op::Le => c"<=".as_ptr(),
        Op::Gt => c">".as_ptr(),
    }
}

/// Columns as the driver wants them: keys, pointers to them, values.
pub(super) struct Columns {
    _names: Vec<sys::_str>,
    pub(super) keys: Vec<*mut sys::_str>,
    pub(super) values: Vec<sys::db_val_t>,
}

impl Columns {
    pub(super) fn new<'a>(empty: &'static [u8], cells: impl Iterator<Item = (&'static str, Value<'a>)>) -> Self {
        let (mut names, mut values) = (Vec::with_capacity(32), Vec::with_capacity(32));
        for (name, value) in cells {
            names.push(key(name));
            values.push(raw_value(&value, empty));
        }
        let keys = names.iter_mut().map(|name| name as *mut sys::_str).collect();
        Columns { _names: names, keys, values }
    }
    pub(super) fn count(&self) -> i32 {
        self.values.len() as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_number_is_a_time_beyond_2038_or_long_ago() {
        let now = UnixTime(1_800_000_000);
        let wrapped = |at: i64| at - (1 << 32);
        for at in [1 << 31, 2_200_000_000, now.0 + i64::from(i32::MAX)] {
            assert_eq!(unwrapped(wrapped(at), now), UnixTime(at));
        }
        for at in [-1, -5, wrapped(now.0 + (1 << 31)), wrapped(0) - 1, 0, 5, now.0, 1 << 32] {
            assert_eq!(unwrapped(at, now), UnixTime(at));
        }
    }
}
