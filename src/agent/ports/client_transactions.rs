//! Requests sent by tm.
use crate::agent::context::AgentContext;
use crate::common::counters::{self, Counter};
use crate::host::shm::{CallbackParam, NumberOnly};
use crate::host::tm;
use crate::pua::client_request::{ClientRequest, RequestIds, SendOutcome};
use crate::pua::error::RequestError;
use crate::pua::pending_request::PendingRequestId;
use crate::pua::ports::client_transactions::ClientTransactions;
use crate::pua::request::RequestKind;

impl ClientTransactions for AgentContext<'_> {
    fn new_ids(&mut self, target: &[u8]) -> RequestIds {
        let tm::NewIds { call_id, from_tag } = tm::new_ids(target);
        RequestIds { call_id, from_tag }
    }
    fn send(&mut self, pending: PendingRequestId, outgoing: &ClientRequest<'_>) -> Result<SendOutcome, RequestError> {
        let dialog = &outgoing.dialog;
        let request = tm::OwnRequest {
            method: outgoing.kind.method(),
            dialog: tm::OwnDialog {
                call_id: dialog.call_id,
                local_tag: dialog.from_tag,
                remote_tag: dialog.to_tag,
                local_uri: dialog.from,
                remote_uri: dialog.to,
                remote_target: dialog.target,
                routes: dialog.routes,
                cseq: dialog.cseq,
            },
            headers: &outgoing.headers,
            body: outgoing.body,
            way: if outgoing.proxy.is_empty() {
                tm::RequestWay::ByDialog
            } else {
                tm::RequestWay::Proxy(outgoing.proxy)
            },
        };
        let (callback, counter) = match outgoing.kind {
            RequestKind::Publication => (self.process.on_published, Counter::PuaPublish),
            RequestKind::Subscription => (self.process.on_subscribed, Counter::PuaSubscribe),
        };
        let sent = tm::send(&request, Some(callback), CallbackParam::<NumberOnly>::number(pending));
        counters::count(if sent == Ok(tm::TmOutcome::UnderWay) { counter } else { Counter::PuaUnsent });
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
