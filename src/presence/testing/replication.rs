//! Publications of other nodes: announced, stored, and notified once, in whatever order the messages come.
use super::actors::{Publish, Subscribe, pidf};
use super::{MemoryPorts, PRESENCE};
use crate::cluster::clock::ClusterSecond;
use crate::presence::ports::cluster::Cluster;
use crate::presence::ports::publications::Publications;
use crate::presence::ports::server::Server;
use crate::presence::publication::Dialogs;
use crate::presence::publication::direct_publish::{self, Direct, DirectKind};
use crate::presence::replication;
use crate::presence::replication::replica::Replica;
use crate::presence::replication::{NotifiedBy, ReceiptClock};
use crate::presence::resource::Resource;
use crate::sip::entity_tag::EntityTag;
use crate::time::Seconds;

fn node() -> MemoryPorts {
    let mut server = MemoryPorts::default();
    server.config.replicates = true;
    server
}

/// A publication's life on one node: what it announces.
fn life() -> Vec<Replica> {
    let mut server = node();
    let mut etag: Option<String> = None;
    for word in ["one", "two", "three"] {
        let body = pidf(word);
        let publish = Publish { etag: etag.as_deref(), ..Publish::new("alice", PRESENCE, &body) };
        etag = Some(publish.send(&mut server).expect("stored"));
    }
    let etag = etag.expect("a tag");
    let remove = Publish { etag: Some(&etag), body: None, expires: Some(0), ..Publish::new("alice", PRESENCE, "") };
    remove.send(&mut server).expect("removed");
    server.announced
}

fn receive(server: &mut MemoryPorts, messages: &[&Replica]) -> Option<String> {
    for message in messages {
        let notified_by = match server.config().skips_notify_of_replicas {
            true => NotifiedBy::Announcer,
            false => NotifiedBy::ThisNode,
        };
        let _ = replication::apply(server, message, notified_by, ReceiptClock::Own).expect("applied");
    }
    let resource = server.resource("alice", PRESENCE);
    let documents = server.documents(&resource).expect("documents");
    assert!(documents.len() <= 1, "one publication is one document: {documents:?}");
    documents.first().map(|document| String::from_utf8_lossy(&document.body).into_owned())
}

#[test]
fn a_node_follows_the_life_of_a_publication() {
    let announced = life();
    assert_eq!(announced.len(), 4);
    let mut server = node();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    for (message, wanted) in announced.iter().zip([Some("one"), Some("two"), Some("three"), None]) {
        assert_eq!(receive(&mut server, &[message]), wanted.map(pidf));
    }
    assert_eq!(server.sent_to("bob").len(), 5);
    assert!(server.announced.is_empty(), "a node does not announce what it received");
}

/// What has been said of a publication, in the order in which it arrives: 1 to 3 are its documents, 4 is its removal.
fn messages_in_any_order_change_nothing_back((order, wanted): (&[usize], Option<&str>)) {
    let announced = life();
    let messages: Vec<&Replica> = order.iter().map(|number| &announced[number - 1]).collect();
    assert_eq!(receive(&mut node(), &messages), wanted.map(pidf));
}

table! { messages_in_any_order_change_nothing_back:
    the_first_twice => (&[1, 1], Some("one"));
    the_first_again_after_the_second => (&[1, 2, 1], Some("two"));
    each_several_times => (&[1, 2, 2, 1, 2], Some("two"));
    the_second_before_the_first => (&[2, 1], Some("two"));
    the_last_before_the_others => (&[3, 1, 2], Some("three"));
    the_last_between_the_others => (&[1, 3, 2], Some("three"));
    the_last_alone => (&[3], Some("three"));
    a_gap => (&[1, 3], Some("three"));
    the_removal_twice => (&[1, 2, 3, 4, 4], None);
    a_document_after_the_removal => (&[1, 2, 3, 4, 3], None);
    the_first_after_the_removal => (&[1, 2, 3, 4, 1], None);
    the_removal_after_the_first => (&[1, 4], None);
}

#[test]
fn silent_replicas_are_stored_and_nobody_is_notified() {
    let announced = life();
    let mut server = node();
    server.config.skips_notify_of_replicas = true;
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    assert_eq!(receive(&mut server, &[&announced[0]]), Some(pidf("one")));
    assert_eq!(server.sent.len(), 1);
}

/// What another module publishes where the presentity is not held: the nodes that hold it carry it out, and come to
/// one document and to none.
#[test]
fn what_a_module_publishes_elsewhere_is_carried_out_where_it_is_held() {
    let mut outside = MemoryPorts { is_elsewhere: true, ..node() };
    let mut publish = |etag: &str, body: &str, expires: u32, kind: DirectKind| {
        let direct = Direct {
            event: PRESENCE,
            user: b"alice",
            domain: b"example.org",
            etag: EntityTag::new(etag.as_bytes()),
            sender: b"",
            body: body.as_bytes(),
            expires: expires.into(),
            kind,
        };
        direct_publish::publish(&mut outside, &direct).expect("announced");
        outside.announced.pop().expect("a message")
    };
    let (one, two) = (pidf("one"), pidf("two"));
    let steps = [
        (publish("tag", &one, 600, DirectKind::Insert), Some(&one)),
        (publish("tag", &two, 600, DirectKind::Update), Some(&two)),
        (publish("tag", "", 0, DirectKind::Update), None),
        (publish("tag2", &one, 600, DirectKind::Replace), Some(&one)),
        (publish("tag2", &two, 600, DirectKind::Replace), Some(&two)),
        (publish("tag2", "", 0, DirectKind::Insert), None),
    ];
    let made = publish("", &one, 600, DirectKind::Insert);
    assert!(made.is_new && !made.etag.is_empty() && !made.ruid.is_empty());
    let mut server = node();
    for (at, (message, shown)) in steps.iter().enumerate() {
        assert_eq!(receive(&mut server, &[message]).as_ref(), *shown, "step {at}");
    }
    assert_eq!(receive(&mut server, &[&made]), Some(one));
    let resource = outside.resource("alice", PRESENCE);
    assert!(outside.documents(&resource).expect("documents").is_empty(), "nothing is stored there");
}

#[test]
fn a_change_that_others_are_always_faster_than_is_left_to_the_comparison() {
    let announced = life();
    for (faster, wanted, left) in [(15, "two", 0), (16, "one", 0), (17, "one", 1)] {
        let mut server = node();
        receive(&mut server, &[&announced[0]]);
        server.overtaken = faster;
        assert_eq!(receive(&mut server, &[&announced[1]]), Some(pidf(wanted)), "{faster}");
        assert_eq!(server.overtaken, left);
    }
}

/// A document of one dialog that another node holds and announces.
fn announced_dialog(ruid: &str, received_at: i64, state: &str) -> Replica {
    let body = format!("<dialog-info><dialog id=\"d\"><state>{state}</state></dialog></dialog-info>").into_bytes();
    Replica {
        domain: b"example.org".to_vec(),
        user: b"alice".to_vec(),
        event: b"dialog".to_vec(),
        etag: EntityTag::new(ruid.as_bytes().to_vec()),
        expires: Seconds(600),
        stamp: ClusterSecond::at(received_at),
        is_new: true,
        ruid: ruid.as_bytes().to_vec(),
        body,
        ..Replica::default()
    }
}

fn with_dialogs() -> (MemoryPorts, Resource) {
    let server = node();
    let package = server.packages.named(b"dialog").expect("the package dialog");
    let resource = server.uri_rule().resource(b"sip:alice@example.org", package);
    (server, resource)
}

/// What is announced of a dialog whose newer document was removed or is held, by which clock, and whether it is taken.
fn an_older_document_of_a_dialog_is_not_taken_for_a_new_one(
    (ended_at, again, clock, taken): (i64, bool, ReceiptClock, bool),
) {
    let (mut server, resource) = with_dialogs();
    let known = announced_dialog("a", ended_at, "confirmed");
    let dialogs = Dialogs::of_document(&known.body);
    server.note_ended(&resource, &dialogs.ids(), known.stamp);
    let other = Replica { again, ..announced_dialog("b", 50, "early") };
    let answer = replication::apply(&mut server, &other, NotifiedBy::ThisNode, clock).expect("applied");
    assert_eq!(answer, (!taken).then(|| other.correction()), "removed and then announced");
    assert_eq!(server.documents(&resource).expect("documents").len(), usize::from(taken));

    let (mut server, resource) = with_dialogs();
    replication::apply(&mut server, &known, NotifiedBy::ThisNode, ReceiptClock::Own).expect("applied");
    let answer = replication::apply(&mut server, &other, NotifiedBy::ThisNode, clock).expect("applied");
    let held: Vec<_> = server.documents(&resource).expect("documents").into_iter().map(|held| held.ruid).collect();
    assert_eq!((answer.is_none(), held), (taken, vec![if taken { b"b".to_vec() } else { b"a".to_vec() }]), "held");
}

table! { an_older_document_of_a_dialog_is_not_taken_for_a_new_one:
    older_in_a_comparison => (51, true, ReceiptClock::Own, false);
    newer_in_a_comparison => (49, true, ReceiptClock::Own, true);
    of_the_same_second => (50, true, ReceiptClock::Own, true);
    older_and_late => (51, false, ReceiptClock::Shared, false);
    newer_and_announced => (49, false, ReceiptClock::Shared, true);
    by_a_clock_of_its_own => (51, false, ReceiptClock::Own, true);
}

#[test]
fn by_a_wrong_clock_nothing_is_older_than_what_was_removed() {
    for (clock, taken) in [(ReceiptClock::Shared, false), (ReceiptClock::Wrong, true)] {
        for again in [false, true] {
            let (mut server, resource) = with_dialogs();
            let removed = announced_dialog("a", 51, "confirmed");
            server.note_ended(&resource, &Dialogs::of_document(&removed.body).ids(), removed.stamp);
            let other = Replica { again, ..announced_dialog("b", 50, "early") };
            let answer = replication::apply(&mut server, &other, NotifiedBy::ThisNode, clock).expect("applied");
            assert_eq!(answer.is_none(), taken, "{clock:?}");
        }
    }
}

#[test]
fn a_removal_ends_what_is_older_of_its_dialogs_alone() {
    let (mut server, resource) = with_dialogs();
    Subscribe::new("bob", "alice", "dialog").send(&mut server).expect("subscribed");
    let mut apply = |message: &Replica| {
        replication::apply(&mut server, message, NotifiedBy::ThisNode, ReceiptClock::Shared).expect("applied");
        (server.documents(&resource).expect("documents").len(), server.sent_to("bob").len())
    };
    assert_eq!(apply(&announced_dialog("a", 50, "early")), (1, 2));
    let unheard = announced_dialog("b", 50, "confirmed");
    let ended = Dialogs::of_document(&unheard.body).ids();
    let removal =
        |received_at| Replica { ended: ended.clone(), stamp: ClusterSecond::at(received_at), ..unheard.removal() };
    assert_eq!(apply(&removal(50)), (1, 2), "of the same second");
    assert_eq!(apply(&Replica { ended: vec![7], ..removal(60) }), (1, 2), "of another dialog");
    assert_eq!(apply(&removal(60)), (0, 3));
    assert_eq!(apply(&removal(60)), (0, 3));
    assert_eq!(apply(&Replica { again: true, ..announced_dialog("c", 55, "early") }), (0, 3));
    assert_eq!(apply(&announced_dialog("d", 60, "early")), (1, 4));
}

/// What is held of a publication after a node was answered that it is removed, or that an old state of it is.
fn a_correction_removes_no_later_state((held, corrected, is_removal, stays): (u32, u32, bool, bool)) {
    let (mut server, resource) = with_dialogs();
    let state = |changes: u32| Replica {
        etag: EntityTag::new(format!("a.1.1.1.{changes}").into_bytes()),
        again: true,
        ..announced_dialog("x", 50 + i64::from(changes), "confirmed")
    };
    let mut apply = |message: &Replica| {
        let answer = replication::apply(&mut server, message, NotifiedBy::ThisNode, ReceiptClock::Shared);
        (server.documents(&resource).expect("documents").len(), answer.expect("applied").is_some())
    };
    assert_eq!(apply(&state(held)), (1, false));
    let of_it = state(corrected);
    let message = if is_removal { of_it.removal() } else { of_it.correction() };
    assert_eq!(apply(&message), (usize::from(stays), false));
    if !stays {
        assert_eq!(apply(&state(held)), (0, true), "the same state");
        let later = apply(&state(held.max(corrected) + 1));
        assert_eq!(later, if is_removal { (0, true) } else { (1, false) }, "a later state");
    }
}

table! { a_correction_removes_no_later_state:
    the_state_that_is_held => (3, 3, false, false);
    an_earlier_one => (3, 2, false, true);
    a_later_one => (2, 3, false, false);
    removed_by_its_publisher => (3, 3, true, false);
    removed_before_it_changed => (3, 2, true, false);
}
