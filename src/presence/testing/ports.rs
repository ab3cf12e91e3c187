//! What the handlers ask of a server, answered from memory.
use super::{Entry, MemoryPorts, Reply, Sent, key};
use crate::presence::authorization::{Authorization, NoVerdict, Outstanding};
use crate::presence::config::Config;
use crate::presence::dialog::DialogId;
use crate::presence::ended::{Cause, Ended};
use crate::presence::error::{Failure, StoreError};
use crate::presence::event_package::{PackageId, PackageVerdict, Packages};
use crate::presence::judgement;
use crate::presence::late::{self, Late, Taken};
use crate::presence::notification::{
    Notify, NotifyHistory, NotifyReason, NotifyRecord, NotifyRun, QueueState, StateChange, Unsent,
};
use crate::presence::ports::{NewDialog, Ports, Recent, Renewed, Stored};
use crate::presence::publication::{Applied, Change, Keeps, Plan, Publication};
use crate::presence::remembered::{BodyDigest, Digested};
use crate::presence::replica::Replica;
use crate::presence::resource::{Resource, UriComparison};
use crate::presence::seen::Seen;
use crate::presence::subscription::{Renewal, Status, Subscription};
use crate::presence::subscription_field::Field;
use crate::presence::unreadable::Unshown;
use crate::presence::winfo::{MOST_CHANGES, Watcher};
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment, Seconds};

/// Whether a document has one root element and all its elements are closed.
fn well_formed(document: &[u8]) -> bool {
    use quick_xml::events::Event as Xml;
    let mut reader = quick_xml::Reader::from_reader(document);
    let (mut depth, mut roots) = (0usize, 0usize);
    loop {
        match reader.read_event() {
            Ok(Xml::Start(_)) => {
                roots += usize::from(depth == 0);
                depth += 1;
            }
            Ok(Xml::Empty(_)) => roots += usize::from(depth == 0),
            Ok(Xml::End(_)) => depth = depth.saturating_sub(1),
            Ok(Xml::Text(text)) if depth == 0 && !text.trim_ascii().is_empty() => return false,
            Ok(Xml::DocType(_)) | Err(_) => return false,
            Ok(Xml::Eof) => return depth == 0 && roots == 1,
            Ok(_) => {}
        }
    }
}

impl Ports for MemoryPorts {
    fn config(&self) -> &Config {
        &self.config
    }
    fn packages(&self) -> &Packages {
        &self.packages
    }
    fn now(&self) -> Moment {
        self.now
    }
    fn uri_rule(&self) -> UriComparison {
        UriComparison { ignore_case: self.config.ignore_case, seed: self.config.hash_seed }
    }
    fn reply(&mut self, code: u16, _reason: &str, headers: &[u8]) {
        self.replies.push(Reply { code, headers: String::from_utf8_lossy(headers).into_owned() });
        self.interrupt();
    }
    fn reply_tag(&mut self) -> Result<Vec<u8>, Failure> {
        self.next_id += 1;
        Ok(self.reply_tag.map_or_else(|| format!("to{}", self.next_id), str::to_string).into_bytes())
    }
    fn new_entity_tag(&mut self, changes: u32) -> EntityTag {
        self.next_id += 1;
        EntityTag::from(format!("a.1.2.{}.{changes}", self.next_id).as_str())
    }
    fn new_ruid(&mut self) -> Vec<u8> {
        self.next_id += 1;
        format!("pres-{}", self.next_id).into_bytes()
    }
    fn reads(&self, document: &[u8]) -> bool {
        well_formed(document)
    }
    fn is_plain(&mut self, _resource: &Resource, document: &[u8]) -> bool {
        crate::sip::xml_form::is_plain(document)
    }
    fn in_utf8(&self, document: &[u8]) -> Option<Vec<u8>> {
        Some(document.to_vec())
    }
    fn leave_out_unreadable(&self, documents: &mut Vec<Publication>) -> Option<Moment> {
        self.unreadable.leave_out(documents, self.now)
    }
    fn note_unreadable(&mut self, _resource: &Resource, document: &Publication, why: Unshown<'_>) {
        self.unreadable.note(document, why, self.now);
    }
    fn check_publish(&mut self, _package: PackageId) -> PackageVerdict {
        PackageVerdict::Fine
    }
    fn check_subscribe(&mut self, _package: PackageId) -> PackageVerdict {
        PackageVerdict::Fine
    }
    fn aggregate(
        &mut self,
        _package: PackageId,
        _uri: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> Option<Vec<u8>> {
        if self.makes_nothing_of.is_some_and(|makes_nothing_of| makes_nothing_of(documents)) {
            return None;
        }
        let shown = |(at, body): (usize, &&[u8])| {
            let closed = if Some(at) == offline { "closed " } else { "" };
            format!("{closed}{}", String::from_utf8_lossy(body))
        };
        let bodies: Vec<String> = documents.iter().enumerate().map(shown).collect();
        (!bodies.is_empty()).then(|| bodies.join("|").into_bytes())
    }
    fn filter_body(
        &mut self,
        _package: PackageId,
        subscription: &Subscription,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, NoVerdict> {
        if let Some(why) = self.no_verdict {
            return Err(why);
        }
        let watcher = String::from_utf8_lossy(subscription.get(Field::WatcherUser)).into_owned();
        Ok(Some([b"for ", watcher.as_bytes(), b": ", body].concat()))
    }
    fn watcher_body(&mut self, _: PackageId, _: &Subscription, _: Option<&[u8]>) -> Option<Vec<u8>> {
        None
    }
    fn evaluate_rules(
        &mut self,
        _package: PackageId,
        subscription: &Subscription,
        _before: Status,
    ) -> Result<Authorization, NoVerdict> {
        self.evaluations += 1;
        if let Some(why) = self.no_verdict {
            return Err(why);
        }
        let names = (subscription.get(Field::PresUri).to_vec(), subscription.watcher_uri());
        let pending = Authorization { status: Status::Pending, reason: Vec::new() };
        let said = self.rules.get(&names).cloned().unwrap_or(pending);
        if let Some(meanwhile) = self.while_judging.pop_front() {
            meanwhile(self);
        }
        Ok(said)
    }

    fn begin_judging(&mut self, resource: &Resource, sphere: Option<&[u8]>) -> u32 {
        self.spheres.insert(key(resource), sphere.map(<[u8]>::to_vec));
        self.judgements += 1;
        self.judgements
    }
    fn judgements(&self, _resource: &Resource) -> u32 {
        self.judgements
    }
    fn was_judged_in(&self, resource: &Resource, sphere: Option<&[u8]>) -> bool {
        self.spheres.get(&key(resource)).is_some_and(|judged| judged.as_deref() == sphere)
    }
    fn judged(&mut self, resource: &Resource, judgement: u32) {
        self.unjudged.remove(&key(resource));
        self.shut.retain(|shut, since| *shut != key(resource) || *since > judgement);
    }
    fn shut(&mut self, resource: &Resource) -> bool {
        self.judgements += 1;
        self.shut.insert(key(resource), self.judgements);
        true
    }
    fn left_unjudged(&mut self, resource: &Resource, judgement: u32, outstanding: Outstanding, _why: &Failure) {
        self.unjudged.insert(key(resource), outstanding);
        self.shut.retain(|shut, since| *shut != key(resource) || *since > judgement);
    }
    fn has_outstanding(&mut self, resource: &Resource) -> bool {
        self.unjudged.contains_key(&key(resource))
    }
    fn judge_first(&mut self, resource: &Resource) -> Option<StoreError> {
        if self.shut.contains_key(&key(resource)) {
            // What fails is noted there.
            let _ = judgement::authorizations(self, resource);
        }
        let is_outstanding = self.unjudged.get(&key(resource)) == Some(&Outstanding::Subscribed);
        (is_outstanding || self.shut.contains_key(&key(resource))).then_some(NoVerdict::Outstanding.into())
    }

    fn publish(&mut self, resource: &Resource, change: Change) -> Result<Applied, StoreError> {
        if self.panics_at_stores > 0 {
            self.panics_at_stores -= 1;
            panic!("asked for by the test");
        }
        self.may_store()?;
        let list = self.publications.entry(key(resource)).or_default();
        let applied = match (Plan::of(list, &change), change) {
            (Plan::Insert { replaced, trimmed, keeps }, change @ (Change::Insert(_) | Change::End(_))) => {
                let kept = keeps.map(|at| list[at].clone());
                for at in trimmed {
                    let others = match &change {
                        Change::Insert(new) => list[at].without(&new.dialogs.view()),
                        Change::End(dialogs) => list[at].without(&dialogs.view()),
                        _ => None,
                    };
                    list[at] = others.unwrap_or_else(|| list[at].clone());
                }
                for at in replaced.into_iter().rev() {
                    self.removed.push(list.remove(at).ruid);
                }
                match (change, kept) {
                    (Change::Insert(new), Some(kept)) => list.push(new.keeping(kept)),
                    (Change::Insert(new), None) => list.push(new),
                    _ => return Ok(Applied::Ended),
                }
                Applied::Inserted
            }
            (Plan::Modify { at, keeps }, Change::Modify(new)) => {
                if keeps == Keeps::Everything {
                    return Ok(Applied::Modified { keeps });
                }
                let mut document = list.remove(at);
                document.renew(&new, keeps);
                let changed = keeps == Keeps::Nothing;
                if let Some(body) = new.body.filter(|_| changed) {
                    document.body = body;
                    document.dialogs = new.dialogs;
                }
                list.push(document);
                Applied::Modified { keeps }
            }
            (Plan::Remove { at }, Change::Remove(_)) => {
                let old = list.remove(at);
                self.removed.push(old.ruid.clone());
                Applied::Removed(old, at)
            }
            _ => return Ok(Applied::NoMatch),
        };
        self.queue(resource).documents += 1;
        Ok(applied)
    }
    fn documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError> {
        self.may_read()?;
        let now = self.now;
        let live = |d: &&Publication| d.expires_at.is_after(now);
        let list = self.publications.get(&key(resource));
        Ok(list.into_iter().flatten().filter(live).cloned().collect())
    }
    fn composed(&mut self, _resource: &Resource) -> Option<Option<Digested>> {
        None
    }
    fn cache_composed(&mut self, _: &Resource, _: u32, _: Option<&Digested>, valid_until: Expiry) {
        self.composed_until = Some(valid_until);
    }
    fn forget(&mut self, _resource: &Resource) {}
    fn hold_late(&mut self, late: &Late) -> bool {
        self.late.push((self.now + Seconds(late::HELD_SECS as i64), late.clone()));
        true
    }
    fn find_late(&mut self, resource: &Resource, etag: EntityTag<&[u8]>) -> Option<Late> {
        let later = self.now + Seconds(late::HELD_SECS as i64);
        let (due, late) = self.late.iter_mut().find(|(_, late)| late.resource == *resource && late.etag == etag)?;
        *due = later;
        Some(late.clone())
    }
    fn due_late(&mut self, taken: Taken) -> Vec<Late> {
        let now = self.now;
        let due = self.late.iter_mut().filter(|(at, _)| taken == Taken::All || *at <= now);
        due.map(|(at, late)| {
            let due = late.clone();
            late.tries += 1;
            *at = now + Seconds(late::pause(late.tries) as i64);
            due
        })
        .collect()
    }
    fn release_late(&mut self, late: &Late) {
        self.late
            .retain(|(_, held)| (&held.resource, &held.etag, &held.body) != (&late.resource, &late.etag, &late.body));
    }
    fn take_ended_publications(&mut self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError> {
        let rule = self.uri_rule();
        let mut ended = Vec::new();
        for ((uri, event), list) in &mut self.publications {
            while ended.len() < limit {
                let Some(at) = list.iter().position(|d| d.expires_at.is_before(now)) else { break };
                list.remove(at);
                ended.push(rule.resource(uri, PackageId(*event)));
            }
        }
        Ok(ended)
    }
    fn replicates(&self) -> bool {
        self.config.replicates
    }
    fn announce(&mut self, replica: &Replica) {
        self.announced.push(replica.clone());
    }
    fn expects_answers(&self) -> bool {
        false
    }
    fn was_removed(&self, _resource: &Resource, ruid: &[u8], _etag: EntityTag<&[u8]>) -> bool {
        !ruid.is_empty() && self.removed.iter().any(|removed| removed == ruid)
    }
    fn shares_publications(&self) -> bool {
        false
    }

    fn subscribe(
        &mut self,
        subscription: &Subscription,
        _resource: &Resource,
        _dialog: NewDialog,
    ) -> Result<Stored, StoreError> {
        if self.slot_of(subscription.dialog()).is_some() {
            return Ok(Stored::Known);
        }
        self.may_store()?;
        let mut subscription = subscription.clone();
        subscription.state.version += u32::from(subscription.state.status == Status::Terminated);
        let resource = self.resource_of(&subscription);
        let seen = Seen::up_to(self.queue(&resource).generation);
        let entry = Some(Entry { subscription, seen, due: None, history: NotifyHistory::default() });
        match self.entries.iter().position(Option::is_none) {
            Some(free) => self.entries[free] = entry,
            None => self.entries.push(entry),
        }
        Ok(Stored::New)
    }
    fn find_recent(&mut self, dialog: DialogId<'_>, cseq: u32) -> Result<Recent, StoreError> {
        if let Some(found) = self.find_subscription(dialog)? {
            return Ok(Recent::Made(Box::new(found)));
        }
        let same = |known: &Subscription| known.dialog() == dialog && cseq <= known.state.remote_cseq;
        Ok(if self.over.iter().any(same) { Recent::Over } else { Recent::New(NewDialog(0)) })
    }
    fn find_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        Ok(self.slot_of(dialog).and_then(|slot| self.entries[slot].as_ref()).map(|entry| entry.subscription.clone()))
    }
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        if let Some(meanwhile) = self.meanwhile.pop_front() {
            meanwhile(self);
        }
        self.may_store()?;
        let Some(slot) = self.slot_of(current.dialog()) else { return Ok(Renewed::Gone) };
        let Some(entry) = &mut self.entries[slot] else { return Ok(Renewed::Gone) };
        let state = entry.subscription.state;
        if state.local_cseq != current.state.local_cseq {
            return Ok(Renewed::Overtaken(Box::new(entry.subscription.clone())));
        }
        entry.subscription = entry.subscription.with(&renewal.changes()).map_err(|_| StoreError::NoMemory)?;
        entry.subscription.state = state;
        entry.subscription.state.expires_at = renewal.expires_at;
        entry.subscription.state.remote_cseq = renewal.remote_cseq;
        entry.subscription.state.refreshed_at = Some(self.now);
        Ok(Renewed::Done)
    }
    fn unsubscribe(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError> {
        match self.renew(current, renewal)? {
            Renewed::Done => {
                if let Err(error) = self.may_store() {
                    let slot = self.slot_of(current.dialog());
                    let entry = slot.and_then(|slot| self.entries[slot].as_mut());
                    entry.into_iter().for_each(|entry| entry.subscription = current.clone());
                    return Err(error);
                }
                let ended = self.take(current.dialog(), Some((NotifyReason::Unsubscribe, None)));
                Ok(ended.map_or(Renewed::Gone, |_| Renewed::Done))
            }
            other => Ok(other),
        }
    }
    fn end(&mut self, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError> {
        self.may_store()?;
        Ok(self.take(dialog, Some((NotifyReason::Ended, Some(reason)))).is_some())
    }
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError> {
        Ok(self.take(dialog, None))
    }
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        self.may_read()?;
        let found = self.entries.iter().flatten().filter(|entry| self.watches(entry, resource));
        Ok(found.map(|entry| entry.subscription.clone()).collect())
    }
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError> {
        Ok(self.subscriptions(resource)?.len())
    }
    fn count_subscriptions_of(&mut self, subscription: &Subscription) -> Result<usize, StoreError> {
        let watcher = subscription.watcher_uri();
        Ok(self.entries.iter().flatten().filter(|entry| entry.subscription.watcher_uri() == watcher).count())
    }
    fn may_be_subscribed_to(&self, _event: PackageId) -> bool {
        true
    }
    fn may_be_watched(&mut self, resource: &Resource) -> bool {
        self.entries.iter().flatten().any(|entry| self.watches(entry, resource))
    }
    fn memory_used(&self) -> usize {
        self.memory
    }
    fn end_expired(&mut self, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError> {
        let over = |entry: &&Entry| entry.subscription.state.expires_at + self.config.expires_offset < now;
        let due: Vec<Subscription> =
            self.entries.iter().flatten().filter(over).take(limit).map(|entry| entry.subscription.clone()).collect();
        for subscription in &due {
            let last = (subscription.state.status != Status::Terminated)
                .then_some((NotifyReason::Ended, Some(&b"timeout"[..])));
            self.take(subscription.dialog(), last);
        }
        Ok(due)
    }
    fn set_authorization(&mut self, dialog: DialogId<'_>, decision: &Authorization) -> Result<bool, StoreError> {
        self.may_store()?;
        let Some(slot) = self.slot_of(dialog) else { return Ok(false) };
        let Some(entry) = &mut self.entries[slot] else { return Ok(false) };
        let subscription = &entry.subscription;
        if subscription.state.status == decision.status && subscription.get(Field::Reason) == decision.reason {
            return Ok(false);
        }
        let changed = subscription.with(&[(Field::Reason, &decision.reason)]).map_err(|_| StoreError::NoMemory)?;
        entry.subscription = changed;
        entry.subscription.state.status = decision.status;
        Ok(true)
    }

    fn authorization(&mut self, subscription: &Subscription) -> Result<Option<Authorization>, StoreError> {
        let resource = self.resource_of(subscription);
        let known = self.known.get(&(key(&resource), subscription.watcher_uri()));
        Ok(known.map(|k| Authorization { status: k.state.status, reason: k.get(Field::Reason).to_vec() }))
    }
    fn store_authorization(&mut self, subscription: &Subscription, decision: &Authorization) -> Result<(), StoreError> {
        let resource = self.resource_of(subscription);
        let given = [
            (Field::PresUri, subscription.get(Field::PresUri)),
            (Field::WatcherUser, subscription.get(Field::WatcherUser)),
            (Field::WatcherDomain, subscription.get(Field::WatcherDomain)),
            (Field::Reason, decision.reason.as_slice()),
        ];
        let known = Subscription::without_dialog(resource.event, decision.status, &given);
        let known = known.map_err(|_| StoreError::NoMemory)?;
        self.known.insert((key(&resource), subscription.watcher_uri()), known);
        Ok(())
    }
    fn store_first_authorization(&mut self, s: &Subscription, decision: &Authorization) -> Result<(), StoreError> {
        self.store_authorization(s, decision)
    }
    fn known_watchers(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError> {
        let wanted = key(resource);
        Ok(self.known.iter().filter(|((of, _), _)| *of == wanted).map(|(_, known)| known.clone()).collect())
    }
    fn waiting_watchers(&mut self, _resource: &Resource) -> Result<Vec<Watcher>, StoreError> {
        Ok(self.waiting.clone())
    }
    fn note_end(&mut self, subscription: &Subscription, cause: Cause) {
        let call_id = String::from_utf8_lossy(subscription.get(Field::CallId)).into_owned();
        self.ended.push((call_id, cause));
        self.over.push(subscription.clone());
    }
    fn latest_end(&mut self, _watcher: &[u8], _resource: &Resource) -> Option<Ended> {
        None
    }
    fn served_elsewhere(&mut self, _dialog: DialogId<'_>) -> Option<Vec<u8>> {
        None
    }
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
            StateChange::Watchers { watcher, full } => {
                let queue = self.queue(resource);
                queue.generation += 1;
                queue.pending = true;
                queue.changes.retain(|other| (&other.uri, &other.id) != (&watcher.uri, &watcher.id));
                queue.changes.push(watcher);
                queue.full |= full || queue.changes.len() > MOST_CHANGES;
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
        let unjudged = self.judge_first(resource);
        let queue = self.queue(resource);
        if !queue.pending {
            queue.busy = false;
            return None;
        }
        queue.pending = false;
        let run = NotifyRun {
            cursor: 0,
            unjudged,
            is_second_try: false,
            generation: queue.generation,
            documents: queue.documents,
            transient_body: queue.transient_body.take(),
            changes: std::mem::take(&mut queue.changes),
            full: std::mem::take(&mut queue.full),
            changed_at: 0,
            is_at_end: false,
        };
        let is_second_try = self.is_second_try;
        Some(NotifyRun { is_second_try, ..run })
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
                None if !entry.subscription.hears_changes(now) => {
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
        true
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
