//! The presence server on Kamailio: one [`Context`] for each entry from the host, over what the process keeps.
use crate::common::counters::{self, Counter};
use crate::common::database::Database;
use crate::common::ids::Ids;
use crate::host::msg::SipMsg;
use crate::host::no_memory::NoMemory;
use crate::host::process_mutex::ProcessMutex;
use crate::host::shm::{self, CallbackParam};
use crate::host::{clock, dmq, log, script, sl, tm};
use crate::presence::authorization::Authorization;
use crate::presence::config::{Config, PublicationMode, SubscriptionMode};
use crate::presence::ended::{Cause, Ended};
use crate::presence::error::{Failure, StoreError};
use crate::presence::event_package::{PackageId, PackageVerdict, Packages};
use crate::presence::notification::{
    Notify, NotifyHistory, NotifyReason, NotifyRecord, NotifyRun, QueueState, StateChange,
};
use crate::presence::ports::{NewDialog, Ports, Recent, Stored};
use crate::presence::publication::{Applied, Change, Publication};
use crate::presence::replica::Replica;
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::row_limits::{PublicationRows, RowLimits};
use crate::presence::subscription::{DialogId, Field, Renewal, Status, Subscription};
use crate::presence::winfo::Watcher;
use crate::scoped_value::ScopedValue;
use crate::server::authorizations::cache::AuthorizationCache;
use crate::server::cluster::nodes::Nodes;
use crate::server::cluster::removals::Tombstones;
use crate::server::notify::held_queues::{HeldQueues, Interrupted};
use crate::server::notify::row_run::RowNotifyRun;
use crate::server::notify::senders::{Pacing, Senders};
use crate::server::operator::drain_state::Drain;
use crate::server::operator::history::History;
use crate::server::packages::callbacks::Registry;
use crate::server::packages::prediction::Predictions;
use crate::server::packages::version_patch::with_version;
use crate::server::publications::unreadable::{self, Unreadable};
use crate::server::subscriptions::recent_dialogs::RecentDialogs;
use crate::server::tables::{Tables, watcher_hash};
use crate::sip::{uri, xml_form};
use crate::{limited, limited_refusal, log};
use std::cell::{Cell, OnceCell, RefCell};

/// What all processes of the server share.
pub struct Shared {
    /// Subscriptions and publications.
    pub tables: Tables,
    /// What was decided about watchers.
    pub authorizations: AuthorizationCache,
    /// One of these is held while a resource's publications are written to the database.
    pub order: Vec<&'static ProcessMutex>,
    /// Held while publications that waited are written.
    pub publication_writer: &'static ProcessMutex,
    /// Large fan-outs that wait for a sender process.
    pub senders: &'static Senders,
    /// Resources for which the sending was broken off.
    pub interrupted: &'static Interrupted,
    /// A drain under way.
    pub drain: &'static Drain,
    /// The other nodes.
    pub nodes: &'static Nodes,
    /// What was removed and may be told again by another node.
    pub tombstones: &'static Tombstones,
    /// The dialogs made last (database-only mode).
    pub recent_dialogs: RecentDialogs,
    /// Subscriptions that have ended.
    pub history: &'static History,
}

/// What one process keeps from request to request.
pub struct Process {
    /// The settings.
    pub config: Config,
    /// The event packages.
    pub registry: Registry,
    /// The shared tables.
    pub shared: Shared,
    /// The database.
    pub database: Database,
    /// Entity tags and record ids.
    pub ids: RefCell<Ids>,
    /// `event_route[presence:notify-reply]`.
    pub notify_reply: Cell<Option<script::EventRoute>>,
    /// The subscription `$subs` reads.
    pub last_subscription: RefCell<Option<Subscription>>,
    /// What packages make of single documents.
    pub single_document_bodies: Predictions,
    /// Documents that could not be read.
    pub unreadable: Unreadable,
    /// What packages make of common bodies for each watcher.
    pub versions: Predictions,
    /// The next turn of this notifier process.
    pub turn: Cell<i32>,
    /// Called by tm when a NOTIFY is completed.
    pub on_completed: tm::Callback,
    /// How this node calls itself, once dmq knows.
    pub node_name: OnceCell<Vec<u8>>,
}

/// How many resources may be written at the same time.
const WRITE_LOCKS: usize = 64;

impl Shared {
    /// Empty tables and locks; call before the processes fork.
    pub fn new(config: &Config) -> Result<Shared, NoMemory> {
        let rule = UriComparison { ignore_case: config.ignore_case, seed: config.hash_seed };
        #[cfg(feature = "fault-injection")]
        crate::host::fault::install();
        let order = (0..WRITE_LOCKS).map(|_| ProcessMutex::leak()).collect::<Result<_, _>>()?;
        Ok(Shared {
            tables: Tables::new(rule, config.limits.subscriptions > 0)?,
            authorizations: AuthorizationCache::new(rule)?,
            order,
            publication_writer: ProcessMutex::leak()?,
            senders: shm::leak(Senders::new()?)?,
            interrupted: shm::leak(Interrupted::new()?)?,
            drain: shm::leak(Drain::default())?,
            nodes: shm::leak(Nodes::new())?,
            tombstones: shm::leak(Tombstones::new(rule)?)?,
            recent_dialogs: RecentDialogs::new(config.subscriptions == SubscriptionMode::Database)?,
            history: shm::leak(History::new(config.history_size)?)?,
        })
    }
}

/// One entry from the host: the process, and the message in hand.
pub struct Context {
    pub(crate) process: &'static Process,
    pub(crate) config: &'static Config,
    pub(crate) packages: &'static Packages,
    pub(crate) shared: &'static Shared,
    pub(crate) database: &'static Database,
    message: Option<SipMsg<'static>>,
    /// NOTIFYs that this entry has to send itself, outside of any resource entry (database-only mode).
    pub(crate) own: Vec<(Resource, Notify)>,
    /// The dialog that this entry has just stored (database-only mode): its first NOTIFY is counted already.
    pub(crate) fresh: Option<u64>,
    /// Changes that this entry has to tell (database-only mode).
    pub(crate) notify_runs: Vec<RowNotifyRun>,
    /// Who watched a resource when this entry changed its documents (database-only mode): later ones know the change.
    pub(crate) watching: Option<(Resource, Vec<Subscription>)>,
    /// Whoever is not told in the pass under way (database-only mode).
    pub(crate) run_sender: Vec<u8>,
    /// How far this process is ahead of the answers.
    pub(crate) pace: Option<Pacing>,
    /// The resources for which this entry sends.
    pub(crate) held: HeldQueues,
    /// The reply given, for callers without a message.
    pub reply: Option<(u16, Vec<u8>)>,
}

impl Context {
    /// A world without a message: timers, RPC, other modules.
    pub fn new(process: &'static Process) -> Context {
        // Rules may have changed since the last entry; notifier processes send without a round.
        process.registry.begin_pass();
        Context {
            process,
            config: &process.config,
            packages: process.registry.packages(),
            shared: &process.shared,
            database: &process.database,
            message: None,
            own: Vec::new(),
            fresh: None,
            notify_runs: Vec::new(),
            watching: None,
            run_sender: Vec::new(),
            pace: None,
            held: HeldQueues::new(&process.shared.tables, process.shared.interrupted),
            reply: None,
        }
    }

    /// The context of a request. Whoever makes the message promises that it outlives the context.
    pub fn for_request(process: &'static Process, message: SipMsg<'static>) -> Context {
        Context { message: Some(message), ..Context::new(process) }
    }

    /// Whether there is neither a database nor everything in memory: other modules use our functions only.
    pub fn is_library(&self) -> bool {
        !self.database.is_configured() && !self.is_in_memory_only()
    }

    fn is_in_memory_only(&self) -> bool {
        self.config.subscriptions == SubscriptionMode::Memory && self.config.publications == PublicationMode::Memory
    }

    /// Subscriptions that ended, the latest first; see [`crate::server::operator::history::History::latest`].
    pub fn ends(&self, limit: usize, wanted: impl Fn(&Ended) -> bool) -> Vec<Ended> {
        self.shared.history.latest(limit, wanted)
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

    /// What happens when a NOTIFY was answered, or was not (RFC 6665 4.2.2).
    pub fn notify_answered(&mut self, dialog: DialogId<'_>, cseq: u32, code: i32) {
        if code >= 300 {
            self.record_failure(dialog, cseq, code);
        }
        let removed = self.config.notify_failures.end(code) || (code == 408 && self.config.remove_on_timeout);
        // What another node has gone on with meanwhile is not ours to end.
        if removed && self.is_owned(dialog) {
            match self.drop_subscription(dialog) {
                Ok(Some(subscription)) => {
                    self.note_end(&subscription, Cause::Notify(u16::try_from(code).unwrap_or_default()));
                    limited!(
                        Notice,
                        "subscription of {} to {} removed: NOTIFY answered {code}",
                        log::show(&subscription.watcher_uri()),
                        log::show(subscription.get(Field::PresUri))
                    );
                    let package = *self.packages.get(subscription.state.event);
                    let watcher = || Watcher { status: Status::Terminated, ..Watcher::of(&subscription) };
                    let uri = subscription.get(Field::PresUri).to_vec();
                    crate::presence::subscribe::notify_winfo(self, &package, &uri, watcher, true);
                }
                Ok(None) => {}
                Err(error) => limited!(Error, "cannot remove a subscription whose NOTIFY was answered {code}: {error}"),
            }
        }
    }

    fn log_notify(&self, notify: &Notify) {
        let config = self.config;
        if !log::enabled(config.log_level) {
            return;
        }
        let s = &notify.subscription;
        let from = uri::join(s.get(Field::FromUser), s.get(Field::FromDomain));
        let text = format!(
            "NOTIFY {} via {} on behalf of {} for event {} : {}",
            log::show(&from),
            log::show(s.get(Field::Contact)),
            log::show(s.get(Field::PresUri)),
            log::show(self.packages.get(s.state.event).name),
            log::show(s.get(Field::CallId)),
        );
        log::write(c"presence", config.log_facility, config.log_level, &text);
    }
}

impl Ports for Context {
    fn config(&self) -> &Config {
        self.config
    }
    fn packages(&self) -> &Packages {
        self.packages
    }
    fn now(&self) -> i64 {
        clock::now()
    }
    fn uri_rule(&self) -> UriComparison {
        self.shared.tables.rule()
    }

    fn reply(&mut self, code: u16, reason: &str, headers: &[u8]) {
        self.reply = Some((code, headers.to_vec()));
        if let Some(message) = self.message {
            counters::count(match message.is_publish() {
                true => counters::of_publish(code),
                false => counters::of_subscribe(code),
            });
            if !sl::reply(message, code, reason, headers) {
                limited!(Error, "cannot send the reply {code} {reason}");
            }
        }
    }

    fn reply_tag(&mut self) -> Result<Vec<u8>, Failure> {
        self.message.and_then(sl::reply_tag).ok_or_else(|| Failure::Internal("no To tag for the reply".into()))
    }

    fn new_entity_tag(&mut self, changes: u32) -> Vec<u8> {
        self.process.ids.borrow_mut().entity_tag(changes)
    }
    fn new_ruid(&mut self) -> Vec<u8> {
        self.process.ids.borrow_mut().ruid()
    }

    fn reads(&self, document: &[u8]) -> bool {
        unreadable::reads(document)
    }
    fn in_utf8(&self, document: &[u8]) -> Option<Vec<u8>> {
        unreadable::in_utf8(document)
    }
    fn is_unreadable(&self, document: &Publication) -> bool {
        self.process.unreadable.knows(document)
    }
    fn note_unreadable(&mut self, resource: &Resource, document: &Publication) {
        let Some(line) = self.process.unreadable.note(document, clock::now()) else { return };
        counters::count(Counter::DocumentsUnreadable);
        if let Some(others) = line {
            let (uri, etag) = (log::show(&resource.uri), log::show(&document.etag));
            log!(
                Warn,
                "a stored document of {uri} cannot be read and is passed over: entity tag {etag} ({others} others)"
            );
        }
    }

    fn check_publish(&mut self, package: PackageId) -> PackageVerdict {
        match self.message {
            // Packages read the length of the body from Content-Length without looking whether it is there.
            Some(message) if message.has_content_length() => self.process.registry.check_publish(package, message),
            _ => PackageVerdict::Fine,
        }
    }
    fn check_subscribe(&mut self, package: PackageId) -> PackageVerdict {
        match self.message {
            Some(message) => self.process.registry.check_subscribe(package, message),
            None => PackageVerdict::Fine,
        }
    }
    fn aggregate(
        &mut self,
        package: PackageId,
        uri: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> Option<Vec<u8>> {
        fault_point!("compose");
        let (user, domain) = uri::split(uri);
        let package_name = self.packages.get(package).name;
        let ask = || self.process.registry.aggregate(package, user, domain, documents, offline);
        match (documents, offline) {
            ([single], None) if self.config.share_watcher_bodies => {
                let expected = || match self.packages.get(package).is_dialog() {
                    true => xml_form::dialog_info(single, &[b"sip:", user, b"@", domain].concat()),
                    // presence_xml makes nothing of a document that is none of its own.
                    false if package_name == b"presence" && !xml_form::has_root(single, b"presence") => None,
                    false => xml_form::formatted(single),
                };
                self.process.single_document_bodies.body(package, expected, ask)
            }
            _ => ask(),
        }
    }
    fn filter_body(&mut self, package: PackageId, subscription: &Subscription, body: &[u8]) -> Option<Vec<u8>> {
        self.process.registry.filter_body(package, subscription, body)
    }
    fn watcher_body(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        body: Option<&[u8]>,
    ) -> Option<Vec<u8>> {
        let ask = || self.process.registry.watcher_body(package, subscription, body);
        match body {
            Some(body) if self.config.share_watcher_bodies && self.packages.get(package).differs_by_version_only => {
                self.process.versions.body(package, || with_version(body, subscription.state.version), ask)
            }
            _ => ask(),
        }
    }
    fn evaluate_rules(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        before: Status,
    ) -> Result<Authorization, Failure> {
        // As with stock, which asks for no rules there.
        let without_rules = self.is_in_memory_only().then_some(Status::Active);
        self.process
            .registry
            .evaluate_rules(package, subscription, before, without_rules)
            .ok_or_else(|| Failure::Internal("the event package cannot say whether the watcher is allowed".into()))
    }

    fn publish(&mut self, resource: &Resource, change: Change) -> Result<Applied, StoreError> {
        let applied = self.change_publication(resource, &change)?;
        if self.config.subscriptions == SubscriptionMode::Database && !matches!(applied, Applied::NoMatch) {
            self.note_watching(resource);
        }
        Ok(applied)
    }
    fn documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        self.live_documents(resource)
    }
    fn composed(&mut self, resource: &Resource) -> Option<Option<Vec<u8>>> {
        self.cached_body(resource)
    }
    fn cache_composed(&mut self, resource: &Resource, documents: u32, body: Option<&[u8]>, valid_until: i64) {
        self.cache_body(resource, documents, body, valid_until)
    }
    fn forget(&mut self, resource: &Resource) {
        self.forget_table(resource)
    }
    fn take_ended_publications(&mut self, now: i64, limit: usize) -> Result<Vec<Resource>, StoreError> {
        let ended = self.take_ended(now, limit)?;
        ended.iter().for_each(|_| counters::count(Counter::PublicationsExpired));
        Ok(ended)
    }

    fn replicates(&self) -> bool {
        self.config.replicates
    }
    fn announce(&mut self, replica: &Replica) {
        counters::count(Counter::DmqSent);
        if !dmq::broadcast(dmq::Channel::Publications, &replica.to_json()) {
            limited!(Error, "a change for {} could not be sent to the other nodes", log::show(&replica.user));
        }
    }
    fn was_removed(&self, resource: &Resource, ruid: &[u8], etag: &[u8]) -> bool {
        let tombstones = self.shared.tombstones;
        tombstones.has(tombstones.of_publication(resource, ruid, etag))
    }
    fn row_limits(&self) -> Option<RowLimits> {
        let (publications, longest_body) = (self.config.publications, self.database.longest_body()?);
        let rows = match publications {
            PublicationMode::Memory => PublicationRows::None,
            PublicationMode::Cached if self.writes_publications_later() => PublicationRows::Later,
            PublicationMode::Cached | PublicationMode::Database => PublicationRows::AtOnce,
        };
        Some(RowLimits { longest_body, rows })
    }
    fn shares_publications(&self) -> bool {
        self.config.publications != PublicationMode::Memory
    }

    fn subscribe(
        &mut self,
        subscription: &Subscription,
        resource: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError> {
        debug_assert_eq!(dialog.0, self.shared.tables.dialog_hash(subscription.dialog()));
        match self.config.subscriptions {
            SubscriptionMode::Database => self.insert_row(subscription, dialog),
            _ => self.add_stored(subscription, resource, dialog),
        }
    }
    fn find_recent(&mut self, dialog: DialogId<'_>) -> Result<Recent, StoreError> {
        let hash = self.shared.tables.dialog_hash(dialog);
        let made = match self.config.subscriptions {
            SubscriptionMode::Database => self.find_recent_row(dialog, hash)?,
            _ => self.find_member_at(dialog, hash),
        };
        Ok(made.map_or(Recent::New(NewDialog(hash)), |made| Recent::Made(Box::new(made))))
    }
    fn find_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.find_row(dialog),
            _ => Ok(self.find_stored(dialog)),
        }
    }
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<bool, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.renew_row(current, renewal),
            _ => self.renew_stored(current, renewal),
        }
    }
    fn end(&mut self, dialog: DialogId<'_>, notify_reason: NotifyReason, reason: &[u8]) -> Result<bool, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.end_row(dialog, notify_reason, reason),
            _ => self.end_stored(dialog, notify_reason, reason),
        }
    }
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.drop_row(dialog),
            _ => self.drop_stored(dialog),
        }
    }
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.rows_of(resource),
            _ => Ok(self.stored_of(resource)),
        }
    }
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => Ok(self.rows_of(resource)?.len()),
            _ => Ok(self.stored_count(resource)),
        }
    }
    fn count_subscriptions_of(&mut self, subscription: &Subscription) -> Result<usize, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.count_rows_of_watcher(subscription),
            _ => Ok(self.shared.tables.watchers.of(watcher_hash(&self.shared.tables, subscription))),
        }
    }
    fn memory_used(&self) -> usize {
        100 - (shm::available() * 100).checked_div(shm::size()).unwrap_or(100).min(100)
    }
    fn end_expired(&mut self, now: i64, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let ended = match self.config.subscriptions {
            SubscriptionMode::Database => self.end_expired_rows(now, limit)?,
            _ => self.end_expired_stored(now, limit),
        };
        ended.iter().for_each(|_| counters::count(Counter::SubscriptionsExpired));
        Ok(ended)
    }
    fn set_authorization(&mut self, dialog: DialogId<'_>, authorization: &Authorization) -> Result<bool, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.set_authorization_in_database(dialog, authorization),
            _ => self.set_authorization_in_memory(dialog, authorization),
        }
    }

    fn may_be_watched(&mut self, resource: &Resource) -> bool {
        self.config.subscriptions == SubscriptionMode::Database || self.is_watched(resource)
    }

    fn authorization(&mut self, subscription: &Subscription) -> Result<Option<Authorization>, StoreError> {
        self.find_authorization(subscription)
    }
    fn store_authorization(
        &mut self,
        subscription: &Subscription,
        authorization: &Authorization,
    ) -> Result<(), StoreError> {
        self.write_authorization(subscription, authorization)
    }
    fn store_first_authorization(
        &mut self,
        subscription: &Subscription,
        authorization: &Authorization,
    ) -> Result<(), StoreError> {
        self.write_first_authorization(subscription, authorization)
    }
    fn known_watchers(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        self.find_known(resource)
    }
    fn waiting_watchers(&mut self, resource: &Resource) -> Result<Vec<Watcher>, StoreError> {
        self.find_waiting(resource)
    }

    fn note_end(&mut self, subscription: &Subscription, cause: Cause) {
        self.shared.history.note(subscription, cause, clock::now());
    }
    fn latest_end(&mut self, watcher: &[u8], resource: &Resource) -> Option<Ended> {
        let rule = self.uri_rule();
        let wanted = |ended: &Ended| {
            ended.event == resource.event && ended.watcher == watcher && rule.same(&ended.presentity, &resource.uri)
        };
        self.shared.history.latest(1, wanted).pop()
    }
    fn served_elsewhere(&mut self, dialog: DialogId<'_>) -> Option<Vec<u8>> {
        (!self.is_owned(dialog)).then(|| self.node_of(dialog))
    }
    fn notify_history(&mut self, dialog: DialogId<'_>) -> NotifyHistory {
        self.notify_history_of(dialog)
    }
    fn queue_state(&mut self, resource: &Resource) -> QueueState {
        self.queue_state_of(resource)
    }

    fn enqueue(&mut self, resource: &Resource, event: StateChange<'_>) -> bool {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.enqueue_in_database(resource, event),
            _ => self.enqueue_in_memory(resource, event),
        }
    }
    fn interrupted(&mut self, resource: &Resource, unsent: Vec<Notify>, why: &str) {
        let retry = match self.config.subscriptions {
            SubscriptionMode::Database => false,
            _ => self.make_due_again(resource, &unsent),
        };
        counters::count_many(Counter::NotifyUnsent, unsent.len());
        let then = if retry { "tried again" } else { "the next change is sent to them" };
        for notify in unsent.iter().take(1) {
            log!(
                Error,
                "panic while NOTIFYs were sent for {}, to {} and {} more ({then}): {why}",
                log::show(&resource.uri),
                log::show(&notify.subscription.watcher_uri()),
                unsent.len() - 1,
            );
        }
    }
    fn may_send_more(&mut self) -> bool {
        let short = crate::server::notify::senders::memory_is_short();
        if short {
            limited!(Warn, "shared memory is short: subscriptions that ran out are ended step by step (option -m)");
            self.shared.senders.note_left_over();
        }
        !short
    }
    fn begin_run(&mut self, resource: &Resource) -> Option<NotifyRun> {
        self.process.registry.begin_pass();
        match self.config.subscriptions {
            SubscriptionMode::Database => self.begin_database_run(resource),
            _ => self.begin_memory_run(resource),
        }
    }
    fn next_batch(&mut self, resource: &Resource, notify_run: &mut NotifyRun) -> Vec<Notify> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.next_database_batch(resource, notify_run),
            _ => self.next_memory_batch(resource, notify_run),
        }
    }

    fn record_notified(&mut self, resource: &Resource, told: &[NotifyRecord]) {
        self.record_notified_in_memory(resource, told);
    }

    fn send_notify(&mut self, notify: &Notify, headers: &[u8], body: Option<&[u8]>) {
        fault_point!("notify");
        self.log_notify(notify);
        let s = &notify.subscription;
        let (local_uri, remote_uri) = (s.local_uri(), s.remote_uri());
        let request = tm::InDialog {
            method: "NOTIFY",
            headers,
            body,
            call_id: s.get(Field::CallId),
            local_tag: s.get(Field::ToTag),
            remote_tag: s.get(Field::FromTag),
            local_uri: &local_uri,
            remote_uri: &remote_uri,
            remote_target: s.get(Field::Contact),
            routes: s.get(Field::RecordRoute),
            cseq: s.state.local_cseq + 1,
            socket: s.get(Field::Socket),
            proxy: b"",
        };
        let shown = self.config.subs_variable.then(|| as_shown(notify));
        // The route that looks at the answer wants subscriptions that are gone by then, too.
        let keeps = self.process.notify_reply.get().is_some_and(|route| route.exists()) && self.config.subs_variable;
        let cached = match (&shown, notify.notify_reason) {
            (Some(shown), NotifyReason::Unsubscribe | NotifyReason::Ended) if keeps => keep_for_reply(shown),
            _ => CallbackParam::NONE,
        };
        let sent = {
            let _shown = ScopedValue::set(&self.process.last_subscription, shown);
            tm::send_in_dialog(&request, Some(self.process.on_completed), cached)
        };
        if let Some(pace) = &mut self.pace {
            pace.step(self.shared.senders);
        }
        counters::count(if sent.is_ok() { Counter::NotifySent } else { Counter::NotifyUnsent });
        if sent != Ok(tm::Sent::UnderWay) {
            drop(take_cached(cached));
        }
        if sent.is_err() {
            limited!(
                Error,
                "NOTIFY to {} via {} for {} could not be sent",
                log::show(&remote_uri),
                log::show(s.get(Field::Contact)),
                log::show(s.get(Field::PresUri))
            );
        }
    }
}

/// A subscription as `$subs` shows it: one that has ended is terminated.
fn as_shown(notify: &Notify) -> Subscription {
    let mut shown = notify.subscription.clone();
    if notify.notify_reason == NotifyReason::Unsubscribe {
        shown.state.status = Status::Terminated;
        if let Ok(named) = shown.with(&[(Field::Reason, b"timeout")]) {
            shown = named;
        }
    }
    shown
}

/// Puts a subscription where the process that gets the answer finds it; nothing without memory.
fn keep_for_reply(subscription: &Subscription) -> CallbackParam {
    subscription.map(shm::copy).and_then(shm::boxed).map_or(CallbackParam::NONE, CallbackParam::of)
}

/// Takes back what was kept for the answer to a NOTIFY.
pub fn take_cached(ticket: CallbackParam) -> Option<Subscription> {
    ticket.redeem::<crate::server::tables::subscription_entry::SharedSubscription>().map(|shared| shared.to_private())
}
