//! What the presence server asks of its surroundings. `server::context` carries it out on Kamailio, `testing` in plain
//! collections.
use super::authorization::{Authorization, NoVerdict, Outstanding};
use super::config::Config;
use super::dialog::DialogId;
use super::ended::{Cause, Ended};
use super::error::{Failure, StoreError};
use super::event_package::{PackageId, PackageVerdict, Packages};
use super::late::{Late, Taken};
use super::notification::{Notify, NotifyHistory, NotifyRecord, NotifyRun, QueueState, StateChange, Unsent};
use super::publication::{Applied, Change, Publication};
use super::remembered::{BodyDigest, Digested, Micros, SentNotify};
use super::replica::Replica;
use super::resource::{Resource, UriComparison};
use super::row_limits::RowLimits;
use super::subscription::{Renewal, Status, Subscription};
use super::unreadable::Unshown;
use super::winfo::Watcher;
use crate::sip::entity_tag::EntityTag;
use crate::time::{Expiry, Moment};

/// A dialog that has no subscription yet, by the hash under which it will be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDialog(pub u64);

/// What is known of the dialog of a first SUBSCRIBE.
#[derive(Debug)]
pub enum Recent {
    /// The same SUBSCRIBE has made this subscription.
    Made(Box<Subscription>),
    /// The same SUBSCRIBE has made a subscription that is over.
    Over,
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

/// What became of a SUBSCRIBE in a dialog.
#[derive(Debug)]
pub enum Renewed {
    /// It is carried out.
    Done,
    /// The subscription has changed since it was found, and is this one now. Nothing was carried out.
    Overtaken(Box<Subscription>),
    /// The subscription is gone.
    Gone,
}

/// What the decisions of this layer ask of the server that carries them out.
pub trait Ports {
    /// The settings.
    fn config(&self) -> &Config;
    /// The event packages.
    fn packages(&self) -> &Packages;
    /// Seconds since 1970.
    fn now(&self) -> Moment;
    /// The same in microseconds.
    fn now_in_micros(&self) -> Micros {
        self.now().seconds() * 1_000_000
    }
    /// How URIs are compared.
    fn uri_rule(&self) -> UriComparison;

    /// The request in hand is about this package: its answer is counted there.
    fn note_package(&mut self, _package: PackageId) {}

    /// Answers the request in hand. Header lines end in CRLF.
    fn reply(&mut self, code: u16, reason: &str, headers: &[u8]);
    /// The To tag of that answer.
    ///
    /// # Errors
    ///
    /// Fails when the host has no tag for the reply.
    fn reply_tag(&mut self) -> Result<Vec<u8>, Failure>;

    /// A new entity tag; `changes` counts the publication's earlier ones.
    fn new_entity_tag(&mut self, changes: u32) -> EntityTag;
    /// A new record id.
    fn new_ruid(&mut self) -> Vec<u8>;

    /// Whether an XML document is well-formed by the measure of the parser that event packages use, and declares no
    /// entities.
    fn reads(&self, document: &[u8]) -> bool;
    /// Whether a document that is published for a resource is plain and well-formed, see
    /// [`is_plain`](crate::sip::xml_form::is_plain); `false` says nothing about the document.
    fn is_plain(&mut self, resource: &Resource, document: &[u8]) -> bool;
    /// The same document in UTF-8; `None` where it cannot be read.
    fn in_utf8(&self, document: &[u8]) -> Option<Vec<u8>>;
    /// Leaves out the stored documents that are passed over, see [`super::unreadable::Unreadable::leave_out`].
    fn leave_out_unreadable(&self, documents: &mut Vec<Publication>) -> Option<Moment>;
    /// Notes that a stored document is passed over.
    fn note_unreadable(&mut self, resource: &Resource, document: &Publication, why: Unshown<'_>);

    /// Asks the package about the body of the request in hand.
    fn check_publish(&mut self, package: PackageId) -> PackageVerdict;
    /// Asks the package about the SUBSCRIBE in hand.
    fn check_subscribe(&mut self, package: PackageId) -> PackageVerdict;
    /// Puts documents together; `offline` is the place of one that has just been removed.
    fn aggregate(
        &mut self,
        package: PackageId,
        uri: &[u8],
        documents: &[&[u8]],
        offline: Option<usize>,
    ) -> Option<Vec<u8>>;
    /// The body as this watcher may see it; `None` leaves it as it is: the presentity has no rules, or they hide
    /// nothing.
    ///
    /// # Errors
    ///
    /// Fails when the rules cannot be read or applied: then it is not known what the watcher may see.
    fn filter_body(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, NoVerdict>;
    /// The body made for this watcher; `None` leaves it as it is.
    fn watcher_body(&mut self, package: PackageId, subscription: &Subscription, body: Option<&[u8]>)
    -> Option<Vec<u8>>;
    /// What the presentity's rules say about this watcher, who stood at `before` until now.
    ///
    /// # Errors
    ///
    /// Fails when the rules cannot be read, and when the event package cannot say whether the watcher is allowed.
    fn evaluate_rules(
        &mut self,
        package: PackageId,
        subscription: &Subscription,
        before: Status,
    ) -> Result<Authorization, NoVerdict>;

    /// The watchers of a resource are about to be judged by its rules, which are read anew, in this sphere of the
    /// presentity. Returns what [`Ports::judgements`] gives from then on.
    fn begin_judging(&mut self, resource: &Resource, sphere: Option<&[u8]>) -> u32;
    /// Rules that were read are forgotten: the next evaluation reads them anew.
    fn forget_rules(&mut self) {}
    /// Counts how often the watchers of a resource were judged, by all processes; some of the counts may be of others.
    fn judgements(&self, resource: &Resource) -> u32;
    /// Whether the watchers of a resource were judged last in this sphere; `true` is certain as far as this server
    /// judges them.
    fn was_judged_in(&self, resource: &Resource, sphere: Option<&[u8]>) -> bool;
    /// What was outstanding when the judgement with this count began is carried out.
    fn judged(&mut self, resource: &Resource, judgement: u32);
    /// Until the watchers of a resource are judged from now on nobody is shown its state. `false`: that could not be
    /// noted.
    fn shut(&mut self, resource: &Resource) -> bool;
    /// Not every decision of the judgement with this count could be carried out: the watchers are judged again until
    /// each can.
    fn left_unjudged(&mut self, resource: &Resource, judgement: u32, outstanding: Outstanding, why: &Failure);
    /// Whether decisions about watchers of a resource are not carried out yet, wherever that is.
    fn has_outstanding(&mut self, resource: &Resource) -> bool;
    /// Judges the watchers of a resource first where decisions about them are outstanding. Gives why nobody knows all
    /// the same who may see its state; `None`: they are judged.
    fn judge_first(&mut self, resource: &Resource) -> Option<StoreError>;

    /// Changes the documents of a resource, in all stores its mode names.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row: nothing is changed
    /// then.
    fn publish(&mut self, resource: &Resource, change: Change) -> Result<Applied, StoreError>;
    /// The live documents of a resource, in the order they are put together.
    ///
    /// # Errors
    ///
    /// Fails when the documents have to be read from the database and it cannot be read, and when shared memory runs
    /// out.
    fn documents(&mut self, resource: &Resource) -> Result<Vec<Publication>, StoreError>;
    /// The composed body kept for a resource, if it is still true.
    fn composed(&mut self, resource: &Resource) -> Option<Option<Digested>>;
    /// Keeps a composed body until a document changes; `documents` is the [`NotifyRun::documents`] it was made from.
    fn cache_composed(&mut self, resource: &Resource, documents: u32, body: Option<&Digested>, valid_until: Expiry);
    /// Forgets what is cached for a resource: the tables may have been changed by others.
    fn forget(&mut self, resource: &Resource);
    /// Holds back a document that may have been overtaken; `false` where there is no place for it.
    fn hold_late(&mut self, late: &Late) -> bool;
    /// The document that is held back for the publication under this entity tag. Once it is stored
    /// [`Ports::release_late`] is called; if that does not happen it is due later.
    fn find_late(&mut self, resource: &Resource, etag: EntityTag<&[u8]>) -> Option<Late>;
    /// The documents that have been held back long enough, or all, likewise.
    fn due_late(&mut self, taken: Taken) -> Vec<Late>;
    /// This document is held back no longer.
    fn release_late(&mut self, late: &Late);
    /// Removes publications that have ended, at most `limit`, and says whose they were.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or written, and when shared memory runs out.
    fn take_ended_publications(&mut self, now: Moment, limit: usize) -> Result<Vec<Resource>, StoreError>;

    /// Whether changes of publications are announced to other nodes.
    fn replicates(&self) -> bool;
    /// Announces a change to the other nodes.
    fn announce(&mut self, replica: &Replica);
    /// Whether all nodes have lately been asked what there is, so that answers may be on their way.
    fn expects_answers(&self) -> bool;
    /// Whether a publication that another node speaks of was removed here, and would still live.
    fn was_removed(&self, resource: &Resource, ruid: &[u8], etag: EntityTag<&[u8]>) -> bool;
    /// What the database takes; `None` where there is none, or one that takes whatever a request can bring.
    fn row_limits(&self) -> Option<RowLimits> {
        None
    }
    /// Whether others may have written the publications we read.
    fn shares_publications(&self) -> bool;

    /// Stores a new subscription to a resource, in the dialog [`Ports::find_recent`] was asked for.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, or when the database cannot be written or refuses the row: no subscription is
    /// stored then.
    fn subscribe(
        &mut self,
        subscription: &Subscription,
        resource: &Resource,
        dialog: NewDialog,
    ) -> Result<Stored, StoreError>;
    /// Whether a dialog that is about to be made has been made already, by the same SUBSCRIBE, whose CSeq this is.
    ///
    /// # Errors
    ///
    /// Fails when the subscription has to be looked up in the database and it cannot be read.
    fn find_recent(&mut self, dialog: DialogId<'_>, cseq: u32) -> Result<Recent, StoreError>;
    /// The subscription of a dialog.
    ///
    /// # Errors
    ///
    /// Fails when the subscription has to be looked up in the database and it cannot be read.
    fn find_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError>;
    /// Renews a subscription that was just found.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, a string is none that a subscription can have, or the database cannot be
    /// written: the subscription stays as it was.
    fn renew(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError>;
    /// Ends a subscription that was just found, as its watcher asks for: its last NOTIFY becomes due, and goes where
    /// this SUBSCRIBE says.
    ///
    /// # Errors
    ///
    /// Fails as [`Ports::renew`] does: the subscription stays.
    fn unsubscribe(&mut self, current: &Subscription, renewal: &Renewal<'_>) -> Result<Renewed, StoreError>;
    /// Ends a subscription for this reason; its last NOTIFY becomes due. `false` when it was gone.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out or the database cannot be written: the subscription stays as it was.
    fn end(&mut self, dialog: DialogId<'_>, reason: &[u8]) -> Result<bool, StoreError>;
    /// Removes a subscription without another word.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written.
    fn drop_subscription(&mut self, dialog: DialogId<'_>) -> Result<Option<Subscription>, StoreError>;
    /// The subscriptions of a resource.
    ///
    /// # Errors
    ///
    /// Fails when the subscriptions are in the database and it cannot be read.
    fn subscriptions(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError>;
    /// How many subscriptions there are to a resource.
    ///
    /// # Errors
    ///
    /// Fails when the subscriptions are in the database and it cannot be read.
    fn count_watchers(&mut self, resource: &Resource) -> Result<usize, StoreError>;
    /// How many subscriptions the watcher of this one has; counted where there is a limit on them.
    ///
    /// # Errors
    ///
    /// Fails when the subscriptions are in the database and it cannot be read.
    fn count_subscriptions_of(&mut self, subscription: &Subscription) -> Result<usize, StoreError>;
    /// Whether anybody may subscribe to a resource; `false` is certain.
    fn may_be_watched(&mut self, resource: &Resource) -> bool;
    /// Whether there may be subscriptions to a package; `false` is certain.
    fn may_be_subscribed_to(&self, event: PackageId) -> bool;
    /// How much of the shared memory is in use, in percent.
    fn memory_used(&self) -> usize;
    /// Ends subscriptions that have run out, at most `limit`; their last NOTIFYs become due.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out or the database cannot be read or written.
    fn end_expired(&mut self, now: Moment, limit: usize) -> Result<Vec<Subscription>, StoreError>;
    /// Gives a subscription another authorization; `true` when it was another one before.
    ///
    /// # Errors
    ///
    /// Fails when shared memory runs out, a string is none that a subscription can have, or the database cannot be
    /// written: the subscription stays as it was.
    fn set_authorization(&mut self, dialog: DialogId<'_>, authorization: &Authorization) -> Result<bool, StoreError>;

    /// A watcher's authorization as remembered.
    ///
    /// # Errors
    ///
    /// Fails when it has to be looked up in the database and it cannot be read.
    fn authorization(&mut self, subscription: &Subscription) -> Result<Option<Authorization>, StoreError>;
    /// Remembers a watcher's authorization.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read or written and the authorization cannot be kept in memory either.
    fn store_authorization(
        &mut self,
        subscription: &Subscription,
        authorization: &Authorization,
    ) -> Result<(), StoreError>;
    /// Remembers the authorization of a watcher that [`Ports::authorization`] has just found nothing about.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be written and the authorization cannot be kept in memory either.
    fn store_first_authorization(
        &mut self,
        subscription: &Subscription,
        authorization: &Authorization,
    ) -> Result<(), StoreError>;
    /// The watchers of a resource whose authorization is remembered, with or without a subscription: of their fields
    /// only the presentity and the watcher are set.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn known_watchers(&mut self, resource: &Resource) -> Result<Vec<Subscription>, StoreError>;
    /// Watchers of a resource that nobody has decided about, whether they have a subscription or wait without one.
    ///
    /// # Errors
    ///
    /// Fails when the database cannot be read.
    fn waiting_watchers(&mut self, resource: &Resource) -> Result<Vec<Watcher>, StoreError>;

    /// Remembers that the documents of a resource were put together.
    fn note_composed(&mut self, _resource: &Resource, _body: BodyDigest) {}
    /// The last NOTIFY of a subscription to a resource, as far as it is remembered.
    fn last_notify(&mut self, _resource: &Resource, _dialog: DialogId<'_>) -> Option<SentNotify> {
        None
    }
    /// Remembers that a subscription has ended, and why: for operators, and for copies of its first SUBSCRIBE.
    fn note_end(&mut self, subscription: &Subscription, cause: Cause);
    /// The latest end of a subscription of a watcher to a resource, as far as it is remembered.
    fn latest_end(&mut self, watcher: &[u8], resource: &Resource) -> Option<Ended>;
    /// The node that sends the NOTIFYs of a subscription, where that is another one.
    fn served_elsewhere(&mut self, dialog: DialogId<'_>) -> Option<Vec<u8>>;
    /// What became of the NOTIFYs of a subscription.
    fn notify_history(&mut self, dialog: DialogId<'_>) -> NotifyHistory;
    /// Who is sending for a resource.
    fn queue_state(&mut self, resource: &Resource) -> QueueState;

    /// Notes a state change of a resource; `true` when the caller has to send (`notifier::run`).
    fn enqueue(&mut self, resource: &Resource, event: StateChange<'_>) -> bool;
    /// Notes a state change of a resource before the caller answers; the process that sends for the resource next sends
    /// it. What the caller waits for until then, such as a slow connection, holds nobody up. `true` when it has to
    /// [`Ports::claim`] the resource once it has answered.
    fn mark(&mut self, resource: &Resource, event: StateChange<'_>) -> bool;
    /// Takes a resource that was marked; `true` when the caller has to send, because nobody else has begun to.
    fn claim(&mut self, resource: &Resource) -> bool;
    /// Starts a pass over what is due, or lets go of the resource when nothing is.
    fn begin_run(&mut self, resource: &Resource) -> Option<NotifyRun>;
    /// The next NOTIFYs of a pass, counted up and, where the mode promises it, written down. Empty: the pass is over.
    fn next_batch(&mut self, resource: &Resource, notify_run: &mut NotifyRun) -> Vec<Notify>;
    /// Notes what the subscriptions of a batch of a pass were notified of.
    fn record_notified(&mut self, resource: &Resource, notify_run: &NotifyRun, notified: &[NotifyRecord]);
    /// NOTIFYs that a panic has kept from being sent: they become due again, and the resource is let go of.
    fn interrupted(&mut self, resource: &Resource, unsent: Unsent, why: &str);
    /// A panic has kept a change of a resource from being made known: its watchers are notified of its state, and those
    /// whose subscriptions have ended of that.
    fn broken_off(&mut self, resource: &Resource, why: &str);
    /// The state of a resource cannot be read now: these NOTIFYs are due again as soon as it can.
    fn left_unread(&mut self, resource: &Resource, unsent: Unsent, why: StoreError);
    /// Whether the shared memory allows more NOTIFYs to be under way now.
    fn may_send_more(&mut self) -> bool;
    /// Sends a NOTIFY; `digest` is that of its body.
    fn send_notify(&mut self, notify: &Notify, headers: &[u8], body: Option<&[u8]>, digest: BodyDigest);
}
