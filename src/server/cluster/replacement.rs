//! What moves when nodes come and go, where not every node holds everything (`cluster_replicas`): a node that joins
//! asks all others for its share; what a node holds and should not goes to those that should, and is forgotten here
//! once its primary has said that it holds it.
use crate::cluster::numbers::Ceiling;
use crate::cluster::placement::KEPT;
use crate::host::dmq::Address;
use crate::host::{clock, log};
use crate::limited;
use crate::presence::ports::server::Server;
use crate::presence::publication::{Applied, Change};
use crate::presence::replication::comparison::RecordKind;
use crate::presence::replication::node_messages::{self, NodeMessage};
use crate::presence::replication::placed::{Offer, Placed, RecordName};
use crate::presence::replication::replica;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::server::announcing::ownership::{self, skip_sequence_numbers};
use crate::server::announcing::{arbitration, asking, holders, node_names, sending, texts};
use crate::server::cluster::{comparison, merging, publications, replicas};
use crate::server::context::Context;
use crate::server::nodes::known_node::NodePlacing;
use crate::server::nodes::node_id::NodeId;
use crate::server::nodes::node_messages::SharingNode;
use crate::server::nodes::placing::{NEXT_LOOK, NEXT_OFFER, View};
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::{Awaited, Ownership, SubscriptionEntry};
use crate::sip::entity_tag::EntityTag;
use crate::sip::uri;
use crate::time::{Millis, Moment, Seconds};
use std::cell::Cell;

/// A node says how it places records once in this many seconds.
const SHARE_INTERVAL: Seconds = Seconds(10);

/// A node that sees no other is ready this long after its start, or after it was frozen; one that sees nodes of which
/// it does not know yet whether they are of our kind, later.
const ALONE_AFTER: Seconds = Seconds(3);
const STRANGERS_AFTER: Seconds = Seconds(10);

/// A node serves its share this long after its start even if it has not got all of it, in seconds.
const LONGEST_FILL: Seconds = Seconds(300);

/// Records are not moved before the nodes have been the same for this long.
const STABLE: Millis = Millis(2_000);

/// How long a node waits before it looks again for records that are not in their place while it hands subscriptions
/// over.
const NEXT_STEP: Millis = Millis(1_000);

/// At most this many subscriptions are handed over, and this many records are offered, in one step.
const MOST_HANDED_OVER: usize = 2_000;
const MOST_OFFERED: usize = 2_000;

/// A message with records has about this many bytes, and at most this many records.
const MESSAGE_SIZE: usize = 12_000;
const MESSAGE_RECORDS: usize = 256;

fn say_share(parts: &Parts) {
    if let Some(settings) = holders::placement_settings(parts) {
        sending::send_to_nodes(parts, &settings);
    }
}

/// One second of placing records.
pub(super) fn step(context: &mut Context<'_>, now: Moment) {
    let Some(replicas) = context.config.replicas() else { return };
    holders::observe_places(context, replicas);
    fill(context, replicas);
    if now.is_each(SHARE_INTERVAL) {
        say_share(context);
        if context.shared.stock_nodes.any() {
            limited!(Warn, "nodes without this module are sent nothing: records are not placed on them");
        }
        let age = now - context.config.started;
        for name in context.shared.nodes.not_sharing(replicas).iter().filter(|_| age > SHARE_INTERVAL + SHARE_INTERVAL)
        {
            limited!(
                Warn,
                "{} has another cluster_replicas than this node: nothing is exchanged with it",
                log::show(name)
            );
        }
    }
    if asking::may_speak(context) && context.shared.cluster_state.placing.is_ready() {
        move_records(context);
    }
}

/// Asks the others for what this node should hold, until it has it.
fn fill(context: &mut Context<'_>, replicas: usize) {
    if context.shared.cluster_state.placing.is_ready() {
        return;
    }
    let (nodes, age) = (context.shared.nodes, context.shared.cluster_state.placing.filling_age(clock::instant()));
    let mut share = Share::There;
    for SharingNode { id, .. } in nodes.sharing(replicas) {
        for kind in [RecordKind::Subscriptions, RecordKind::Publications] {
            if nodes.has_filled(id, kind) {
                continue;
            }
            share = Share::Missing;
            if nodes.pulling(id, kind).is_none() {
                comparison::pull_all(context, id, kind);
            }
        }
    }
    let knows_all = nodes.unknown().is_empty() && nodes.not_sharing(replicas).is_empty();
    let waits = if knows_all { ALONE_AFTER } else { STRANGERS_AFTER };
    if serves(share, waits, age) {
        crate::log!(Notice, "this node has its share of the records: it serves requests");
        context.shared.cluster_state.placing.note_ready();
        holders::observe_places(context, replicas);
        say_share(context);
    }
}

/// Moves what is not in its place.
fn move_records(context: &mut Context<'_>) {
    let (placing, now) = (&context.shared.cluster_state.placing, clock::instant());
    if placing.age(now) < STABLE || !placing.is_look_due(now) {
        return;
    }
    let Some(view) = holders::view(context) else { return };
    let looked = placing.look(now, || {
        if hand_over(context, &view) > 0 {
            NEXT_STEP
        } else if offer_subscriptions(context, &view) + offer_documents(context, &view) > 0 || placing.age(now) < KEPT {
            NEXT_OFFER
        } else {
            NEXT_LOOK
        }
    });
    if let Err(why) = looked {
        limited!(Error, "panic while records are moved to the nodes that hold them, tried again: {why}");
    }
}

/// Gives the subscriptions that this node owns and does not serve to their primaries; once the nodes have been the
/// same for long, those that it serves for another one, too. Returns how many.
fn hand_over(parts: &Parts, view: &View) -> usize {
    let is_kept = parts.shared.cluster_state.placing.age(clock::instant()) >= KEPT;
    let stays = |uri: &[u8]| match is_kept {
        true => view.serving(uri).next().is_none_or(NodeId::is_here),
        false => view.is_served_here(uri),
    };
    let moved = find_subscriptions(parts, MOST_HANDED_OVER, |stored| {
        let uri = stored.subscription.get(Field::PresUri);
        let is_own = arbitration::owns(parts, &stored.ownership) || stored.ownership.owner == NodeId::ELSEWHERE;
        is_own && !stays(uri)
    });
    for (subscription, _) in &moved {
        let uri = subscription.get(Field::PresUri);
        let Some(primary) = view.serving(uri).next() else { continue };
        let Some(given) = give_to(parts, subscription.dialog(), primary) else { continue };
        let text = texts::announcement_text(parts, given.0, given.1);
        holders::send_of_presentity(parts, uri, &text);
    }
    if !moved.is_empty() {
        limited!(Notice, "{} subscriptions were handed over to the nodes that serve them now", moved.len());
    }
    moved.len()
}

/// Makes another node the owner of a subscription of ours.
fn give_to(parts: &Parts, dialog: DialogId<'_>, primary: NodeId) -> Option<(Subscription, Ownership)> {
    let (tables, stamp) = (&parts.shared.tables, parts.shared.cluster_state.tick());
    let mut shard = tables.shard_of_dialog(tables.dialog_hash(dialog))?;
    let stored = shard.find(dialog)?;
    let ceiling = Ceiling::at(stored.ownership.ceiling.above(stored.subscription.state.local_cseq));
    // It goes on above all that this node has reserved.
    skip_sequence_numbers(&mut stored.subscription.state, ceiling);
    stored.ownership = Ownership { owner: primary, stamp, ceiling, awaits: Awaited::Nothing, ..stored.ownership };
    Some((stored.subscription.to_private(), stored.ownership))
}

/// At most `most` of the live subscriptions that are wanted.
fn find_subscriptions(
    parts: &Parts,
    most: usize,
    wanted: impl Fn(&SubscriptionEntry) -> bool,
) -> Vec<(Subscription, Ownership)> {
    parts.shared.tables.live(clock::now(), most, |stored| !stored.ownership.owner.is_stock() && wanted(stored))
}

/// Offers the replicas that this node should not hold to those that should; returns how many.
fn offer_subscriptions(parts: &Parts, view: &View) -> usize {
    let moved = find_subscriptions(parts, MOST_OFFERED, |stored| {
        !view.is_held_here(stored.subscription.get(Field::PresUri)) && !arbitration::owns(parts, &stored.ownership)
    });
    let mut offers = Offers::default();
    for (subscription, ownership) in moved {
        let nodes = view.serving(subscription.get(Field::PresUri)).collect();
        offers.add(nodes, texts::announcement_text(parts, subscription, ownership));
    }
    add_removals(parts, view, &mut offers, RecordKind::Subscriptions);
    offers.send(parts, RecordKind::Subscriptions)
}

/// Offers the publications that this node should not hold to those that should; returns how many.
fn offer_documents(context: &mut Context<'_>, view: &View) -> usize {
    let (mut offers, count) = (Offers::default(), Cell::new(0));
    for part in 0..context.shared.tables.shard_count() {
        publications::each(
            context,
            part,
            |uri| count.get() < MOST_OFFERED && !view.is_held_here(uri),
            |context, resource, document| {
                offers.add(view.serving(&resource.uri).collect(), publications::text(context, resource, document));
                count.set(count.get() + 1);
            },
        );
    }
    add_removals(context, view, &mut offers, RecordKind::Publications);
    offers.send(context, RecordKind::Publications)
}

/// What was removed here and belongs to nodes that may not have learnt of it.
fn add_removals(parts: &Parts, view: &View, offers: &mut Offers, kind: RecordKind) {
    let removals = &parts.shared.cluster_state.placing.removals;
    for (uri, text) in removals.wanted(kind, MOST_OFFERED, clock::now(), |uri| !view.is_served_here(uri)) {
        offers.add(view.serving(&uri).collect(), text);
    }
}

/// Another node says something about the places of records.
pub fn on_message(context: &mut Context<'_>, from: NodeId, message: Placed) {
    match message {
        Placed::Settings { replicas, is_ready } => {
            context.shared.nodes.note_placing(from, NodePlacing { replicas, is_ready })
        }
        Placed::Offer(offer) => on_offer(context, offer),
        Placed::Held(kind, names) => {
            let Some(view) = holders::view(context) else { return };
            for name in &names {
                context.shared.cluster_state.placing.removals.forget(kind, name.each_ref().map(Vec::as_slice));
                let done = match kind {
                    RecordKind::Subscriptions => forget_moved_subscription(context, &view, name),
                    RecordKind::Publications => forget_moved_document(context, &view, name),
                };
                if let Err(error) = done {
                    limited!(Warn, "a record that another node holds now cannot be forgotten here: {error}");
                }
            }
        }
        Placed::Refresh { .. } => {}
    }
}

/// Takes what another node holds and should not, and passes it on to the next that should. The last one says that
/// all of them hold it.
fn on_offer(context: &mut Context<'_>, offer: Offer) {
    if context.config.replicas().is_none() {
        return;
    }
    let Some(first) = context.shared.nodes.address_of_name(&offer.first) else { return };
    let (mut held, mut records) = (Vec::new(), Vec::new());
    for record in offer.records {
        let name = match offer.kind {
            RecordKind::Subscriptions => take_subscription(context, &record, &first),
            RecordKind::Publications => take_document(context, &record, &first),
        };
        if let Some(name) = name {
            held.push(name);
            records.push(record);
        }
    }
    if held.is_empty() {
        return;
    }
    let (to, message) = match offer.rest.split_first() {
        None => (Some(first), Placed::Held(offer.kind, held)),
        Some((next, rest)) => {
            let next = context.shared.nodes.address_of_name(next);
            (next, Placed::Offer(Offer { rest: rest.to_vec(), records, ..offer }))
        }
    };
    to.into_iter()
        .for_each(|to| _ = sending::send_to_node(context, &to, &message.to_json(node_names::node_name(context))));
}

fn take_subscription(context: &mut Context<'_>, record: &[u8], from: &Address) -> Option<RecordName> {
    let called = |dialog: DialogId<'_>| [dialog.call_id, dialog.from_tag, dialog.to_tag].map(<[u8]>::to_vec);
    let (name, taken) = match node_messages::parse(record, context.packages, clock::now())? {
        (_, NodeMessage::Subscription(announcement)) => {
            let name = called(announcement.subscription.dialog());
            (name, merging::apply(context, &announcement, Some(from)).map(|_| ()))
        }
        (_, NodeMessage::End(ending)) => (called(ending.dialog()), replicas::terminate(context, &ending)),
        _ => return None,
    };
    match taken {
        Ok(()) => Some(name),
        Err(error) => {
            limited!(Warn, "a subscription that another node offers is not taken: {error}");
            None
        }
    }
}

fn take_document(context: &mut Context<'_>, record: &[u8], from: &Address) -> Option<RecordName> {
    let Some(replica::ReplicaMessage::Update(replica)) = replica::parse(record) else { return None };
    let tag = replica.last_etag().bytes().to_vec();
    let name = [uri::join(&replica.user, &replica.domain), replica.event.clone(), tag];
    match publications::apply(context, &replica, Some(from)) {
        Ok(()) => Some(name),
        Err(why) => {
            limited!(Warn, "a publication that another node offers is not taken: {why}");
            None
        }
    }
}

fn forget_moved_subscription(
    context: &mut Context<'_>,
    view: &View,
    [call_id, from_tag, to_tag]: &RecordName,
) -> Result<(), String> {
    let dialog = DialogId { call_id, to_tag, from_tag };
    let Some((subscription, ownership)) = ownership::owned_subscription(context, dialog) else { return Ok(()) };
    let is_moved = !view.is_held_here(subscription.get(Field::PresUri)) && !arbitration::owns(context, &ownership);
    if !is_moved {
        return Ok(());
    }
    replicas::forget(context, dialog).map_err(|error| error.to_string())
}

fn forget_moved_document(
    context: &mut Context<'_>,
    view: &View,
    [uri, event, etag]: &RecordName,
) -> Result<(), String> {
    let Some(package) = context.packages.named(event) else { return Ok(()) };
    let resource = context.uri_rule().resource(uri, package);
    if view.is_held_here(uri) || context.shared.tables.is_watched(&resource) {
        return Ok(());
    }
    let removal = Change::Remove(EntityTag::new(etag.clone()));
    let applied = context.storage.publications.change(&resource, &removal).map_err(|error| error.to_string())?;
    if let Applied::Removed(removed, _) = applied {
        // It goes on elsewhere, and may come back.
        context.shared.tombstones.forget_publication_removal(&resource, &removed);
        context.shared.old_documents.forget(&resource, &removed.dialogs.ids(), removed.stamp);
    }
    Ok(())
}

/// What a node holds of its share of the records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    There,
    Missing,
}

/// Whether a node serves requests: it has its share of what the others hold, and has waited long enough for nodes
/// that it may not know yet; or it has asked for long enough.
fn serves(share: Share, waits: Seconds, age: Seconds) -> bool {
    share == Share::There && age >= waits || age >= LONGEST_FILL
}

/// Records for other nodes, in as many messages as it takes.
#[derive(Default)]
struct Offers {
    /// By the nodes that should hold them, in the order in which they are passed on.
    by_nodes: Vec<(Vec<NodeId>, Vec<Vec<u8>>)>,
}

impl Offers {
    fn add(&mut self, mut nodes: Vec<NodeId>, record: Vec<u8>) {
        nodes.retain(|node| !node.is_here());
        if nodes.is_empty() {
            return;
        }
        match self.by_nodes.iter_mut().find(|(known, _)| *known == nodes) {
            Some((_, records)) => records.push(record),
            None => self.by_nodes.push((nodes, vec![record])),
        }
    }

    fn send(self, parts: &Parts, kind: RecordKind) -> usize {
        let mut sent = 0;
        for (holders, records) in self.by_nodes {
            let nodes = parts.shared.nodes;
            let Some(address) = holders.first().and_then(|node| nodes.address(*node)) else { continue };
            sent += records.len();
            let rest: Vec<Vec<u8>> = holders.iter().skip(1).map(|node| nodes.name(*node)).collect();
            let send = |records: Vec<Vec<u8>>| {
                let offer = Offer { kind, first: node_names::node_name(parts).to_vec(), rest: rest.clone(), records };
                sending::send_to_node(parts, &address, &Placed::Offer(offer).to_json(node_names::node_name(parts)))
            };
            for part in in_messages(records) {
                send(part);
            }
        }
        sent
    }
}

/// Records as they go in messages, which are bounded in bytes and records.
fn in_messages(records: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let (mut messages, mut size): (Vec<Vec<Vec<u8>>>, usize) = (Vec::new(), 0);
    for record in records {
        match messages.last_mut() {
            Some(message) if size + record.len() <= MESSAGE_SIZE && message.len() < MESSAGE_RECORDS => {
                size += record.len();
                message.push(record);
            }
            _ => {
                size = record.len();
                messages.push(vec![record]);
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_in_bytes_and_records() {
        let counts = |records: Vec<Vec<u8>>| in_messages(records).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(counts(vec![vec![]; 256]), [256]);
        assert_eq!(counts(vec![vec![]; 257]), [256, 1]);
        assert_eq!(counts(vec![vec![0; 6_000]; 2]), [2]);
        assert_eq!(counts(vec![vec![0; 6_000], vec![0; 6_001]]), [1, 1]);
        assert_eq!(counts(vec![vec![0; 12_001], vec![], vec![0; 12_000]]), [1, 2]);
        assert!(counts(Vec::new()).is_empty());
    }

    #[test]
    fn a_node_serves_requests_when_it_has_its_share_or_in_time() {
        let begins = |share, waits| (0..1_000).find(|age| serves(share, waits, Seconds(*age)));
        for waits in [ALONE_AFTER, STRANGERS_AFTER] {
            assert_eq!(
                (begins(Share::There, waits), begins(Share::Missing, waits)),
                (Some(waits.0), Some(LONGEST_FILL.0))
            );
        }
    }
}
