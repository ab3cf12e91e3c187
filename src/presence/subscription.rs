//! A subscription: its dialog, its state, its strings in one block (private or shared).
pub mod dialog;
pub(crate) mod fetch;
pub mod field;
pub mod refused_subscription;
pub mod seen;
pub mod subscribe;

use super::event_package::PackageId;
use crate::shm_safe::{ShmSafe, shm_safe};
use crate::sip::checked::UriText;
use crate::sip::columns::fits;
use crate::sip::packed::{Strings, in_one};
use crate::sip::party_uri::PartyUri;
use crate::sip::target::{self, NextHop};
use crate::sip::transport::Transport;
use crate::time::Moment;
use dialog::DialogId;
use field::{BadField, FIELDS, Field, STORED_FIELDS, room_of};
use std::convert::Infallible;

/// The state of a subscription (RFC 6665 4.1.2, RFC 3857 4.7.1), with stock's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The watcher gets the state.
    Active = 1,
    /// Nobody has decided yet.
    Pending = 2,
    /// The subscription has ended.
    Terminated = 3,
    /// The subscription was pending when it ended.
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
    /// When it ends.
    pub expires_at: Moment,
    /// One less than the CSeq of the last NOTIFY.
    pub local_cseq: u32,
    /// The CSeq of the last SUBSCRIBE.
    pub remote_cseq: u32,
    /// The version of the last document.
    pub version: u32,
    /// The branch flags of the SUBSCRIBE that began it.
    pub flags: u32,
    /// Column `updated`: the notifier that has to act, or -1.
    pub updated: i32,
    /// Column `updated_winfo`.
    pub updated_winfo: i32,
    /// When it began; unknown where it was read from its row.
    pub since: Option<Moment>,
    /// When it was refreshed last, or began; unknown as above.
    pub refreshed_at: Option<Moment>,
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
    /// The numbers of a subscription to which nothing has happened.
    pub fn new(event: PackageId, status: Status) -> SubscriptionState {
        SubscriptionState {
            event,
            status,
            expires_at: Moment::EPOCH,
            local_cseq: 0,
            remote_cseq: 0,
            version: 0,
            flags: 0,
            updated: -1,
            updated_winfo: -1,
            since: None,
            refreshed_at: None,
            row_state: RowState::Clean,
            transport: Transport::Unknown,
        }
    }
}

/// A subscription whose strings are in `B`: a private block, or one in shared memory.
#[derive(Debug, Clone)]
pub struct Subscription<B = Vec<u8>> {
    /// The numbers.
    pub state: SubscriptionState,
    strings: Strings<{ FIELDS - 1 }, B, u16>,
    hop: NextHop,
}

shm_safe!([B: ShmSafe] Subscription<B> { state, strings, hop });

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
        // Within their bounds all of them fit.
        let Ok(strings) = Strings::joined(fields, |strings| Ok::<_, Infallible>(in_one(strings)));
        Subscription { state, strings, hop: NextHop::Unread }
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

    /// The subscription's block, when it is not needed any more.
    pub fn into_block(self) -> Vec<u8> {
        self.strings.into_block()
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
        self.strings.get(field as usize)
    }

    /// All its strings.
    pub fn fields(&self) -> [&[u8]; FIELDS] {
        self.strings.all()
    }

    /// Whether all strings are those of another one.
    pub fn has_strings_of<C: AsRef<[u8]>>(&self, other: &Subscription<C>) -> bool {
        self.strings.are_those_of(&other.strings)
    }

    /// The same subscription with its strings copied by `copy`: one that is kept, with its next hop read.
    ///
    /// # Errors
    ///
    /// Fails when `copy` fails.
    pub fn map<C, E>(&self, copy: impl FnOnce(&[u8]) -> Result<C, E>) -> Result<Subscription<C>, E> {
        Ok(Subscription { state: self.state, hop: self.hop(), strings: self.strings.map(copy)? })
    }

    /// How many bytes its strings take together.
    pub fn size(&self) -> usize {
        self.strings.len()
    }

    /// A private copy.
    pub fn to_private(&self) -> Subscription {
        self.to_private_in(Vec::new())
    }

    /// A private copy in an empty block.
    pub fn to_private_in(&self, mut block: Vec<u8>) -> Subscription {
        let copy = |bytes: &[u8]| match block.capacity() {
            0 => Ok::<_, Infallible>(bytes.to_vec()),
            _ => {
                block.extend_from_slice(bytes);
                Ok(block)
            }
        };
        let Ok(strings) = self.strings.map(copy);
        Subscription { state: self.state, strings, hop: self.hop }
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
        let moves = changes.iter().any(|(field, _)| matches!(field, Field::Contact | Field::RecordRoute));
        let hop = if moves { NextHop::Unread } else { self.hop };
        Ok(Subscription { hop, ..Subscription::packed(self.state, &fields) })
    }

    /// The same with what a SUBSCRIBE in its dialog brings along; `None`: that is what it has.
    ///
    /// # Errors
    ///
    /// Fails when the local contact or the User-Agent is too long or has bytes that may not be in a message.
    pub fn renewed(
        &self,
        contact: UriText<'_>,
        local_contact: &[u8],
        user_agent: &[u8],
    ) -> Result<Option<Subscription>, BadField> {
        let is_known = self.get(Field::Contact) == contact.bytes()
            && self.get(Field::LocalContact) == local_contact
            && self.get(Field::UserAgent) == user_agent;
        if is_known {
            return Ok(None);
        }
        let mut fields = self.fields();
        fields[Field::Contact as usize] = contact.bytes();
        fields[Field::LocalContact as usize] = Field::LocalContact.checked(local_contact)?;
        fields[Field::UserAgent as usize] = Field::UserAgent.checked(user_agent)?;
        Ok(Some(Subscription::packed(self.state, &fields)))
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

    /// Our URI in the dialog: that of its first request (RFC 3261 12.2.1.1), as far as it is known.
    pub fn local_uri(&self) -> PartyUri<'_> {
        self.dialog_uri(Field::LocalUri, Field::ToUser, Field::ToDomain)
    }

    /// The watcher's URI in the dialog, likewise.
    pub fn remote_uri(&self) -> PartyUri<'_> {
        self.dialog_uri(Field::RemoteUri, Field::FromUser, Field::FromDomain)
    }

    fn dialog_uri(&self, whole: Field, user: Field, host: Field) -> PartyUri<'_> {
        match (self.get(whole), self.get(user), self.get(host)) {
            (b"", number, b"") => PartyUri::Number(number),
            (b"", user, host) => PartyUri::Address(user, host),
            (whole, ..) => PartyUri::Whole(whole),
        }
    }

    /// How NOTIFYs go (RFC 3261 12.2.1.1): by the route set, whose first route is the next hop, or to the Contact.
    pub fn hop(&self) -> NextHop {
        match self.hop {
            NextHop::Unread => NextHop::of(self.get(Field::RecordRoute), self.get(Field::Contact)),
            hop => hop,
        }
    }

    /// The name that has to be looked up before a NOTIFY can be sent.
    pub fn name_to_look_up(&self) -> Option<&[u8]> {
        match (self.hop(), self.get(Field::RecordRoute)) {
            (NextHop::Name { .. }, b"") => target::name_to_look_up(self.get(Field::Contact)),
            (NextHop::Name { .. }, routes) => target::name_to_look_up(routes),
            _ => None,
        }
    }

    /// Whether its authorization lets the watcher see the presentity's state: an active subscription with a reason is
    /// politely blocked (RFC 5025 3.2.1). A subscription keeps its authorization to its end.
    pub fn may_see(&self) -> bool {
        self.state.status == Status::Active && self.get(Field::Reason).is_empty()
    }

    /// Whether a change of the presentity's state is announced to the watcher: to nobody who may not see the state
    /// (polite blocking must not be noticed), and to nobody whose subscription has expired. SUBSCRIBEs, changes of the
    /// authorization and the end are answered all the same.
    pub fn is_notified_of_changes(&self, now: Moment) -> bool {
        self.may_see() && !self.is_over(now)
    }

    /// Whether it has expired: all that a NOTIFY can say of it from then on is that it is terminated.
    pub fn is_over(&self, now: Moment) -> bool {
        self.state.expires_at <= now
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
    pub expires_at: Moment,
    /// The request's CSeq.
    pub remote_cseq: u32,
    /// The request's Contact.
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

    /// Returns the fields that are the watcher's: the others say where this node listens.
    pub fn of_watcher(&self) -> Vec<(Field, &'a [u8])> {
        vec![(Field::Contact, self.contact)]
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
    use crate::sip::checked::Flaw;

    pub(crate) fn state() -> SubscriptionState {
        SubscriptionState {
            expires_at: Moment::at(100),
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
        for field in Field::ALL {
            for text in ["", "y", "yyyyyyyyyyyyyyyyyyyyyyyyyy"] {
                let mut wanted = fields;
                wanted[field as usize] = text.as_bytes();
                assert_eq!(subscription.with(&[(field, text.as_bytes())]).unwrap().fields(), wanted, "{field:?}");
            }
        }
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

    #[test]
    fn each_field_has_its_documented_length() {
        for (field, most) in [
            (Field::WatcherUser, 512),
            (Field::WatcherDomain, 255),
            (Field::CallId, 1024),
            (Field::FromTag, 1024),
            (Field::ToTag, 1024),
            (Field::EventId, 256),
            (Field::Contact, 4096),
            (Field::LocalContact, 4096),
            (Field::RecordRoute, 16_384),
            (Field::UserAgent, 256),
            (Field::Reason, 256),
        ] {
            let text = |length| with_text(field, &vec![b'x'; length]);
            assert_eq!(text(most).unwrap().get(field).len(), most, "{field:?}");
            let kept = text(most + 1).map(|subscription| subscription.get(field).len());
            assert_eq!(kept.ok(), field.is_dispensable().then_some(0), "{field:?}");
        }
    }
}
