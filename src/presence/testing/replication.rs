//! Publications of other nodes: announced, stored, and notified once, in whatever order the messages come.
use super::actors::{Publish, Subscribe, pidf};
use super::{MemoryPorts, PRESENCE};
use crate::presence::ports::Ports;
use crate::presence::replica::Replica;
use crate::presence::replication;

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

fn hear(server: &mut MemoryPorts, messages: &[&Replica]) -> Option<String> {
    for message in messages {
        let silent = server.config().replicas_are_silent;
        let _ = replication::apply(server, message, silent).expect("applied");
    }
    let resource = server.resource("alice", PRESENCE);
    let documents = server.documents(&resource).expect("documents");
    assert!(documents.len() <= 1, "one publication is one document: {documents:?}");
    documents.first().map(|document| String::from_utf8_lossy(&document.body).into_owned())
}

#[test]
fn a_node_follows_the_life_of_a_publication() {
    let told = life();
    assert_eq!(told.len(), 4);
    let mut server = node();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    for (message, wanted) in told.iter().zip([Some("one"), Some("two"), Some("three"), None]) {
        assert_eq!(hear(&mut server, &[message]), wanted.map(pidf));
    }
    assert_eq!(server.sent_to("bob").len(), 5);
    assert!(server.announced.is_empty(), "a node does not announce what it heard");
}

#[test]
fn messages_that_come_twice_late_or_after_a_gap_change_nothing_back() {
    let told = life();
    let [one, two, three, end] = [&told[0], &told[1], &told[2], &told[3]];
    for (order, wanted) in [
        (vec![one, one], Some("one")),
        (vec![one, two, one], Some("two")),
        (vec![one, two, two, one, two], Some("two")),
        (vec![two, one], Some("two")),
        (vec![three, one, two], Some("three")),
        (vec![one, three, two], Some("three")),
        (vec![three], Some("three")),
        (vec![one, two, three, end, end], None),
        (vec![one, two, three, end, three], None),
        (vec![one, two, three, end, one], None),
    ] {
        let mut server = node();
        assert_eq!(hear(&mut server, &order), wanted.map(pidf), "{} messages", order.len());
    }
}

#[test]
fn silent_replicas_are_stored_and_nobody_is_notified() {
    let told = life();
    let mut server = node();
    server.config.replicas_are_silent = true;
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    assert_eq!(hear(&mut server, &[&told[0]]), Some(pidf("one")));
    assert_eq!(server.sent.len(), 1);
}
