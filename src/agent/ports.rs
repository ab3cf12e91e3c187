//! What the decisions of [`crate::pua`] ask for, carried out on Kamailio: one file a port, and the user agent itself
//! here.
mod callers;
mod challenges;
mod client_transactions;
mod event_bodies;
mod request_queue;
mod retries;
mod stored_records;
mod work_in_hand;

use crate::agent::context::{AgentContext, AgentShared};
use crate::agent::records;
use crate::host::clock;
use crate::limited_refusal;
use crate::pua::config::Config;
use crate::pua::ports::user_agent::UserAgent;
use crate::pua::request::{Request, RequestField};
use crate::time::Moment;

/// The key of the publication or subscription a request is about.
fn key_of(shared: &AgentShared, request: &Request) -> u64 {
    let options = &request.options;
    let (event, flag) = (options.event.word().to_ne_bytes(), options.flag.word().to_ne_bytes());
    let names = [
        request.get(RequestField::PresUri),
        request.get(RequestField::WatcherUri),
        request.get(RequestField::Id),
        &event,
        &flag,
    ];
    records::hash(shared.seed, &names)
}

impl UserAgent for AgentContext<'_> {
    fn config(&self) -> &Config {
        &self.process.config
    }
    fn now(&self) -> Moment {
        clock::now()
    }
    fn warn(&self, what: &str) {
        limited_refusal!(Warn, ("pua", 0, what), "{what}");
    }
}
