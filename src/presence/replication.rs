//! Publications of other nodes: the JSON that stock's nodes exchange over DMQ, and what a node does with it.
use super::error::{Failure, StoreError};
use super::ports::{Once, Ports};
use super::publication::{Applied, Change, Modification, Publication, changes_of};
use super::publish::{self, Document};
use super::readable;
use super::resource::Resource;
use crate::sip::checked::{HostPart, UserPart, Word, is_clean, most};
use crate::sip::event::EventHeader;
use crate::sip::uri;
use serde_json::Value;
use std::borrow::Cow;

/// From when the `expires` of a message counts: hosts of one version agree with stock's nodes of that version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Before Kamailio 6.1: from the moment the message arrives.
    FromArrival,
    /// From 6.1 on: from the moment the publication was received (`recv`), by its owner's clock.
    FromReceipt,
}

impl Life {
    /// What the host's own version does.
    pub const OF_HOST: Life = Life::of_version(crate::HOST_VERSION);

    /// By the host's `VERSIONVAL`, 6001004 for 6.1.4.
    const fn of_version(version: u32) -> Life {
        if version >= 6_001_000 { Life::FromReceipt } else { Life::FromArrival }
    }

    /// The `expires` of a message about a publication, in seconds; at least 1: the publication goes on.
    fn left(self, publication: &Publication, now: i64) -> i64 {
        let start = match self {
            Life::FromReceipt if publication.received_at > 0 => publication.received_at,
            _ => now,
        };
        (publication.expires_at - start).max(1)
    }

    /// When what a message tells of expires. An owner whose clock is ahead does not make it live longer than it says; one whose
    /// clock is behind, or who counts from the arrival, does not make it end before it has begun.
    fn end(self, replica: &Replica, now: i64) -> i64 {
        let (latest, end) = (now + replica.expires, replica.received_at.saturating_add(replica.expires));
        if self == Life::FromReceipt && replica.received_at > 0 && end > now { end.min(latest) } else { latest }
    }
}

/// What a message asks for (`action`).
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// 1: a publication was made, changed or removed.
    Update(Box<Replica>),
    /// 2: a node that has just joined wants to know what there is.
    Sync {
        /// It asked this node alone.
        you: bool,
    },
    /// Something this version does not know.
    Other,
}

/// A change of a publication on another node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    /// Host part of the presentity.
    pub domain: Vec<u8>,
    /// User part.
    pub user: Vec<u8>,
    /// The event package's name.
    pub event: Vec<u8>,
    /// The entity tag: the new one of a new publication, otherwise the one before the change.
    pub etag: Vec<u8>,
    /// The entity tag after the change; empty for a new or a removed publication.
    pub new_etag: Vec<u8>,
    /// How long it lives, in seconds, from when [`Life`] says; 0: it is removed.
    pub expires: i64,
    /// When the owner received it, by the owner's clock.
    pub received_at: i64,
    /// It is a new one.
    pub is_new: bool,
    /// Who sent it; empty for nobody.
    pub sender: Vec<u8>,
    /// The id of the record over all its entity tags; empty when unknown.
    pub ruid: Vec<u8>,
    /// The document; empty for a change without one.
    pub body: Vec<u8>,
    /// It is told to a node of our kind that may know it: watchers are told only of what is new there.
    pub again: bool,
}

/// A JSON string with the bytes of `text` as they are: documents may be in any encoding, and stock's nodes write and read them
/// so. Only what JSON sets apart is escaped (RFC 8259 7).
fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            ..b' ' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// While a message that is not UTF-8 is read, its bytes beyond ASCII are these characters, which nobody else uses.
const RAW: u32 = 0x10_ff00;

/// A message as text that a JSON reader takes.
fn as_text(message: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(message) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let raw = |byte: &u8| char::from_u32(RAW + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
            let character = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { raw(byte) };
            Cow::Owned(message.iter().map(character).collect())
        }
    }
}

/// The bytes of a string that [`as_text`] may have changed.
fn as_bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character).checked_sub(RAW).and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) if byte >= 0x80 => out.push(byte),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

impl Replica {
    /// The entity tag the publication has after the change.
    fn last_etag(&self) -> &[u8] {
        if self.new_etag.is_empty() { &self.etag } else { &self.new_etag }
    }

    /// The removal of this publication.
    fn removal(&self) -> Replica {
        Replica {
            etag: self.last_etag().to_vec(),
            new_etag: Vec::new(),
            expires: 0,
            is_new: false,
            body: Vec::new(),
            again: false,
            ..self.clone()
        }
    }

    /// The same with its strings as this node takes them; `None` when one of them cannot be taken.
    fn checked(self) -> Option<Replica> {
        let is_word = |text: &[u8]| Word::new(text).is_ok();
        let is_word_or_empty = |text: &[u8]| text.is_empty() || is_word(text);
        let user = UserPart::new(&self.user).ok()?.bytes().to_vec();
        let good = !self.domain.is_empty()
            && HostPart::new(&self.domain).is_ok()
            && EventHeader::parse(&self.event).is_some()
            && is_clean(&self.event)
            && is_word(&self.etag)
            && is_word_or_empty(&self.new_etag)
            && is_word_or_empty(&self.ruid)
            && is_clean(&self.sender)
            && self.sender.len() <= most::URI;
        good.then_some(Replica { user, ..self })
    }

    /// The message, its members in stock's order.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(320 + self.body.len() * 9 / 8);
        let member = |out: &mut Vec<u8>, name: &str, text: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            push_quoted(out, text);
        };
        member(&mut out, "{\"action\":1,\"presentity\":{\"domain\":", &self.domain);
        member(&mut out, ",\"user\":", &self.user);
        member(&mut out, ",\"etag\":", &self.etag);
        let times = format!(",\"expires\":{},\"recv\":{}", self.expires, self.received_at);
        out.extend_from_slice(times.as_bytes());
        if !self.sender.is_empty() {
            member(&mut out, ",\"sender\":", &self.sender);
        }
        member(&mut out, ",\"event\":", &self.event);
        out.extend_from_slice(format!("}},\"t_new\":{}", u8::from(self.is_new)).as_bytes());
        member(&mut out, ",\"cur_etag\":", &self.new_etag);
        member(&mut out, ",\"ruid\":", &self.ruid);
        member(&mut out, ",\"body\":", &self.body);
        out.extend_from_slice(if self.again { b",\"again\":1}" } else { b"}" });
        out
    }
}

/// The message with which a node asks all others for what there is.
pub const SYNC: &[u8] = b"{\"action\":2}";

/// The message with which a node asks one other.
pub const SYNC_YOU: &[u8] = b"{\"action\":2,\"you\":1}";

fn text(object: &Value, name: &str) -> Option<Vec<u8>> {
    match object.get(name) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(as_bytes(text)),
        Some(_) => None,
    }
}

fn number(object: &Value, name: &str) -> Option<i64> {
    match object.get(name) {
        None | Some(Value::Null) => Some(0),
        Some(Value::Number(number)) => number.as_i64().or_else(|| number.as_f64().map(|n| n as i64)),
        Some(_) => None,
    }
}

/// Reads a message. Members nobody knows are passed over; `None` for what is no message.
pub fn parse(body: &[u8]) -> Option<Message> {
    let root: Value = serde_json::from_str(&as_text(body.trim_ascii_end())).ok()?;
    if !root.is_object() {
        return None;
    }
    match number(&root, "action")? {
        1 => {
            let presentity = root.get("presentity").filter(|value| value.is_object())?;
            let replica = Replica {
                domain: text(presentity, "domain")?,
                user: text(presentity, "user")?,
                event: text(presentity, "event")?,
                etag: text(presentity, "etag")?,
                expires: number(presentity, "expires")?.max(0),
                received_at: number(presentity, "recv")?,
                sender: text(presentity, "sender")?,
                new_etag: text(&root, "cur_etag")?,
                is_new: number(&root, "t_new")? != 0,
                ruid: text(&root, "ruid")?,
                body: text(&root, "body")?,
                again: number(&root, "again")? != 0,
            };
            replica.checked().map(|replica| Message::Update(Box::new(replica)))
        }
        2 => Some(Message::Sync { you: number(&root, "you")? != 0 }),
        _ => Some(Message::Other),
    }
}

/// A stored publication as a node that asks for all is told it: as new, with what is left of its life.
pub fn of_stored(resource: &Resource, event: &[u8], publication: &Publication, now: i64) -> Replica {
    let (user, domain) = uri::split(&resource.uri);
    Replica {
        domain: domain.to_vec(),
        user: user.to_vec(),
        event: event.to_vec(),
        etag: publication.etag.clone(),
        new_etag: Vec::new(),
        expires: Life::OF_HOST.left(publication, now),
        received_at: publication.received_at,
        is_new: true,
        sender: publication.sender.clone(),
        ruid: publication.ruid.clone(),
        body: publication.body.clone(),
        again: false,
    }
}

/// What a change means here.
enum Step {
    /// It is known already: a message that came twice, or a table that nodes share.
    Known,
    /// Something newer is known.
    Stale,
    Insert,
    Modify(Publication),
    Remove(Vec<u8>),
}

/// How a change that arrives late, twice or after a gap is found out: by its entity tags, and by the record's id and the count
/// of changes that our entity tags carry.
fn step(documents: &[Publication], replica: &Replica) -> Step {
    let tagged = |tag: &[u8]| documents.iter().find(|d| !tag.is_empty() && d.etag == tag);
    let same_record = || documents.iter().find(|d| !replica.ruid.is_empty() && d.ruid == replica.ruid);
    let count = changes_of;
    if replica.is_new {
        return match tagged(&replica.etag) {
            Some(_) => Step::Known,
            None => match same_record() {
                Some(mine) if count(&mine.etag) >= count(&replica.etag) => Step::Stale,
                Some(mine) => Step::Modify(mine.clone()),
                None => Step::Insert,
            },
        };
    }
    if replica.expires == 0 {
        return match tagged(&replica.etag).or_else(same_record) {
            Some(mine) => Step::Remove(mine.etag.clone()),
            None => Step::Known,
        };
    }
    if tagged(&replica.new_etag).is_some() && replica.new_etag != replica.etag {
        return Step::Known;
    }
    match tagged(&replica.etag).cloned() {
        Some(mine) => Step::Modify(mine),
        None => match same_record() {
            Some(mine) if count(&mine.etag) > count(&replica.new_etag) => Step::Stale,
            Some(mine) => Step::Modify(mine.clone()),
            None if replica.body.is_empty() => Step::Stale,
            None => Step::Insert,
        },
    }
}

/// Carries out a change that another node announced, and tells our watchers. Returns what that node has to be told: it
/// still holds what was removed here.
pub fn apply<P: Ports>(ports: &mut P, replica: &Replica) -> Result<Option<Replica>, Failure> {
    let event = ports
        .packages()
        .named(&replica.event)
        .ok_or_else(|| Failure::bad_request(format!("no event package {}", String::from_utf8_lossy(&replica.event))))?;
    let description = *ports.packages().get(event);
    let resource = ports.uri_rule().resource(&uri::join(&replica.user, &replica.domain), event);
    let new = Document::without_request(&description, &resource);
    if replica.is_new && replica.expires == 0 {
        publish::end_dialogs_of(ports, &new, &replica.body)?;
        let once = readable::shows(ports, &description, &replica.body).then(|| Once::Body(replica.body.clone()));
        tell(ports, replica, &new, once)?;
        return Ok(None);
    }
    if replica.expires > 0 && ports.was_removed(&resource, &replica.ruid, replica.last_etag()) {
        return Ok(Some(replica.removal()));
    }
    let documents = ports.documents(&resource)?;
    let tag = replica.last_etag().to_vec();
    let expires_at = Life::OF_HOST.end(replica, ports.now());
    let dialogs = publish::dialogs(&description, &replica.body);
    let once = match step(&documents, replica) {
        Step::Stale => return Ok(None),
        Step::Known if replica.again => return Ok(None),
        // Where nodes share a table, the change is in it and our watchers have to be told.
        Step::Known if ports.shares_publications() => {
            ports.forget(&resource);
            None
        }
        Step::Known => return Ok(None),
        Step::Insert => {
            let publication = Publication {
                etag: tag,
                ruid: if replica.ruid.is_empty() { ports.new_ruid() } else { replica.ruid.clone() },
                sender: replica.sender.clone(),
                body: replica.body.clone(),
                expires_at,
                received_at: replica.received_at,
                priority: 0,
                dialogs,
            };
            if ports.publish(&resource, Change::Insert(publication))? == Applied::NoMatch {
                return Ok(None);
            }
            publish::shown_if_readable(ports, &new, Some(&replica.body))
        }
        Step::Modify(mine) => {
            let change = Modification {
                etag: mine.etag,
                new_etag: tag,
                body: (!replica.body.is_empty()).then(|| replica.body.clone()),
                dialogs,
                expires_at,
                received_at: replica.received_at,
                priority: mine.priority,
                sender: replica.sender.clone(),
                line: publish::shared_line(ports, &description),
            };
            match ports.publish(&resource, Change::Modify(change))? {
                Applied::Modified { changed: true } => publish::shown_if_readable(
                    ports,
                    &new,
                    Some(replica.body.as_slice()).filter(|body| !body.is_empty()),
                ),
                _ => return Ok(None),
            }
        }
        Step::Remove(etag) => match ports.publish(&resource, Change::Remove(etag))? {
            Applied::Removed(gone, place) => Some(Once::Removed(gone, place)),
            _ => return Ok(None),
        },
    };
    tell(ports, replica, &new, once)?;
    Ok(None)
}

fn tell<P: Ports>(ports: &mut P, replica: &Replica, new: &Document<'_>, once: Option<Once>) -> Result<(), Failure> {
    if ports.config().replicas_are_silent {
        return Ok(());
    }
    let request = publish::Request { sender: &replica.sender, ..publish::Request::default() };
    publish::tell(ports, &request, new, once)
}

/// Whether a failure is the sender's fault.
pub fn is_bad(failure: &Failure) -> bool {
    !matches!(failure, Failure::Store(StoreError::NoMemory | StoreError::Database) | Failure::Internal(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_STOCK: &str = r#"{"action":1,"presentity":{"domain":"example.org","user":"alice","etag":"a.1.2.3.0","expires":3600,"recv":17,"event":"presence"},"t_new":1,"cur_etag":"","ruid":"pres-1-2-3","body":"<a b=\"c\"/>\n"}"#;

    fn replica() -> Replica {
        match parse(FROM_STOCK.as_bytes()) {
            Some(Message::Update(replica)) => *replica,
            other => panic!("{other:?}"),
        }
    }

    fn stored(etag: &str, ruid: &str) -> Publication {
        Publication { etag: etag.into(), ruid: ruid.into(), ..Publication::default() }
    }

    #[test]
    fn what_stock_writes_is_read_and_written_again() {
        assert_eq!(replica().to_json(), FROM_STOCK.as_bytes());
        assert_eq!(parse(SYNC), Some(Message::Sync { you: false }));
        assert_eq!(parse(SYNC_YOU), Some(Message::Sync { you: true }));
        let again = Replica { again: true, ..replica() };
        assert_eq!(parse(&again.to_json()), Some(Message::Update(Box::new(again))));
        assert_eq!(parse(br#"{"action":4,"x":{}}"#), Some(Message::Other));
    }

    #[test]
    fn bytes_arrive_as_they_were_sent() {
        for body in [
            b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\r\n<a>\xe9\t\\</a>".as_slice(),
            "<a>\u{e9}\u{20ac}\u{1f514}</a>".as_bytes(),
            &(0..=255).collect::<Vec<u8>>(),
        ] {
            let sent = Replica { body: body.to_vec(), ..replica() };
            assert_eq!(parse(&sent.to_json()), Some(Message::Update(Box::new(sent))));
        }
        // Escapes in a message with raw bytes.
        let mixed = [&FROM_STOCK.as_bytes()[..FROM_STOCK.len() - 2], b"\\u00e9\xe9\"}"].concat();
        let Some(Message::Update(read)) = parse(&mixed) else { panic!() };
        assert!(read.body.ends_with(b"/>\n\xc3\xa9\xe9"));
    }

    #[test]
    fn a_publication_that_is_told_later_ends_when_its_owner_says() {
        assert_eq!(Life::of_version(6_000_001), Life::FromArrival);
        assert_eq!(Life::of_version(6_001_005), Life::FromReceipt);
        let owned = Publication { expires_at: 1_060, received_at: 1_000, ..Publication::default() };
        for life in [Life::FromArrival, Life::FromReceipt] {
            let told = Replica { expires: life.left(&owned, 1_045), received_at: 1_000, ..replica() };
            assert_eq!(life.end(&told, 1_045), 1_060, "{life:?}");
        }
        // As stock's nodes say it: what is left before 6.1, all of it from 6.1 on.
        assert_eq!(Life::FromArrival.left(&owned, 1_045), 15);
        assert_eq!(Life::FromReceipt.left(&owned, 1_045), 60);
    }

    #[test]
    fn clocks_that_differ_neither_end_nor_prolong_a_life() {
        let told = |expires, received_at| Replica { expires, received_at, ..replica() };
        // The owner's clock is ahead, far ahead, or unknown: no longer than said.
        for received_at in [1_030, 90_000, 0, -5, i64::MAX] {
            assert_eq!(Life::FromReceipt.end(&told(60, received_at), 1_000), 1_060, "{received_at}");
        }
        // Far behind, or what is left with the time of the receipt, as nodes before 6.1 say it.
        assert_eq!(Life::FromReceipt.end(&told(60, 100), 1_000), 1_060);
        assert_eq!(Life::FromReceipt.end(&told(15, 955), 1_000), 1_015);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in ["", "{", "[]", "{\"action\":\"1\"}", "{\"action\":1}", "{\"action\":1,\"presentity\":[]}"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        let number_as_body = FROM_STOCK.replace(r#""<a b=\"c\"/>\n""#, "7");
        assert_eq!(parse(number_as_body.as_bytes()), None);
        for (from, to) in [
            ("alice", "al\\u0000ice"),
            ("alice", "al ice"),
            ("example.org", "example.org\\r\\nX: y"),
            ("\"presence\"", "\"pres\\nence\""),
            ("a.1.2.3.0", "a.1\\r\\n"),
            ("pres-1-2-3", "pres-1\\u007f"),
        ] {
            assert_eq!(parse(FROM_STOCK.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
        let escaped = FROM_STOCK.replace("alice", "%61lice");
        assert_eq!(parse(escaped.as_bytes()), Some(Message::Update(Box::new(replica()))));
        let more = FROM_STOCK.replace("\"t_new\"", "\"version\":7,\"t_new\"");
        assert!(matches!(parse(more.as_bytes()), Some(Message::Update(_))));
    }

    #[test]
    fn messages_that_come_twice_late_or_after_a_gap() {
        let first = replica();
        assert!(matches!(step(&[], &first), Step::Insert));
        assert!(matches!(step(&[stored("a.1.2.3.0", "r")], &first), Step::Known));
        assert!(matches!(step(&[stored("a.1.2.9.4", "pres-1-2-3")], &first), Step::Stale));
        let change = Replica { is_new: false, new_etag: b"a.1.2.4.1".to_vec(), ..first.clone() };
        assert!(matches!(step(&[stored("a.1.2.3.0", "x")], &change), Step::Modify(_)));
        assert!(matches!(step(&[stored("a.1.2.4.1", "x")], &change), Step::Known));
        assert!(matches!(step(&[stored("a.1.2.9.2", "pres-1-2-3")], &change), Step::Stale));
        assert!(matches!(step(&[], &change), Step::Insert));
        assert!(matches!(step(&[], &Replica { body: Vec::new(), ..change.clone() }), Step::Stale));
        let end = Replica { is_new: false, expires: 0, ..first };
        assert!(matches!(step(&[stored("a.1.2.9.2", "pres-1-2-3")], &end), Step::Remove(_)));
        assert!(matches!(step(&[], &end), Step::Known));
    }
}
