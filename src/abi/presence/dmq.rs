//! The callbacks of dmq: what comes from other nodes is admitted and carried out by [`crate::server::cluster`].
use crate::abi::presence::state;
use crate::cluster::consent::Ticket;
use crate::host::dmq::{self, Address, Channel};
use crate::host::msg::SipMsg;
use crate::presence::config::Config;
use crate::server::cluster::admission::StatusLine;
use crate::server::cluster::{messages, received};
use crate::server::context::Context;
use crate::sys;
use std::ffi::c_int;

/// The name of the channel on which our nodes speak with each other is the cluster's with this behind it: stock's
/// nodes, which do not know it, never see what they could not read.
const NODES: &[u8] = b".nodes";

/// Registers with dmq; call in `mod_init`.
///
/// # Errors
///
/// Fails with a sentence when dmq is not loaded, or shared memory runs out.
pub(crate) fn join(config: &Config) -> Result<(), String> {
    let keep = |name: &[u8]| dmq::keep(name).map_err(|error| error.to_string());
    let (publications, nodes) = (keep(config.dmq_peer)?, keep(&[config.dmq_peer, NODES].concat())?);
    let joined = dmq::load(on_answered)
        && dmq::join(Channel::Publications, publications, on_publication, on_joined)
        && dmq::join(Channel::Nodes, nodes, on_node, on_joined_nodes);
    match joined {
        true => Ok(()),
        false => {
            Err("enable_dmq is set: the dmq module must be loaded before presence, with its server_address".into())
        }
    }
}

/// dmq has found the cluster.
unsafe extern "C" fn on_joined() -> c_int {
    entry!(on_joined, -1, {
        let Some(context) = state::context() else { return -1 };
        received::note_joined(&context);
        0
    })
}

/// dmq has found the cluster: say who we are.
unsafe extern "C" fn on_joined_nodes() -> c_int {
    entry!(on_joined_nodes, -1, {
        let is_introduced = state::context().is_some_and(|context| received::introduce(&context));
        if is_introduced { 0 } else { -1 }
    })
}

/// A node has answered one of our messages, or has not.
unsafe extern "C" fn on_answered(channel: c_int, host: *mut sys::_str, port: u16, code: c_int, ticket: u32) {
    entry!(on_answered, {
        // SAFETY: the shim lends the host.
        let address = unsafe { Address::of_raw(host, port) };
        let (Some(address), Some(mut context)) = (address, state::context()) else { return };
        let (channel, ticket) = (Channel::of_number(channel), Ticket::of_number(ticket));
        received::on_answer(&mut context, channel, &address, code, ticket);
    })
}

/// # Safety
/// Arguments of a dmq callback in progress.
unsafe fn receive(
    message: *mut sys::sip_msg,
    answer: *mut sys::peer_reponse_t,
    node: *mut sys::dmq_node,
    channel: Channel,
    handle: impl FnOnce(&mut Context, &[u8], Option<Address>) -> StatusLine,
) -> c_int {
    // SAFETY: the message that dmq received, which lives during the call.
    let message = unsafe { SipMsg::new(message) };
    // SAFETY: the node that dmq received it from, or null.
    let from = unsafe { Address::of_node(node) };
    let (code, reason) = received::on_message(state::context(), channel, message, from, handle);
    // SAFETY: dmq has given the place for the answer, and reads it after this call.
    unsafe { dmq::answer(answer, code, reason) };
    0
}

/// # Safety
/// Arguments of a dmq callback in progress.
unsafe extern "C" fn on_publication(
    message: *mut sys::sip_msg,
    answer: *mut sys::peer_reponse_t,
    node: *mut sys::dmq_node,
) -> c_int {
    entry!(on_publication, -1, {
        // SAFETY: dmq calls this with its own message, answer and node, and waits until it returns.
        unsafe { receive(message, answer, node, Channel::Publications, messages::on_publication_message) }
    })
}

/// # Safety
/// Arguments of a dmq callback in progress.
unsafe extern "C" fn on_node(
    message: *mut sys::sip_msg,
    answer: *mut sys::peer_reponse_t,
    node: *mut sys::dmq_node,
) -> c_int {
    entry!(on_node, -1, {
        // SAFETY: dmq calls this with its own message, answer and node, and waits until it returns.
        unsafe { receive(message, answer, node, Channel::Nodes, messages::on_node_message) }
    })
}
