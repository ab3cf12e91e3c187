//! How much there is: what operators see as gauges. Counted when somebody asks, at most once a second.
use crate::host::db::{Connection, DbError};
use crate::presence::row_limits::PublicationRows;
use crate::presence::subscription::{RowState, Status};
use crate::server::context::Context;
use crate::server::subscriptions::store::SubscriptionRows;
use crate::server::tables::publication_entry::PublicationRowState;
use crate::server::tables::resource_entry::Documents;

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
    pub row_state: i64,
    /// Publications.
    pub publications: i64,
    /// Presentities that have publications.
    pub presentities: i64,
}

/// Counts of all packages, by their place among the registered ones.
pub type Statistics = Vec<Counts>;

impl Context {
    /// Counts what there is.
    pub fn statistics(&self) -> Statistics {
        let mut counts = vec![Counts::default(); self.packages.0.len()];
        if self.storage.subscriptions.rows() == SubscriptionRows::Shared {
            self.row_statistics(
                &mut counts,
                "event, status, count(*)",
                self.config.active_watchers_table,
                |count, row| {
                    count.subscriptions += row[1];
                    count.pending += if row[0] == Status::Pending as i64 { row[1] } else { 0 };
                },
            );
        }
        self.memory_statistics(&mut counts);
        if self.storage.publications.rows() != PublicationRows::None {
            let distinct = "event, count(distinct username), count(*)";
            self.row_statistics(&mut counts, distinct, self.config.presentity_table, |count, row| {
                count.presentities += row[0];
                count.publications += row[1];
            });
        }
        counts
    }

    fn memory_statistics(&self, counts: &mut Statistics) {
        let rows = self.storage.publications.rows();
        let (in_memory, writes_later) = (rows == PublicationRows::None, rows == PublicationRows::Later);
        let writes_back = self.storage.subscriptions.rows() == SubscriptionRows::Later;
        let tables = &self.shared.tables;
        for index in 0..tables.shard_count() {
            let shard = tables.nth_shard(index);
            for stored in shard.subscriptions() {
                let Some(count) = counts.get_mut(usize::from(stored.subscription.state.event.0)) else { continue };
                if !stored.ownership.owner.is_here() {
                    count.replicas += 1;
                    continue;
                }
                count.subscriptions += 1;
                count.pending += i64::from(stored.subscription.state.status == Status::Pending);
                let waits = writes_back && stored.subscription.state.row_state != RowState::Clean;
                count.row_state += i64::from(waits);
            }
            for entry in shard.entries().filter(|_| in_memory || writes_later) {
                let Some(count) = counts.get_mut(usize::from(entry.event.0)) else { continue };
                count.row_state += entry.removed.len() as i64;
                let Documents::Known(list) = &entry.documents else { continue };
                count.row_state +=
                    list.iter().filter(|document| document.row_state != PublicationRowState::Nothing).count() as i64;
                if in_memory {
                    count.publications += list.len() as i64;
                    count.presentities += i64::from(!list.is_empty());
                }
            }
        }
    }

    /// Adds up `columns` of `table`, grouped; drivers that take no statements as text count nothing.
    fn row_statistics(
        &self,
        counts: &mut Statistics,
        columns: &str,
        table: &[u8],
        add: impl Fn(&mut Counts, [i64; 2]),
    ) {
        let by = if columns.contains("status") { "event, status" } else { "event" };
        let text = format!("select {columns} from {} group by {by}", String::from_utf8_lossy(table));
        let packages = self.packages;
        let _ = self.database.read(|db: &Connection| {
            if db.driver().scheme() == b"text" {
                return Ok(());
            }
            let rows = db.raw_query(&text)?.ok_or(DbError::Away)?;
            for row in rows.iter() {
                if let Some(count) = packages.named(row.bytes(0)).and_then(|id| counts.get_mut(usize::from(id.0))) {
                    add(count, [row.int(1), row.int(2)]);
                }
            }
            Ok(())
        });
    }
}
