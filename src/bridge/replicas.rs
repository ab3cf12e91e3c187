//! Subscriptions of other nodes: replicas that are kept as their owners announce them, and taken over when an owner is lost.
use super::counters::{self, Counter};
use super::lane::Lane;
use super::member::{Hold, Member};
use super::nodes::NodeId;
use super::world::World;
use crate::host::dmq::{self, Address, Channel};
use crate::host::{clock, log, process, shm};
use crate::limited;
use crate::presence::cluster::{self, Announcement, Claim, Ending, TAKEOVER_STEP};
use crate::presence::config::SubscriptionMode;
use crate::presence::error::StoreError;
use crate::presence::notifier;
use crate::presence::ports::{Event, Occasion, Ports, Stored};
use crate::presence::replication;
use crate::presence::subscribe;
use crate::presence::subscription::{DialogId, Field, Journal, Numbers, Status, Subscription};
use crate::presence::winfo::Watcher;

/// After so many messages a node that tells all it has takes a breath.
const BREATH: usize = 50;

/// At most so many subscriptions are taken over in one second.
const LARGEST_STEP: usize = 1000;

/// When nobody goes on with a lost node's subscription for so many seconds, the next node in line does.
const TURN: i64 = 15;

/// Moves the numbers on beyond what another node can have sent.
pub(super) fn step_over(numbers: &mut Numbers) {
    numbers.local_cseq += TAKEOVER_STEP;
    numbers.version += TAKEOVER_STEP;
}

/// Makes a replica ours.
pub(super) fn take_over(member: &mut Member) {
    member.catches_up = true;
    member.hold = Hold { owner: NodeId::HERE, term: member.hold.term + 1 };
    step_over(&mut member.subscription.numbers);
    member.subscription.numbers.journal = Journal::Replace;
}

/// What to do with an announcement of a subscription that is here already.
enum Verdict {
    /// It is so from now on.
    Accept,
    /// It is so from now on; its owner does not know yet how far we were.
    Yield,
    /// Ours counts, and has to go beyond what the other node has sent.
    Insist,
    /// Ours counts: the other node does not know.
    Correct,
    /// It is no news.
    Ignore,
}

fn decide(mine: &Claim, owned: bool, mine_cseq: u32, other: &Announcement) -> Verdict {
    let other_cseq = other.subscription.numbers.local_cseq;
    if mine.owner == other.claim.owner {
        let newer = (other.claim.term, other.claim.remote_cseq, other_cseq) >= (mine.term, mine.remote_cseq, mine_cseq);
        return if newer && !owned { Verdict::Accept } else { Verdict::Ignore };
    }
    match (other.claim > *mine, owned) {
        (true, true) if mine_cseq > other_cseq => Verdict::Yield,
        (true, _) => Verdict::Accept,
        (false, true) if other_cseq > mine_cseq => Verdict::Insist,
        (false, true) => Verdict::Correct,
        (false, false) => Verdict::Ignore,
    }
}

impl World {
    /// How this node calls itself; empty while dmq does not know.
    pub fn node_name(&self) -> &'static [u8] {
        let known = &self.process().node_name;
        if let Some(name) = known.get() {
            return name;
        }
        match dmq::nodes().into_iter().find(|node| node.local) {
            Some(own) => known.get_or_init(|| own.address.name()),
            None => b"",
        }
    }

    fn tell_nodes(&self, body: &[u8]) {
        counters::count(Counter::DmqSent);
        if !dmq::broadcast(Channel::Nodes, body) {
            limited!(Error, "a change of a subscription could not be sent to the other nodes");
        }
    }

    fn tell_node(&self, to: &Address, body: &[u8]) -> bool {
        counters::count(Counter::DmqSent);
        dmq::send(Channel::Nodes, to, body)
    }

    /// Answers whoever told us something; everybody, when dmq does not know who it was.
    fn answer_node(&self, from: Option<&Address>, body: &[u8]) {
        if !from.is_some_and(|from| self.tell_node(from, body)) {
            self.tell_nodes(body);
        }
    }

    fn owner_name(&self, owner: NodeId) -> Vec<u8> {
        if owner.is_here() { self.node_name().to_vec() } else { self.shared.nodes.name(owner) }
    }

    /// A subscription that is here, and whose it is.
    fn held(&self, dialog: DialogId<'_>) -> Option<(Subscription, Hold)> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        let mut shard = tables.shard_of_dialog(hash)?;
        shard.find(dialog).map(|member| (member.subscription.to_private(), member.hold))
    }

    /// Whether this node sends the NOTIFYs of a subscription.
    pub(super) fn is_owned(&self, dialog: DialogId<'_>) -> bool {
        !self.config.shares_subscriptions || self.held(dialog).is_none_or(|(_, hold)| hold.owner.is_here())
    }

    /// The name of the node that sends the NOTIFYs of a subscription; empty where nodes do not share them.
    pub fn node_of(&self, dialog: DialogId<'_>) -> Vec<u8> {
        match self.config.shares_subscriptions {
            true => self.held(dialog).map(|(_, hold)| self.owner_name(hold.owner)).unwrap_or_default(),
            false => Vec::new(),
        }
    }

    fn announcement(&self, subscription: Subscription, hold: Hold) -> Announcement {
        let remote_cseq = subscription.numbers.remote_cseq;
        let claim = Claim { remote_cseq, term: hold.term, owner: self.owner_name(hold.owner) };
        Announcement { subscription, claim }
    }

    fn announcement_text(&self, subscription: Subscription, hold: Hold) -> Vec<u8> {
        self.announcement(subscription, hold).to_json(self.node_name(), self.packages, clock::now())
    }

    /// Tells the other nodes how a subscription of ours is now.
    pub(super) fn announce_member(&self, dialog: DialogId<'_>) {
        if !self.config.shares_subscriptions {
            return;
        }
        if let Some((subscription, hold)) = self.held(dialog).filter(|(_, hold)| hold.owner.is_here()) {
            self.tell_nodes(&self.announcement_text(subscription, hold));
        }
    }

    /// Tells the other nodes that a subscription has ended.
    pub(super) fn announce_end(&self, gone: &Subscription, for_good: bool) {
        if !self.config.shares_subscriptions {
            return;
        }
        let ending = Ending {
            call_id: gone.get(Field::CallId).to_vec(),
            to_tag: gone.get(Field::ToTag).to_vec(),
            from_tag: gone.get(Field::FromTag).to_vec(),
            for_good,
        };
        self.bury_dialog(&ending, gone.numbers.expires_at);
        self.tell_nodes(&ending.to_json(self.node_name()));
    }

    fn bury_dialog(&self, ending: &Ending, until: i64) {
        if ending.for_good {
            let tombstones = self.shared.tombstones;
            tombstones.bury(tombstones.of_dialog(ending.dialog()), until);
        }
    }

    /// Another node says that a subscription has ended.
    pub fn hear_end(&mut self, ending: &Ending) -> Result<(), StoreError> {
        let Some((subscription, hold)) = self.held(ending.dialog()) else { return Ok(()) };
        if hold.owner.is_here() && !ending.for_good {
            return Ok(());
        }
        self.bury_dialog(ending, subscription.numbers.expires_at);
        self.forget_member(ending.dialog())?;
        if hold.owner.is_here() {
            // Whoever holds a replica for us has not heard of it either.
            self.tell_nodes(&ending.to_json(self.node_name()));
        }
        self.tell_watched(&subscription, Status::Terminated);
        Ok(())
    }

    /// Removes a subscription here, and here alone.
    fn forget_member(&mut self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        let tables = &self.shared.tables;
        let hash = tables.dialog_hash(dialog);
        if let Some(mut shard) = tables.shard_of_dialog(hash) {
            if let Some(member) = shard.find(dialog) {
                // The row, if there is one, is whoever's the subscription is.
                member.hold.owner = NodeId::ELSEWHERE;
            }
        }
        self.remove_member(dialog, None).map(|_| ())
    }

    /// Another node says how a subscription is now.
    pub fn hear(&mut self, other: &Announcement, from: Option<&Address>) -> Result<(), StoreError> {
        let dialog = other.subscription.dialog();
        let owner = match other.claim.owner == self.node_name() {
            true => NodeId::HERE,
            false => self.shared.nodes.of_name(&other.claim.owner, clock::now())?,
        };
        let hold = Hold { owner, term: other.claim.term };
        let Some((mine, mine_hold)) = self.held(dialog) else { return self.hear_new(other, hold, from) };
        let my_claim = self.announcement(mine.clone(), mine_hold).claim;
        let my_cseq = mine.numbers.local_cseq;
        match decide(&my_claim, mine_hold.owner.is_here(), my_cseq, other) {
            Verdict::Ignore => {}
            Verdict::Accept => self.accept(other, hold)?,
            Verdict::Yield => {
                let text = self.announcement_text(mine, mine_hold);
                self.accept(other, hold)?;
                self.answer_node(from, &text);
            }
            Verdict::Correct => {
                let text = self.announcement_text(mine, mine_hold);
                self.answer_node(from, &text);
            }
            Verdict::Insist => self.go_beyond(dialog, &other.subscription.numbers)?,
        }
        Ok(())
    }

    fn hear_new(&mut self, other: &Announcement, hold: Hold, from: Option<&Address>) -> Result<(), StoreError> {
        let subscription = &other.subscription;
        let dialog = subscription.dialog();
        let tombstones = self.shared.tombstones;
        if tombstones.has(tombstones.of_dialog(dialog)) {
            let ending = Ending {
                call_id: dialog.call_id.to_vec(),
                to_tag: dialog.to_tag.to_vec(),
                from_tag: dialog.from_tag.to_vec(),
                for_good: true,
            };
            self.answer_node(from, &ending.to_json(self.node_name()));
            return Ok(());
        }
        if subscription.numbers.expires_at <= clock::now() {
            return Ok(());
        }
        let here = hold.owner.is_here();
        if !self.place_replica(subscription, if here { Hold { owner: NodeId::ELSEWHERE, ..hold } } else { hold })? {
            return Ok(());
        }
        if here {
            // What others hold for us was lost here: it goes on.
            self.go_on_with(dialog)?;
        }
        self.tell_watched(subscription, subscription.numbers.status);
        Ok(())
    }

    /// Puts a replica into the tables; `false` when another process was faster.
    fn place_replica(&self, subscription: &Subscription, hold: Hold) -> Result<bool, StoreError> {
        let mut shared = subscription.map(shm::copy)?;
        shared.numbers.journal = Journal::Clean;
        let _order = self.order_of(&self.resource_of(subscription));
        Ok(self.place_member(shared, 0, hold)? == Stored::New)
    }

    fn accept(&mut self, other: &Announcement, hold: Hold) -> Result<(), StoreError> {
        let dialog = other.subscription.dialog();
        let mut fresh = other.subscription.map(shm::copy)?;
        let hash = self.shared.tables.dialog_hash(dialog);
        let before = {
            let Some(mut shard) = self.shared.tables.shard_of_dialog(hash) else { return Ok(()) };
            let Some(member) = shard.find(dialog) else { return Ok(()) };
            let numbers = &mut fresh.numbers;
            numbers.local_cseq = numbers.local_cseq.max(member.subscription.numbers.local_cseq);
            numbers.version = numbers.version.max(member.subscription.numbers.version);
            member.hold = hold;
            std::mem::replace(&mut member.subscription, fresh)
        };
        if before.numbers.status != other.subscription.numbers.status {
            self.tell_watched(&other.subscription, other.subscription.numbers.status);
        }
        Ok(())
    }

    /// Ours counts, but another node has sent NOTIFYs with higher numbers meanwhile.
    fn go_beyond(&mut self, dialog: DialogId<'_>, others: &Numbers) -> Result<(), StoreError> {
        let hash = self.shared.tables.dialog_hash(dialog);
        {
            let Some(mut shard) = self.shared.tables.shard_of_dialog(hash) else { return Ok(()) };
            let Some(member) = shard.find(dialog) else { return Ok(()) };
            let numbers = &mut member.subscription.numbers;
            numbers.local_cseq = others.local_cseq.max(numbers.local_cseq);
            numbers.version = others.version.max(numbers.version);
            take_over(member);
        }
        self.tell_takeover(dialog)
    }

    /// Makes a replica ours: its row, the other nodes, and its watcher are told.
    fn go_on_with(&mut self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        let Some((replica, _)) = self.held(dialog) else { return Ok(()) };
        let socket = self.config.default_socket;
        let contact = own_contact(self.config.server_address, socket);
        let mut changes: Vec<(Field, &[u8])> = Vec::new();
        if !socket.is_empty() {
            changes.push((Field::Socket, socket));
        }
        if !contact.is_empty() {
            changes.push((Field::LocalContact, &contact));
        }
        let ours = replica.with(&changes)?;
        match self.change_member(dialog, Some(&ours), take_over)? {
            true => self.tell_takeover(dialog),
            false => Ok(()),
        }
    }

    fn tell_takeover(&mut self, dialog: DialogId<'_>) -> Result<(), StoreError> {
        counters::count(Counter::TakenOver);
        let written = match self.config.subscriptions {
            SubscriptionMode::WriteThrough => self.write_member(dialog, 1),
            _ => Ok(()),
        };
        self.announce_member(dialog);
        if self.waits_for_publications() {
            self.mark_due(dialog, Occasion::Subscribe);
            self.shared.nodes.note_waiting();
        } else if let Some((subscription, _)) = self.held(dialog) {
            let resource = self.resource_of(&subscription);
            if self.happened(&resource, Event::Subscription(dialog, Occasion::Subscribe)) {
                notifier::run(self, &resource);
            }
        }
        written
    }

    /// Whether the other nodes are still telling us what is published: a watcher told now would see its lamp go out and on.
    fn waits_for_publications(&self) -> bool {
        let asks = self.config.replicates && self.config.asks_for_all;
        asks && self.shared.nodes.has_just_joined(clock::now(), self.config.started)
    }

    /// Tells the watchers that had to wait for the publications of the other nodes.
    fn tell_who_waited(&mut self) {
        let (tables, mut due) = (&self.shared.tables, Vec::new());
        for index in 0..tables.shard_count() {
            due.extend(tables.nth_shard(index).lanes().filter(|lane| lane.pending && !lane.busy).map(Lane::resource));
        }
        for resource in due {
            if self.happened(&resource, Event::Due) {
                notifier::run(self, &resource);
            }
        }
    }

    fn tell_watched(&mut self, subscription: &Subscription, status: Status) {
        let package = *self.packages.get(subscription.numbers.event);
        let watcher = || Watcher { status, ..Watcher::of(subscription) };
        subscribe::tell_winfo(self, &package, subscription.get(Field::PresUri), watcher, true);
    }

    /// One second of a node's life in the cluster: who came, who is lost, who has to be told what.
    pub fn cluster_step(&mut self) {
        let now = clock::now();
        let seen = dmq::nodes();
        let name = self.node_name();
        if name.is_empty() {
            return;
        }
        for address in self.shared.nodes.observe(&seen, now) {
            self.tell_node(&address, &cluster::hello(name, true));
        }
        for address in self.shared.nodes.take_owed(now) {
            self.tell_subscriptions(&address, false);
            if self.config.replicates {
                self.tell_publications(&address, true);
            }
        }
        if self.config.shares_subscriptions {
            if !self.waits_for_publications() && self.shared.nodes.take_waiting() {
                self.tell_who_waited();
            }
            if self.shared.nodes.take_settling(&seen, now - self.config.started) {
                self.settle();
            }
            self.take_over_lost(now);
        }
    }

    /// Nobody else has gone on with the rest of what was read from the table at start: it is ours.
    fn settle(&mut self) {
        let tables = &self.shared.tables;
        let mut resources = Vec::new();
        for index in 0..tables.shard_count() {
            let mut shard = tables.nth_shard(index);
            for member in shard.members_mut().filter(|member| member.hold.owner == NodeId::ELSEWHERE) {
                member.hold.owner = NodeId::HERE;
                resources.push((member.subscription.get(Field::PresUri).to_vec(), member.subscription.numbers.event));
            }
        }
        resources.sort_by(|a, b| (&a.0, a.1.0).cmp(&(&b.0, b.1.0)));
        resources.dedup();
        for (uri, event) in resources {
            // What has changed meanwhile was not told.
            let resource = self.uri_rule().resource(&uri, event);
            if self.happened(&resource, Event::State { sender: b"", once: None }) {
                notifier::run(self, &resource);
            }
        }
    }

    /// Tells a node the publications there are; `again`: it may know them, and does not tell its watchers what it knows.
    pub fn tell_publications(&mut self, to: &Address, again: bool) {
        let (mut sent, mut failed) = (0, 0);
        let (now, packages) = (clock::now(), self.packages);
        let told = self.each_publication(|resource, publication| {
            let mut replica = replication::of_stored(resource, packages.get(resource.event).name, publication, now);
            replica.again = again;
            counters::count(Counter::DmqSent);
            failed += usize::from(!dmq::send(Channel::Publications, to, &replica.to_json()));
            sent += 1;
            if sent % BREATH == 0 {
                process::sleep_millis(5);
            }
        });
        if told.is_err() || failed > 0 {
            limited!(Error, "a node was not told everything: {failed} of {sent} publications could not be sent");
        }
    }

    /// Tells a node the subscriptions that we own, or `all` we know of.
    pub fn tell_subscriptions(&self, to: &Address, all: bool) {
        if !self.config.shares_subscriptions {
            return;
        }
        let tables = &self.shared.tables;
        let (mut sent, mut failed) = (0, 0);
        for index in 0..tables.shard_count() {
            let ours: Vec<(Subscription, Hold)> = {
                let shard = tables.nth_shard(index);
                let wanted = shard.members().filter(|member| all || member.hold.owner.is_here());
                wanted.map(|member| (member.subscription.to_private(), member.hold)).collect()
            };
            for (subscription, hold) in ours {
                failed += usize::from(!self.tell_node(to, &self.announcement_text(subscription, hold)));
                sent += 1;
                if sent % BREATH == 0 {
                    process::sleep_millis(5);
                }
            }
        }
        if failed > 0 {
            limited!(Error, "a node was not told everything: {failed} of {sent} subscriptions could not be sent");
        }
    }

    /// Goes on with the subscriptions of lost nodes, as far as they fall to us.
    fn take_over_lost(&mut self, now: i64) {
        let lost = self.shared.nodes.lost(now);
        if lost.is_empty() {
            return;
        }
        let mut names = self.shared.nodes.present();
        names.push(self.node_name().to_vec());
        let line: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let mut ours = Vec::new();
        let tables = &self.shared.tables;
        for index in 0..tables.shard_count() {
            let shard = tables.nth_shard(index);
            for member in shard.members() {
                let Some(lost) = lost.iter().find(|lost| lost.id == member.hold.owner) else { continue };
                let dialog = member.subscription.dialog();
                let live = member.subscription.numbers.expires_at > now
                    && member.subscription.numbers.status != Status::Terminated;
                if live && cluster::heir(&line, dialog, (lost.age / TURN) as usize) == Some(self.node_name()) {
                    ours.push(member.subscription.to_private());
                }
            }
            if ours.len() >= LARGEST_STEP {
                break;
            }
        }
        for subscription in &ours {
            if let Err(error) = self.go_on_with(subscription.dialog()) {
                limited!(Error, "cannot go on with a subscription of a lost node: {error}");
            }
        }
        if !ours.is_empty() {
            limited!(Notice, "{} subscriptions of lost nodes are served here from now on", ours.len());
        }
    }

    /// Forgets removals that are long past, and rows of subscriptions that went to other nodes.
    pub fn clean_cluster(&mut self) -> Result<(), StoreError> {
        let now = clock::now();
        self.shared.tombstones.forget_old(now);
        let keeps_rows = !matches!(self.config.subscriptions, SubscriptionMode::Memory);
        if !self.config.shares_subscriptions || !self.database.is_configured() || !keeps_rows {
            return Ok(());
        }
        let table = self.config.active_watchers_table;
        let before = now - self.config.expires_offset - LONG_PAST;
        self.database.write(|db| super::active_watchers::delete_ended(db, table, before))
    }
}

/// How long a row that nobody owns any more stays after its end, in seconds.
const LONG_PAST: i64 = 600;

/// The Contact of a node that goes on with another node's subscription: its address, or its socket; empty for neither.
fn own_contact(server_address: &[u8], socket: &[u8]) -> Vec<u8> {
    if !server_address.is_empty() || socket.is_empty() {
        return server_address.to_vec();
    }
    let text = log::show(socket).into_owned();
    match text.split_once(':') {
        Some((transport, address)) => format!("sip:{address};transport={transport}").into_bytes(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contact_names_the_socket() {
        assert_eq!(own_contact(b"", b"udp:10.0.0.1:5060"), b"sip:10.0.0.1:5060;transport=udp");
        assert_eq!(own_contact(b"", b"tcp:10.0.0.1:5060"), b"sip:10.0.0.1:5060;transport=tcp");
        assert_eq!(own_contact(b"sip:server", b"udp:10.0.0.1:5060"), b"sip:server");
        assert_eq!(own_contact(b"", b""), b"");
    }
}
