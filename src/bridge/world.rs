//! The presence server on Kamailio: one [`World`] for each entry from the host, over what the process keeps.
use super::callbacks::Registry;
use super::counters::{self, Counter};
use super::database::Database;
use super::drain::Drain;
use super::held_queues::{HeldQueues, Interrupted};
use super::history::History;
use super::ids::Ids;
use super::members::watcher_hash;
use super::nodes::Nodes;
use super::recent_dialogs::RecentDialogs;
use super::rows::RowRound;
use super::senders::{Pace, Senders};
use super::standings::Standings;
use super::tables::Tables;
use super::tombstones::Tombstones;
use super::trust::Trusted;
use super::unreadable::{self, Unreadable};
use super::versions::with_version;
use crate::for_a_while::ForAWhile;
use crate::host::msg::SipMsg;
use crate::host::shm::{self, NoMemory, Ticket};
use crate::host::sync::SleepLock;
use crate::host::{clock, dmq, log, script, sl, tm};
use crate::presence::config::{Config, PublicationMode, SubscriptionMode};
use crate::presence::ended::{Cause, Ended};
use crate::presence::error::{Failure, StoreError};
use crate::presence::event_package::{PackageId, Packages};
use crate::presence::explain::{Traffic, Trail};
use crate::presence::ports::{
    Event, NewDialog, Occasion, Outgoing, Ports, Recent, Renewal, Round, Standing, Stored, Told, Verdict,
};
use crate::presence::publication::{Applied, Change, Publication};
use crate::presence::replication::Replica;
use crate::presence::resource::{Resource, UriRule};
use crate::presence::subscription::{DialogId, Field, Status, Subscription};
use crate::presence::winfo::Watcher;
use crate::sip::{uri, xml_form};
use crate::{limited, log};
use std::cell::{Cell, OnceCell, RefCell};

/// What all processes of the server share.
pub struct Shared {
    /// Subscriptions and publications.
    pub tables: Tables,
    /// What was decided about watchers.
    pub standings: Standings,
    /// One of these is held while a resource's publications are written to the database.
    pub order: Vec<&'static SleepLock>,
    /// Held while publications that waited are written.
    pub publication_writer: &'static SleepLock,
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
    pub singles: Trusted,
    /// Documents that could not be read.
    pub unreadable: Unreadable,
    /// What packages make of common bodies for each watcher.
    pub versions: Trusted,
    /// The next turn of this notifier process.
    pub turn: Cell<i32>,
    /// Called by tm when a NOTIFY is completed.
    pub on_completed: tm::Callback,
    /// How this node calls itself, once dmq knows.
    pub node_name: OnceCell<Vec<u8>>,
}

/// How many resources may be written at the same time.
const WRITE_ORDERS: usize = 64;

impl Shared {
    /// Empty tables and locks; call before the processes fork.
    pub fn new(config: &Config) -> Result<Shared, NoMemory> {
        let rule = UriRule { ignore_case: config.ignore_case, seed: config.hash_seed };
        #[cfg(feature = "fault-injection")]
        crate::host::fault::install();
        let order = (0..WRITE_ORDERS).map(|_| SleepLock::leak()).collect::<Result<_, _>>()?;
        Ok(Shared {
            tables: Tables::new(rule, config.limits.subscriptions > 0)?,
            standings: Standings::new(rule)?,
            order,
            publication_writer: SleepLock::leak()?,
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
pub struct World {
    pub(super) process: &'static Process,
    pub(super) config: &'static Config,
    pub(super) packages: &'static Packages,
    pub(super) shared: &'static Shared,
    pub(super) database: &'static Database,
    message: Option<SipMsg<'static>>,
    /// NOTIFYs that this entry has to send itself, outside of any lane (database-only mode).
    pub(super) own: Vec<(Resource, Outgoing)>,
    /// The dialog that this entry has just stored (database-only mode): its first NOTIFY is counted already.
    pub(super) fresh: Option<u64>,
    /// Changes that this entry has to tell (database-only mode).
    pub(super) rounds: Vec<RowRound>,
    /// Who watched a resource when this entry changed its documents (database-only mode): later ones know the change.
    pub(super) watching: Option<(Resource, Vec<Subscription>)>,
    /// Whoever is not told in the pass under way (database-only mode).
    pub(super) round_sender: Vec<u8>,
    /// How far this process is ahead of the answers.
    pub(super) pace: Option<Pace>,
    /// The resources for which this entry sends.
    pub(super) held: HeldQueues,
    /// The reply given, for callers without a message.
    pub reply: Option<(u16, Vec<u8>)>,
}

impl World {
    /// A world without a message: timers, RPC, other modules.
    pub fn new(process: &'static Process) -> World {
        // Rules may have changed since the last entry; notifier processes send without a round.
        process.registry.begin_pass();
        World {
            process,
            config: &process.config,
            packages: process.registry.packages(),
            shared: &process.shared,
            database: &process.database,
            message: None,
            own: Vec::new(),
            fresh: None,
            rounds: Vec::new(),
            watching: None,
            round_sender: Vec::new(),
            pace: None,
            held: HeldQueues::new(&process.shared),
            reply: None,
        }
    }

    /// A world for a request.
    ///
    /// # Safety
    /// The message outlives the world.
    pub unsafe fn for_request(process: &'static Process, message: SipMsg<'_>) -> World {
        // SAFETY: the caller promises that the message lives as long as the world is used.
        let message = unsafe { SipMsg::new(message.raw()) };
        World { message, ..World::new(process) }
    }

    /// Whether there is neither a database nor everything in memory: other modules use our functions only.
    pub fn is_library(&self) -> bool {
        let in_memory = self.config.subscriptions == SubscriptionMode::Memory
            && self.config.publications == PublicationMode::Memory;
        !self.database.is_configured() && !in_memory
    }

    /// What the process keeps.
    pub fn process(&self) -> &'static Process {
        self.process
    }

    /// Answers a request that was refused, and says in one line who and why.
    pub fn refuse(&mut self, failure: &Failure, what: &str, who: &str) {
        match failure {
            Failure::Reject { code, reason, headers, why } => {
                limited!(Notice, "{what} from {who} answered {code} {reason}: {why}");
                self.reply(*code, reason, headers);
            }
            Failure::Refused(why) if self.message.is_some_and(tm::is_answered) => {
                limited!(Notice, "{what} from {who}: {why}, and has answered the request");
            }
            Failure::Refused(why) => self.refuse(&Failure::bad_request(*why), what, who),
            Failure::Internal(why) => {
                limited!(Error, "{what} from {who} answered 500: {why}");
                self.reply(500, "Server Internal Error", b"");
            }
            Failure::Store(error) => {
                limited!(Error, "{what} from {who} answered 500: {error}");
                self.reply(500, "Server Internal Error", b"");
            }
        }
    }

    /// What happens when a NOTIFY was answered, or was not (RFC 6665 4.2.2).
    pub fn notify_answered(&mut self, dialog: DialogId<'_>, cseq: u32, code: i32) {
        if code >= 300 {
            self.note_failure(dialog, cseq, code);
        }
        let gone = self.config.notify_failures.end(code) || (code == 408 && self.config.remove_on_timeout);
        // What another node has gone on with meanwhile is not ours to end.
        if gone && self.is_owned(dialog) {
            match self.drop_subscription(dialog) {
                Ok(Some(subscription)) => {
                    self.note_end(&subscription, Cause::Notify(u16::try_from(code).unwrap_or_default()));
                    limited!(
                        Notice,
                        "subscription of {} to {} removed: NOTIFY answered {code}",
                        log::show(&subscription.watcher_uri()),
                        log::show(subscription.get(Field::PresUri))
                    );
                    let package = *self.packages.get(subscription.numbers.event);
                    let watcher = || Watcher { status: Status::Terminated, ..Watcher::of(&subscription) };
                    let uri = subscription.get(Field::PresUri).to_vec();
                    crate::presence::subscribe::tell_winfo(self, &package, &uri, watcher, true);
                }
                Ok(None) => {}
                Err(error) => limited!(Error, "cannot remove a subscription whose NOTIFY was answered {code}: {error}"),
            }
        }
    }

    fn log_notify(&self, outgoing: &Outgoing) {
        let config = self.config;
        if !log::enabled(config.log_level) {
            return;
        }
        let s = &outgoing.subscription;
        let from = uri::join(s.get(Field::FromUser), s.get(Field::FromDomain));
        let text = format!(
            "NOTIFY {} via {} on behalf of {} for event {} : {}",
            log::show(&from),
            log::show(s.get(Field::Contact)),
            log::show(s.get(Field::PresUri)),
            log::show(self.packages.get(s.numbers.event).name),
            log::show(s.get(Field::CallId)),
        );
        log::write(c"presence", config.log_facility, config.log_level, &text);
    }
}

impl Ports for World {
    fn config(&self) -> &Config {
        self.config
    }
    fn packages(&self) -> &Packages {
        self.packages
    }
    fn now(&self) -> i64 {
        clock::now()
    }
    fn uri_rule(&self) -> UriRule {
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

    fn check_publish(&mut self, package: PackageId) -> Verdict {
        match self.message {
            // Packages read the length of the body from Content-Length without looking whether it is there.
            Some(message) if message.has_content_length() => self.process.registry.check_publish(package, message),
            _ => Verdict::Fine,
        }
    }
    fn check_subscribe(&mut self, package: PackageId) -> Verdict {
        match self.message {
            Some(message) => self.process.registry.check_subscribe(package, message),
            None => Verdict::Fine,
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
                self.process.singles.body(package, expected, ask)
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
                self.process.versions.body(package, || with_version(body, subscription.numbers.version), ask)
            }
            _ => ask(),
        }
    }
    fn judge(&mut self, package: PackageId, subscription: &Subscription, before: Status) -> Result<Standing, Failure> {
        self.process
            .registry
            .judge(package, subscription, before)
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
        self.kept_body(resource)
    }
    fn keep_composed(&mut self, resource: &Resource, documents: u32, body: Option<&[u8]>, valid_until: i64) {
        self.keep_body(resource, documents, body, valid_until)
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
            _ => self.add_member(subscription, resource, dialog),
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
            _ => Ok(self.find_member(dialog)),
        }
    }
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<bool, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.renew_row(current, renewal),
            _ => self.renew_member(current, renewal),
        }
    }
    fn end(&mut self, dialog: DialogId<'_>, occasion: Occasion, reason: &[u8]) -> Result<bool, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.end_row(dialog, occasion, reason),
            _ => self.end_member(dialog, occasion, reason),
        }
    }
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.drop_row(dialog),
            _ => self.drop_member(dialog),
        }
    }
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.rows_of(resource),
            _ => Ok(self.members_of(resource)),
        }
    }
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => Ok(self.rows_of(resource)?.len()),
            _ => Ok(self.member_count(resource)),
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
            _ => self.end_expired_members(now, limit),
        };
        ended.iter().for_each(|_| counters::count(Counter::SubscriptionsExpired));
        Ok(ended)
    }
    fn set_standing(&mut self, dialog: DialogId<'_>, standing: &Standing) -> Result<bool, StoreError> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.set_row_standing(dialog, standing),
            _ => self.set_member_standing(dialog, standing),
        }
    }

    fn may_be_watched(&mut self, resource: &Resource) -> bool {
        self.config.subscriptions == SubscriptionMode::Database || self.has_members(resource)
    }

    fn standing(&mut self, subscription: &Subscription) -> Result<Option<Standing>, StoreError> {
        self.find_standing(subscription)
    }
    fn remember_standing(&mut self, subscription: &Subscription, standing: &Standing) -> Result<(), StoreError> {
        self.write_standing(subscription, standing)
    }
    fn remember_first_standing(&mut self, subscription: &Subscription, standing: &Standing) -> Result<(), StoreError> {
        self.write_first_standing(subscription, standing)
    }
    fn remembered_watchers(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        self.find_remembered(resource)
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
    fn trail(&mut self, dialog: DialogId<'_>) -> Trail {
        self.trail_of(dialog)
    }
    fn traffic(&mut self, resource: &Resource) -> Traffic {
        self.traffic_of(resource)
    }

    fn happened(&mut self, resource: &Resource, event: Event<'_>) -> bool {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.happened_to_rows(resource, event),
            _ => self.happened_to_lane(resource, event),
        }
    }
    fn interrupted(&mut self, resource: &Resource, unsent: Vec<Outgoing>, why: &str) {
        let retry = match self.config.subscriptions {
            SubscriptionMode::Database => false,
            _ => self.make_due_again(resource, &unsent),
        };
        counters::count_many(Counter::NotifyUnsent, unsent.len());
        let then = if retry { "tried again" } else { "the next change is sent to them" };
        for outgoing in unsent.iter().take(1) {
            log!(
                Error,
                "panic while NOTIFYs were sent for {}, to {} and {} more ({then}): {why}",
                log::show(&resource.uri),
                log::show(&outgoing.subscription.watcher_uri()),
                unsent.len() - 1,
            );
        }
    }
    fn may_send_more(&mut self) -> bool {
        let short = super::senders::memory_is_short();
        if short {
            limited!(Warn, "shared memory is short: subscriptions that ran out are ended step by step (option -m)");
            self.shared.senders.note_left_over();
        }
        !short
    }
    fn begin_round(&mut self, resource: &Resource) -> Option<Round> {
        self.process.registry.begin_pass();
        match self.config.subscriptions {
            SubscriptionMode::Database => self.begin_row_round(resource),
            _ => self.begin_lane_round(resource),
        }
    }
    fn next_portion(&mut self, resource: &Resource, round: &mut Round) -> Vec<Outgoing> {
        match self.config.subscriptions {
            SubscriptionMode::Database => self.next_rows(resource, round),
            _ => self.next_members(resource, round),
        }
    }

    fn note_told(&mut self, resource: &Resource, told: &[Told]) {
        self.note_told_members(resource, told);
    }

    fn send_notify(&mut self, outgoing: &Outgoing, headers: &[u8], body: Option<&[u8]>) {
        fault_point!("notify");
        self.log_notify(outgoing);
        let s = &outgoing.subscription;
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
            cseq: s.numbers.local_cseq + 1,
            socket: s.get(Field::Socket),
            proxy: b"",
        };
        let shown = self.config.subs_variable.then(|| as_shown(outgoing));
        // The route that looks at the answer wants subscriptions that are gone by then, too.
        let keeps = self.process.notify_reply.get().is_some_and(|route| route.exists()) && self.config.subs_variable;
        let kept = match (&shown, outgoing.occasion) {
            (Some(shown), Occasion::Unsubscribe | Occasion::Ended) if keeps => keep_for_reply(shown),
            _ => Ticket::NONE,
        };
        let sent = {
            let _shown = ForAWhile::set(&self.process.last_subscription, shown);
            tm::send_in_dialog(&request, Some(self.process.on_completed), kept)
        };
        if let Some(pace) = &mut self.pace {
            pace.step(self.shared.senders);
        }
        counters::count(if sent.is_ok() { Counter::NotifySent } else { Counter::NotifyUnsent });
        if sent != Ok(tm::Sent::UnderWay) {
            drop(take_kept(kept));
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
fn as_shown(outgoing: &Outgoing) -> Subscription {
    let mut shown = outgoing.subscription.clone();
    if outgoing.occasion == Occasion::Unsubscribe {
        shown.numbers.status = Status::Terminated;
        if let Ok(named) = shown.with(&[(Field::Reason, b"timeout")]) {
            shown = named;
        }
    }
    shown
}

/// Puts a subscription where the process that gets the answer finds it; nothing without memory.
fn keep_for_reply(subscription: &Subscription) -> Ticket {
    subscription.map(shm::copy).and_then(shm::boxed).map_or(Ticket::NONE, Ticket::of)
}

/// Takes back what was kept for the answer to a NOTIFY.
pub fn take_kept(ticket: Ticket) -> Option<Subscription> {
    ticket.redeem::<super::member::SharedSubscription>().map(|shared| shared.to_private())
}
