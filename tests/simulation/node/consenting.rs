//! A node that takes a subscription from another one sends nothing before all others have answered that they know.
use super::{DialogId, Node, NodeId, Sub, Wire};
use crate::layers::cluster::consent::{self, NodeSet, Ticket};
use crate::layers::cluster::digest::RecordKey;
use crate::time::Instant;

impl Node {
    /// Whether it has taken a subscription, and waits until others have objected or answered.
    pub(super) fn waits(&self, dialog: DialogId) -> bool {
        self.claimed.contains_key(&dialog) || self.consenting.contains_key(&dialog)
    }

    /// A subscription of `former` is this node's now: the others that hold it learn of that.
    pub(super) fn claim(&mut self, dialog: DialogId, former: NodeId) {
        let Some(sub) = self.subs.get(&dialog).cloned() else { return };
        let mut receivers = self.other_holders(sub.presentity);
        if former != self.id && !receivers.contains(&former) {
            receivers.push(former);
        }
        let mut awaited = NodeSet::NONE;
        let present = receivers.iter().filter(|peer| self.is_present(**peer) && !self.silent.has_place(**peer));
        present.for_each(|peer| awaited.add(*peer));
        let now = Instant::at(self.now);
        let ticket = match awaited.is_empty() {
            true => None,
            false => consent::open(&mut self.open_claims, RecordKey(u64::from(dialog)), awaited, now),
        };
        self.consenting.remove(&dialog);
        let Some(ticket) = ticket else {
            self.announce(dialog);
            return self.send_to_former(dialog, former);
        };
        self.consenting.insert(dialog, ());
        self.announced.insert(dialog, crate::wire::unchanged_of(&sub));
        for peer in receivers {
            self.send(peer, Wire::Claim { sub: sub.clone(), ticket });
        }
    }

    pub(super) fn on_claim(&mut self, from: NodeId, sub: Sub, ticket: Ticket) {
        let (dialog, version, ceiling) = (sub.dialog, sub.version, sub.ceiling);
        self.merge_sub(from, sub);
        let is_as_said = |mine: &Sub| mine.version <= version && mine.ceiling <= ceiling;
        let is_newest = self.subs.get(&dialog).is_some_and(is_as_said);
        self.send(from, Wire::Taken(ticket, is_newest));
    }

    pub(super) fn on_refused(&mut self, from: NodeId, ticket: Ticket) {
        consent::refused(&mut self.open_claims, ticket, from);
    }

    pub(super) fn on_taken(&mut self, from: NodeId, ticket: Ticket) {
        if let Some(key) = consent::answered(&mut self.open_claims, ticket, from) {
            self.speak_with_consent(key);
        }
    }

    fn speak_with_consent(&mut self, key: RecordKey) {
        let dialog = key.0 as DialogId;
        if self.consenting.remove(&dialog).is_some() {
            self.notify(dialog);
        }
    }

    /// Nodes that have not answered by now are not waited for.
    pub(super) fn end_waiting(&mut self) {
        let (keys, silent) = consent::take_overdue(&mut self.open_claims, Instant::at(self.now));
        self.silent.add_all(&silent);
        keys.into_iter().for_each(|key| self.speak_with_consent(key));
    }
}
