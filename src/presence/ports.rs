//! What the presence server asks of the world around it. `bridge` carries it out on Kamailio; tests use plain collections.
use super::config::Config;
use super::ended::{Cause, Ended};
use super::error::{Failure, StoreError};
use super::event_package::{PackageId, Packages};
use super::explain::{Traffic, Trail};
use super::publication::{Applied, Change, Publication};
use super::replication::Replica;
use super::resource::{Resource, UriRule};
use super::subscription::{DialogId, Field, Status, Subscription};
use super::winfo::Watcher;
use crate::sip::transport::Transport;

/// Why a NOTIFY is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The state of the resource changed.
    Change,
    /// It answers a SUBSCRIBE.
    Subscribe,
    /// It answers the SUBSCRIBE that ended the subscription.
    Unsubscribe,
    /// The subscription ran out, or its watcher lost the right to it.
    Ended,
}

/// A NOTIFY that is due: the subscription with CSeq and version already counted up.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// A private copy of the subscription.
    pub subscription: Subscription,
    /// Why.
    pub occasion: Occasion,
    /// Where memory holds it, for [`Ports::note_told`].
    pub slot: Option<u32>,
}

/// What a subscription was told, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Where memory holds the subscription.
    pub slot: u32,
    /// The local CSeq it was counted up to.
    pub cseq: u32,
    /// CRC-32 of the body; 0: there was none.
    pub body: u32,
}

/// A document that is shown once more, or only once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// A publication that has just been removed, and its place: the package shows it as closed.
    Removed(Publication, usize),
    /// This body, in place of the stored ones.
    Body(Vec<u8>),
}

/// One pass over the watchers of a resource; whoever holds it is the only one who sends for that resource.
#[derive(Debug, Default)]
pub struct Round {
    /// Where the pass is.
    pub cursor: usize,
    /// Which state of the resource it tells.
    pub generation: u32,
    /// The state of the documents at its begin.
    pub documents: u32,
    /// A document shown only now.
    pub once: Option<Once>,
    /// For winfo: the watchers that changed.
    pub changes: Vec<Watcher>,
    /// For winfo: everybody gets the full list.
    pub full: bool,
}

/// What happened to a resource.
#[derive(Debug)]
pub enum Event<'a> {
    /// Its documents changed; the sender's own subscription is not told.
    State {
        /// `handle_publish`'s argument; empty for nobody.
        sender: &'a [u8],
        /// A document shown only now.
        once: Option<Once>,
    },
    /// One subscription is due.
    Subscription(DialogId<'a>, Occasion),
    /// Its watchers changed (for winfo resources).
    Watchers {
        /// The watcher that changed.
        watcher: Watcher,
        /// Whether the full list goes out.
        full: bool,
    },
    /// Nothing new: send what is due.
    Due,
}

/// What a SUBSCRIBE in a dialog changes.
#[derive(Debug, Clone, Copy)]
pub struct Renewal<'a> {
    /// When the subscription ends from now on.
    pub expires_at: i64,
    /// Its CSeq.
    pub remote_cseq: u32,
    /// Its Contact.
    pub contact: &'a [u8],
    /// Its route set; `None` keeps the old one.
    pub record_route: Option<&'a [u8]>,
    /// The socket it came in on.
    pub socket: &'a [u8],
    /// How it came in.
    pub transport: Transport,
    /// Our Contact there.
    pub local_contact: &'a [u8],
}

impl<'a> Renewal<'a> {
    /// The strings it changes in a subscription.
    pub fn changes(&self) -> Vec<(Field, &'a [u8])> {
        let mut changes = vec![
            (Field::Contact, self.contact),
            (Field::LocalContact, self.local_contact),
            (Field::Socket, self.socket),
        ];
        changes.extend(self.record_route.map(|route| (Field::RecordRoute, route)));
        changes
    }
}

/// A watcher's standing with a presentity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Active, pending, terminated, waiting.
    pub status: Status,
    /// `polite-block`, `rejected` ...; empty for none.
    pub reason: Vec<u8>,
}

/// A dialog that has no subscription yet, by the hash under which it will be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDialog(pub u64);

/// What is known of the dialog of a first SUBSCRIBE.
#[derive(Debug)]
pub enum Recent {
    /// The same SUBSCRIBE has made this subscription.
    Made(Box<Subscription>),
    /// There is none.
    New(NewDialog),
}

/// What became of a new subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    New,
    /// There is one of the same dialog: the same SUBSCRIBE came twice. Nothing was changed.
    Known,
}

/// How the message's own body was judged by its package.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is fine.
    Fine,
    /// It is not, and the package has answered the request.
    Refused,
}

/// The world.
pub trait Ports {
    /// The settings.
    fn config(&self) -> &Config;
    /// The event packages.
    fn packages(&self) -> &Packages;
    /// Seconds since 1970.
    fn now(&self) -> i64;
    /// How URIs are compared.
    fn uri_rule(&self) -> UriRule;

    /// Answers the request in hand. Header lines end in CRLF.
    fn reply(&mut self, code: u16, reason: &str, headers: &[u8]);
    /// The To tag of that answer.
    fn reply_tag(&mut self) -> Result<Vec<u8>, Failure>;

    /// A new entity tag; `changes` counts the publication's earlier ones.
    fn new_entity_tag(&mut self, changes: u32) -> Vec<u8>;
    /// A new record id.
    fn new_ruid(&mut self) -> Vec<u8>;

    /// Whether an XML document is well-formed by the measure of the parser that event packages use, and declares no entities.
    fn reads(&self, document: &[u8]) -> bool;
    /// The same document in UTF-8; `None` where it cannot be read.
    fn in_utf8(&self, document: &[u8]) -> Option<Vec<u8>>;
    /// Whether this stored document could not be read before: it is passed over.
    fn is_unreadable(&self, document: &Publication) -> bool;
    /// Notes that a stored document cannot be read.
    fn note_unreadable(&mut self, resource: &Resource, document: &Publication);

    /// Asks the package about the body of the request in hand.
    fn check_publish(&mut self, package: PackageId) -> Verdict;
    /// Asks the package about the SUBSCRIBE in hand.
    fn check_subscribe(&mut self, package: PackageId) -> Verdict;
    /// Puts documents together; `offline` is the place of one that has just been removed.
    fn aggregate(
        &mut self,
        package: PackageId,
        uri: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> Option<Vec<u8>>;
    /// The body as this watcher may see it; `None` leaves it as it is.
    fn filter_body(&mut self, package: PackageId, subscription: &Subscription, body: &[u8]) -> Option<Vec<u8>>;
    /// The body made for this watcher; `None` leaves it as it is.
    fn watcher_body(&mut self, package: PackageId, subscription: &Subscription, body: Option<&[u8]>)
    -> Option<Vec<u8>>;
    /// What the presentity's rules say about this watcher, who stood at `before` until now.
    fn judge(&mut self, package: PackageId, subscription: &Subscription, before: Status) -> Result<Standing, Failure>;

    /// Changes the documents of a resource, in all stores its mode names.
    fn publish(&mut self, resource: &Resource, change: Change) -> Result<Applied, StoreError>;
    /// The live documents of a resource, in the order they are put together.
    fn documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError>;
    /// The composed body kept for a resource, if it is still true.
    fn composed(&mut self, resource: &Resource) -> Option<Option<Vec<u8>>>;
    /// Keeps a composed body until a document changes; `documents` is the [`Round::documents`] it was made from.
    fn keep_composed(&mut self, resource: &Resource, documents: u32, body: Option<&[u8]>, valid_until: i64);
    /// Forgets what is cached for a resource: the tables may have been changed by others.
    fn forget(&mut self, resource: &Resource);
    /// Removes publications that have ended, at most `limit`, and says whose they were.
    fn take_ended_publications(&mut self, now: i64, limit: usize) -> Result<Vec<Resource>, StoreError>;

    /// Whether other nodes are told of changes of publications.
    fn replicates(&self) -> bool;
    /// Tells the other nodes a change.
    fn announce(&mut self, replica: &Replica);
    /// Whether a publication that another node speaks of was removed here, and would still live.
    fn was_removed(&self, resource: &Resource, ruid: &[u8], etag: &[u8]) -> bool;
    /// Whether others may have written the publications we read.
    fn shares_publications(&self) -> bool;

    /// Stores a new subscription to a resource, in the dialog [`Ports::find_recent`] was asked for.
    fn subscribe(
        &mut self,
        subscription: &Subscription,
        resource: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError>;
    /// Whether a dialog that is about to be made has been made already, by the same SUBSCRIBE.
    fn find_recent(&mut self, dialog: DialogId<'_>) -> Result<Recent, StoreError>;
    /// The subscription of a dialog.
    fn find_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError>;
    /// Renews a subscription that was just found; `false` when it is gone.
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<bool, StoreError>;
    /// Ends a subscription; its last NOTIFY becomes due for `occasion`. `false` when it was gone.
    fn end(&mut self, dialog: DialogId<'_>, occasion: Occasion, reason: &[u8]) -> Result<bool, StoreError>;
    /// Removes a subscription without another word.
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError>;
    /// The subscriptions of a resource.
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError>;
    /// How many subscriptions there are to a resource.
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError>;
    /// How many subscriptions the watcher of this one has; counted where there is a limit on them.
    fn count_subscriptions_of(&mut self, subscription: &Subscription) -> Result<usize, StoreError>;
    /// Whether anybody may subscribe to a resource; `false` is certain.
    fn may_be_watched(&mut self, resource: &Resource) -> bool;
    /// How much of the shared memory is in use, in percent.
    fn memory_used(&self) -> usize;
    /// Ends subscriptions that have run out, at most `limit`; their last NOTIFYs become due.
    fn end_expired(&mut self, now: i64, limit: usize) -> Result<Vec<Subscription>, StoreError>;
    /// Gives a subscription another standing; `true` when it was another one before.
    fn set_standing(&mut self, dialog: DialogId<'_>, standing: &Standing) -> Result<bool, StoreError>;

    /// A watcher's standing as remembered.
    fn standing(&mut self, subscription: &Subscription) -> Result<Option<Standing>, StoreError>;
    /// Remembers a watcher's standing.
    fn remember_standing(&mut self, subscription: &Subscription, standing: &Standing) -> Result<(), StoreError>;
    /// Remembers the standing of a watcher that [`Ports::standing`] has just found nothing about.
    fn remember_first_standing(&mut self, subscription: &Subscription, standing: &Standing) -> Result<(), StoreError>;
    /// The watchers of a resource whose standing is remembered, with or without a subscription: of their fields only the
    /// presentity and the watcher are set.
    fn remembered_watchers(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError>;
    /// Watchers of a resource that are remembered as waiting or pending without a live subscription.
    fn waiting_watchers(&mut self, resource: &Resource) -> Result<Vec<Watcher>, StoreError>;

    /// Remembers that a subscription has ended, and why.
    fn note_end(&mut self, subscription: &Subscription, cause: Cause);
    /// The latest end of a subscription of a watcher to a resource, as far as it is remembered.
    fn latest_end(&mut self, watcher: &[u8], resource: &Resource) -> Option<Ended>;
    /// The node that sends the NOTIFYs of a subscription, where that is another one.
    fn served_elsewhere(&mut self, dialog: DialogId<'_>) -> Option<Vec<u8>>;
    /// What became of the NOTIFYs of a subscription.
    fn trail(&mut self, dialog: DialogId<'_>) -> Trail;
    /// Who is sending for a resource.
    fn traffic(&mut self, resource: &Resource) -> Traffic;

    /// Notes what happened to a resource; `true` when the caller has to send (`notifier::run`).
    fn happened(&mut self, resource: &Resource, event: Event<'_>) -> bool;
    /// Starts a pass over what is due, or lets go of the resource when nothing is.
    fn begin_round(&mut self, resource: &Resource) -> Option<Round>;
    /// The next NOTIFYs of a pass, counted up and, where the mode promises it, written down. Empty: the pass is over.
    fn next_portion(&mut self, resource: &Resource, round: &mut Round) -> Vec<Outgoing>;
    /// Notes what the subscriptions of a portion were told.
    fn note_told(&mut self, resource: &Resource, told: &[Told]);
    /// NOTIFYs that a panic has kept from being sent: they become due again, and the resource is let go of.
    fn interrupted(&mut self, resource: &Resource, unsent: Vec<Outgoing>, why: &str);
    /// Whether the shared memory allows more NOTIFYs to be under way now.
    fn may_send_more(&mut self) -> bool;
    /// Sends a NOTIFY.
    fn send_notify(&mut self, outgoing: &Outgoing, headers: &[u8], body: Option<&[u8]>);
}
