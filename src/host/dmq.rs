//! Messages between the nodes of a cluster (`modules/dmq`), and which nodes there are.
use super::bytes::lend;
use super::{no_memory, shm};
use crate::sys;
use std::ffi::{c_int, c_void};

/// The callback for messages of our kind: message, place for the answer, the node that sent it.
pub type MessageFn = unsafe extern "C" fn(*mut sys::sip_msg, *mut sys::peer_reponse_t, *mut sys::dmq_node) -> i32;

/// The callback for "the cluster is there".
pub type JoinedFn = unsafe extern "C" fn() -> i32;

/// The callback for an answer to one of our messages: the number of its channel, host and port of the node, status
/// code, the ticket that the message was sent with, or 0.
pub type AnsweredFn = unsafe extern "C" fn(c_int, *mut sys::_str, u16, c_int, u32);

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Publications, in stock's JSON.
    Publications = 0,
    /// Subscriptions, and our nodes among themselves.
    Nodes = 1,
    /// Subscriptions, in stock's JSON: sent to the peer of the publications.
    StockSubscriptions = 2,
}

impl Channel {
    /// The channel with this number.
    pub fn of_number(number: c_int) -> Option<Channel> {
        let all = [Channel::Publications, Channel::Nodes, Channel::StockSubscriptions];
        all.into_iter().find(|channel| *channel as c_int == number)
    }
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host, as the cluster knows it.
    pub host: Vec<u8>,
    /// Port.
    pub port: u16,
}

impl Address {
    /// `host:port`.
    pub fn name(&self) -> Vec<u8> {
        [&self.host, b":".as_slice(), self.port.to_string().as_bytes()].concat()
    }

    /// # Safety
    /// `host` is null or a readable string.
    pub unsafe fn of_raw(host: *mut sys::_str, port: u16) -> Option<Address> {
        // SAFETY: null, or a string that is lent, by the caller's word.
        let host = unsafe { super::bytes::view_ptr(host) }?;
        Some(Address { host: host.to_vec(), port })
    }

    /// The address of the node of a callback; `None` when dmq does not know who sent the message.
    ///
    /// # Safety
    /// `node` is the node of a callback in progress, or null.
    pub unsafe fn of_node(node: *mut sys::dmq_node) -> Option<Address> {
        if node.is_null() {
            return None;
        }
        let (mut host, mut port) = (super::bytes::null(), 0);
        // SAFETY: a node of dmq, or null, by the caller's word; both places are ours.
        unsafe { sys::kr_dmq_node_address(node, &mut host, &mut port) };
        // SAFETY: a view of the node, which is copied.
        unsafe { Address::of_raw(&mut host, port) }
    }
}

/// A node as dmq sees it.
#[derive(Debug, Clone)]
pub struct DmqNode {
    /// Where it listens.
    pub address: Address,
    /// The node answers.
    pub active: bool,
    /// The node is this server.
    pub local: bool,
}

/// Finds dmq; call in `mod_init`. `false` when it is not loaded before us.
pub fn load(on_answered: AnsweredFn) -> bool {
    // SAFETY: the shim's own table; the function lives as long as the module.
    unsafe { sys::kr_dmq_load(Some(on_answered)) >= 0 }
}

/// Joins the cluster on a channel under the name `peer`; call in `mod_init`, after [`load`].
pub fn join(channel: Channel, peer: &'static [u8], on_message: MessageFn, on_joined: JoinedFn) -> bool {
    // SAFETY: the shim's own table; the host copies the names, the functions live as long as the module.
    unsafe { sys::kr_dmq_join(channel as c_int, &mut *lend(peer), Some(on_message), Some(on_joined)) >= 0 }
}

/// Sends a message to all other nodes that answer.
pub fn broadcast(channel: Channel, body: &[u8]) -> bool {
    // SAFETY: the host reads the body during the call, and sends a copy of it.
    unsafe { sys::kr_dmq_broadcast(channel as c_int, &mut *lend(body)) >= 0 }
}

/// Sends a message to one node; `false` when there is none with this address.
pub fn send(channel: Channel, to: &Address, body: &[u8]) -> bool {
    send_with_ticket(channel, to, body, 0)
}

/// The same, and the answer is reported with this ticket, which is below 2^26.
pub fn send_with_ticket(channel: Channel, to: &Address, body: &[u8], ticket: u32) -> bool {
    // SAFETY: the host reads body and address during the call, and sends copies of them.
    unsafe { sys::kr_dmq_send(channel as c_int, &mut *lend(body), &mut *lend(&to.host), to.port, ticket) >= 0 }
}

/// The longest SIP URI of a node.
const LONGEST_URI: usize = 256;

/// The SIP URI of a node, as dmq has it; `None` when there is none with this address.
pub fn uri_of(node: &Address) -> Option<Vec<u8>> {
    let mut uri = [0_u8; LONGEST_URI];
    // SAFETY: the host compares the address, and writes no more than there is room for.
    let length = unsafe {
        let place = uri.as_mut_ptr() as *mut std::ffi::c_char;
        sys::kr_dmq_uri(&mut *lend(&node.host), node.port, place, LONGEST_URI as c_int)
    };
    usize::try_from(length).ok().and_then(|length| uri.get(..length)).map(<[u8]>::to_vec)
}

/// The nodes dmq knows, this one among them.
pub fn nodes() -> Vec<DmqNode> {
    unsafe extern "C" fn take(context: *mut c_void, host: *mut sys::_str, port: u16, active: c_int, local: c_int) {
        entry!(take, {
            // SAFETY: `context` is the list below, which outlives the call and is used by nobody else meanwhile.
            let list = unsafe { &mut *(context as *mut Vec<DmqNode>) };
            // SAFETY: the host lends the string during the call.
            if let Some(address) = unsafe { Address::of_raw(host, port) } {
                list.push(DmqNode { address, active: active != 0, local: local != 0 });
            }
        })
    }
    let mut list: Vec<DmqNode> = Vec::new();
    // SAFETY: `take` fits the list it is given, and does not call the host.
    unsafe { sys::kr_dmq_each_node(Some(take), &mut list as *mut Vec<DmqNode> as *mut c_void) };
    list
}

/// What a message is answered with.
///
/// # Safety
/// `answer` is the place for the answer of a callback in progress.
pub unsafe fn answer(answer: *mut sys::peer_reponse_t, code: i32, reason: &'static str) {
    // SAFETY: the answer is dmq's own, and the reason is a constant.
    if let Some(answer) = unsafe { answer.as_mut() } {
        answer.resp_code = code;
        answer.reason = lend(reason.as_bytes()).unbound();
    }
}

/// Puts a name where the host keeps pointing at it.
///
/// # Errors
///
/// Fails when shared memory runs out.
pub fn keep(name: &[u8]) -> Result<&'static [u8], no_memory::NoMemory> {
    Ok(shm::ShmBox::leak(shm::copy(name)?))
}
