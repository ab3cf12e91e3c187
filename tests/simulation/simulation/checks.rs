//! What has to hold at the end of a simulated life.
use super::Simulation;
use crate::node::{Node, NodeId};
use std::collections::BTreeMap;

impl Simulation {
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
            let expected = phone.published.then_some(phone.value);
            if !watcher.is_notified || watcher.shows != expected {
                self.fail(format!(
                    "dialog {dialog} of {} shows {:?}, not {expected:?}",
                    watcher.presentity, watcher.shows
                ));
            }
        }
    }
}
