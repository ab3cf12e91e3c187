//! What has to hold in a simulated life, and at its end.
use super::Simulation;
use crate::node::{DialogId, Node, NodeId, PresentityId};
use std::collections::BTreeMap;

impl Simulation {
    /// I2 with an arbiter: while one node sends, no other one would.
    pub(super) fn check_voice(&self, id: NodeId, dialog: DialogId) {
        let others = self.hosts.iter().filter(|host| host.node.id != id && host.up && !host.frozen);
        let mut speaking = others.filter(|host| host.node.would_speak_for(dialog, self.now));
        let is_cut = !self.plan.roams() && self.now <= self.disturbed_until;
        if let Some(other) = speaking.next().filter(|_| self.plan.is_arbitrated() || !is_cut) {
            let held = |id: NodeId| self.hosts[id].node.subs.get(&dialog).cloned();
            let (one, two) = (held(id), held(other.node.id));
            self.fail(format!("nodes {id} and {} speak for dialog {dialog}: {one:?} {two:?}", other.node.id));
        }
    }

    /// I3 at a node: what it shows of a presentity never becomes older.
    pub(super) fn check_shown(&mut self, id: NodeId) {
        let host = &mut self.hosts[id];
        // What a node does not hold any more it may hold again as others know it.
        let node = &host.node;
        let has = |presentity: PresentityId| node.docs.values().any(|doc| doc.presentity == presentity);
        host.shown.retain(|presentity, _| node.holds(*presentity) || has(*presentity));
        let mut wrong = None;
        for doc in host.node.docs.values() {
            if let Some(value) = host.node.shown(doc.presentity) {
                let latest = host.shown.entry(doc.presentity).or_default();
                if value < *latest {
                    wrong = Some((doc.presentity, *latest, value));
                }
                *latest = value.max(*latest);
            }
        }
        if let Some(wrong) = wrong {
            self.fail(format!("node {id} shows an older state: (presentity, before, now) = {wrong:?}"));
        }
    }

    /// I1: all nodes hold the same, one speaks for each dialog, and each watcher sees what was published last.
    pub(super) fn check_end(&self) {
        if let Some(replicas) = self.plan.replicas {
            self.check_places(replicas);
        } else {
            self.check_all_hold_the_same();
        }
        self.check_lamps();
    }

    /// Each record is on so many nodes as there are copies, and is the same there.
    fn check_places(&self, replicas: usize) {
        let mut held: BTreeMap<u64, Vec<(NodeId, u32)>> = BTreeMap::new();
        for host in &self.hosts {
            for entry in host.node.all_entries() {
                held.entry(entry.key.0).or_default().push((host.node.id, entry.state));
            }
        }
        let expected = (replicas + 1).min(self.hosts.len());
        for holders in held.values() {
            if holders.len() != expected || holders.iter().any(|(_, state)| *state != holders[0].1) {
                let subs: Vec<_> = self.hosts.iter().map(|host| (&host.node.subs, &host.node.docs)).collect();
                self.fail(format!("a record is held by {holders:?}\n{subs:?}"));
            }
        }
    }

    fn check_all_hold_the_same(&self) {
        let dump = |node: &Node| {
            let mut entries: Vec<(u64, u32)> = node.all_entries().iter().map(|e| (e.key.0, e.state)).collect();
            entries.sort_unstable();
            entries
        };
        let first = dump(&self.hosts[0].node);
        for host in &self.hosts[1..] {
            if dump(&host.node) != first {
                self.fail(format!(
                    "nodes 0 and {} hold different records\n{:?}\n{:?}\n{:?}\n{:?}",
                    host.node.id, self.hosts[0].node.docs, host.node.docs, self.hosts[0].node.subs, host.node.subs
                ));
            }
        }
    }

    fn check_lamps(&self) {
        for (dialog, watcher) in &self.watchers {
            let voices = self.hosts.iter().filter(|host| host.node.speaks_for(*dialog)).count();
            if voices != 1 {
                self.fail(format!("{voices} nodes speak for dialog {dialog}"));
            }
            let phone = &self.publishers[&watcher.presentity];
            let expected = (phone.published && self.now < phone.ends).then_some(phone.value);
            if !watcher.is_notified || watcher.shows != expected {
                self.fail(format!(
                    "dialog {dialog} of {} shows {:?}, not {expected:?}",
                    watcher.presentity, watcher.shows
                ));
            }
        }
    }
}
