//! Where subscriptions and publications live. The modes are looked at here, once, when the server starts; whatever
//! needs them later asks the stores.
#[cfg(test)]
mod publication_row_tests;
#[cfg(test)]
mod subscription_row_tests;

use crate::presence::config::{PublicationMode, SubscriptionMode};
use crate::server::authorizations::not_remembered::NotRemembered;
use crate::server::authorizations::store::AuthorizationStore;
use crate::server::authorizations::watchers_table::{FirstRows, WatchersTable};
use crate::server::notify::queue::ResourceQueues;
use crate::server::notify::row_queue::RowQueue;
use crate::server::publications;
use crate::server::publications::memory::Watchers;
use crate::server::publications::store::PublicationStore;
use crate::server::shared::Parts;
use crate::server::stores::Stores;
use crate::server::subscriptions::database::InDatabase;
use crate::server::subscriptions::memory::MemorySubscriptions;
use crate::server::subscriptions::rows_behind::{NoRows, RowsBehind};
use crate::server::subscriptions::store::SubscriptionStore;
use crate::server::subscriptions::write_back::WriteBack;
use crate::server::subscriptions::write_through::WriteThrough;

/// The stores that the settings name, for the life of the process.
pub fn choose(parts: Parts) -> Stores {
    let rows: &'static dyn RowsBehind = match parts.config.subscriptions {
        SubscriptionMode::Database => {
            let store = InDatabase::new(parts);
            let publications = publications(parts, Watchers::Rows);
            let subscriptions = kept(store);
            return Stores {
                subscriptions,
                queue: kept(RowQueue::new(parts, store)),
                authorizations: authorizations(parts, subscriptions, publications, FirstRows::BeforeAnswer),
                publications,
            };
        }
        SubscriptionMode::Memory => kept(NoRows),
        SubscriptionMode::WriteThrough => kept(WriteThrough::new(parts)),
        SubscriptionMode::WriteBack => kept(WriteBack::new(parts)),
    };
    let subscriptions = kept(MemorySubscriptions::new(parts, rows));
    let publications = publications(parts, Watchers::Memory);
    // A watcher whose subscription is written later loses nothing with a row that is written before it.
    let is_behind = parts.config.watchers_write_behind && parts.config.subscriptions == SubscriptionMode::WriteBack;
    let first_rows = if is_behind { FirstRows::Behind } else { FirstRows::BeforeAnswer };
    Stores {
        subscriptions,
        queue: kept(ResourceQueues::new(parts, rows)),
        authorizations: authorizations(parts, subscriptions, publications, first_rows),
        publications,
    }
}

fn publications(parts: Parts, watchers: Watchers) -> &'static dyn PublicationStore {
    match parts.config.publications {
        PublicationMode::Memory => kept(publications::memory::MemoryPublications::new(parts, watchers)),
        PublicationMode::Cached => kept(publications::cached::Cached::new(parts, watchers)),
        PublicationMode::Database => kept(publications::table::InTable::new(parts, watchers)),
    }
}

/// Chooses the store of decisions: none without a database, and where everything lives in memory only.
fn authorizations(
    parts: Parts,
    subscriptions: &'static dyn SubscriptionStore,
    publications: &'static dyn PublicationStore,
    first_rows: FirstRows,
) -> &'static dyn AuthorizationStore {
    match parts.database.is_configured() && (subscriptions.has_rows() || publications.has_rows()) {
        true => kept(WatchersTable::new(parts, subscriptions, first_rows)),
        false => kept(NotRemembered::new(parts)),
    }
}

/// Keeps a store for the life of the process.
fn kept<T>(store: T) -> &'static T {
    Box::leak(Box::new(store))
}
