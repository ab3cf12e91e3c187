//! A statement as bytes, its text and its values, which another process can carry out.
use crate::host::db::failure::DbError;
use crate::host::db::value::{Cond, Value, int_of, number_of};
use crate::host::sqlite::{SqliteConnection, Verb, sql, values_of};

/// How a value begins.
mod kind {
    pub(super) const NULL: u8 = 0;
    pub(super) const NUMBER: u8 = 1;
    pub(super) const TEXT: u8 = 2;
    pub(super) const BLOB: u8 = 3;
}

/// The bytes of a statement.
pub(crate) fn encode(table: &[u8], verb: Verb<'_>, conditions: &[Cond<'_>]) -> Vec<u8> {
    let mut to = Vec::with_capacity(512);
    push(&mut to, sql(table, verb, conditions).as_bytes());
    for value in values_of(verb, conditions) {
        match *value {
            Value::Int(n) => push_number(&mut to, i64::from(int_of(n))),
            Value::Time(n) => push_number(&mut to, number_of(n)),
            Value::Long(n) => push_number(&mut to, n),
            Value::NullText | Value::Optional([]) => to.push(kind::NULL),
            Value::Text(text) | Value::Optional(text) => push_bytes(&mut to, kind::TEXT, text),
            Value::Blob(blob) => push_bytes(&mut to, kind::BLOB, blob),
        }
    }
    to
}

fn push(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&(bytes.len() as u64).to_ne_bytes());
    to.extend_from_slice(bytes);
}

fn push_number(to: &mut Vec<u8>, number: i64) {
    to.push(kind::NUMBER);
    to.extend_from_slice(&number.to_ne_bytes());
}

fn push_bytes(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    to.push(kind);
    push(to, bytes);
}

/// The parts of an encoded statement that have not been read yet.
struct EncodedParts<'a>(&'a [u8]);

impl<'a> EncodedParts<'a> {
    fn word(&mut self) -> Option<[u8; 8]> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(*word)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(u64::from_ne_bytes(self.word()?)).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn value(&mut self) -> Option<Value<'a>> {
        let (kind, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match *kind {
            kind::NULL => Value::NullText,
            kind::NUMBER => Value::Long(i64::from_ne_bytes(self.word()?)),
            kind::TEXT => Value::Text(self.bytes()?),
            kind::BLOB => Value::Blob(self.bytes()?),
            _ => return None,
        })
    }
}

/// The text and the values of an encoded statement; `None` for bytes that [`encode`] has not made.
fn decode(statement: &[u8]) -> Option<(&str, Vec<Value<'_>>)> {
    let mut parts = EncodedParts(statement);
    let text = std::str::from_utf8(parts.bytes()?).ok()?;
    let mut values = Vec::with_capacity(32);
    while !parts.0.is_empty() {
        values.push(parts.value()?);
    }
    Some((text, values))
}

impl SqliteConnection {
    /// Carries out a statement that [`encode`] has made, in this process or in another one; returns how many rows it
    /// has touched.
    ///
    /// # Errors
    ///
    /// Fails when SQLite refuses the statement or a value of it, or cannot write.
    pub(crate) fn run_encoded(&self, statement: &[u8]) -> Result<i32, DbError> {
        let (text, values) = decode(statement).ok_or(DbError::Refused)?;
        self.run_text(text, &values)?;
        Ok(self.changes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::db::value::Op;
    use crate::time::Expiry;

    #[test]
    fn a_statement_comes_back_as_it_was() {
        let cells = [("a", Value::Text(b"x\0y")), ("b", Value::Blob(&[0xff; 300])), ("c", Value::Int(-1))];
        let more = [("d", Value::Optional(b"")), ("e", Value::Time(Expiry::Never)), ("f", Value::Long(1 << 40))];
        let row = [("g", Op::Eq, Value::Text(b"")), ("h", Op::Le, Value::Int((1 << 32) | 5))];
        let cells = [&cells[..], &more].concat();
        let encoded = encode(b"t", Verb::Update(&cells), &row);
        let (text, values) = decode(&encoded).unwrap();
        assert_eq!(text, "UPDATE t SET a=?,b=?,c=?,d=?,e=?,f=? WHERE g=? AND h<=?");
        let wanted = [
            Value::Text(b"x\0y"),
            Value::Blob(&[0xff; 300]),
            Value::Long(-1),
            Value::NullText,
            Value::Long(-1),
            Value::Long(1 << 40),
            Value::Text(b""),
            // Columns hold the lower 32 bits.
            Value::Long(5),
        ];
        assert_eq!(format!("{values:?}"), format!("{wanted:?}"));
        for length in 0..encoded.len() {
            // What was cut off is no statement, or one with fewer values, which SQLite then lacks.
            assert!(decode(&encoded[..length]).is_none_or(|(_, values)| values.len() < wanted.len()), "{length}");
        }
    }
}
