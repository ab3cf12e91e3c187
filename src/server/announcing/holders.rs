//! The nodes that hold what belongs to a presentity, and who serves it, as this process sees it (`cluster_replicas`).
use crate::cluster::clock::ClusterSecond;
use crate::cluster::digest::RecordKey;
use crate::cluster::old_documents::RemovedDocuments;
use crate::host::dmq::{self, Address, Channel};
use crate::host::{clock, log};
use crate::limited;
use crate::presence::publication::{Dialogs, Publication};
use crate::presence::replication::comparison::RecordKind;
use crate::presence::replication::placed::Placed;
use crate::presence::replication::replica::Replica;
use crate::presence::replication::replica_life::TwoClocks;
use crate::presence::replication::{self, Reader};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::server::announcing::{node_names, ownership, sending, texts};
use crate::server::nodes::node_id::NodeId;
use crate::server::nodes::node_messages::SharingNode;
use crate::server::nodes::placing::{NEXT_OFFER, View};
use crate::server::shared::Parts;
use crate::sip::entity_tag::EntityTag;
use crate::time::Moment;
use std::rc::Rc;

/// Which node holds what; `None`: every node holds everything.
pub(crate) fn view(parts: &Parts) -> Option<Rc<View>> {
    let replicas = parts.config.replicas()?;
    let placing = &parts.shared.cluster_state.placing;
    let mut view = parts.placement.borrow_mut();
    if !view.is_current(placing) {
        *view = Rc::new(View::of_placing(placing, replicas));
    }
    Some(view.clone())
}

/// How this node places records, for the others; `None`: every node holds everything.
pub fn placement_settings(parts: &Parts) -> Option<Vec<u8>> {
    let replicas = parts.config.replicas()? as u8;
    let is_ready = parts.shared.cluster_state.placing.is_ready();
    Some(Placed::Settings { replicas, is_ready }.to_json(node_names::node_name(parts)))
}

/// The other nodes that learn of what happens to a presentity: those that hold what belongs to it. `None`: all
/// nodes do, because every node holds everything, or because others may see other nodes than this one.
pub(crate) fn receivers(parts: &Parts, uri: &[u8]) -> Option<Vec<Address>> {
    let view = view(parts)?;
    let is_settled = parts.shared.cluster_state.placing.is_settled(clock::instant());
    let addresses = || view.others(uri).filter_map(|node| parts.shared.nodes.address(node)).collect();
    (is_settled && !view.is_empty()).then(addresses)
}

/// Sends the nodes that learn of what happens to a presentity a message about it. `false`: one of them could not be
/// sent it.
pub(crate) fn send_to_holders(parts: &Parts, channel: Channel, uri: &[u8], body: &[u8]) -> bool {
    let Some(receivers) = receivers(parts, uri) else { return sending::broadcast_on(parts, channel, body) };
    // Each of them is sent the message, whatever became of the one before.
    let unsent = receivers.iter().filter(|address| !sending::send_on(parts, channel, address, body)).count();
    unsent == 0
}

/// The node that owned a subscription until a SUBSCRIBE reached this one is notified that it no longer does,
/// wherever records are.
pub(crate) fn announce_to_former(parts: &Parts, dialog: DialogId<'_>, former: NodeId) {
    if parts.config.replicas().is_none() || !parts.config.shares_subscriptions {
        return;
    }
    let Some(address) = parts.shared.nodes.address(former) else { return };
    let Some((subscription, ownership)) = ownership::owned_subscription(parts, dialog) else { return };
    let is_receiver =
        receivers(parts, subscription.get(Field::PresUri)).is_none_or(|receivers| receivers.contains(&address));
    if !is_receiver {
        sending::send_to_node(parts, &address, &texts::announcement_text(parts, subscription, ownership));
    }
}

/// Now, by both clocks.
pub(crate) fn two_clocks(parts: &Parts) -> TwoClocks {
    TwoClocks { own: clock::now(), shared: parts.shared.cluster_state.second() }
}

/// What belongs to a presentity was removed here: the nodes that hold it learn of that, even when this node is none
/// of them by then.
pub(crate) fn note_removal(parts: &Parts, kind: RecordKind, uri: &[u8], name: [&[u8]; 3], text: &[u8], until: Moment) {
    if parts.config.replicas().is_some() {
        parts.shared.cluster_state.placing.removals.note(kind, uri, name, text, until);
    }
}

/// A document has taken the place of that of another publication: nodes that were out of reach hold that one still.
pub(crate) fn keep_replaced(parts: &Parts, resource: &Resource, replaced: &Publication) {
    if parts.config.replicas().is_none() {
        return;
    }
    let (event, now) = (parts.packages().get(resource.event).name, clock::now());
    let ended = dialogs_ended_with(parts, resource, replaced);
    let stored = replication::of_stored(resource, event, replaced, two_clocks(parts), Reader::Ours);
    let removal = Replica { ended, ..stored.correction() };
    let name = [&resource.uri[..], event, replaced.etag.bytes()];
    let until = replaced.expires_at.moment().unwrap_or(now + parts.config.max_expires);
    note_removal(parts, RecordKind::Publications, &resource.uri, name, &removal.to_json(), until);
}

/// A document has run out: nodes that were out of reach may hold older ones of its dialogs. No document has the entity
/// tag of what is said about it: by their clocks it may not be over yet.
pub(crate) fn keep_end(parts: &Parts, resource: &Resource, over: &Publication) {
    let ended = dialogs_ended_with(parts, resource, over);
    if ended.is_empty() {
        return;
    }
    let (event, now) = (parts.packages().get(resource.event).name, clock::now());
    let etag = EntityTag::new([over.etag.bytes(), b".over"].concat());
    let named = Publication { etag, ruid: Vec::new(), dialogs: Dialogs::default(), ..over.clone() };
    let stored = replication::of_stored(resource, event, &named, two_clocks(parts), Reader::Ours);
    let text = Replica { ended, ..stored.correction() }.to_json();
    let name = [&resource.uri[..], event, named.etag.bytes()];
    note_removal(parts, RecordKind::Publications, &resource.uri, name, &text, now + parts.config.max_expires);
}

/// Remembers the dialogs of a document that was received then and is gone, with all older ones of them.
pub(crate) fn note_ended_dialogs(parts: &Parts, resource: &Resource, dialogs: &[u64], stamp: Option<ClusterSecond>) {
    let Some(received_at) = stamp.filter(|_| parts.config.replicates) else { return };
    let until = clock::now() + parts.config.max_expires;
    parts.shared.old_documents.note(resource, dialogs.iter().copied(), RemovedDocuments { received_at, until });
}

/// The dialogs of a document that was removed here which no other document spoke of, where they are sent to other
/// nodes.
pub(crate) fn dialogs_ended_with(parts: &Parts, resource: &Resource, removed: &Publication) -> Vec<u64> {
    if parts.config.replicas().is_none() {
        return Vec::new();
    }
    let mut dialogs = removed.dialogs.ids();
    dialogs.retain(|dialog| {
        let known = parts.shared.old_documents.of_dialog(resource, *dialog);
        known.is_some_and(|known| removed.stamp.is_some_and(|at| at <= known.received_at))
    });
    dialogs
}

/// The change could not be carried out: the other document is where it was.
pub(crate) fn forget_replaced(parts: &Parts, resource: &Resource, kept: &Publication) {
    let name = [&resource.uri[..], parts.packages().get(resource.event).name, kept.etag.bytes()];
    parts.shared.cluster_state.placing.removals.forget(RecordKind::Publications, name);
}

/// Whether this node has the documents of all others that it should hold, as far as it knows these.
pub(crate) fn has_documents(parts: &Parts) -> bool {
    let Some(replicas) = parts.config.replicas() else { return true };
    let nodes = parts.shared.nodes;
    nodes.sharing(replicas).iter().all(|node| nodes.has_filled(node.id, RecordKind::Publications))
}

/// A subscription to this presentity is ours: one that is served elsewhere is handed over soon.
pub(crate) fn note_place_of(parts: &Parts, uri: &[u8]) {
    if view(parts).is_some_and(|view| !view.is_served_here(uri)) {
        parts.shared.cluster_state.placing.look_now();
    }
}

/// Another node has announced a record of this presentity here: one that belongs elsewhere, because that node did
/// not know yet where, is offered soon.
pub(crate) fn note_replica_of(parts: &Parts, uri: &[u8]) {
    if view(parts).is_some_and(|view| !view.is_held_here(uri)) {
        parts.shared.cluster_state.placing.look_by(clock::instant() + NEXT_OFFER);
    }
}

/// Which nodes serve a request about a presentity, if not this one: its primary, then those that go on for it.
pub(crate) fn served_at(parts: &Parts, uri: &[u8]) -> Vec<(NodeId, Address)> {
    let is_elsewhere =
        view(parts).is_some_and(|view| view.serving(uri).next().is_some_and(|primary| !primary.is_here()));
    if is_elsewhere { serving_nodes(parts, uri) } else { Vec::new() }
}

/// The nodes that serve a presentity, its primary first, with their addresses.
pub(crate) fn serving_nodes(parts: &Parts, uri: &[u8]) -> Vec<(NodeId, Address)> {
    let Some(view) = view(parts) else { return Vec::new() };
    let own = || dmq::nodes().into_iter().find(|node| node.local).map(|node| node.address);
    let address = |node: NodeId| if node.is_here() { own() } else { parts.shared.nodes.address(node) };
    view.serving(uri).filter_map(|node| Some((node, address(node)?))).collect()
}

/// Returns the place of this node among those that hold records.
pub(crate) fn own_place(parts: &Parts) -> SharingNode {
    let is_ready = parts.shared.cluster_state.placing.is_ready();
    SharingNode { id: NodeId::HERE, key: RecordKey::of_names(&[node_names::node_name(parts)]).0, is_ready }
}

/// Looks which nodes records are placed on now.
pub(crate) fn observe_places(parts: &Parts, replicas: usize) {
    let mut seen = parts.shared.nodes.sharing(replicas);
    seen.push(own_place(parts));
    parts.shared.cluster_state.placing.observe(&seen, clock::instant());
}

/// Says how a subscription to this presentity is, to all nodes that hold it.
pub(crate) fn send_of_presentity(parts: &Parts, uri: &[u8], body: &[u8]) {
    if !send_to_holders(parts, Channel::Nodes, uri, body) {
        limited!(Error, "a change of a subscription could not be sent to the other nodes");
    }
}

/// Which nodes look at the watchers of a presentity again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshedBy {
    /// The primary of the presentity: the rules have changed.
    Primary,
    /// All that hold it: its documents have changed.
    Holders,
}

/// Has the watchers of a presentity looked at again where they are. `true`: this node is one of those that do.
#[must_use = "this node may have to do it, too"]
pub fn refresh_elsewhere(parts: &Parts, uri: &[u8], message: &Placed, by: RefreshedBy) -> bool {
    let Some(view) = view(parts) else { return true };
    let text = message.to_json(node_names::node_name(parts));
    if by == RefreshedBy::Holders {
        if !send_to_holders(parts, Channel::Nodes, uri, &text) {
            limited!(Error, "the nodes that hold {} could not be asked to refresh it", log::show(uri));
        }
        return view.is_held_here(uri);
    }
    match view.serving(uri).next() {
        Some(primary) if !primary.is_here() => {
            if let Some(address) = parts.shared.nodes.address(primary) {
                sending::send_to_node(parts, &address, &text);
            }
            false
        }
        _ => true,
    }
}
