//! A subscription as stock's nodes announce it to each other from Kamailio 6.1 on: the JSON of their DMQ messages.
use super::replica::{as_text, number, push_quoted, text};
use crate::presence::event_package::Packages;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::{FIELDS, Field};
use crate::presence::subscription::{RowState, Status, Subscription, SubscriptionState};
use crate::sip::transport::Transport;
use crate::time::{Moment, Seconds};
use serde_json::Value;

/// What a message asks for (`action`).
#[derive(Debug, Clone)]
pub enum StockMessage {
    /// 3: a subscription was made, refreshed, or its watcher was notified.
    Subscription(Box<Subscription>),
    /// 3 with `expires` 0: a subscription has ended.
    End(StockDialog),
    /// 4: a node that has just joined wants to know what there is.
    Sync,
    /// Something else.
    Other,
}

/// A dialog of its own strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockDialog {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// Our tag.
    pub to_tag: Vec<u8>,
    /// The watcher's tag.
    pub from_tag: Vec<u8>,
}

impl StockDialog {
    /// The same, lent.
    pub fn id(&self) -> DialogId<'_> {
        DialogId { call_id: &self.call_id, to_tag: &self.to_tag, from_tag: &self.from_tag }
    }
}

/// The message with which a node asks for all subscriptions.
pub const SYNC: &[u8] = b"{\"action\":4}";

/// The strings of a message in stock's order, up to its event. A node of 6.1 refuses a message with any other member.
const STRINGS: [(&str, Field); 17] = [
    ("pres_uri", Field::PresUri),
    ("contact", Field::Contact),
    ("local_contact", Field::LocalContact),
    ("watcher_domain", Field::WatcherDomain),
    ("watcher_user", Field::WatcherUser),
    ("from_domain", Field::FromDomain),
    ("from_user", Field::FromUser),
    ("to_domain", Field::ToDomain),
    ("to_user", Field::ToUser),
    ("from_tag", Field::FromTag),
    ("to_tag", Field::ToTag),
    ("user_agent", Field::UserAgent),
    ("callid", Field::CallId),
    ("reason", Field::Reason),
    ("socket_info", Field::Socket),
    ("record_route", Field::RecordRoute),
    ("event_id", Field::EventId),
];

/// From 6.2 on a message says when the SUBSCRIBE was received; nodes of 6.1 refuse that.
const TELLS_RECEIPT: bool = crate::HOST_VERSION >= 6_002_000;

/// No dialog counts so far; a CSeq ends at 2^31 (RFC 3261 8.1.1.5).
const HIGHEST: i64 = 1 << 30;

/// A number below this is a duration in seconds, not a time since 1970: what stock's nodes take it for, too, as long as
/// nobody subscribes for thirty years.
const LONGEST: i64 = 1_000_000_000;

/// How a subscription is announced: as it is until `end`; none: it has ended.
pub fn to_json(subscription: &Subscription, packages: &Packages, end: Option<Moment>) -> Vec<u8> {
    let state = &subscription.state;
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"action\":3,\"subscription\":{");
    for (name, field) in STRINGS {
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
        push_quoted(&mut out, subscription.get(field));
        out.push(b',');
    }
    out.extend_from_slice(b"\"event\":");
    push_quoted(&mut out, packages.get(state.event).name);
    let mut numbers = vec![
        ("local_cseq", i64::from(state.local_cseq)),
        ("remote_cseq", i64::from(state.remote_cseq)),
        ("expires", end.map_or(0, Moment::seconds)),
        ("flags", i64::from(state.flags)),
        ("status", state.status as i64),
        ("version", i64::from(state.version)),
        ("updated", -1),
        ("updated_winfo", -1),
    ];
    if TELLS_RECEIPT {
        numbers.push(("recv", state.refreshed_at.map_or(0, Moment::seconds)));
    }
    for (name, number) in numbers {
        out.extend_from_slice(format!(",\"{name}\":{number}").as_bytes());
    }
    out.extend_from_slice(b"}}");
    out
}

/// Reads a message; `now` is this node's time. `None` for what is no message, or no subscription that this node can
/// have.
pub fn parse(body: &[u8], packages: &Packages, now: Moment) -> Option<StockMessage> {
    let root: Value = serde_json::from_str(&as_text(body.trim_ascii_end())).ok().filter(Value::is_object)?;
    match number(&root, "action")? {
        3 => subscription_of(root.get("subscription").filter(|value| value.is_object())?, packages, now),
        4 => Some(StockMessage::Sync),
        _ => Some(StockMessage::Other),
    }
}

fn subscription_of(object: &Value, packages: &Packages, now: Moment) -> Option<StockMessage> {
    let strings: Vec<Vec<u8>> = STRINGS.iter().map(|(name, _)| text(object, name)).collect::<Option<_>>()?;
    let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
    for ((_, field), text) in STRINGS.iter().zip(&strings) {
        fields[*field as usize] = text;
    }
    let event = packages.named(&text(object, "event")?)?;
    let counted = |name| number(object, name).filter(|n| (0..=HIGHEST).contains(n)).map(|n| n as u32);
    let end = ends_at(number(object, "expires")?, now)?;
    let state = SubscriptionState {
        status: Status::from_number(number(object, "status")?)?,
        expires_at: match end {
            AnnouncedEnd::Ended => now,
            AnnouncedEnd::At(end) => end,
        },
        local_cseq: counted("local_cseq")?,
        remote_cseq: u32::try_from(number(object, "remote_cseq")?).ok().filter(|n| *n < 1 << 31)?,
        version: counted("version")?,
        flags: u32::try_from(number(object, "flags")?).ok()?,
        since: Some(now),
        refreshed_at: match number(object, "recv")? {
            received if received > 0 => Some(Moment::at(received).min(now)),
            _ => Some(now),
        },
        row_state: RowState::Clean,
        transport: Transport::Unknown,
        ..SubscriptionState::new(event, Status::Active)
    };
    let subscription = Subscription::new(state, &fields).ok()?;
    let needed = [Field::PresUri, Field::CallId, Field::ToTag, Field::FromTag];
    if needed.iter().any(|field| subscription.get(*field).is_empty()) {
        return None;
    }
    if end == AnnouncedEnd::Ended {
        let DialogId { call_id, to_tag, from_tag } = subscription.dialog();
        return Some(StockMessage::End(StockDialog {
            call_id: call_id.to_vec(),
            to_tag: to_tag.to_vec(),
            from_tag: from_tag.to_vec(),
        }));
    }
    (!subscription.get(Field::Contact).is_empty()).then(|| StockMessage::Subscription(Box::new(subscription)))
}

/// What a node says of the end of a subscription.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AnnouncedEnd {
    /// The subscription has ended.
    Ended,
    /// The subscription ends then.
    At(Moment),
}

/// When a subscription ends; `None`: what was said is no time. Nodes say a time; a duration, as they keep it while a
/// request is in hand, counts from now.
fn ends_at(expires: i64, now: Moment) -> Option<AnnouncedEnd> {
    match expires {
        ..0 => None,
        0 => Some(AnnouncedEnd::Ended),
        1..LONGEST => Some(AnnouncedEnd::At(now + Seconds(expires))),
        _ => Some(AnnouncedEnd::At(Moment::at(expires))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use crate::presence::testing::fixtures;

    /// What two nodes of Kamailio 6.1.5 say to each other.
    const FROM_STOCK: &str = concat!(
        r#"{"action":3,"subscription":{"pres_uri":"sip:alice@example.org","contact":"sip:bob@127.0.0.1:42934","#,
        r#""local_contact":"sip:127.0.0.1:12484;transport=udp","watcher_domain":"example.org","watcher_user":"bob","#,
        r#""from_domain":"example.org","from_user":"bob","to_domain":"example.org","to_user":"alice","#,
        r#""from_tag":"912e2302ce","to_tag":"f971cd74efc183db6c213fe7af71dca7-86ffedaf","user_agent":"","#,
        r#""callid":"ad8c0aa32fde400c9b78f1c406c4140d","reason":"","socket_info":"udp:127.0.0.1:12484","#,
        r#""record_route":"","event_id":"","event":"presence","local_cseq":2,"remote_cseq":1,"expires":1795630861,"#,
        r#""flags":0,"status":1,"version":2,"updated":-1,"updated_winfo":-1}}"#,
    );
    const NOW: i64 = 1_795_630_561;

    fn read(text: &str) -> Option<StockMessage> {
        parse(text.as_bytes(), &fixtures::packages(), Moment::at(NOW))
    }

    fn subscription(text: &str) -> Subscription {
        match read(text) {
            Some(StockMessage::Subscription(subscription)) => *subscription,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stock_says_is_read_and_said_again() {
        let announced = subscription(FROM_STOCK);
        assert_eq!(announced.get(Field::PresUri), b"sip:alice@example.org");
        assert_eq!(announced.get(Field::Socket), b"udp:127.0.0.1:12484");
        let state = announced.state;
        assert_eq!(
            (state.event, state.status, state.expires_at),
            (PackageId(0), Status::Active, Moment::at(1_795_630_861))
        );
        assert_eq!((state.local_cseq, state.remote_cseq, state.version), (2, 1, 2));
        assert_eq!(to_json(&announced, &fixtures::packages(), Some(state.expires_at)), FROM_STOCK.as_bytes());
    }

    #[test]
    fn an_end_is_an_expiry_of_nothing() {
        let ended = FROM_STOCK.replace("1795630861", "0");
        let Some(StockMessage::End(dialog)) = read(&ended) else { panic!() };
        assert_eq!(dialog.id(), subscription(FROM_STOCK).dialog());
        assert_eq!(to_json(&subscription(FROM_STOCK), &fixtures::packages(), Some(Moment::at(0))), ended.as_bytes());
    }

    #[test]
    fn a_node_that_joins_asks() {
        assert!(matches!(parse(SYNC, &fixtures::packages(), Moment::at(NOW)), Some(StockMessage::Sync)));
        assert!(matches!(read(r#"{"action":2}"#), Some(StockMessage::Other)));
    }

    #[test]
    fn durations_count_from_now() {
        assert_eq!(subscription(&FROM_STOCK.replace("1795630861", "300")).state.expires_at, Moment::at(NOW + 300));
        // A clock that is behind: the subscription has expired.
        assert_eq!(
            subscription(&FROM_STOCK.replace("1795630861", "1795630000")).state.expires_at,
            Moment::at(1_795_630_000)
        );
    }

    #[test]
    fn members_that_later_versions_add_are_passed_over() {
        let later = FROM_STOCK.replace("\"flags\"", "\"recv\":1795630500,\"more\":[1],\"flags\"");
        assert_eq!(subscription(&later).state.refreshed_at, Some(Moment::at(1_795_630_500)));
    }

    #[test]
    fn what_no_subscription_can_have_is_refused() {
        for (from, to) in [
            ("\"event\":\"presence\"", "\"event\":\"unknown\""),
            ("ad8c0aa32fde400c9b78f1c406c4140d", ""),
            ("912e2302ce", "912e\\r\\nX: y"),
            ("sip:bob@127.0.0.1:42934", ""),
            ("sip:bob@127.0.0.1:42934", "sip:bob>\\r\\nX: y"),
            ("\"status\":1", "\"status\":9"),
            ("\"status\":1", "\"status\":\"1\""),
            ("\"remote_cseq\":1", "\"remote_cseq\":4294967295"),
            ("\"local_cseq\":2", "\"local_cseq\":-2"),
            ("\"expires\":1795630861", "\"expires\":-1"),
            ("\"callid\":\"", "\"callid\":7,\"x\":\""),
        ] {
            assert!(read(&FROM_STOCK.replacen(from, to, 1)).is_none(), "{to}");
        }
        for bad in ["", "{", "[]", r#"{"action":3}"#, r#"{"action":3,"subscription":[]}"#] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
