//! The presence server on Kamailio: one [`Context`] for each entry from the host, over what the process keeps.
use crate::common::database::Database;
use crate::common::ids::Ids;
use crate::common::rest::Rests;
use crate::host::msg::SipMsg;
use crate::host::{clock, script, tm};
use crate::limited_refusal;
use crate::presence::composition::unreadable::Unreadable;
use crate::presence::error::Failure;
use crate::presence::event_package::{PackageId, Packages};
use crate::presence::history::ended::Ended;
use crate::presence::history::remembered::SentNotify;
use crate::presence::notification::ChangeOrigin;
use crate::presence::ports::transaction::ServerTransaction;
use crate::presence::subscription::Subscription;
use crate::server::announcing::arbitration::Beating;
use crate::server::inventory::Inventory;
use crate::server::notifications::missed_changes::OwnDialogId;
use crate::server::notifications::pacing::Pacing;
use crate::server::notifications::turn_retries::TurnRetries;
use crate::server::packages::foreseen_body::ForeseenBody;
use crate::server::packages::omitted_check::OmittedCheck;
use crate::server::packages::prediction::Predictions;
use crate::server::shared::Parts;
use crate::server::stores::Stores;
use crate::server::work::Work;
use crate::time::Moment;
use std::cell::{Cell, RefCell};
use std::ops::Deref;

/// What one process keeps from request to request.
pub struct Process {
    /// The settings, the tables, the database.
    pub parts: Parts,
    /// Where subscriptions and publications live.
    pub storage: Stores,
    /// The database with the leases of the nodes (`cluster_arbiter`).
    pub leases: Option<&'static Database>,
    /// What the process that beats has seen of them.
    pub beating: RefCell<Option<Beating>>,
    /// Entity tags and record ids.
    pub ids: RefCell<Ids>,
    /// `event_route[presence:notify-reply]`.
    pub notify_reply: Cell<Option<script::EventRoute>>,
    /// The subscription `$subs` reads.
    pub last_subscription: RefCell<Option<Subscription>>,
    /// What packages make of single documents.
    pub single_document_bodies: Predictions,
    /// What is foreseen of the document that was published last.
    pub foreseen_body: ForeseenBody,
    /// The check of presence_xml.
    pub omitted_check: OmittedCheck,
    /// Documents that could not be read.
    pub unreadable: Unreadable,
    /// What packages make of common bodies for each watcher.
    pub versions: Predictions,
    /// The next turn of this notifier process.
    pub turn: Cell<i32>,
    /// The ticks since its last turn.
    pub tick: Cell<i32>,
    /// Turns that it could not serve.
    pub turn_retries: RefCell<TurnRetries>,
    /// What the timer leaves alone for a while after it could not be written.
    pub rests: Rests,
    /// Called by tm when a NOTIFY is completed.
    pub on_completed: tm::TmCallback,
}

/// One entry from the host: the process, and the message in hand.
pub struct Context<'m> {
    pub(crate) process: &'static Process,
    pub(crate) parts: Parts,
    pub(crate) packages: &'static Packages,
    pub(crate) message: Option<SipMsg<'m>>,
    /// The event package that the message in hand is about, once that is known.
    pub(crate) package: Option<PackageId>,
    /// Where subscriptions and publications live.
    pub(crate) storage: Stores,
    /// What this entry has to send.
    pub(crate) work: Work,
    /// The hash of the resource that this entry has left unjudged: it does not try again.
    pub(crate) left_unjudged: Option<u64>,
    /// The dialogs whose own NOTIFY could not be sent.
    pub(crate) unanswered: Vec<OwnDialogId>,
    /// When the message in hand came; `None`: time is asked for each time, for the entry may last.
    pub(crate) came_at: Option<Moment>,
}

impl Deref for Process {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Deref for Context<'_> {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl<'m> Context<'m> {
    /// A context without a message: timers, RPC, other modules.
    pub fn new(process: &'static Process) -> Context<'m> {
        // Rules may have changed since the last entry; notifier processes send without a round.
        process.registry.begin_pass();
        Context {
            process,
            parts: process.parts,
            packages: process.registry.packages(),
            message: None,
            package: None,
            storage: process.storage,
            work: Work::new(&process.parts),
            left_unjudged: None,
            unanswered: Vec::new(),
            came_at: None,
        }
    }

    /// The context of a message of another node.
    pub fn for_message_of_node(mut self) -> Context<'m> {
        self.work.origin = ChangeOrigin::OtherNode;
        self
    }

    /// The same context for a timer, which has many NOTIFYs to send: it does not run far ahead of the answers.
    pub fn paced(mut self) -> Context<'m> {
        self.work.pace = Some(Pacing::new(self.shared.senders, None));
        self
    }

    /// The context of a request.
    pub fn for_request(process: &'static Process, message: SipMsg<'m>) -> Context<'m> {
        Context { message: Some(message), came_at: Some(clock::now()), ..Context::new(process) }
    }

    /// Whether there is neither a database nor everything in memory: other modules use our functions only.
    pub fn is_library(&self) -> bool {
        !self.database.is_configured() && self.storage.has_rows()
    }

    /// All that the server holds.
    pub fn inventory(&self) -> Inventory {
        Inventory::new(self.parts, self.storage)
    }

    /// Subscriptions that ended, the latest first; see [`crate::server::history::History::latest`].
    pub fn ends(&self, limit: usize, wanted: impl Fn(&Ended) -> bool) -> Vec<Ended> {
        self.shared.history.latest(limit, wanted)
    }

    /// The last NOTIFY of a dialog, by the hash of that, as far as it is remembered.
    pub fn last_notify_of(&self, presentity: &[u8], dialog: u64) -> Option<SentNotify> {
        self.shared.history.last_notify(presentity, dialog)
    }

    /// What the process keeps.
    pub fn process(&self) -> &'static Process {
        self.process
    }

    /// Answers a request that was refused, and says in one line who and why.
    pub fn refuse(&mut self, failure: &Failure, what: &str, who: &str) {
        match failure {
            Failure::Reject { code, reason, headers, why } => {
                limited_refusal!(Notice, (what, *code, why), "{what} from {who} answered {code} {reason}: {why}");
                self.reply(*code, reason, headers);
            }
            Failure::Refused(why) if self.message.is_some_and(tm::is_answered) => {
                limited_refusal!(Notice, (what, 0, why), "{what} from {who}: {why}, and has answered the request");
            }
            Failure::Refused(why) => self.refuse(&Failure::bad_request(*why), what, who),
            Failure::Internal(why) => {
                limited_refusal!(Error, (what, 500, why), "{what} from {who} answered 500: {why}");
                self.reply(500, "Server Internal Error", b"");
            }
            Failure::Store(error) => {
                let why = error.to_string();
                limited_refusal!(Error, (what, 500, &why), "{what} from {who} answered 500: {why}");
                self.reply(500, "Server Internal Error", b"");
            }
        }
    }
}
