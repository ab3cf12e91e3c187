//! Requests sent by tm.
use crate::agent::context::AgentContext;
use crate::common::counters::{self, Counter};
use crate::host::shm::{CallbackParam, NumberOnly};
use crate::host::tm;
use crate::pua::client_request::{ClientRequest, RequestIds, SendOutcome};
use crate::pua::error::RequestError;
use crate::pua::pending_request::PendingRequestId;
use crate::pua::ports::client_transactions::ClientTransactions;

impl ClientTransactions for AgentContext<'_> {
    fn new_ids(&mut self, target: &[u8]) -> RequestIds {
        let tm::NewIds { call_id, from_tag } = tm::new_ids(target);
        RequestIds { call_id, from_tag }
    }
    fn send(&mut self, pending: PendingRequestId, outgoing: &ClientRequest<'_>) -> Result<SendOutcome, RequestError> {
        let request = tm::InDialog {
            method: outgoing.method,
            headers: &outgoing.headers,
            body: outgoing.body,
            call_id: outgoing.call_id,
            local_tag: outgoing.from_tag,
            remote_tag: outgoing.to_tag,
            local_uri: outgoing.from,
            remote_uri: outgoing.to,
            remote_target: outgoing.target,
            routes: outgoing.routes,
            cseq: outgoing.cseq,
            socket: b"",
            proxy: outgoing.proxy,
        };
        let callback =
            if outgoing.method == "PUBLISH" { self.process.on_published } else { self.process.on_subscribed };
        let sent = tm::send_in_dialog(&request, Some(callback), CallbackParam::<NumberOnly>::number(pending));
        counters::count(match sent {
            Ok(tm::TmOutcome::UnderWay) if outgoing.method == "PUBLISH" => Counter::PuaPublish,
            Ok(tm::TmOutcome::UnderWay) => Counter::PuaSubscribe,
            _ => Counter::PuaUnsent,
        });
        match sent {
            Ok(tm::TmOutcome::UnderWay) => {
                self.in_hand.let_go(pending);
                Ok(SendOutcome::UnderWay)
            }
            Ok(tm::TmOutcome::Dropped) => Ok(SendOutcome::Dropped),
            Err(tm::NotSent) => Err(RequestError::NotSent),
        }
    }
}
