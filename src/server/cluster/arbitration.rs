//! Leases in a table that all nodes reach (`cluster_arbiter`), as the processes of this node see them.
use crate::cluster::arbiter::{Arbiter, Change, Registry};
use crate::cluster::digest::Key;
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
        let arbitration = &parts.shared.standing.arbitration;
        let done = self.arbiter.step(&mut self.table, name, clock::monotonic_millis);
        arbitration.publish(&self.arbiter, name);
        self.note(done);
    }

    fn note(&mut self, done: Result<Vec<Change>, StoreError>) {
        let now = clock::monotonic_millis();
        match done {
            Err(error) if self.failed_since == 0 => {
                self.failed_since = now;
                crate::log!(
                    Error,
                    "the table of leases cannot be used: {error}; without it no NOTIFY is sent after a few seconds"
                );
            }
            Err(_) => {}
            Ok(changes) => {
                if self.failed_since > 0 {
                    let seconds = now.saturating_sub(self.failed_since) / 1000;
                    crate::log!(Notice, "the table of leases can be used again, after {seconds} seconds");
                    self.failed_since = 0;
                }
                changes.iter().for_each(write_change);
            }
        }
    }
}

fn write_change(change: &Change) {
    match change {
        Change::Begun(lease) => crate::log!(Notice, "this node holds lease {lease}: it sends NOTIFYs"),
        Change::Lost(node) => {
            crate::log!(Warn, "{} has taken over the lease of this node, and its subscriptions", log::show(node));
        }
        Change::Took(node) => {
            crate::log!(Notice, "the lease of {} has ended: its subscriptions are served here", log::show(node));
        }
    }
}

impl Parts {
    /// Whether this node owns what is owned so: under an arbiter, under the lease that it holds.
    pub(crate) fn owns(&self, ownership: &Ownership) -> bool {
        let lease = ownership.lease;
        ownership.owner.is_here() && (lease == 0 || lease == self.shared.standing.arbitration.lease())
    }

    /// Whether a subscription that is owned so may become ours: always, unless an arbiter says whose it is.
    pub(crate) fn may_claim(&self, ownership: &Ownership) -> bool {
        if !self.config.has_arbiter() {
            return true;
        }
        let owner = match ownership.owner {
            NodeId::HERE | NodeId::ELSEWHERE => self.node_name().to_vec(),
            owner => self.owner_name(owner),
        };
        let key = |name: &[u8]| Key::of(&[name]).0;
        let (own, owner) = (key(self.node_name()), key(&owner));
        let arbitration = &self.shared.standing.arbitration;
        match ownership.lease {
            // Made, or read from a table, without a lease: its node's own.
            0 => own == owner && arbitration.lease() > 0,
            lease => arbitration.has_inherited(own, owner, lease),
        }
    }

    /// Gives our lease back: the server ends.
    pub fn release_lease(&self, database: &'static Database, table: &'static [u8]) {
        let arbitration = &self.shared.standing.arbitration;
        arbitration.until.store(0, Ordering::Relaxed);
        let lease = arbitration.lease();
        if lease > 0 {
            if let Err(error) = (LeasesTable { database, table }).release(self.node_name(), lease) {
                crate::log!(Warn, "the lease of this node cannot be given back: {error}; others wait until it ends");
            }
        }
    }
}
