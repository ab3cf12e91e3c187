//! All that there is, announced to one node: it has joined, or was away, and does not compare.
use crate::host::dmq::{Address, Channel};
use crate::host::process;
use crate::limited;
use crate::presence::replication::{self, Reader};
use crate::presence::subscription::Subscription;
use crate::server::announcing::{holders, sending, texts};
use crate::server::inventory::Inventory;
use crate::server::nodes::node_id::NodeId;
use crate::server::operator::catalogue;
use crate::server::shared::Parts;
use crate::server::tables::subscription_entry::Ownership;
use crate::time::Millis;

/// A node that announces all it has pauses after this many messages.
const SYNC_BURST: usize = 50;

/// Whether a node that has announced `sent` of its records pauses.
fn is_burst(sent: usize) -> bool {
    sent > 0 && sent % SYNC_BURST == 0
}

/// Leaves the other node time to take in a burst of messages.
pub(super) fn pause_after(sent: usize) {
    if is_burst(sent) {
        process::sleep(Millis(5));
    }
}

/// Whose subscriptions are announced to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// The subscriptions that this node owns.
    Here,
    /// All we know of, but those of stock's nodes: these announce their own.
    All,
}

/// Announces to a node the publications there are.
pub fn send_publications(inventory: &Inventory, to: &Address, reader: Reader) {
    let (mut sent, mut failed) = (0, 0);
    let (now, packages) = (holders::two_clocks(inventory), inventory.packages());
    let announced = catalogue::each_publication(inventory, |resource, publication| {
        let replica = replication::of_stored(resource, packages.get(resource.event).name, publication, now, reader);
        failed += usize::from(!sending::send_on(inventory, Channel::Publications, to, &replica.to_json()));
        sent += 1;
        pause_after(sent);
    });
    if announced.is_err() || failed > 0 {
        limited!(Error, "not everything was announced to a node: {failed} of {sent} publications could not be sent");
    }
}

/// Announces to a node the subscriptions there are.
pub fn send_subscriptions(parts: &Parts, to: &Address, owners: Owners) {
    if !parts.config.shares_subscriptions {
        return;
    }
    let tables = &parts.shared.tables;
    let (mut sent, mut failed) = (0, 0);
    for index in 0..tables.shard_count() {
        let ours: Vec<(Subscription, Ownership)> = {
            let shard = tables.nth_shard(index);
            // Stock's nodes announce their own.
            let is_announced = |owner: NodeId| owner.is_here() || (owners == Owners::All && !owner.is_stock());
            let wanted = shard.subscriptions().filter(|stored| is_announced(stored.ownership.owner));
            wanted.map(|stored| (stored.subscription.to_private(), stored.ownership)).collect()
        };
        for (subscription, ownership) in ours {
            failed += usize::from(!sending::send_to_node(
                parts,
                to,
                &texts::announcement_text(parts, subscription, ownership),
            ));
            sent += 1;
            pause_after(sent);
        }
    }
    if failed > 0 {
        limited!(Error, "not everything was announced to a node: {failed} of {sent} subscriptions could not be sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_follows_each_burst() {
        let pauses: Vec<usize> = (0..=3 * SYNC_BURST).filter(|sent| is_burst(*sent)).collect();
        assert_eq!(pauses, [50, 100, 150]);
    }
}
