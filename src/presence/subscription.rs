//! A subscription: its dialog, its state, its strings in one block (private or shared).
use super::event_package::PackageId;

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
#[allow(missing_docs)]
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
}

/// How many [`Field`]s there are.
pub const FIELDS: usize = 17;

/// What has to be done to the row of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// The row is as the memory is.
    Clean,
    /// There is no row yet.
    Insert,
    /// The row is older than the memory.
    Update,
    /// Another node has or had a row of it.
    Replace,
}

/// The numbers of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
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
    pub journal: Journal,
}

impl Numbers {
    /// Those of a subscription to which nothing has happened.
    pub fn new(event: PackageId, status: Status) -> Numbers {
        Numbers {
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
            journal: Journal::Clean,
        }
    }
}

/// A subscription whose strings are in `B`: a private block, or one in shared memory.
#[derive(Debug, Clone)]
pub struct Subscription<B = Box<[u8]>> {
    /// The numbers.
    pub numbers: Numbers,
    ends: [u16; FIELDS],
    bytes: B,
}

/// Its strings do not fit 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the strings of the subscription are longer than 65535 bytes")]
pub struct TooLong;

impl Subscription {
    /// Packs numbers and strings.
    pub fn new(numbers: Numbers, fields: &[&[u8]; FIELDS]) -> Result<Self, TooLong> {
        let mut bytes = Vec::with_capacity(fields.iter().map(|f| f.len()).sum());
        let mut ends = [0; FIELDS];
        for (end, field) in ends.iter_mut().zip(fields) {
            bytes.extend_from_slice(field);
            *end = u16::try_from(bytes.len()).map_err(|_| TooLong)?;
        }
        Ok(Subscription { numbers, ends, bytes: bytes.into_boxed_slice() })
    }
}

impl Subscription {
    /// A watcher as its package is asked about it: a subscription without a dialog, of whose strings these are given.
    pub fn without_dialog(event: PackageId, status: Status, given: &[(Field, &[u8])]) -> Result<Self, TooLong> {
        let numbers = Numbers::new(event, status);
        let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
        for (field, value) in given {
            fields[*field as usize] = value;
        }
        Subscription::new(numbers, &fields)
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
    pub fn map<C, E>(&self, copy: impl FnOnce(&[u8]) -> Result<C, E>) -> Result<Subscription<C>, E> {
        Ok(Subscription { numbers: self.numbers, ends: self.ends, bytes: copy(self.bytes.as_ref())? })
    }

    /// A private copy.
    pub fn to_private(&self) -> Subscription {
        Subscription { numbers: self.numbers, ends: self.ends, bytes: self.bytes.as_ref().into() }
    }

    /// The same with some strings replaced.
    pub fn with(&self, changes: &[(Field, &[u8])]) -> Result<Subscription, TooLong> {
        let mut fields = self.fields();
        for (field, value) in changes {
            fields[*field as usize] = value;
        }
        Subscription::new(self.numbers, &fields)
    }

    /// The dialog it lives in.
    pub fn dialog(&self) -> DialogId<'_> {
        DialogId {
            call_id: self.get(Field::CallId),
            to_tag: self.get(Field::ToTag),
            from_tag: self.get(Field::FromTag),
        }
    }

    /// `sip:user@domain` of the watcher.
    pub fn watcher_uri(&self) -> Vec<u8> {
        crate::sip::uri::join(self.get(Field::WatcherUser), self.get(Field::WatcherDomain))
    }
}

/// A dialog from the watcher's first SUBSCRIBE: `to_tag` is ours, `from_tag` the watcher's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialogId<'a> {
    /// Call-ID.
    pub call_id: &'a [u8],
    /// Our tag.
    pub to_tag: &'a [u8],
    /// The watcher's tag.
    pub from_tag: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn numbers() -> Numbers {
        Numbers {
            expires_at: 100,
            remote_cseq: 1,
            journal: Journal::Insert,
            ..Numbers::new(PackageId(0), Status::Active)
        }
    }

    #[test]
    fn strings_come_back_as_they_went_in() {
        let texts: Vec<String> = (0..FIELDS).map(|i| "x".repeat(i)).collect();
        let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
        for (slot, text) in fields.iter_mut().zip(&texts) {
            *slot = text.as_bytes();
        }
        let subscription = Subscription::new(numbers(), &fields).unwrap();
        assert_eq!(subscription.fields(), fields);
        let changed = subscription.with(&[(Field::Contact, b"sip:new@host")]).unwrap();
        assert_eq!(changed.get(Field::Contact), b"sip:new@host");
        assert_eq!(changed.get(Field::UserAgent), fields[Field::UserAgent as usize]);
    }

    #[test]
    fn too_much_text_is_refused() {
        let long = vec![b'x'; 70_000];
        let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
        fields[3] = &long;
        assert_eq!(Subscription::new(numbers(), &fields).unwrap_err(), TooLong);
    }
}
