//! Why a statement failed, as far as the database says it: the statement's own fault, a collision with another one, or
//! a database that takes nothing at all.
use crate::host::sqlite::library::code as sqlite;

/// A database call failed; the driver has logged what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// The database cannot be reached, or takes no statement of this kind now. What was to be written has to be kept.
    #[error("the database cannot be reached or cannot write")]
    Away,
    /// Another transaction was in the way: a deadlock, a serialization failure, a lock that was not free in time.
    #[error("another transaction was in the way")]
    Busy,
    /// The database does not take this statement: a value is too long, of the wrong form, or there twice.
    #[error("the database refuses the statement")]
    Refused,
    /// The driver does not say; `Connection::explain` finds out.
    #[error("the database failed")]
    Unexplained,
}

/// What a code of MariaDB or MySQL means (`SHOW ERRORS`).
pub(super) fn of_mysql(code: i64) -> DbError {
    match code {
        // A record that changed meanwhile, a lock that was not free in time, a deadlock.
        1020 | 1205 | 1213 => DbError::Busy,
        // A full or broken disk, a table that is read-only, missing, full or crashed, missing rights, a shutdown,
        // client errors.
        3
        | 5
        | 28
        | 1005
        | 1016
        | 1021
        | 1030
        | 1034..=1037
        | 1040..=1045
        | 1049
        | 1053
        | 1114
        | 1142..=1146
        | 1194
        | 1195
        | 1203
        | 1226
        | 1290
        | 1317
        | 1792
        | 1836
        | 1927
        | 1969
        | 2000..=2999 => DbError::Away,
        _ => DbError::Refused,
    }
}

/// What a result code of SQLite means; the extended part is in the higher bits.
pub fn of_sqlite(code: libc::c_int) -> DbError {
    match code & 0xff {
        sqlite::ERROR | sqlite::TOO_BIG | sqlite::CONSTRAINT | sqlite::MISMATCH | sqlite::RANGE => DbError::Refused,
        // A writer has waited for its turn already, see `PRAGMAS`: it is not tried again at once.
        _ => DbError::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whose_fault_it_was() {
        // Too long, no UTF-8, there twice, out of range, NULL where none may be.
        for code in [1406, 1366, 1062, 1264, 1048] {
            assert_eq!(of_mysql(code), DbError::Refused);
        }
        for code in [1205, 1213] {
            assert_eq!(of_mysql(code), DbError::Busy);
        }
        for code in [2006, 2013, 1146, 1290, 1021] {
            assert_eq!(of_mysql(code), DbError::Away);
        }
        assert_eq!(of_sqlite(19 | (8 << 8)), DbError::Refused);
        assert_eq!(of_sqlite(5), DbError::Away);
        assert_eq!(of_sqlite(13), DbError::Away);
    }
}
