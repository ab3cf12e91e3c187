//! What the presence server asks of its surroundings, on Kamailio: each port goes to the part of the server that keeps
//! it.
use crate::common::counters::{self, Counter};
use crate::common::metrics;
use crate::host::{clock, dmq, log, shm, sl, tm};
use crate::presence::authorization::{Authorization, NoVerdict, Outstanding};
use crate::presence::config::Config;
use crate::presence::dialog::DialogId;
use crate::presence::ended::{Cause, Ended};
use crate::presence::error::{Failure, StoreError};
use crate::presence::event_package::{Bodies, BodyCheck, Package, PackageId, PackageVerdict, Packages, Trait};
use crate::presence::late::{Late, Taken};
use crate::presence::notification::{
    Notify, NotifyHistory, NotifyReason, NotifyRecord, NotifyRun, QueueState, StateChange, Unsent,
};
use crate::presence::ports::{NewDialog, Ports, Recent, Renewed, Stored};
use crate::presence::publication::{Applied, Change, Publication};
use crate::presence::remembered::{BodyDigest, ChangeKind, Digested, Micros, SentNotify};
use crate::presence::replica::Replica;
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::row_limits::{PublicationRows, RowLimits};
use crate::presence::subscription::{Renewal, Status, Subscription};
use crate::presence::subscription_field::Field;
use crate::presence::unreadable::Unshown;
use crate::presence::winfo::Watcher;
use crate::server::context::Context;
use crate::server::notify::engine::Content;
use crate::server::notify::missed_changes::OwnDialogId;
use crate::server::notify::pacing::Way;
use crate::server::notify::under_way::UnderWay;
use crate::server::notify::work::Again;
use crate::server::operator::history::{NewChange, dialog_mark};
use crate::server::packages::version_patch::with_version;
use crate::server::publications::unreadable;
use crate::sip::entity_tag::EntityTag;
use crate::sip::event::EventHeader;
use crate::sip::target::NextHop;
use crate::sip::{uri, xml_form};
use crate::time::{Expiry, Moment};
use crate::{limited, log};

impl Ports for Context {
    fn config(&self) -> &Config {
        self.config
    }
    fn packages(&self) -> &Packages {
        self.packages
    }
    fn now(&self) -> Moment {
        self.came_at.unwrap_or_else(clock::now)
    }
    fn now_in_micros(&self) -> Micros {
        clock::micros()
    }
    fn uri_rule(&self) -> UriComparison {
        self.shared.tables.rule()
    }

    fn note_package(&mut self, package: PackageId) {
        self.package = Some(package);
    }

    fn reply(&mut self, code: u16, reason: &str, headers: &[u8]) {
        if let Some(message) = self.message {
            let named = || message.event().and_then(EventHeader::parse).and_then(|header| self.packages.find(&header));
            let event = self.package.or_else(named);
            match message.is_publish() {
                true => metrics::publish_answered(event, code),
                false => metrics::subscribe_answered(event, code),
            }
            if !sl::reply(message, code, reason, headers) {
                limited!(Error, "cannot send the reply {code} {reason}");
            }
        }
    }

    fn reply_tag(&mut self) -> Result<Vec<u8>, Failure> {
        self.message.and_then(sl::reply_tag).ok_or_else(|| Failure::Internal("no To tag for the reply".into()))
    }

    fn new_entity_tag(&mut self, changes: u32) -> EntityTag {
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
    fn leave_out_unreadable(&self, documents: &mut Vec<Publication>) -> Option<Moment> {
        self.process.unreadable.leave_out(documents, clock::now())
    }
    fn note_unreadable(&mut self, resource: &Resource, document: &Publication, why: Unshown<'_>) {
        let Some(line) = self.process.unreadable.note(document, why, clock::now()) else { return };
        counters::count(Counter::DocumentsUnreadable);
        if let Some(others) = line {
            let (uri, etag) = (log::show(&resource.uri), log::show(document.etag.bytes()));
            let what = match why {
                Unshown::Unreadable => "cannot be read",
                Unshown::Alone => "shows nothing",
                Unshown::Among(_) => "does not go with the others",
            };
            log!(Warn, "a stored document of {uri} {what} and is passed over: entity tag {etag} ({others} others)");
        }
    }

    fn check_publish(&mut self, package: PackageId) -> PackageVerdict {
        match self.message {
            // Packages read the length of the body from Content-Length without looking whether it is there.
            Some(message) if message.has_content_length() => {
                let check = || self.registry.check_publish(package, message);
                match self.config.omit_xml_check && self.packages.get(package).check == BodyCheck::Form {
                    true => self.process.omitted_check.verdict(check),
                    false => check(),
                }
            }
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
        let ask = || self.process.registry.aggregate(package, user, domain, documents, offline);
        match (documents, offline) {
            ([single], None) if self.config.predict_bodies => {
                let found = || self.process.foreseen_body.take(uri, single);
                let expected = || found().or_else(|| foreseen(self.packages.get(package), uri, single));
                self.process.single_document_bodies.body(package, expected, ask)
            }
            _ => ask(),
        }
    }
    fn is_plain(&mut self, resource: &Resource, document: &[u8]) -> bool {
        let package = self.packages.get(resource.event);
        let may_be_shown = self.config.predict_bodies
            && package.has(Trait::Aggregates)
            && self.process.single_document_bodies.may_be_foreseen(resource.event)
            && self.shared.tables.shows_one_document(resource);
        let body = may_be_shown.then(|| foreseen(package, &resource.uri, document)).flatten();
        match body {
            Some(body) => {
                self.process.foreseen_body.keep(&resource.uri, document, body);
                true
            }
            None => xml_form::is_plain(document),
        }
    }
    fn filter_body(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, NoVerdict> {
        self.process.registry.filter_body(package, subscription, body)
    }
    fn watcher_body(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        body: Option<&[u8]>,
    ) -> Option<Vec<u8>> {
        let ask = || self.process.registry.watcher_body(package, subscription, body);
        let predicts = self.config.predict_bodies && self.config.share_watcher_bodies;
        match body {
            Some(body) if predicts && self.packages.get(package).bodies == Bodies::ByVersion => {
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
    ) -> Result<Authorization, NoVerdict> {
        // As with stock, which asks for no rules there.
        let without_rules = self.config.is_in_memory_only().then_some(Status::Active);
        self.process.registry.evaluate_rules(package, subscription, before, without_rules)
    }

    fn begin_judging(&mut self, resource: &Resource, sphere: Option<&[u8]>) -> u32 {
        self.registry.begin_pass();
        self.shared.judgements.begin(resource, sphere)
    }
    fn forget_rules(&mut self) {
        self.registry.begin_pass();
    }
    fn judgements(&self, resource: &Resource) -> u32 {
        self.shared.judgements.count(resource)
    }
    fn was_judged_in(&self, resource: &Resource, sphere: Option<&[u8]>) -> bool {
        self.shared.judgements.was_in(resource, sphere)
    }
    fn judged(&mut self, resource: &Resource, judgement: u32) {
        self.shared.judgements.carried_out(resource, judgement);
    }
    fn shut(&mut self, resource: &Resource) -> bool {
        !self.config.force_active && self.shared.judgements.shut(resource, clock::monotonic())
    }
    fn left_unjudged(&mut self, resource: &Resource, judgement: u32, outstanding: Outstanding, why: &Failure) {
        self.note_unjudged(resource, judgement, outstanding, why);
    }
    fn has_outstanding(&mut self, resource: &Resource) -> bool {
        self.shared.judgements.outstanding(resource).is_some()
    }
    fn judge_first(&mut self, resource: &Resource) -> Option<StoreError> {
        self.judge_outstanding(resource).err()
    }

    fn publish(&mut self, resource: &Resource, change: Change) -> Result<Applied, StoreError> {
        self.storage.queue.begin_change(&mut self.work, resource);
        let applied = self.storage.publications.change(resource, &change)?;
        if self.shared.history.is_on() {
            self.note_publication(resource, &change, &applied);
        }
        if !matches!(applied, Applied::NoMatch) {
            self.storage.queue.note_change(&mut self.work, resource);
        }
        Ok(applied)
    }
    fn documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        self.storage.publications.documents(resource)
    }
    fn composed(&mut self, resource: &Resource) -> Option<Option<Digested>> {
        self.storage.publications.composed(resource)
    }
    fn cache_composed(&mut self, resource: &Resource, documents: u32, body: Option<&Digested>, valid_until: Expiry) {
        self.storage.publications.cache_composed(resource, documents, body, valid_until)
    }
    fn forget(&mut self, resource: &Resource) {
        self.storage.publications.forget(resource)
    }
    fn hold_late(&mut self, late: &Late) -> bool {
        self.shared.late_documents.hold(late, clock::monotonic())
    }
    fn find_late(&mut self, resource: &Resource, etag: EntityTag<&[u8]>) -> Option<Late> {
        self.shared.late_documents.find(resource, etag, clock::monotonic())
    }
    fn due_late(&mut self, taken: Taken) -> Vec<Late> {
        self.shared.late_documents.due(self.shared.tables.rule(), clock::monotonic(), taken)
    }
    fn release_late(&mut self, late: &Late) {
        self.shared.late_documents.release(late);
    }
    fn take_ended_publications(&mut self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError> {
        let ended = self.storage.publications.take_ended(now, limit)?;
        for resource in &ended {
            counters::count(Counter::PublicationsExpired);
            self.shared.change_counts.note(resource);
            self.shared.history.note_change(&NewChange::of(resource, ChangeKind::RanOut), clock::monotonic_micros());
        }
        Ok(ended)
    }

    fn replicates(&self) -> bool {
        self.config.replicates
    }
    fn announce(&mut self, replica: &Replica) {
        if !self.broadcast_on(dmq::Channel::Publications, &replica.to_json()) {
            limited!(Error, "a change for {} could not be sent to the other nodes", log::show(&replica.user));
        }
    }
    fn expects_answers(&self) -> bool {
        self.shared.nodes.may_be_answered(clock::now())
    }
    fn was_removed(&self, resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> bool {
        let tombstones = self.shared.tombstones;
        tombstones.has(tombstones.of_publication(resource, ruid, etag))
    }
    fn row_limits(&self) -> Option<RowLimits> {
        Some(RowLimits { longest_body: self.database.longest_body()?, rows: self.storage.publications.rows() })
    }
    fn shares_publications(&self) -> bool {
        self.storage.publications.rows() != PublicationRows::None
    }

    fn subscribe(
        &mut self,
        subscription: &Subscription,
        resource: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError> {
        debug_assert_eq!(dialog.0, self.shared.tables.dialog_hash(subscription.dialog()));
        self.storage.subscriptions.subscribe(&mut self.work.rows, subscription, resource, dialog)
    }
    fn find_recent(&mut self, dialog: DialogId<'_>, cseq: u32) -> Result<Recent, StoreError> {
        let hash = self.shared.tables.dialog_hash(dialog);
        Ok(match self.storage.subscriptions.find_recent(dialog, hash)? {
            Some(made) => Recent::Made(Box::new(made)),
            None if self.shared.ended_dialogs.is_of_ended(hash, cseq, clock::monotonic()) => Recent::Over,
            None => Recent::New(NewDialog(hash)),
        })
    }
    fn find_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.storage.subscriptions.find(dialog)
    }
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        self.storage.subscriptions.renew(&mut self.work.rows, current, renewal)
    }
    fn unsubscribe(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        self.storage.subscriptions.unsubscribe(&mut self.work.rows, current, renewal)
    }
    fn end(&mut self, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError> {
        self.storage.subscriptions.end(&mut self.work.rows, dialog, reason)
    }
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        self.storage.subscriptions.remove(dialog)
    }
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        self.storage.subscriptions.subscriptions_to(resource)
    }
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError> {
        self.storage.subscriptions.watcher_count(resource)
    }
    fn count_subscriptions_of(&mut self, subscription: &Subscription) -> Result<usize, StoreError> {
        self.storage.subscriptions.count_of_watcher(subscription)
    }
    fn memory_used(&self) -> usize {
        100 - (shm::available() * 100).checked_div(shm::size()).unwrap_or(100).min(100)
    }
    fn end_expired(&mut self, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let ended = self.storage.subscriptions.end_expired(&mut self.work.rows, now, limit)?;
        ended.iter().for_each(|_| counters::count(Counter::SubscriptionsExpired));
        Ok(ended)
    }
    fn set_authorization(&mut self, dialog: DialogId<'_>, authorization: &Authorization) -> Result<bool, StoreError> {
        self.storage.subscriptions.set_authorization(&mut self.work.rows, dialog, authorization)
    }

    fn may_be_subscribed_to(&self, event: PackageId) -> bool {
        self.storage.subscriptions.may_be_subscribed_to(event)
    }
    fn may_be_watched(&mut self, resource: &Resource) -> bool {
        self.storage.subscriptions.may_be_watched(resource)
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

    fn note_composed(&mut self, resource: &Resource, body: BodyDigest) {
        let change = NewChange { body, ..NewChange::of(resource, ChangeKind::Composed) };
        self.shared.history.note_change(&change, clock::monotonic_micros());
    }
    fn last_notify(&mut self, resource: &Resource, dialog: DialogId<'_>) -> Option<SentNotify> {
        self.shared.history.last_notify(&resource.uri, dialog_mark(dialog))
    }
    fn note_end(&mut self, subscription: &Subscription, cause: Cause) {
        metrics::subscription_ended(subscription.state.event, cause);
        let dialog = subscription.dialog();
        let hash = self.shared.tables.dialog_hash(dialog);
        self.shared.ended_dialogs.note(hash, subscription.state.remote_cseq, clock::monotonic());
        if self.shared.history.is_on() {
            let past = self.shared.tables.notify_history(dialog);
            self.shared.history.note_end(subscription, cause, past, clock::monotonic_micros());
        }
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
        self.shared.tables.notify_history(dialog)
    }
    fn queue_state(&mut self, resource: &Resource) -> QueueState {
        self.shared.tables.queue_state(resource)
    }

    fn enqueue(&mut self, resource: &Resource, event: StateChange<'_>) -> bool {
        self.storage.queue.enqueue(&mut self.work, resource, event)
    }
    fn mark(&mut self, resource: &Resource, event: StateChange<'_>) -> bool {
        self.storage.queue.mark(&mut self.work, resource, event)
    }
    fn claim(&mut self, resource: &Resource) -> bool {
        self.storage.queue.claim(&mut self.work, resource)
    }
    fn interrupted(&mut self, resource: &Resource, unsent: Unsent, why: &str) {
        let count = unsent.notifies.len();
        metrics::notify_unsent(resource.event, count);
        let first = unsent.notifies.first().cloned();
        let retry = self.storage.queue.make_due_again(&mut self.work, resource, unsent, Again::Once);
        let then = if retry { "tried again" } else { "the next change is sent to them" };
        if let Some(notify) = first {
            log!(
                Error,
                "panic while NOTIFYs were sent for {}, to {} and {} more ({then}): {why}",
                log::show(&resource.uri),
                log::show(&notify.subscription.watcher_uri()),
                count - 1,
            );
        }
    }
    fn broken_off(&mut self, resource: &Resource, why: &str) {
        self.storage.queue.make_all_due(&mut self.work, resource);
        let uri = log::show(&resource.uri);
        log!(Error, "panic while a change of {uri} was made known, its watchers are notified once more: {why}");
    }
    fn left_unread(&mut self, resource: &Resource, unsent: Unsent, why: StoreError) {
        metrics::notify_unsent(resource.event, unsent.notifies.len());
        let retry = self.storage.queue.make_due_again(&mut self.work, resource, unsent, Again::WhenRead);
        let then = if retry { "they are notified when it can" } else { "they are notified of the next change" };
        let uri = log::show(&resource.uri);
        limited!(Error, "the state of a presentity cannot be read for its watchers ({then}): {why}, {uri}");
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
        // One entry may have run after run to send.
        self.came_at = self.came_at.map(|_| clock::now());
        let unjudged = self.judge_outstanding(resource).err();
        if unjudged.is_none() {
            self.registry.begin_pass();
        }
        let notify_run = self.storage.queue.begin_run(&mut self.work, resource)?;
        Some(NotifyRun { unjudged, is_second_try: self.work.is_second_try(), ..notify_run })
    }
    fn next_batch(&mut self, resource: &Resource, notify_run: &mut NotifyRun) -> Vec<Notify> {
        self.shared.engine.part();
        let batch = self.storage.queue.next_batch(&mut self.work, resource, notify_run);
        if batch.len() > 1 {
            self.shared.engine.join();
        }
        if batch.is_empty() {
            note_all_notified(resource, notify_run);
        }
        batch
    }

    fn record_notified(&mut self, resource: &Resource, notify_run: &NotifyRun, notified: &[NotifyRecord]) {
        self.shared.engine.part();
        self.shared.tables.record_notified(resource, notified);
        if notify_run.is_at_end {
            note_all_notified(resource, notify_run);
        }
    }

    fn send_notify(&mut self, notify: &Notify, headers: &[u8], body: Option<&[u8]>, digest: BodyDigest) {
        let hop = notify.subscription.hop();
        if !matches!(hop, NextHop::Name { .. }) || !self.leaves_to_names(notify, headers, body, digest) {
            self.send_now(notify, hop, headers, body, digest);
        }
    }
}

/// The pass is over: how long its change took to all watchers.
fn note_all_notified(resource: &Resource, notify_run: &NotifyRun) {
    if notify_run.changed_at > 0 {
        metrics::change_notified(resource.event, clock::monotonic_micros().saturating_sub(notify_run.changed_at));
    }
}

impl Context {
    /// Sends a NOTIFY from this process; `false` when it could not be sent.
    pub(crate) fn send_now(
        &mut self,
        notify: &Notify,
        hop: NextHop,
        headers: &[u8],
        body: Option<&[u8]>,
        digest: BodyDigest,
    ) -> bool {
        fault_point!("notify");
        self.log_notify(notify);
        let s = &notify.subscription;
        let sent_at = clock::monotonic_micros();
        let number = self.note_notify(notify, digest, sent_at);
        let is_udp = hop.is_udp();
        let under_way = UnderWay { event: s.state.event, sent_at, is_udp, number };
        let senders = self.shared.senders;
        if is_udp {
            senders.outstanding.note_sent(sent_at);
        }
        let content = Content { headers, body };
        let is_direct = self.shared.engine.send(s, hop, content, under_way);
        counters::count(if is_direct { Counter::NotifyDirect } else { Counter::NotifyByTm });
        let sent = match is_direct {
            true => Ok(tm::Sent::UnderWay),
            false => self.send_through_tm(notify, content, under_way),
        };
        if sent != Ok(tm::Sent::UnderWay) {
            if is_udp {
                senders.outstanding.note_done(sent_at);
            }
        } else if let Some(pace) = &mut self.work.pace {
            pace.step(senders, Way { by_tm: !is_direct, is_udp });
        }
        match sent.is_ok() {
            true => metrics::notify_sent(s.state.event, notify.notify_reason),
            false => {
                if notify.notify_reason != NotifyReason::Change {
                    self.unanswered.push(OwnDialogId::of(s.dialog()));
                }
                self.note_unsent(notify);
            }
        }
        sent.is_ok()
    }

    /// Takes note of a NOTIFY that could not be sent.
    pub(crate) fn note_unsent(&self, notify: &Notify) {
        let s = &notify.subscription;
        metrics::notify_unsent(s.state.event, 1);
        limited!(
            Error,
            "NOTIFY to {} via {} for {}, event {}, Call-ID {}, could not be sent",
            log::show(&s.remote_uri().to_vec()),
            log::show(s.get(Field::Contact)),
            log::show(s.get(Field::PresUri)),
            log::show(self.packages.get(s.state.event).name),
            log::show(s.get(Field::CallId))
        );
    }
}

/// What a package makes of a single document, where that is plain to see.
fn foreseen(package: &Package, presentity: &[u8], document: &[u8]) -> Option<Vec<u8>> {
    if package.is_dialog() {
        let (user, domain) = uri::split(presentity);
        return xml_form::dialog_info(document, &[b"sip:", user, b"@", domain].concat());
    }
    // presence_xml makes nothing of a document that is none of its own.
    match package.name == b"presence" && !xml_form::has_root(document, b"presence") {
        true => None,
        false => xml_form::formatted(document),
    }
}
