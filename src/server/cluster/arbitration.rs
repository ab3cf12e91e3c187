//! Leases in a table that all nodes reach (`cluster_arbiter`), as the processes of this node see them.
use crate::cluster::arbiter::{self, Arbiter, LeaseChange};
use crate::cluster::digest::RecordKey;
use crate::cluster::succession;
use crate::common::counters::{self, Counter};
use crate::common::database::Database;
use crate::host::{clock, log};
use crate::presence::error::StoreError;
use crate::server::cluster::leases_table::LeasesTable;
use crate::server::cluster::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::Ownership;
use std::sync::atomic::Ordering;

/// The process that beats: its connection, and what it has seen.
pub struct Beating {
    arbiter: Arbiter,
    table: LeasesTable,
    failed_since: u64,
}

impl Beating {
    /// Nothing was seen yet.
    pub fn new(database: &'static Database, table: &'static [u8]) -> Beating {
        Beating { arbiter: Arbiter::default(), table: LeasesTable { database, table }, failed_since: 0 }
    }

    /// One second.
    pub fn step(&mut self, parts: &Parts) {
        let name = parts.node_name();
        if name.is_empty() {
            return;
        }
        let arbitration = &parts.shared.cluster_state.arbitration;
        let generation = arbitration.generation();
        let done = self.arbiter.step(&mut self.table, name, clock::monotonic_millis);
        let inherited = arbitration.publish(&self.arbiter, name, generation);
        counters::count_many(Counter::LeasesTakenOver, inherited);
        self.note(done);
    }

    fn note(&mut self, done: Result<Vec<LeaseChange>, StoreError>) {
        let now = clock::monotonic_millis();
        match done {
            Err(error) if self.failed_since == 0 => {
                counters::count(Counter::LeaseFailures);
                self.failed_since = now;
                crate::log!(
                    Error,
                    "the table of leases cannot be used: {error}; without it no NOTIFY is sent after a few seconds"
                );
            }
            Err(_) => counters::count(Counter::LeaseFailures),
            Ok(changes) => {
                if self.failed_since > 0 {
                    let seconds = now.saturating_sub(self.failed_since) / 1000;
                    crate::log!(Notice, "the table of leases can be used again, after {seconds} seconds");
                    self.failed_since = 0;
                }
                if self.arbiter.own().is_some_and(|own| now < own.until) {
                    counters::count(Counter::LeaseBeats);
                }
                changes.iter().for_each(write_change);
            }
        }
    }
}

pub(super) fn write_change(change: &LeaseChange) {
    match change {
        LeaseChange::Begun(lease) => crate::log!(Notice, "this node holds lease {lease}: it sends NOTIFYs"),
        LeaseChange::Lost(node) => {
            counters::count(Counter::LeasesLost);
            crate::log!(Warn, "{} has taken over the lease of this node, and its subscriptions", log::show(node));
        }
        LeaseChange::Took(node) => {
            crate::log!(Notice, "the lease of {} has ended: its subscriptions are served here", log::show(node));
        }
    }
}

impl Parts {
    /// Whether this node owns what is owned so: under an arbiter, under the lease that it holds.
    pub(crate) fn owns(&self, ownership: &Ownership) -> bool {
        let lease = ownership.lease;
        ownership.owner.is_here() && (lease == 0 || lease == self.shared.cluster_state.arbitration.lease())
    }

    /// Whether a subscription that is owned so may become ours: always, unless an arbiter says whose it is.
    pub(crate) fn may_claim(&self, ownership: &Ownership) -> bool {
        self.steps_to_us(ownership).is_some()
    }

    /// After how many changes of hands it is ours, where it may become ours; without an arbiter after one.
    pub(crate) fn steps_to_us(&self, ownership: &Ownership) -> Option<u32> {
        if !self.config.has_arbiter() {
            return Some(1);
        }
        let owner = match ownership.owner {
            NodeId::HERE | NodeId::ELSEWHERE => self.node_name().to_vec(),
            owner => self.owner_name(owner),
        };
        let key = |name: &[u8]| RecordKey::of(&[name]).0;
        let (own, owner) = (key(self.node_name()), key(&owner));
        let arbitration = &self.shared.cluster_state.arbitration;
        match ownership.lease {
            // Made, or read from a table, without a lease: its node's own.
            0 => (own == owner && arbitration.lease() > 0).then_some(1),
            lease => arbitration.steps_to(own, owner, lease),
        }
    }

    /// Hands our lease over: the server ends. Returns the node that goes on, if one was found. A lease that is not held
    /// any more is left alone: its table has not answered, and would not answer now.
    pub fn hand_lease_over(&self, database: &'static Database, table: &'static [u8]) -> Option<Vec<u8>> {
        let (arbitration, own) = (&self.shared.cluster_state.arbitration, self.node_name());
        let is_held = arbitration.is_held(clock::monotonic_millis());
        arbitration.until.store(0, Ordering::Relaxed);
        let lease = Some(arbitration.lease()).filter(|lease| is_held && *lease > 0)?;
        let names = self.shared.nodes.present();
        let present: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let mut table = LeasesTable { database, table };
        match arbiter::end(&mut table, (own, lease), &succession::line(&present, &[own])) {
            Ok(heir) => heir.map(<[u8]>::to_vec),
            Err(error) => {
                crate::log!(Warn, "the lease of this node cannot be given back: {error}; others wait until it ends");
                None
            }
        }
    }
}
