//! How much there is: what operators see as gauges. Counted when somebody asks, at most once a second.
use crate::host::db::{Column, Connection, DbError, Row, row_columns};
use crate::presence::subscription::{RowState, Status};
use crate::server::inventory::Inventory;
use crate::server::tables::publication_entry::PublicationRowState;
use crate::server::tables::resource_entry::Documents;

row_columns! {
    /// How many subscriptions have a status.
    enum Watching {
        Event = "event",
        Status = "status",
        Subscriptions = "count(*)",
    }
}

row_columns! {
    /// How many publications there are, and of how many presentities.
    enum Published {
        Event = "event",
        Presentities = "count(distinct username)",
        Publications = "count(*)",
    }
}

/// Counts of one event package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subscriptions.
    pub subscriptions: i64,
    /// Subscriptions of other nodes that are held here, too.
    pub replicas: i64,
    /// Subscriptions that nobody has decided about.
    pub pending: i64,
    /// Rows of subscriptions and publications that are older than the memory (write-back).
    pub rows_waiting: i64,
    /// Publications.
    pub publications: i64,
    /// Presentities that have publications.
    pub presentities: i64,
}

/// Counts of all packages, by their place among the registered ones.
pub type Statistics = Vec<Counts>;

/// Counts what there is.
pub fn count(inventory: &Inventory) -> Statistics {
    let mut counts = vec![Counts::default(); inventory.packages().0.len()];
    if inventory.storage.subscriptions.is_shared() {
        row_statistics(
            inventory,
            inventory.config.active_watchers_table,
            "event, status",
            Watching::Event,
            |event, row| {
                let Some(count) = counts.get_mut(event) else { return };
                count.subscriptions += row.int(Watching::Subscriptions);
                if row.int(Watching::Status) == Status::Pending as i64 {
                    count.pending += row.int(Watching::Subscriptions);
                }
            },
        );
    }
    memory_statistics(inventory, &mut counts);
    if inventory.storage.publications.has_rows() {
        row_statistics(inventory, inventory.config.presentity_table, "event", Published::Event, |event, row| {
            let Some(count) = counts.get_mut(event) else { return };
            count.presentities += row.int(Published::Presentities);
            count.publications += row.int(Published::Publications);
        });
    }
    counts
}

fn memory_statistics(inventory: &Inventory, counts: &mut Statistics) {
    let publications = inventory.storage.publications;
    let (in_memory, writes_later) = (!publications.has_rows(), publications.writes_later());
    let writes_back = inventory.storage.subscriptions.writes_later();
    let tables = &inventory.shared.tables;
    for shard in tables.shards() {
        for stored in shard.subscriptions() {
            let Some(count) = counts.get_mut(usize::from(stored.subscription.state.event.0)) else { continue };
            if !stored.ownership.owner.is_here() {
                count.replicas += 1;
                continue;
            }
            count.subscriptions += 1;
            count.pending += i64::from(stored.subscription.state.status == Status::Pending);
            let waits = writes_back && stored.subscription.state.row_state != RowState::Clean;
            count.rows_waiting += i64::from(waits);
        }
        for entry in shard.entries().filter(|_| in_memory || writes_later) {
            let Some(count) = counts.get_mut(usize::from(entry.event.0)) else { continue };
            count.rows_waiting += entry.removed.len() as i64;
            let Documents::Known(list) = &entry.documents else { continue };
            count.rows_waiting +=
                list.iter().filter(|document| document.row_state != PublicationRowState::Nothing).count() as i64;
            if in_memory {
                count.publications += list.len() as i64;
                count.presentities += i64::from(!list.is_empty());
            }
        }
    }
}

/// Hands the sums of `table`, grouped by `by`, to `add`, with the number of their event package; drivers that take
/// no statements as text count nothing.
fn row_statistics<C: Column>(
    inventory: &Inventory,
    table: &[u8],
    by: &str,
    event: C,
    mut add: impl FnMut(usize, Row<'_, C>),
) {
    let (columns, table) = (C::NAMES.join(", "), String::from_utf8_lossy(table));
    let text = format!("select {columns} from {table} group by {by}");
    let packages = inventory.packages();
    let _ = inventory.database.read(|db: &Connection| {
        if db.driver().scheme() == b"text" {
            return Ok(());
        }
        let rows = db.raw_query::<C>(&text)?.ok_or(DbError::Away)?;
        for row in rows.iter() {
            if let Some(id) = packages.named(row.bytes(event)) {
                add(usize::from(id.0), row);
            }
        }
        Ok(())
    });
}
