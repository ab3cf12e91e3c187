//! Leases in a table that all nodes reach (`cluster_arbiter`), as the processes of this node see them.
use crate::cluster::arbiter::{self, Arbiter, LeaseChange};
use crate::cluster::digest::RecordKey;
use crate::cluster::succession;
use crate::common::counters::{self, Counter};
use crate::common::database::Database;
use crate::host::{clock, log};
use crate::presence::error::StoreError;
use crate::server::announcing::leases_table::LeasesTable;
use crate::server::announcing::node_names;
use crate::server::nodes::node_id::NodeId;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::Ownership;
use crate::time::Instant;

/// The process that beats: its connection, and what it has seen.
pub struct Beating {
    arbiter: Arbiter,
    table: LeasesTable,
    failed_since: Option<Instant>,
}

impl Beating {
    /// Starts with no lease seen.
    pub fn new(database: &'static Database, table: &'static [u8]) -> Beating {
        Beating { arbiter: Arbiter::default(), table: LeasesTable { database, table }, failed_since: None }
    }

    /// One second.
    pub fn step(&mut self, parts: &Parts) {
        let name = node_names::node_name(parts);
        if name.is_empty() {
            return;
        }
        let arbitration = &parts.shared.cluster_state.arbitration;
        let generation = arbitration.generation();
        let done = self.arbiter.step(&mut self.table, name, clock::instant);
        let inherited = arbitration.publish(&self.arbiter, name, generation);
        counters::count_many(Counter::LeasesTakenOver, inherited);
        self.note(done);
    }

    fn note(&mut self, done: Result<Vec<LeaseChange>, StoreError>) {
        let now = clock::instant();
        match done {
            Err(error) if self.failed_since.is_none() => {
                counters::count(Counter::LeaseFailures);
                self.failed_since = Some(now);
                crate::log!(
                    Error,
                    "the table of leases cannot be used: {error}; without it no NOTIFY is sent after a few seconds"
                );
            }
            Err(_) => counters::count(Counter::LeaseFailures),
            Ok(changes) => {
                if let Some(failed_since) = self.failed_since.take() {
                    let seconds = now.since(failed_since).seconds().0;
                    crate::log!(Notice, "the table of leases can be used again, after {seconds} seconds");
                }
                if self.arbiter.own().is_some_and(|own| own.is_held(now)) {
                    counters::count(Counter::LeaseBeats);
                }
                changes.iter().for_each(write_change);
            }
        }
    }
}

pub(crate) fn write_change(change: &LeaseChange) {
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

/// Whether this node owns what is owned so: under an arbiter, under the lease that it holds.
pub(crate) fn owns(parts: &Parts, ownership: &Ownership) -> bool {
    let lease = ownership.lease;
    ownership.owner.is_here() && (lease.is_none() || lease == parts.shared.cluster_state.arbitration.lease())
}

/// Whether a subscription that is owned so may become ours: always, unless an arbiter says whose it is.
pub(crate) fn may_claim(parts: &Parts, ownership: &Ownership) -> bool {
    steps_to_us(parts, ownership).is_some()
}

/// After how many changes of hands it is ours, where it may become ours; without an arbiter after one.
pub(crate) fn steps_to_us(parts: &Parts, ownership: &Ownership) -> Option<u32> {
    if !parts.config.has_arbiter() {
        return Some(1);
    }
    let owner = match ownership.owner {
        NodeId::HERE | NodeId::ELSEWHERE => node_names::node_name(parts).to_vec(),
        owner => node_names::owner_name(parts, owner),
    };
    let key = |name: &[u8]| RecordKey::of_names(&[name]).0;
    let (own, owner) = (key(node_names::node_name(parts)), key(&owner));
    let arbitration = &parts.shared.cluster_state.arbitration;
    match ownership.lease {
        // Made, or read from a table, without a lease: its node's own.
        None => (own == owner && arbitration.lease().is_some()).then_some(1),
        Some(lease) => arbitration.steps_to(own, owner, lease),
    }
}

/// Hands our lease over: the server ends. Returns the node that goes on, if one was found. A lease that is not held
/// any more is left alone: its table has not answered, and would not answer now.
pub fn hand_lease_over(parts: &Parts, database: &'static Database, table: &'static [u8]) -> Option<Vec<u8>> {
    let (arbitration, own) = (&parts.shared.cluster_state.arbitration, node_names::node_name(parts));
    let is_held = arbitration.is_held(clock::instant());
    arbitration.let_go();
    let lease = arbitration.lease().filter(|_| is_held)?;
    let names = parts.shared.nodes.present();
    let present: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let mut table = LeasesTable { database, table };
    match arbiter::end(&mut table, (own, lease.get()), &succession::candidates(&present, &[own])) {
        Ok(successor) => successor.map(<[u8]>::to_vec),
        Err(error) => {
            crate::log!(Warn, "the lease of this node cannot be given back: {error}; others wait until it ends");
            None
        }
    }
}
