//! What comes of sending a request, and what is sent after its answer.
use super::client_request::SendOutcome;
use super::pending_request::AtServer;
use super::request::{Request, RequestField};
use crate::pua::flags::SourceFlags;
use crate::time::Seconds;

/// What a request came to when it was prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launched {
    /// An answer will come.
    UnderWay,
    /// There is nothing to send, or the script dropped it.
    Nothing,
}

impl From<SendOutcome> for Launched {
    fn from(sent: SendOutcome) -> Launched {
        match sent {
            SendOutcome::UnderWay => Launched::UnderWay,
            SendOutcome::Dropped => Launched::Nothing,
        }
    }
}

/// What follows from an answer.
#[derive(Debug)]
pub enum Next {
    /// No further request is sent for this one.
    Nothing,
    /// A request is sent, and the caller has been answered.
    Now(Request),
    /// A request is sent, and its answer is the one the caller gets.
    Quietly(Request),
    /// A request is sent later.
    After {
        /// After this time.
        wait: Seconds,
        /// What is sent.
        request: Request,
        /// What the server may have of it.
        server: AtServer,
    },
}

impl Next {
    /// What is sent at once.
    pub(crate) fn at_once(&self) -> Option<&Request> {
        match self {
            Next::Now(request) | Next::Quietly(request) => Some(request),
            Next::Nothing | Next::After { .. } => None,
        }
    }
}

/// The presentity a request is about, for a log line.
pub fn show(request: &Request) -> String {
    String::from_utf8_lossy(request.get(RequestField::PresUri)).into_owned()
}

/// Whether the caller of a request decides about another try itself.
pub fn caller_decides(request: &Request) -> bool {
    request.options.flag.share_any(CALLER_WAITS) && !request.options.is_own()
}

/// `RPC_PUBLISH` and `RPC_ASYN_PUBLISH`: the caller waits for the answer and acts on it.
pub(crate) const CALLER_WAITS: SourceFlags = SourceFlags::from_word((1 << 6) | (1 << 7));
