//! Messages to the other nodes: sealed where there is a secret, and sent to those that may receive them.
use crate::cluster::clock::Stamp;
use crate::cluster::mark::{About, RelayMark};
use crate::cluster::seal::Refusal;
use crate::cluster::seal::Sealed;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::server::nodes::cluster_state::local_time;
use crate::server::nodes::door::{Closed, address_of};
use crate::server::shared::Parts;
use std::sync::atomic::Ordering;

impl Parts {
    /// A message as it is sent: with the cluster's seal, if there is one.
    pub(crate) fn sealed(&self, channel: Channel, message: &[u8]) -> Vec<u8> {
        let door = self.shared.door;
        if !door.has_secret() {
            return message.to_vec();
        }
        let state = self.shared.cluster_state;
        let number = state.messages.fetch_add(1, Ordering::Relaxed) + 1;
        let by = Sealed { sender: self.node_name().to_vec(), started: state.started, number };
        door.seal(channel, message.to_vec(), &by)
    }

    /// Whether a node may receive what is said to the cluster: it is listed, or has shown that it knows the secret.
    pub(crate) fn may_receive(&self, to: &Address) -> bool {
        let door = self.shared.door;
        let is_known = || !door.has_secret() || self.shared.nodes.is_authenticated(to);
        door.lists_host(&to.host).unwrap_or_else(is_known)
    }

    /// Whether a node that says where it is sends from this address; one that is named by a name may.
    pub(crate) fn sends_from(&self, node: &Address, address: &str) -> bool {
        let (node, address) = (address_of(&node.host), address_of(address.as_bytes()));
        node.is_none() || node == address
    }

    /// Sends a message to a node, if it may receive it.
    pub fn send_on(&self, channel: Channel, to: &Address, message: &[u8]) -> bool {
        counters::count(Counter::DmqSent);
        !self.may_receive(to) || dmq::send(channel, to, &self.sealed(channel, message))
    }

    /// Says who this node is to one that may not have shown yet that it knows the secret.
    pub fn greet(&self, to: &Address, hello: &[u8]) -> bool {
        let may_receive = self.shared.door.lists_host(&to.host).unwrap_or(true);
        !may_receive || dmq::send(Channel::Nodes, to, &self.sealed(Channel::Nodes, hello))
    }

    /// Sends a message to all other nodes that answer and may receive it.
    pub fn broadcast_on(&self, channel: Channel, message: &[u8]) -> bool {
        counters::count(Counter::DmqSent);
        let door = self.shared.door;
        if door.is_open() {
            return dmq::broadcast(channel, message);
        }
        let text = self.sealed(channel, message);
        let others =
            dmq::nodes().into_iter().filter(|node| node.active && !node.local && self.may_receive(&node.address));
        // Each of them is sent the message, whatever became of the one before.
        let unsent = others.filter(|node| !dmq::send(channel, &node.address, &text)).count();
        unsent == 0
    }

    /// Whether a message with this seal is new; it is not from then on.
    pub fn is_new_message(&self, by: &Sealed) -> bool {
        self.shared.nodes.take_number(by, clock::now())
    }

    /// The header of a request that this node sends on to another one.
    pub(crate) fn mark_of(&self, about: &About<'_>) -> Vec<u8> {
        let mark = RelayMark { node: self.node_name().to_vec(), at: self.shared.cluster_state.tick() };
        self.shared.door.mark(&mark, about)
    }

    /// Whether a request from `address` that has such a header was sent on by a node; `own`: the address at which it
    /// has arrived.
    ///
    /// # Errors
    ///
    /// Fails when the request was not sent on by a node, as far as its address and its header show.
    pub(crate) fn admit_request(
        &self,
        address: &str,
        own: &str,
        value: &[u8],
        about: &About<'_>,
    ) -> Result<(), Closed> {
        let now = Stamp::of(self.shared.cluster_state.clock.time(local_time()));
        let from = (own.as_bytes(), self.is_dmq_address(address));
        let mark = self.shared.door.admit_request(address.as_bytes(), from, (value, about), now)?;
        let is_new = |mark: &RelayMark| self.shared.cluster_state.taken_marks.take(mark, clock::instant());
        if mark.as_ref().is_none_or(is_new) { Ok(()) } else { Err(Closed::Refused(Refusal::Repeated)) }
    }

    /// Whether a node of the cluster may send from an address, as far as can be seen.
    pub(crate) fn is_node_address(&self, address: &str) -> bool {
        self.shared.door.lists_host(address.as_bytes()).unwrap_or_else(|| self.is_dmq_address(address))
    }

    fn is_dmq_address(&self, address: &str) -> bool {
        dmq::nodes().iter().any(|node| self.sends_from(&node.address, address))
    }
}
