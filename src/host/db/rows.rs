//! What a SELECT found: rows whose columns are known by name. An enum made by [`row_columns!`] is the list of
//! columns that are read and the only way to get at one of them, so that no list and no place in it can disagree.
use crate::host::bytes::view;
use crate::host::sqlite;
use crate::sys;
use std::marker::PhantomData;

/// Columns of a table. Made by [`row_columns!`] only: a place is that of the name in the list.
pub trait Column: Copy {
    /// The names of the columns and of the key, which comes last.
    const NAMES_AND_KEY: &'static [&'static str];
    /// The names of the columns.
    const NAMES: &'static [&'static str] = Self::NAMES_AND_KEY.split_at(Self::NAMES_AND_KEY.len() - 1).0;
    /// The place of this one.
    fn place(self) -> usize;
}

/// An enum of columns with their names in the database: `row_columns! { enum Wanted { Tag = "etag" } }`.
macro_rules! row_columns {
    ($(#[$about:meta])* $vis:vis enum $columns:ident { $($column:ident = $name:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $columns { $($column),+ }

        impl $crate::host::db::rows::Column for $columns {
            const NAMES_AND_KEY: &'static [&'static str] = &[$($name,)+ "id"];
            #[inline]
            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use row_columns;

/// The rows that were found, with the columns `C`; freed when dropped.
pub struct Rows<'c, C> {
    found: ResultSet<'c>,
    columns: PhantomData<C>,
}

/// Rows as the way they came has them.
pub(super) enum ResultSet<'c> {
    Driver {
        functions: &'c sys::db_func_t,
        connection: *mut sys::db1_con_t,
        scheme: &'static [u8],
        /// What stands for an empty text.
        empty: &'static [u8],
        result: *mut sys::db1_res_t,
    },
    Sqlite(sqlite::SqliteRows),
}

/// One row.
#[derive(Clone, Copy)]
pub struct Row<'r, C> {
    fields: Fields<'r>,
    columns: PhantomData<C>,
}

#[derive(Clone, Copy)]
enum Fields<'r> {
    Driver {
        values: *mut sys::db_val_t,
        count: i32,
        /// What stands for an empty text.
        empty: &'static [u8],
        life: PhantomData<&'r ()>,
    },
    Sqlite {
        fields: &'r [sqlite::SqliteField],
        bytes: &'r [u8],
    },
}

impl<'c, C: Column> Rows<'c, C> {
    pub(super) fn of(found: ResultSet<'c>) -> Self {
        Rows { found, columns: PhantomData }
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_, C>> {
        (0..self.len()).map(move |at| Row { fields: self.found.row(at), columns: PhantomData })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of the rows, where they were asked for.
    pub fn keys(&self) -> impl Iterator<Item = i64> {
        (0..self.len()).map(|at| self.found.row(at).int(C::NAMES.len()))
    }

    /// Whether numbers of 32 unsigned bits come as signed ones: MariaDB's driver reads its unsigned keys so.
    pub fn cuts_unsigned(&self) -> bool {
        matches!(&self.found, ResultSet::Driver { scheme: b"mysql", .. })
    }
}

impl<'r, C: Column> Row<'r, C> {
    /// A number; NULL is 0.
    pub fn int(&self, column: C) -> i64 {
        self.fields.int(column.place())
    }

    /// Text or binary; NULL is empty.
    pub fn bytes(&self, column: C) -> &'r [u8] {
        self.fields.bytes(column.place())
    }
}

impl ResultSet<'_> {
    fn row(&self, at: usize) -> Fields<'_> {
        match self {
            ResultSet::Driver { empty, result, .. } => {
                // SAFETY: a result of the driver, which lives as long as `self`.
                let rows = unsafe { (**result).rows };
                // SAFETY: `at` is below the number of its rows.
                let row = unsafe { &*rows.wrapping_add(at) };
                Fields::Driver { values: row.values, count: row.n, empty, life: PhantomData }
            }
            ResultSet::Sqlite(table) => Fields::Sqlite { fields: table.row(at), bytes: table.bytes() },
        }
    }

    fn len(&self) -> usize {
        match self {
            // SAFETY: the driver has made the result, and frees it when `self` is dropped.
            ResultSet::Driver { result, .. } => unsafe { (**result).n.max(0) as usize },
            ResultSet::Sqlite(table) => table.rows(),
        }
    }
}

impl Drop for ResultSet<'_> {
    fn drop(&mut self) {
        let ResultSet::Driver { functions, connection, result, .. } = self else { return };
        if let Some(free) = functions.free_result {
            // SAFETY: a result of this connection, freed once.
            unsafe { free(*connection, *result) };
        }
    }
}

impl<'r> Fields<'r> {
    fn int(&self, column: usize) -> i64 {
        let number = match *self {
            Fields::Driver { .. } => self.driver_value(column).and_then(driver_int),
            Fields::Sqlite { fields, .. } => match fields[column] {
                sqlite::SqliteField::Int(number) => Some(number),
                sqlite::SqliteField::Null => Some(0),
                sqlite::SqliteField::Bytes(..) => None,
            },
        };
        number.or_else(|| std::str::from_utf8(self.bytes(column)).ok()?.trim().parse().ok()).unwrap_or(0)
    }

    fn bytes(&self, column: usize) -> &'r [u8] {
        match *self {
            Fields::Driver { empty, .. } => {
                let text: &'r [u8] = self.driver_value(column).map_or(&[], driver_bytes);
                if text == empty { &[] } else { text }
            }
            Fields::Sqlite { fields, bytes } => match fields[column] {
                sqlite::SqliteField::Bytes(from, to) => &bytes[from..to],
                sqlite::SqliteField::Int(_) | sqlite::SqliteField::Null => &[],
            },
        }
    }

    fn driver_value(&self, column: usize) -> Option<&'r sys::db_val_t> {
        let Fields::Driver { values, count, .. } = *self else { return None };
        assert!((column as i32) < count, "column {column} of {count}");
        // SAFETY: the index was checked; values live as long as the result.
        let value = unsafe { &*values.wrapping_add(column) };
        (value.nul == 0).then_some(value)
    }
}

#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one arm is taken, and the one argument is that of its union")]
fn driver_int(value: &sys::db_val_t) -> Option<i64> {
    // SAFETY: `type_` says which arm of the union is filled.
    unsafe {
        match value.type_ {
            sys::db_type_t_DB1_INT => Some(i64::from(value.val.int_val)),
            sys::db_type_t_DB1_UINT => Some(i64::from(value.val.uint_val)),
            sys::db_type_t_DB1_BIGINT => Some(value.val.ll_val),
            sys::db_type_t_DB1_UBIGINT => Some(value.val.ull_val as i64),
            sys::db_type_t_DB1_DATETIME => Some(value.val.time_val),
            sys::db_type_t_DB1_DOUBLE => Some(value.val.double_val as i64),
            _ => None,
        }
    }
}

#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one arm is taken, and the one argument is that of its union")]
fn driver_bytes(value: &sys::db_val_t) -> &[u8] {
    // SAFETY: `type_` says which arm of the union is filled; texts live as long as the value's result.
    unsafe {
        match value.type_ {
            sys::db_type_t_DB1_STRING => crate::host::bytes::c_text(value.val.string_val),
            sys::db_type_t_DB1_STR => view(&value.val.str_val),
            sys::db_type_t_DB1_BLOB => view(&value.val.blob_val),
            _ => &[],
        }
    }
}
