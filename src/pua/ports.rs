//! What the user agent asks of its surroundings. `agent::ports` carries it out on Kamailio, `agent::testing` in the
//! tests: on the same tables, with a clock and a wire of its own.
use super::config::Config;
use super::error::RequestError;
use super::event::Event;
use super::record::{Dialog, Record, RecordChange, RecordField, RecordRowState, RecordState, Search};
use super::request::{Request, RequestField};
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment, Seconds};

/// The number of a pending request: one request on its way (or waiting for another try) for one publication or
/// subscription.
pub type PendingRequestId = u64;

/// A caller that waits for the outcome of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The word its callback gets back.
    pub cb_param: usize,
    /// The source flag its callback is found by and sees.
    pub callback_flag: i32,
}

shm_safe!(Claim { cb_param, callback_flag });

impl Claim {
    /// The claim of a request's caller; a request of our own has none.
    pub fn of<B: AsRef<[u8]>>(request: &Request<B>) -> Option<Claim> {
        let options = &request.options;
        (!options.is_own()).then_some(Claim { cb_param: options.cb_param, callback_flag: options.callback_flag })
    }
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

/// A message to send.
#[derive(Debug)]
pub struct ClientRequest<'a> {
    /// PUBLISH or SUBSCRIBE.
    pub method: &'static str,
    /// The request URI.
    pub target: &'a [u8],
    /// To.
    pub to: &'a [u8],
    /// From.
    pub from: &'a [u8],
    /// Where it is sent; empty: to the target.
    pub proxy: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// From tag.
    pub from_tag: &'a [u8],
    /// To tag; empty outside of a dialog.
    pub to_tag: &'a [u8],
    /// Route set, comma separated.
    pub routes: &'a [u8],
    /// CSeq.
    pub cseq: u32,
    /// Header lines.
    pub headers: Vec<u8>,
    /// The body.
    pub body: Option<&'a [u8]>,
}

/// What came of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// An answer will come.
    UnderWay,
    /// The script dropped it (`drop` in `event_route[tm:local-request]`): no answer will come.
    Dropped,
}

/// What identifies a request outside of a dialog, and the dialog that it may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestIds {
    /// Call-ID.
    pub call_id: Vec<u8>,
    /// The tag of From.
    pub from_tag: Vec<u8>,
}

/// A body that is ready, and the tuple id it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processed {
    /// The body.
    pub body: Vec<u8>,
    /// The id of its tuple; empty for none.
    pub tuple_id: Vec<u8>,
}

/// Whether a request can be sent as far as is known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestCheck {
    /// The request can be sent.
    Passed,
    /// Nobody has looked yet: the request never takes the place of one that waits.
    Pending,
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

/// What the user agent needs done.
pub trait AgentPorts {
    /// The settings.
    fn config(&self) -> &Config;
    /// The moment.
    fn now(&self) -> Moment;
    /// The event with this flag.
    fn event(&self, flag: i32) -> Option<Event>;
    /// Makes a body ready; `tuple_id` is the one the publication has, or empty.
    ///
    /// # Errors
    ///
    /// Fails when the body is not what the event takes, see [`RequestError::BadBody`].
    fn process(
        &mut self,
        event: &Event,
        request: &Request,
        version: u32,
        tuple_id: &[u8],
    ) -> Result<Processed, RequestError>;
    /// What identifies a new request to `target`.
    fn new_ids(&mut self, target: &[u8]) -> RequestIds;

    /// A client nonce (RFC 7616 3.4): random letters and digits.
    fn new_cnonce(&mut self) -> Vec<u8>;
    /// The challenges that a server has sent, one a line, see [`super::digest::challenges`].
    fn known_challenges(&mut self, server: &[u8]) -> Vec<u8>;
    /// How often the nonce of a server's challenge has been used, this time included. It is known from then on.
    fn count_nonce(&mut self, server: &[u8], challenge: &[u8]) -> u32;
    /// Forgets the challenges of a server.
    fn forget_challenges(&mut self, server: &[u8]);

    /// The newest record that matches.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn find(&mut self, search: &Search<'_>) -> Result<Option<Record>, RequestError>;
    /// The record of a dialog, its established one first.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn find_dialog(&mut self, dialog: &Dialog<'_>) -> Result<Option<Record>, RequestError>;
    /// Stores a new record.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row.
    fn insert(&mut self, record: &Record) -> Result<(), RequestError>;
    /// Puts `after` in place of `before`; `false` when `before` is gone.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row: `before` stays
    /// then.
    fn replace(&mut self, before: &Record, after: &Record) -> Result<bool, RequestError>;
    /// Removes a record, if it is still there.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn remove(&mut self, record: &Record) -> Result<(), RequestError>;
    /// Records that are to be refreshed or removed in this turn.
    ///
    /// # Errors
    ///
    /// Fails when the table has to be read and the database cannot be read.
    fn ending(&mut self, before: Moment) -> Result<Vec<Record>, RequestError>;

    /// Asks for the pending request of this request's publication or subscription.
    ///
    /// # Errors
    ///
    /// Fails when too many requests wait for it, when a PUBLISH without a body would begin anew what a waiting one
    /// ends, and when shared memory runs out.
    fn admit(&mut self, request: &Request, checked: RequestCheck) -> Result<Admission, RequestError>;
    /// Notes what is about to be sent on a pending request.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out: the request must not be sent then.
    fn record_sent(
        &mut self,
        pending: PendingRequestId,
        request: &Request,
        record: &Record,
    ) -> Result<(), RequestError>;
    /// What was sent on a pending request; nothing when it has ended.
    fn take_sent(&mut self, pending: PendingRequestId) -> Option<PendingRequest>;
    /// What was sent on a pending request is settled by its answer, and never again: what is left to be done is to
    /// store what could not be stored, or to send `next`.
    fn settled(&mut self, pending: PendingRequestId, unstored: Option<&RecordChange>, next: Option<&Request>);
    /// Notes the entity tag that what was sent on a pending request has now. Requests that name the one before it mean
    /// the same publication until the next request is sent: the record may still have that.
    fn retag(&mut self, pending: PendingRequestId, tag: EntityTag<&[u8]>);
    /// Ends a pending request, or gives the request that was kept meanwhile: the pending request goes on with that.
    fn end(&mut self, pending: PendingRequestId) -> Option<Request>;
    /// Lets a pending request wait so long; then [`AgentPorts::timed_out`] names it. `request` is tried again,
    /// or what was kept meanwhile together with what `request` wanted besides.
    /// `false`: there is no memory for it.
    #[must_use = "without memory nobody tries again, and the callers are to be answered"]
    fn wait(&mut self, pending: PendingRequestId, wait: Seconds, request: &Request, server: AtServer) -> bool;
    /// How many tries of a pending request have failed.
    fn attempts(&mut self, pending: PendingRequestId) -> u32;
    /// Lets a pending request wait so long until `change` is tried again.
    fn postpone(&mut self, pending: PendingRequestId, wait: Seconds, change: &RecordChange);
    /// Has a request of our own sent after this time, unless its subscription is being ended or something newer
    /// waits.
    /// Gives the pending request when it can go now.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    fn later(&mut self, request: &Request, wait: Seconds) -> Result<Option<PendingRequestId>, RequestError>;
    /// How often this request's subscription was begun anew lately; counts one more.
    fn restarts(&mut self, request: &Request) -> u32;
    /// Pending requests whose time has come.
    fn timed_out(&mut self) -> Vec<DueRequest>;
    /// The caller goes on with one of them.
    fn take(&mut self, pending: PendingRequestId);
    /// A panic has broken off what was done for one of many: the timer goes on with its request, as if no answer had
    /// come.
    fn broken_off(&mut self, what: &str, why: &str);
    /// Takes the callers that wait for a pending request: each is handed out once.
    fn claims(&mut self, pending: PendingRequestId) -> Vec<Claim>;
    /// Forgets the first caller of a pending request: it learns the outcome from its call.
    fn withdraw(&mut self, pending: PendingRequestId);

    /// Sends the request that a pending request has come to.
    ///
    /// # Errors
    ///
    /// Fails when tm cannot send it: no answer will come.
    fn send(&mut self, pending: PendingRequestId, outgoing: &ClientRequest<'_>) -> Result<SendOutcome, RequestError>;
    /// Calls the callbacks of these callers with the outcome of their request.
    fn report(&mut self, claims: &[Claim], pending: &PendingRequest, outcome: RequestOutcome);
    /// One line for the log.
    fn warn(&self, what: &str);
}
