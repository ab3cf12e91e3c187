//! What the user agent asks of its surroundings, a trait for each part of them. `agent::ports` carries them out on
//! Kamailio, `agent::testing` in the tests: on the same tables, with a clock and a wire of its own.
pub mod callers;
pub mod challenges;
pub mod client_transactions;
pub mod event_bodies;
pub mod request_queue;
pub mod retries;
pub mod stored_records;
pub mod user_agent;
pub mod work_in_hand;

use callers::Callers;
use challenges::Challenges;
use client_transactions::ClientTransactions;
use event_bodies::EventBodies;
use request_queue::RequestQueue;
use retries::Retries;
use stored_records::StoredRecords;
use user_agent::UserAgent;
use work_in_hand::WorkInHand;

/// All that the decisions of this layer ask of the user agent that carries them out.
pub trait AgentPorts:
    UserAgent
    + EventBodies
    + Challenges
    + StoredRecords
    + RequestQueue
    + Retries
    + WorkInHand
    + Callers
    + ClientTransactions
{
}

impl<P> AgentPorts for P where
    P: UserAgent
        + EventBodies
        + Challenges
        + StoredRecords
        + RequestQueue
        + Retries
        + WorkInHand
        + Callers
        + ClientTransactions
{
}
