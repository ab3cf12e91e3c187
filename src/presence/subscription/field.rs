//! The strings of a subscription: which there are, what each may be, and how much room it has.
use crate::sip::checked::{Flaw, Token, UriText, Word, is_clean, most};
use crate::sip::columns::{LONG, SHORT, TAG, TEXT};

/// The strings of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
#[repr(u8)]
pub enum Field {
    PresUri,
    ToUser,
    ToDomain,
    FromUser,
    FromDomain,
    WatcherUser,
    WatcherDomain,
    EventId,
    ToTag,
    FromTag,
    CallId,
    Socket,
    Contact,
    LocalContact,
    RecordRoute,
    Reason,
    UserAgent,
    /// The To URI of the first SUBSCRIBE where `sip:user@domain` is not the same; the table has no column for it.
    LocalUri,
    /// The From URI of the first SUBSCRIBE, likewise.
    RemoteUri,
}

/// How many [`Field`]s there are.
pub const FIELDS: usize = 19;

/// How many of them, the first ones, have a column in `active_watchers`.
pub const STORED_FIELDS: usize = 17;

impl Field {
    /// The fields in their order.
    pub const ALL: [Field; FIELDS] = [
        Field::PresUri,
        Field::ToUser,
        Field::ToDomain,
        Field::FromUser,
        Field::FromDomain,
        Field::WatcherUser,
        Field::WatcherDomain,
        Field::EventId,
        Field::ToTag,
        Field::FromTag,
        Field::CallId,
        Field::Socket,
        Field::Contact,
        Field::LocalContact,
        Field::RecordRoute,
        Field::Reason,
        Field::UserAgent,
        Field::LocalUri,
        Field::RemoteUri,
    ];

    /// How many bytes it may have. All of them together always fit the block of a subscription, so that whatever is
    /// changed later (reason, Contact, route set) has its room.
    pub(crate) const fn most(self) -> usize {
        match self {
            Field::PresUri => "sip:@".len() + most::USER + most::HOST,
            Field::ToUser | Field::FromUser | Field::WatcherUser => most::USER,
            Field::ToDomain | Field::FromDomain | Field::WatcherDomain => most::HOST,
            Field::EventId | Field::Socket | Field::Reason | Field::UserAgent => most::TOKEN,
            Field::ToTag | Field::FromTag | Field::CallId => most::WORD,
            Field::Contact | Field::LocalContact | Field::LocalUri | Field::RemoteUri => most::URI,
            Field::RecordRoute => most::ROUTES,
        }
    }

    /// Whether the dialog goes on without it: it is shown, or made up for.
    pub(crate) const fn is_dispensable(self) -> bool {
        matches!(self, Field::Reason | Field::UserAgent | Field::LocalUri | Field::RemoteUri)
    }

    /// A string as this field takes it: empty instead of what a dialog can do without.
    ///
    /// # Errors
    ///
    /// Fails when the string is longer than the field takes, or has a form that it cannot have.
    pub(crate) fn checked(self, text: &[u8]) -> Result<&[u8], BadField> {
        if text.is_empty() {
            return Ok(text);
        }
        let flaw = match self {
            _ if text.len() > self.most() => Some(Flaw::TooLong(self.most())),
            Field::EventId => Token::new(text).err(),
            Field::ToTag | Field::FromTag | Field::CallId => Word::new(text).err(),
            Field::Contact => UriText::of_contact(text).err(),
            Field::LocalUri | Field::RemoteUri => UriText::new(text).err(),
            // A tab between its words is white space (RFC 3261 20.41, 25.1), and the text is only shown.
            Field::UserAgent => {
                text.split(|byte| *byte == b'\t').any(|words| !is_clean(words)).then_some(Flaw::Control)
            }
            _ => (!is_clean(text)).then_some(Flaw::Control),
        };
        match flaw {
            None => Ok(text),
            Some(_) if self.is_dispensable() => Ok(b""),
            Some(flaw) => Err(BadField { field: self, flaw }),
        }
    }

    /// What a string is called in a log line.
    pub fn name(self) -> &'static str {
        match self {
            Field::PresUri => "presentity",
            Field::ToUser | Field::ToDomain | Field::LocalUri => "To",
            Field::FromUser | Field::FromDomain | Field::RemoteUri => "From",
            Field::WatcherUser | Field::WatcherDomain => "watcher",
            Field::EventId => "event id",
            Field::ToTag => "To tag",
            Field::FromTag => "From tag",
            Field::CallId => "Call-ID",
            Field::Socket => "socket",
            Field::Contact => "Contact",
            Field::LocalContact => "our Contact",
            Field::RecordRoute => "Record-Route",
            Field::Reason => "reason",
            Field::UserAgent => "User-Agent",
        }
    }
}

const _: () = {
    let (mut at, mut sum) = (0, 0);
    while at < FIELDS {
        assert!(Field::ALL[at] as usize == at);
        sum += Field::ALL[at].most();
        at += 1;
    }
    assert!(sum <= u16::MAX as usize, "the strings of a subscription have to fit its block");
};

/// A string of a subscription that no subscription can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {} {flaw}", .field.name())]
pub struct BadField {
    /// The field that is flawed.
    pub field: Field,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// How many characters the column of a subscription's field holds.
pub const fn room_of(field: Field) -> usize {
    match field {
        // They have no column.
        Field::LocalUri | Field::RemoteUri => usize::MAX,
        Field::PresUri | Field::CallId | Field::Contact | Field::LocalContact | Field::UserAgent => LONG,
        Field::ToTag | Field::FromTag => TAG,
        Field::RecordRoute => TEXT,
        Field::ToUser
        | Field::ToDomain
        | Field::FromUser
        | Field::FromDomain
        | Field::WatcherUser
        | Field::WatcherDomain
        | Field::EventId
        | Field::Socket
        | Field::Reason => SHORT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::columns::ACTIVE_WATCHERS;

    #[test]
    fn a_tab_belongs_to_a_user_agent_and_to_no_other_string() {
        assert_eq!(Field::UserAgent.checked(b"a\tb"), Ok(b"a\tb".as_slice()));
        assert_eq!(Field::UserAgent.checked(b"a\x01b"), Ok(b"".as_slice()));
        assert!(Field::Contact.checked(b"sip:a\t@b").is_err());
    }

    #[test]
    fn the_fields_have_the_room_of_their_columns() {
        let room = |name| ACTIVE_WATCHERS.iter().find(|column| column.name == name).map(|column| column.room);
        assert_eq!(room("event_id"), Some(room_of(Field::EventId)));
        assert_eq!(room("callid"), Some(room_of(Field::CallId)));
        assert_eq!(room("contact"), Some(room_of(Field::Contact)));
        assert_eq!(room("to_tag"), Some(room_of(Field::ToTag)));
    }
}
