//! Queues in a map; what is sent is kept in a list.
use crate::presence::error::StoreError;
use crate::presence::history::remembered::BodyDigest;
use crate::presence::notification::{
    Notify, NotifyHistory, NotifyReason, NotifyRecord, NotifyRun, QueueState, StateChange, Unsent,
};
use crate::presence::ports::authorizations::Authorizations;
use crate::presence::ports::notifications::Notifications;
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::testing::{MemoryPorts, Sent};
use crate::presence::winfo::Extent;
use crate::presence::winfo::MOST_CHANGES;

impl Notifications for MemoryPorts {
    fn notify_history(&mut self, dialog: DialogId<'_>) -> NotifyHistory {
        let slot = self.slot_of(dialog);
        slot.and_then(|slot| self.entries[slot].as_ref()).map(|entry| entry.history).unwrap_or_default()
    }
    fn queue_state(&mut self, resource: &Resource) -> QueueState {
        let queue = self.queue(resource);
        QueueState { busy: queue.busy, pending: queue.pending }
    }
    fn enqueue(&mut self, resource: &Resource, change: StateChange<'_>) -> bool {
        self.mark(resource, change) && self.claim(resource)
    }
    fn claim(&mut self, resource: &Resource) -> bool {
        let queue = self.queue(resource);
        let sends = queue.pending && !queue.busy;
        queue.busy |= sends;
        sends
    }
    fn mark(&mut self, resource: &Resource, change: StateChange<'_>) -> bool {
        let watched = self.entries.iter().flatten().any(|entry| self.watches(entry, resource));
        match change {
            StateChange::State { sender, transient_body } => {
                let queue = self.queue(resource);
                queue.generation += 1;
                queue.transient_body = transient_body.filter(|_| watched);
                queue.pending |= watched;
                let generation = queue.generation;
                let places: Vec<usize> = (0..self.entries.len()).collect();
                for at in places {
                    let skip = self.entries[at].as_ref().is_some_and(|entry| {
                        !sender.is_empty()
                            && self.watches(entry, resource)
                            && entry.subscription.get(Field::Contact) == sender
                    });
                    if let Some(entry) = self.entries[at].as_mut().filter(|_| skip) {
                        entry.seen.pass_over(generation);
                    }
                }
            }
            StateChange::Watchers { .. } if !watched => return false,
            StateChange::Watchers { watcher, extent } => {
                let queue = self.queue(resource);
                queue.generation += 1;
                queue.pending = true;
                queue.changes.retain(|other| (&other.uri, &other.id) != (&watcher.uri, &watcher.id));
                queue.changes.push(watcher);
                if extent == Extent::Full || queue.changes.len() > MOST_CHANGES {
                    queue.extent = Extent::Full;
                }
            }
            StateChange::Subscription(dialog, notify_reason) => {
                if let Some(entry) = self.slot_of(dialog).and_then(|slot| self.entries[slot].as_mut()) {
                    entry.due = Some(notify_reason);
                }
                self.queue(resource).pending = true;
            }
            StateChange::Due => {}
        }
        let queue = self.queue(resource);
        queue.pending && !queue.busy
    }
    fn begin_run(&mut self, resource: &Resource) -> Option<NotifyRun> {
        if let Some(left) = self.panics_for_presentity.get_mut(&resource.uri).filter(|left| **left > 0) {
            *left -= 1;
            panic!("asked for by the test");
        }
        let (unjudged, attempt) = (self.judge_first(resource), self.attempt);
        let queue = self.queue(resource);
        if !queue.pending {
            queue.busy = false;
            return None;
        }
        queue.pending = false;
        Some(NotifyRun {
            cursor: 0,
            unjudged,
            attempt,
            generation: queue.generation,
            documents: queue.documents,
            transient_body: queue.transient_body.take(),
            changes: std::mem::take(&mut queue.changes),
            extent: std::mem::take(&mut queue.extent),
            changed_at: None,
            is_at_end: false,
        })
    }
    fn next_batch(&mut self, resource: &Resource, run: &mut NotifyRun) -> Vec<Notify> {
        let last = std::mem::take(&mut self.queue(resource).final_notifies);
        if run.cursor == 0 && !last.is_empty() {
            return last;
        }
        self.queue(resource).final_notifies = last;
        let (mut batch, now) = (Vec::new(), self.now);
        while run.cursor < self.entries.len() && batch.len() < 2 {
            let slot = run.cursor;
            run.cursor += 1;
            let is_watcher = self.entries[slot].as_ref().is_some_and(|entry| self.watches(entry, resource));
            let Some(entry) = self.entries[slot].as_mut().filter(|_| is_watcher) else { continue };
            let is_older = entry.seen.is_behind(run.generation);
            let notify_reason = match entry.due.take() {
                Some(own) => own,
                None if !is_older => continue,
                None if !entry.subscription.is_notified_of_changes(now) => {
                    entry.seen.notified(run.generation);
                    continue;
                }
                None => {
                    entry.seen.notified(run.generation);
                    NotifyReason::Change
                }
            };
            entry.subscription.state.local_cseq += 1;
            entry.subscription.state.version += 1;
            entry.history.notified_at = Some(self.now.into());
            batch.push(Notify { subscription: entry.subscription.clone(), notify_reason, slot: Some(slot as u32) });
        }
        batch
    }
    fn record_notified(&mut self, _resource: &Resource, _run: &NotifyRun, records: &[NotifyRecord]) {
        for record in records {
            if let Some(Some(entry)) = self.entries.get_mut(record.slot as usize) {
                entry.history.body = record.body;
            }
        }
    }
    fn take_back(&mut self, _: &Resource, notify: &Notify) {
        let slot = self.slot_of(notify.subscription.dialog());
        if let Some(entry) = slot.and_then(|slot| self.entries[slot].as_mut()) {
            let (counted, unused) = (&mut entry.subscription.state, &notify.subscription.state);
            if (counted.local_cseq, counted.version) == (unused.local_cseq, unused.version) {
                (counted.local_cseq, counted.version) = (unused.local_cseq - 1, unused.version - 1);
            }
        }
    }
    fn interrupted(&mut self, resource: &Resource, unsent: Unsent, _why: &str) {
        for notify in unsent.notifies {
            let slot = self.slot_of(notify.subscription.dialog());
            if let Some(entry) = slot.and_then(|slot| self.entries[slot].as_mut()) {
                entry.due = Some(notify.notify_reason);
            }
        }
        let queue = self.queue(resource);
        queue.busy = false;
        queue.pending = true;
        if queue.generation == unsent.generation && queue.transient_body.is_none() {
            queue.transient_body = unsent.transient_body;
        }
    }
    fn broken_off(&mut self, resource: &Resource, _why: &str) {
        let queue = self.queue(resource);
        queue.generation = queue.generation.wrapping_add(1);
        (queue.busy, queue.pending) = (false, true);
    }
    fn left_unread(&mut self, resource: &Resource, unsent: Unsent, _: StoreError) {
        self.interrupted(resource, unsent, "");
    }
    fn may_send_more(&mut self) -> bool {
        !self.memory_is_short
    }
    fn send_notify(&mut self, notify: &Notify, headers: &[u8], body: Option<&[u8]>, _: BodyDigest) {
        let headers = String::from_utf8_lossy(headers).into_owned();
        let state = headers.lines().find_map(|line| line.strip_prefix("Subscription-State: ")).unwrap_or_default();
        let subscription = &notify.subscription;
        let call_id = String::from_utf8_lossy(subscription.get(Field::CallId)).into_owned();
        assert!(!self.panics_for.contains(&call_id), "asked for by the test");
        self.sent.push(Sent {
            call_id,
            to_tag: String::from_utf8_lossy(subscription.dialog().to_tag).into_owned(),
            reason: notify.notify_reason,
            cseq: subscription.state.local_cseq + 1,
            version: subscription.state.version,
            state: state.to_string(),
            body: body.map(|body| String::from_utf8_lossy(body).into_owned()),
        });
        self.interrupt();
    }
}
