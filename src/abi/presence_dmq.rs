//! The cluster's side of presence: messages of other nodes, and what a node that joins is told.
use super::state;
use crate::bridge::counters::{self, Counter};
use crate::host::dmq::{self, Node};
use crate::host::msg::{Header, SipMsg};
use crate::host::{log, process};
use crate::log;
use crate::presence::replication::{self, Message};
use crate::sys;
use std::ffi::c_int;

/// After so many publications a node that tells all it has takes a breath.
const BREATH: usize = 50;

/// Registers with dmq; call in `mod_init`.
pub(super) fn join(peer: &'static [u8]) -> Result<(), String> {
    let peer = dmq::keep(peer).map_err(|error| error.to_string())?;
    if !dmq::join(peer, on_message, on_joined) {
        return Err("enable_dmq is set: the dmq module must be loaded before presence, with its server_address".into());
    }
    Ok(())
}

/// dmq has found the cluster: ask for what there is.
unsafe extern "C" fn on_joined() -> c_int {
    entry!(on_joined, -1, {
        let asks = state::process().is_some_and(|process| process.config.asks_for_all);
        if asks && !dmq::broadcast(replication::SYNC) { -1 } else { 0 }
    })
}

/// # Safety
/// Arguments of a dmq callback in progress.
unsafe extern "C" fn on_message(
    message: *mut sys::sip_msg,
    answer: *mut sys::peer_reponse_t,
    node: *mut sys::dmq_node,
) -> c_int {
    entry!(on_message, -1, {
        // SAFETY: dmq's own arguments.
        let (code, reason) = unsafe {
            match SipMsg::new(message) {
                Some(message) => handle(message, Node::new(node)),
                None => (400, "Bad Request"),
            }
        };
        counters::count(Counter::DmqReceived);
        if code >= 300 {
            counters::count(Counter::DmqRejected);
        }
        // SAFETY: the place dmq gave.
        unsafe { dmq::answer(answer, code, reason) };
        0
    })
}

fn handle(message: SipMsg<'_>, node: Option<Node>) -> (i32, &'static str) {
    let (Header::Value(body), Some(mut world)) = (message.body(), state::world()) else { return (400, "Bad Request") };
    match replication::parse(body) {
        None => {
            log!(Notice, "a message of another node cannot be read: {}", log::show(&body[..body.len().min(200)]));
            (400, "Bad Request")
        }
        Some(Message::Other) => (200, "OK"),
        Some(Message::Sync) => {
            if let Some(node) = node {
                tell_all(&mut world, node);
            }
            (200, "OK")
        }
        Some(Message::Update(replica)) => match replication::apply(&mut world, &replica) {
            Ok(()) => (200, "OK"),
            Err(why) if replication::is_bad(&why) => {
                log!(Notice, "a change of another node is refused: {why}");
                (400, "Bad Request")
            }
            Err(why) => {
                log!(Error, "a change of another node cannot be stored: {why}");
                (500, "Server Internal Error")
            }
        },
    }
}

fn tell_all(world: &mut crate::bridge::world::World, node: Node) {
    use crate::presence::ports::Ports;
    let (mut sent, mut failed) = (0, 0);
    let now = world.now();
    let packages = world.packages().clone();
    let told = world.each_publication(|resource, publication| {
        let replica = replication::of_stored(resource, packages.get(resource.event).name, publication, now);
        sent += 1;
        counters::count(Counter::DmqSent);
        failed += usize::from(!dmq::send_to(node, &replica.to_json()));
        if sent % BREATH == 0 {
            process::sleep_millis(5);
        }
    });
    if told.is_err() || failed > 0 {
        log!(Error, "a node that joined was not told everything: {failed} of {sent} publications could not be sent");
    }
}
