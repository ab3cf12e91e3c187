//! What every part of the server works with: the settings, the event packages, the tables in shared memory, the
//! database.
use crate::callbacks::event_packages::PackageRegistry;
use crate::common::database::Database;
use crate::common::unwritten_rows::UnwrittenRows;
use crate::host::no_memory::NoMemory;
use crate::host::process_mutex::{ProcessMutex, ProcessMutexGuard};
use crate::host::shm;
use crate::presence::config::Config;
use crate::presence::event_package::Packages;
use crate::presence::resource::{Resource, UriComparison};
use crate::server::history::History;
use crate::server::nodes::admission::NodeAdmission;
use crate::server::nodes::cluster_state::ClusterState;
use crate::server::nodes::drain_state::Drain;
use crate::server::nodes::known_nodes::Nodes;
use crate::server::nodes::old_documents::OldDocuments;
use crate::server::nodes::placing::CachedView;
use crate::server::nodes::removals::Tombstones;
use crate::server::nodes::stock_nodes::StockNodes;
use crate::server::notifications::change_counts::ChangeCounts;
use crate::server::notifications::engine::Engine;
use crate::server::notifications::held_queues::Interrupted;
use crate::server::notifications::marked_turns::MarkedTurns;
use crate::server::notifications::missed_changes::MissedChanges;
use crate::server::notifications::named_targets::NamedTargets;
use crate::server::notifications::senders::Senders;
use crate::server::notifications::unread::UnreadResources;
use crate::server::tables::authorization_cache::AuthorizationCache;
use crate::server::tables::clock_steps::ClockSteps;
use crate::server::tables::ended_dialogs::EndedDialogs;
use crate::server::tables::judgements::Judgements;
use crate::server::tables::late_documents::LateDocuments;
use crate::server::tables::pending_deletions::PendingDeletions;
use crate::server::tables::recent_dialogs::Places;
use crate::server::tables::recent_dialogs::RecentDialogs;
use crate::server::tables::watcher_counts::Counting;
use crate::server::tables::{Sharing, Tables};
use std::cell::OnceCell;
use std::sync::atomic::AtomicI64;

/// What all processes of the server share.
pub struct Shared {
    /// Subscriptions and publications.
    pub tables: Tables,
    /// What was decided about watchers.
    pub authorizations: AuthorizationCache,
    /// When watchers were judged, and what of that is not carried out yet.
    pub judgements: &'static Judgements,
    /// One of these is held while a resource's publications are written to the database.
    pub write_locks: Vec<&'static ProcessMutex>,
    /// Held while publications that waited are written.
    pub publication_writer: &'static ProcessMutex,
    /// Changes of publications that wait to be written.
    pub unwritten_publications: &'static UnwrittenRows,
    /// Large fan-outs that wait for a sender process.
    pub senders: &'static Senders,
    /// NOTIFYs whose targets have names.
    pub named_targets: &'static NamedTargets,
    /// NOTIFYs under way without tm.
    pub engine: &'static Engine,
    /// Turns of notifier processes that this node has marked rows for.
    pub marked_turns: &'static MarkedTurns,
    /// Resources for which the sending was broken off.
    pub interrupted: &'static Interrupted,
    /// By how many seconds the wall clock was set when rows were last written for it, see [`crate::host::clock`].
    pub clock_set_by: &'static AtomicI64,
    /// The steps forward of the wall clock.
    pub clock_steps: &'static ClockSteps,
    /// Resources whose state could not be read when their watchers were to be notified of it.
    pub unread: &'static UnreadResources,
    /// Changes of which not all watchers could be notified (database-only mode).
    pub missed_changes: &'static MissedChanges,
    /// How often documents were changed (database-only mode).
    pub change_counts: &'static ChangeCounts,
    /// A drain under way.
    pub drain: &'static Drain,
    /// The other nodes.
    pub nodes: &'static Nodes,
    /// The check of who may speak as a node.
    pub admission: &'static NodeAdmission,
    /// Where this node stands among them.
    pub cluster_state: &'static ClusterState,
    /// The other nodes that run stock's module.
    pub stock_nodes: &'static StockNodes,
    /// What was removed and may be announced again by another node.
    pub tombstones: &'static Tombstones,
    /// The dialogs of documents that were removed.
    pub old_documents: &'static OldDocuments,
    /// The dialogs made last (database-only mode).
    pub recent_dialogs: RecentDialogs,
    /// The SUBSCRIBEs that ended a subscription last (database-only mode), by dialog and CSeq.
    pub recent_ends: RecentDialogs,
    /// Numbers that were taken for NOTIFYs which are not sent, where others had counted on.
    pub unused_numbers: RecentDialogs,
    /// Rows that could not be removed yet.
    pub pending_deletions: &'static PendingDeletions,
    /// Documents of calls that have ended, which are held back.
    pub late_documents: &'static LateDocuments,
    /// The dialogs that ended last.
    pub ended_dialogs: EndedDialogs,
    /// Subscriptions that have ended.
    pub history: &'static History,
}

/// How many resources may be written at the same time.
const WRITE_LOCKS: usize = 64;

/// Under which lock publications of a resource are written.
fn write_lock_of(resource: &Resource) -> usize {
    resource.hash as usize % WRITE_LOCKS
}

impl Shared {
    /// Empty tables and locks; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(config: &Config, admission: NodeAdmission) -> Result<Shared, NoMemory> {
        let rule = UriComparison { ignore_case: config.ignore_case, seed: config.hash_seed };
        #[cfg(feature = "fault-injection")]
        crate::host::fault::install();
        let write_locks = (0..WRITE_LOCKS).map(|_| ProcessMutex::leak()).collect::<Result<_, _>>()?;
        Ok(Shared {
            tables: Tables::new(rule, counting(config), sharing(config))?,
            authorizations: AuthorizationCache::new(rule)?,
            judgements: shm::leak(Judgements::new()?)?,
            write_locks,
            publication_writer: ProcessMutex::leak()?,
            unwritten_publications: shm::leak(UnwrittenRows::default())?,
            senders: shm::leak(Senders::new()?)?,
            named_targets: shm::leak(NamedTargets::new()?)?,
            engine: shm::leak(Engine::new(config.notify_engine, config.notify_slots)?)?,
            marked_turns: shm::leak(MarkedTurns::default())?,
            interrupted: shm::leak(Interrupted::new()?)?,
            clock_set_by: shm::leak(AtomicI64::new(0))?,
            clock_steps: shm::leak(ClockSteps::default())?,
            unread: shm::leak(UnreadResources::new()?)?,
            missed_changes: shm::leak(MissedChanges::new(places(config))?)?,
            change_counts: shm::leak(ChangeCounts::default())?,
            drain: shm::leak(Drain::default())?,
            nodes: shm::leak(Nodes::new())?,
            admission: Box::leak(Box::new(admission)),
            cluster_state: shm::leak(ClusterState::new())?,
            stock_nodes: shm::leak(StockNodes::new())?,
            tombstones: shm::leak(Tombstones::new(rule))?,
            old_documents: shm::leak(OldDocuments::new(rule))?,
            recent_dialogs: RecentDialogs::new(places(config))?,
            recent_ends: RecentDialogs::new(places(config))?,
            unused_numbers: RecentDialogs::new(places(config))?,
            pending_deletions: shm::leak(PendingDeletions::new())?,
            late_documents: shm::leak(LateDocuments::new())?,
            ended_dialogs: EndedDialogs::new()?,
            history: shm::leak(History::new(config.history_size)?)?,
        })
    }
}

fn counting(config: &Config) -> Counting {
    if config.max_subscriptions.is_some() { Counting::PerWatcher } else { Counting::Off }
}

fn sharing(config: &Config) -> Sharing {
    if config.shares_subscriptions { Sharing::WithNodes } else { Sharing::None }
}

/// Room for what only the database-only mode remembers.
fn places(config: &Config) -> Places {
    if config.has_subscription_rows_only() { Places::Reserved } else { Places::None }
}

/// The parts of the server in this process. They live as long as it does: this is a handful of references.
#[derive(Clone, Copy)]
pub struct Parts {
    /// The settings.
    pub config: &'static Config,
    /// The event packages.
    pub registry: &'static PackageRegistry,
    /// The tables in shared memory.
    pub shared: &'static Shared,
    /// The database.
    pub database: &'static Database,
    /// How this node calls itself, once dmq knows.
    pub node_name: &'static OnceCell<Vec<u8>>,
    /// Which node holds what, as this process has computed it last.
    pub placement: &'static CachedView,
}

impl Parts {
    /// Parts that are kept for the life of the process, and of every process forked from it.
    pub fn new(config: Config, shared: Shared, database: Database) -> Parts {
        Parts {
            config: Box::leak(Box::new(config)),
            registry: Box::leak(Box::default()),
            shared: Box::leak(Box::new(shared)),
            database: Box::leak(Box::new(database)),
            node_name: Box::leak(Box::default()),
            placement: Box::leak(Box::default()),
        }
    }

    /// Parts with a configuration and the event packages of unit tests, and without a database.
    #[cfg(test)]
    pub(crate) fn without_database(config: Config) -> Parts {
        Parts::over(config, Database::new(None, None, crate::common::metrics::Owner::Presence))
    }

    /// The same over a database in memory.
    #[cfg(test)]
    pub(crate) fn over_tables(config: Config) -> Parts {
        Parts::over(config, Database::in_memory(crate::common::metrics::Owner::Presence))
    }

    /// The same server once more, started anew on its tables.
    #[cfg(test)]
    pub(crate) fn restarted(self, config: Config) -> Parts {
        Parts { database: self.database, ..Parts::without_database(config) }
    }

    #[cfg(test)]
    fn over(config: Config, database: Database) -> Parts {
        let admission = NodeAdmission::new(&config).expect("no secret");
        let mut shared = Shared::new(&config, admission).expect("memory");
        // The host of unit tests has no size of its memory.
        shared.authorizations = AuthorizationCache::within(shared.tables.rule(), 1 << 20).expect("memory");
        let registry = PackageRegistry::of_packages(crate::presence::testing::fixtures::packages());
        Parts { registry: Box::leak(Box::new(registry)), ..Parts::new(config, shared, database) }
    }

    /// The event packages that are registered by now.
    pub fn packages(&self) -> &'static Packages {
        self.registry.packages()
    }

    /// Changes of one resource are written one after the other.
    pub(crate) fn lock_for_write(&self, resource: &Resource) -> ProcessMutexGuard {
        self.shared.write_locks[write_lock_of(resource)].lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::event_package::PackageId;
    use std::collections::BTreeSet;

    #[test]
    fn so_many_resources_are_written_at_the_same_time() {
        let rule = UriComparison { ignore_case: false, seed: 7 };
        let resource = |n: usize| rule.resource(format!("sip:{n}@b").as_bytes(), PackageId(0));
        let locks: BTreeSet<usize> = (0..10_000).map(|n| write_lock_of(&resource(n))).collect();
        assert_eq!(locks, (0..WRITE_LOCKS).collect());
        assert_eq!(write_lock_of(&resource(7)), write_lock_of(&resource(7)));
    }
}
