//! What a node does in the cluster every second, and when another one ends.
use crate::host::{clock, dmq};
use crate::presence::cluster::HelloReply;
use crate::presence::comparison::RecordKind;
use crate::presence::error::StoreError;
use crate::presence::replication::Reader;
use crate::server::cluster::full_sync::Owners;
use crate::server::cluster::node_id::NodeId;
use crate::server::cluster::replicas::Objections;
use crate::server::context::Context;
use crate::time::Seconds;

/// A node that has not said who it is, is asked again after so many seconds.
const HELLO_INTERVAL: Seconds = Seconds(10);

/// How long a row that nobody owns any more stays after its end, in seconds.
const LONG_PAST: Seconds = Seconds(600);

impl Context<'_> {
    /// One second of a node's life in the cluster: who came, who is lost, and what has to be announced to whom.
    pub fn cluster_step(&mut self) {
        let now = clock::now();
        let seen = dmq::nodes();
        let name = self.node_name();
        if name.is_empty() {
            return;
        }
        for address in self.shared.nodes.observe(&seen, now) {
            self.greet(&address, &self.hello_text(HelloReply::Wanted));
            self.placement_settings().into_iter().for_each(|settings| _ = self.send_to_node(&address, &settings));
        }
        if now.is_each(HELLO_INTERVAL) {
            // Ours say who they are, and what they read; stock's nodes answer that they do not know what this is.
            let unknown = self.shared.nodes.unknown().into_iter();
            for address in unknown.filter(|address| !self.shared.stock_nodes.has(address)) {
                self.send_to_node(&address, &self.hello_text(HelloReply::Wanted));
            }
        }
        // dmq may be wrong: who answers is there.
        for address in self.shared.nodes.doubted(now) {
            self.send_to_node(&address, &self.hello_text(HelloReply::Wanted));
        }
        self.stock_step(&seen, now);
        // Nodes that compare are compared with; to the others everything is announced.
        for (address, compares) in self.shared.nodes.take_owed(now) {
            let compares = compares & self.compared_kinds();
            if compares & (1 << RecordKind::Subscriptions as u8) == 0 {
                self.send_subscriptions(&address, Owners::Here);
            }
            if self.config.replicates && compares & (1 << RecordKind::Publications as u8) == 0 {
                self.send_publications(&address, Reader::Ours);
            }
        }
        self.placement_step(now);
        self.compare_with_others();
        if self.config.shares_subscriptions {
            if !self.may_speak() {
                self.resume();
                return;
            }
            self.note_running();
            if self.shared.cluster_state.take_claims(clock::instant()) {
                self.notify_claimed();
            }
            if !self.waits_for_publications() && self.shared.nodes.joining.take_waiting() {
                self.notify_waiting_watchers();
            }
            let may_adopt = !self.config.has_arbiter() || self.shared.cluster_state.arbitration.has_inherited_own();
            if may_adopt && self.shared.nodes.joining.take_settling(&seen, now - self.config.started) {
                self.adopt_restored();
            }
            match self.config.has_arbiter() {
                true => self.take_over_inherited(now),
                // What was taken over before is decided first.
                false if self.shared.cluster_state.has_claims() => {}
                false => self.take_over_lost(Objections::Awaited),
            }
        }
    }

    /// Sends what had to wait while the node asked the others, once they have answered.
    pub fn resume(&mut self) {
        if self.has_resumed() {
            self.notify_waiting_watchers();
        }
    }

    /// A node says that it ends: others go on at once; under an arbiter its `successor`.
    pub fn on_leave(&mut self, from: NodeId, name: &[u8], successor: Option<&[u8]>) {
        self.shared.nodes.note_left(from);
        if !self.config.shares_subscriptions || !self.may_speak() {
            return;
        }
        match successor {
            _ if !self.config.has_arbiter() => self.take_over_lost(Objections::NotAwaited),
            Some(successor) if successor == self.node_name() => self.inherit_from(name),
            _ => {}
        }
    }

    /// Forgets removals that are long past, and rows of subscriptions that went to other nodes.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    pub fn clean_cluster(&mut self) -> Result<(), StoreError> {
        let now = clock::now();
        self.shared.tombstones.forget_old(now);
        self.shared.old_documents.forget_past(now);
        let keeps_rows = self.storage.subscriptions.has_rows();
        if !self.config.shares_subscriptions || !self.database.is_configured() || !keeps_rows {
            return Ok(());
        }
        let table = self.config.active_watchers_table;
        let before = now - self.config.expires_offset - LONG_PAST;
        self.database.write(|db| crate::server::subscriptions::active_watchers_table::delete_ended(db, table, before))
    }
}
