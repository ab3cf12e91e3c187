//! NOTIFY (RFC 6665 4.2.2): who is notified of what.
use super::actors::{Publish, Subscribe, dialog, pidf};
use super::{DIALOG, MemoryPorts, PRESENCE, VOICEMAIL};
use crate::presence::composition::readable;
use crate::presence::error::StoreError;
use crate::presence::notification::NotifyReason;
use crate::presence::notification::notifier;
use crate::presence::ports::notifications::Notifications;
use crate::presence::ports::publications::Publications;
use crate::presence::publication::{Change, Publication};
use crate::presence::subscription::Status;
use crate::presence::winfo;
use crate::time::{Expiry, Seconds};

fn each_change_is_one_notify_for_each_watcher(watchers: usize) {
    let mut server = MemoryPorts::default();
    let names: Vec<String> = (0..watchers).map(|n| format!("watcher{n}")).collect();
    for name in &names {
        Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
    }
    let mut etag = None;
    for word in ["one", "two", "three"] {
        let body = pidf(word);
        let publish = Publish { etag: etag.as_deref(), ..Publish::new("alice", PRESENCE, &body) };
        etag = Some(publish.send(&mut server).expect("stored"));
    }
    for name in &names {
        let sent = server.sent_to(name);
        let bodies: Vec<_> = sent.iter().map(|s| s.body.clone()).collect();
        assert_eq!(bodies, [None, Some(pidf("one")), Some(pidf("two")), Some(pidf("three"))], "{name}");
        assert!(sent.windows(2).all(|w| w[1].cseq == w[0].cseq + 1 && w[1].version == w[0].version + 1));
    }
    assert_eq!(server.sent.len(), watchers * 4);
    assert!(!server.has_forgotten_work());
}

table! { each_change_is_one_notify_for_each_watcher:
    nobody => 0;
    one_watcher => 1;
    two_watchers => 2;
    three_watchers => 3;
    seven_watchers => 7;
    more_than_a_batch => 300;
}

#[test]
fn changes_of_others_are_not_seen() {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    for (user, event, body) in
        [("carol", PRESENCE, pidf("open")), ("alice", DIALOG, dialog("a", "early")), ("Alice", PRESENCE, pidf("open"))]
    {
        Publish::new(user, event, &body).send(&mut server).expect("stored");
        assert_eq!(server.sent_to("bob").len(), 1, "{user} {body}");
    }
}

#[test]
fn the_sender_of_a_change_is_not_notified_of_it() {
    let mut server = MemoryPorts::default();
    for name in ["bob", "carol"] {
        Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
    }
    let body = pidf("open");
    let publish = Publish { sender: "sip:bob@192.0.2.1", ..Publish::new("alice", PRESENCE, &body) };
    publish.send(&mut server).expect("stored");
    assert_eq!((server.sent_to("bob").len(), server.sent_to("carol").len()), (1, 2));
}

/// The changes come while a pass for an earlier one is under way, so that one pass is due for all of them.
fn the_sender_of_a_change_is_notified_of_those_of_others((changes, wanted): (&'static [&'static str], [usize; 3])) {
    let mut server = MemoryPorts::default();
    let watchers = ["first", "bob", "carol"];
    for name in watchers {
        Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
    }
    server.sent.clear();
    // After the 200 and the NOTIFY to the first watcher.
    server.interruptions.push_back(Box::new(|_: &mut MemoryPorts| {}));
    server.interruptions.push_back(Box::new(move |server: &mut MemoryPorts| {
        for sender in changes {
            let (body, contact) = (pidf(sender), format!("sip:{sender}@192.0.2.1"));
            let publish = Publish { sender: &contact, ..Publish::new("alice", PRESENCE, &body) };
            publish.send(server).expect("stored");
        }
    }));
    Publish::new("alice", PRESENCE, &pidf("by nobody")).send(&mut server).expect("stored");
    let received = |name: &&str| server.sent_to(name).len();
    assert_eq!(watchers.each_ref().map(received), wanted, "{changes:?}");
    assert!(!server.has_forgotten_work());
}

// Two watchers are in one batch: the third is reached with the pass that was under way.
table! { the_sender_of_a_change_is_notified_of_those_of_others:
    one_own => (&["bob"], [2, 1, 2]);
    several_own => (&["bob", "bob", "bob"], [2, 1, 2]);
    own_after_another_s => (&["carol", "bob"], [2, 2, 2]);
    own_before_another_s => (&["bob", "carol"], [2, 2, 2]);
    own_around_another_s => (&["bob", "carol", "bob"], [2, 2, 2]);
    own_of_who_has_not_been_reached => (&["carol"], [2, 2, 1]);
    several_own_of_who_has_not_been_reached => (&["carol", "carol"], [2, 2, 1]);
    own_after_one_that_is_nobody_s => (&["dave", "carol"], [2, 2, 2]);
}

fn several_documents_are_put_together_and_single_ones_shown_alone(
    (event, name, wanted): (super::PackageId, &str, &str),
) {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", name).send(&mut server).expect("subscribed");
    for word in ["one", "two"] {
        let body = if event == PRESENCE { pidf(word) } else { word.to_string() };
        Publish::new("alice", event, &body).send(&mut server).expect("stored");
    }
    let last = server.sent_to("bob").last().and_then(|s| s.body.clone()).expect("a body");
    let words = last.replace("<presence><basic>", "").replace("</basic></presence>", "");
    assert_eq!(words, wanted);
}

table! { several_documents_are_put_together_and_single_ones_shown_alone:
    presence => (PRESENCE, "presence", "two|one");
    voicemail => (VOICEMAIL, "message-summary", "two");
}

#[test]
fn a_removed_document_is_shown_as_closed_once() {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let body = pidf("open");
    let etag = Publish::new("alice", PRESENCE, &body).send(&mut server).expect("stored");
    let remove = Publish { etag: Some(&etag), body: None, expires: Some(0), ..Publish::new("alice", PRESENCE, "") };
    remove.send(&mut server).expect("removed");
    let closed = format!("closed {body}");
    assert_eq!(server.sent_to("bob").last().and_then(|s| s.body.as_deref()), Some(closed.as_str()));
    let refresh = Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2);
    refresh.send(&mut server).expect("refreshed");
    assert_eq!(server.sent_to("bob").last().and_then(|s| s.body.as_deref()), None);
}

#[test]
fn a_refresh_without_a_body_notifies_with_the_document_there_is() {
    let mut server = MemoryPorts::default();
    let body = pidf("open");
    let etag = Publish::new("alice", PRESENCE, &body).send(&mut server).expect("stored");
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let refresh = Publish { etag: Some(&etag), body: None, ..Publish::new("alice", PRESENCE, "") };
    refresh.send(&mut server).expect("refreshed");
    assert!(server.sent_to("bob").iter().all(|sent| sent.body.as_deref() == Some(body.as_str())));
}

fn send_fast_notify_0_leaves_out_a_first_notify_without_a_body((fast, published, wanted): (bool, bool, usize)) {
    let mut server = MemoryPorts::default();
    server.config.send_fast_notify = fast;
    let body = dialog("a", "early");
    if published {
        Publish::new("alice", DIALOG, &body).send(&mut server).expect("stored");
    }
    Subscribe::new("bob", "alice", "dialog").send(&mut server).expect("subscribed");
    assert_eq!(server.sent.len(), wanted, "{fast} {published}");
}

table! { send_fast_notify_0_leaves_out_a_first_notify_without_a_body:
    fast_without_a_document => (true, false, 1);
    slow_without_a_document => (false, false, 0);
    fast_with_a_document => (true, true, 1);
    slow_with_a_document => (false, true, 1);
}

/// As in stock, whose first NOTIFY to be sent has CSeq 2 and version 1, refreshed or not.
#[test]
fn what_is_left_out_uses_no_number() {
    for refreshes in 0..3 {
        let mut server = MemoryPorts::default();
        server.config.send_fast_notify = false;
        Subscribe::new("bob", "alice", "dialog").send(&mut server).expect("subscribed");
        for cseq in 2..2 + refreshes {
            Subscribe::new("bob", "alice", "dialog").in_dialog(&server, cseq).send(&mut server).expect("refreshed");
        }
        Publish::new("alice", DIALOG, &dialog("a", "early")).send(&mut server).expect("stored");
        let numbers: Vec<_> = server.sent_to("bob").iter().map(|sent| (sent.cseq, sent.version)).collect();
        assert_eq!(numbers, [(2, 1)], "{refreshes}");
    }
}

#[test]
fn documents_that_cannot_be_read_do_not_pass_for_none_where_those_are_left_out() {
    let mut server = MemoryPorts::default();
    server.config.send_fast_notify = false;
    let body = dialog("a", "early");
    Publish::new("alice", DIALOG, &body).send(&mut server).expect("stored");
    server.unread = Some(StoreError::Database);
    Subscribe::new("bob", "alice", "dialog").send(&mut server).expect("subscribed");
    assert!(server.sent.is_empty(), "{:?}", server.sent);
    server.unread = None;
    let resource = server.resource("alice", DIALOG);
    assert!(server.claim(&resource), "it is due still");
    notifier::run(&mut server, &resource);
    let seen: Vec<_> = server.sent.iter().map(|sent| (sent.cseq, sent.body.as_deref())).collect();
    assert_eq!(seen, [(2, Some(body.as_str()))]);
}

/// A subscription runs out while others of the pass are notified: its last NOTIFY is to come, and has the next number.
#[test]
fn an_end_that_comes_later_uses_no_number_now() {
    let mut server = MemoryPorts::default();
    Subscribe::new("first", "alice", "presence").send(&mut server).expect("subscribed");
    Subscribe { expires: Some(60), ..Subscribe::new("bob", "alice", "presence") }
        .send(&mut server)
        .expect("subscribed");
    server.interruptions.push_back(Box::new(|_: &mut MemoryPorts| {}));
    server.interruptions.push_back(Box::new(|server: &mut MemoryPorts| server.now += Seconds(61)));
    Publish::new("alice", PRESENCE, &pidf("one")).send(&mut server).expect("stored");
    assert_eq!((server.sent_to("first").len(), server.sent_to("bob").len()), (2, 1));
    let state = server.stored("bob").expect("not ended yet").state;
    assert_eq!(
        (state.local_cseq + 1, state.version),
        (server.sent_to("bob")[0].cseq, server.sent_to("bob")[0].version)
    );
}

#[test]
fn watchers_of_watchers_see_each_subscription_come_and_go() {
    let mut server = MemoryPorts::default();
    Subscribe::new("boss", "alice", "presence.winfo").send(&mut server).expect("subscribed");
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let end = Subscribe { expires: Some(0), ..Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2) };
    end.send(&mut server).expect("ended");
    let sent = server.sent_to("boss");
    assert_eq!(sent.len(), 3);
    let body = |at: usize| sent[at].body.clone().expect("a winfo document");
    assert!(body(0).contains("state=\"full\"") && !body(0).contains("<watcher "));
    assert!(body(1).contains("state=\"partial\"") && body(1).contains("status=\"active\">sip:bob@example.org<"));
    assert!(body(2).contains("state=\"full\""), "{}", body(2));
    assert_eq!(
        sent.iter().map(|s| s.reason).collect::<Vec<_>>(),
        [NotifyReason::Subscribe, NotifyReason::Change, NotifyReason::Change]
    );
}

fn a_subscriber_after_the_answer_is_notified_of_the_change_once(
    (event, name, step): (super::PackageId, &'static str, &str),
) {
    // With enable_sphere_check, the rules of presence are looked at before anything is sent.
    for sphere_check in [false, true] {
        let mut server = MemoryPorts::default();
        (server.config.sphere_check, server.config.force_active) = (sphere_check, !sphere_check);
        for watcher in ["before", "after"] {
            server.allow("alice", watcher, Status::Active, "");
        }
        is_notified_of_the_change_once(server, (event, name, step));
    }
}

fn is_notified_of_the_change_once(
    mut server: MemoryPorts,
    (event, name, step): (super::PackageId, &'static str, &str),
) {
    Subscribe::new("before", "alice", name).send(&mut server).expect("subscribed");
    let (first, second) = match event {
        DIALOG => (dialog("a", "early"), dialog("a", "confirmed")),
        _ => (pidf("one"), pidf("two")),
    };
    let at_home = pidf("two").replace("</presence>", "<sphere>home</sphere></presence>");
    let etag = Publish::new("alice", event, &first).send(&mut server).expect("stored");
    let subscribes = move |server: &mut MemoryPorts| {
        Subscribe::new("after", "alice", name).send(server).expect("subscribed");
        assert_eq!(server.sent_to("after").len(), 1, "the answer may be on its way for long");
    };
    server.interruptions.push_back(Box::new(subscribes));
    let known = Publish { etag: Some(&etag), body: None, ..Publish::new("alice", event, "") };
    let request = match step {
        "another document" => Publish::new("alice", event, &second),
        "a modification" => Publish { body: Some(&second), ..known },
        "another sphere" => Publish { body: Some(&at_home), ..known },
        "a refresh" => known,
        "a removal" => Publish { expires: Some(0), ..known },
        "a document that is over at once" => Publish { expires: Some(0), ..Publish::new("alice", event, &second) },
        _ => panic!("{step}"),
    };
    request.send(&mut server).expect("answered with 200");
    assert_eq!(server.sent_to("after").len(), 1, "{:?}", server.sent_to("after"));
    assert!(!server.has_forgotten_work());
    let last = |watcher: &str| server.sent_to(watcher).last().and_then(|sent| sent.body.clone());
    assert_eq!(last("after"), last("before"));
}

table! { a_subscriber_after_the_answer_is_notified_of_the_change_once:
    another_document => (PRESENCE, "presence", "another document");
    a_modification => (PRESENCE, "presence", "a modification");
    another_sphere => (PRESENCE, "presence", "another sphere");
    a_refresh => (PRESENCE, "presence", "a refresh");
    a_removal => (PRESENCE, "presence", "a removal");
    a_call => (DIALOG, "dialog", "a modification");
    a_call_that_is_over_at_once => (DIALOG, "dialog", "a document that is over at once");
    new_mail => (VOICEMAIL, "message-summary", "a modification");
    mail_that_is_shown_once => (VOICEMAIL, "message-summary", "a document that is over at once");
}

#[test]
fn a_winfo_watcher_from_the_answer_on_is_notified_of_a_subscription_once() {
    let mut server = MemoryPorts::default();
    for (step, expires) in [("comes", 600), ("refreshes", 600), ("goes", 0)] {
        let boss = format!("boss-{step}");
        let name = boss.clone();
        let watches = move |server: &mut MemoryPorts| {
            let call_id = Some(name.as_str());
            Subscribe { call_id, ..Subscribe::new("boss", "alice", "presence.winfo") }
                .send(server)
                .expect("subscribed");
            assert_eq!(server.sent_to(&name).len(), 1, "the answer may be on its way for long");
        };
        server.interruptions.push_back(Box::new(watches));
        let bob = Subscribe { expires: Some(expires), ..Subscribe::new("bob", "alice", "presence") };
        let bob = if step == "comes" { bob } else { bob.in_dialog(&server, 2 + u32::from(expires == 0)) };
        bob.send(&mut server).expect("answered with 200");
        assert_eq!(server.sent_to(&boss).len(), 1, "{step}: {:?}", server.sent_to(&boss));
        assert!(!server.has_forgotten_work());
    }
}

#[test]
fn a_watcher_that_changes_twice_is_named_once() {
    let mut server = MemoryPorts::default();
    for name in ["boss", "aide"] {
        Subscribe::new(name, "alice", "presence.winfo").send(&mut server).expect("subscribed");
    }
    server.sent.clear();
    // While those who watch the watchers are notified that carol has come, bob comes and refreshes.
    server.interruptions.push_back(Box::new(|_: &mut MemoryPorts| {}));
    server.interruptions.push_back(Box::new(|server: &mut MemoryPorts| {
        for expires in [600, 300] {
            let bob = Subscribe { expires: Some(expires), ..Subscribe::new("bob", "alice", "presence") };
            let bob = if expires == 600 { bob } else { bob.in_dialog(server, 2) };
            bob.send(server).expect("answered with 200");
        }
    }));
    Subscribe::new("carol", "alice", "presence").send(&mut server).expect("subscribed");
    for name in ["boss", "aide"] {
        let bodies: Vec<String> = server.sent_to(name).iter().filter_map(|sent| sent.body.clone()).collect();
        let named: Vec<usize> = bodies.iter().map(|body| body.matches("sip:bob@").count()).collect();
        assert_eq!(named, [0, 1], "{name}: {bodies:?}");
    }
    assert!(!server.has_forgotten_work());
}

#[test]
fn more_changes_than_a_document_names_are_the_whole_list() {
    let mut server = MemoryPorts::default();
    for name in ["boss", "aide"] {
        Subscribe::new(name, "alice", "presence.winfo").send(&mut server).expect("subscribed");
    }
    server.interruptions.push_back(Box::new(|_: &mut MemoryPorts| {}));
    server.interruptions.push_back(Box::new(|server: &mut MemoryPorts| {
        for n in 0..=winfo::MOST_CHANGES {
            Subscribe::new(&format!("bob{n}"), "alice", "presence").send(server).expect("subscribed");
        }
    }));
    Subscribe::new("carol", "alice", "presence").send(&mut server).expect("subscribed");
    let last = server.sent_to("boss").last().and_then(|sent| sent.body.clone()).expect("a document");
    assert!(last.contains("state=\"full\""), "{last}");
    assert_eq!(last.matches("<watcher ").count(), winfo::MOST_CHANGES + 2, "each of them, and carol");
}

#[test]
fn what_is_shown_once_is_not_shown_to_later_watchers() {
    let mut server = MemoryPorts::default();
    Publish::new("alice", VOICEMAIL, "Messages-Waiting: no").send(&mut server).expect("stored");
    Subscribe::new("bob", "alice", "message-summary").send(&mut server).expect("subscribed");
    // While bob is notified of a change his subscription ends, and a document is published that expires at once.
    server.interruptions.push_back(Box::new(|_: &mut MemoryPorts| {}));
    server.interruptions.push_back(Box::new(|server: &mut MemoryPorts| {
        let bob = Subscribe::new("bob", "alice", "message-summary").in_dialog(server, 2);
        Subscribe { expires: Some(0), ..bob }.send(server).expect("ended");
        let once = Publish { expires: Some(0), ..Publish::new("alice", VOICEMAIL, "Messages-Waiting: once") };
        once.send(server).expect("answered");
    }));
    Publish::new("alice", VOICEMAIL, "Messages-Waiting: yes").send(&mut server).expect("stored");
    assert!(!server.has_forgotten_work());
    Subscribe::new("carol", "alice", "message-summary").send(&mut server).expect("subscribed");
    let seen: Vec<_> = server.sent_to("carol").iter().map(|sent| sent.body.as_deref()).collect();
    assert_eq!(seen, [Some("Messages-Waiting: yes")]);
}

fn refreshed_body(server: &mut MemoryPorts, cseq: u32) -> Option<String> {
    let refresh = Subscribe::new("bob", "alice", "presence").in_dialog(server, cseq);
    refresh.send(server).expect("refreshed");
    server.sent_to("bob").last().and_then(|sent| sent.body.clone())
}

#[test]
fn a_document_that_can_be_read_is_passed_over_for_a_while_only() {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let (one, two) = (pidf("one"), pidf("two"));
    Publish::new("alice", PRESENCE, &one).send(&mut server).expect("stored");
    // The package has no memory for a moment.
    server.makes_nothing_of = Some(|_| true);
    Publish::new("alice", PRESENCE, &two).send(&mut server).expect("stored");
    assert_eq!(server.sent_to("bob").last().and_then(|sent| sent.body.clone()), None);
    assert_eq!(server.composed_until, Some(Expiry::At(server.now + Seconds(60))), "it is no lasting state");
    server.makes_nothing_of = None;
    server.now += Seconds(61);
    assert_eq!(refreshed_body(&mut server, 2), Some(format!("{two}|{one}")));
}

#[test]
fn documents_that_do_not_go_together_show_without_each_other() {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    server.makes_nothing_of = Some(|documents| documents.len() > 1);
    let (one, two) = (pidf("one"), pidf("two"));
    let first = Publish::new("alice", PRESENCE, &one).send(&mut server).expect("stored");
    let second = Publish::new("alice", PRESENCE, &two).send(&mut server).expect("stored");
    let shown = refreshed_body(&mut server, 2).expect("one of them");
    // The one that shows goes; the other is there at once.
    let (gone, left) = if shown == two { (second, one) } else { (first, two) };
    let removal = Publish { etag: Some(&gone), body: None, expires: Some(0), ..Publish::new("alice", PRESENCE, "") };
    removal.send(&mut server).expect("removed");
    assert_eq!(refreshed_body(&mut server, 3), Some(left));
}

#[test]
fn a_document_that_the_parser_refuses_is_passed_over_for_good() {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let (resource, one) = (server.resource("alice", PRESENCE), pidf("one"));
    Publish::new("alice", PRESENCE, &one).send(&mut server).expect("stored");
    // A row that another program has written.
    let broken =
        Publication { etag: "x.1".into(), body: b"<open>".to_vec(), ..server.documents(&resource).unwrap().remove(0) };
    server.publish(&resource, Change::Insert(broken)).expect("stored");
    server.makes_nothing_of = Some(|documents| documents.contains(&&b"<open>"[..]));
    assert_eq!(refreshed_body(&mut server, 2), Some(one.clone()));
    server.makes_nothing_of = None;
    server.now += Seconds(300);
    assert_eq!(refreshed_body(&mut server, 3), Some(one));
}

/// Of documents that do not go together the newest are tried one by one; those beyond wait until these are passed over.
#[test]
fn of_many_documents_the_newest_are_tried() {
    for (count, left) in [(2, 1), (32, 1), (33, 2), (96, 65)] {
        let mut server =
            MemoryPorts { makes_nothing_of: Some(|documents| documents.len() > 1), ..MemoryPorts::default() };
        let resource = server.resource("alice", PRESENCE);
        let document = |n: usize| Publication {
            etag: n.to_string().as_str().into(),
            body: format!("<presence>{n}</presence>").into_bytes(),
            ..Publication::default()
        };
        let mut documents: Vec<Publication> = (0..count).map(document).collect();
        let made = readable::aggregate(&mut server, &resource, &documents, None);
        assert_eq!(made.body, Some(documents[count - 1].body.clone()), "{count}");
        assert!(!made.is_whole);
        server.leave_out_unreadable(&mut documents);
        assert_eq!(documents.len(), left, "{count}");
    }
}
