//! Which messages of other nodes are carried out: no more from one address than it may send, and none of a sender that
//! may not speak as a node.
use crate::common::counters::{self, Counter};
use crate::host::dmq::{Address, Channel};
use crate::host::msg::SipMsg;
use crate::host::{clock, log};
use crate::presence::replication::node_messages;
use crate::presence::replication::replica_refresh;
use crate::server::announcing::sending;
use crate::server::context::Context;
use crate::server::nodes::message_rate::{MOST_OF_NODE, MOST_OF_STRANGER, Sender};
use crate::server::shared::Parts;
use crate::time::Moment;
use std::borrow::Cow;

/// An answer to a message of another node.
pub type StatusLine = (i32, &'static str);

/// The message was carried out, or need not be.
pub const OK: StatusLine = (200, "OK");
/// The message was carried out, and this node knows something newer of the subscription, which it sends.
pub const NEWER_HERE: StatusLine = (202, "Newer Here");
/// The message cannot be read.
pub const BAD: StatusLine = (400, "Bad Request");

/// The sender may not speak as a node.
pub const FORBIDDEN: StatusLine = (403, "Forbidden");
/// More messages came from one address than a second may bring.
pub const TOO_MANY: StatusLine = (503, "Too Many Messages");

/// The address that a message comes from, without its port.
fn address_in(source: &str) -> &str {
    source.rsplit_once(':').map_or(source, |(address, _)| address)
}

/// Whose an address is, as far as that is known before its message is read. A node need not send from the address that
/// it says it has: it may be behind a NAT, or have several.
fn sender_at(context: &Context, from: Option<&Address>, source: &str, now: Moment) -> Sender {
    let (shared, address) = (context.process().shared, address_in(source));
    let is_listed = || shared.admission.lists_host(address.as_bytes()) == Some(true);
    let has_sealed = || shared.admission.has_secret() && shared.cluster_state.rates.has_sealed(source.as_bytes(), now);
    // dmq goes by what the message says of its sender.
    let says_so = |from: &Address| sending::may_receive(context, from) && sending::sends_from(from, address);
    match from.is_some_and(says_so) || is_listed() || has_sealed() {
        true => Sender::Node,
        false => Sender::Stranger,
    }
}

/// Whether a message is looked at: no more are of one address than it may send in a second. Where there is a secret,
/// those of a stranger count when they are refused: one that shows the secret is none.
pub fn is_within_rate(context: &Context, message: SipMsg<'_>, from: Option<&Address>) -> bool {
    let source = message.source();
    let (address, now) = (address_in(&source), clock::now());
    let shared = context.process().shared;
    let (rates, sender) = (&shared.cluster_state.rates, sender_at(context, from, &source, now));
    let is_within = match sender {
        Sender::Stranger if shared.admission.has_secret() => rates.has_room(sender, address.as_bytes(), now),
        _ => rates.take(sender, address.as_bytes(), now),
    };
    if is_within {
        return true;
    }
    counters::count(Counter::DmqLimited);
    if rates.may_write(now) {
        let most = if sender == Sender::Node { MOST_OF_NODE } else { MOST_OF_STRANGER };
        crate::log!(
            Warn,
            "messages to the cluster from {source} are refused: more than {most} in one second (one line a minute)"
        );
    }
    false
}

/// A message of this address was not accepted: where there is a secret, no more are looked at than of
/// a stranger.
pub fn note_refused(context: &Context, message: SipMsg<'_>) {
    let shared = context.process().shared;
    if shared.admission.has_secret() {
        let source = message.source();
        // What matters is that it is counted.
        _ = shared.cluster_state.rates.take(Sender::Stranger, address_in(&source).as_bytes(), clock::now());
    }
}

/// Another node has refused a message of this one: its own log is where the operator of this one looks.
pub fn note_refused_by(parts: &Parts, node: &Address) {
    counters::count(Counter::DmqRefused);
    if parts.shared.cluster_state.may_write_refused() {
        crate::log!(
            Warn,
            "node {} refuses the messages of this node (403): compare cluster_secret and cluster_peers of both, and \
             the addresses that its script accepts (one line a minute)",
            log::show(&node.name())
        );
    }
}

/// Whether a message is accepted.
///
/// # Errors
///
/// Fails with the answer to a message that is not accepted, or was carried out before.
pub fn admit(context: &Context, channel: Channel, message: SipMsg<'_>, body: &[u8]) -> Result<(), StatusLine> {
    let shared = context.process().shared;
    if shared.admission.is_open() {
        return Ok(());
    }
    let source = message.source();
    match shared.admission.admit(channel, address_in(&source).as_bytes(), body) {
        Ok(None) => Ok(()),
        Ok(Some(sealed)) if names_another(channel, body, &sealed.sender) => Err(BAD),
        // What was repeated on its way was carried out the first time.
        Ok(Some(sealed)) => {
            if sending::is_new_message(context, &sealed) {
                shared.cluster_state.rates.note_sealed(source.as_bytes(), clock::now());
                Ok(())
            } else {
                Err(OK)
            }
        }
        Err(why) => {
            if shared.cluster_state.may_write_refusal() {
                crate::log!(
                    Warn,
                    "a message to the cluster from {source} is refused: {} (one line a minute)",
                    why.text()
                );
            }
            Err(FORBIDDEN)
        }
    }
}

/// Whether a message on the nodes' channel names another node than the one that has sealed it.
fn names_another(channel: Channel, body: &[u8], sealed_by: &[u8]) -> bool {
    channel == Channel::Nodes && node_messages::sender(body).is_none_or(|sender| sender != sealed_by)
}

/// A message as its sender has sealed it: what leaves out the sender's name names the node that dmq received it from.
pub fn with_sender<'b>(channel: Channel, body: &'b [u8], from: Option<&Address>) -> Cow<'b, [u8]> {
    let named = || replica_refresh::with_name(body.trim_ascii_end(), &from?.name());
    let named = if channel == Channel::Nodes { named() } else { None };
    named.map_or(Cow::Borrowed(body), Cow::Owned)
}
