//! Subscriptions on several nodes: each has one owner, who alone sends its NOTIFYs; the others hold a replica, and one
//! of them goes on when the owner is lost. This file reads and writes what the nodes send each other, and decides who
//! owns what.
use super::comparison::{self, Comparison, RecordKind};
use super::json_bytes::{bytes, text};
use super::placed::{self, Placed};
use super::replica;
use super::replica_refresh::ReplicaRefresh;
use crate::cluster::clock::Stamp;
use crate::cluster::digest::RecordKey;
use crate::cluster::numbers::{BLOCK, HIGHEST, HeldNumbers};
use crate::cluster::succession;
use crate::cluster::version::Version;
use crate::presence::event_package::Packages;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::{FIELDS, Field, STORED_FIELDS};
use crate::presence::subscription::{RowState, Status, Subscription, SubscriptionState};
use crate::sip::transport::Transport;
use crate::time::{Moment, Seconds};
use serde_json::{Map, Value, json};
use std::num::NonZeroU32;

/// The version of the messages: what later ones add is passed over by this one, and may be missing for later ones.
pub const MESSAGES: u8 = 4;

/// Nodes whose messages have this version or a later one read [`NodeMessage::Refresh`].
pub const REFRESHES: u8 = 3;

/// Nodes whose messages have this version or a later one know by the From header who has sent a refresh without a name.
pub const UNNAMED: u8 = 4;

/// Nodes whose messages have this version or a later one say by the cluster's clock when they have received a
/// publication.
pub const CLOCKED: u8 = 4;

/// What decides between two nodes that both hold a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnershipClaim {
    /// The CSeq of the last SUBSCRIBE: the watcher has spoken to the node with the larger one last.
    pub remote_cseq: u32,
    /// How often the subscription has changed hands.
    pub epoch: u32,
    /// The owner's name.
    pub owner: Vec<u8>,
    /// When its owner changed it last; 0 from nodes that do not say.
    pub stamp: Stamp,
    /// The lease of the owner that it is owned under; `None` without an arbiter.
    pub lease: Option<NonZeroU32>,
    /// No CSeq above this one has been used.
    pub ceiling: u32,
    /// The CSeq it has come to, as far as the sender knows.
    pub local_cseq: u32,
}

impl OwnershipClaim {
    /// As it is compared.
    pub fn held(&self) -> HeldNumbers {
        let owner = RecordKey::of_names(&[&self.owner]).0;
        HeldNumbers {
            version: Version { word: self.remote_cseq, epoch: self.epoch, stamp: self.stamp, owner },
            local: self.local_cseq,
            ceiling: self.ceiling,
        }
    }
}

/// The key of a dialog's subscription among all nodes.
pub fn dialog_key(dialog: DialogId<'_>) -> RecordKey {
    RecordKey::of_names(&[dialog.call_id, dialog.from_tag, dialog.to_tag])
}

/// A subscription as its owner announces it.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// The subscription; `expires_at` counts by the clock of the reader.
    pub subscription: Subscription,
    /// The owner, and since when.
    pub claim: OwnershipClaim,
}

/// A subscription that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// Our tag.
    pub to_tag: Vec<u8>,
    /// The watcher's tag.
    pub from_tag: Vec<u8>,
    /// The watcher, or an operator, ended it: true for every owner there may be. Otherwise only replicas go.
    pub for_good: bool,
}

impl Ending {
    /// The dialog that has ended.
    pub fn dialog(&self) -> DialogId<'_> {
        DialogId { call_id: &self.call_id, to_tag: &self.to_tag, from_tag: &self.from_tag }
    }
}

/// What nodes send each other.
#[derive(Debug, Clone)]
pub enum NodeMessage {
    /// A node says that it is there, and whether it wants the same in return.
    Hello {
        /// Whether it is to be answered.
        reply: HelloReply,
        /// Which kinds of records it compares, as bits; 0 from nodes that do not say.
        compares: u8,
        /// The version of its messages ([`MESSAGES`]); 1 from nodes that do not say.
        speaks: u8,
        /// The cluster's clock; 0 from nodes that do not say.
        stamp: Stamp,
    },
    /// A node compares what it holds with what we hold, and says the cluster's clock.
    Compare(RecordKind, Comparison, Stamp),
    /// The sender ends: others go on with its subscriptions at once; under an arbiter the node named here, if one is.
    Leave(Option<Vec<u8>>),
    /// A node that has just joined wants to know all subscriptions.
    Sync,
    /// Where records are placed.
    Placed(Placed),
    /// A subscription was made, changed, or went to another node.
    Subscription(Box<Announcement>),
    /// A subscription was refreshed, and nothing else.
    Refresh(ReplicaRefresh),
    /// A subscription has ended.
    End(Ending),
    /// Something this version does not know.
    Other,
}

/// The names of the strings of a subscription, in the order of [`Field`].
const NAMES: [&str; FIELDS] = [
    "pres_uri",
    "to_user",
    "to_domain",
    "from_user",
    "from_domain",
    "watcher_user",
    "watcher_domain",
    "event_id",
    "to_tag",
    "from_tag",
    "callid",
    "socket",
    "contact",
    "local_contact",
    "record_route",
    "reason",
    "user_agent",
    "local_uri",
    "remote_uri",
];

fn number(object: &Map<String, Value>, name: &str) -> Option<u32> {
    object.get(name)?.as_u64().and_then(|n| u32::try_from(n).ok())
}

/// Whether a hello is to be answered by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloReply {
    /// An answer is wanted.
    Wanted,
    /// The hello is an answer itself.
    Given,
}

/// A hello of the node `name`; `compares`: which kinds of records it compares, as bits.
pub fn hello(name: &[u8], reply: HelloReply, compares: u8, stamp: Stamp) -> Vec<u8> {
    let answer = reply == HelloReply::Wanted;
    let (node, stamp) = (text(name), stamp.0);
    json!({"action": "hello", "node": node, "answer": answer, "v": MESSAGES, "compares": compares, "stamp": stamp})
        .to_string()
        .into_bytes()
}

/// What the node `name` says when it ends, and has handed its lease over to `successor`.
pub fn leave(name: &[u8], successor: Option<&[u8]>) -> Vec<u8> {
    let mut object = json!({"action": "goodbye", "node": text(name)});
    if let (Some(object), Some(successor)) = (object.as_object_mut(), successor) {
        object.insert("heir".into(), text(successor));
    }
    object.to_string().into_bytes()
}

/// A comparison message of the node `name`.
pub fn compare(name: &[u8], kind: RecordKind, message: &Comparison, stamp: Stamp) -> Vec<u8> {
    comparison::to_json(&text(name).to_string(), kind, message, stamp)
}

/// What the node `name` asks when it joins.
pub fn sync(name: &[u8]) -> Vec<u8> {
    json!({"action": "sync", "node": text(name)}).to_string().into_bytes()
}

impl Announcement {
    /// The message of the node `name`, whose clock shows `now`.
    pub fn to_json(&self, name: &[u8], packages: &Packages, now: Moment) -> Vec<u8> {
        let n = &self.subscription.state;
        let mut object = json!({
            "action": "subscription", "node": text(name), "owner": text(&self.claim.owner), "term": self.claim.epoch,
            "event": text(packages.get(n.event).name), "status": n.status as i64,
            "expires": (n.expires_at - now).max(Seconds::ZERO).0,
            "local_cseq": n.local_cseq, "remote_cseq": n.remote_cseq, "version": n.version, "flags": n.flags,
            "age": n.since.map_or(now.seconds(), |since| (now - since).0.max(0)),
            "transport": text(n.transport.word()), "v": MESSAGES,
            "stamp": self.claim.stamp.0, "ceiling": self.claim.ceiling,
        });
        if let Value::Object(object) = &mut object {
            if let Some(lease) = self.claim.lease {
                object.insert("lease".into(), lease.get().into());
            }
            for (name, field) in NAMES.iter().zip(self.subscription.fields()) {
                object.insert((*name).into(), text(field));
            }
        }
        object.to_string().into_bytes()
    }
}

impl Ending {
    /// The message of the node `name`.
    pub fn to_json(&self, name: &[u8]) -> Vec<u8> {
        json!({
            "action": "end", "node": text(name), "callid": text(&self.call_id), "to_tag": text(&self.to_tag),
            "from_tag": text(&self.from_tag), "for_good": self.for_good,
        })
        .to_string()
        .into_bytes()
    }
}

/// The name of the node that a message comes from.
pub fn sender(body: &[u8]) -> Option<Vec<u8>> {
    match serde_json::from_str(&replica::as_text(body.trim_ascii_end())).ok()? {
        Value::Object(object) => bytes(object.get("node")),
        Value::Array(list) => ReplicaRefresh::parse(&list).map(|(name, _)| name),
        _ => None,
    }
}

/// Reads a message and the name of the node it comes from. Members nobody knows are passed over; `None` for what is no
/// message.
pub fn parse(body: &[u8], packages: &Packages, now: Moment) -> Option<(Vec<u8>, NodeMessage)> {
    let root: Value = serde_json::from_str(&replica::as_text(body.trim_ascii_end())).ok()?;
    if let Value::Array(list) = &root {
        return ReplicaRefresh::parse(list).map(|(name, refresh)| (name, NodeMessage::Refresh(refresh)));
    }
    let object = root.as_object()?;
    let node = bytes(object.get("node")).filter(|name| !name.is_empty() && name.len() < 256)?;
    let message = match object.get("action")?.as_str()? {
        "hello" => NodeMessage::Hello {
            reply: if object.get("answer")?.as_bool()? { HelloReply::Wanted } else { HelloReply::Given },
            compares: object.get("compares").map_or(Some(0), |kinds| kinds.as_u64().map(|kinds| kinds as u8))?,
            speaks: object.get("v").map_or(Some(1), Value::as_u64)?.min(u8::MAX.into()) as u8,
            stamp: stamp(object)?,
        },
        "goodbye" => NodeMessage::Leave(bytes(object.get("heir"))),
        what @ ("root" | "sums" | "keys" | "want" | "records" | "pull" | "page") => {
            let (kind, comparison) = comparison::parse(what, object)?;
            NodeMessage::Compare(kind, comparison, stamp(object)?)
        }
        what @ ("share" | "offer" | "held" | "refresh") => NodeMessage::Placed(placed::parse(what, object)?),
        "sync" => NodeMessage::Sync,
        "subscription" => NodeMessage::Subscription(Box::new(announcement(object, packages, now)?)),
        "end" => NodeMessage::End(Ending {
            call_id: bytes(object.get("callid"))?,
            to_tag: bytes(object.get("to_tag"))?,
            from_tag: bytes(object.get("from_tag"))?,
            for_good: object.get("for_good")?.as_bool()?,
        }),
        _ => NodeMessage::Other,
    };
    Some((node, message))
}

/// The stamp in a message; 0 where there is none.
fn stamp(object: &Map<String, Value>) -> Option<Stamp> {
    object.get("stamp").map_or(Some(0), Value::as_u64).map(Stamp)
}

fn announcement(object: &Map<String, Value>, packages: &Packages, now: Moment) -> Option<Announcement> {
    // The last ones came later: older nodes leave them out.
    let text_of = |(at, name): (usize, &&str)| match object.get(*name) {
        None if at >= STORED_FIELDS => Some(Vec::new()),
        text => bytes(text),
    };
    let texts: Vec<Vec<u8>> = NAMES.iter().enumerate().map(text_of).collect::<Option<_>>()?;
    let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
    for (slot, text) in fields.iter_mut().zip(&texts) {
        *slot = text;
    }
    // A CSeq ends at 2^31 (RFC 3261 8.1.1.5): a larger one would lock the watcher out of its dialog.
    let remote_cseq = number(object, "remote_cseq").filter(|n| *n < 1 << 31)?;
    let counted = |name| number(object, name).filter(|n| *n <= HIGHEST);
    let state = SubscriptionState {
        event: packages.named(&bytes(object.get("event"))?)?,
        status: Status::from_number(number(object, "status")?.into())?,
        expires_at: now + Seconds::from(number(object, "expires")?),
        local_cseq: counted("local_cseq")?,
        remote_cseq,
        version: counted("version")?,
        flags: number(object, "flags")?,
        updated: -1,
        updated_winfo: -1,
        since: Some(now - Seconds::from(number(object, "age")?)),
        refreshed_at: Some(now),
        row_state: RowState::Clean,
        transport: Transport::named(&bytes(object.get("transport")).unwrap_or_default()),
    };
    let subscription = Subscription::new(state, &fields).ok()?;
    let complete = [Field::PresUri, Field::CallId, Field::ToTag, Field::FromTag, Field::Contact];
    if complete.iter().any(|field| subscription.get(*field).is_empty()) {
        return None;
    }
    let owner = bytes(object.get("owner")).filter(|name| !name.is_empty() && name.len() < 256)?;
    let ceiling = match object.get("ceiling") {
        Some(_) => number(object, "ceiling").filter(|n| *n <= HIGHEST)?.max(state.local_cseq),
        None => state.local_cseq.saturating_add(BLOCK),
    };
    let stamp = stamp(object)?;
    let lease = object.get("lease").map_or(Some(0), |_| number(object, "lease")).map(NonZeroU32::new)?;
    let (epoch, local_cseq) = (number(object, "term")?, state.local_cseq);
    let claim = OwnershipClaim { remote_cseq, epoch, owner, stamp, lease, ceiling, local_cseq };
    Some(Announcement { subscription, claim })
}

/// Which of the nodes that are left goes on with a dialog when its owner is lost: each node comes to the same answer,
/// and the dialogs of one owner go to all others alike. `turn` counts up while nobody does, so that the next one in
/// order steps in.
pub fn successor<'a>(nodes: &[&'a [u8]], dialog: DialogId<'_>, turn: usize) -> Option<&'a [u8]> {
    succession::successor(nodes, &[dialog.call_id, dialog.from_tag, dialog.to_tag], turn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::testing::fixtures::packages;

    fn announcement() -> Announcement {
        let texts: Vec<Vec<u8>> = (0..FIELDS).map(|n| vec![b'a' + n as u8; 3]).collect();
        let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
        for (slot, text) in fields.iter_mut().zip(&texts) {
            *slot = text;
        }
        fields[3] = b"\xff\"\\";
        let state = SubscriptionState {
            event: PackageId(0),
            status: Status::Pending,
            expires_at: Moment::at(1600),
            local_cseq: 7,
            remote_cseq: 8,
            version: 9,
            flags: 10,
            updated: -1,
            updated_winfo: -1,
            since: Some(Moment::at(900)),
            refreshed_at: Some(Moment::at(0)),
            row_state: RowState::Clean,
            transport: Transport::Tls,
        };
        let claim = OwnershipClaim {
            remote_cseq: 8,
            epoch: 3,
            owner: b"b:2".to_vec(),
            stamp: Stamp(1 << 60),
            lease: NonZeroU32::new(2),
            ceiling: 1008,
            local_cseq: 7,
        };
        Announcement { subscription: Subscription::new(state, &fields).unwrap(), claim }
    }

    #[test]
    fn a_subscription_travels_whole() {
        let sent = announcement();
        let body = sent.to_json(b"a:1", &packages(), Moment::at(1000));
        let Some((node, NodeMessage::Subscription(read))) = parse(&body, &packages(), Moment::at(5000)) else {
            panic!("{body:?}")
        };
        assert_eq!(node, b"a:1");
        assert_eq!(read.claim, sent.claim);
        assert_eq!(read.subscription.fields(), sent.subscription.fields());
        let n = read.subscription.state;
        assert_eq!(
            (n.expires_at, n.since, n.local_cseq, n.version, n.flags),
            (Moment::at(5600), Some(Moment::at(4900)), 7, 9, 10)
        );
        assert_eq!((n.status, n.transport), (Status::Pending, Transport::Tls));
    }

    #[test]
    fn a_subscription_of_an_older_node_is_read() {
        let whole = String::from_utf8(announcement().to_json(b"a:1", &packages(), Moment::at(1000))).unwrap();
        let mut older: Value = serde_json::from_str(&whole).unwrap();
        for later in ["v", "stamp", "ceiling", "transport", "local_uri", "remote_uri"] {
            assert!(older.as_object_mut().unwrap().remove(later).is_some(), "{later}");
        }
        let read = parse(older.to_string().as_bytes(), &packages(), Moment::at(5000));
        let Some((_, NodeMessage::Subscription(read))) = read else { panic!("{read:?}") };
        assert_eq!((read.claim.stamp, read.claim.ceiling), (Stamp(0), 7 + BLOCK));
    }

    #[test]
    fn the_other_messages_too() {
        let ending =
            Ending { call_id: b"c".to_vec(), to_tag: b"t".to_vec(), from_tag: b"f\xfe".to_vec(), for_good: true };
        let read = parse(&ending.to_json(b"a:1"), &packages(), Moment::at(0));
        assert!(matches!(read, Some((_, NodeMessage::End(read))) if read == ending));
        assert!(matches!(
            parse(&hello(b"a:1", HelloReply::Wanted, 3, Stamp(7)), &packages(), Moment::at(0)),
            Some((_, NodeMessage::Hello { reply: HelloReply::Wanted, compares: 3, speaks: MESSAGES, stamp: Stamp(7) }))
        ));
        assert!(matches!(parse(&sync(b"a:1"), &packages(), Moment::at(0)), Some((_, NodeMessage::Sync))));
        for successor in [None, Some(b"b:2".as_slice())] {
            let read = parse(&leave(b"a:1", successor), &packages(), Moment::at(0));
            assert!(matches!(read, Some((_, NodeMessage::Leave(read))) if read.as_deref() == successor));
        }
        let newer = br#"{"action":"balance","node":"a:1","x":[1]}"#;
        assert!(matches!(parse(newer, &packages(), Moment::at(0)), Some((_, NodeMessage::Other))));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let whole = String::from_utf8(announcement().to_json(b"a:1", &packages(), Moment::at(1000))).unwrap();
        for (from, to) in [
            ("\"node\":\"a:1\"", "\"node\":\"\""),
            ("\"presence\"", "\"nothing\""),
            ("\"status\":2", "\"status\":9"),
            ("\"local_cseq\":7", "\"local_cseq\":2000000000"),
            ("\"term\":3", "\"term\":-3"),
            ("\"term\":3", "\"term\":99999999999"),
            ("\"callid\":\"kkk\"", "\"callid\":\"\""),
            ("\"callid\":\"kkk\"", "\"callid\":[300]"),
            ("\"callid\":\"kkk\"", "\"callid\":{}"),
            ("\"callid\":\"kkk\"", "\"callid\":\"k k\""),
            ("\"contact\":\"mmm\"", "\"contact\":\"sip:m\\r\\nX: y\""),
            ("\"event_id\":\"hhh\"", "\"event_id\":\"h;h\""),
            ("\"remote_cseq\":8", "\"remote_cseq\":4294967295"),
        ] {
            let changed = whole.replace(from, to);
            assert_ne!(changed, whole, "{from}");
            assert!(parse(changed.as_bytes(), &packages(), Moment::at(0)).is_none(), "{to}");
        }
        for bad in ["", "[]", "{", "{\"node\":\"a\"}", "{\"action\":\"hello\"}", "{\"action\":7,\"node\":\"a\"}"] {
            assert!(parse(bad.as_bytes(), &packages(), Moment::at(0)).is_none(), "{bad}");
        }
    }
}
