//! What a caller asks for: a publication or a subscription to make, change or end.
use super::error::RequestError;
use super::record::Search;
use crate::pua::flags::{EventFlags, SourceFlags};
use crate::shm_safe::{ShmSafe, shm_safe};
use crate::sip::entity_tag::EntityTag;
use crate::sip::packed::Strings;
use crate::time::{Expiry, Moment, Seconds};

/// The strings of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum RequestField {
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
    /// The Call-ID of the dialog that is meant; empty: the newest that matches.
    CallId,
    /// The challenges that it answers (`pua::digest`).
    Challenges,
}

/// How many [`RequestField`]s there are.
pub const PARTS: usize = 12;

/// For how long a caller wants a publication or a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestedExpires {
    /// The publication or subscription is to end.
    #[default]
    End,
    /// For this time from now on.
    For(Seconds),
    /// For ever.
    Forever,
}

shm_safe!(
    enum RequestedExpires {
        End,
        For(time),
        Forever,
    }
);

impl RequestedExpires {
    /// By the number of the C interface: 0 ends it, below 0 is for ever.
    pub fn of_number(number: i64) -> RequestedExpires {
        match number {
            0 => RequestedExpires::End,
            ..0 => RequestedExpires::Forever,
            _ => RequestedExpires::For(Seconds(number)),
        }
    }

    /// The number of the C interface.
    pub fn number(self) -> i64 {
        match self {
            RequestedExpires::End => 0,
            RequestedExpires::For(time) => time.0,
            RequestedExpires::Forever => -1,
        }
    }

    /// What is left at `now` of what lasts until `end`: `least` at least.
    pub fn until(end: Expiry, now: Moment, least: Seconds) -> RequestedExpires {
        end.moment().map_or(RequestedExpires::Forever, |end| RequestedExpires::For((end - now).max(least)))
    }

    /// Whether it is to end.
    pub fn is_end(self) -> bool {
        self == RequestedExpires::End
    }
}

/// What a request is about: what there is, or something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// What there is, if there is something.
    #[default]
    AsFound,
    /// A new one, whatever there is already.
    Anew,
}

shm_safe!(
    enum Start {
        AsFound,
        Anew,
    }
);

impl Start {
    /// A new one where one of the two is one.
    pub fn or(self, other: Start) -> Start {
        if self == Start::Anew { self } else { other }
    }
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A publication: a PUBLISH.
    Publication,
    /// A subscription: a SUBSCRIBE.
    Subscription,
}

impl RequestKind {
    /// The method of the request.
    pub fn method(self) -> &'static str {
        match self {
            RequestKind::Publication => "PUBLISH",
            RequestKind::Subscription => "SUBSCRIBE",
        }
    }
}

shm_safe!(
    enum RequestKind {
        Publication,
        Subscription,
    }
);

/// The side that has asked for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestOrigin {
    /// A caller, who may wait for the outcome.
    #[default]
    Caller,
    /// The user agent itself, for a refresh or a repair: nobody waits for the outcome.
    Agent,
}

shm_safe!(
    enum RequestOrigin {
        Caller,
        Agent,
    }
);

impl RequestOptions {
    /// Whether nobody waits for the outcome.
    pub fn is_own(&self) -> bool {
        self.origin == RequestOrigin::Agent
    }
}

/// The numbers of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestOptions {
    /// The event's flag.
    pub event: EventFlags,
    /// The caller's source flag.
    pub flag: SourceFlags,
    /// The source flag by which callbacks are chosen, and which they see.
    pub callback_flag: SourceFlags,
    /// For how long.
    pub expires: RequestedExpires,
    /// Whether it begins a new one.
    pub start: Start,
    /// The request has a body (which may be empty text).
    pub has_body: bool,
    /// The side that has asked for it.
    pub origin: RequestOrigin,
    /// A word that the callback gets back; 0 for none.
    pub cb_param: usize,
    /// The version goes on from here when the record is a new one.
    pub version_floor: u32,
    /// The interval the server wants at least, where it has said so.
    pub server_minimum: Option<Seconds>,
    /// The request waited behind a request for the publication whose entity tag it names: it goes on with the tag that
    /// one got.
    pub follows: bool,
    /// How often a server has sent it elsewhere (3xx).
    pub redirects: u8,
    /// How often it was sent again with credentials (401, 407).
    pub challenges: u8,
}

shm_safe!(RequestOptions {
    event,
    flag,
    callback_flag,
    expires,
    start,
    has_body,
    origin,
    cb_param,
    version_floor,
    server_minimum,
    follows,
    redirects,
    challenges
});

/// Which remote targets match when the record of a subscription is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteTarget {
    /// Any.
    Any,
    /// The same as in the request.
    Same,
}

/// A request whose strings are in `B`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<B = Box<[u8]>> {
    /// The numbers.
    pub options: RequestOptions,
    strings: Strings<{ PARTS - 1 }, B>,
}

shm_safe!([B: ShmSafe] Request<B> { options, strings });

impl Request {
    /// A request of these strings; the others are empty.
    pub fn new(options: RequestOptions, given: &[(RequestField, &[u8])]) -> Request {
        let mut parts: [&[u8]; PARTS] = [&[]; PARTS];
        for (part, value) in given {
            parts[*part as usize] = value;
        }
        Request { options, strings: Strings::new(&parts) }
    }
}

impl<B: AsRef<[u8]>> Request<B> {
    /// One of its strings.
    pub fn get(&self, part: RequestField) -> &[u8] {
        self.strings.get(part as usize)
    }

    /// The body, if it has one.
    pub fn body(&self) -> Option<&[u8]> {
        self.options.has_body.then(|| self.get(RequestField::Body))
    }

    /// The same with its strings in a block made by `copy`.
    ///
    /// # Errors
    ///
    /// Fails when `copy` fails.
    pub fn map<C, E>(&self, copy: impl FnOnce(&[u8]) -> Result<C, E>) -> Result<Request<C>, E> {
        Ok(Request { options: self.options, strings: self.strings.map(copy)? })
    }

    /// A private copy.
    pub fn to_private(&self) -> Request {
        Request { options: self.options, strings: self.strings.to_private() }
    }

    /// A private copy with some strings replaced.
    pub fn with(&self, changes: &[(RequestField, &[u8])]) -> Request {
        let changes: Vec<(usize, &[u8])> = changes.iter().map(|(part, value)| (*part as usize, *value)).collect();
        Request { options: self.options, strings: self.strings.with::<PARTS>(&changes) }
    }

    /// A private copy with other numbers.
    pub fn with_options(&self, options: RequestOptions) -> Request {
        Request { options, strings: self.strings.to_private() }
    }

    /// The entity tag of the publication that it is about, where it names one.
    pub fn etag(&self) -> Option<EntityTag<&[u8]>> {
        EntityTag::named(self.get(RequestField::Etag))
    }

    /// What it is about.
    pub fn kind(&self) -> RequestKind {
        if self.get(RequestField::WatcherUri).is_empty() { RequestKind::Publication } else { RequestKind::Subscription }
    }

    /// Whether it is about a subscription.
    pub fn is_subscription(&self) -> bool {
        self.kind() == RequestKind::Subscription
    }

    /// Where a request outside of a dialog goes.
    pub fn first_target(&self) -> &[u8] {
        match self.get(RequestField::RemoteTarget) {
            b"" => self.get(RequestField::PresUri),
            given => given,
        }
    }

    /// What its record is looked for by.
    pub fn search(&self, target: RemoteTarget) -> Search<'_> {
        Search {
            pres_uri: self.get(RequestField::PresUri),
            watcher_uri: self.get(RequestField::WatcherUri),
            id: self.get(RequestField::Id),
            etag: self.etag(),
            remote_contact: self.get(RequestField::RemoteTarget),
            call_id: self.get(RequestField::CallId),
            event: self.options.event,
            flag: self.options.flag,
            check_remote_contact: target == RemoteTarget::Same,
        }
    }

    /// What it asks for at `now`: when its owner wants it to end. Not later than a row can hold.
    pub fn desired_until(&self, now: Moment) -> Expiry {
        match self.options.expires {
            RequestedExpires::End => Expiry::At(now),
            RequestedExpires::For(time) => Expiry::At((now + time).min(LATEST.max(now))),
            RequestedExpires::Forever => Expiry::Never,
        }
    }

    /// Refuses what would end a header line early, or begin another.
    ///
    /// # Errors
    ///
    /// Fails with `BadText`, which names the string, when one holds a control character, or when a line of the extra
    /// headers is neither a header field nor the continuation of one.
    pub fn check(&self) -> Result<(), RequestError> {
        let lines = [
            (RequestField::PresUri, "the presentity URI"),
            (RequestField::WatcherUri, "the watcher URI"),
            (RequestField::Etag, "the entity tag"),
            (RequestField::Contact, "the contact"),
            (RequestField::RemoteTarget, "the remote target"),
            (RequestField::OutboundProxy, "the outbound proxy"),
            (RequestField::ContentType, "the content type"),
        ];
        for (part, name) in lines {
            if self.get(part).iter().any(u8::is_ascii_control) {
                return Err(RequestError::BadText(name));
            }
        }
        let headers = self.get(RequestField::ExtraHeaders);
        let whole = headers.strip_suffix(b"\n").unwrap_or(headers);
        let is_line = |line: &[u8]| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let text = line.iter().all(|c| !c.is_ascii_control() || *c == b'\t');
            let begins = line.first().is_some_and(|c| matches!(c, b' ' | b'\t')) || line.contains(&b':');
            text && begins && !line.trim_ascii().is_empty()
        };
        match headers.is_empty() || whole.split(|c| *c == b'\n').all(is_line) {
            true => Ok(()),
            false => Err(RequestError::BadText("the extra headers")),
        }
    }

    /// Returns this request as it goes in place of `waiting`, which the server never granted: what this one does not
    /// carry stays as `waiting` wanted it.
    pub fn in_place_of(&self, waiting: &Request) -> Request {
        let (mine, theirs) = (&self.options, &waiting.options);
        let inherits_body = !mine.expires.is_end() && !mine.has_body && theirs.has_body;
        if !mine.expires.is_end() && !mine.has_body && theirs.expires.is_end() && !self.is_subscription() {
            // An end without a successor: there is nothing to refresh.
            return waiting.clone();
        }
        let mut parts: Vec<(usize, &[u8])> = Vec::new();
        for part in [RequestField::OutboundProxy, RequestField::ExtraHeaders, RequestField::Contact] {
            if self.get(part).is_empty() {
                parts.push((part as usize, waiting.get(part)));
            }
        }
        if inherits_body {
            parts.push((RequestField::Body as usize, waiting.get(RequestField::Body)));
            parts.push((RequestField::ContentType as usize, waiting.get(RequestField::ContentType)));
        }
        let options = RequestOptions {
            origin: if mine.is_own() && theirs.is_own() { RequestOrigin::Agent } else { RequestOrigin::Caller },
            has_body: mine.has_body || inherits_body,
            start: if mine.expires.is_end() { mine.start } else { mine.start.or(theirs.start) },
            version_floor: mine.version_floor.max(theirs.version_floor),
            server_minimum: mine.server_minimum.max(theirs.server_minimum),
            ..*mine
        };
        Request { options, strings: self.strings.with::<PARTS>(&parts) }
    }
}

/// The last moment that a row's column holds: seconds since 1970 in 32 signed bits.
const LATEST: Moment = Moment::at(i32::MAX as i64);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(expires: i64, body: Option<&[u8]>) -> Request {
        let expires = RequestedExpires::of_number(expires);
        let options = RequestOptions {
            event: EventFlags::from_word(1),
            flag: SourceFlags::from_word(1),
            expires,
            has_body: body.is_some(),
            ..RequestOptions::default()
        };
        Request::new(options, &[(RequestField::PresUri, b"sip:a@b"), (RequestField::Body, body.unwrap_or_default())])
    }

    #[test]
    fn what_waits_is_replaced_by_nothing_that_carries_less() {
        let one: Option<&[u8]> = Some(b"1");
        let two: Option<&[u8]> = Some(b"2");
        let cases = [
            ("a refresh keeps the body", (60, None), (90, one), (60, one)),
            ("a newer body goes", (60, two), (90, one), (60, two)),
            ("an end ends", (0, None), (90, one), (0, None)),
            ("a refresh cannot undo an end", (60, None), (0, None), (0, None)),
            ("a new body after an end", (60, two), (0, None), (60, two)),
        ];
        for (name, newer, waiting, (expires, body)) in cases {
            let goes = request(newer.0, newer.1).in_place_of(&request(waiting.0, waiting.1));
            assert_eq!((goes.options.expires.number(), goes.body()), (expires, body), "{name}");
        }
    }

    #[test]
    fn no_text_makes_a_header_of_its_own() {
        let with = |part, text: &[u8]| request(60, None).with(&[(part, text)]).check().is_ok();
        for part in [
            RequestField::PresUri,
            RequestField::ContentType,
            RequestField::Contact,
            RequestField::OutboundProxy,
            RequestField::Etag,
            RequestField::RemoteTarget,
        ] {
            assert!(with(part, b"sip:a@b;x=1") && !with(part, b"a\r\nX: 1") && !with(part, b"a\0"));
        }
        for (headers, good) in [
            (b"X-A: 1\r\n".as_slice(), true),
            (b"X-A: 1\r\nX-B: 2\r\n", true),
            (b"X-A: 1", true),
            (b"X-A: 1\r\n\tfolded\r\n", true),
            (b"X-A: 1\r\n\r\nbody", false),
            (b"\r\n", false),
            (b"no header\r\n", false),
            (b"X-A: 1\0\r\n", false),
        ] {
            assert_eq!(with(RequestField::ExtraHeaders, headers), good, "{}", String::from_utf8_lossy(headers));
        }
    }

    #[test]
    fn no_interval_lasts_longer_than_a_row_can_say() {
        assert_eq!(request(i64::MAX, None).desired_until(Moment::at(1_000)), Expiry::At(LATEST));
        assert_eq!(request(-1, None).desired_until(Moment::at(1_000)), Expiry::Never);
    }
}
