//! A refresh of a subscription as it is announced to nodes that hold a replica: what the watcher's SUBSCRIBE has
//! changed, and which replica it changes. It is small (a JSON array with numbers to the base of 64), because it is the
//! most frequent message among nodes. A node whose replica is another one asks for the whole subscription.
use crate::cluster::clock::Stamp;
use crate::cluster::digest::{RecordKey, mixed};
use crate::cluster::text64;
use crate::presence::subscription::{Subscription, SubscriptionState};
use crate::time::Seconds;
use serde_json::Value;

/// The first element of the array.
const KIND: &str = "r";

/// What a SUBSCRIBE has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaRefresh {
    /// Which subscription: the key of its dialog.
    pub key: RecordKey,
    /// A digest of all that has not changed ([`unchanged`]).
    pub unchanged: u64,
    /// When its owner changed it.
    pub stamp: Stamp,
    /// The CSeq of the SUBSCRIBE.
    pub remote_cseq: u32,
    /// How long it lives from now on.
    pub expires: Seconds,
}

/// The digest of what a refresh leaves as it is. `event`: the name of the event package; `owner`: the digest of the
/// owner's name.
pub fn unchanged<B: AsRef<[u8]>>(subscription: &Subscription<B>, event: &[u8], owner: u64, numbers: [u32; 3]) -> u64 {
    let SubscriptionState { status, flags, transport, .. } = subscription.state;
    let [epoch, lease, ceiling] = numbers.map(u64::from);
    let numbers = [owner, epoch, lease, ceiling, status as u64, u64::from(flags)];
    let strings =
        RecordKey::of_names(&subscription.fields()).0 ^ mixed(RecordKey::of_names(&[event, transport.word()]).0);
    numbers.iter().fold(strings, |digest, number| mixed(digest.wrapping_add(1) ^ mixed(*number)))
}

/// Whether a name can be written into such a message as it is.
fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|c| c.is_ascii_graphic() && !matches!(c, b'"' | b'\\'))
}

/// How such a message begins.
const BEGIN: &[u8] = b"[\"r\",\"";

/// A message without the name of its sender, for nodes that know it by the From header: from them `with_name` has it
/// again, and with it the text that was sealed. `None`: it is no such message.
pub fn without_name(text: &[u8]) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(BEGIN)?;
    let end = rest.iter().position(|byte| *byte == b'"').filter(|end| *end > 0)?;
    Some([BEGIN, &rest[end..]].concat())
}

/// The message that a node of this name has written with `without_name`. `None`: it has a name, or is no such message.
pub fn with_name(text: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(BEGIN).filter(|rest| rest.starts_with(b"\"") && is_plain(name))?;
    Some([BEGIN, name, rest].concat())
}

impl ReplicaRefresh {
    /// The message of the node `name`; `None` for a name that needs escapes.
    pub fn to_json(&self, name: &[u8]) -> Option<Vec<u8>> {
        let name = std::str::from_utf8(name).ok().filter(|name| is_plain(name.as_bytes()))?;
        let [key, unchanged, stamp] = [self.key.0, self.unchanged, self.stamp.0].map(text64::short);
        let (cseq, expires) = (self.remote_cseq, self.expires.as_expires());
        Some(format!("[\"{KIND}\",\"{name}\",\"{key}\",\"{unchanged}\",\"{stamp}\",{cseq},{expires}]").into_bytes())
    }

    /// Reads a message and the name of the node it comes from. Elements behind those that are known are passed over;
    /// `None` for what is no such message.
    pub fn parse(list: &[Value]) -> Option<(Vec<u8>, ReplicaRefresh)> {
        let [kind, name, key, unchanged, stamp, cseq, expires, ..] = list else { return None };
        let name = name.as_str().filter(|name| kind == KIND && name.len() < 256 && is_plain(name.as_bytes()))?;
        let digits = |value: &Value| value.as_str().and_then(text64::read);
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let refresh = ReplicaRefresh {
            key: RecordKey(digits(key)?),
            unchanged: digits(unchanged)?,
            stamp: Stamp(digits(stamp)?),
            // A CSeq ends at 2^31 (RFC 3261 8.1.1.5).
            remote_cseq: number(cseq).filter(|cseq| *cseq < 1 << 31)?,
            expires: number(expires)?.into(),
        };
        Some((name.as_bytes().to_vec(), refresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: ReplicaRefresh = ReplicaRefresh {
        key: RecordKey(u64::MAX - 5),
        unchanged: 7,
        stamp: Stamp(1 << 60),
        remote_cseq: (1 << 31) - 1,
        expires: Seconds(3600),
    };

    fn read(text: &[u8]) -> Option<(Vec<u8>, ReplicaRefresh)> {
        let value: Value = serde_json::from_slice(text).ok()?;
        ReplicaRefresh::parse(value.as_array()?)
    }

    #[test]
    fn a_refresh_is_read_as_it_was_written_and_is_small() {
        let name = b"255.255.255.255:65535";
        let largest = ReplicaRefresh {
            key: RecordKey(u64::MAX),
            unchanged: u64::MAX,
            stamp: Stamp(u64::MAX),
            expires: Seconds(u32::MAX as i64),
            ..REFRESH
        };
        for refresh in [REFRESH, largest] {
            let text = refresh.to_json(name).unwrap();
            assert!(text.len() <= 100, "{} bytes", text.len());
            assert_eq!(read(&text), Some((name.to_vec(), refresh)));
        }
        let later = String::from_utf8(REFRESH.to_json(name).unwrap()).unwrap().replace(']', ",\"more\",{}]");
        assert_eq!(read(later.as_bytes()), Some((name.to_vec(), REFRESH)));
    }

    #[test]
    fn a_refresh_without_a_name_is_that_of_the_node_it_comes_from() {
        for name in [b"a:1".as_slice(), b"[2001:db8::1]:5060"] {
            let text = REFRESH.to_json(name).unwrap();
            let short = without_name(&text).unwrap();
            assert_eq!((short.len(), read(&short)), (text.len() - name.len(), None));
            assert_eq!(with_name(&short, name), Some(text.clone()));
            assert_eq!((with_name(&text, name), without_name(&short)), (None, None));
            assert_eq!((with_name(&short, b""), with_name(&short, b"a\"b")), (None, None));
        }
        let other = b"{\"action\":\"sync\"}";
        assert_eq!((without_name(other), with_name(other, b"a:1")), (None, None));
    }

    #[test]
    fn what_is_no_refresh_is_not_taken() {
        let good = String::from_utf8(REFRESH.to_json(b"a:1").unwrap()).unwrap();
        for (from, to) in [
            ("\"r\"", "\"q\""),
            ("\"a:1\"", "\"\""),
            ("\"a:1\"", "\"a\\u0000\""),
            ("\"a:1\"", "7"),
            ("2147483647", "2147483648"),
            ("2147483647", "-1"),
            ("3600", "4294967296"),
            ("\"H\"", "\"==\""),
            (",3600", ""),
        ] {
            let bad = good.replace(from, to);
            assert!(bad != good && read(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(ReplicaRefresh::to_json(&REFRESH, b"a \"quoted\" name").is_none());
        assert!(read(b"[]").is_none());
    }
}
