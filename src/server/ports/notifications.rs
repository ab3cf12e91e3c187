//! The ports of NOTIFYs: the queue of a resource, runs over its watchers, and what becomes of those that break off.
use crate::common::metrics;
use crate::host::clock;
use crate::host::log;
use crate::presence::error::StoreError;
use crate::presence::history::remembered::BodyDigest;
use crate::presence::notification::{Notify, NotifyHistory, NotifyRecord, NotifyRun, QueueState, StateChange, Unsent};
use crate::presence::ports::notifications::Notifications;
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::server::context::Context;
use crate::server::judging;
use crate::server::notify::{named_sender, sending};
use crate::server::work::Again;
use crate::sip::target::NextHop;
use crate::{limited, log};

impl Notifications for Context<'_> {
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
    fn take_back(&mut self, resource: &Resource, notify: &Notify) {
        self.storage.queue.take_back(&mut self.work, resource, notify);
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
        let short = crate::server::notifications::senders::memory_is_short();
        if short {
            limited!(Warn, "shared memory is short: subscriptions that ran out are ended step by step (option -m)");
            self.shared.senders.note_left_over();
        }
        !short
    }
    fn begin_run(&mut self, resource: &Resource) -> Option<NotifyRun> {
        // One entry may have run after run to send.
        self.came_at = self.came_at.map(|_| clock::now());
        let unjudged = judging::judge_outstanding(self, resource).err();
        if unjudged.is_none() {
            self.registry.begin_pass();
        }
        let notify_run = self.storage.queue.begin_run(&mut self.work, resource)?;
        Some(NotifyRun { unjudged, attempt: self.work.attempt(), ..notify_run })
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
        if !matches!(hop, NextHop::Name { .. }) || !named_sender::takes_over(self, notify, headers, body, digest) {
            sending::send(self, notify, hop, headers, body, digest);
        }
    }
}

/// The pass has ended: how long its change took to all watchers.
fn note_all_notified(resource: &Resource, notify_run: &NotifyRun) {
    if let Some(changed_at) = notify_run.changed_at {
        metrics::change_notified(resource.event, clock::micro_tick().since(changed_at));
    }
}
