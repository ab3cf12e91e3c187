//! The cluster's side of presence: messages of other nodes, and what is announced to a node that joins.
use crate::abi::presence::{calls, state};
use crate::common::counters::{self, Counter};
use crate::host::dmq::{self, Address, Channel};
use crate::host::msg::{Header, SipMsg};
use crate::host::{clock, log};
use crate::presence::cluster::{self, HelloReply, NodeMessage};
use crate::presence::comparison::RecordKind;
use crate::presence::config::Config;
use crate::presence::placed::Placed;
use crate::presence::replica::{self, ReplicaMessage};
use crate::presence::replica_refresh;
use crate::presence::replication;
use crate::presence::replication::Reader;
use crate::server::announcing::node_clocks;
use crate::server::cluster::full_sync::{self, Owners};
use crate::server::cluster::{
    comparison, membership, merging, publications, refreshes, replacement, replicas, stock_subscriptions,
};
use crate::server::context::{Context, Process};
use crate::server::nodes::message_rate::{MOST_OF_NODE, MOST_OF_STRANGER, Sender};
use crate::server::nodes::stock_nodes::Outcome;
use crate::sys;
use crate::time::Moment;
use std::borrow::Cow;
use std::ffi::c_int;

/// The name of the channel on which our nodes speak with each other is the cluster's with this behind it: stock's
/// nodes, which do not know it, never see what they could not read.
const NODES: &[u8] = b".nodes";

/// An answer to a message, from the place of a callback.
type StatusLine = (i32, &'static str);

const OK: StatusLine = (200, "OK");
const BAD: StatusLine = (400, "Bad Request");

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
        let name = context.node_name();
        if name.is_empty() || greet_all(&context) { 0 } else { -1 }
    })
}

/// Says who we are to all nodes, also to those that have not shown yet that they know the secret.
fn greet_all(context: &Context) -> bool {
    let hello = comparison::hello(context, HelloReply::Wanted);
    let others = dmq::nodes().into_iter().filter(|node| node.active && !node.local);
    // Each of them is greeted, whatever became of the one before.
    let unsent = others.filter(|node| !context.greet(&node.address, &hello)).count();
    unsent == 0
}

/// A node has answered one of our messages, or has not.
unsafe extern "C" fn on_answered(channel: c_int, host: *mut sys::_str, port: u16, code: c_int) {
    entry!(on_answered, {
        // SAFETY: the shim lends the host.
        let address = unsafe { Address::of_raw(host, port) };
        let (Some(address), Some(process)) = (address, state::process()) else { return };
        let (nodes, stock) = (process.shared.nodes, process.shared.stock_nodes);
        match (Channel::of_number(channel), code) {
            (_, 408) => nodes.note_missed(&address),
            // dmq there does not know our channel.
            (Some(Channel::Nodes), 404) => note_stock(process, &address),
            // Older ones take a message that they cannot read for one without the secret.
            (Some(Channel::Nodes), 400 | 403) => nodes.note_unread(&address),
            (Some(Channel::StockSubscriptions), 200 | 400 | 404) => {
                stock.note_outcome(&address, if code == 200 { Outcome::Taken } else { Outcome::Refused })
            }
            _ => {}
        }
    })
}

fn note_stock(process: &Process, address: &Address) {
    let (nodes, now) = (process.shared.nodes, clock::now());
    nodes.note_stock(address, now);
    if process.shared.stock_nodes.note(address, now).is_err() {
        crate::limited!(Error, "there is no room for another node");
    }
}

const FORBIDDEN: StatusLine = (403, "Forbidden");
const TOO_MANY: StatusLine = (503, "Too Many Messages");

/// The address that a message comes from, without its port.
fn address_in(source: &str) -> &str {
    source.rsplit_once(':').map_or(source, |(address, _)| address)
}

/// Whose an address is, as far as that is known before its message is read. A node need not send from the address that
/// it says it has: it may be behind a NAT, or have several.
fn sender_at(context: &Context, from: Option<&Address>, source: &str, now: Moment) -> Sender {
    let (shared, address) = (context.process().shared, address_in(source));
    let is_listed = || shared.door.lists_host(address.as_bytes()) == Some(true);
    let has_sealed = || shared.door.has_secret() && shared.cluster_state.rates.has_sealed(source.as_bytes(), now);
    // dmq goes by what the message says of its sender.
    let says_so = |from: &Address| context.may_receive(from) && context.sends_from(from, address);
    match from.is_some_and(says_so) || is_listed() || has_sealed() {
        true => Sender::Node,
        false => Sender::Stranger,
    }
}

/// Whether a message is looked at: no more are of one address than it may send in a second. Where there is a secret,
/// those of a stranger count when they are refused: one that shows the secret is none.
fn is_within_rate(context: &Context, message: SipMsg<'_>, from: Option<&Address>) -> bool {
    let source = message.source();
    let (address, now) = (address_in(&source), clock::now());
    let shared = context.process().shared;
    let (rates, sender) = (&shared.cluster_state.rates, sender_at(context, from, &source, now));
    let is_within = match sender {
        Sender::Stranger if shared.door.has_secret() => rates.has_room(sender, address.as_bytes(), now),
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

/// A message of this address was not accepted: where there is a secret, so few are looked at as of a stranger.
fn note_refused(context: &Context, message: SipMsg<'_>) {
    let shared = context.process().shared;
    if shared.door.has_secret() {
        let source = message.source();
        // What matters is that it is counted.
        _ = shared.cluster_state.rates.take(Sender::Stranger, address_in(&source).as_bytes(), clock::now());
    }
}

/// Whether a message is accepted; otherwise how it is answered.
fn admit(context: &Context, channel: Channel, message: SipMsg<'_>, body: &[u8]) -> Result<(), StatusLine> {
    let shared = context.process().shared;
    if shared.door.is_open() {
        return Ok(());
    }
    let source = message.source();
    match shared.door.admit(channel, address_in(&source).as_bytes(), body) {
        Ok(None) => Ok(()),
        Ok(Some(sealed)) if names_another(channel, body, &sealed.sender) => Err(BAD),
        // What was repeated on its way was carried out the first time.
        Ok(Some(sealed)) => {
            if context.is_new_message(&sealed) {
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
    channel == Channel::Nodes && cluster::sender(body).is_none_or(|sender| sender != sealed_by)
}

/// A message as its sender has sealed it: what leaves out the sender's name names the node that dmq received it from.
fn with_sender<'b>(channel: Channel, body: &'b [u8], from: Option<&Address>) -> Cow<'b, [u8]> {
    let named = || replica_refresh::with_name(body.trim_ascii_end(), &from?.name());
    let named = if channel == Channel::Nodes { named() } else { None };
    named.map_or(Cow::Borrowed(body), Cow::Owned)
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
        unsafe { receive(message, answer, node, Channel::Publications, on_publication_message) }
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
        unsafe { receive(message, answer, node, Channel::Nodes, on_node_message) }
    })
}

fn unreadable(body: &[u8]) -> StatusLine {
    crate::limited!(Notice, "a message of another node cannot be read: {}", log::show(&body[..body.len().min(200)]));
    BAD
}

fn on_publication_message(context: &mut Context, body: &[u8], from: Option<Address>) -> StatusLine {
    match replica::parse(body) {
        None => unreadable(body),
        Some(ReplicaMessage::Other) => on_stock_message(context, body, from),
        Some(ReplicaMessage::Sync { you }) => {
            // A question to all is answered by one.
            if let Some(from) = from.filter(|_| you || context.process().shared.nodes.is_first(context.node_name())) {
                full_sync::send_publications(&context.inventory(), &from, if you { Reader::Ours } else { Reader::Any });
                context.process().shared.nodes.record_notified(&from, clock::now());
            }
            OK
        }
        Some(ReplicaMessage::Update(replica)) => match publications::apply(context, &replica, from.as_ref()) {
            Ok(()) => OK,
            Err(why) if replication::is_bad(&why) => {
                crate::limited!(Notice, "a change of another node is refused: {why}");
                BAD
            }
            Err(why) => {
                crate::limited!(Error, "a change of another node cannot be stored: {why}");
                (500, "Server Internal Error")
            }
        },
    }
}

fn on_stock_message(context: &mut Context, body: &[u8], from: Option<Address>) -> StatusLine {
    match stock_subscriptions::on_message(context, body, from.as_ref()) {
        Ok(true) => OK,
        Ok(false) => unreadable(body),
        Err(error) => {
            crate::limited!(Error, "a subscription of a stock node cannot be stored: {error}");
            (500, "Server Internal Error")
        }
    }
}

fn on_node_message(context: &mut Context, body: &[u8], from: Option<Address>) -> StatusLine {
    let Some((name, message)) = cluster::parse(body, context.process().registry.packages(), clock::now()) else {
        return unreadable(body);
    };
    let nodes = context.process().shared.nodes;
    if let Some(from) = &from {
        context.process().shared.stock_nodes.replace(from, clock::now());
        if nodes.note_message_of(&name, from, clock::now()).is_err() {
            crate::limited!(Error, "there is no room for another node");
        }
    }
    nodes.mark_alive(&name, clock::now());
    let mut done = Ok(());
    match (message, from) {
        (NodeMessage::Hello { reply, compares, speaks, stamp }, Some(from)) => {
            node_clocks::note(context, &name, stamp);
            on_hello(context, &from, &name, (reply, compares, speaks));
        }
        (NodeMessage::Compare(kind, comparison, stamp), Some(_)) => {
            node_clocks::note(context, &name, stamp);
            if let Ok(id) = nodes.of_name(&name, clock::now()) {
                comparison::on_message(context, id, kind, comparison);
            }
        }
        (NodeMessage::Placed(message), Some(_)) => {
            if let Ok(id) = nodes.of_name(&name, clock::now()) {
                refresh_for(&message);
                replacement::on_message(context, id, message);
            }
        }
        (NodeMessage::Leave(successor), Some(_)) => {
            if let Ok(id) = nodes.of_name(&name, clock::now()) {
                membership::note_left(context, id, &name, successor.as_deref());
            }
        }
        (NodeMessage::Sync, Some(from)) => {
            full_sync::send_subscriptions(context, &from, Owners::All);
            nodes.record_notified(&from, clock::now());
        }
        (NodeMessage::Subscription(_) | NodeMessage::Refresh(_) | NodeMessage::End(_), _)
            if !context.process().config.shares_subscriptions => {}
        (NodeMessage::Subscription(announcement), from) => {
            done = merging::apply(context, &announcement, from.as_ref());
        }
        (NodeMessage::Refresh(refresh), from) => refreshes::apply(context, &refresh, &name, from.as_ref()),
        (NodeMessage::End(ending), _) => done = replicas::terminate(context, &ending),
        _ => {}
    }
    membership::resume(context);
    match done {
        Ok(()) => OK,
        Err(error) => {
            crate::limited!(Error, "a subscription of another node cannot be stored: {error}");
            (500, "Server Internal Error")
        }
    }
}

/// Another node asks for what is done here for the watchers of a presentity that it does not hold.
fn refresh_for(message: &Placed) {
    let Placed::Refresh { uri, event, kind, file: [file_uri, filename] } = message else { return };
    let done = match file_uri.is_empty() {
        true => calls::refresh_watchers_here(uri, event, *kind),
        false => calls::refresh_hard_state_here(uri, event, file_uri, filename).map_err(Into::into),
    };
    if let Err(why) = done {
        why.log("pres_refresh_watchers on another node");
    }
}

/// One of our kind is there. The first one who says so after we joined is asked for all there is.
fn on_hello(context: &mut Context, from: &Address, their_name: &[u8], (reply, compares, speaks): (HelloReply, u8, u8)) {
    let (config, name) = (context.process().config, context.node_name());
    let nodes = context.process().shared.nodes;
    let kinds = comparison::kinds(context);
    let Ok(id) = nodes.of_name(their_name, clock::now()) else { return };
    nodes.note_hello(id, compares, speaks);
    if reply == HelloReply::Wanted {
        context.greet(from, &comparison::hello(context, HelloReply::Given));
    }
    context.placement_settings().into_iter().for_each(|settings| _ = context.send_on(Channel::Nodes, from, &settings));
    if !nodes.joining.take_question() {
        return;
    }
    let common = |kind: RecordKind| kinds & compares & kind.bit() != 0;
    if config.replicates && config.asks_for_all {
        match common(RecordKind::Publications) {
            true => comparison::pull_all(context, id, RecordKind::Publications),
            false => _ = context.send_on(Channel::Publications, from, replica::SYNC_YOU),
        }
    }
    if config.shares_subscriptions && config.asks_for_subscriptions {
        match common(RecordKind::Subscriptions) {
            true => comparison::pull_all(context, id, RecordKind::Subscriptions),
            false => _ = context.send_on(Channel::Nodes, from, &cluster::sync(name)),
        }
    }
}

/// The server ends: the others go on with its subscriptions at once.
pub(crate) fn announce_leave() {
    let Some(context) = state::context().filter(|context| context.process().config.shares_subscriptions) else {
        return;
    };
    let name = context.node_name();
    let leases = context.process().leases;
    let successor =
        leases.and_then(|leases| context.hand_lease_over(leases, context.process().config.cluster_leases_table));
    if !name.is_empty() {
        context.broadcast_on(Channel::Nodes, &cluster::leave(name, successor.as_deref()));
    }
}

/// One second in the cluster. Where none of our kind has answered, all are asked for what there is, as stock does.
pub(crate) fn step(context: &mut Context) {
    let config = &context.process().config;
    if !config.replicates && !config.shares_subscriptions {
        return;
    }
    membership::step(context);
    let nodes = context.process().shared.nodes;
    if nodes.joining.is_alone_since_joining(clock::now())
        && nodes.joining.take_question()
        && config.replicates
        && config.asks_for_all
    {
        if dmq::nodes().iter().any(|node| node.active && !node.local) {
            nodes.joining.note_asked_all(clock::now());
        }
        context.broadcast_on(Channel::Publications, replica::SYNC);
    }
}
