//! A request that is on its way, waits for another try, or waits for the one before it; and the callers that wait for
//! its outcome.
use super::record::{Record, RecordChange, RecordField, RecordRowState, RecordState};
use super::request::{Request, RequestField};
use crate::pua::flags::SourceFlags;
use crate::shm_safe::shm_safe;
use crate::time::{Expiry, Moment};

/// The number of a pending request: one request on its way (or waiting for another try) for one publication or
/// subscription.
pub type PendingRequestId = u64;

/// A caller that waits for the outcome of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The word its callback gets back.
    pub cb_param: usize,
    /// The source flag its callback is found by and sees.
    pub callback_flag: SourceFlags,
}

shm_safe!(Claim { cb_param, callback_flag });

impl Claim {
    /// The claim of a request's caller; a request of our own has none.
    pub fn of<B: AsRef<[u8]>>(request: &Request<B>) -> Option<Claim> {
        let options = &request.options;
        (!options.is_own()).then_some(Claim { cb_param: options.cb_param, callback_flag: options.callback_flag })
    }
}

/// Whether a request can be sent as far as is known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestCheck {
    /// The request can be sent.
    Passed,
    /// Nobody has looked yet: the request never takes the place of one that waits.
    Pending,
}

/// What came of asking for a pending request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Nobody else is under way: go.
    Go(PendingRequestId),
    /// A request is under way, and this one was not looked at yet: it is to be checked before it waits.
    Busy {
        /// The entity tag it names is that of the publication under way: it needs no record to be known.
        known: bool,
    },
    /// A request is under way: this one waits and goes next, with what the one that waited before it wanted besides.
    Queued,
    /// What is under way asks for the same: its answer is this one's, too.
    Covered,
}

/// What was sent, and how it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRequest {
    /// The request as its caller made it.
    pub request: Request,
    /// The record as it will be once the request is granted; its entity tag or dialog is still the old one.
    pub record: Record,
    /// How many tries there were before.
    pub attempts: u32,
}

impl PendingRequest {
    /// A request that was never sent, as its callback sees it.
    pub fn unsent(request: &Request) -> PendingRequest {
        let state = RecordState {
            serial: 0,
            event: request.options.event,
            flag: request.options.flag,
            expires_at: Moment::EPOCH,
            desired_until: Expiry::Never,
            cseq: 0,
            version: 0,
            row_state: RecordRowState::Insert,
        };
        let strings = [
            (RecordField::PresUri, request.get(RequestField::PresUri)),
            (RecordField::WatcherUri, request.get(RequestField::WatcherUri)),
            (RecordField::Id, request.get(RequestField::Id)),
            (RecordField::Etag, request.get(RequestField::Etag)),
            (RecordField::Body, request.get(RequestField::Body)),
        ];
        PendingRequest { request: request.clone(), record: Record::new(state, &strings), attempts: 0 }
    }
}

/// A pending request whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub enum DueRequest {
    /// The wait of the request has ended: this is sent.
    Send(PendingRequestId, Request),
    /// What its answer says could not be stored: it is tried again.
    Store(PendingRequestId, RecordChange),
    /// No answer came, and none will.
    Lost(PendingRequestId),
    /// A request over which this server has panicked: those who wait for it are answered.
    GivenUp(PendingRequestId, Request),
}

impl DueRequest {
    /// The pending request that is due.
    pub fn pending(&self) -> PendingRequestId {
        match self {
            DueRequest::Send(pending, _)
            | DueRequest::Store(pending, _)
            | DueRequest::Lost(pending)
            | DueRequest::GivenUp(pending, _) => *pending,
        }
    }
}

/// What the server may have of a request that was not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtServer {
    /// Something: an end of it has to be sent.
    Something,
    /// The server has nothing.
    Nothing,
}

shm_safe!(
    enum AtServer {
        Something,
        Nothing,
    }
);

/// What callers learn of their request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The answer in hand.
    Answered,
    /// No answer has come.
    Silence,
}
