//! Publications of other nodes: the JSON that stock's nodes exchange over DMQ, and what a node does with it.
pub(crate) mod announcement;
pub mod comparison;
pub(crate) mod json_bytes;
pub mod node_messages;
pub mod placed;
pub mod replica;
pub mod replica_life;
pub mod replica_refresh;
pub mod stock_subscription;

use super::composition::held_back;
use super::composition::readable;
use super::error::{Failure, StoreError};
use super::notification::TransientBody;
use super::notification::change_notify;
use super::ports::Ports;
use super::publication::document::{self, Document};
use super::publication::publish::{self, priority_at};
use super::publication::publish_request::PublishRequest;
use super::publication::{Applied, Change, Dialogs, Keeps, Modification, Publication, Removed};
use super::resource::Resource;
use crate::cluster::version::DocumentVersion;
use crate::sip::entity_tag::EntityTag;
use crate::sip::uri;
use crate::time::{Expiry, Moment, Seconds};
use replica::Replica;
use replica_life::{Life, Question, TwoClocks};
use std::borrow::Cow;

/// The reader of what is announced of a stored publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// One of our kind, which may know it: it keeps the time of the receipt, by which it decides which of two documents
    /// is newer, and does not notify its watchers of what it knows.
    Ours,
    /// Any node.
    Any,
}

/// A stored publication as it is announced to a node that asks for all: as new, with what is left of its life.
pub fn of_stored(
    resource: &Resource,
    event: &[u8],
    publication: &Publication,
    now: TwoClocks,
    reader: Reader,
) -> Replica {
    let uri::PlainUri { user, host: domain } = uri::split(&resource.uri);
    let (expires, stamp) = match reader {
        Reader::Ours => (Life::FromArrival.announced(publication, now).0, publication.stamp),
        Reader::Any => {
            let (expires, received) = Life::OF_HOST.announced(publication, now);
            (expires, Some(received))
        }
    };
    Replica {
        domain: domain.to_vec(),
        user: user.to_vec(),
        event: event.to_vec(),
        etag: publication.etag.clone(),
        new_etag: None,
        expires,
        stamp,
        is_new: true,
        sender: publication.sender.clone(),
        ruid: publication.ruid.clone(),
        body: publication.body.clone(),
        again: reader == Reader::Ours,
        ended: Vec::new(),
    }
}

/// What a change means here.
enum ReplicationStep {
    /// The change is known already: a message that came twice, or a table that nodes share.
    Known,
    /// Something newer is known.
    Stale,
    Insert,
    Modify(Publication),
    Remove(EntityTag),
}

fn version(document: &Publication) -> DocumentVersion<'_> {
    let (changes, received_at) = (document.etag.changes(), document.stamp);
    DocumentVersion { changes, received_at, etag: document.etag.bytes(), body: 0 }
}

fn version_of(replica: &Replica) -> DocumentVersion<'_> {
    let etag = replica.last_etag();
    DocumentVersion { changes: etag.changes(), received_at: replica.stamp, etag: etag.bytes(), body: 0 }
}

/// Whether what a node holds was replaced here by a newer document of another publication about the same dialogs.
fn is_replaced(documents: &[Publication], replica: &Replica, dialogs: &Dialogs) -> bool {
    let others = documents.iter().filter(|mine| mine.ruid != replica.ruid);
    let mut newer = others.filter(|mine| version(mine).replaces(&version_of(replica)));
    !dialogs.marks.is_empty() && newer.any(|mine| dialogs.view().is_within(&mine.dialogs.view()))
}

/// How a change that arrives late, twice or after a gap is found out: by its entity tags, and by the record's id and
/// the count of changes that our entity tags carry.
fn step(documents: &[Publication], replica: &Replica) -> ReplicationStep {
    let tagged = |tag: &EntityTag| documents.iter().find(|d| !tag.is_empty() && d.etag == *tag);
    let same_record = || documents.iter().find(|d| !replica.ruid.is_empty() && d.ruid == replica.ruid);
    if replica.again && replica.is_new {
        // A node says what it holds: it may be older or newer, whatever was announced before.
        return match same_record().or_else(|| tagged(&replica.etag)) {
            Some(mine) if !version_of(replica).is_newer(&version(mine)) => ReplicationStep::Known,
            Some(mine) => ReplicationStep::Modify(mine.clone()),
            None => ReplicationStep::Insert,
        };
    }
    if replica.is_new {
        return match tagged(&replica.etag) {
            Some(_) => ReplicationStep::Known,
            None => match same_record() {
                Some(mine) if mine.etag.changes() >= replica.etag.changes() => ReplicationStep::Stale,
                Some(mine) => ReplicationStep::Modify(mine.clone()),
                None => ReplicationStep::Insert,
            },
        };
    }
    if replica.expires == Seconds::ZERO {
        return match tagged(&replica.etag).or_else(same_record) {
            // What it corrects was an earlier state of what is held here.
            Some(mine) if replica.is_correction() && mine.etag.changes() > replica.etag.changes() => {
                ReplicationStep::Stale
            }
            Some(mine) => ReplicationStep::Remove(mine.etag.clone()),
            None => ReplicationStep::Known,
        };
    }
    if replica.new_etag.as_ref().is_some_and(|new| tagged(new).is_some() && *new != replica.etag) {
        return ReplicationStep::Known;
    }
    match tagged(&replica.etag).cloned() {
        Some(mine) => ReplicationStep::Modify(mine),
        None => match same_record() {
            Some(mine) if mine.etag.changes() > replica.last_etag().changes() => ReplicationStep::Stale,
            Some(mine) => ReplicationStep::Modify(mine.clone()),
            None if replica.body.is_empty() => ReplicationStep::Stale,
            None => ReplicationStep::Insert,
        },
    }
}

/// The node that notifies the watchers of a change that another one announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifiedBy {
    /// Each node its own.
    ThisNode,
    /// The node that announced it, all of them (`skip_notify_dmq`).
    Announcer,
}

/// By which clock a node says when it has received a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptClock {
    /// The one that nodes of our kind share: of two documents of the same dialogs it tells which is newer.
    Shared,
    /// A clock of its own.
    Own,
    /// A clock that should be the shared one, and is too far away: one of the two nodes has a wrong clock, and neither
    /// calls what the other holds older than what was removed.
    Wrong,
}

/// Carries out a change that another node announced, and notifies our watchers unless they are left to that node.
/// Returns what that node is answered: it still holds what was removed here.
///
/// # Errors
///
/// Fails with 400 when the event package is not known here, and when a store fails.
pub fn apply<P: Ports>(
    ports: &mut P,
    replica: &Replica,
    notified_by: NotifiedBy,
    clock: ReceiptClock,
) -> Result<Option<Replica>, Failure> {
    let event = ports.packages().named(&replica.event).ok_or_else(|| {
        Failure::bad_request(format!("no event package: {}", String::from_utf8_lossy(&replica.event)))
    })?;
    let description = *ports.packages().get(event);
    let resource = ports.uri_rule().resource(&uri::join(&replica.user, &replica.domain), event);
    let new = Document::without_request(&description, &resource);
    if replica.is_new && replica.expires == Seconds::ZERO {
        let dialogs = document::dialogs(new.description, &replica.body);
        publish::end_dialogs(ports, new.resource, dialogs, replica.stamp)?;
        if readable::shows(ports, &description, &replica.body) {
            let publication = Publication {
                etag: replica.etag.clone(),
                body: replica.body.clone(),
                received_at: replica.stamp.map(|stamp| TwoClocks::of_cluster(ports).own_of(stamp)),
                ..Publication::default()
            };
            let shown = document::shown_once(&new, publication);
            shown.into_iter().for_each(|shown| notify_watchers(ports, replica, &new, Some(shown), notified_by));
        }
        return Ok(None);
    }
    let has_ended = end_older(ports, replica, &new)?;
    for _ in 0..MOST_ATTEMPTS {
        match carry_out(ports, replica, &new, clock)? {
            ReplicationOutcome::Overtaken => continue,
            ReplicationOutcome::Nothing => {
                if has_ended {
                    notify_watchers(ports, replica, &new, None, notified_by);
                }
                return Ok(None);
            }
            ReplicationOutcome::Answer(correction) => return Ok(Some(correction)),
            ReplicationOutcome::Changed(transient_body) => {
                notify_watchers(ports, replica, &new, transient_body, notified_by);
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// A removal ends what is older of the same dialogs, which the node that has removed the document never held. `true`:
/// there was such a document.
///
/// # Errors
///
/// Fails when the documents cannot be read.
fn end_older<P: Ports>(ports: &mut P, replica: &Replica, new: &Document<'_>) -> Result<bool, Failure> {
    if !replica.is_removal() || replica.ended.is_empty() {
        return Ok(false);
    }
    ports.note_ended(new.resource, &replica.ended, replica.stamp);
    let mut documents = ports.documents(new.resource)?;
    documents.retain(|mine| ports.is_old(new.resource, &mine.dialogs, mine.stamp));
    let (mut has_ended, mut failed) = (false, None);
    for old in documents.into_iter().filter(|old| replica.ruid.is_empty() || old.ruid != replica.ruid) {
        match ports.publish(new.resource, Change::Remove(old.etag)) {
            Ok(applied) => has_ended |= matches!(applied, Applied::Removed(..)),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(has_ended), |error| Err(error.into()))
}

/// A change that other processes were faster than this often is left to the comparison of the nodes.
const MOST_ATTEMPTS: usize = 16;

/// What carrying out a change came to.
enum ReplicationOutcome {
    /// The documents are others now; the watchers are notified.
    Changed(Option<TransientBody>),
    /// No change was needed.
    Nothing,
    /// The node that announced it has to be sent this.
    Answer(Replica),
    /// Another process has changed the documents meanwhile: what the change means has to be found out anew.
    Overtaken,
}

fn carry_out<P: Ports>(
    ports: &mut P,
    replica: &Replica,
    new: &Document<'_>,
    clock: ReceiptClock,
) -> Result<ReplicationOutcome, Failure> {
    let resource = new.resource;
    let documents = ports.documents(resource)?;
    // After the documents: what goes meanwhile is found in one of the two.
    if replica.expires > Seconds::ZERO {
        match ports.removed(resource, &replica.ruid, replica.last_etag().view()) {
            Some(Removed::ForGood) => return Ok(ReplicationOutcome::Answer(replica.removal())),
            Some(Removed::AsItWas) => return Ok(ReplicationOutcome::Answer(replica.correction())),
            None => {}
        }
    }
    let tag = replica.last_etag().clone();
    let life = Life::OF_HOST.of_message(replica, Question::of_cluster(ports));
    let now = TwoClocks::of_cluster(ports);
    let expires_at = Expiry::At(life.end(replica, now));
    let received_at = replica.stamp.map(|stamp| now.own_of(stamp));
    let dialogs = document::dialogs(new.description, &replica.body);
    let step = step(&documents, replica);
    let is_judged = replica.again || clock == ReceiptClock::Shared && matches!(step, ReplicationStep::Insert);
    if is_judged && replica.expires > Seconds::ZERO && is_replaced(&documents, replica, &dialogs) {
        return Ok(ReplicationOutcome::Answer(replica.correction()));
    }
    let is_unknown = matches!(step, ReplicationStep::Insert);
    if is_judged && is_unknown && clock != ReceiptClock::Wrong && ports.is_old(resource, &dialogs, replica.stamp) {
        return Ok(ReplicationOutcome::Answer(replica.correction()));
    }
    Ok(match step {
        ReplicationStep::Stale => ReplicationOutcome::Nothing,
        // Where nodes share a table, the change is in it and our watchers have to be notified.
        ReplicationStep::Known if !replica.again && ports.shares_publications() => {
            ports.forget(resource);
            ReplicationOutcome::Changed(None)
        }
        ReplicationStep::Known => ReplicationOutcome::Nothing,
        ReplicationStep::Insert => {
            let publication = Publication {
                etag: tag,
                ruid: if replica.ruid.is_empty() { ports.new_ruid() } else { replica.ruid.clone() },
                sender: replica.sender.clone(),
                body: replica.body.clone(),
                expires_at,
                received_at,
                stamp: replica.stamp,
                priority: priority_at(ports, received_at.unwrap_or_else(|| ports.now())),
                dialogs,
            };
            match ports.publish(resource, Change::Insert(publication))? {
                Applied::NoMatch => ReplicationOutcome::Overtaken,
                _ => ReplicationOutcome::Changed(document::shown_if_readable(ports, new, Some(&replica.body))),
            }
        }
        ReplicationStep::Modify(mine) => modify(ports, replica, new, mine, (expires_at, received_at))?,
        ReplicationStep::Remove(etag) => match ports.publish(resource, Change::Remove(etag))? {
            Applied::Removed(removed, place) => {
                if replica.is_correction() {
                    ports.limit_removal(resource, &removed);
                }
                ReplicationOutcome::Changed(Some(document::shown_at_the_end(ports, new, &replica.body, removed, place)))
            }
            _ => ReplicationOutcome::Overtaken,
        },
    })
}

fn modify<P: Ports>(
    ports: &mut P,
    replica: &Replica,
    new: &Document<'_>,
    mine: Publication,
    (expires_at, received_at): (Expiry, Option<Moment>),
) -> Result<ReplicationOutcome, Failure> {
    let held = ports.find_late(new.resource, mine.etag.view());
    let body = Some(&replica.body).filter(|body| !body.is_empty()).or(held.as_ref().map(|late| &late.body));
    let change = Modification {
        etag: mine.etag,
        new_etag: replica.last_etag().clone(),
        body: body.map(|body| Cow::Borrowed(body.as_slice())),
        dialogs: body.map(|body| document::dialogs(new.description, body)).unwrap_or_default(),
        expires_at,
        received_at,
        stamp: replica.stamp,
        priority: priority_at(ports, received_at.unwrap_or_else(|| ports.now())),
        sender: replica.sender.clone(),
        line: document::shared_line(ports, new.description),
    };
    let applied = ports.publish(new.resource, Change::Modify(change))?;
    held_back::release(ports, held.as_ref(), &applied);
    Ok(match applied {
        Applied::Modified { keeps: Keeps::Nothing } => {
            ReplicationOutcome::Changed(document::shown_if_readable(ports, new, body.map(Vec::as_slice)))
        }
        Applied::Modified { keeps: Keeps::Body } => {
            let body = body.map(Vec::as_slice).unwrap_or_default();
            held_back::hold_back(ports, new.resource, replica.last_etag().view(), body)?;
            ReplicationOutcome::Nothing
        }
        Applied::NoMatch => ReplicationOutcome::Overtaken,
        _ => ReplicationOutcome::Nothing,
    })
}

fn notify_watchers<P: Ports>(
    ports: &mut P,
    replica: &Replica,
    new: &Document<'_>,
    transient_body: Option<TransientBody>,
    notified_by: NotifiedBy,
) {
    if notified_by == NotifiedBy::Announcer {
        return change_notify::judge_if_in_another_sphere(ports, new);
    }
    let request = PublishRequest { sender: &replica.sender, ..PublishRequest::default() };
    change_notify::notify_watchers(ports, &request, new, transient_body);
}

/// Whether a failure is the sender's fault.
pub fn is_bad(failure: &Failure) -> bool {
    !matches!(failure, Failure::Store(StoreError::NoMemory | StoreError::Database) | Failure::Internal(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::replication::replica::{ReplicaMessage, SYNC, SYNC_YOU, parse};

    const FROM_STOCK: &str = concat!(
        r#"{"action":1,"presentity":{"domain":"example.org","user":"alice","etag":"a.1.2.3.0","expires":3600,"#,
        r#""recv":17,"event":"presence"},"t_new":1,"cur_etag":"","ruid":"pres-1-2-3","body":"<a b=\"c\"/>\n"}"#,
    );

    fn replica() -> Replica {
        match parse(FROM_STOCK.as_bytes()) {
            Some(ReplicaMessage::Update(replica)) => *replica,
            other => panic!("{other:?}"),
        }
    }

    fn stored(etag: &str, ruid: &str) -> Publication {
        Publication { etag: etag.into(), ruid: ruid.into(), ..Publication::default() }
    }

    #[test]
    fn what_stock_writes_is_read_and_written_again() {
        assert_eq!(replica().to_json(), FROM_STOCK.as_bytes());
        assert_eq!(parse(SYNC), Some(ReplicaMessage::Sync { you: false }));
        assert_eq!(parse(SYNC_YOU), Some(ReplicaMessage::Sync { you: true }));
        let again = Replica { again: true, ..replica() };
        assert_eq!(parse(&again.to_json()), Some(ReplicaMessage::Update(Box::new(again))));
        assert_eq!(parse(br#"{"action":4,"x":{}}"#), Some(ReplicaMessage::Other));
    }

    #[test]
    fn bytes_arrive_as_they_were_sent() {
        for body in [
            b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\r\n<a>\xe9\t\\</a>".as_slice(),
            "<a>\u{e9}\u{20ac}\u{1f514}</a>".as_bytes(),
            &(0..=255).collect::<Vec<u8>>(),
        ] {
            let sent = Replica { body: body.to_vec(), ..replica() };
            assert_eq!(parse(&sent.to_json()), Some(ReplicaMessage::Update(Box::new(sent))));
        }
        // Escapes in a message with raw bytes.
        let mixed = [&FROM_STOCK.as_bytes()[..FROM_STOCK.len() - 2], b"\\u00e9\xe9\"}"].concat();
        let Some(ReplicaMessage::Update(read)) = parse(&mixed) else { panic!() };
        assert!(read.body.ends_with(b"/>\n\xc3\xa9\xe9"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in ["", "{", "[]", "{\"action\":\"1\"}", "{\"action\":1}", "{\"action\":1,\"presentity\":[]}"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        let number_as_body = FROM_STOCK.replace(r#""<a b=\"c\"/>\n""#, "7");
        assert_eq!(parse(number_as_body.as_bytes()), None);
        for (from, to) in [
            ("alice", "al\\u0000ice"),
            ("alice", "al ice"),
            ("example.org", "example.org\\r\\nX: y"),
            ("\"presence\"", "\"pres\\nence\""),
            ("a.1.2.3.0", "a.1\\r\\n"),
            ("pres-1-2-3", "pres-1\\u007f"),
        ] {
            assert_eq!(parse(FROM_STOCK.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
        let escaped = FROM_STOCK.replace("alice", "%61lice");
        assert_eq!(parse(escaped.as_bytes()), Some(ReplicaMessage::Update(Box::new(replica()))));
        let more = FROM_STOCK.replace("\"t_new\"", "\"version\":7,\"t_new\"");
        assert!(matches!(parse(more.as_bytes()), Some(ReplicaMessage::Update(_))));
    }

    #[test]
    fn messages_that_come_twice_late_or_after_a_gap() {
        let first = replica();
        assert!(matches!(step(&[], &first), ReplicationStep::Insert));
        assert!(matches!(step(&[stored("a.1.2.3.0", "r")], &first), ReplicationStep::Known));
        assert!(matches!(step(&[stored("a.1.2.9.4", "pres-1-2-3")], &first), ReplicationStep::Stale));
        let change = Replica { is_new: false, new_etag: Some("a.1.2.4.1".into()), ..first.clone() };
        assert!(matches!(step(&[stored("a.1.2.3.0", "x")], &change), ReplicationStep::Modify(_)));
        assert!(matches!(step(&[stored("a.1.2.4.1", "x")], &change), ReplicationStep::Known));
        assert!(matches!(step(&[stored("a.1.2.9.2", "pres-1-2-3")], &change), ReplicationStep::Stale));
        assert!(matches!(step(&[], &change), ReplicationStep::Insert));
        assert!(matches!(step(&[], &Replica { body: Vec::new(), ..change.clone() }), ReplicationStep::Stale));
        let end = Replica { is_new: false, expires: Seconds(0), ..first };
        assert!(matches!(step(&[stored("a.1.2.9.2", "pres-1-2-3")], &end), ReplicationStep::Remove(_)));
        assert!(matches!(step(&[], &end), ReplicationStep::Known));
    }
}
