//! The presence user agent on Kamailio: one [`AgentContext`] for each entry from the host, over what the process keeps.
use crate::agent::known_challenges::KnownChallenges;
use crate::agent::pending_requests::PendingRequests;
use crate::agent::request_in_hand::RequestInHand;
use crate::agent::storage::store::RecordStore;
use crate::callbacks::user_agent::CallbackRegistry;
use crate::common::database::Database;
use crate::common::ids::Ids;
use crate::host::no_memory::NoMemory;
use crate::host::{clock, shm, tm};
use crate::pua::config::Config;
use crate::pua::error::RequestError;
use crate::pua::record::{Record, RecordField};
use std::cell::{Cell, RefCell};

/// What all processes of the server share.
#[derive(Clone, Copy)]
pub struct AgentShared {
    /// Requests under way.
    pub pending_requests: &'static PendingRequests,
    /// What servers ask of us before they serve.
    pub known_challenges: &'static KnownChallenges,
    pub(super) seed: u64,
}

impl AgentShared {
    /// Empty tables; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new() -> Result<AgentShared, NoMemory> {
        Ok(AgentShared {
            pending_requests: shm::leak(PendingRequests::default())?,
            known_challenges: shm::leak(KnownChallenges::new()?)?,
            seed: clock::random_number(),
        })
    }
}

/// What one process keeps from request to request.
pub struct AgentProcess {
    /// The settings.
    pub config: Config,
    /// Events and callbacks.
    pub registry: CallbackRegistry,
    /// The shared tables.
    pub shared: AgentShared,
    /// The database.
    pub database: &'static Database,
    /// Publications and subscriptions (`db_mode`).
    pub records: &'static dyn RecordStore,
    /// Ids of tuples that have none.
    pub ids: RefCell<Ids>,
    /// Which part of the records is looked through next.
    pub turn: Cell<usize>,
    /// Called by tm when a PUBLISH is completed.
    pub on_published: tm::TmCallback,
    /// Called by tm when a SUBSCRIBE is completed.
    pub on_subscribed: tm::TmCallback,
}

/// One entry from the host: the process, and the reply in hand.
pub struct AgentContext<'m> {
    pub(super) process: &'static AgentProcess,
    pub(super) reply: tm::TmReply<'m>,
    pub(super) whole_sweep: bool,
    pub(super) in_hand: RequestInHand,
}

impl<'m> AgentContext<'m> {
    /// A context without a reply.
    pub fn new(process: &'static AgentProcess) -> AgentContext<'m> {
        let in_hand = RequestInHand::none(process.shared.pending_requests);
        AgentContext { process, reply: tm::TmReply::none(), whole_sweep: false, in_hand }
    }

    /// A context for an answer.
    pub fn for_reply(process: &'static AgentProcess, reply: tm::TmReply<'m>) -> AgentContext<'m> {
        AgentContext { reply, ..AgentContext::new(process) }
    }

    /// A context that looks through all records at once (`pua.cleanup`).
    pub fn for_cleanup(process: &'static AgentProcess) -> AgentContext<'m> {
        AgentContext { whole_sweep: true, ..AgentContext::new(process) }
    }

    /// URIs of the presentities that records with this id are about, sorted.
    ///
    /// # Errors
    ///
    /// Fails when the rows have to be read (`db_mode` without memory) and the database cannot be read.
    pub fn uris_with_id(&self, id: &[u8]) -> Result<Vec<Vec<u8>>, RequestError> {
        let mut uris = self.process.records.uris_with_id(id)?;
        uris.sort();
        Ok(uris)
    }

    /// Some of the records whose presentity is `wanted`.
    ///
    /// # Errors
    ///
    /// Fails when the rows have to be read (`db_mode` without memory) and the database cannot be read.
    pub fn page_of_records(
        &self,
        offset: usize,
        limit: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Record>, RequestError> {
        let mut all = self.process.records.all()?;
        all.retain(|record| wanted(record.get(RecordField::PresUri)));
        all.sort_by_key(|record| record.state.serial);
        Ok(all.into_iter().skip(offset).take(limit).collect())
    }
}
