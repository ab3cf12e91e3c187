//! The callbacks of dmq: what comes from other nodes is admitted and carried out by [`crate::server::cluster`].
use crate::abi::presence::state;
use crate::cluster::consent::Ticket;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{self, Address, Channel};
use crate::host::msg::{Header, SipMsg};
use crate::presence::config::Config;
use crate::server::announcing::node_names;
use crate::server::cluster::admission::{BAD, StatusLine, TOO_MANY, admit, is_within_rate, note_refused, with_sender};
use crate::server::cluster::{consent, messages};
use crate::server::context::Context;
use crate::server::nodes::stock_nodes::Outcome;
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
        context.process().shared.nodes.joining.note_joined(clock::now());
        0
    })
}

/// dmq has found the cluster: say who we are.
unsafe extern "C" fn on_joined_nodes() -> c_int {
    entry!(on_joined_nodes, -1, {
        let Some(context) = state::context() else { return -1 };
        context.process().shared.nodes.joining.note_joined(clock::now());
        let name = node_names::node_name(&context);
        if name.is_empty() || messages::send_hello_to_all(&context) { 0 } else { -1 }
    })
}

/// A node has answered one of our messages, or has not.
unsafe extern "C" fn on_answered(channel: c_int, host: *mut sys::_str, port: u16, code: c_int, ticket: u32) {
    entry!(on_answered, {
        // SAFETY: the shim lends the host.
        let address = unsafe { Address::of_raw(host, port) };
        let (Some(address), Some(process)) = (address, state::process()) else { return };
        let (nodes, stock) = (process.shared.nodes, process.shared.stock_nodes);
        if let (Some(ticket), Some(mut context)) = (Ticket::of_number(ticket), state::context()) {
            consent::on_answer(&mut context, ticket, &address, code);
        }
        match (Channel::of_number(channel), code) {
            (_, 408) => nodes.note_missed(&address),
            // dmq there does not know our channel.
            (Some(Channel::Nodes), 404) => messages::note_stock(process, &address),
            // Older ones take a message that they cannot read for one without the secret.
            (Some(Channel::Nodes), 400 | 403) => nodes.note_unread(&address),
            (Some(Channel::StockSubscriptions), 200 | 400 | 404) => {
                stock.note_outcome(&address, if code == 200 { Outcome::Taken } else { Outcome::Refused })
            }
            _ => {}
        }
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
    counters::count(Counter::DmqReceived);
    // SAFETY: the message that dmq received, which lives during the call.
    let message = unsafe { SipMsg::new(message) };
    // SAFETY: the node that dmq received it from, or null.
    let from = unsafe { Address::of_node(node) };
    let (code, reason) = match (message, state::context()) {
        (Some(message), Some(context)) if !is_within_rate(&context, message, from.as_ref()) => TOO_MANY,
        (Some(message), Some(context)) => match message.body() {
            Header::Value(body) => {
                let body = &*with_sender(channel, body, from.as_ref());
                match admit(&context, channel, message, body) {
                    Ok(()) => handle(&mut context.for_message_of_node(), body, from),
                    Err(answer) => {
                        note_refused(&context, message);
                        answer
                    }
                }
            }
            _ => {
                note_refused(&context, message);
                BAD
            }
        },
        _ => BAD,
    };
    if code >= 300 {
        counters::count(Counter::DmqRejected);
    }
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
