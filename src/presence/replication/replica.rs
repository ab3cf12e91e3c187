//! A change of a publication as nodes announce it to each other: the JSON of stock's DMQ messages.
use crate::cluster::clock::ClusterSecond;
use crate::sip::checked::{HostPart, UserPart, Word, is_clean, most};
use crate::sip::entity_tag::EntityTag;
use crate::sip::event::EventHeader;
use crate::time::Seconds;
use serde_json::Value;
use std::borrow::Cow;

/// What a message asks for (`action`).
#[derive(Debug, Clone, PartialEq)]
pub enum ReplicaMessage {
    /// 1: a publication was made, changed or removed.
    Update(Box<Replica>),
    /// 2: a node that has just joined wants to know what there is.
    Sync {
        /// The other node asked this node alone.
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
    pub etag: EntityTag,
    /// The entity tag after the change; none for a new or a removed publication.
    pub new_etag: Option<EntityTag>,
    /// How long it lives from when `Life` says; no time: it is removed.
    pub expires: Seconds,
    /// When the owner received it (`recv`), where the message says so: by the clock that nodes share, or by its own.
    pub stamp: Option<ClusterSecond>,
    /// The publication is a new one.
    pub is_new: bool,
    /// The sender; empty for nobody.
    pub sender: Vec<u8>,
    /// The id of the record over all its entity tags; empty when unknown.
    pub ruid: Vec<u8>,
    /// The document; empty for a change without one.
    pub body: Vec<u8>,
    /// The message goes to a node of our kind that may know it, or hold something newer: watchers are notified only of
    /// what is new there.
    pub again: bool,
    /// For a removal among nodes of our kind: the dialogs, by the hashes of their ids, that ended with the document;
    /// older documents of them are removed, too.
    pub ended: Vec<u64>,
}

/// A removal names at most this many dialogs; documents of the others stay.
pub(crate) const MOST_ENDED: usize = 64;

impl Replica {
    /// The entity tag the publication has after the change.
    pub(crate) fn last_etag(&self) -> &EntityTag {
        self.new_etag.as_ref().unwrap_or(&self.etag)
    }

    /// Whether it is the removal of a publication.
    pub(crate) fn is_removal(&self) -> bool {
        self.expires == Seconds::ZERO && !self.is_new
    }

    /// The removal of this publication.
    pub(crate) fn removal(&self) -> Replica {
        Replica {
            etag: self.last_etag().clone(),
            new_etag: None,
            expires: Seconds::ZERO,
            is_new: false,
            body: Vec::new(),
            again: false,
            ended: Vec::new(),
            ..self.clone()
        }
    }

    /// What a node is answered that holds this publication as it was before it was replaced: it is removed there unless
    /// it has changed since. Nodes of earlier releases remove it in any case.
    pub(crate) fn correction(&self) -> Replica {
        Replica { again: true, ..self.removal() }
    }

    /// Whether it removes a publication only as far as it has not changed since.
    pub(crate) fn is_correction(&self) -> bool {
        self.is_removal() && self.again
    }

    /// The same with its strings as this node takes them; `None` when one of them cannot be taken.
    pub(crate) fn checked(self) -> Option<Replica> {
        let is_word = |text: &[u8]| Word::new(text).is_ok();
        let is_word_or_empty = |text: &[u8]| text.is_empty() || is_word(text);
        let user = UserPart::new(&self.user).ok()?.bytes().to_vec();
        let good = !self.domain.is_empty()
            && HostPart::new(&self.domain).is_ok()
            && EventHeader::parse(&self.event).is_some()
            && is_clean(&self.event)
            && is_word(self.etag.bytes())
            && self.new_etag.as_ref().is_none_or(|etag| is_word(etag.bytes()))
            && is_word_or_empty(&self.ruid)
            && is_clean(&self.sender)
            && self.sender.len() <= most::URI;
        good.then_some(Replica { user, ..self })
    }

    /// The message, its subscriptions in stock's order.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(320 + self.body.len() * 9 / 8);
        let stored = |out: &mut Vec<u8>, name: &str, text: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            push_quoted(out, text);
        };
        stored(&mut out, "{\"action\":1,\"presentity\":{\"domain\":", &self.domain);
        stored(&mut out, ",\"user\":", &self.user);
        stored(&mut out, ",\"etag\":", self.etag.bytes());
        let received = self.stamp.map_or(0, ClusterSecond::seconds);
        let times = format!(",\"expires\":{},\"recv\":{received}", self.expires.0);
        out.extend_from_slice(times.as_bytes());
        if !self.sender.is_empty() {
            stored(&mut out, ",\"sender\":", &self.sender);
        }
        stored(&mut out, ",\"event\":", &self.event);
        out.extend_from_slice(format!("}},\"t_new\":{}", u8::from(self.is_new)).as_bytes());
        stored(&mut out, ",\"cur_etag\":", self.new_etag.as_ref().map_or(b"", EntityTag::bytes));
        stored(&mut out, ",\"ruid\":", &self.ruid);
        stored(&mut out, ",\"body\":", &self.body);
        if !self.ended.is_empty() {
            let ids = self.ended.iter().take(MOST_ENDED).map(|id| format!("{id:016x}")).collect::<Vec<_>>().concat();
            out.extend_from_slice(format!(",\"ended\":\"{ids}\"").as_bytes());
        }
        out.extend_from_slice(if self.again { b",\"again\":1}" } else { b"}" });
        out
    }
}

/// A JSON string with the bytes of `text` as they are: documents may be in any encoding, and stock's nodes write and
/// read them so. Only what JSON sets apart is escaped (RFC 8259 7).
pub(crate) fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
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

/// A message as text that a JSON reader takes.
pub(crate) fn as_text(message: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(message) {
        Ok(text) if !message.contains(&RAW_LEAD) => Cow::Borrowed(text),
        _ => {
            let raw = |byte: &u8| char::from_u32(RAW + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
            let character = |byte: &u8| if byte.is_ascii() { char::from(*byte) } else { raw(byte) };
            Cow::Owned(message.iter().map(character).collect())
        }
    }
}

/// The bytes of a string that [`as_text`] may have changed.
pub(crate) fn as_bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character).checked_sub(RAW).and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) if byte >= 0x80 => out.push(byte),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

pub(crate) fn text(object: &Value, name: &str) -> Option<Vec<u8>> {
    match object.get(name) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(as_bytes(text)),
        Some(_) => None,
    }
}

/// Hashes as 16 hexadecimal digits each; `None`: they are too many, or none.
fn hashes(text: &[u8]) -> Option<Vec<u64>> {
    let digits = std::str::from_utf8(text).ok().filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()))?;
    let is_whole = digits.len() % 16 == 0 && digits.len() <= MOST_ENDED * 16;
    is_whole.then(|| {
        (0..digits.len() / 16).filter_map(|at| u64::from_str_radix(&digits[at * 16..][..16], 16).ok()).collect()
    })
}

pub(crate) fn number(object: &Value, name: &str) -> Option<i64> {
    match object.get(name) {
        None | Some(Value::Null) => Some(0),
        Some(Value::Number(number)) => number.as_i64().or_else(|| number.as_f64().map(|n| n as i64)),
        Some(_) => None,
    }
}

/// Reads a message. Members nobody knows are passed over; `None` for what is no message.
pub fn parse(body: &[u8]) -> Option<ReplicaMessage> {
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
                etag: EntityTag::new(text(presentity, "etag")?),
                expires: Seconds(number(presentity, "expires")?.max(0)),
                stamp: ClusterSecond::at(number(presentity, "recv")?),
                sender: text(presentity, "sender")?,
                new_etag: Some(EntityTag::new(text(&root, "cur_etag")?)).filter(|etag| !etag.is_empty()),
                is_new: number(&root, "t_new")? != 0,
                ruid: text(&root, "ruid")?,
                body: text(&root, "body")?,
                again: number(&root, "again")? != 0,
                ended: hashes(&text(&root, "ended")?)?,
            };
            replica.checked().map(|replica| ReplicaMessage::Update(Box::new(replica)))
        }
        2 => Some(ReplicaMessage::Sync { you: number(&root, "you")? != 0 }),
        _ => Some(ReplicaMessage::Other),
    }
}

/// The message with which a node asks all others for what there is.
pub const SYNC: &[u8] = b"{\"action\":2}";

/// The message with which a node asks one other.
pub const SYNC_YOU: &[u8] = b"{\"action\":2,\"you\":1}";

/// While a message that is not UTF-8 is read, its bytes beyond ASCII are these characters, which nobody else uses.
pub(crate) const RAW: u32 = 0x10_ff00;

/// The first byte of these characters in UTF-8: where it stands in a message, all of it is read byte by byte.
const RAW_LEAD: u8 = 0xf4;

#[cfg(test)]
mod tests {
    use super::*;

    /// A document is the same at the other node, whatever bytes it has.
    #[test]
    fn bytes_are_kept() {
        for body in [
            &b"caf\xe9"[..],
            "caf\u{e9}".as_bytes(),
            "\u{10fff2}@".as_bytes(),
            "\u{10ffff}\u{1f600}".as_bytes(),
            b"\xf4\xe9\"",
        ] {
            let mut message = b"{\"body\":".to_vec();
            push_quoted(&mut message, body);
            message.push(b'}');
            let read: Value = serde_json::from_str(&as_text(&message)).expect("JSON");
            assert_eq!(text(&read, "body").as_deref(), Some(body));
        }
    }

    #[test]
    fn a_removal_names_a_bounded_number_of_dialogs() {
        let read = |ended: Vec<u64>| {
            let (domain, user, event) = (b"a".to_vec(), b"b".to_vec(), b"dialog".to_vec());
            let removal = Replica { domain, user, event, etag: "e".into(), ended, ..Replica::default() };
            match parse(&removal.to_json()) {
                Some(ReplicaMessage::Update(replica)) => replica.ended,
                other => panic!("{other:?}"),
            }
        };
        assert!(read(Vec::new()).is_empty());
        assert_eq!(read(vec![1, u64::MAX]), [1, u64::MAX]);
        let many: Vec<u64> = (0..MOST_ENDED as u64 + 1).collect();
        assert_eq!(read(many.clone()), many[..MOST_ENDED]);
        for bad in ["1".repeat(15), "g".repeat(16), "1".repeat(16 * (MOST_ENDED + 1))] {
            assert_eq!(hashes(bad.as_bytes()), None);
        }
    }
}
