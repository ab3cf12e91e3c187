//! Comparing what this node holds with what another one holds (`cluster::exchange`), on the tables.
use crate::cluster::clock::{ClusterSecond, MOST_AHEAD, Stamp};
use crate::cluster::digest::{DigestEntry, KeyRange, RecordKey, state_of};
use crate::cluster::exchange::{self, ExchangePorts, Pull, Pulling, RecordPage};
use crate::cluster::unsettled::ExchangeVerdict;
use crate::common::counters::{self, Counter};
use crate::host::clock;
use crate::limited;
use crate::presence::ports::server::Server;
use crate::presence::replication::comparison::{Comparison, RecordKind};
use crate::presence::replication::node_messages::{self, HelloReply, NodeMessage, dialog_key};
use crate::presence::replication::replica;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::server::announcing::asking::ASK_MARGIN;
use crate::server::announcing::{holders, node_names, sending, texts};
use crate::server::cluster::{merging, publications};
use crate::server::context::Context;
use crate::server::nodes::node_id::NodeId;
use crate::server::nodes::placing::View;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::{Ownership, SubscriptionEntry};
use crate::time::{Instant, Moment, Seconds};
use std::collections::BTreeSet;
use std::rc::Rc;

/// A message with records has about this many bytes: dmq sends over UDP, too.
const MESSAGE_SIZE: usize = 12_000;

/// A page has about this many records.
const PAGE: usize = 100;

/// While more of the shared memory than this is in use, in percent, nothing is asked for, and nothing is sent that can
/// wait.
const FULL: usize = 85;

/// Nodes compare what they hold after this many seconds; more seldom the more there is.
const COMPARE_INTERVAL: Seconds = Seconds(5);
const RECORDS_A_SECOND: usize = 10_000;

/// Nodes compare this many times as often while more differs than one comparison settles.
const SOON: i64 = 5;

/// One kind of records, compared with other nodes.
pub struct Exchange<'c, 'm> {
    context: &'c mut Context<'m>,
    kind: RecordKind,
    /// The other node.
    with: NodeId,
    /// Which node holds what; `None`: every node holds everything.
    view: Option<Rc<View>>,
}

impl<'c, 'm> Exchange<'c, 'm> {
    fn new(context: &'c mut Context<'m>, kind: RecordKind, with: NodeId) -> Exchange<'c, 'm> {
        let view = holders::view(context);
        Exchange { context, kind, with, view }
    }

    /// Whether a subscription is compared with the other node: both hold it.
    fn is_common(&self, stored: &SubscriptionEntry) -> bool {
        let uri = || stored.subscription.get(Field::PresUri);
        self.view.as_ref().is_none_or(|view| view.is_shared_with(uri(), self.with))
    }

    /// Whether what belongs to a presentity is.
    fn common(&self) -> impl Fn(&[u8]) -> bool + use<> {
        let (view, with) = (self.view.clone(), self.with);
        move |uri| view.as_ref().is_none_or(|view| view.is_shared_with(uri, with))
    }
}

/// The kinds of records that this node compares, as bits.
pub fn kinds(parts: &Parts) -> u8 {
    let publications = parts.config.compares_publications();
    u8::from(parts.config.shares_subscriptions) | (u8::from(publications) << 1)
}

/// A hello of this node.
pub fn hello(parts: &Parts, reply: HelloReply) -> Vec<u8> {
    node_messages::hello(node_names::node_name(parts), reply, kinds(parts), parts.shared.cluster_state.tick())
}

fn compares(parts: &Parts, kind: RecordKind) -> bool {
    kinds(parts) & kind.bit() != 0
}

/// A node has sent a comparison message.
pub fn on_message(context: &mut Context<'_>, from: NodeId, kind: RecordKind, message: Comparison) {
    // What a node holds that records are not placed on says nothing about what belongs here.
    let is_placed = holders::view(context).is_none_or(|view| view.has_node(from));
    if compares(context, kind) && is_placed {
        let now = clock::instant();
        exchange::on_message(&mut Exchange::new(context, kind, from), from, message, now);
    }
}

/// Asks a node for all records of a kind, page by page.
pub fn pull_all(context: &mut Context<'_>, from: NodeId, kind: RecordKind) {
    let now = clock::instant();
    exchange::pull(&mut Exchange::new(context, kind, from), from, Stamp::default(), now);
}

/// Goes on with what is under way, and compares with the nodes whose turn it is.
pub fn step(context: &mut Context<'_>) {
    let (now, instant) = (clock::now(), clock::instant());
    let interval = interval(context);
    for kind in [RecordKind::Subscriptions, RecordKind::Publications] {
        if !compares(context, kind) {
            continue;
        }
        for (id, _) in context.shared.nodes.peers(kind) {
            let nodes = context.shared.nodes;
            let mut exchange = Exchange::new(context, kind, id);
            if !exchange::go_on(&mut exchange, id, instant) && nodes.take_comparison(id, kind, now, interval) {
                exchange::compare(&mut exchange, id);
            }
        }
    }
}

fn interval(parts: &Parts) -> Seconds {
    COMPARE_INTERVAL + Seconds((parts.shared.tables.subscription_count() / RECORDS_A_SECOND) as i64)
}

/// Whether a subscription is compared: it lives.
fn is_live(stored: &SubscriptionEntry, now: Moment) -> bool {
    stored.subscription.state.expires_at > now
        && !stored.ownership.owner.is_stock()
        && stored.subscription.state.status != Status::Terminated
}

impl Exchange<'_, '_> {
    fn subscriptions(&self, wanted: impl Fn(&SubscriptionEntry) -> bool) -> Vec<(Subscription, Ownership)> {
        let (tables, now, mut found) = (&self.context.shared.tables, clock::now(), Vec::new());
        for shard in tables.shards() {
            let wanted = shard.subscriptions().filter(|stored| is_live(stored, now) && wanted(stored));
            found.extend(wanted.map(|stored| (stored.subscription.to_private(), stored.ownership)));
        }
        found
    }

    fn subscriptions_with(&self, keys: &BTreeSet<RecordKey>) -> Vec<(Subscription, Ownership)> {
        let (tables, now) = (&self.context.shared.tables, clock::now());
        let copy = |stored: &mut SubscriptionEntry| {
            is_live(stored, now).then(|| (stored.subscription.to_private(), stored.ownership))
        };
        let found: Vec<_> = keys.iter().map(|key| tables.with_key(*key, copy)).collect();
        if found.iter().all(Option::is_some) {
            return found.into_iter().flatten().flatten().collect();
        }
        // Without memory a subscription is not known by its key.
        self.subscriptions(|stored| keys.contains(&dialog_key(stored.subscription.dialog())))
    }

    fn texts(&self, subscriptions: Vec<(Subscription, Ownership)>) -> Vec<Vec<u8>> {
        subscriptions.into_iter().map(|(s, ownership)| texts::announcement_text(self.context, s, ownership)).collect()
    }

    fn subscription_entries(&self, range: KeyRange) -> Vec<DigestEntry> {
        let (context, now) = (&self.context, clock::now());
        let owners = context.shared.nodes.owner_keys(node_names::node_name(context));
        let (tables, mut entries) = (&context.shared.tables, Vec::new());
        for shard in tables.shards() {
            let compared = |stored: &&SubscriptionEntry| is_live(stored, now) && self.is_common(stored);
            for stored in shard.subscriptions().filter(compared) {
                let key = dialog_key(stored.subscription.dialog());
                if range.contains(key) {
                    let held = stored.held(owners.key_of(stored.ownership.owner));
                    entries.push(DigestEntry { key, state: state_of(&held.version, held.ceiling) });
                }
            }
        }
        entries
    }

    fn document_entries(&mut self, range: KeyRange) -> Vec<DigestEntry> {
        let (mut entries, is_common) = (Vec::new(), self.common());
        for part in 0..self.context.shared.tables.shard_count() {
            publications::each(self.context, part, &is_common, |context, resource, document| {
                let key = publications::key(context, resource, document);
                if range.contains(key) {
                    let state = RecordKey::of_names(&[
                        document.etag.bytes(),
                        &document.stamp.map_or(0, ClusterSecond::seconds).to_be_bytes(),
                    ]);
                    entries.push(DigestEntry { key, state: state.0 as u32 });
                }
            });
        }
        entries
    }

    fn subscription_page(&self, pull: Pull) -> RecordPage<Vec<u8>> {
        let (tables, now) = (&self.context.shared.tables, clock::now());
        let (first, mut slot) = ((pull.cursor >> 32) as usize, pull.cursor as u32);
        let (mut found, mut next) = (Vec::new(), None);
        for part in first..tables.shard_count() {
            let shard = tables.nth_shard(part);
            for (at, stored) in shard.subscriptions_from(slot) {
                if found.len() >= PAGE {
                    next = Some(((part as u64) << 32) | u64::from(at));
                    break;
                }
                let is_wanted = is_live(stored, now) && self.is_common(stored);
                if is_wanted && stored.ownership.stamp >= pull.since {
                    found.push((stored.subscription.to_private(), stored.ownership));
                }
            }
            if next.is_some() {
                break;
            }
            slot = 0;
        }
        RecordPage { records: self.texts(found), next }
    }

    /// A page of publications. They bear the time of the node that has received them, whose clock may be behind the
    /// cluster's.
    fn document_page(&mut self, pull: Pull) -> RecordPage<Vec<u8>> {
        let since = (pull.since != Stamp::default()).then(|| pull.since.before(MOST_AHEAD).second());
        let (mut found, is_common) = (Vec::new(), self.common());
        for part in pull.cursor as usize..self.context.shared.tables.shard_count() {
            if found.len() >= PAGE {
                return RecordPage { records: found, next: Some(part as u64) };
            }
            publications::each(self.context, part, &is_common, |context, resource, document| {
                if since.is_none_or(|since| document.stamp.is_none_or(|at| at >= since)) {
                    found.push(publications::text(context, resource, document));
                }
            });
        }
        RecordPage { records: found, next: None }
    }
}

impl ExchangePorts for Exchange<'_, '_> {
    type Peer = NodeId;
    type Record = Vec<u8>;

    fn entries(&mut self, range: KeyRange) -> Vec<DigestEntry> {
        match self.kind {
            RecordKind::Subscriptions => self.subscription_entries(range),
            RecordKind::Publications => self.document_entries(range),
        }
    }

    fn records(&mut self, keys: &[RecordKey]) -> Vec<Vec<u8>> {
        let keys: BTreeSet<RecordKey> = keys.iter().copied().collect();
        if self.kind == RecordKind::Subscriptions {
            return self.texts(self.subscriptions_with(&keys));
        }
        let mut found = Vec::new();
        for part in 0..self.context.shared.tables.shard_count() {
            publications::each(
                self.context,
                part,
                |_| true,
                |context, resource, document| {
                    if keys.contains(&publications::key(context, resource, document)) {
                        found.push(publications::text(context, resource, document));
                    }
                },
            );
        }
        found
    }

    fn page(&mut self, pull: Pull) -> RecordPage<Vec<u8>> {
        match self.kind {
            RecordKind::Subscriptions => self.subscription_page(pull),
            RecordKind::Publications => self.document_page(pull),
        }
    }

    fn merge(&mut self, from: NodeId, record: Vec<u8>) {
        let address = self.context.shared.nodes.address(from);
        let done = match self.kind {
            RecordKind::Subscriptions => match node_messages::parse(&record, self.context.packages, clock::now()) {
                Some((_, NodeMessage::Subscription(announcement))) => {
                    let merged = merging::apply(self.context, &announcement, address.as_ref());
                    merged.map(|_| ()).map_err(|error| error.to_string())
                }
                _ => Err("it is no subscription".into()),
            },
            RecordKind::Publications => match replica::parse(&record) {
                Some(replica::ReplicaMessage::Update(replica)) => {
                    publications::apply(self.context, &replica, address.as_ref()).map_err(|failure| failure.to_string())
                }
                _ => Err("it is no publication".into()),
            },
        };
        if let Err(why) = done {
            limited!(Warn, "a record of another node is not taken: {why}");
        }
    }

    fn parts(&mut self, records: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
        in_messages(records)
    }

    fn send(&mut self, to: NodeId, message: Comparison) {
        if let Some(address) = self.context.shared.nodes.address(to) {
            let text = texts::comparison_text(self.context, self.kind, &message);
            sending::send_to_node(self.context, &address, &text);
        }
    }

    fn has_room(&mut self) -> bool {
        let knows_us = self.view.as_ref().is_none_or(|view| view.has_node(self.with));
        knows_us && self.context.memory_used() < FULL
    }

    fn with_pulling<T>(&mut self, from: NodeId, work: impl FnOnce(&mut Option<Pulling>) -> T) -> T {
        self.context.shared.nodes.with_pulling(from, self.kind, work)
    }

    fn note_agreed(&mut self, with: NodeId) {
        if self.kind == RecordKind::Subscriptions {
            let now = self.context.shared.cluster_state.tick();
            self.context.shared.nodes.note_agreed(with, now);
        }
    }

    /// Publications bear no stamp to ask by: they are compared part by part.
    fn take_catch_up(&mut self, with: NodeId) -> Option<Stamp> {
        let is_asked = self.kind == RecordKind::Subscriptions;
        let since = is_asked.then(|| self.context.shared.nodes.take_catch_up(with)).flatten()?;
        Some(since.before(ASK_MARGIN))
    }

    fn note_more(&mut self, with: NodeId) {
        let pause = Seconds(interval(self.context).0 / SOON);
        self.context.shared.nodes.compare_earlier(with, self.kind, interval(self.context) - pause);
    }

    fn note_exchanged(&mut self, with: NodeId) {
        self.context.shared.nodes.note_exchanged(with, self.kind);
    }

    fn may_exchange(&mut self, with: NodeId, key: RecordKey, states: u64, now: Instant) -> bool {
        let verdict = self.context.shared.nodes.judge_difference(with, self.kind, key, states, now);
        if verdict == ExchangeVerdict::GiveUp {
            counters::count(Counter::DifferencesUnsettled);
            let what = if self.kind == RecordKind::Subscriptions { "a subscription" } else { "a publication" };
            limited!(
                Warn,
                "another node and this one hold {what} differently and exchanging it does not settle that: \
                 it is exchanged less often (record {:016x})",
                key.0
            );
        }
        verdict != ExchangeVerdict::LeaveAlone
    }

    fn on_answered(&mut self, from: NodeId, since: Stamp) {
        if since == Stamp::default() {
            self.context.shared.nodes.note_filled(from, self.kind);
        }
        self.context.shared.nodes.note_answered(from, self.kind, clock::instant());
    }
}

/// Records in messages of a bounded size.
fn in_messages(records: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let (mut messages, mut message, mut size) = (Vec::new(), Vec::new(), 0);
    for record in records {
        if size + record.len() > MESSAGE_SIZE && !message.is_empty() {
            messages.push(std::mem::take(&mut message));
            size = 0;
        }
        size += record.len();
        message.push(record);
    }
    messages.extend(Some(message).filter(|message| !message.is_empty()));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_in_messages_of_a_bounded_size() {
        let lengths = |records: &[usize]| -> Vec<Vec<usize>> {
            let messages = in_messages(records.iter().map(|length| vec![b'x'; *length]).collect());
            messages.iter().map(|message| message.iter().map(Vec::len).collect()).collect()
        };
        assert_eq!(lengths(&[MESSAGE_SIZE - 1, 1, 1]), [vec![MESSAGE_SIZE - 1, 1], vec![1]]);
        // A longer record goes alone.
        assert_eq!(lengths(&[1, MESSAGE_SIZE + 1, 1]), [vec![1], vec![MESSAGE_SIZE + 1], vec![1]]);
        assert!(lengths(&[]).is_empty());
    }
}
