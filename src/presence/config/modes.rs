//! What the settings as a whole follow from the two storage modes. The stores themselves are chosen by the server.
use super::{Config, PublicationMode, SubscriptionMode};

/// The order in which the documents of a resource come from their store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentOrder {
    /// The order of their last change (memory).
    LastChange,
    /// By the column `priority` (memory with `retrieve_order` 1).
    Priority,
    /// By the column `received_time` (a table).
    Arrival,
    /// By the columns of `retrieve_order_by` (a table with `retrieve_order` 1).
    Columns,
}

/// Whether `db_url` names a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedDatabase {
    /// The parameter names one.
    Some,
    /// There is none.
    None,
}

/// Whether the parameters make the module a server: it has a database, or keeps everything in memory. Else it serves
/// other modules alone.
pub fn is_server(database: NamedDatabase, subs_db_mode: i64, publ_cache: i64) -> bool {
    database == NamedDatabase::Some || subs_db_mode == 0 && publ_cache == 2
}

impl Config {
    /// The order in which the documents of a resource come from their store.
    pub fn document_order(&self) -> DocumentOrder {
        match (self.publications, self.order_by_column) {
            (PublicationMode::Memory, false) => DocumentOrder::LastChange,
            (PublicationMode::Memory, true) => DocumentOrder::Priority,
            (_, false) => DocumentOrder::Arrival,
            (_, true) => DocumentOrder::Columns,
        }
    }

    /// Whether subscriptions are rows of a table that other servers may write (`subs_db_mode` 3).
    pub fn has_subscription_rows_only(&self) -> bool {
        self.subscriptions == SubscriptionMode::Database
    }

    /// Whether a server without a database keeps what has ended: nothing is written, and nothing cleaned.
    pub fn keeps_what_has_ended(&self) -> bool {
        !self.database && self.subscriptions == SubscriptionMode::Memory && self.clean_period.is_none()
    }
}
