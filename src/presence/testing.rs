//! The ports in plain collections, so that the server's handlers are tested without Kamailio. One [`MemoryPorts`] is a
//! whole server: its clock stands still until a test moves it, and what it would send is kept in lists.
use super::authorization::{Authorization, NoVerdict, Outstanding};
use super::composition::late::Late;
use super::composition::unreadable::Unreadable;
use super::config::Config;
use super::error::StoreError;
use super::event_package::{PackageId, Packages};
use super::history::ended::Cause;
use super::notification::{Notify, NotifyAttempt, NotifyHistory, NotifyReason, TransientBody};
use super::publication::Publication;
use super::replication::replica::Replica;
use super::resource::Resource;
use super::subscription::dialog::DialogId;
use super::subscription::field::Field;
use super::subscription::seen::NotifiedChanges;
use super::subscription::{Status, Subscription};
use super::winfo::{Extent, Watcher};
use crate::cluster::old_documents::RemovedDocuments;
use crate::presence::ports::server::Server;
use crate::time::{Expiry, Moment};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub mod actors;
mod authorization;
mod broken_off;
mod expiry;
pub mod fixtures;
mod interleaving;
mod intervals;
mod notify;
mod ports;
mod publish;
mod replication;
mod subscribe;

pub use fixtures::{DIALOG, PRESENCE, VOICEMAIL};

/// A reply that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub code: u16,
    /// The header lines.
    pub headers: String,
}

impl Reply {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.headers.lines().find(|line| line.starts_with(&format!("{name}: ")))?;
        Some(&line[name.len() + 2..])
    }
}

/// A NOTIFY that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Call-ID of its dialog: the watcher's name in these tests.
    pub call_id: String,
    /// The server's tag in its dialog, which distinguishes two dialogs of one watcher.
    pub to_tag: String,
    /// Why the NOTIFY was sent.
    pub reason: NotifyReason,
    /// The NOTIFY's CSeq.
    pub cseq: u32,
    /// The version of its document.
    pub version: u32,
    /// The value of Subscription-State.
    pub state: String,
    /// The body.
    pub body: Option<String>,
}

/// The queue of one resource, as the shared tables keep it.
#[derive(Debug, Default)]
struct Queue {
    busy: bool,
    pending: bool,
    generation: u32,
    documents: u32,
    final_notifies: Vec<Notify>,
    transient_body: Option<TransientBody>,
    changes: Vec<Watcher>,
    extent: Extent,
}

/// A stored subscription.
#[derive(Debug)]
struct Entry {
    subscription: Subscription,
    seen: NotifiedChanges,
    due: Option<NotifyReason>,
    history: NotifyHistory,
}

type Key = (Vec<u8>, u16);

/// Whether a package makes nothing of these documents.
pub type MakesNothingOf = fn(&[&[u8]]) -> bool;

/// What another process does as soon as this one has sent something.
pub type Interruption = Box<dyn FnOnce(&mut MemoryPorts)>;

/// A server in plain memory.
pub struct MemoryPorts {
    /// The settings.
    pub config: Config,
    /// The packages.
    pub packages: Packages,
    /// The clock, in seconds since 1970.
    pub now: Moment,
    /// Replies in the order they were given.
    pub replies: Vec<Reply>,
    /// NOTIFYs in the order they were sent.
    pub sent: Vec<Sent>,
    /// Changes announced to other nodes.
    pub announced: Vec<Replica>,
    /// What belongs to presentities is held by other nodes alone.
    pub is_elsewhere: bool,
    /// The rules: presentity, watcher, and what was decided. No rule: pending.
    pub rules: BTreeMap<(Vec<u8>, Vec<u8>), Authorization>,
    /// Why the rules cannot be evaluated now.
    pub no_verdict: Option<NoVerdict>,
    /// How often they were evaluated.
    pub evaluations: usize,
    /// Runs while the rules are evaluated the next times, one each.
    pub while_judging: VecDeque<Interruption>,
    /// The resources with decisions that are not carried out.
    pub unjudged: BTreeMap<Key, Outstanding>,
    /// The resources whose watchers have to be judged before they are shown anything.
    shut: BTreeMap<Key, u32>,
    /// The watchers that wait for a decision without a subscription, of all presentities.
    pub waiting: Vec<Watcher>,
    judgements: u32,
    spheres: BTreeMap<Key, Option<Vec<u8>>>,
    /// Runs after the next replies and NOTIFYs, one each, as another process of the server would.
    pub interruptions: VecDeque<Interruption>,
    /// Runs between the finding and the changing of a subscription by the next SUBSCRIBEs in dialogs, one each.
    pub meanwhile: VecDeque<Interruption>,
    /// How many more changes of stores succeed; `None`: all.
    pub stores_left: Option<usize>,
    /// Shared memory is short.
    pub memory_is_short: bool,
    /// How often another process is still faster with the next changes of documents.
    pub overtaken: usize,
    /// The next changes of documents panic.
    pub panics_at_stores: usize,
    /// Why neither documents nor watchers can be read now.
    pub unread: Option<StoreError>,
    /// The documents of which packages make nothing; `None`: they make something of all.
    pub makes_nothing_of: Option<MakesNothingOf>,
    /// The documents that are passed over.
    unreadable: Unreadable,
    /// Until when the body that was composed last is valid.
    pub composed_until: Option<Expiry>,
    /// How much of the memory is in use, in percent.
    pub memory: usize,
    /// How often passes over a presentity's watchers panic at their begin.
    pub panics_for_presentity: BTreeMap<Vec<u8>, usize>,
    /// The Call-IDs whose NOTIFYs panic.
    pub panics_for: BTreeSet<String>,
    /// What was broken off is tried again.
    pub attempt: NotifyAttempt,
    /// Subscriptions that ended, by Call-ID, and why.
    pub ended: Vec<(String, Cause)>,
    /// Documents that are held back, and until when.
    late: Vec<(Moment, Late)>,
    /// The To tag of each reply, as of copies of one request; `None`: each has its own.
    pub reply_tag: Option<&'static str>,
    /// The same subscriptions as they were.
    over: Vec<Subscription>,
    publications: BTreeMap<Key, Vec<Publication>>,
    queues: BTreeMap<Key, Queue>,
    entries: Vec<Option<Entry>>,
    known: BTreeMap<(Key, Vec<u8>), Subscription>,
    removed: Vec<(Vec<u8>, u32)>,
    /// The dialogs that have ended, by the hashes of their ids.
    ended_dialogs: RefCell<BTreeMap<(Key, u64), RemovedDocuments>>,
    next_id: u32,
}

impl Default for MemoryPorts {
    fn default() -> Self {
        MemoryPorts {
            config: fixtures::config(),
            packages: fixtures::packages(),
            now: Moment::at(1_000_000),
            replies: Vec::new(),
            sent: Vec::new(),
            announced: Vec::new(),
            is_elsewhere: false,
            rules: BTreeMap::new(),
            no_verdict: None,
            evaluations: 0,
            while_judging: VecDeque::new(),
            unjudged: BTreeMap::new(),
            shut: BTreeMap::new(),
            waiting: Vec::new(),
            judgements: 0,
            spheres: BTreeMap::new(),
            interruptions: VecDeque::new(),
            meanwhile: VecDeque::new(),
            stores_left: None,
            memory_is_short: false,
            overtaken: 0,
            panics_at_stores: 0,
            unread: None,
            makes_nothing_of: None,
            unreadable: Unreadable::new(7),
            composed_until: None,
            memory: 10,
            panics_for_presentity: BTreeMap::new(),
            panics_for: BTreeSet::new(),
            attempt: NotifyAttempt::First,
            ended: Vec::new(),
            late: Vec::new(),
            reply_tag: None,
            over: Vec::new(),
            publications: BTreeMap::new(),
            queues: BTreeMap::new(),
            entries: Vec::new(),
            known: BTreeMap::new(),
            removed: Vec::new(),
            ended_dialogs: RefCell::default(),
            next_id: 0,
        }
    }
}

fn key(resource: &Resource) -> Key {
    (resource.uri.clone(), resource.event.0)
}

impl MemoryPorts {
    /// The resource of a user of example.org.
    pub fn resource(&self, user: &str, event: PackageId) -> Resource {
        self.uri_rule().resource(format!("sip:{user}@example.org").as_bytes(), event)
    }

    /// The NOTIFYs of one watcher's dialog.
    pub fn sent_to(&self, call_id: &str) -> Vec<&Sent> {
        self.sent.iter().filter(|sent| sent.call_id == call_id).collect()
    }

    /// How many subscriptions are stored.
    pub fn subscription_count(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    /// The subscription of a watcher's dialog.
    pub fn stored(&self, call_id: &str) -> Option<&Subscription> {
        let of = |entry: &&Entry| entry.subscription.get(Field::CallId) == call_id.as_bytes();
        self.entries.iter().flatten().find(of).map(|entry| &entry.subscription)
    }

    /// Decides about a watcher.
    pub fn allow(&mut self, presentity: &str, watcher: &str, status: Status, reason: &str) {
        let uri = |user: &str| format!("sip:{user}@example.org").into_bytes();
        let decision = Authorization { status, reason: reason.into() };
        self.rules.insert((uri(presentity), uri(watcher)), decision);
    }

    /// Whether a queue was left with a NOTIFY that nobody will send.
    pub fn has_forgotten_work(&self) -> bool {
        self.queues.values().any(|queue| queue.busy || queue.pending || !queue.final_notifies.is_empty())
    }

    /// Whether a document runs out in this second.
    pub fn has_document_ending_now(&self) -> bool {
        self.publications.values().flatten().any(|document| document.expires_at == Expiry::At(self.now))
    }

    fn interrupt(&mut self) {
        if let Some(interruption) = self.interruptions.pop_front() {
            interruption(self);
        }
    }

    fn may_store(&mut self) -> Result<(), StoreError> {
        match &mut self.stores_left {
            Some(0) => Err(StoreError::NoMemory),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn may_read(&self) -> Result<(), StoreError> {
        self.unread.map_or(Ok(()), Err)
    }

    fn slot_of(&self, dialog: DialogId<'_>) -> Option<usize> {
        self.entries.iter().position(|entry| entry.as_ref().is_some_and(|e| e.subscription.dialog() == dialog))
    }

    fn resource_of(&self, subscription: &Subscription) -> Resource {
        self.uri_rule().resource(subscription.get(Field::PresUri), subscription.state.event)
    }

    fn watches(&self, entry: &Entry, resource: &Resource) -> bool {
        entry.subscription.state.event == resource.event && entry.subscription.get(Field::PresUri) == resource.uri
    }

    fn queue(&mut self, resource: &Resource) -> &mut Queue {
        self.queues.entry(key(resource)).or_insert_with(|| Queue { generation: 1, documents: 1, ..Queue::default() })
    }

    /// Removes a subscription; `last` makes its last NOTIFY due.
    fn take(&mut self, dialog: DialogId<'_>, last: Option<(NotifyReason, Option<&[u8]>)>) -> Option<Subscription> {
        let slot = self.slot_of(dialog)?;
        let mut subscription = self.entries[slot].take()?.subscription;
        if let Some((notify_reason, reason)) = last {
            subscription = subscription.with(reason.map(|reason| (Field::Reason, reason)).as_slice()).ok()?;
            subscription.state.local_cseq += 1;
            subscription.state.version += 1;
            if notify_reason == NotifyReason::Ended {
                subscription.state.status = Status::Terminated;
            }
            let resource = self.resource_of(&subscription);
            let notify = Notify { subscription: subscription.clone(), notify_reason, slot: None };
            let queue = self.queue(&resource);
            queue.final_notifies.push(notify);
            queue.pending = true;
        }
        Some(subscription)
    }
}
