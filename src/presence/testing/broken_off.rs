//! What a panic breaks off is made up for, and costs nobody else anything.
use super::actors::{Publish, Subscribe, pidf};
use super::{DIALOG, MemoryPorts, PRESENCE};
use crate::presence::composition::late::LateSelection;
use crate::presence::expiry;
use crate::presence::notification::NotifyAttempt;
use crate::presence::notification::notifier;
use crate::presence::ports::notifications::Notifications;
use crate::presence::ports::publications::Publications;
use crate::time::Seconds;

const PRESENTITIES: [&str; 3] = ["alice", "carol", "erin"];

/// Three presentities with one watcher each, whose passes are broken off once for one of them.
fn server(broken_off: &str) -> MemoryPorts {
    let mut server = MemoryPorts::default();
    for presentity in PRESENTITIES {
        Subscribe { call_id: Some(presentity), ..Subscribe::new("bob", presentity, "presence") }
            .send(&mut server)
            .expect("subscribed");
        Publish { expires: Some(300), ..Publish::new(presentity, PRESENCE, &pidf("open")) }
            .send(&mut server)
            .expect("stored");
    }
    server.sent.clear();
    server.panics_for_presentity.insert(format!("sip:{broken_off}@example.org").into_bytes(), 1);
    server
}

/// What the timer does a second later.
fn try_again(server: &mut MemoryPorts, presentity: &str) {
    let resource = server.resource(presentity, PRESENCE);
    server.attempt = NotifyAttempt::Second;
    if server.claim(&resource) {
        notifier::run(server, &resource);
    }
}

#[test]
fn watchers_are_notified_of_every_publication_that_ran_out() {
    for broken_off in PRESENTITIES {
        let mut server = server(broken_off);
        server.now += Seconds(301);
        assert_eq!(expiry::publications(&mut server).expect("removed"), PRESENTITIES.len());
        for presentity in PRESENTITIES {
            assert_eq!(server.sent_to(presentity).len(), usize::from(presentity != broken_off), "{presentity}");
        }
        try_again(&mut server, broken_off);
        assert_eq!(server.sent_to(broken_off).len(), 1);
        assert!(!server.has_forgotten_work());
    }
}

#[test]
fn watchers_are_notified_of_the_end_of_every_subscription() {
    for broken_off in PRESENTITIES {
        let mut server = server(broken_off);
        server.now += Seconds(601);
        assert_eq!(expiry::subscriptions(&mut server).expect("ended"), PRESENTITIES.len());
        for presentity in PRESENTITIES {
            assert_eq!(server.sent_to(presentity).len(), usize::from(presentity != broken_off), "{presentity}");
        }
        try_again(&mut server, broken_off);
        let states: Vec<&str> = server.sent_to(broken_off).iter().map(|sent| sent.state.as_str()).collect();
        assert_eq!(states, ["terminated;reason=timeout"]);
        assert!(!server.has_forgotten_work());
    }
}

/// Alice's dialog has ended, and an older state of it has come in since, which is held back; bob watches.
fn server_with_late_state() -> (MemoryPorts, String) {
    let state = |version: u32, state: &str| {
        let dialog = format!("<dialog id=\"x\"><state>{state}</state></dialog>");
        format!("<dialog-info version=\"{version}\">{dialog}</dialog-info>")
    };
    let (end, late) = (state(5, "terminated"), state(0, "confirmed"));
    let mut server = MemoryPorts::default();
    let tag = Publish::new("alice", DIALOG, &end).send(&mut server).expect("published");
    Subscribe::new("bob", "alice", "dialog").send(&mut server).expect("subscribed");
    let publish = Publish { etag: Some(&tag), ..Publish::new("alice", DIALOG, &late) };
    publish.send(&mut server).expect("published");
    server.sent.clear();
    (server, late)
}

/// The timer in each second of a minute.
fn a_minute(server: &mut MemoryPorts) {
    for _ in 0..60 {
        server.now += Seconds(1);
        expiry::late_documents(server, LateSelection::Due).expect("whatever panics");
    }
}

#[test]
fn a_late_document_whose_notifies_panic_is_shown_once() {
    let (mut server, late) = server_with_late_state();
    server.panics_for_presentity.insert(b"sip:alice@example.org".to_vec(), 1);
    server.now += Seconds(6);
    expiry::late_documents(&mut server, LateSelection::Due).expect("shown");
    let resource = server.resource("alice", DIALOG);
    server.attempt = NotifyAttempt::Second;
    assert!(server.claim(&resource));
    notifier::run(&mut server, &resource);
    let received_at = server.documents(&resource).expect("read")[0].received_at;
    a_minute(&mut server);
    let documents = server.documents(&resource).expect("read");
    assert_eq!((documents[0].body.as_slice(), documents[0].received_at), (late.as_bytes(), received_at));
    assert_eq!(server.sent.len(), 1);
}

#[test]
fn a_late_document_that_cannot_be_stored_for_panics_is_given_up() {
    let (mut server, _) = server_with_late_state();
    server.panics_at_stores = usize::MAX;
    a_minute(&mut server);
    assert_eq!(usize::MAX - server.panics_at_stores, 2, "it is tried once more");
    assert!(server.due_late(LateSelection::All).is_empty());
}

#[test]
fn a_late_document_that_the_store_refuses_may_be_broken_off_once() {
    let (mut server, late) = server_with_late_state();
    let resource = server.resource("alice", DIALOG);
    server.stores_left = Some(0);
    server.now += Seconds(6);
    for _ in 0..3 {
        assert!(expiry::late_documents(&mut server, LateSelection::Due).is_err(), "the store refuses it");
        server.now += Seconds(60);
    }
    (server.stores_left, server.panics_at_stores) = (None, 1);
    expiry::late_documents(&mut server, LateSelection::Due).expect("broken off");
    assert_ne!(server.documents(&resource).expect("read")[0].body, late.as_bytes());
    server.now += Seconds(400);
    expiry::late_documents(&mut server, LateSelection::Due).expect("shown");
    assert_eq!(server.documents(&resource).expect("read")[0].body, late.as_bytes());
}

#[test]
fn watchers_whose_notifies_panic_do_not_mute_those_behind_them() {
    let mut server = MemoryPorts::default();
    let names: Vec<String> = (0..100).map(|n| format!("watcher{n}")).collect();
    for name in &names {
        Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
    }
    server.sent.clear();
    let (odd, others) = names.split_at(5);
    server.panics_for.extend(odd.iter().cloned());
    Publish::new("alice", PRESENCE, &pidf("open")).send(&mut server).expect("stored");
    assert!(server.sent.len() < others.len(), "a pass ends when all seems to panic");
    try_again(&mut server, "alice");
    assert!(odd.iter().all(|name| server.sent_to(name).is_empty()));
    for name in others {
        assert_eq!(server.sent_to(name).len(), 1, "{name}");
    }
}

/// Fewer panics than the bound cost their own watchers alone; with as many the pass ends, and the rest is tried again.
#[test]
fn a_pass_ends_with_its_third_panic() {
    for (panics, sent) in [(1, 99), (2, 98), (3, 0), (4, 0)] {
        let mut server = MemoryPorts::default();
        let names: Vec<String> = (0..100).map(|n| format!("watcher{n}")).collect();
        for name in &names {
            Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
        }
        server.sent.clear();
        server.panics_for.extend(names[..panics].iter().cloned());
        Publish::new("alice", PRESENCE, &pidf("open")).send(&mut server).expect("stored");
        assert_eq!(server.sent.len(), sent, "{panics}");
        try_again(&mut server, "alice");
        assert_eq!(server.sent.len(), 100 - panics, "{panics}");
    }
}
