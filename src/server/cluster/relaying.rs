//! Requests about presentities that other nodes serve (`cluster_replicas`): they are sent on to these, and the answers
//! come back the same way.
use crate::cluster::mark::About;
use crate::common::counters::{self, Counter};
use crate::host::dmq;
use crate::host::msg::{AddressHeader, SipMsg};
use crate::host::sl;
use crate::host::tm::TmCallback;
use crate::host::tm_relay::{self, Failed, OnFailure};
use crate::limited;
use crate::presence::error::Failure;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::server::announcing::{holders, ownership, sending};
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::sip::checked::{HostPart, UserPart};
use crate::sip::uri;
use crate::time::{Millis, Seconds};

/// A request with this header was sent on by a node: it is answered where it arrives.
const MARK: &[u8] = b"P-Presence-Node";

/// A node that has not answered a request within this time is passed over.
const RELAY_TIMEOUT: Millis = Millis(2_000);

/// What a node answers that does not serve a request now.
const NOT_SERVED: u16 = 503;

/// A phone that no node has served may come back after this time.
const COME_BACK: Seconds = Seconds(2);

/// The headers that decide what becomes of a request, with their short forms (RFC 3261 7.3.3).
const SEALED: [(&[u8], &[u8]); 11] = [
    (b"Contact", b"m"),
    (b"Event", b"o"),
    (b"Expires", b""),
    (b"SIP-If-Match", b""),
    (b"Record-Route", b""),
    (b"Content-Type", b"c"),
    (b"Content-Encoding", b"e"),
    (b"Accept", b""),
    (b"Supported", b"k"),
    (b"Require", b""),
    (b"User-Agent", b""),
];

/// What a phone is answered when no node answers.
const RETRY_AFTER: &[u8] = b"Retry-After: 2\r\n";

/// Sends a request on that is not served here; tm calls `on_failure` where a node has not answered it. `None`: it is
/// served here.
///
/// # Errors
///
/// Fails when the request is refused, or cannot be sent on.
pub fn elsewhere(context: &mut Context, message: SipMsg<'_>, on_failure: TmCallback) -> Option<Result<(), Failure>> {
    if !context.config.is_in_cluster() || !message.parse_headers() {
        return None;
    }
    let marked = message.find(MARK);
    if marked.is_none() {
        context.config.replicas()?;
    }
    let asked_for = presentity(message);
    let about = about(message, asked_for.as_deref().unwrap_or_default());
    if let Some(value) = marked {
        return refuse_stranger(context, message, value, &about).or_else(|| refuse_early(context)).map(Err);
    }
    let uri = known_presentity(context, message).or_else(|| asked_for.clone())?;
    let nodes = holders::served_at(context, &uri);
    let (id, address) = nodes.first()?;
    let node = dmq::uri_of(address)?;
    let mut asked = AskedNodes::default();
    asked.add(*id);
    let mark = [MARK, b": ", &sending::mark_of(context, &about), b"\r\n"].concat();
    let failure = OnFailure { timeout: RELAY_TIMEOUT, callback: on_failure, word: asked.0 };
    if !tm_relay::relay(message, &node, &mark, failure) {
        return Some(Err(Failure::overloaded(
            COME_BACK,
            "the node that serves the presentity cannot be sent the request",
        )));
    }
    counters::count(Counter::RequestsRelayed);
    Some(Ok(()))
}

/// What a request is about, with the presentity that it names.
fn about<'a>(message: SipMsg<'a>, presentity: &'a [u8]) -> About<'a> {
    let values = |long, short| message.find_all(long).chain(message.find_all(short));
    let headers = (0..).zip(SEALED).flat_map(|(n, (long, short))| values(long, short).map(move |value| (n, value)));
    let tag = |party: Option<AddressHeader<'a>>| party.map_or(b"".as_slice(), |party| party.tag);
    About {
        method: if message.is_publish() { b"PUBLISH" } else { b"SUBSCRIBE" },
        presentity,
        call_id: message.call_id().unwrap_or_default(),
        tags: [tag(message.from()), tag(message.to())],
        cseq: message.cseq().unwrap_or_default(),
        headers: headers.collect(),
        // Sent on over a stream a datagram's Content-Length is made that of all it has.
        body: message.after_headers(),
    }
}

/// A sender that is no node cannot say that a request was authenticated at one: 403. Where a node has sent it and
/// something else is wrong (the clocks, a secret that is being changed) the phone may come back: 503.
fn refuse_stranger(context: &Context, message: SipMsg<'_>, value: &[u8], about: &About<'_>) -> Option<Failure> {
    let (source, own) = (message.source(), String::from_utf8_lossy(message.socket()).into_owned());
    let own = own.split_once(':').map_or("", |(_, address)| without_port(address));
    let address = without_port(&source);
    let why = sending::admit_request(context, address, own, value, about).err()?;
    counters::count(Counter::DmqRejected);
    if context.shared.cluster_state.may_write_refusal() {
        crate::log!(
            Warn,
            "a request from {source} that says it was sent on by a node is refused: {} (one line a minute)",
            why.text()
        );
    }
    let text = format!("it was not sent on by a node: {}", why.text());
    let is_of_cluster = address == own || sending::is_node_address(context, address);
    Some(if is_of_cluster { Failure::overloaded(COME_BACK, text) } else { Failure::no_node(text) })
}

/// A node that has restarted has not all that it should hold yet: another one answers what is sent to it; the node that
/// has sent it asks that one then.
fn refuse_early(context: &Context) -> Option<Failure> {
    let is_early = context.config.replicas().is_some() && !context.shared.cluster_state.placing.may_serve();
    is_early.then(|| Failure::overloaded(COME_BACK, "this node does not have its share of the records yet"))
}

fn without_port(text: &str) -> &str {
    text.rsplit_once(':').map_or(text, |(address, _)| address)
}

/// The presentity of the subscription that a SUBSCRIBE belongs to, if there is a copy of it here.
fn known_presentity(context: &Context, message: SipMsg<'_>) -> Option<Vec<u8>> {
    let to = message.to().filter(|to| !message.is_publish() && !to.tag.is_empty())?;
    let dialog = DialogId { call_id: message.call_id()?, to_tag: to.tag, from_tag: message.from()?.tag };
    let (subscription, _) = ownership::owned_subscription(context, dialog)?;
    Some(subscription.get(Field::PresUri).to_vec())
}

/// The presentity that a request is about: in a dialog its URI is that of a node, and To has the presentity.
fn presentity(message: SipMsg<'_>) -> Option<Vec<u8>> {
    let (user, host) = match message.to().filter(|to| !message.is_publish() && !to.tag.is_empty()) {
        Some(to) => (to.user, to.host),
        None => message.request_uri().map(|uri| (uri.user, uri.host))?,
    };
    Some(uri::join(UserPart::new(user).ok()?.bytes(), HostPart::new(host).ok()?.bytes()))
}

/// The nodes that were asked, in one word: two bytes each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct AskedNodes(usize);

impl AskedNodes {
    const BITS: u32 = 16;

    fn numbers(self) -> impl Iterator<Item = usize> {
        let places = (0..usize::BITS / AskedNodes::BITS).map(move |at| (self.0 >> (at * AskedNodes::BITS)) & 0xffff);
        places.take_while(|number| *number > 0)
    }

    fn number(node: NodeId) -> usize {
        node.place().map_or(0xffff, |place| (place + 1) & 0xffff)
    }

    fn has_node(self, node: NodeId) -> bool {
        self.numbers().any(|number| number == AskedNodes::number(node))
    }

    /// Whether there is room for one node more.
    fn add(&mut self, node: NodeId) -> bool {
        let count = self.numbers().count() as u32;
        let has_room = count < usize::BITS / AskedNodes::BITS;
        if has_room {
            self.0 |= AskedNodes::number(node) << (count * AskedNodes::BITS);
        }
        has_room
    }
}

/// Whether a node has not answered a request, or does not serve it now.
pub fn is_unserved(failed: &Failed<'_>) -> bool {
    failed.status().answer().is_none_or(|code| code == NOT_SERVED)
}

/// A node has not served a request: the next one is asked, or the phone is answered that it may come back.
pub fn ask_next(context: &Context, mut failed: Failed<'_>) {
    let request = failed.request();
    // This node may be the next one itself: it gets the request as the others do.
    let nodes = presentity(request).map(|uri| holders::serving_nodes(context, &uri)).unwrap_or_default();
    let mut asked = AskedNodes(*failed.word());
    let next = nodes.iter().find(|(node, _)| !asked.has_node(*node) && asked.add(*node));
    *failed.word() = asked.0;
    if next.and_then(|(_, address)| dmq::uri_of(address)).is_some_and(|next| tm_relay::send_on(request, &next)) {
        return;
    }
    limited!(Notice, "no node that serves the presentity of a request has answered it");
    if !sl::reply(request, 503, "Service Unavailable", RETRY_AFTER) {
        limited!(Error, "cannot send the reply 503");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_asked_once_and_four_at_most() {
        let mut asked = AskedNodes::default();
        for place in [0, 255, 7, 1] {
            assert!(
                !asked.has_node(NodeId::at(place)) && asked.add(NodeId::at(place)) && asked.has_node(NodeId::at(place))
            );
        }
        assert!(!asked.has_node(NodeId::at(2)) && !asked.add(NodeId::at(2)) && !asked.has_node(NodeId::HERE));
    }
}
