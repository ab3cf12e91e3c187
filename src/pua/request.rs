//! What a caller asks for: a publication or a subscription to make, change or end.
use super::record::Search;
use crate::sip::strings::Strings;

/// The strings of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    PresUri,
    WatcherUri,
    Id,
    Etag,
    Contact,
    RemoteTarget,
    OutboundProxy,
    ExtraHeaders,
    ContentType,
    Body,
}

/// How many [`Part`]s there are.
pub const PARTS: usize = 10;

/// The numbers of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// The event's flag.
    pub event: i32,
    /// The caller's source flag.
    pub flag: i32,
    /// The source flag callbacks are told by and see.
    pub told_flag: i32,
    /// For how long, in seconds; 0 ends it, below 0: for ever.
    pub expires: i64,
    /// A new one, whatever there is already.
    pub insert: bool,
    /// It has a body (which may be empty text).
    pub has_body: bool,
    /// Nobody waits for the outcome: a refresh or a repair of our own.
    pub own: bool,
    /// Nothing is to happen when there is a subscription already.
    pub only_if_new: bool,
    /// A word that the callback gets back; 0 for none.
    pub cb_param: usize,
    /// The version goes on from here when the record is a new one.
    pub version_floor: u32,
    /// The interval the server wants at least; 0: unknown.
    pub server_minimum: i64,
}

/// A request whose strings are in `B`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<B = Box<[u8]>> {
    /// The numbers.
    pub wish: Wish,
    strings: Strings<PARTS, B>,
}

impl Request {
    /// A request of these strings; the others are empty.
    pub fn new(wish: Wish, given: &[(Part, &[u8])]) -> Request {
        let mut parts: [&[u8]; PARTS] = [&[]; PARTS];
        for (part, value) in given {
            parts[*part as usize] = value;
        }
        Request { wish, strings: Strings::new(&parts) }
    }
}

impl<B: AsRef<[u8]>> Request<B> {
    /// One of its strings.
    pub fn get(&self, part: Part) -> &[u8] {
        self.strings.get(part as usize)
    }

    /// The body, if it has one.
    pub fn body(&self) -> Option<&[u8]> {
        self.wish.has_body.then(|| self.get(Part::Body))
    }

    /// The same with its strings in a block made by `copy`.
    pub fn map<C, E>(&self, copy: impl FnOnce(&[u8]) -> Result<C, E>) -> Result<Request<C>, E> {
        Ok(Request { wish: self.wish, strings: self.strings.map(copy)? })
    }

    /// A private copy.
    pub fn to_private(&self) -> Request {
        Request { wish: self.wish, strings: self.strings.to_private() }
    }

    /// A private copy with some strings replaced.
    pub fn with(&self, changes: &[(Part, &[u8])]) -> Request {
        let changes: Vec<(usize, &[u8])> = changes.iter().map(|(part, value)| (*part as usize, *value)).collect();
        Request { wish: self.wish, strings: self.strings.with(&changes) }
    }

    /// A private copy with other numbers.
    pub fn wishing(&self, wish: Wish) -> Request {
        Request { wish, strings: self.strings.to_private() }
    }

    /// Whether it is about a subscription.
    pub fn is_subscription(&self) -> bool {
        !self.get(Part::WatcherUri).is_empty()
    }

    /// What its record is looked for by.
    pub fn search(&self, check_remote_contact: bool) -> Search<'_> {
        Search {
            pres_uri: self.get(Part::PresUri),
            watcher_uri: self.get(Part::WatcherUri),
            id: self.get(Part::Id),
            etag: self.get(Part::Etag),
            remote_contact: self.get(Part::RemoteTarget),
            event: self.wish.event,
            flag: self.wish.flag,
            check_remote_contact,
        }
    }

    /// What it asks for at `now`: when its owner wants it to end; 0: never.
    pub fn desired_until(&self, now: i64) -> i64 {
        if self.wish.expires < 0 { 0 } else { now + self.wish.expires }
    }
}
