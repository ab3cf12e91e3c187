//! SUBSCRIBE (RFC 6665 4.2.1): what is stored, answered and refused.
use super::actors::{Publish, Subscribe, code, pidf};
use super::fixtures::config;
use super::{MemoryPorts, PRESENCE, Sent};
use crate::presence::authorization::{NoVerdict, Outstanding};
use crate::presence::config::Config;
use crate::presence::error::StoreError;
use crate::presence::event_package::{Trait, Traits};
use crate::presence::history::ended::Cause;
use crate::presence::notification::NotifyReason;
use crate::presence::ports::authorizations::Authorizations;
use crate::presence::subscription::Status;
use crate::time::Seconds;
use std::num::NonZeroUsize;

#[test]
fn a_subscription_lives_from_its_first_subscribe_to_its_end() {
    let mut server = MemoryPorts::default();
    let reply = Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    assert_eq!((reply.code, reply.header("Expires")), (200, Some("600")));
    assert_eq!(reply.header("Contact"), Some("<sip:127.0.0.1:5060>"));
    let refresh = Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2);
    refresh.send(&mut server).expect("refreshed");
    let end = Subscribe { expires: Some(0), ..Subscribe::new("bob", "alice", "presence").in_dialog(&server, 3) };
    assert_eq!(end.clone().send(&mut server).expect("ended").header("Expires"), Some("0"));
    assert_eq!(server.subscription_count(), 0);
    assert_eq!(code(Subscribe { cseq: 4, ..end }.send(&mut server)), 481);
    let sent: Vec<_> = server.sent.iter().map(|s| (s.cseq, s.version, s.reason, s.state.as_str())).collect();
    assert_eq!(
        sent,
        [
            (2, 1, NotifyReason::Subscribe, "active;expires=600"),
            (3, 2, NotifyReason::Subscribe, "active;expires=600"),
            (4, 3, NotifyReason::Unsubscribe, "terminated;reason=timeout"),
        ],
        "each SUBSCRIBE is followed by one NOTIFY, and the numbers rise by one"
    );
}

fn requests_that_cannot_be_carried_out_are_refused((what, wanted): (&str, u16)) {
    let mut server = MemoryPorts::default();
    Subscribe { cseq: 5, ..Subscribe::new("bob", "alice", "presence") }.send(&mut server).expect("subscribed");
    server.config.min_expires = Seconds(60);
    let refresh = Subscribe::new("bob", "alice", "presence").in_dialog(&server, 6);
    let request = match what {
        "no event" => Subscribe { event: "", ..refresh },
        "unknown event" => Subscribe { event: "nothing", ..refresh },
        "unknown dialog" => Subscribe { to_tag: "other".into(), ..refresh },
        "another package" => Subscribe { event: "dialog", ..refresh },
        "old CSeq" => Subscribe { cseq: 4, ..refresh },
        "same CSeq" => Subscribe { cseq: 5, ..refresh },
        _ => Subscribe { expires: Some(59), ..refresh },
    };
    assert_eq!(code(request.send(&mut server)), wanted, "{what}");
    assert_eq!((server.subscription_count(), server.sent.len()), (1, 1), "{what} changes nothing");
    let refresh = Subscribe::new("bob", "alice", "presence").in_dialog(&server, 6);
    refresh.send(&mut server).expect("the dialog goes on");
}

table! { requests_that_cannot_be_carried_out_are_refused:
    no_event => ("no event", 489);
    unknown_event => ("unknown event", 489);
    unknown_dialog => ("unknown dialog", 481);
    another_package => ("another package", 481);
    old_cseq => ("old CSeq", 400);
    same_cseq => ("same CSeq", 400);
    too_brief => ("too brief", 423);
}

#[test]
fn a_fetch_is_answered_by_one_notify_and_leaves_nothing() {
    let mut server = MemoryPorts::default();
    let body = pidf("open");
    Publish::new("alice", PRESENCE, &body).send(&mut server).expect("stored");
    let fetch = Subscribe { expires: Some(0), ..Subscribe::new("bob", "alice", "presence") };
    assert_eq!(fetch.send(&mut server).expect("answered").header("Expires"), Some("0"));
    assert_eq!(server.subscription_count(), 0);
    assert_eq!(server.sent.len(), 1);
    assert_eq!(server.sent[0].body.as_deref(), Some(body.as_str()));
    assert!(server.sent[0].state.starts_with("terminated"), "{}", server.sent[0].state);
}

/// No second NOTIFY follows that of a fetch: one without the state would be taken for the state.
fn a_fetch_is_refused_while_its_state_cannot_be_read((event, away, wanted): (&str, Away, u16)) {
    let mut server = MemoryPorts::default();
    server.config.force_active = false;
    server.allow("alice", "bob", Status::Active, if away == Away::ForPoliteBlocked { "polite-block" } else { "" });
    Publish::new("alice", PRESENCE, &pidf("open")).send(&mut server).expect("stored");
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    server.sent.clear();
    let resource = server.resource("alice", PRESENCE);
    match away {
        Away::Documents | Away::ForPoliteBlocked => server.unread = Some(StoreError::Database),
        Away::Rules => {
            server.packages.0[usize::from(PRESENCE.0)].traits =
                Traits::of_list(&[Trait::Aggregates, Trait::NeedsAuthorization, Trait::FiltersBody]);
            server.no_verdict = Some(NoVerdict::Unreadable);
        }
        Away::Decision => server.left_unjudged(&resource, 0, Outstanding::Subscribed, &StoreError::Busy.into()),
    }
    let replies = server.replies.len();
    let fetch = Subscribe { expires: Some(0), call_id: Some("fetch"), ..Subscribe::new("bob", "alice", event) };
    assert_eq!(code(fetch.clone().send(&mut server)), wanted);
    assert_eq!(server.sent.len(), usize::from(wanted == 200), "no NOTIFY follows a refusal");
    assert_eq!(server.replies.len() - replies, usize::from(wanted == 200), "it is answered once");
    (server.unread, server.no_verdict) = (None, None);
    server.unjudged.clear();
    fetch.send(&mut server).expect("answered with 200");
}

/// What is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    Documents,
    Rules,
    Decision,
    /// The documents, and the watcher is not shown them anyway.
    ForPoliteBlocked,
}

table! { a_fetch_is_refused_while_its_state_cannot_be_read:
    the_documents => ("presence", Away::Documents, 500);
    the_watchers => ("presence.winfo", Away::Documents, 500);
    the_documents_of_dialogs => ("dialog", Away::Documents, 500);
    the_rules => ("presence", Away::Rules, 500);
    a_decision => ("presence", Away::Decision, 500);
    what_is_not_shown => ("presence", Away::ForPoliteBlocked, 200);
}

#[test]
fn a_subscription_ends_though_its_state_cannot_be_read() {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    server.unread = Some(StoreError::Database);
    let end = Subscribe { expires: Some(0), ..Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2) };
    end.send(&mut server).expect("answered with 200");
    assert_eq!((server.subscription_count(), server.sent.len()), (0, 2));
}

/// How many stores succeed before one fails.
fn an_end_that_fails_has_not_happened(succeed: usize) {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let end = Subscribe { expires: Some(0), ..Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2) };
    server.stores_left = Some(succeed);
    assert_eq!(code(end.clone().send(&mut server)), 500);
    let state = server.stored("bob").expect("it stays").state;
    assert_eq!((state.expires_at - server.now, state.remote_cseq, server.sent.len()), (Seconds(600), 1, 1));
    server.stores_left = None;
    end.send(&mut server).expect("the same SUBSCRIBE may come again");
    assert_eq!((server.subscription_count(), server.sent.len()), (0, 2));
}

table! { an_end_that_fails_has_not_happened:
    at_once => 0;
    half_way => 1;
}

/// A limit as its parameter sets it.
fn limit(number: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(number)
}

fn limits_refuse_new_subscriptions_only((limits, memory, wanted): (Config, usize, u16)) {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    server.config = limits.clone();
    server.memory = memory;
    let second = Subscribe { call_id: Some("second"), ..Subscribe::new("bob", "alice", "presence") };
    assert_eq!(code(second.send(&mut server)), wanted, "{limits:?} {memory}");
    let refresh = Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2);
    refresh.send(&mut server).expect("those that are served go on");
}

table! { limits_refuse_new_subscriptions_only:
    as_many_watchers => (Config { max_watchers: limit(2), ..config() }, 0, 200);
    one_watcher_more => (Config { max_watchers: limit(1), ..config() }, 0, 403);
    as_many_subscriptions => (Config { max_subscriptions: limit(2), ..config() }, 0, 200);
    one_subscription_more => (Config { max_subscriptions: limit(1), ..config() }, 0, 403);
    as_much_memory => (Config { overload_memory: limit(90), ..config() }, 90, 200);
    more_memory => (Config { overload_memory: limit(90), ..config() }, 91, 503);
}

#[test]
fn refreshes_may_be_bounded_in_time_but_the_end_may_not() {
    let mut server = MemoryPorts::default();
    server.config.min_refresh_interval = Some(Seconds(30));
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    for (after, expires, cseq, wanted) in [(29, 600, 2, 403), (1, 600, 3, 200), (29, 600, 4, 403), (0, 0, 5, 200)] {
        server.now += Seconds(after);
        let request = Subscribe { expires: Some(expires), ..Subscribe::new("bob", "alice", "presence") };
        let request = request.in_dialog(&server, cseq);
        assert_eq!(code(request.send(&mut server)), wanted, "CSeq {cseq}");
    }
}

#[test]
fn the_event_id_is_part_of_the_subscription() {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence;id=x").send(&mut server).expect("subscribed");
    let stored = server.stored("bob").expect("stored");
    assert_eq!(stored.get(crate::presence::subscription::field::Field::EventId), b"x");
}

/// Which subscription comes after that of bob with the Call-ID `call`, and how many there are then.
fn delete_same_subs_replaces_older_ones_of_one_call((replaces, second, limits, wanted, left): Replacing) {
    let config = Config { delete_same_subs: replaces, ..limits };
    let mut server = MemoryPorts { config, ..MemoryPorts::default() };
    let first = Subscribe { call_id: Some("call"), ..Subscribe::new("bob", "alice", "presence") };
    first.send(&mut server).expect("subscribed");
    let second = Subscribe { call_id: Some("call"), ..second };
    assert_eq!(code(second.send(&mut server)), wanted);
    assert_eq!(server.subscription_count(), left);
    let replaced = [("call".to_string(), Cause::Replaced)];
    assert_eq!(server.ended, if left == 1 && wanted == 200 { &replaced[..] } else { &[] });
    let is_first = |sent: &Sent| sent.reason == NotifyReason::Subscribe;
    assert!(server.sent.iter().all(is_first), "the older one ends without a NOTIFY, as with stock");
}

type Replacing = (bool, Subscribe<'static>, Config, u16, usize);

table! { delete_same_subs_replaces_older_ones_of_one_call:
    a_phone_that_has_restarted => (true, first(), config(), 200, 1);
    it_is_off => (false, first(), config(), 200, 2);
    another_watcher => (true, Subscribe::new("carol", "alice", "presence"), config(), 200, 2);
    another_presentity => (true, Subscribe::new("bob", "carol", "presence"), config(), 200, 2);
    another_event_id => (true, Subscribe::new("bob", "alice", "presence;id=2"), config(), 200, 2);
    another_event => (true, Subscribe::new("bob", "alice", "dialog"), config(), 200, 2);
    as_many_watchers_as_there_may_be => (true, first(), Config { max_watchers: limit(1), ..config() }, 200, 1);
    as_many_subscriptions_as_there_may_be =>
        (true, first(), Config { max_subscriptions: limit(1), ..config() }, 200, 1);
    another_watcher_than_there_may_be =>
        (true, Subscribe::new("carol", "alice", "presence"), Config { max_watchers: limit(1), ..config() }, 403, 1);
}

#[test]
fn copies_of_a_subscribe_do_not_replace_each_other() {
    let mut server = MemoryPorts { reply_tag: Some("to"), ..MemoryPorts::default() };
    server.config.delete_same_subs = true;
    for _ in 0..2 {
        first().send(&mut server).expect("subscribed");
    }
    assert_eq!((server.subscription_count(), server.sent.len(), server.ended.len()), (1, 1, 0));
}

#[test]
fn a_subscription_that_cannot_be_stored_replaces_none() {
    let mut server = MemoryPorts::default();
    server.config.delete_same_subs = true;
    first().send(&mut server).expect("subscribed");
    server.stores_left = Some(0);
    assert_eq!(code(first().send(&mut server)), 500);
    assert_eq!((server.subscription_count(), server.ended.len()), (1, 0));
}

#[test]
fn a_store_that_fails_refuses_the_subscription() {
    let mut server = MemoryPorts { stores_left: Some(0), ..MemoryPorts::default() };
    assert_eq!(code(Subscribe::new("bob", "alice", "presence").send(&mut server)), 500);
    assert_eq!((server.subscription_count(), server.sent.len(), server.replies.len()), (0, 0, 0));
}

fn first() -> Subscribe<'static> {
    Subscribe::new("bob", "alice", "presence")
}

fn a_copy_of_the_first_subscribe_changes_nothing_and_begins_nothing_anew((copy, wanted): (Subscribe<'_>, u16)) {
    let mut server = MemoryPorts { reply_tag: Some("to"), ..MemoryPorts::default() };
    first().send(&mut server).expect("subscribed");
    assert_eq!(code(copy.send(&mut server)), wanted);
    assert_eq!((server.subscription_count(), server.sent.len()), (1, 1));
    let end = Subscribe { expires: Some(0), ..first().in_dialog(&server, 4) };
    end.send(&mut server).expect("ended");
    assert_eq!(code(first().send(&mut server)), 481, "late");
    assert_eq!((server.subscription_count(), server.sent.len()), (0, 2), "late");
    Subscribe { cseq: 5, ..first() }.send(&mut server).expect("a phone that uses its ids again");
}

table! { a_copy_of_the_first_subscribe_changes_nothing_and_begins_nothing_anew:
    the_same => (first(), 200);
    a_fetch => (Subscribe { expires: Some(0), ..first() }, 482);
    another_event => (Subscribe { event: "dialog", ..first() }, 482);
    another_event_id => (Subscribe { event: "presence;id=2", ..first() }, 482);
    another_presentity => (Subscribe { presentity: "carol", ..first() }, 482);
}

/// What happens between the finding of a subscription and its change: `expires` is that of the SUBSCRIBE with CSeq 4,
/// which is answered `wanted`; how many NOTIFYs follow the first, and whether the subscription is there then.
fn a_change_in_between_is_seen((meanwhile, expires, wanted, notifies, stays): (&'static str, u32, u16, usize, bool)) {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let request = |server: &MemoryPorts, cseq, expires| Subscribe {
        expires: Some(expires),
        ..Subscribe::new("bob", "alice", "presence").in_dialog(server, cseq)
    };
    let times = if meanwhile == "changes without end" { 100 } else { 1 };
    for _ in 0..times {
        server.meanwhile.push_back(Box::new(move |server: &mut MemoryPorts| {
            let of_bob = |cseq, expires| request(server, cseq, expires);
            let sent = match meanwhile {
                "a copy" => of_bob(4, expires).send(server).is_ok(),
                "a later SUBSCRIBE" => of_bob(5, 300).send(server).is_ok(),
                "an earlier SUBSCRIBE" => of_bob(3, 300).send(server).is_ok(),
                "the end" => of_bob(5, 0).send(server).is_ok(),
                _ => Publish::new("alice", PRESENCE, &pidf("open")).send(server).is_ok(),
            };
            assert!(sent, "{meanwhile}");
        }));
    }
    let asked = request(&server, 4, expires);
    assert_eq!(code(asked.send(&mut server)), wanted, "{meanwhile}");
    let stored = server.stored("bob").map(|stored| stored.state.remote_cseq);
    let last = if meanwhile == "a later SUBSCRIBE" { 5 } else { 4 };
    assert_eq!(stored, stays.then_some(if wanted == 500 { 1 } else { last }), "{meanwhile}");
    let numbers: Vec<u32> = server.sent.iter().map(|sent| sent.cseq).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..first + numbers.len() as u32).collect::<Vec<_>>(), "{meanwhile}");
    assert_eq!(numbers.len(), 1 + notifies, "{meanwhile}");
}

table! { a_change_in_between_is_seen:
    a_change_of_state => ("a change", 600, 200, 2, true);
    a_change_of_state_before_the_end => ("a change", 0, 200, 2, false);
    a_copy_of_a_refresh => ("a copy", 600, 200, 2, true);
    a_copy_of_the_end => ("a copy", 0, 481, 1, false);
    a_later_subscribe => ("a later SUBSCRIBE", 600, 400, 1, true);
    a_later_subscribe_before_the_end => ("a later SUBSCRIBE", 0, 400, 1, true);
    an_earlier_subscribe => ("an earlier SUBSCRIBE", 600, 200, 2, true);
    an_earlier_subscribe_before_the_end => ("an earlier SUBSCRIBE", 0, 200, 2, false);
    the_end => ("the end", 600, 481, 1, false);
    changes_that_never_stop => ("changes without end", 600, 500, 20, true);
}

/// Whatever others change meanwhile: a SUBSCRIBE is carried out with the last try at the latest, or refused.
#[test]
fn a_change_is_tried_so_often() {
    for (changes, wanted) in [(19, 200), (20, 500)] {
        let mut server = MemoryPorts::default();
        Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
        for _ in 0..changes {
            server.meanwhile.push_back(Box::new(|server: &mut MemoryPorts| {
                Publish::new("alice", PRESENCE, &pidf("open")).send(server).expect("stored");
            }));
        }
        let again = Subscribe::new("bob", "alice", "presence").in_dialog(&server, 4);
        assert_eq!(code(again.send(&mut server)), wanted, "{changes}");
        assert!(server.meanwhile.is_empty());
    }
}
