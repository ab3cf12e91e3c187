//! What watchers could not be notified of where subscriptions are rows (database-only mode): rows could not be read,
//! marked or counted up, or a panic was in the way. The timer notifies again whom it concerns: one watcher, or all of a
//! resource. When too much waits to be named, it goes through all that are watched.
use crate::host::clock;
use crate::host::lock::Lock;
use crate::host::no_memory::NoMemory;
use crate::host::shm::{self, Shm, ShmBox, ShmVec};
use crate::presence::error::StoreError;
use crate::presence::event_package::PackageId;
use crate::presence::notification::{Notify, NotifyReason, TransientBody};
use crate::presence::resource::Resource;
use crate::presence::subscription::dialog::DialogId;
use crate::server::notifications::change_counts::CameIn;
use crate::server::tables::recent_dialogs::Places;
use crate::server::tables::watched::{FinalNotify, SharedTransientBody};
use crate::shm_safe::shm_safe;
use crate::time::{Moment, Seconds};

/// How much may wait by name; for more all that are watched are gone through.
const MOST_MISSED: usize = 1024;

/// How many bytes the documents shown only once, and the subscriptions that have ended, may take together.
const MOST_BYTES: usize = 1 << 20;

/// The longest time between two tries.
const LONGEST_PAUSE: Seconds = Seconds(16);

/// A dialog by its own strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDialogId {
    call_id: Vec<u8>,
    to_tag: Vec<u8>,
    from_tag: Vec<u8>,
}

impl OwnDialogId {
    /// A copy.
    pub fn of_dialog(dialog: DialogId<'_>) -> OwnDialogId {
        let DialogId { call_id, to_tag, from_tag } = dialog;
        OwnDialogId { call_id: call_id.to_vec(), to_tag: to_tag.to_vec(), from_tag: from_tag.to_vec() }
    }

    /// The dialog.
    pub fn id(&self) -> DialogId<'_> {
        DialogId { call_id: &self.call_id, to_tag: &self.to_tag, from_tag: &self.from_tag }
    }
}

/// The watchers that were not notified.
#[derive(Debug, Clone)]
pub enum MissedWatchers {
    /// All watchers of a resource that learn of changes.
    All,
    /// The watcher of this dialog, of a change.
    One(OwnDialogId),
    /// The watcher of this dialog, of what its SUBSCRIBE or a rule has made of its subscription.
    Asking(OwnDialogId),
    /// A watcher whose subscription has ended, and whose row is gone.
    Ended(Box<Notify>),
}

impl MissedWatchers {
    /// The watcher of this NOTIFY, which was not sent.
    pub fn of_notify(notify: &Notify) -> MissedWatchers {
        let dialog = || OwnDialogId::of_dialog(notify.subscription.dialog());
        match notify.notify_reason {
            NotifyReason::Change => MissedWatchers::One(dialog()),
            NotifyReason::Subscribe => MissedWatchers::Asking(dialog()),
            NotifyReason::Unsubscribe | NotifyReason::Ended => MissedWatchers::Ended(Box::new(notify.clone())),
        }
    }

    /// Whether the NOTIFY is that of a change, and no SUBSCRIBE or decision asks for it.
    pub(crate) fn is_of_a_change(&self) -> bool {
        matches!(self, MissedWatchers::All | MissedWatchers::One(_))
    }

    fn dialog(&self) -> Option<DialogId<'_>> {
        match self {
            MissedWatchers::All => None,
            MissedWatchers::One(dialog) | MissedWatchers::Asking(dialog) => Some(dialog.id()),
            MissedWatchers::Ended(notify) => Some(notify.subscription.dialog()),
        }
    }
}

/// Something that was missed.
#[derive(Debug)]
pub struct Missed {
    /// The resource whose watchers missed something.
    pub resource: Resource,
    /// The watchers that were not notified.
    pub whom: MissedWatchers,
    /// The Contact of the publisher, which is not notified; empty for nobody.
    pub sender: Vec<u8>,
    /// A document shown only once.
    pub transient_body: Option<TransientBody>,
    /// When it came in.
    pub came_in: CameIn,
    /// How often it was tried again.
    pub tries: u8,
    /// A panic has broken it off: a second one gives it up. What a store refuses, or cannot take now, does not count.
    pub is_broken_off: bool,
}

impl Missed {
    /// A change of just now that is shown as it is when it is tried again.
    pub fn new(resource: &Resource, whom: MissedWatchers, tries: u8) -> Missed {
        let (resource, came_in) = (resource.clone(), CameIn::at(clock::now()));
        Missed { resource, whom, sender: Vec::new(), transient_body: None, came_in, tries, is_broken_off: false }
    }
}

/// The same in shared memory.
struct MissedEntry {
    resource: SharedResource,
    /// Call-ID, To tag and From tag; all empty for all watchers.
    dialog: [ShmBox<[u8]>; 3],
    is_asking: bool,
    ended: Option<FinalNotify>,
    sender: Option<ShmBox<[u8]>>,
    transient_body: Option<ShmBox<SharedTransientBody>>,
    came_in: CameIn,
    tries: u8,
    is_broken_off: bool,
    due_at: Moment,
}

struct SharedResource {
    uri: ShmBox<[u8]>,
    event: PackageId,
    hash: u64,
}

shm_safe!(SharedResource { uri, event, hash });
shm_safe!(MissedEntry {
    resource,
    dialog,
    is_asking,
    ended,
    sender,
    transient_body,
    came_in,
    tries,
    is_broken_off,
    due_at
});

impl MissedEntry {
    fn new(missed: &Missed, room: usize) -> Result<MissedEntry, NoMemory> {
        let Missed { resource, whom, .. } = missed;
        let ended = match whom {
            MissedWatchers::Ended(notify) if notify.subscription.size() > room => return Err(NoMemory),
            MissedWatchers::Ended(notify) => Some(FinalNotify {
                subscription: notify.subscription.map(shm::copy)?,
                notify_reason: notify.notify_reason,
            }),
            _ => None,
        };
        let dialog = whom.dialog().unwrap_or(DialogId { call_id: b"", to_tag: b"", from_tag: b"" });
        // Without room the watchers get the state as it is.
        let transient_body = missed.transient_body.as_ref().and_then(|body| SharedTransientBody::shared(body).ok());
        Ok(MissedEntry {
            resource: SharedResource { uri: shm::copy(&resource.uri)?, event: resource.event, hash: resource.hash },
            dialog: [shm::copy(dialog.call_id)?, shm::copy(dialog.to_tag)?, shm::copy(dialog.from_tag)?],
            is_asking: matches!(whom, MissedWatchers::Asking(_)),
            ended,
            sender: (!missed.sender.is_empty()).then(|| shm::copy(&missed.sender)).transpose()?,
            transient_body: transient_body.filter(|body| bytes_of(body) <= room),
            came_in: missed.came_in,
            tries: missed.tries,
            is_broken_off: missed.is_broken_off,
            due_at: clock::now() + pause(missed.tries),
        })
    }

    /// Whether it is about the same watchers of the same resource.
    fn is_like(&self, other: &MissedEntry) -> bool {
        let (own, its) = (&self.resource, &other.resource);
        let same = || self.dialog.iter().zip(&other.dialog).all(|(own, its)| own[..] == its[..]);
        own.hash == its.hash
            && own.event == its.event
            && *own.uri == *its.uri
            && self.ended.is_some() == other.ended.is_some()
            && same()
    }

    /// Takes in what was missed, too: of two changes the newer one is shown, whichever was missed first.
    fn take_in(&mut self, mut other: MissedEntry) {
        // Each of two publishers has to learn of the other's change.
        let sender = other.sender.take().filter(|sender| self.sender.as_ref().is_some_and(|own| **own == **sender));
        let (is_asking, due_at) = (self.is_asking || other.is_asking, self.due_at.min(other.due_at));
        let (tries, is_broken_off) = (self.tries.max(other.tries), self.is_broken_off || other.is_broken_off);
        if !other.came_in.is_before(&self.came_in) {
            *self = other;
        }
        (self.sender, self.is_asking, self.due_at) = (sender, is_asking, due_at);
        (self.tries, self.is_broken_off) = (tries, is_broken_off);
    }

    fn kept_bytes(&self) -> usize {
        let ended = self.ended.as_ref().map_or(0, |ended| ended.subscription.size());
        ended + self.transient_body.as_deref().map_or(0, bytes_of)
    }

    fn to_private(&self) -> Missed {
        let [call_id, to_tag, from_tag] = &self.dialog;
        let dialog = OwnDialogId::of_dialog(DialogId { call_id, to_tag, from_tag });
        let whom = match &self.ended {
            Some(FinalNotify { subscription, notify_reason }) => MissedWatchers::Ended(Box::new(Notify {
                subscription: subscription.to_private(),
                notify_reason: *notify_reason,
                slot: None,
            })),
            None if self.is_asking => MissedWatchers::Asking(dialog),
            None if call_id.is_empty() => MissedWatchers::All,
            None => MissedWatchers::One(dialog),
        };
        let SharedResource { uri, event, hash } = &self.resource;
        Missed {
            resource: Resource { uri: uri.to_vec(), event: *event, hash: *hash },
            whom,
            sender: self.sender.as_deref().unwrap_or_default().to_vec(),
            transient_body: self.transient_body.as_deref().map(SharedTransientBody::to_private),
            came_in: self.came_in,
            tries: self.tries,
            is_broken_off: self.is_broken_off,
        }
    }
}

fn bytes_of(body: &SharedTransientBody) -> usize {
    match body {
        SharedTransientBody::Removed(publication, _) => publication.body().len(),
        SharedTransientBody::Body(body) => body.len(),
    }
}

/// How long something waits that was tried `tries` times: a row that is refused again and again costs its own
/// watcher a statement now and then.
fn pause(tries: u8) -> Seconds {
    if tries == 0 { Seconds::ZERO } else { LONGEST_PAUSE.min(Seconds(1 << (tries - 1).min(16))) }
}

/// As how often tried something waits: a database that is away is asked once a second in any case.
pub(crate) fn tries_after(why: StoreError, tries: u8) -> u8 {
    if why == StoreError::Database { 0 } else { tries }
}

/// Whom a sweep notifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SweepScope {
    /// The watchers that learn of changes.
    Changes,
    /// Includes those that do not: of what their subscriptions are.
    Asking,
}

shm_safe!(
    enum SweepScope {
        Changes,
        Asking,
    }
);

/// How far the watched resources are gone through.
#[derive(Debug, Default, Clone, Copy)]
struct Sweep {
    /// What was missed since it began: it begins again.
    wanted: Option<SweepScope>,
    under_way: Option<SweepScope>,
    /// The key of the last row that was seen.
    after: Option<i64>,
}

shm_safe!(Sweep { wanted, under_way, after });

/// The next portion of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// The key of the row that it begins after; `None`: at the first one.
    pub after: Option<i64>,
    /// Whom it notifies.
    pub reach: SweepScope,
}

/// What waits, in shared memory.
pub struct MissedChanges {
    named: Lock<ShmVec<MissedEntry>>,
    sweep: Lock<Sweep>,
}

shm_safe!(MissedChanges { named, sweep });

impl MissedChanges {
    /// Makes an empty list; call before the processes fork.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out.
    pub fn new(places: Places) -> Result<MissedChanges, NoMemory> {
        let mut list = ShmVec::new_in(Shm);
        // Room from the start: it is needed when things go wrong.
        if places == Places::Reserved {
            list.try_reserve_exact(MOST_MISSED).map_err(|_| NoMemory)?;
        }
        Ok(MissedChanges { named: Lock::new(list), sweep: Lock::new(Sweep::default()) })
    }

    /// Somebody could not be notified.
    pub fn note(&self, missed: &Missed) {
        if self.note_by_name(missed) {
            return;
        }
        let reach = match missed.whom {
            // There is no row any more: the watcher learns of the end from its own clock.
            MissedWatchers::Ended(_) => return,
            MissedWatchers::Asking(_) => SweepScope::Asking,
            MissedWatchers::All | MissedWatchers::One(_) => SweepScope::Changes,
        };
        let mut sweep = self.sweep.lock();
        sweep.wanted = sweep.wanted.max(Some(reach));
    }

    fn note_by_name(&self, missed: &Missed) -> bool {
        let room = MOST_BYTES.saturating_sub(self.named.lock().iter().map(MissedEntry::kept_bytes).sum());
        let Ok(entry) = MissedEntry::new(missed, room) else { return false };
        let mut list = self.named.lock();
        if let Some(known) = list.iter_mut().find(|known| known.is_like(&entry)) {
            known.take_in(entry);
            return true;
        }
        let fits = list.len() < list.capacity().min(MOST_MISSED);
        if fits {
            list.push(entry);
        }
        fits
    }

    /// What has waited longest of what is due, taken off the list.
    pub fn take(&self) -> Option<Missed> {
        let now = clock::now();
        let mut list = self.named.lock();
        let at = list.iter().position(|entry| entry.due_at <= now)?;
        let entry = list.remove(at);
        drop(list);
        Some(entry.to_private())
    }

    /// How many wait by name.
    pub fn len(&self) -> usize {
        self.named.lock().len()
    }

    /// Whether none waits by name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next portion of all that are watched; `None` when none is to be gone through.
    pub(crate) fn next_portion(&self) -> Option<Portion> {
        let mut sweep = self.sweep.lock();
        if sweep.under_way.is_none() {
            *sweep = Sweep { under_way: sweep.wanted, ..Sweep::default() };
        }
        let after = sweep.after;
        sweep.under_way.map(|reach| Portion { after, reach })
    }

    /// All up to this row are gone through; `None`: all that there are.
    pub(crate) fn is_swept_up_to(&self, last: Option<i64>) {
        let mut sweep = self.sweep.lock();
        (sweep.under_way, sweep.after) = (sweep.under_way.filter(|_| last.is_some()), last);
    }

    /// The portion has to be gone through again.
    pub(crate) fn sweep_again_from(&self, portion: Portion) {
        let mut sweep = self.sweep.lock();
        (sweep.under_way, sweep.after) = (Some(portion.reach), portion.after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::resource::UriComparison;

    const RULE: UriComparison = UriComparison { ignore_case: false, seed: 1 };
    const PORTION: Portion = Portion { after: None, reach: SweepScope::Changes };

    fn change(name: &str, event: u16, whom: MissedWatchers) -> Missed {
        Missed::new(&RULE.resource(name.as_bytes(), PackageId(event)), whom, 0)
    }

    fn dialog(call_id: &str) -> OwnDialogId {
        OwnDialogId::of_dialog(DialogId { call_id: call_id.as_bytes(), to_tag: b"to", from_tag: b"from" })
    }

    fn taken(list: &MissedChanges) -> Vec<(String, String)> {
        let show = |missed: Missed| {
            let whom = match missed.whom {
                MissedWatchers::All => "all".to_string(),
                MissedWatchers::One(dialog) => format!("one {}", String::from_utf8_lossy(dialog.id().call_id)),
                MissedWatchers::Asking(dialog) => format!("asking {}", String::from_utf8_lossy(dialog.id().call_id)),
                MissedWatchers::Ended(_) => "ended".to_string(),
            };
            (String::from_utf8_lossy(&missed.resource.uri).into_owned() + &missed.resource.event.0.to_string(), whom)
        };
        std::iter::from_fn(|| list.take()).map(show).collect()
    }

    #[test]
    fn each_watcher_and_each_resource_waits_once() {
        let list = MissedChanges::new(Places::Reserved).unwrap();
        let missed = [
            ("sip:a@b", 1, MissedWatchers::All),
            ("sip:b@b", 1, MissedWatchers::All),
            ("sip:a@b", 1, MissedWatchers::All),
            ("sip:a@b", 2, MissedWatchers::All),
            ("sip:a@b", 1, MissedWatchers::One(dialog("1"))),
            ("sip:a@b", 1, MissedWatchers::Asking(dialog("2"))),
            // A watcher that has asked is answered, whatever else was missed.
            ("sip:a@b", 1, MissedWatchers::Asking(dialog("1"))),
            ("sip:a@b", 1, MissedWatchers::One(dialog("2"))),
        ];
        missed.into_iter().for_each(|(name, event, whom)| list.note(&change(name, event, whom)));
        let expected = [("a@b1", "all"), ("b@b1", "all"), ("a@b2", "all"), ("a@b1", "asking 1"), ("a@b1", "asking 2")];
        assert_eq!(taken(&list), expected.map(|(name, whom)| (format!("sip:{name}"), whom.to_string())));
    }

    #[test]
    fn the_publisher_and_a_document_shown_once_are_kept() {
        let list = MissedChanges::new(Places::Reserved).unwrap();
        let body = |text: &str| Some(TransientBody::Body(text.as_bytes().to_vec()));
        let note = |sender: &[u8], transient_body| {
            list.note(&Missed { sender: sender.to_vec(), transient_body, ..change("sip:a@b", 1, MissedWatchers::All) });
        };
        note(b"sip:x@1", body("closed"));
        let missed = list.take().unwrap();
        assert_eq!((missed.sender, missed.transient_body), (b"sip:x@1".to_vec(), body("closed")));
        // An older change that is missed later is not what is shown.
        let came_in = CameIn::at(missed.came_in.at - Seconds(30));
        note(b"sip:x@1", body("newer"));
        let older = change("sip:a@b", 1, MissedWatchers::All);
        list.note(&Missed { came_in, sender: b"sip:x@1".to_vec(), transient_body: body("older"), ..older });
        let missed = list.take().unwrap();
        assert_eq!((missed.sender, missed.transient_body), (b"sip:x@1".to_vec(), body("newer")));
        // Each of two publishers learns of the other's change; the newer state is what is shown.
        note(b"sip:x@1", body("closed"));
        note(b"sip:y@1", body("away"));
        let missed = list.take().unwrap();
        assert_eq!((missed.sender, missed.transient_body), (Vec::new(), body("away")));
        // All together are bounded: beyond it the state is shown as it is.
        for n in 0..3 {
            let transient_body = Some(TransientBody::Body(vec![b'x'; MOST_BYTES / 2]));
            list.note(&Missed { transient_body, ..change(&format!("sip:{n}@b"), 1, MissedWatchers::All) });
        }
        let kept: Vec<bool> = std::iter::from_fn(|| list.take()).map(|m| m.transient_body.is_some()).collect();
        assert_eq!(kept, [true, true, false]);
    }

    #[test]
    fn what_fails_again_and_again_is_tried_less_and_less_often() {
        assert_eq!((0..8).map(|tries| pause(tries).0).collect::<Vec<_>>(), [0, 1, 2, 4, 8, 16, 16, 16]);
        let list = MissedChanges::new(Places::Reserved).unwrap();
        list.note(&Missed { tries: 5, ..change("sip:a@b", 1, MissedWatchers::All) });
        list.note(&change("sip:b@b", 1, MissedWatchers::All));
        assert_eq!(taken(&list), [("sip:b@b1".to_string(), "all".to_string())]);
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn what_cannot_be_named_has_all_gone_through_once() {
        let missed = MissedChanges::new(Places::Reserved).unwrap();
        let note = |n: usize| missed.note(&change(&format!("sip:{n}@b"), 1, MissedWatchers::All));
        (0..MOST_MISSED).chain([0]).for_each(note);
        assert_eq!((missed.len(), missed.is_empty(), missed.next_portion()), (MOST_MISSED, false, None));
        note(MOST_MISSED);
        assert_eq!(missed.len(), MOST_MISSED);
        assert_eq!(missed.next_portion(), Some(PORTION));
        missed.is_swept_up_to(Some(40));
        let second = Portion { after: Some(40), ..PORTION };
        assert_eq!(missed.next_portion(), Some(second));
        // The database was away.
        missed.is_swept_up_to(Some(80));
        missed.sweep_again_from(second);
        assert_eq!(missed.next_portion(), Some(second));
        // What is missed meanwhile may be of a row that was seen already.
        missed.note(&change("sip:x@b", 1, MissedWatchers::Asking(dialog("1"))));
        missed.is_swept_up_to(None);
        assert_eq!(missed.next_portion(), Some(Portion { reach: SweepScope::Asking, ..PORTION }));
        missed.is_swept_up_to(None);
        assert_eq!(missed.next_portion(), None);
    }
}
