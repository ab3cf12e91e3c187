//! What an operator wants to see first: who has the most watchers, and whose NOTIFYs fail.
use super::lane::{Documents, Lane};
use super::member::Member;
use super::world::World;
use crate::presence::config::SubscriptionMode;
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::explain::Trail;
use crate::presence::subscription::{Field, Subscription};
use crate::sip::uri;
use std::collections::HashMap;

/// A presentity and how much hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Its URI.
    pub presentity: Vec<u8>,
    /// The event package.
    pub event: PackageId,
    /// How many watch it.
    pub watchers: usize,
    /// How often its state has changed while it was watched; 0 where only the table knows the watchers.
    pub changes: u32,
}

/// A watcher whose last NOTIFY failed.
#[derive(Debug, Clone)]
pub struct Failing {
    /// Its subscription.
    pub subscription: Subscription,
    /// What became of its NOTIFYs.
    pub trail: Trail,
}

/// A row that the database refuses.
#[derive(Debug, Clone)]
pub struct RefusedRow {
    /// The table it belongs to.
    pub table: &'static [u8],
    /// The presentity.
    pub presentity: Vec<u8>,
    /// The event package.
    pub event: Vec<u8>,
    /// Whose subscription it is; empty for a document.
    pub watcher: Vec<u8>,
}

impl World {
    /// Rows that the database has refused and that were not written since, at most `limit`.
    pub fn refused_rows(&self, limit: usize) -> Vec<RefusedRow> {
        let mut found = Vec::new();
        let tables = &self.shared.tables;
        for index in 0..tables.shard_count() {
            let shard = tables.nth_shard(index);
            let refused = shard.members().filter(|member| member.aside.is_refused());
            found.extend(refused.take(limit - found.len()).map(|member| self.refused_subscription(member)));
            for lane in shard.lanes() {
                let Documents::Known(list) = &lane.documents else { continue };
                let refused = list.iter().filter(|document| document.aside.is_refused()).take(limit - found.len());
                found.extend(refused.map(|_| RefusedRow {
                    table: self.config.presentity_table,
                    presentity: lane.uri.to_vec(),
                    event: self.packages.get(lane.event).name.to_vec(),
                    watcher: Vec::new(),
                }));
            }
            if found.len() >= limit {
                return found;
            }
        }
        let standings = self.shared.standings.refused(limit - found.len());
        found.extend(standings.into_iter().map(|[presentity, user, host, event]| RefusedRow {
            table: self.config.watchers_table,
            presentity,
            event,
            watcher: uri::join(&user, &host),
        }));
        found
    }

    fn refused_subscription(&self, member: &Member) -> RefusedRow {
        RefusedRow {
            table: self.config.active_watchers_table,
            presentity: member.subscription.get(Field::PresUri).to_vec(),
            event: self.packages.get(member.subscription.numbers.event).name.to_vec(),
            watcher: member.subscription.watcher_uri(),
        }
    }

    /// The presentities with the most watchers, at most `limit`, the busiest first.
    pub fn busiest(&self, limit: usize) -> Result<Vec<Busy>, StoreError> {
        let mut found = match self.config.subscriptions {
            SubscriptionMode::Database => self.busiest_rows()?,
            _ => self.busiest_lanes(limit),
        };
        keep_largest(&mut found, limit);
        Ok(found)
    }

    fn busiest_lanes(&self, limit: usize) -> Vec<Busy> {
        let tables = &self.shared.tables;
        let mut found = Vec::new();
        for index in 0..tables.shard_count() {
            let shard = tables.nth_shard(index);
            found.extend(shard.lanes().filter(|lane| !lane.members.is_empty()).map(busy));
            drop(shard);
            keep_largest(&mut found, limit);
        }
        found
    }

    fn busiest_rows(&self) -> Result<Vec<Busy>, StoreError> {
        let mut counts: HashMap<(Vec<u8>, PackageId), usize> = HashMap::new();
        self.each_row(&mut |subscription: Subscription| {
            let key = (subscription.get(Field::PresUri).to_vec(), subscription.numbers.event);
            *counts.entry(key).or_default() += 1;
            true
        })?;
        let busy = |((presentity, event), watchers)| Busy { presentity, event, watchers, changes: 0 };
        Ok(counts.into_iter().map(busy).collect())
    }

    /// Watchers whose last NOTIFY was answered by something else than success, at most `limit`.
    pub fn failing(&self, limit: usize) -> Vec<Failing> {
        let tables = &self.shared.tables;
        let mut found = Vec::new();
        for index in 0..tables.shard_count() {
            let shard = tables.nth_shard(index);
            let failed = shard.members().filter(|member| member.hold.owner.is_here() && has_failed(member));
            found.extend(
                failed
                    .take(limit - found.len())
                    .map(|member| Failing { subscription: member.subscription.to_private(), trail: member.trail }),
            );
            if found.len() >= limit {
                break;
            }
        }
        found
    }
}

fn busy(lane: &Lane) -> Busy {
    Busy {
        presentity: lane.uri.to_vec(),
        event: lane.event,
        watchers: lane.members.len(),
        changes: lane.generation.wrapping_sub(1),
    }
}

fn has_failed(member: &Member) -> bool {
    member.trail.failed != 0 && member.trail.failed_cseq == member.subscription.numbers.local_cseq
}

fn keep_largest(found: &mut Vec<Busy>, limit: usize) {
    found.sort_by(|a, b| (b.watchers, b.changes, &a.presentity).cmp(&(a.watchers, a.changes, &b.presentity)));
    found.truncate(limit);
}
