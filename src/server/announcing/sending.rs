//! Messages to the other nodes: sealed where there is a secret, and sent to those that may receive them.
use crate::cluster::clock::Stamp;
use crate::cluster::mark::{About, RelayMark};
use crate::cluster::seal::Refusal;
use crate::cluster::seal::Sealed;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::limited;
use crate::server::announcing::node_names;
use crate::server::nodes::admission::{NotAdmitted, address_of};
use crate::server::nodes::cluster_state::local_time;
use crate::server::shared::Parts;
use std::sync::atomic::Ordering;

/// A message as it is sent: with the cluster's seal, if there is one.
pub(crate) fn sealed(parts: &Parts, channel: Channel, message: &[u8]) -> Vec<u8> {
    let admission = parts.shared.admission;
    if !admission.has_secret() {
        return message.to_vec();
    }
    let state = parts.shared.cluster_state;
    let number = state.messages.fetch_add(1, Ordering::Relaxed) + 1;
    let by = Sealed { sender: node_names::node_name(parts).to_vec(), started: state.started, number };
    admission.seal(channel, message.to_vec(), &by)
}

/// Whether a node may receive what is said to the cluster: it is listed, or has shown that it knows the secret.
pub(crate) fn may_receive(parts: &Parts, to: &Address) -> bool {
    let admission = parts.shared.admission;
    let is_known = || !admission.has_secret() || parts.shared.nodes.is_authenticated(to);
    admission.lists_host(&to.host).unwrap_or_else(is_known)
}

/// Whether a node that says where it is sends from this address; one that is named by a name may.
pub(crate) fn sends_from(node: &Address, address: &str) -> bool {
    let (node, address) = (address_of(&node.host), address_of(address.as_bytes()));
    node.is_none() || node == address
}

/// Sends a message to a node, if it may receive it.
pub fn send_on(parts: &Parts, channel: Channel, to: &Address, message: &[u8]) -> bool {
    counters::count(Counter::DmqSent);
    !may_receive(parts, to) || dmq::send(channel, to, &sealed(parts, channel, message))
}

/// Says who this node is to one that may not have shown yet that it knows the secret.
pub fn send_hello(parts: &Parts, to: &Address, hello: &[u8]) -> bool {
    let may_receive = parts.shared.admission.lists_host(&to.host).unwrap_or(true);
    !may_receive || dmq::send(Channel::Nodes, to, &sealed(parts, Channel::Nodes, hello))
}

/// Sends a message to all other nodes that answer and may receive it.
pub fn broadcast_on(parts: &Parts, channel: Channel, message: &[u8]) -> bool {
    counters::count(Counter::DmqSent);
    let admission = parts.shared.admission;
    if admission.is_open() {
        return dmq::broadcast(channel, message);
    }
    let text = sealed(parts, channel, message);
    let others =
        dmq::nodes().into_iter().filter(|node| node.active && !node.local && may_receive(parts, &node.address));
    // Each of them is sent the message, whatever became of the one before.
    let unsent = others.filter(|node| !dmq::send(channel, &node.address, &text)).count();
    unsent == 0
}

/// Whether a message with this seal is new; it is not from then on.
pub fn is_new_message(parts: &Parts, by: &Sealed) -> bool {
    parts.shared.nodes.take_number(by, clock::now())
}

/// The header of a request that this node sends on to another one.
pub(crate) fn mark_of(parts: &Parts, about: &About<'_>) -> Vec<u8> {
    let mark = RelayMark { node: node_names::node_name(parts).to_vec(), at: parts.shared.cluster_state.tick() };
    parts.shared.admission.mark(&mark, about)
}

/// Whether a request from `address` that has such a header was sent on by a node; `own`: the address at which it
/// has arrived.
///
/// # Errors
///
/// Fails when the request was not sent on by a node, as far as its address and its header show.
pub(crate) fn admit_request(
    parts: &Parts,
    address: &str,
    own: &str,
    value: &[u8],
    about: &About<'_>,
) -> Result<(), NotAdmitted> {
    let now = Stamp::of_time(parts.shared.cluster_state.clock.time(local_time()));
    let from = (own.as_bytes(), is_dmq_address(address));
    let mark = parts.shared.admission.admit_request(address.as_bytes(), from, (value, about), now)?;
    let is_new = |mark: &RelayMark| parts.shared.cluster_state.taken_marks.take(mark, clock::instant());
    if mark.as_ref().is_none_or(is_new) { Ok(()) } else { Err(NotAdmitted::Refused(Refusal::Repeated)) }
}

/// Whether a node of the cluster may send from an address, as far as can be seen.
pub(crate) fn is_node_address(parts: &Parts, address: &str) -> bool {
    parts.shared.admission.lists_host(address.as_bytes()).unwrap_or_else(|| is_dmq_address(address))
}

fn is_dmq_address(address: &str) -> bool {
    dmq::nodes().iter().any(|node| sends_from(&node.address, address))
}

pub(crate) fn send_to_nodes(parts: &Parts, body: &[u8]) {
    if !broadcast_on(parts, Channel::Nodes, body) {
        limited!(Error, "a change of a subscription could not be sent to the other nodes");
    }
}

pub(crate) fn send_to_node(parts: &Parts, to: &Address, body: &[u8]) -> bool {
    send_on(parts, Channel::Nodes, to, body)
}

/// Answers the node that announced something; every node, when dmq does not know which it was.
pub(crate) fn answer_node(parts: &Parts, from: Option<&Address>, body: &[u8]) {
    if !from.is_some_and(|from| send_to_node(parts, from, body)) {
        send_to_nodes(parts, body);
    }
}
