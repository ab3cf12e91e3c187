//! What a database with columns of limited length takes of a publication, and the answer to what it does not take.
use crate::presence::error::{Failure, StoreError};
use crate::sip::columns::{self, LONG, SHORT};

/// When the row of a publication is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicationRows {
    /// There are no rows.
    None,
    /// Before the PUBLISH is answered.
    AtOnce,
    /// After it was answered (`publ_update_period`).
    Later,
}

impl PublicationRows {
    /// Whether the row of the publication with this record id is written later. It is found by the id then: a row that
    /// was made without one is changed at once.
    pub fn waits(self, ruid: &[u8]) -> bool {
        self == PublicationRows::Later && !ruid.is_empty()
    }

    /// Whether the publication with this record id has a row that is written at once.
    pub fn has_at_once(self, ruid: &[u8]) -> bool {
        self != PublicationRows::None && !self.waits(ruid)
    }
}

/// What a database that limits its texts takes, see [`columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLimits {
    /// The longest body that is taken for certain, in bytes.
    pub longest_body: usize,
    /// When rows of publications are written.
    pub rows: PublicationRows,
}

/// What a PUBLISH brings into a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Brought<'a> {
    /// User part of the presentity.
    pub user: &'a [u8],
    /// Host part of the presentity.
    pub domain: &'a [u8],
    /// The Contact that is not to be notified.
    pub sender: &'a [u8],
    /// The length of the body, in bytes.
    pub body_length: usize,
}

impl RowLimits {
    /// What of a PUBLISH has no place in a row for certain.
    fn misfit(&self, new: &Brought<'_>) -> Option<Failure> {
        let strings = [("user", new.user, SHORT), ("domain", new.domain, SHORT), ("sender", new.sender, LONG)];
        let unfit = strings.into_iter().find(|(_, value, room)| !columns::fits(value, *room));
        if let Some((name, value, room)) = unfit {
            return Some(Failure::bad_request(format!("the {name} {}", columns::flaw_of(value, room))));
        }
        let (length, longest) = (new.body_length, self.longest_body);
        (length > longest).then(|| Failure::too_large_for_statement(length, longest))
    }

    /// Refuses what cannot be written later. A row that is written at once is tried: an administrator may have widened
    /// a column.
    ///
    /// # Errors
    ///
    /// Fails with 400 when a string does not fit its column, and with 413 when the body does not fit a statement.
    pub fn check(&self, new: &Brought<'_>) -> Result<(), Failure> {
        match self.rows {
            PublicationRows::Later => self.misfit(new).map_or(Ok(()), Err),
            PublicationRows::AtOnce | PublicationRows::None => Ok(()),
        }
    }

    /// The answer to a PUBLISH whose row could not be written.
    pub fn explain(&self, error: StoreError, new: &Brought<'_>) -> Failure {
        if error != StoreError::Refused {
            return error.into();
        }
        let strings = [("user", new.user, SHORT), ("sender", new.sender, LONG)];
        let foreign = || strings.into_iter().find(|(_, value, _)| !value.is_ascii());
        let of_character_set = |(name, value, room): (&str, &[u8], usize)| {
            Failure::bad_request(format!("the {name} {}", columns::flaw_of(value, room)))
        };
        self.misfit(new).or_else(|| foreign().map(of_character_set)).unwrap_or_else(|| error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(failure: Option<Failure>) -> Option<u16> {
        match failure? {
            Failure::Reject { code, .. } => Some(code),
            _ => None,
        }
    }

    #[test]
    fn what_has_no_place_is_named() {
        let limits = RowLimits { longest_body: 100, rows: PublicationRows::Later };
        let long = [b'x'; 65];
        let new = Brought { user: b"alice", domain: b"example.org", sender: b"", body_length: 100 };
        assert_eq!(limits.misfit(&new), None);
        assert_eq!(code(limits.misfit(&Brought { user: &long, ..new })), Some(400));
        assert_eq!(code(limits.misfit(&Brought { domain: &long, ..new })), Some(400));
        assert_eq!(code(limits.misfit(&Brought { sender: b"sip:caf\xe9", ..new })), Some(400));
        assert_eq!(code(limits.misfit(&Brought { body_length: 101, ..new })), Some(413));
    }
}
