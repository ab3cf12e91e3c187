//! The conversation with other nodes: who is greeted and asked, and what each message of theirs leads to.
use crate::host::dmq::{self, Address, Channel};
use crate::host::{clock, log};
use crate::presence::replication;
use crate::presence::replication::Reader;
use crate::presence::replication::comparison::RecordKind;
use crate::presence::replication::node_messages::{self, HelloReply, NodeMessage};
use crate::presence::replication::replica::{self, ReplicaMessage};
use crate::server::announcing::{arbitration, holders, node_clocks, node_names, sending};
use crate::server::cluster::admission::{BAD, NEWER_HERE, OK, StatusLine};
use crate::server::cluster::full_sync::{self, Owners};
use crate::server::cluster::merging::Merging;
use crate::server::cluster::{
    comparison, membership, merging, publications, refreshes, replacement, replicas, stock_subscriptions,
};
use crate::server::context::{Context, Process};
use crate::server::nodes::node_id::NodeId;
use crate::server::operator::refreshing;

/// Says who we are to all nodes, also to those that have not shown yet that they know the secret; whether each could be
/// sent it.
pub fn send_hello_to_all(context: &Context) -> bool {
    let hello = comparison::hello(context, HelloReply::Wanted);
    let others = dmq::nodes().into_iter().filter(|node| node.active && !node.local);
    // Each of them is greeted, whatever became of the one before.
    let unsent = others.filter(|node| !sending::send_hello(context, &node.address, &hello)).count();
    unsent == 0
}

/// A node runs stock's module.
pub fn note_stock(process: &Process, address: &Address) {
    let (nodes, now) = (process.shared.nodes, clock::now());
    nodes.note_stock(address, now);
    if process.shared.stock_nodes.note(address, now).is_err() {
        crate::limited!(Error, "there is no room for another node");
    }
}

fn unreadable(body: &[u8]) -> StatusLine {
    crate::limited!(Notice, "a message of another node cannot be read: {}", log::show(&body[..body.len().min(200)]));
    BAD
}

/// A message on the channel of publications: a change, a question for all there is, or a subscription of stock's.
pub fn on_publication_message(context: &mut Context, body: &[u8], from: Option<Address>) -> StatusLine {
    match replica::parse(body) {
        None => unreadable(body),
        Some(ReplicaMessage::Other) => on_stock_message(context, body, from),
        Some(ReplicaMessage::Sync { you }) => {
            // A question to all is answered by one.
            if let Some(from) =
                from.filter(|_| you || context.process().shared.nodes.is_first(node_names::node_name(context)))
            {
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

/// A message on the channel of our nodes.
pub fn on_node_message(context: &mut Context, body: &[u8], from: Option<Address>) -> StatusLine {
    let Some((name, message)) = node_messages::parse(body, context.process().registry.packages(), clock::now()) else {
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
    wait_again_for(context, &name);
    let (mut done, mut answer) = (Ok(()), OK);
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
                refreshing::refresh_for_node(context.process(), &message);
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
            let merged = merging::apply(context, &announcement, from.as_ref());
            if matches!(merged, Ok(Merging::NewerHere)) {
                answer = NEWER_HERE;
            }
            done = merged.map(|_| ());
        }
        (NodeMessage::Refresh(refresh), from) => refreshes::apply(context, &refresh, &name, from.as_ref()),
        (NodeMessage::End(ending), _) => done = replicas::terminate(context, &ending),
        _ => {}
    }
    membership::resume(context);
    match done {
        Ok(()) => answer,
        Err(error) => {
            crate::limited!(Error, "a subscription of another node cannot be stored: {error}");
            (500, "Server Internal Error")
        }
    }
}

/// A node that has said something is waited for again when subscriptions are taken.
fn wait_again_for(context: &Context, name: &[u8]) {
    let shared = &context.process().shared;
    if shared.cluster_state.open_claims.has_silent() {
        let place = shared.nodes.of_name(name, clock::now()).ok().and_then(NodeId::place);
        place.into_iter().for_each(|place| shared.cluster_state.open_claims.note_message_of(place));
    }
}

/// One of our kind is there. The first one who says so after we joined is asked for all there is.
fn on_hello(context: &mut Context, from: &Address, their_name: &[u8], (reply, compares, speaks): (HelloReply, u8, u8)) {
    let (config, name) = (context.process().config, node_names::node_name(context));
    let nodes = context.process().shared.nodes;
    let kinds = comparison::kinds(context);
    let Ok(id) = nodes.of_name(their_name, clock::now()) else { return };
    nodes.note_hello(id, compares, speaks);
    if reply == HelloReply::Wanted {
        sending::send_hello(context, from, &comparison::hello(context, HelloReply::Given));
    }
    holders::placement_settings(context)
        .into_iter()
        .for_each(|settings| _ = sending::send_on(context, Channel::Nodes, from, &settings));
    if !nodes.joining.take_question() {
        return;
    }
    let common = |kind: RecordKind| kinds & compares & kind.bit() != 0;
    if config.replicates && config.sync_on_join {
        match common(RecordKind::Publications) {
            true => comparison::pull_all(context, id, RecordKind::Publications),
            false => _ = sending::send_on(context, Channel::Publications, from, replica::SYNC_YOU),
        }
    }
    if config.shares_subscriptions && config.asks_for_subscriptions {
        match common(RecordKind::Subscriptions) {
            true => comparison::pull_all(context, id, RecordKind::Subscriptions),
            false => _ = sending::send_on(context, Channel::Nodes, from, &node_messages::sync(name)),
        }
    }
}

/// The server ends: the others go on with its subscriptions at once.
pub fn announce_leave(context: &Context) {
    if !context.process().config.shares_subscriptions {
        return;
    }
    let name = node_names::node_name(context);
    let leases = context.process().leases;
    let successor = leases.and_then(|leases| {
        arbitration::hand_lease_over(context, leases, context.process().config.cluster_leases_table)
    });
    if !name.is_empty() {
        sending::broadcast_on(context, Channel::Nodes, &node_messages::leave(name, successor.as_deref()));
    }
}

/// One second in the cluster. Where none of our kind has answered, all are asked for what there is, as stock does.
pub fn step(context: &mut Context) {
    let config = &context.process().config;
    if !config.replicates && !config.shares_subscriptions {
        return;
    }
    membership::step(context);
    let nodes = context.process().shared.nodes;
    if nodes.joining.is_alone_since_joining(clock::now())
        && nodes.joining.take_question()
        && config.replicates
        && config.sync_on_join
    {
        if dmq::nodes().iter().any(|node| node.active && !node.local) {
            nodes.joining.note_asked_all(clock::now());
        }
        sending::broadcast_on(context, Channel::Publications, replica::SYNC);
    }
}
