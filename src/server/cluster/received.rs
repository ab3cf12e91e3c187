//! What the callbacks of dmq lead to: messages of other nodes, their answers to ours, and that the cluster was found.
use crate::cluster::consent::Ticket;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::host::dmq::{Address, Channel};
use crate::host::msg::{Header, SipMsg};
use crate::server::announcing::node_names;
use crate::server::cluster::admission::{BAD, FORBIDDEN, StatusLine, TOO_MANY};
use crate::server::cluster::admission::{admit, is_within_rate, note_refused, note_refused_by, with_sender};
use crate::server::cluster::{consent, messages};
use crate::server::context::Context;
use crate::server::nodes::stock_nodes::Outcome;
use std::ffi::c_int;

/// What dmq says of a message that was not answered.
const SILENCE: c_int = 408;

/// dmq has found the cluster on the channel of the publications.
pub fn note_joined(context: &Context) {
    context.process().shared.nodes.joining.note_joined(clock::now());
}

/// dmq has found the cluster on the channel of the nodes: this one says who it is. `false` when it could not.
pub fn introduce(context: &Context) -> bool {
    note_joined(context);
    let name = node_names::node_name(context);
    name.is_empty() || messages::send_hello_to_all(context)
}

/// A node has answered one of our messages with `code`, or has not.
pub fn on_answer(context: &mut Context, channel: Option<Channel>, from: &Address, code: c_int, ticket: Option<Ticket>) {
    if let Some(ticket) = ticket {
        consent::on_answer(context, ticket, from, code);
    }
    let process = context.process();
    let (nodes, stock) = (process.shared.nodes, process.shared.stock_nodes);
    if code == FORBIDDEN.0 {
        note_refused_by(process, from);
    }
    match (channel, code) {
        (_, SILENCE) => nodes.note_missed(from),
        // dmq there does not know our channel.
        (Some(Channel::Nodes), 404) => messages::note_stock(process, from),
        // Older ones take a message that they cannot read for one without the secret.
        (Some(Channel::Nodes), 400 | 403) => nodes.note_unread(from),
        (Some(Channel::StockSubscriptions), 200 | 400 | 404) => {
            stock.note_outcome(from, if code == 200 { Outcome::Taken } else { Outcome::Refused })
        }
        _ => {}
    }
}

/// A message of another node is admitted, and `handle` carries it out. Returns what it is answered with; without a
/// context the server has not started.
pub fn on_message(
    context: Option<Context>,
    channel: Channel,
    message: Option<SipMsg<'_>>,
    from: Option<Address>,
    handle: impl FnOnce(&mut Context, &[u8], Option<Address>) -> StatusLine,
) -> StatusLine {
    counters::count(Counter::DmqReceived);
    let answer = match (message, context) {
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
    if answer.0 >= 300 {
        counters::count(Counter::DmqRejected);
    }
    answer
}
