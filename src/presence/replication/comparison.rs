//! What nodes say to compare what they hold (`cluster::exchange`), as JSON. A record travels as the object with which
//! it is announced.
use crate::cluster::clock::Stamp;
use crate::cluster::digest::{DigestEntry, KeyRange, PARTS, RecordKey};
use crate::cluster::exchange::{ExchangeMessage, MOST_COUNTED, PageEnd, Pull, Root};
use serde_json::{Map, Value};

/// Which records are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Subscriptions.
    Subscriptions = 0,
    /// Publications.
    Publications = 1,
}

impl RecordKind {
    /// The kind's bit where several kinds are named at once.
    pub fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A comparison message; records are JSON objects as text.
pub type Comparison = ExchangeMessage<Vec<u8>>;

/// A record is taken from a message with at most this many of them.
const MOST_RECORDS: usize = 512;

/// The message of the node `name` (as JSON text), by whose clock of the cluster it is `stamp`.
pub fn to_json(name: &str, kind: RecordKind, message: &Comparison, stamp: Stamp) -> Vec<u8> {
    let (what, members) = match message {
        ExchangeMessage::Root(root) => ("root", format!("\"count\":{},\"sum\":\"{:x}\"", root.count, root.sum)),
        ExchangeMessage::Sums(range, sums) => {
            let sums = sums.iter().map(|sum| format!("{sum:016x}")).collect::<Vec<_>>().concat();
            ("sums", format!("{},\"sums\":\"{sums}\"", range_text(range)))
        }
        ExchangeMessage::Keys(range, entries) => {
            let text = |entry: &DigestEntry| format!("{:016x}{:08x}", entry.key.0, entry.state);
            let keys = entries.iter().map(text).collect::<Vec<_>>().concat();
            ("keys", format!("{},\"keys\":\"{keys}\"", range_text(range)))
        }
        ExchangeMessage::Want(keys) => {
            let keys = keys.iter().map(|key| format!("{:016x}", key.0)).collect::<Vec<_>>().concat();
            ("want", format!("\"keys\":\"{keys}\""))
        }
        ExchangeMessage::Records(_) => ("records", "\"list\":[".to_string()),
        ExchangeMessage::Pull(pull) => ("pull", pull_text(pull)),
        ExchangeMessage::Part(pull, part, _) => ("records", format!("{},\"part\":{part},\"list\":[", pull_text(pull))),
        ExchangeMessage::Page(pull, PageEnd { next, parts }) => {
            let next = next.map(|next| format!(",\"next\":\"{next:x}\"")).unwrap_or_default();
            ("page", format!("{}{next},\"parts\":{parts}", pull_text(pull)))
        }
    };
    let (kind, stamp) = (kind as u8, stamp.0);
    let head = format!("{{\"action\":\"{what}\",\"node\":{name},\"kind\":{kind},\"stamp\":{stamp},{members}");
    let mut out = head.into_bytes();
    if let ExchangeMessage::Records(records) | ExchangeMessage::Part(_, _, records) = message {
        out.extend_from_slice(&records.join(b",".as_slice()));
        out.push(b']');
    }
    out.push(b'}');
    out
}

fn range_text(range: &KeyRange) -> String {
    format!("\"depth\":{},\"prefix\":\"{:x}\"", range.depth, range.prefix)
}

fn pull_text(pull: &Pull) -> String {
    format!("\"cursor\":\"{:x}\",\"since\":\"{:x}\"", pull.cursor, pull.since.0)
}

/// Reads a comparison message; `None`: it is none.
pub fn parse(action: &str, object: &Map<String, Value>) -> Option<(RecordKind, Comparison)> {
    let kind = match object.get("kind")?.as_u64()? {
        0 => RecordKind::Subscriptions,
        1 => RecordKind::Publications,
        _ => return None,
    };
    let message = match action {
        "root" => ExchangeMessage::Root(Root { count: object.get("count")?.as_u64()?, sum: number(object, "sum")? }),
        "sums" => {
            let sums = numbers(object, "sums", 16)?;
            ExchangeMessage::Sums(range(object)?, (sums.len() == PARTS).then_some(sums)?)
        }
        "keys" => {
            let text = object.get("keys")?.as_str()?;
            ExchangeMessage::Keys(range(object)?, chunks(text, 24)?.map(entry).collect::<Option<_>>()?)
        }
        "want" => ExchangeMessage::Want(numbers(object, "keys", 16)?.into_iter().map(RecordKey).collect()),
        "records" => {
            let list = object.get("list")?.as_array().filter(|list| list.len() <= MOST_RECORDS)?;
            let records = list.iter().map(|record| record.to_string().into_bytes()).collect();
            match object.get("part") {
                Some(part) => ExchangeMessage::Part(pull(object)?, u8::try_from(part.as_u64()?).ok()?, records),
                None => ExchangeMessage::Records(records),
            }
        }
        "pull" => ExchangeMessage::Pull(pull(object)?),
        "page" => {
            let next = object.get("next").map(|_| number(object, "next")).map_or(Some(None), |n| n.map(Some))?;
            let parts = object.get("parts").map_or(Some(0), Value::as_u64)?;
            ExchangeMessage::Page(pull(object)?, PageEnd { next, parts: parts.min(MOST_COUNTED.into()) as u8 })
        }
        _ => return None,
    };
    Some((kind, message))
}

fn number(object: &Map<String, Value>, name: &str) -> Option<u64> {
    u64::from_str_radix(object.get(name)?.as_str()?, 16).ok()
}

fn chunks(text: &str, length: usize) -> Option<impl Iterator<Item = &str>> {
    let is_whole = text.len() % length == 0 && text.bytes().all(|c| c.is_ascii_hexdigit());
    is_whole.then(|| (0..text.len() / length).map(move |at| &text[at * length..(at + 1) * length]))
}

fn numbers(object: &Map<String, Value>, name: &str, length: usize) -> Option<Vec<u64>> {
    chunks(object.get(name)?.as_str()?, length)?.map(|digits| u64::from_str_radix(digits, 16).ok()).collect()
}

fn entry(digits: &str) -> Option<DigestEntry> {
    let (key, state) = digits.split_at(16);
    Some(DigestEntry {
        key: RecordKey(u64::from_str_radix(key, 16).ok()?),
        state: u32::from_str_radix(state, 16).ok()?,
    })
}

fn range(object: &Map<String, Value>) -> Option<KeyRange> {
    let depth = u8::try_from(object.get("depth")?.as_u64()?).ok()?;
    Some(KeyRange { depth, prefix: number(object, "prefix")? }).filter(KeyRange::is_valid)
}

fn pull(object: &Map<String, Value>) -> Option<Pull> {
    Some(Pull { cursor: number(object, "cursor")?, since: Stamp(number(object, "since")?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Option<(RecordKind, Comparison)> {
        let root: Value = serde_json::from_slice(text).ok()?;
        let object = root.as_object()?;
        parse(object.get("action")?.as_str()?, object)
    }

    #[test]
    fn comparisons_travel_whole() {
        let range = KeyRange::ALL.part(0xab);
        let pull = Pull { cursor: 7 << 32, since: Stamp(1 << 60) };
        let entry = DigestEntry { key: RecordKey(range.prefix | 5), state: 9 };
        for message in [
            ExchangeMessage::Root(Root { count: 3, sum: u64::MAX }),
            ExchangeMessage::Sums(range, (0..256).collect()),
            ExchangeMessage::Keys(range, vec![entry, DigestEntry { state: u32::MAX, ..entry }]),
            ExchangeMessage::Keys(range, Vec::new()),
            ExchangeMessage::Want(vec![RecordKey(1), RecordKey(u64::MAX)]),
            ExchangeMessage::Records(vec![b"{\"a\":1}".to_vec(), b"{}".to_vec()]),
            ExchangeMessage::Pull(pull),
            ExchangeMessage::Part(pull, 3, vec![b"{}".to_vec()]),
            ExchangeMessage::Page(pull, PageEnd { next: None, parts: 0 }),
            ExchangeMessage::Page(pull, PageEnd { next: Some(12), parts: MOST_COUNTED }),
        ] {
            let text = to_json("\"a:1\"", RecordKind::Publications, &message, Stamp(7));
            assert_eq!(read(&text), Some((RecordKind::Publications, message)), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn what_is_no_comparison_is_refused() {
        for bad in [
            r#"{"action":"root","kind":2,"count":1,"sum":"1"}"#,
            r#"{"action":"root","kind":0,"count":-1,"sum":"1"}"#,
            r#"{"action":"root","kind":0,"count":1,"sum":1}"#,
            r#"{"action":"sums","kind":0,"depth":0,"prefix":"0","sums":"00"}"#,
            r#"{"action":"keys","kind":0,"depth":9,"prefix":"0","keys":""}"#,
            r#"{"action":"keys","kind":0,"depth":1,"prefix":"1","keys":""}"#,
            r#"{"action":"keys","kind":0,"depth":0,"prefix":"0","keys":"zz"}"#,
            r#"{"action":"want","kind":0,"keys":"+123456789abcdef"}"#,
            r#"{"action":"page","kind":0,"cursor":"1","since":"0","next":"x"}"#,
            r#"{"action":"page","kind":0,"cursor":"1","since":"0","parts":-1}"#,
            r#"{"action":"records","kind":0,"cursor":"1","since":"0","part":256,"list":[]}"#,
            r#"{"action":"records","kind":0,"part":0,"list":[]}"#,
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_message_has_a_bounded_number_of_records() {
        let message = |count: usize| {
            let list = vec!["{}"; count].join(",");
            read(format!(r#"{{"action":"records","kind":0,"list":[{list}]}}"#).as_bytes())
        };
        assert!(message(MOST_RECORDS).is_some() && message(MOST_RECORDS + 1).is_none());
    }
}
