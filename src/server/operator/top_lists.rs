//! What an operator wants to see first: who has the most watchers, and whose NOTIFYs fail.
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::history::ended::{Cause, Ended};
use crate::presence::notification::NotifyHistory;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::field::Field;
use crate::server::inventory::Inventory;
use crate::server::tables::authorization_cache::OwnAuthorizationKey;
use crate::server::tables::resource_entry::{Documents, ResourceEntry};
use crate::server::tables::subscription_entry::SubscriptionEntry;
use crate::sip::uri;
use std::collections::BTreeMap;

/// A presentity and how much hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusiestResource {
    /// The resource's URI.
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
pub struct FailingWatcher {
    /// The watcher's subscription.
    pub subscription: Subscription,
    /// What became of its NOTIFYs.
    pub notify_history: NotifyHistory,
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

/// Rows that the database has refused and that were not written since, at most `limit`.
pub fn refused_rows(inventory: &Inventory, limit: usize) -> Vec<RefusedRow> {
    let mut found = Vec::new();
    let tables = &inventory.shared.tables;
    for shard in tables.shards() {
        let refused = shard.subscriptions().filter(|stored| stored.aside.is_refused());
        found.extend(refused.take(limit - found.len()).map(|stored| refused_subscription(inventory, stored)));
        for entry in shard.entries() {
            let Documents::Known(list) = &entry.documents else { continue };
            let refused = list.iter().filter(|document| document.aside.is_refused()).take(limit - found.len());
            found.extend(refused.map(|_| RefusedRow {
                table: inventory.config.presentity_table,
                presentity: entry.uri.to_vec(),
                event: inventory.packages().get(entry.event).name.to_vec(),
                watcher: Vec::new(),
            }));
        }
        if found.len() >= limit {
            return found;
        }
    }
    let authorizations = inventory.shared.authorizations.refused(limit - found.len());
    found.extend(authorizations.into_iter().map(
        |OwnAuthorizationKey { presentity, watcher_user: user, watcher_domain: host, event }| RefusedRow {
            table: inventory.config.watchers_table,
            presentity,
            event,
            watcher: uri::join(&user, &host),
        },
    ));
    found
}

fn refused_subscription(inventory: &Inventory, stored: &SubscriptionEntry) -> RefusedRow {
    RefusedRow {
        table: inventory.config.active_watchers_table,
        presentity: stored.subscription.get(Field::PresUri).to_vec(),
        event: inventory.packages().get(stored.subscription.state.event).name.to_vec(),
        watcher: stored.subscription.watcher_uri(),
    }
}

/// The presentities with the most watchers, at most `limit`, the busiest first.
///
/// # Errors
///
/// Fails when the subscriptions have to be read from the database and it cannot be read.
pub fn busiest(inventory: &Inventory, limit: usize) -> Result<Vec<BusiestResource>, StoreError> {
    let mut found = match inventory.storage.subscriptions.is_shared() {
        true => busiest_in_database(inventory)?,
        false => busiest_in_memory(inventory, limit),
    };
    keep_largest(&mut found, limit);
    Ok(found)
}

fn busiest_in_memory(inventory: &Inventory, limit: usize) -> Vec<BusiestResource> {
    let tables = &inventory.shared.tables;
    let mut found = Vec::new();
    for shard in tables.shards() {
        found.extend(shard.entries().filter(|entry| !entry.subscriptions().is_empty()).map(busy));
        drop(shard);
        keep_largest(&mut found, limit);
    }
    found
}

fn busiest_in_database(inventory: &Inventory) -> Result<Vec<BusiestResource>, StoreError> {
    let mut counts: BTreeMap<(Vec<u8>, PackageId), usize> = BTreeMap::new();
    inventory.storage.subscriptions.each(&mut |subscription: Subscription| {
        let key = (subscription.get(Field::PresUri).to_vec(), subscription.state.event);
        *counts.entry(key).or_default() += 1;
        true
    })?;
    let busy = |((presentity, event), watchers)| BusiestResource { presentity, event, watchers, changes: 0 };
    Ok(counts.into_iter().map(busy).collect())
}

/// Watchers whose last NOTIFY was answered by something else than success, at most `limit`.
pub fn failing(inventory: &Inventory, limit: usize) -> Vec<FailingWatcher> {
    let tables = &inventory.shared.tables;
    let mut found = Vec::new();
    for shard in tables.shards() {
        let failed = shard.subscriptions().filter(|stored| stored.ownership.owner.is_here() && has_failed(stored));
        found.extend(failed.take(limit - found.len()).map(|stored| FailingWatcher {
            subscription: stored.subscription.to_private(),
            notify_history: stored.notify_history,
        }));
        if found.len() >= limit {
            break;
        }
    }
    found
}

/// The subscriptions that the answer to their NOTIFY has ended, at most `limit`, the latest first.
pub fn ended_by_an_answer(inventory: &Inventory, limit: usize) -> Vec<Ended> {
    inventory.shared.history.latest(limit, |ended| matches!(ended.cause, Cause::Notify(_)))
}

fn busy(entry: &ResourceEntry) -> BusiestResource {
    BusiestResource {
        presentity: entry.uri.to_vec(),
        event: entry.event,
        watchers: entry.subscriptions().len(),
        changes: entry.generation.wrapping_sub(1),
    }
}

fn has_failed(stored: &SubscriptionEntry) -> bool {
    stored.notify_history.failed_with(stored.subscription.state.local_cseq).is_some()
}

fn keep_largest(found: &mut Vec<BusiestResource>, limit: usize) {
    found.sort_by(|a, b| (b.watchers, b.changes, &a.presentity).cmp(&(a.watchers, a.changes, &b.presentity)));
    found.truncate(limit);
}
