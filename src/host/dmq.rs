//! Messages between the nodes of a cluster (`modules/dmq`).
use super::bytes::lend;
use super::shm;
use crate::sys;

/// The callback for messages of our kind: message, place for the answer, the node that sent it.
pub type MessageFn = unsafe extern "C" fn(*mut sys::sip_msg, *mut sys::peer_reponse_t, *mut sys::dmq_node) -> i32;

/// The callback for "the cluster is there".
pub type JoinedFn = unsafe extern "C" fn() -> i32;

/// A node of the cluster, during a callback.
#[derive(Clone, Copy)]
pub struct Node(*mut sys::dmq_node);

impl Node {
    /// # Safety
    /// `raw` is the node of a callback in progress.
    pub unsafe fn new(raw: *mut sys::dmq_node) -> Option<Node> {
        (!raw.is_null()).then_some(Node(raw))
    }
}

/// Joins the cluster under the name `peer`; call in `mod_init`. `false` when dmq is not loaded before us.
pub fn join(peer: &'static [u8], on_message: MessageFn, on_joined: JoinedFn) -> bool {
    // SAFETY: the shim's own table; the host copies the names, the functions live as long as the module.
    unsafe { sys::kr_dmq_join(&mut lend(peer), Some(on_message), Some(on_joined)) >= 0 }
}

/// Sends a message to all other nodes.
pub fn broadcast(body: &[u8]) -> bool {
    // SAFETY: the host copies the body.
    unsafe { sys::kr_dmq_send(&mut lend(body), std::ptr::null_mut()) >= 0 }
}

/// Sends a message to one node.
pub fn send_to(node: Node, body: &[u8]) -> bool {
    // SAFETY: as above; the node lives during the callback.
    unsafe { sys::kr_dmq_send(&mut lend(body), node.0) >= 0 }
}

/// What a message is answered with.
///
/// # Safety
/// `answer` is the place for the answer of a callback in progress.
pub unsafe fn answer(answer: *mut sys::peer_reponse_t, code: i32, reason: &'static str) {
    // SAFETY: as promised; the reason lives for ever.
    if let Some(answer) = unsafe { answer.as_mut() } {
        answer.resp_code = code;
        answer.reason = lend(reason.as_bytes());
    }
}

/// Puts a name where the host keeps pointing at it.
pub fn keep(name: &[u8]) -> Result<&'static [u8], shm::NoMemory> {
    Ok(shm::ShmBox::leak(shm::copy(name)?))
}
