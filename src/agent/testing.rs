//! The user agent without a server around it: the shared tables on plain memory, a clock that is set, a wire that is
//! looked at.
mod ports;

use crate::agent::known_challenges::KnownChallenges;
use crate::agent::pending_requests::PendingRequests;
use crate::agent::records::{RecordRowChange, Records};
use crate::agent::request_queue::RequestHolder;
use crate::common::row_groups::{Pass, RowOutcome};
use crate::pua::config::Config;
use crate::pua::dialog::{self, ReceivedNotify, When};
use crate::pua::error::RequestError;
use crate::pua::event;
use crate::pua::flags::SourceFlags;
use crate::pua::pending_request::PendingRequestId;
use crate::pua::ports::work_in_hand::WorkInHand;
use crate::pua::record::{Dialog, Record, RecordField, RecordRowState};
use crate::pua::request::{Request, RequestField, RequestOptions, RequestedExpires};
use crate::pua::response::FinalResponse;
use crate::pua::{publication, queue, refresh};
use crate::sip::entity_tag::EntityTag;
use crate::sip::subscription_state::SubscriptionStateHeader;
use crate::time::{Moment, Seconds, Tick};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A request on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wire {
    pub(crate) pending: PendingRequestId,
    /// The id of its publication or subscription.
    pub(crate) id: String,
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) to: String,
    pub(crate) call_id: Vec<u8>,
    pub(crate) from_tag: Vec<u8>,
    pub(crate) cseq: u32,
    pub(crate) headers: String,
    pub(crate) body: Option<String>,
    pub(crate) at: Tick,
    pub(crate) answered: bool,
}

impl Wire {
    /// The value of a header; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let line = self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default()
    }
}

/// How sending fails.
#[derive(Clone, Copy)]
pub(crate) enum SendingFails {
    /// The request cannot be sent.
    AtOnce,
    /// The request is dropped, and no answer will come.
    Silently,
}

/// The ports on plain memory.
pub(crate) struct Bench {
    config: Config,
    pub(crate) pending_requests: PendingRequests,
    pub(crate) known_challenges: KnownChallenges,
    pub(crate) records: Records,
    /// Rows as the last write left them.
    rows: Vec<Record>,
    /// The time, and the clock for waits.
    pub(crate) wall: Moment,
    pub(crate) ticks: Tick,
    state: u64,
    pub(crate) wire: Vec<Wire>,
    /// Words of callers whose callbacks were called, and whether with silence.
    pub(crate) answered_callers: Vec<(usize, bool)>,
    pub(crate) store_away: bool,
    /// How what is sent fails, if it does.
    pub(crate) sending_fails: Option<SendingFails>,
    /// How many times a request that is sent, or a record that is stored, still panics.
    pub(crate) panics: usize,
    /// How many times making the body `fragile` ready still does.
    pub(crate) fragile: usize,
    /// What an entry is at work on, and whether its caller is still there.
    in_hand: Option<(PendingRequestId, RequestHolder)>,
    /// The id of what is about to be sent.
    sending: String,
}

const AWAY: &str = "the database is away";

impl Bench {
    pub(crate) fn new() -> Bench {
        let config = Config {
            update_period: Some(Seconds(10)),
            credentials: b"alice:a:secret, alice:b:secret",
            ..Config::defaults()
        };
        Bench {
            config,
            pending_requests: PendingRequests::default(),
            known_challenges: KnownChallenges::new().unwrap(),
            records: Records::new(1).unwrap(),
            rows: Vec::new(),
            wall: Moment::at(1_000_000),
            ticks: Tick(5_000),
            state: 0,
            wire: Vec::new(),
            answered_callers: Vec::new(),
            store_away: false,
            sending_fails: None,
            panics: 0,
            fragile: 0,
            in_hand: None,
            sending: String::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.state += 1;
        self.state
    }

    fn key_of(request: &Request) -> u64 {
        crate::agent::records::hash(
            7,
            &[
                request.get(RequestField::PresUri),
                request.get(RequestField::WatcherUri),
                request.get(RequestField::Id),
                &[request.options.flag.word() as u8],
            ],
        )
    }

    fn may_panic(&mut self) {
        if let Some(left) = self.panics.checked_sub(1) {
            self.panics = left;
            panic!("asked for by the test");
        }
    }

    fn reachable(&self) -> Result<(), RequestError> {
        if self.store_away { Err(RequestError::Store(AWAY.into())) } else { Ok(()) }
    }

    /// A caller publishes.
    pub(crate) fn publish(
        &mut self,
        id: &str,
        body: Option<&str>,
        expires: i64,
        word: usize,
    ) -> Result<(), RequestError> {
        self.submit(&publication(id, body, expires, word))
    }

    pub(crate) fn submit(&mut self, request: &Request) -> Result<(), RequestError> {
        let submit = AssertUnwindSafe(|| match request.is_subscription() {
            true => dialog::submit(self, request, When::Always),
            false => queue::submit(self, request),
        });
        catch_unwind(submit).unwrap_or_else(|_| {
            self.broken_off("", "");
            Err(RequestError::NotSent)
        })
    }

    /// A caller subscribes to bob.
    pub(crate) fn subscribe(&mut self, expires: i64, word: usize) -> Result<(), RequestError> {
        self.submit(&subscription(expires, word))
    }

    /// The newest request that has no answer yet.
    pub(crate) fn open(&self) -> Option<usize> {
        self.wire.iter().rposition(|wire| !wire.answered)
    }

    /// Answers the newest open request.
    pub(crate) fn answer(&mut self, answer: &FinalResponse) {
        let index = self.open().expect("a request under way");
        self.answer_to(index, answer);
    }

    pub(crate) fn answer_to(&mut self, index: usize, answer: &FinalResponse) {
        self.wire[index].answered = true;
        let (pending, method) = (self.wire[index].pending, self.wire[index].method);
        let settle = AssertUnwindSafe(|| match method {
            "PUBLISH" => publication::answered(self, pending, answer),
            _ => dialog::answered(self, pending, answer),
        });
        if catch_unwind(settle).is_err() {
            self.broken_off("", "");
        }
    }

    /// A NOTIFY in the dialog of a SUBSCRIBE.
    pub(crate) fn notify(&mut self, index: usize, tag: &str, contact: &str, state: &str) -> bool {
        let wire = self.wire[index].clone();
        let dialog = Dialog {
            pres_uri: wire.to.as_bytes(),
            watcher_uri: b"sip:alice@a",
            call_id: &wire.call_id,
            from_tag: &wire.from_tag,
            to_tag: tag.as_bytes(),
        };
        let said = ReceivedNotify {
            contact: contact.as_bytes(),
            route_set: b"",
            state: SubscriptionStateHeader::read(state.as_bytes()),
        };
        dialog::notified(self, &dialog, &said).unwrap()
    }

    /// Time goes by, with the timer of each second.
    pub(crate) fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.wall += Seconds(1);
            self.ticks += Seconds(1);
            refresh::retry(self);
            let _ = refresh::sweep(self);
        }
    }

    /// The write timer.
    pub(crate) fn write(&mut self) {
        let now = self.wall;
        let same = |a: &Record, b: &Record| {
            [RecordField::PresUri, RecordField::WatcherUri, RecordField::Id, RecordField::CallId]
                .iter()
                .all(|f| a.get(*f) == b.get(*f))
        };
        for change in self.records.take_changes(now, Pass::Regular) {
            let (record, etag, is_there) = match &change {
                RecordRowChange::Ended { row, .. } => (row, EntityTag::new(row.get(RecordField::Etag).to_vec()), false),
                RecordRowChange::Changed { record, row_etag, .. } => (record, row_etag.clone(), true),
            };
            let is_row = |known: &Record| same(known, record) && known.get(RecordField::Etag) == etag.bytes();
            self.rows.retain(|known| !is_row(known));
            if is_there {
                self.rows.push(record.clone());
            }
            self.records.note_fate(&change, RowOutcome::Written, now);
        }
    }

    /// The server is killed and starts again: callers, pending requests and what was not written are gone.
    pub(crate) fn crash(&mut self, reserve: u32) {
        self.pending_requests = PendingRequests::default();
        self.records = Records::new(1).unwrap();
        self.wire.iter_mut().for_each(|wire| wire.answered = true);
        for row in std::mem::take(&mut self.rows) {
            let mut row = row.with(&[(RecordField::Body, b""), (RecordField::ContentType, b"")]);
            row.state.row_state = RecordRowState::Clean;
            if row.is_subscription() {
                row.state.cseq += reserve;
            }
            self.rows.push(row.clone());
            self.records.insert(&row).unwrap();
        }
    }
}

pub(crate) fn publication(id: &str, body: Option<&str>, expires: i64, word: usize) -> Request {
    let options = RequestOptions {
        event: event::XCAP_DIFF,
        flag: SourceFlags::from_word(1),
        callback_flag: SourceFlags::from_word(1),
        expires: RequestedExpires::of_number(expires),
        has_body: body.is_some(),
        cb_param: word,
        ..RequestOptions::default()
    };
    let body = body.unwrap_or_default().as_bytes();
    Request::new(
        options,
        &[(RequestField::PresUri, b"sip:alice@a"), (RequestField::Id, id.as_bytes()), (RequestField::Body, body)],
    )
}

pub(crate) fn subscription(expires: i64, word: usize) -> Request {
    let options = RequestOptions {
        event: event::PRESENCE,
        flag: SourceFlags::from_word(1),
        callback_flag: SourceFlags::from_word(1),
        expires: RequestedExpires::of_number(expires),
        cb_param: word,
        ..RequestOptions::default()
    };
    Request::new(
        options,
        &[
            (RequestField::PresUri, b"sip:bob@b"),
            (RequestField::WatcherUri, b"sip:alice@a"),
            (RequestField::Contact, b"sip:alice@host"),
        ],
    )
}

pub(crate) fn code(code: u16) -> FinalResponse {
    if code == 0 { FinalResponse::silence() } else { FinalResponse::of_code(code) }
}

pub(crate) fn granted(tag: &str, expires: i64) -> FinalResponse {
    let tag = tag.as_bytes().to_vec();
    let contact = [b"sip:", tag.as_slice(), b"@server"].concat();
    FinalResponse {
        expires: Some(Seconds(expires)),
        etag: Some(EntityTag::new(tag.clone())),
        to_tag: tag,
        contact,
        ..FinalResponse::of_code(200)
    }
}
