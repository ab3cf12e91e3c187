//! What nodes say to each other where not every node holds everything (`cluster_replicas`), as JSON: how many copies
//! there are, which records a node holds that others should, and what has to be done by those that hold a presentity.
use super::comparison::RecordKind;
use super::json_bytes::{bytes, text};
use serde_json::{Map, Value, json};

/// A message about the places of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// How the sender places records.
    Settings {
        /// With how many copies beside the first.
        replicas: u8,
        /// The node has all that it should hold.
        is_ready: bool,
    },
    /// Records that a node holds and should not: the receiver takes them, and passes them on.
    Offer(Offer),
    /// Records that were offered and are held by all that should hold them now: subscriptions by Call-ID, From tag and
    /// To tag, publications by presentity, event package and entity tag.
    Held(RecordKind, Vec<RecordName>),
    /// The watchers of a presentity have to be looked at again, as `pres_refresh_watchers()` does.
    Refresh {
        /// The presentity.
        uri: Vec<u8>,
        /// The event package.
        event: Vec<u8>,
        /// What has changed.
        kind: RefreshKind,
        /// The manipulation document that was changed, and the name of its file; empty: none.
        file: [Vec<u8>; 2],
    },
}

/// Why the watchers of a presentity are looked at again: the type of `pres_refresh_watchers()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshKind {
    /// The rules have changed.
    Rules = 0,
    /// The state has changed.
    State = 1,
    /// The manipulation document has changed.
    HardState = 2,
}

impl RefreshKind {
    /// The kind of this type; as with stock, the state is meant by types that there are not.
    pub fn of_number(number: i32) -> RefreshKind {
        match number {
            0 => RefreshKind::Rules,
            2 => RefreshKind::HardState,
            _ => RefreshKind::State,
        }
    }
}

/// Records that are offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The kind of these records.
    pub kind: RecordKind,
    /// The name of the node that holds them and should not.
    pub first: Vec<u8>,
    /// The names of the nodes that they are passed on to, one after the other; the last one answers the first.
    pub rest: Vec<Vec<u8>>,
    /// The records, each as it is announced.
    pub records: Vec<Vec<u8>>,
}

/// Records are passed on to at most this many nodes.
pub const LONGEST_LINE: usize = 16;

/// What a record is called by.
pub type RecordName = [Vec<u8>; 3];

/// A message is about at most this many records.
pub const MOST_OFFERED: usize = 512;

impl Placed {
    /// The message of the node `name`.
    pub fn to_json(&self, name: &[u8]) -> Vec<u8> {
        let node = text(name);
        let message = match self {
            Placed::Settings { replicas, is_ready } => {
                json!({"action": "share", "node": node, "replicas": replicas, "ready": is_ready})
            }
            Placed::Refresh { uri, event, kind, file: [file_uri, filename] } => json!({
                "action": "refresh", "node": node, "uri": text(uri), "event": text(event), "type": *kind as u8,
                "file_uri": text(file_uri), "filename": text(filename),
            }),
            Placed::Held(kind, names) => {
                let list: Vec<Value> = names.iter().map(|name| name.iter().map(|part| text(part)).collect()).collect();
                json!({"action": "held", "node": node, "kind": *kind as u8, "list": list})
            }
            Placed::Offer(Offer { kind, first, rest, records }) => {
                let (first, rest): (Value, Value) = (text(first), rest.iter().map(|name| text(name)).collect());
                let rest = format!("\"first\":{first},\"rest\":{rest}");
                let head = format!("{{\"action\":\"offer\",\"node\":{node},\"kind\":{},{rest},\"list\":[", *kind as u8);
                return [head.as_bytes(), &records.join(b",".as_slice()), b"]}"].concat();
            }
        };
        message.to_string().into_bytes()
    }
}

fn kind(object: &Map<String, Value>) -> Option<RecordKind> {
    match object.get("kind")?.as_u64()? {
        0 => Some(RecordKind::Subscriptions),
        1 => Some(RecordKind::Publications),
        _ => None,
    }
}

fn name(value: &Value) -> Option<RecordName> {
    let parts: Vec<Vec<u8>> = value.as_array()?.iter().map(|part| bytes(Some(part))).collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn names(value: &Value) -> Option<Vec<Vec<u8>>> {
    let list = value.as_array().filter(|list| list.len() <= LONGEST_LINE)?;
    list.iter().map(|name| bytes(Some(name))).collect()
}

/// Reads such a message; `None`: it is none.
pub fn parse(action: &str, object: &Map<String, Value>) -> Option<Placed> {
    let list = || object.get("list")?.as_array().filter(|list| list.len() <= MOST_OFFERED);
    Some(match action {
        "share" => Placed::Settings {
            replicas: u8::try_from(object.get("replicas")?.as_u64()?).ok()?,
            is_ready: object.get("ready")?.as_bool()?,
        },
        "refresh" => Placed::Refresh {
            uri: bytes(object.get("uri"))?,
            event: bytes(object.get("event"))?,
            kind: RefreshKind::of_number(i32::try_from(object.get("type")?.as_i64()?).ok()?),
            file: [bytes(object.get("file_uri"))?, bytes(object.get("filename"))?],
        },
        "offer" => Placed::Offer(Offer {
            kind: kind(object)?,
            first: bytes(object.get("first"))?,
            rest: names(object.get("rest")?)?,
            records: list()?.iter().map(|record| record.to_string().into_bytes()).collect(),
        }),
        "held" => Placed::Held(kind(object)?, list()?.iter().map(name).collect::<Option<_>>()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Option<Placed> {
        let root: Value = serde_json::from_slice(message).ok()?;
        parse(root.get("action")?.as_str()?, root.as_object()?)
    }

    #[test]
    fn messages_travel_whole() {
        let name = |n: &[u8]| [n.to_vec(), b"\xff\"".to_vec(), Vec::new()];
        for message in [
            Placed::Settings { replicas: 2, is_ready: true },
            Placed::Offer(Offer {
                kind: RecordKind::Subscriptions,
                first: b"a:1".to_vec(),
                rest: vec![b"b:\xff".to_vec(), b"c:3".to_vec()],
                records: vec![br#"{"a":1}"#.to_vec(), br#"{"b":"c"}"#.to_vec()],
            }),
            Placed::Offer(Offer {
                kind: RecordKind::Publications,
                first: b"a:1".to_vec(),
                rest: Vec::new(),
                records: Vec::new(),
            }),
            Placed::Held(RecordKind::Publications, vec![name(b"sip:a@b"), name(b"c")]),
            Placed::Refresh {
                uri: b"sip:a@b".to_vec(),
                event: b"presence".to_vec(),
                kind: RefreshKind::HardState,
                file: [b"http://x/pidf".to_vec(), b"pidf".to_vec()],
            },
        ] {
            assert_eq!(read(&message.to_json(b"a:1")), Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            r#"{"action":"share","replicas":256,"ready":true}"#,
            r#"{"action":"share","replicas":1}"#,
            r#"{"action":"held","kind":2,"list":[]}"#,
            r#"{"action":"held","kind":0,"list":[["a","b"]]}"#,
            r#"{"action":"offer","kind":0,"first":"a:1","rest":[]}"#,
            r#"{"action":"offer","kind":0,"first":"a:1","list":[]}"#,
            r#"{"action":"offer","kind":0,"rest":[],"list":[]}"#,
            r#"{"action":"refresh","uri":7,"event":"presence","type":0}"#,
            r#"{"action":"other"}"#,
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        for (rest, list) in [(LONGEST_LINE + 1, 1), (1, MOST_OFFERED + 1)] {
            let (rest, list) = (vec!["b:2"; rest], vec![1; list]);
            let many = json!({"action": "offer", "kind": 0, "first": "a:1", "rest": rest, "list": list});
            assert_eq!(read(many.to_string().as_bytes()), None);
        }
    }
}
