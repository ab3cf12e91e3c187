//! What a simulated node goes on with for others.
use super::{DialogId, LOST_AFTER, Node, NodeId, OBJECTIONS, Sub, TURN};
use crate::layers::cluster::numbers::{Ceiling, above_takeover_margin, reserve};
use crate::layers::cluster::succession::successor;
use crate::layers::cluster::version::Version;

impl Node {
    pub(super) fn take_over_lost(&mut self) {
        if self.arbiter.is_some() {
            let wanted = |sub: &&Sub| !self.owns(sub.dialog) && self.steps_to_us(sub.owner, sub.lease).is_some();
            let ours: Vec<DialogId> = self.subs.values().filter(wanted).map(|sub| sub.dialog).collect();
            ours.into_iter().for_each(|dialog| self.take_over(dialog));
            return;
        }
        let silent = |peer: &NodeId| self.now.saturating_sub(self.received.get(peer).copied().unwrap_or_default());
        let lost: Vec<(NodeId, u64)> =
            self.peers.iter().map(|peer| (*peer, silent(peer))).filter(|(_, age)| *age >= LOST_AFTER).collect();
        let mut names: Vec<[u8; 1]> =
            self.peers.iter().filter(|p| silent(p) < LOST_AFTER).map(|p| [*p as u8]).collect();
        names.push([self.id as u8]);
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_slice()).collect();
        let own = [self.id as u8];
        let mut ours = Vec::new();
        for sub in self.subs.values() {
            let Some((_, age)) = lost.iter().find(|(peer, _)| *peer == sub.owner) else { continue };
            let turn = ((age - LOST_AFTER) / TURN) as usize;
            let is_lost = |node: NodeId| lost.iter().any(|(peer, _)| *peer == node);
            let is_successor = match self.places.replicas {
                None => successor(&names, &[&sub.dialog.to_be_bytes()], turn) == Some(&own),
                Some(_) => self.is_successor(sub.presentity, turn, is_lost),
            };
            if is_successor {
                ours.push(sub.dialog);
            }
        }
        ours.into_iter().for_each(|dialog| self.take_over(dialog));
    }

    pub(super) fn take_over(&mut self, dialog: DialogId) {
        let (stamp, lease, is_arbitrated) = (self.tick(), self.own_lease(), self.arbiter.is_some());
        let Some((owner, owners_lease)) = self.subs.get(&dialog).map(|sub| (sub.owner, sub.lease)) else { return };
        let Some(steps) = self.steps_to_us(owner, owners_lease) else { return };
        let Some(sub) = self.subs.get_mut(&dialog) else { return };
        (sub.owner, sub.lease) = (self.id, lease);
        sub.version = Version { epoch: sub.version.epoch + steps, stamp, owner: self.id as u64, ..sub.version };
        if is_arbitrated {
            sub.ceiling = above_takeover_margin(sub.ceiling, steps);
        } else {
            self.claimed.insert(dialog, self.now);
        }
        self.raise(dialog);
    }

    pub(super) fn speak_for_claimed(&mut self) {
        let due: Vec<DialogId> =
            self.claimed.iter().filter(|(_, at)| self.now - **at >= OBJECTIONS).map(|(dialog, _)| *dialog).collect();
        for dialog in due {
            self.claimed.remove(&dialog);
            self.notify(dialog);
        }
    }

    /// Goes on above all that another node may have sent, and notifies the watcher.
    pub(super) fn raise(&mut self, dialog: DialogId) {
        let stamp = self.tick();
        let Some(sub) = self.subs.get_mut(&dialog) else { return };
        sub.local = sub.ceiling;
        sub.version.stamp = stamp;
        sub.ceiling = reserve(sub.local, Ceiling::at(sub.ceiling)).unwrap_or(sub.ceiling);
        self.restored.remove(&dialog);
        match self.consenting.contains_key(&dialog) {
            true => self.claim(dialog, self.id),
            false => self.announce(dialog),
        }
        self.notify(dialog);
    }
}
