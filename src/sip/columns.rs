//! What the columns of Kamailio's standard tables hold (`presence-create.sql`, the same for every driver), in
//! characters. PostgreSQL and MariaDB refuse a row with a longer text; SQLite and db_text store it. An administrator
//! may have widened a column, so a value that does not fit here is not certain to be refused.
use super::byte_class::{kind, kinds_in};
use std::borrow::Cow;

/// A text column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextColumn {
    /// The column's name.
    pub name: &'static str,
    /// How many characters it holds at most.
    pub room: usize,
}

const fn column(name: &'static str, room: usize) -> TextColumn {
    TextColumn { name, room }
}

/// Characters in a `VARCHAR(64)`: users, domains, event names and ids, reasons, sockets.
pub const SHORT: usize = 64;
/// Characters in a `VARCHAR(128)`: tags and entity tags.
pub const TAG: usize = 128;
/// Characters in a `VARCHAR(255)`: URIs, Call-IDs, User-Agents.
pub const LONG: usize = 255;
/// Bytes in a `TEXT` of MariaDB, the smallest of all drivers: route sets, extra headers.
pub const TEXT: usize = 65_535;
/// Bytes in a `BLOB` of MariaDB, the smallest of all drivers: published documents.
pub const BODY: usize = 65_535;

/// The text columns of `active_watchers`.
pub const ACTIVE_WATCHERS: [TextColumn; 18] = [
    column("presentity_uri", LONG),
    column("watcher_username", SHORT),
    column("watcher_domain", SHORT),
    column("to_user", SHORT),
    column("to_domain", SHORT),
    column("from_user", SHORT),
    column("from_domain", SHORT),
    column("event", SHORT),
    column("event_id", SHORT),
    column("to_tag", TAG),
    column("from_tag", TAG),
    column("callid", LONG),
    column("contact", LONG),
    column("record_route", TEXT),
    column("reason", SHORT),
    column("socket_info", SHORT),
    column("local_contact", LONG),
    column("user_agent", LONG),
];

/// The text columns of `presentity`.
pub const PRESENTITY: [TextColumn; 6] = [
    column("username", SHORT),
    column("domain", SHORT),
    column("event", SHORT),
    column("etag", TAG),
    column("sender", LONG),
    column("ruid", SHORT),
];

/// The text columns of `watchers`.
pub const WATCHERS: [TextColumn; 5] = [
    column("presentity_uri", LONG),
    column("watcher_username", SHORT),
    column("watcher_domain", SHORT),
    column("event", SHORT),
    column("reason", SHORT),
];

/// The text columns of `pua`.
pub const PUA: [TextColumn; 11] = [
    column("pres_uri", LONG),
    column("pres_id", LONG),
    column("etag", TAG),
    column("tuple_id", SHORT),
    column("watcher_uri", LONG),
    column("call_id", LONG),
    column("to_tag", TAG),
    column("from_tag", TAG),
    column("contact", LONG),
    column("remote_contact", LONG),
    column("record_route", TEXT),
];

/// How many characters the column of this name holds; nothing for one that is not in the list.
pub const fn room(table: &[TextColumn], name: &str) -> usize {
    let mut at = 0;
    while at < table.len() {
        if are_equal(table[at].name.as_bytes(), name.as_bytes()) {
            return table[at].room;
        }
        at += 1;
    }
    0
}

const fn are_equal(a: &[u8], b: &[u8]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([first, a @ ..], [second, b @ ..]) => *first == *second && are_equal(a, b),
        _ => false,
    }
}

/// Whether a column of `room` characters takes a value in every database: no more characters than that, valid UTF-8,
/// no NUL.
pub fn fits(value: &[u8], room: usize) -> bool {
    is_text(value) && (value.len() <= room || characters(value) <= room)
}

/// What may be wrong with a value that a column of `room` characters did not take, as the end of a sentence.
pub fn flaw_of(value: &[u8], room: usize) -> &'static str {
    match (is_text(value), fits(value, room)) {
        (true, true) => "has characters that the character set of its database column does not hold",
        (true, false) => "is longer than its database column",
        (false, _) => "is not UTF-8, and its database column takes nothing else",
    }
}

/// Whether every database takes a value as a text: valid UTF-8 without NUL.
pub fn is_text(value: &[u8]) -> bool {
    // Only what is not ASCII has to be decoded.
    let found = kinds_in(value);
    found & kind::NUL == 0 && (found & kind::HIGH == 0 || std::str::from_utf8(value).is_ok())
}

fn characters(value: &[u8]) -> usize {
    // Continuation bytes do not begin a character.
    value.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// A User-Agent as its column has it: none from 255 bytes on, as the stock module stores none; bytes that no database
/// takes become question marks, for the text is only shown.
pub fn user_agent(value: &[u8]) -> Cow<'_, [u8]> {
    if value.len() >= LONG {
        return Cow::Borrowed(b"");
    }
    text_for_show(value)
}

/// A text that is only shown, in a form that every database takes: bytes that are not UTF-8, and NUL, become `?`.
pub fn text_for_show(value: &[u8]) -> Cow<'_, [u8]> {
    if is_text(value) {
        return Cow::Borrowed(value);
    }
    let mut shown = Vec::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        shown.extend(chunk.valid().bytes().map(|byte| if byte == 0 { b'?' } else { byte }));
        shown.resize(shown.len() + chunk.invalid().len(), b'?');
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_characters() {
        let umlauts = "\u{fc}".repeat(64);
        assert!(fits(umlauts.as_bytes(), SHORT));
        assert!(!fits(format!("{umlauts}x").as_bytes(), SHORT));
        assert!(fits(&[b'x'; 255], LONG) && !fits(&[b'x'; 256], LONG));
    }

    #[test]
    fn bytes_that_are_no_text_fit_nowhere() {
        assert!(!fits(b"caf\xe9", SHORT) && !fits(b"a\0b", SHORT) && fits(b"", SHORT));
    }

    #[test]
    fn a_user_agent_is_made_readable_or_left_out() {
        assert_eq!(user_agent(b"Phone/1.0").as_ref(), b"Phone/1.0");
        assert_eq!(user_agent(b"caf\xe9\0 \xc3\xbc").as_ref(), b"caf?? \xc3\xbc");
        assert_eq!(user_agent(&[b'x'; 254]).len(), 254);
        assert_eq!(user_agent(&[b'x'; 255]).len(), 0);
    }
}
