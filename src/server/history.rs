//! The latest steps of lamps, in shared memory: rings of entries of a fixed size. The ends of subscriptions have one of
//! their own, so that a storm of changes does not push them out; changes and NOTIFYs lie in parts by presentity, each
//! under its own lock, so that processes seldom meet and one busy presentity leaves the others their past. Times are
//! noted by the clock for measuring, which the sender of a NOTIFY has read anyway; readers get them as times of day.
mod mark;
pub mod recording;
pub mod ring;

use crate::host::clock;
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{Shm, ShmVec};
use crate::presence::event_package::PackageId;
use crate::presence::history::ended::{Cause, Ended};
use crate::presence::history::occurrence::Occurrence;
use crate::presence::history::remembered::{BodyDigest, ChangeKind, DocumentChange, NotifyOutcome, SentNotify};
use crate::presence::notification::{NotifyHistory, NotifyReason};
use crate::presence::resource::Resource;
use crate::presence::subscription::Subscription;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::shm_safe::shm_safe;
use crate::sip::entity_tag::EntityTag;
use crate::sip::packed::Strings;
use crate::time::{Lifetime, MicroMoment, MicroTick};
use mark::mark;
use ring::Ring;

/// In how many parts changes and NOTIFYs lie.
const PARTS: usize = 16;
/// Below this size there is one part: each would be too short to show a course of events.
const DIVIDED_FROM: usize = 256;
/// NOTIFYs that are remembered for each change: a lamp has several watchers.
const NOTIFIES_PER_CHANGE: usize = 4;

#[derive(Clone, Copy)]
struct EndEntry {
    at: MicroTick,
    cause: Cause,
    cseq: u32,
    event: PackageId,
    dialog: u64,
    notify_history: NotifyHistory,
    /// Watcher, presentity, contact, Call-ID, socket.
    texts: Strings<5, [u8; 480], u16>,
}

shm_safe!(EndEntry { at, cause, cseq, event, dialog, notify_history, texts });

#[derive(Clone, Copy)]
struct ChangeEntry {
    at: MicroTick,
    event: PackageId,
    kind: ChangeKind,
    body: BodyDigest,
    expires: Option<Lifetime>,
    /// Presentity, sender, entity tag.
    texts: Strings<3, [u8; 192], u16>,
}

shm_safe!(ChangeEntry { at, event, kind, body, expires, texts });

#[derive(Clone, Copy)]
struct NotifyEntry {
    at: MicroTick,
    answered_at: MicroTick,
    dialog: u64,
    event: PackageId,
    reason: NotifyReason,
    cseq: u32,
    body: BodyDigest,
    answer: NotifyOutcome,
    /// Presentity, watcher.
    texts: Strings<2, [u8; 160], u16>,
}

shm_safe!(NotifyEntry { at, answered_at, dialog, event, reason, cseq, body, answer, texts });

/// A change that is about to be remembered.
pub struct NewChange<'a> {
    /// The resource whose documents were changed.
    pub resource: &'a Resource,
    /// What was done.
    pub kind: ChangeKind,
    /// The sender.
    pub sender: &'a [u8],
    /// The entity tag.
    pub etag: EntityTag<&'a [u8]>,
    /// The document.
    pub body: BodyDigest,
    /// For how long it was accepted, where that has a meaning.
    pub expires: Option<Lifetime>,
}

impl<'a> NewChange<'a> {
    /// One that has nothing but its kind.
    pub fn of_kind(resource: &'a Resource, kind: ChangeKind) -> NewChange<'a> {
        NewChange { resource, kind, sender: b"", etag: EntityTag::new(b""), body: BodyDigest::default(), expires: None }
    }
}

/// The changes and NOTIFYs of some presentities.
struct HistoryPart {
    changes: Ring<ChangeEntry>,
    notifies: Ring<NotifyEntry>,
}

shm_safe!(HistoryPart { changes, notifies });

/// A NOTIFY that is remembered, as tm carries it until the answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifyNumber(pub usize);

shm_safe!(NotifyNumber(value));

/// What has happened.
pub struct History {
    ends: Lock<Ring<EndEntry>>,
    parts: ShmVec<Lock<HistoryPart>>,
    is_on: bool,
}

shm_safe!(History { ends, parts, is_on });

/// How many parts there are for a `history_size`.
fn parts_for(size: usize) -> usize {
    if size < DIVIDED_FROM { 1 } else { PARTS }
}

impl History {
    /// Room for `size` ended subscriptions, as many changes and four times as many NOTIFYs; call before the processes
    /// fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(size: usize) -> Result<History, NoMemory> {
        let mut parts = ShmVec::new_in(Shm);
        let count = if size == 0 { 0 } else { parts_for(size) };
        parts.try_reserve_exact(count).map_err(|_| NoMemory)?;
        for _ in 0..count {
            let changes = size.div_ceil(count);
            let part =
                HistoryPart { changes: Ring::new(changes)?, notifies: Ring::new(changes * NOTIFIES_PER_CHANGE)? };
            parts.push(Lock::new(part));
        }
        Ok(History { ends: Lock::new(Ring::new(size)?), parts, is_on: size > 0 })
    }

    /// Bytes of shared memory for each unit of `history_size`.
    #[cfg(test)]
    const fn bytes_per_entry() -> usize {
        size_of::<EndEntry>() + size_of::<ChangeEntry>() + NOTIFIES_PER_CHANGE * size_of::<NotifyEntry>()
    }

    /// Whether anything is remembered.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    fn part(&self, presentity: &[u8]) -> usize {
        (mark(&[presentity]) >> 32) as usize % self.parts.len()
    }

    /// Remembers a change.
    pub fn note_change(&self, change: &NewChange<'_>, at: MicroTick) {
        if !self.is_on {
            return;
        }
        let presentity = &change.resource.uri;
        let part = &self.parts[self.part(presentity)];
        part.lock().changes.push_with(ChangeEntry::empty, |entry| {
            entry.at = at;
            entry.event = change.resource.event;
            entry.kind = change.kind;
            entry.body = change.body;
            entry.expires = change.expires;
            entry.texts.set([&[presentity], &[change.sender], &[change.etag.bytes()]]);
        });
    }

    /// Remembers a NOTIFY that is about to be sent.
    pub fn note_notify(
        &self,
        subscription: &Subscription,
        reason: NotifyReason,
        body: BodyDigest,
        at: MicroTick,
    ) -> Option<NotifyNumber> {
        if !self.is_on {
            return None;
        }
        let presentity = subscription.get(Field::PresUri);
        let (dialog, part) = (dialog_mark(subscription.dialog()), self.part(presentity));
        let number = self.parts[part].lock().notifies.push_with(NotifyEntry::empty, |entry| {
            (entry.at, entry.answered_at) = (at, at);
            entry.dialog = dialog;
            entry.event = subscription.state.event;
            entry.reason = reason;
            entry.cseq = subscription.state.local_cseq.wrapping_add(1);
            entry.body = body;
            entry.answer = NotifyOutcome::Awaited;
            entry.texts.set([&[presentity], &watcher(subscription)]);
        });
        Some(NotifyNumber(number.wrapping_mul(self.parts.len()).wrapping_add(part)))
    }

    /// Notes what became of a NOTIFY.
    pub fn note_answer(&self, number: NotifyNumber, answer: NotifyOutcome, at: MicroTick) {
        let Some(part) = self.parts.get(number.0 % self.parts.len().max(1)) else { return };
        if let Some(entry) = part.lock().notifies.get_mut(number.0 / self.parts.len()) {
            (entry.answer, entry.answered_at) = (answer, at);
        }
    }

    /// Remembers the end of a subscription.
    pub fn note_end(&self, subscription: &Subscription, cause: Cause, notify_history: NotifyHistory, at: MicroTick) {
        if !self.is_on {
            return;
        }
        let text = |field| [subscription.get(field)];
        let state = &subscription.state;
        let (dialog, watcher) = (dialog_mark(subscription.dialog()), watcher(subscription));
        self.ends.lock().push_with(EndEntry::empty, |entry| {
            entry.at = at;
            entry.cause = cause;
            entry.cseq = state.local_cseq;
            entry.event = state.event;
            entry.dialog = dialog;
            entry.notify_history = notify_history;
            entry.texts.set([
                &watcher,
                &text(Field::PresUri),
                &text(Field::Contact),
                &text(Field::CallId),
                &text(Field::Socket),
            ]);
        });
    }

    /// The latest ends that are `wanted`, the newest first, at most `limit`.
    pub fn latest(&self, limit: usize, wanted: impl Fn(&Ended) -> bool) -> Vec<Ended> {
        let (copied, begin) = (self.ends.lock().to_vec(), MeasuringBegin::now());
        copied.iter().rev().map(|entry| entry.read(begin)).filter(wanted).take(limit).collect()
    }

    /// The last NOTIFY of a dialog that is remembered.
    pub fn last_notify(&self, presentity: &[u8], dialog: u64) -> Option<SentNotify> {
        let part = if self.is_on { self.parts.get(self.part(presentity))? } else { return None };
        let copied = part.lock().notifies.to_vec();
        copied.iter().rev().find(|entry| entry.dialog == dialog).map(|entry| entry.read(MeasuringBegin::now()))
    }

    /// Everything remembered that is `wanted`, in the order in which it happened.
    pub fn all(&self, wanted: impl Fn(&Occurrence) -> bool) -> Vec<Occurrence> {
        let (begin, mut found) = (MeasuringBegin::now(), Vec::<Occurrence>::new());
        for part in self.parts.iter() {
            // Copied under the lock, read outside of it.
            let (changes, notifies) = {
                let part = part.lock();
                (part.changes.to_vec(), part.notifies.to_vec())
            };
            found.extend(changes.iter().map(|entry| Occurrence::Changed(entry.read(begin))).filter(&wanted));
            for sent in notifies.iter().map(|entry| entry.read(begin)) {
                let answered =
                    matches!(sent.answer, NotifyOutcome::Final(_)).then(|| Occurrence::Answered(sent.clone()));
                found.extend([Some(Occurrence::Notified(sent)), answered].into_iter().flatten().filter(&wanted));
            }
        }
        let ends = self.ends.lock().to_vec();
        found.extend(ends.iter().map(|entry| Occurrence::Ended(entry.read(begin))).filter(&wanted));
        found.sort_by_key(Occurrence::at);
        found
    }
}

/// The moment at which the clock for measuring began.
#[derive(Clone, Copy)]
struct MeasuringBegin(MicroMoment);

impl MeasuringBegin {
    fn now() -> MeasuringBegin {
        MeasuringBegin(MicroMoment(clock::micro_moment().0 - clock::micro_tick().micros() as i64))
    }

    /// The moment of a tick.
    fn moment(self, tick: MicroTick) -> MicroMoment {
        MicroMoment(self.0.0 + tick.micros() as i64)
    }
}

/// What stands for a dialog in the history.
pub fn dialog_mark(dialog: DialogId<'_>) -> u64 {
    mark(&[dialog.call_id, dialog.to_tag])
}

/// A watcher's URI, written where it stays.
fn watcher(subscription: &Subscription) -> [&[u8]; 4] {
    let (user, host) = (subscription.get(Field::WatcherUser), subscription.get(Field::WatcherDomain));
    [b"sip:", user, if user.is_empty() { b"" } else { b"@" }, host]
}

impl EndEntry {
    fn empty() -> EndEntry {
        EndEntry {
            at: MicroTick::at(0),
            cause: Cause::Unsubscribed,
            cseq: 0,
            event: PackageId(0),
            dialog: 0,
            notify_history: NotifyHistory::default(),
            texts: Strings::NONE,
        }
    }

    fn read(&self, begin: MeasuringBegin) -> Ended {
        let text = |index| self.texts.get(index).to_vec();
        Ended {
            at: begin.moment(self.at),
            cause: self.cause,
            cseq: self.cseq,
            event: self.event,
            dialog: self.dialog,
            notify_history: self.notify_history,
            watcher: text(0),
            presentity: text(1),
            contact: text(2),
            call_id: text(3),
            socket: text(4),
        }
    }
}

impl ChangeEntry {
    fn empty() -> ChangeEntry {
        ChangeEntry {
            at: MicroTick::at(0),
            event: PackageId(0),
            kind: ChangeKind::New,
            body: BodyDigest::default(),
            expires: None,
            texts: Strings::NONE,
        }
    }

    fn read(&self, begin: MeasuringBegin) -> DocumentChange {
        let text = |index| self.texts.get(index).to_vec();
        DocumentChange {
            at: begin.moment(self.at),
            event: self.event,
            kind: self.kind,
            body: self.body,
            expires: self.expires,
            presentity: text(0),
            sender: text(1),
            etag: EntityTag::new(text(2)),
        }
    }
}

impl NotifyEntry {
    fn empty() -> NotifyEntry {
        NotifyEntry {
            at: MicroTick::at(0),
            answered_at: MicroTick::at(0),
            dialog: 0,
            event: PackageId(0),
            reason: NotifyReason::Change,
            cseq: 0,
            body: BodyDigest::default(),
            answer: NotifyOutcome::Awaited,
            texts: Strings::NONE,
        }
    }

    fn read(&self, begin: MeasuringBegin) -> SentNotify {
        SentNotify {
            at: begin.moment(self.at),
            answered_at: begin.moment(self.answered_at),
            dialog: self.dialog,
            event: self.event,
            reason: self.reason,
            cseq: self.cseq,
            body: self.body,
            answer: self.answer,
            presentity: self.texts.get(0).to_vec(),
            watcher: self.texts.get(1).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::resource::UriComparison;
    use crate::presence::subscription::field::FIELDS;
    use crate::presence::subscription::{Status, SubscriptionState};

    const RULE: UriComparison = UriComparison { ignore_case: false, seed: 7 };

    fn publish(history: &History, n: usize) {
        let resource = RULE.resource(format!("sip:user{n}@example.org").as_bytes(), PackageId(0));
        history.note_change(
            &NewChange { etag: EntityTag::new(b"tag"), ..NewChange::of_kind(&resource, ChangeKind::New) },
            MicroTick::at(n as u64),
        );
    }

    fn subscription(cseq: u32) -> Subscription {
        let state = SubscriptionState { local_cseq: cseq, ..SubscriptionState::new(PackageId(0), Status::Active) };
        Subscription::new(state, &[b"x".as_slice(); FIELDS]).unwrap()
    }

    #[test]
    fn steps_come_back_in_the_order_of_their_times() {
        for size in [1, 20, DIVIDED_FROM] {
            let history = History::new(size).unwrap();
            (0..1000).for_each(|n| publish(&history, n));
            history.note_end(&subscription(3), Cause::Operator, NotifyHistory::default(), MicroTick::at(2000));
            let all = history.all(|_| true);
            assert!(all.windows(2).all(|pair| pair[0].at() <= pair[1].at()));
            assert!(matches!(all.last(), Some(Occurrence::Ended(ended)) if ended.cseq == 3));
            assert!(all.len() > size.min(8) && all.len() <= size + PARTS + 1, "{size}: {}", all.len());
        }
    }

    #[test]
    fn an_answer_finds_its_notify_until_the_ring_has_come_round() {
        for size in [1, DIVIDED_FROM] {
            let history = History::new(size).unwrap();
            let send = |n: u32| {
                history.note_notify(
                    &subscription(n),
                    NotifyReason::Change,
                    BodyDigest::default(),
                    MicroTick::at(n.into()),
                )
            };
            let numbers: Vec<_> = (0..100).map(|n| send(n).unwrap()).collect();
            for (n, number) in numbers.iter().enumerate() {
                history.note_answer(*number, NotifyOutcome::Final(200 + n as u16), MicroTick::at(500));
            }
            let answered = history.all(|step| matches!(step, Occurrence::Answered(_)));
            assert_eq!(answered.len(), (size * NOTIFIES_PER_CHANGE).div_ceil(parts_for(size)).min(100));
            let mark = dialog_mark(subscription(1).dialog());
            let last = history.last_notify(b"x", mark).unwrap();
            assert_eq!((last.answer, last.cseq), (NotifyOutcome::Final(299), 100));
            assert!(history.last_notify(b"x", mark ^ 1).is_none());
        }
    }

    #[test]
    fn its_bytes_are_what_the_documentation_says() {
        assert!(History::bytes_per_entry() <= 1600, "{}", History::bytes_per_entry());
    }

    #[test]
    fn without_size_nothing_is_kept() {
        let history = History::new(0).unwrap();
        publish(&history, 1);
        history.note_answer(NotifyNumber(7), NotifyOutcome::Dropped, MicroTick::at(1));
        assert!(
            history
                .note_notify(&subscription(1), NotifyReason::Change, BodyDigest::default(), MicroTick::at(1))
                .is_none()
        );
        assert!(history.all(|_| true).is_empty() && history.last_notify(b"x", 1).is_none());
    }
}
