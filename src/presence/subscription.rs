//! A subscription: its dialog, its state, its strings in one block (private or shared).
use super::dialog::DialogId;
use super::event_package::PackageId;
use crate::shm_safe::{ShmSafe, shm_safe};
use crate::sip::checked::{Flaw, Token, UriText, Word, is_clean, most};
use crate::sip::columns::{LONG, SHORT, TAG, TEXT, fits};
use crate::sip::transport::Transport;

/// The state of a subscription (RFC 6665 4.1.2, RFC 3857 4.7.1), with stock's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The watcher gets the state.
    Active = 1,
    /// Nobody has decided yet.
    Pending = 2,
    /// It is over.
    Terminated = 3,
    /// It was pending when it ended.
    Waiting = 4,
}

shm_safe!(
    enum Status {
        Active,
        Pending,
        Terminated,
        Waiting,
    }
);

impl Status {
    /// The word in Subscription-State and in winfo documents.
    pub fn word(self) -> &'static [u8] {
        match self {
            Status::Active => b"active",
            Status::Pending => b"pending",
            Status::Terminated => b"terminated",
            Status::Waiting => b"waiting",
        }
    }

    /// The status with stock's number.
    pub fn from_number(number: i64) -> Option<Status> {
        [Status::Active, Status::Pending, Status::Terminated, Status::Waiting].into_iter().find(|s| *s as i64 == number)
    }
}

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
    const fn most(self) -> usize {
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
    const fn is_dispensable(self) -> bool {
        matches!(self, Field::Reason | Field::UserAgent | Field::LocalUri | Field::RemoteUri)
    }

    /// A string as this field takes it: empty instead of what a dialog can do without.
    fn checked(self, text: &[u8]) -> Result<&[u8], BadField> {
        if text.is_empty() {
            return Ok(text);
        }
        let flaw = match self {
            _ if text.len() > self.most() => Some(Flaw::TooLong(self.most())),
            Field::EventId => Token::new(text).err(),
            Field::ToTag | Field::FromTag | Field::CallId => Word::new(text).err(),
            Field::Contact | Field::LocalUri | Field::RemoteUri => UriText::new(text).err(),
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

/// What has to be done to the row of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// The row is as the memory is.
    Clean,
    /// There is no row yet.
    Insert,
    /// The row is older than the memory.
    Update,
    /// Another node has or had a row of it.
    Replace,
}

shm_safe!(
    enum RowState {
        Clean,
        Insert,
        Update,
        Replace,
    }
);

/// The numbers of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionState {
    /// The event package.
    pub event: PackageId,
    /// The state.
    pub status: Status,
    /// When it ends, in seconds since 1970.
    pub expires_at: i64,
    /// One less than the CSeq of the last NOTIFY.
    pub local_cseq: u32,
    /// The CSeq of the last SUBSCRIBE.
    pub remote_cseq: u32,
    /// The version of the last document.
    pub version: u32,
    /// Flags of the message that made it.
    pub flags: u32,
    /// Column `updated`: the notifier that has to act, or -1.
    pub updated: i32,
    /// Column `updated_winfo`.
    pub updated_winfo: i32,
    /// When it began; 0: unknown, it was read from its row.
    pub since: i64,
    /// When it was refreshed last, or began.
    pub refreshed_at: i64,
    /// What the row needs.
    pub row_state: RowState,
    /// How its last SUBSCRIBE came in; unknown: it was read from its row.
    pub transport: Transport,
}

shm_safe!(SubscriptionState {
    event,
    status,
    expires_at,
    local_cseq,
    remote_cseq,
    version,
    flags,
    updated,
    updated_winfo,
    since,
    refreshed_at,
    row_state,
    transport
});

impl SubscriptionState {
    /// Those of a subscription to which nothing has happened.
    pub fn new(event: PackageId, status: Status) -> SubscriptionState {
        SubscriptionState {
            event,
            status,
            expires_at: 0,
            local_cseq: 0,
            remote_cseq: 0,
            version: 0,
            flags: 0,
            updated: -1,
            updated_winfo: -1,
            since: 0,
            refreshed_at: 0,
            row_state: RowState::Clean,
            transport: Transport::Unknown,
        }
    }
}

/// A subscription whose strings are in `B`: a private block, or one in shared memory.
#[derive(Debug, Clone)]
pub struct Subscription<B = Box<[u8]>> {
    /// The numbers.
    pub state: SubscriptionState,
    ends: [u16; FIELDS],
    bytes: B,
}

shm_safe!([B: ShmSafe] Subscription<B> { state, ends, bytes });

/// A string of a subscription that no subscription can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {} {flaw}", .field.name())]
pub struct BadField {
    /// Which one.
    pub field: Field,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl Subscription {
    /// Packs numbers and strings. Strings that are too long, or that would break a message they are written into, are
    /// refused, so that whatever is a subscription can be changed, written and sent; those a dialog can do without are
    /// left out.
    ///
    /// # Errors
    ///
    /// Fails when a string is too long or has bytes that may not be in a message; one that a dialog can do without is
    /// no failure.
    pub fn new(state: SubscriptionState, fields: &[&[u8]; FIELDS]) -> Result<Self, BadField> {
        let mut taken = *fields;
        for (text, field) in taken.iter_mut().zip(Field::ALL) {
            *text = field.checked(text)?;
        }
        Ok(Subscription::packed(state, &taken))
    }

    fn packed(state: SubscriptionState, fields: &[&[u8]; FIELDS]) -> Self {
        let mut bytes = Vec::with_capacity(fields.iter().map(|f| f.len()).sum());
        let mut ends = [0; FIELDS];
        for (end, field) in ends.iter_mut().zip(fields) {
            if !field.is_empty() {
                bytes.extend_from_slice(field);
            }
            // Within their bounds all of them fit.
            *end = bytes.len() as u16;
        }
        Subscription { state, ends, bytes: bytes.into_boxed_slice() }
    }
}

impl Subscription {
    /// A subscription of whose strings these are given; the others are empty.
    ///
    /// # Errors
    ///
    /// Fails as [`Subscription::new`] does.
    pub fn from_fields(state: SubscriptionState, given: &[(Field, &[u8])]) -> Result<Self, BadField> {
        let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
        for (field, value) in given {
            fields[*field as usize] = value;
        }
        Subscription::new(state, &fields)
    }

    /// A subscription of whose strings these are given. `checked` holds our own tag and strings of the types in
    /// `sip::checked` that belong to their fields, and is taken as it is; `others` is checked here.
    ///
    /// # Errors
    ///
    /// Fails when a string of `others` is too long or has bytes that may not be in a message.
    #[inline]
    pub fn of_checked(
        state: SubscriptionState,
        checked: &[(Field, &[u8])],
        others: &[(Field, &[u8])],
    ) -> Result<Self, BadField> {
        let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
        for (field, value) in checked {
            debug_assert_eq!(field.checked(value), Ok(*value));
            fields[*field as usize] = value;
        }
        for (field, value) in others {
            fields[*field as usize] = field.checked(value)?;
        }
        Ok(Subscription::packed(state, &fields))
    }

    /// A watcher as its package is asked about it: a subscription without a dialog, of whose strings these are given.
    ///
    /// # Errors
    ///
    /// Fails as [`Subscription::new`] does.
    pub fn without_dialog(event: PackageId, status: Status, given: &[(Field, &[u8])]) -> Result<Self, BadField> {
        Subscription::from_fields(SubscriptionState::new(event, status), given)
    }
}

impl<B: AsRef<[u8]>> Subscription<B> {
    /// One of its strings.
    pub fn get(&self, field: Field) -> &[u8] {
        let index = field as usize;
        let start = if index == 0 { 0 } else { usize::from(self.ends[index - 1]) };
        &self.bytes.as_ref()[start..usize::from(self.ends[index])]
    }

    /// All its strings.
    pub fn fields(&self) -> [&[u8]; FIELDS] {
        let mut all: [&[u8]; FIELDS] = [&[]; FIELDS];
        let mut start = 0;
        for (slot, end) in all.iter_mut().zip(self.ends) {
            *slot = &self.bytes.as_ref()[start..usize::from(end)];
            start = usize::from(end);
        }
        all
    }

    /// The same subscription with its strings copied by `copy`.
    ///
    /// # Errors
    ///
    /// Fails when `copy` fails.
    pub fn map<C, E>(&self, copy: impl FnOnce(&[u8]) -> Result<C, E>) -> Result<Subscription<C>, E> {
        Ok(Subscription { state: self.state, ends: self.ends, bytes: copy(self.bytes.as_ref())? })
    }

    /// A private copy.
    pub fn to_private(&self) -> Subscription {
        Subscription { state: self.state, ends: self.ends, bytes: self.bytes.as_ref().into() }
    }

    /// The same with some strings replaced.
    ///
    /// # Errors
    ///
    /// Fails when one of the new strings is too long or has bytes that may not be in a message.
    pub fn with(&self, changes: &[(Field, &[u8])]) -> Result<Subscription, BadField> {
        let mut fields = self.fields();
        for (field, value) in changes {
            fields[*field as usize] = field.checked(value)?;
        }
        Ok(Subscription::packed(self.state, &fields))
    }

    /// The same with what a SUBSCRIBE in its dialog brings along.
    ///
    /// # Errors
    ///
    /// Fails when the local contact or the User-Agent is too long or has bytes that may not be in a message.
    pub fn renewed(
        &self,
        contact: UriText<'_>,
        local_contact: &[u8],
        user_agent: &[u8],
    ) -> Result<Subscription, BadField> {
        let is_known = self.get(Field::Contact) == contact.bytes()
            && self.get(Field::LocalContact) == local_contact
            && self.get(Field::UserAgent) == user_agent;
        if is_known {
            return Ok(self.to_private());
        }
        let mut fields = self.fields();
        fields[Field::Contact as usize] = contact.bytes();
        fields[Field::LocalContact as usize] = Field::LocalContact.checked(local_contact)?;
        fields[Field::UserAgent as usize] = Field::UserAgent.checked(user_agent)?;
        Ok(Subscription::packed(self.state, &fields))
    }

    /// The dialog it lives in.
    pub fn dialog(&self) -> DialogId<'_> {
        DialogId {
            call_id: self.get(Field::CallId),
            to_tag: self.get(Field::ToTag),
            from_tag: self.get(Field::FromTag),
        }
    }

    /// How requests to the watcher are sent.
    pub fn transport(&self) -> Transport {
        match self.state.transport {
            Transport::Unknown => Transport::of_dialog(self.get(Field::Socket), self.get(Field::Contact)),
            known => known,
        }
    }

    /// Appends our URI in the dialog: that of its first request (RFC 3261 12.2.1.1), as far as it is known.
    pub fn push_local_uri(&self, out: &mut Vec<u8>) {
        self.push_dialog_uri(out, Field::LocalUri, Field::ToUser, Field::ToDomain);
    }

    /// Appends the watcher's URI in the dialog, likewise.
    pub fn push_remote_uri(&self, out: &mut Vec<u8>) {
        self.push_dialog_uri(out, Field::RemoteUri, Field::FromUser, Field::FromDomain);
    }

    fn push_dialog_uri(&self, out: &mut Vec<u8>, whole: Field, user: Field, host: Field) {
        match (self.get(whole), self.get(user), self.get(host)) {
            (b"", user, b"") => [b"tel:", user].iter().for_each(|part| out.extend_from_slice(part)),
            (b"", user, host) => crate::sip::uri::push(out, user, host),
            (whole, ..) => out.extend_from_slice(whole),
        }
    }

    /// The watcher's URI in the dialog.
    pub fn remote_uri(&self) -> Vec<u8> {
        let mut uri = Vec::new();
        self.push_remote_uri(&mut uri);
        uri
    }

    /// Whether a change of the presentity's state is announced to the watcher: to nobody who may not see the state (RFC
    /// 5025 3.2.1: polite blocking must not be noticed), and to nobody whose time is over. SUBSCRIBEs, changes of the
    /// authorization and the end are answered all the same.
    pub fn hears_changes(&self, now: i64) -> bool {
        self.state.status == Status::Active && self.get(Field::Reason).is_empty() && self.state.expires_at >= now
    }

    /// `sip:user@domain` of the watcher.
    pub fn watcher_uri(&self) -> Vec<u8> {
        crate::sip::uri::join(self.get(Field::WatcherUser), self.get(Field::WatcherDomain))
    }
}

/// What a SUBSCRIBE in a dialog changes.
#[derive(Debug, Clone, Copy)]
pub struct Renewal<'a> {
    /// When the subscription ends from now on.
    pub expires_at: i64,
    /// Its CSeq.
    pub remote_cseq: u32,
    /// Its Contact.
    pub contact: &'a [u8],
    /// The socket it came in on.
    pub socket: &'a [u8],
    /// How it came in.
    pub transport: Transport,
    /// Our Contact there.
    pub local_contact: &'a [u8],
}

impl<'a> Renewal<'a> {
    /// The strings it changes in a subscription. The route set of a dialog stays what its first request made it (RFC
    /// 3261 12.2).
    pub fn changes(&self) -> Vec<(Field, &'a [u8])> {
        vec![(Field::Contact, self.contact), (Field::LocalContact, self.local_contact), (Field::Socket, self.socket)]
    }
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

/// The string for which a database is likely to have refused the row of a subscription: the first that its column does
/// not take in every database, else one with characters that not every character set has. A User-Agent is written in a
/// form that fits.
pub fn misfit(subscription: &Subscription) -> Option<Field> {
    let in_row = || Field::ALL.into_iter().take(STORED_FIELDS).filter(|field| *field != Field::UserAgent);
    let too_long = in_row().find(|field| !fits(subscription.get(*field), room_of(*field)));
    too_long.or_else(|| in_row().find(|field| !subscription.get(*field).is_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tab_belongs_to_a_user_agent_and_to_no_other_string() {
        assert_eq!(Field::UserAgent.checked(b"a\tb"), Ok(b"a\tb".as_slice()));
        assert_eq!(Field::UserAgent.checked(b"a\x01b"), Ok(b"".as_slice()));
        assert!(Field::Contact.checked(b"sip:a\t@b").is_err());
    }

    pub(crate) fn state() -> SubscriptionState {
        SubscriptionState {
            expires_at: 100,
            remote_cseq: 1,
            row_state: RowState::Insert,
            ..SubscriptionState::new(PackageId(0), Status::Active)
        }
    }

    #[test]
    fn strings_come_back_as_they_went_in() {
        let texts: Vec<String> = (0..FIELDS).map(|i| "x".repeat(i)).collect();
        let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
        for (slot, text) in fields.iter_mut().zip(&texts) {
            *slot = text.as_bytes();
        }
        let subscription = Subscription::new(state(), &fields).unwrap();
        assert_eq!(subscription.fields(), fields);
        let changed = subscription.with(&[(Field::Contact, b"sip:new@host")]).unwrap();
        assert_eq!(changed.get(Field::Contact), b"sip:new@host");
        assert_eq!(changed.get(Field::UserAgent), fields[Field::UserAgent as usize]);
    }

    fn with_text(field: Field, text: &[u8]) -> Result<Subscription, BadField> {
        let mut fields: [&[u8]; FIELDS] = [b"x"; FIELDS];
        fields[field as usize] = text;
        Subscription::new(state(), &fields)
    }

    #[test]
    fn too_much_text_is_refused() {
        for field in Field::ALL.into_iter().filter(|field| !field.is_dispensable()) {
            for length in [field.most() + 1, 65_530, 70_000, 200_000] {
                let flaw = Flaw::TooLong(field.most());
                assert_eq!(with_text(field, &vec![b'x'; length]).unwrap_err(), BadField { field, flaw });
            }
            assert_eq!(with_text(field, b"a\rb").unwrap_err(), BadField { field, flaw: Flaw::Control });
        }
    }

    #[test]
    fn what_a_dialog_can_do_without_is_left_out() {
        for field in Field::ALL.into_iter().filter(|field| field.is_dispensable()) {
            for text in [vec![b'x'; 70_000], b"a\0b".to_vec()] {
                let subscription = with_text(field, &text).unwrap();
                assert_eq!(subscription.get(field), b"");
                assert_eq!(subscription.get(Field::CallId), b"x");
            }
        }
    }

    #[test]
    fn the_fullest_subscription_can_still_be_changed() {
        let texts: Vec<Vec<u8>> = Field::ALL.iter().map(|field| vec![b'x'; field.most()]).collect();
        let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
        for (slot, text) in fields.iter_mut().zip(&texts) {
            *slot = text;
        }
        let full = Subscription::new(state(), &fields).unwrap();
        assert_eq!(full.fields(), fields);
        for field in Field::ALL {
            assert!(full.with(&[(field, b"rejected")]).is_ok());
        }
    }
}
