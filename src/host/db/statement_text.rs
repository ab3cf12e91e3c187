//! Statements as the drivers of MariaDB, MySQL and PostgreSQL print them, byte by byte. The host prints with a call of
//! `snprintf` for each column, which is a quarter of what a statement costs; what needs no escaping is printed here.
use crate::host::db::value::{Cell, Cond, Op, Value, int_of, time_of};

/// A text that means the same in quotes whatever the database's settings and character set are. All of it is looked at:
/// without an end before its last byte that is done in blocks.
fn is_plain(text: &[u8]) -> bool {
    let has_meaning = |c: u8| !(b' '..0x7f).contains(&c) | (c == b'\'') | (c == b'\\');
    !text.iter().fold(false, |seen, c| seen | has_meaning(*c))
}

/// Appends the decimal digits of `number`.
fn push_number(out: &mut Vec<u8>, number: i64) {
    let (mut digits, mut start, mut rest) = ([0; 20], 20, number.unsigned_abs());
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends two hexadecimal digits for each byte.
fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let start = out.len();
    out.resize(start + 2 * bytes.len(), b'0');
    for (place, byte) in out[start..].chunks_exact_mut(2).zip(bytes) {
        (place[0], place[1]) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
    }
}

/// How documents stand in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentPrinting {
    /// In hexadecimal digits, as PostgreSQL reads them.
    Hexadecimal,
    /// As the driver escapes them.
    ByDriver,
}

/// A statement that is being printed. A NUL follows each, which is no part of it: drivers look for one.
pub(super) struct StatementText<'q> {
    /// What names of tables and columns are put in.
    quote: &'q [u8],
    documents: DocumentPrinting,
    text: Vec<u8>,
}

impl<'q> StatementText<'q> {
    /// Where names are quoted like this.
    pub(super) fn new(quote: &'q [u8], documents: DocumentPrinting) -> Self {
        StatementText { quote, documents, text: Vec::with_capacity(1024) }
    }

    /// `SELECT`. `None`, here and below: a value has to be escaped by the driver.
    pub(super) fn select(
        mut self,
        table: &[u8],
        columns: &[&str],
        conditions: &[Cond<'_>],
        order: Option<&[u8]>,
    ) -> Option<Vec<u8>> {
        self.push(b"select ");
        self.names(columns.iter().map(|column| column.as_bytes()));
        self.push(b" from ");
        self.name(table);
        self.push(b" ");
        self.conditions(b"where ", conditions)?;
        if let Some(order) = order {
            self.push(b" order by ");
            self.push(order);
        }
        Some(self.ended())
    }

    /// `INSERT`.
    pub(super) fn insert(mut self, table: &[u8], cells: &[Cell<'_>]) -> Option<Vec<u8>> {
        self.push(b"insert into ");
        self.name(table);
        self.push(b" (");
        self.names(cells.iter().map(|(column, _)| column.as_bytes()));
        self.push(b" ) values (");
        for (at, (_, value)) in cells.iter().enumerate() {
            self.push(if at == 0 { b"" } else { b"," });
            self.value(value)?;
        }
        self.push(b")");
        Some(self.ended())
    }

    /// `UPDATE`.
    pub(super) fn update(mut self, table: &[u8], cells: &[Cell<'_>], conditions: &[Cond<'_>]) -> Option<Vec<u8>> {
        self.push(b"update ");
        self.name(table);
        self.push(b" set ");
        for (at, (column, value)) in cells.iter().enumerate() {
            self.push(if at == 0 { b"" } else { b"," });
            self.name(column.as_bytes());
            self.push(b"=");
            self.value(value)?;
        }
        self.conditions(b" where ", conditions)?;
        Some(self.ended())
    }

    /// `DELETE`.
    pub(super) fn delete(mut self, table: &[u8], conditions: &[Cond<'_>]) -> Option<Vec<u8>> {
        self.push(b"delete from ");
        self.name(table);
        self.conditions(b" where ", conditions)?;
        Some(self.ended())
    }

    fn ended(mut self) -> Vec<u8> {
        self.text.push(0);
        self.text
    }

    fn push(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    fn name(&mut self, name: &[u8]) {
        self.push(self.quote);
        self.push(name);
        self.push(self.quote);
    }

    fn names<'n>(&mut self, names: impl Iterator<Item = &'n [u8]>) {
        for (at, name) in names.enumerate() {
            self.push(if at == 0 { b"" } else { b"," });
            self.name(name);
        }
    }

    fn conditions(&mut self, first: &[u8], conditions: &[Cond<'_>]) -> Option<()> {
        for (at, (column, op, value)) in conditions.iter().enumerate() {
            self.push(if at == 0 { first } else { b" AND " });
            self.name(column.as_bytes());
            self.push(match op {
                Op::Eq => b"=",
                Op::Lt => b"<",
                Op::Le => b"<=",
                Op::Gt => b">",
            });
            self.value(value)?;
        }
        Some(())
    }

    fn value(&mut self, value: &Value<'_>) -> Option<()> {
        match *value {
            Value::Int(number) => push_number(&mut self.text, int_of(number).into()),
            Value::Time(time) => push_number(&mut self.text, time_of(time).into()),
            Value::Long(number) => push_number(&mut self.text, number),
            Value::Text(text) | Value::Optional(text) if is_plain(text) => {
                self.push(b"'");
                self.push(text);
                self.push(b"'");
            }
            Value::NullText => self.push(b"NULL"),
            // Read alike whatever `standard_conforming_strings` says, and whether the driver is connected or not.
            Value::Blob(bytes) if self.documents == DocumentPrinting::Hexadecimal => {
                self.push(b"E'\\\\x");
                push_hex(&mut self.text, bytes);
                self.push(b"'");
            }
            Value::Text(_) | Value::Optional(_) | Value::Blob(_) => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Expiry, Moment};

    fn printed(statement: Option<Vec<u8>>) -> Option<String> {
        let text = String::from_utf8(statement?).unwrap();
        Some(text.strip_suffix('\0').unwrap().to_owned())
    }

    /// As `db_print_columns` and its like in `lib/srdb1/db_ut.c` do.
    #[test]
    fn statements_are_printed_as_by_the_host() {
        let cells = [
            ("a", Value::Int(-7)),
            ("b", Value::Text(b"x y")),
            ("c", Value::NullText),
            ("d", Value::Optional(b"")),
            ("e", Value::Time(Expiry::Never)),
            ("f", Value::Long(1 << 40)),
        ];
        let conditions = [("a", Op::Eq, Value::Int(1)), ("b", Op::Le, Value::Text(b""))];
        let new = || StatementText::new(b"`", DocumentPrinting::ByDriver);
        assert_eq!(
            printed(new().select(b"t", &["a", "b"], &conditions, Some(b"a desc"))).as_deref(),
            Some("select `a`,`b` from `t` where `a`=1 AND `b`<='' order by a desc")
        );
        assert_eq!(
            printed(StatementText::new(b"", DocumentPrinting::ByDriver).select(b"t", &["a"], &[], None)).as_deref(),
            Some("select a from t ")
        );
        assert_eq!(
            printed(new().insert(b"t", &cells)).as_deref(),
            Some("insert into `t` (`a`,`b`,`c`,`d`,`e`,`f` ) values (-7,'x y',NULL,'',-1,1099511627776)")
        );
        assert_eq!(
            printed(new().update(b"t", &cells[..3], &conditions[..1])).as_deref(),
            Some("update `t` set `a`=-7,`b`='x y',`c`=NULL where `a`=1")
        );
        assert_eq!(
            printed(StatementText::new(b"", DocumentPrinting::ByDriver).delete(b"t", &conditions)).as_deref(),
            Some("delete from t where a=1 AND b<=''")
        );
    }

    #[test]
    fn what_has_to_be_escaped_is_left_to_the_driver() {
        for text in ["it's", "a\\b", "a\nb", "\u{e4}", "\0", "\u{7f}"] {
            let value = Value::Text(text.as_bytes());
            assert_eq!(
                StatementText::new(b"", DocumentPrinting::ByDriver).insert(b"t", &[("a", value)]),
                None,
                "{text:?}"
            );
            assert_eq!(StatementText::new(b"", DocumentPrinting::ByDriver).delete(b"t", &[("a", Op::Eq, value)]), None);
            assert_eq!(StatementText::new(b"", DocumentPrinting::ByDriver).update(b"t", &[("a", value)], &[]), None);
            assert_eq!(
                StatementText::new(b"", DocumentPrinting::ByDriver).select(b"t", &["b"], &[("a", Op::Eq, value)], None),
                None
            );
        }
        assert_eq!(StatementText::new(b"", DocumentPrinting::ByDriver).insert(b"t", &[("a", Value::Blob(b"x"))]), None);
    }

    #[test]
    fn bodies_are_printed_for_postgresql() {
        let body = Value::Blob(b"<a>\n\xff\0'\\");
        let insert = || {
            StatementText::new(b"", DocumentPrinting::Hexadecimal).insert(b"t", &[("a", Value::Int(1)), ("b", body)])
        };
        assert_eq!(printed(insert()).as_deref(), Some("insert into t (a,b ) values (1,E'\\\\x3c613e0aff00275c')"));
        let update =
            StatementText::new(b"", DocumentPrinting::Hexadecimal).update(b"t", &[("b", Value::Blob(b""))], &[]);
        assert_eq!(printed(update).as_deref(), Some("update t set b=E'\\\\x'"));
    }

    #[test]
    fn numbers_are_those_of_the_columns() {
        let number = |value| {
            printed(StatementText::new(b"", DocumentPrinting::ByDriver).update(b"t", &[("a", value)], &[])).unwrap()
        };
        assert_eq!(number(Value::Int(u32::MAX.into())), "update t set a=-1");
        assert_eq!(number(Value::Time(Moment::at(1 << 40).into())), "update t set a=2147483647");
        assert_eq!(number(Value::Int(0)), "update t set a=0");
        for long in [i64::MAX, i64::MIN] {
            assert_eq!(number(Value::Long(long)), format!("update t set a={long}"));
        }
    }
}
