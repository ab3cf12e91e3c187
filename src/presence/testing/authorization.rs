//! Authorization of watchers (RFC 3856 6.6, RFC 5025 3.2.1): who gets a body, and what a change of the rules does.
use super::actors::{Publish, Subscribe, pidf};
use super::{MemoryPorts, PRESENCE, Sent};
use crate::presence::authorization::NoVerdict;
use crate::presence::authorization::judgement;
use crate::presence::event_package::Trait;
use crate::presence::expires::Expires;
use crate::presence::expiry;
use crate::presence::notification::notifier;
use crate::presence::ports::authorizations::Authorizations;
use crate::presence::ports::notifications::Notifications;
use crate::presence::publication::direct_publish;
use crate::presence::refresh_watchers;
use crate::presence::subscription::Status;
use crate::presence::subscription::field::Field;
use crate::presence::winfo::{Watcher, WatcherEvent, WatcherTimes};
use crate::sip::entity_tag::EntityTag;
use crate::time::Seconds;

fn server() -> MemoryPorts {
    let mut server = MemoryPorts::default();
    server.config.force_active = false;
    Publish::new("alice", PRESENCE, &pidf("secret")).send(&mut server).expect("stored");
    server
}

#[test]
fn the_first_notify_says_what_the_rules_decide() {
    for (rule, state, sees) in [
        (None, "pending;expires=600", false),
        (Some((Status::Active, "")), "active;expires=600", true),
        (Some((Status::Active, "polite-block")), "active;expires=600", false),
        (Some((Status::Pending, "")), "pending;expires=600", false),
        (Some((Status::Terminated, "rejected")), "terminated;reason=rejected", false),
        (Some((Status::Terminated, "")), "terminated;reason=rejected", false),
    ] {
        let mut server = server();
        if let Some((status, reason)) = rule {
            server.allow("alice", "bob", status, reason);
        }
        Subscribe::new("bob", "alice", "presence").send(&mut server).expect("answered");
        assert_eq!(server.sent.len(), 1, "{rule:?}");
        assert_eq!(server.sent[0].state, state, "{rule:?}");
        assert_eq!(server.sent[0].body.is_some(), sees, "{rule:?}");
    }
}

#[test]
fn nobody_without_the_right_ever_gets_a_body() {
    for (status, reason) in [(Status::Pending, ""), (Status::Terminated, "rejected"), (Status::Active, "polite-block")]
    {
        let mut server = server();
        server.allow("alice", "bob", status, reason);
        Subscribe::new("bob", "alice", "presence").send(&mut server).expect("answered");
        let resource = server.resource("alice", PRESENCE);
        let mut etag = Publish::new("alice", PRESENCE, &pidf("more")).send(&mut server).expect("stored");
        etag = Publish { etag: Some(&etag), ..Publish::new("alice", PRESENCE, &pidf("again")) }
            .send(&mut server)
            .expect("modified");
        refresh_watchers::documents(&mut server, &resource);
        judgement::authorizations(&mut server, &resource).expect("judged again");
        let remove = Publish { etag: Some(&etag), body: None, expires: Some(0), ..Publish::new("alice", PRESENCE, "") };
        remove.send(&mut server).expect("removed");
        assert!(server.sent.iter().all(|sent| sent.body.is_none()), "{status:?} {reason}: {:?}", server.sent);
    }
}

/// What a watcher does, or what happens to its subscription, after its first NOTIFY.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Turn {
    Refreshes,
    Unsubscribes,
    Fetches,
    RunsOut,
    IsEnded,
}

#[test]
fn every_notify_shows_what_the_authorization_lets_its_watcher_see() {
    let rules = [ACTIVE, (Status::Active, "polite-block"), PENDING, (Status::Pending, "later"), BLOCKED];
    for rule in rules {
        for turn in [Turn::Refreshes, Turn::Unsubscribes, Turn::Fetches, Turn::RunsOut, Turn::IsEnded] {
            let mut server = server();
            server.allow("alice", "bob", rule.0, rule.1);
            let subscribe = Subscribe::new("bob", "alice", "presence");
            subscribe.clone().send(&mut server).expect("answered");
            server.sent.clear();
            match turn {
                Turn::Refreshes => drop(subscribe.in_dialog(&server, 2).send(&mut server).expect("refreshed")),
                Turn::Unsubscribes => {
                    let end = Subscribe { expires: Some(0), ..subscribe.in_dialog(&server, 2) };
                    end.send(&mut server).expect("ended");
                }
                Turn::Fetches => {
                    let fetch = Subscribe { expires: Some(0), call_id: Some("fetch"), ..subscribe };
                    fetch.send(&mut server).expect("answered");
                }
                Turn::RunsOut => {
                    server.now += Seconds(700);
                    expiry::subscriptions(&mut server).expect("ended");
                }
                Turn::IsEnded => {
                    let stored = server.stored("bob").expect("stored").clone();
                    expiry::end(&mut server, &stored, b"deactivated").expect("ended");
                }
            }
            let sees = rule == ACTIVE && matches!(turn, Turn::Refreshes | Turn::Unsubscribes | Turn::Fetches);
            let is_silent = rule == BLOCKED && turn == Turn::RunsOut;
            assert_eq!(server.sent.len(), usize::from(!is_silent), "{rule:?} {turn:?}");
            assert!(server.sent.iter().all(|sent| sent.body.is_some() == sees), "{rule:?} {turn:?}: {:?}", server.sent);
            let reveals = |sent: &Sent| sent.state.contains("polite") || sent.state.contains("later");
            assert!(!server.sent.iter().any(reveals), "{rule:?} {turn:?}: {:?}", server.sent);
            if matches!(turn, Turn::Unsubscribes | Turn::Fetches) {
                assert_eq!(server.sent[0].state, "terminated;reason=timeout", "{rule:?} {turn:?}: RFC 6665 4.4.3");
            }
        }
    }
}

/// A decision and its reason.
type Rule = (Status, &'static str);

const ACTIVE: Rule = (Status::Active, "");
const PENDING: Rule = (Status::Pending, "");
const BLOCKED: Rule = (Status::Terminated, "rejected");

fn a_change_of_the_rules_reaches_the_watcher((before, after, state, stays): (Rule, Rule, Option<&str>, bool)) {
    let mut server = server();
    server.allow("alice", "bob", before.0, before.1);
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("answered");
    server.sent.clear();
    server.allow("alice", "bob", after.0, after.1);
    let resource = server.resource("alice", PRESENCE);
    judgement::authorizations(&mut server, &resource).expect("judged again");
    let states: Vec<&str> = server.sent.iter().map(|sent| sent.state.as_str()).collect();
    assert_eq!(states, state.into_iter().collect::<Vec<_>>(), "{before:?} to {after:?}");
    assert_eq!(server.subscription_count(), usize::from(stays), "{before:?} to {after:?}");
    let sees = server.sent.iter().any(|sent| sent.body.is_some());
    assert_eq!(sees, state.is_some() && after == ACTIVE, "{before:?} to {after:?}");
}

table! { a_change_of_the_rules_reaches_the_watcher:
    allowed => (PENDING, ACTIVE, Some("active;expires=600"), true);
    put_off => (ACTIVE, PENDING, Some("pending;expires=600"), true);
    blocked => (ACTIVE, BLOCKED, Some("terminated;reason=rejected"), false);
    blocked_while_pending => (PENDING, BLOCKED, Some("terminated;reason=rejected"), false);
    blocked_politely => (ACTIVE, (Status::Active, "polite-block"), Some("active;expires=600"), true);
    still_active => (ACTIVE, ACTIVE, None, true);
    still_pending => (PENDING, PENDING, None, true);
    still_blocked => (BLOCKED, BLOCKED, None, true);
    allowed_after_all => (BLOCKED, ACTIVE, Some("active;expires=600"), true);
}

#[test]
fn one_watcher_that_cannot_be_stored_does_not_keep_the_rules_from_others() {
    let mut server = server();
    for name in ["bob", "carol", "dave"] {
        server.allow("alice", name, Status::Active, "");
        Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
        server.allow("alice", name, Status::Terminated, "rejected");
    }
    let resource = server.resource("alice", PRESENCE);
    server.stores_left = Some(1);
    let _ = judgement::authorizations(&mut server, &resource);
    server.stores_left = None;
    judgement::authorizations(&mut server, &resource).expect("judged again");
    assert_eq!(server.subscription_count(), 0, "a second run ends those that the first could not");
}

/// The server of a package whose bodies are filtered, and whose active watchers these are.
fn filtering(watchers: &[&str]) -> MemoryPorts {
    let mut server = server();
    let package = &mut server.packages.0[usize::from(PRESENCE.0)];
    package.traits = package.traits.with(Trait::FiltersBody);
    for name in watchers {
        server.allow("alice", name, Status::Active, "");
        Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
    }
    server.sent.clear();
    server
}

#[test]
fn what_waits_for_the_rules_uses_no_number() {
    let mut server = filtering(&["bob", "carol"]);
    let resource = server.resource("alice", PRESENCE);
    let numbers = |server: &MemoryPorts, name| {
        let state = server.stored(name).expect("stored").state;
        (state.local_cseq, state.version)
    };
    let before = ["bob", "carol"].map(|name| numbers(&server, name));
    server.no_verdict = Some(NoVerdict::Unreadable);
    for n in 0..3 {
        Publish::new("alice", PRESENCE, &pidf(&format!("more {n}"))).send(&mut server).expect("stored");
    }
    assert_eq!(server.sent, [], "a change waits");
    assert_eq!(["bob", "carol"].map(|name| numbers(&server, name)), before);
    // What a SUBSCRIBE asks for goes out, and counts.
    Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2).send(&mut server).expect("refreshed");
    server.no_verdict = None;
    if server.claim(&resource) {
        notifier::run(&mut server, &resource);
    }
    for (name, (cseq, version), count) in [("bob", before[0], 2), ("carol", before[1], 1)] {
        let sent: Vec<_> = server.sent_to(name).iter().map(|sent| (sent.cseq, sent.version)).collect();
        let wanted: Vec<_> = (1..=count).map(|n| (cseq + n + 1, version + n)).collect();
        assert_eq!(sent, wanted, "{name}");
    }
}

#[test]
fn what_the_rules_hide_is_shown_to_nobody_while_they_cannot_be_applied() {
    for why in [NoVerdict::Unreadable, NoVerdict::Unclear] {
        let mut server = filtering(&["bob", "carol"]);
        server.no_verdict = Some(why);
        Publish::new("alice", PRESENCE, &pidf("more")).send(&mut server).expect("stored");
        assert_eq!(server.sent, [], "a change waits");
        Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2).send(&mut server).expect("refreshed");
        assert!(server.sent_to("bob").iter().all(|sent| sent.body.is_none()), "{why:?}");
        let end = Subscribe { expires: Some(0), ..Subscribe::new("carol", "alice", "presence") };
        end.in_dialog(&server, 2).send(&mut server).expect("ended");
        assert!(server.sent.iter().all(|sent| sent.body.is_none()), "{why:?}: {:?}", server.sent);
        let resource = server.resource("alice", PRESENCE);
        assert_eq!(notifier::can_be_read(&mut server, &resource), Err(why.into()));
        server.no_verdict = None;
        assert_eq!(notifier::can_be_read(&mut server, &resource), Ok(()));
        if server.claim(&resource) {
            notifier::run(&mut server, &resource);
        }
        let last = server.sent.last().and_then(|sent| sent.body.clone()).expect("what was missed is made good");
        assert!(last.starts_with("for bob: ") && last.contains("more"), "{last}");
    }
}

#[test]
fn rules_that_cannot_be_read_decide_nothing() {
    for (rule, why) in [ACTIVE, (Status::Active, "polite-block"), PENDING, BLOCKED]
        .into_iter()
        .flat_map(|rule| [(rule, NoVerdict::Unreadable), (rule, NoVerdict::Unclear)])
    {
        let mut server = server();
        server.allow("alice", "bob", rule.0, rule.1);
        Subscribe::new("bob", "alice", "presence").send(&mut server).expect("answered");
        server.sent.clear();
        server.no_verdict = Some(why);
        let resource = server.resource("alice", PRESENCE);
        judgement::authorizations(&mut server, &resource).expect_err("nothing can be judged");
        assert_eq!(server.sent, [], "{rule:?}");
        let stored = server.stored("bob").expect("it stays");
        assert_eq!((stored.state.status, stored.get(Field::Reason)), (rule.0, rule.1.as_bytes()), "{rule:?}");
        // Whom nobody has judged yet comes again, and nothing is remembered of it.
        let new = Subscribe::new("dave", "alice", "presence");
        assert_eq!(new.clone().send(&mut server), Err(why.into()));
        server.no_verdict = None;
        server.allow("alice", "dave", Status::Active, "");
        new.send(&mut server).expect("subscribed");
        assert!(server.sent_to("dave")[0].state.starts_with("active"), "{rule:?}");
    }
}

#[test]
fn rules_that_cannot_be_read_are_asked_for_once() {
    let names: Vec<String> = (0..50).map(|n| format!("w{n}")).collect();
    let mut server = filtering(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let resource = server.resource("alice", PRESENCE);
    server.no_verdict = Some(NoVerdict::Unreadable);
    let before = server.evaluations;
    judgement::authorizations(&mut server, &resource).expect_err("nothing can be judged");
    judgement::restored(&mut server, &resource).expect_err("nothing can be judged");
    assert_eq!(server.evaluations - before, 2);
}

#[test]
fn nobody_is_shown_the_state_while_a_decision_is_not_carried_out() {
    let mut server = filtering(&["bob", "carol"]);
    server.allow("alice", "bob", Status::Terminated, "rejected");
    let resource = server.resource("alice", PRESENCE);
    server.stores_left = Some(0);
    judgement::authorizations(&mut server, &resource).expect_err("bob cannot be blocked");
    server.stores_left = None;
    Publish::new("alice", PRESENCE, &pidf("SECRET")).send(&mut server).expect("stored");
    Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2).send(&mut server).expect("refreshed");
    assert!(server.sent.iter().all(|sent| sent.body.is_none()), "{:?}", server.sent);
    // What is remembered of bob is older than the decision, too.
    let again = Subscribe { call_id: Some("again"), ..Subscribe::new("bob", "alice", "presence") };
    again.send(&mut server).expect("answered");
    assert_eq!(server.sent_to("again")[0].state, "terminated;reason=rejected");
    judgement::authorizations(&mut server, &resource).expect("judged again");
    if server.claim(&resource) {
        notifier::run(&mut server, &resource);
    }
    assert_eq!(server.sent_to("bob").last().expect("notified").state, "terminated;reason=rejected");
    assert!(server.sent_to("bob").iter().all(|sent| sent.body.is_none()));
    let carol = server.sent_to("carol");
    assert!(carol.last().and_then(|sent| sent.body.as_deref()).is_some_and(|body| body.contains("SECRET")));
}

#[test]
fn rules_that_change_while_a_watcher_is_judged_count() {
    for (before, after) in [(ACTIVE, BLOCKED), (ACTIVE, PENDING), (PENDING, ACTIVE), (BLOCKED, ACTIVE)] {
        let mut server = server();
        server.allow("alice", "bob", before.0, before.1);
        server.while_judging.push_back(Box::new(move |server: &mut MemoryPorts| {
            // What the rules said is on its way already.
            server.allow("alice", "bob", after.0, after.1);
            let resource = server.resource("alice", PRESENCE);
            judgement::authorizations(server, &resource).expect("judged again");
        }));
        let subscribe = Subscribe::new("bob", "alice", "presence");
        subscribe.clone().send(&mut server).expect("answered");
        let last = server.sent_to("bob").last().expect("notified").state.clone();
        assert!(last.starts_with(std::str::from_utf8(after.0.word()).expect("a word")), "{before:?} {after:?}: {last}");
        let sees = server.sent_to("bob").iter().any(|sent| sent.body.is_some());
        assert_eq!(sees, after == ACTIVE, "{before:?} {after:?}");
        let again = Subscribe { call_id: Some("again"), ..subscribe };
        again.send(&mut server).expect("answered");
        assert_eq!(server.sent_to("again")[0].body.is_some(), after == ACTIVE, "{before:?} {after:?}");
    }
}

/// A document that names a sphere.
fn at(sphere: &str) -> String {
    pidf("secret").replace("</presence>", &format!("<sphere>{sphere}</sphere></presence>"))
}

#[test]
fn a_change_that_was_answered_is_announced_though_its_sphere_cannot_be_judged() {
    let mut server = filtering(&["bob"]);
    server.config.sphere_check = true;
    let before = server.replies.len();
    server.no_verdict = Some(NoVerdict::Unreadable);
    Publish::new("alice", PRESENCE, &at("work")).send(&mut server).expect("stored");
    assert_eq!(server.replies.len() - before, 1, "one answer");
    assert_eq!(server.sent, [], "nobody knows whether bob may see it");
    server.no_verdict = None;
    let resource = server.resource("alice", PRESENCE);
    judgement::authorizations(&mut server, &resource).expect("judged again");
    if server.claim(&resource) {
        notifier::run(&mut server, &resource);
    }
    assert!(server.sent_to("bob").iter().any(|sent| sent.body.is_some()), "what was missed is made good");
}

#[test]
fn a_sphere_that_goes_by_itself_is_judged() {
    type Goes = fn(&mut MemoryPorts, &str);
    let goes: [(&str, Goes); 4] = [
        ("runs out", |server, _| {
            server.now += Seconds(700);
            expiry::publications(server).expect("ended");
        }),
        ("deleted without a word", |server, _| {
            server.config.force_delete = true;
            server.now += Seconds(700);
            expiry::publications(server).expect("ended");
        }),
        ("removed", |server, etag| {
            let direct = direct_publish::Direct {
                event: PRESENCE,
                user: b"alice",
                domain: b"example.org",
                etag: EntityTag::new(etag.as_bytes()),
                sender: b"",
                body: b"",
                expires: Expires::End,
                kind: direct_publish::DirectKind::Update,
            };
            direct_publish::publish(server, &direct).expect("removed");
        }),
        ("changed behind our back", |server, _| {
            let resource = server.resource("alice", PRESENCE);
            refresh_watchers::documents(server, &resource);
        }),
    ];
    for (how, go) in goes {
        let mut server = MemoryPorts::default();
        server.config.force_active = false;
        server.config.sphere_check = true;
        server.allow("alice", "bob", Status::Active, "");
        let etag = Publish::new("alice", PRESENCE, &at("work")).send(&mut server).expect("stored");
        let subscribe = Subscribe { expires: Some(3_000), ..Subscribe::new("bob", "alice", "presence") };
        subscribe.send(&mut server).expect("subscribed");
        server.allow("alice", "bob", Status::Terminated, "rejected");
        go(&mut server, &etag);
        let last = server.sent_to("bob").last().expect("notified").state.clone();
        assert_eq!(last, "terminated;reason=rejected", "{how}");
    }
}

#[test]
fn watchers_are_judged_in_a_sphere_once() {
    let mut server = filtering(&["bob"]);
    server.config.sphere_check = true;
    let mut etag = Publish::new("alice", PRESENCE, &at("work")).send(&mut server).expect("stored");
    for (sphere, evaluations) in [("work", 0), ("home", 2), ("home", 0), ("work", 2)] {
        let (before, document) = (server.evaluations, at(sphere));
        let change = Publish { etag: Some(&etag), ..Publish::new("alice", PRESENCE, &document) };
        etag = change.send(&mut server).expect("modified");
        assert_eq!(
            server.evaluations - before,
            evaluations,
            "{sphere}: what is remembered of bob, and his subscription"
        );
    }
}

#[test]
fn who_watches_the_watchers_reads_of_steps_that_there_are() {
    for (before, after, event) in [
        (PENDING, ACTIVE, "approved"),
        (ACTIVE, BLOCKED, "rejected"),
        (PENDING, BLOCKED, "rejected"),
        // RFC 3857 4.7.1 knows no step from active back to pending.
        (ACTIVE, PENDING, "subscribe"),
    ] {
        let mut server = server();
        server.config.winfo_details = true;
        server.allow("alice", "bob", before.0, before.1);
        Subscribe::new("bob", "alice", "presence").send(&mut server).expect("answered");
        Subscribe::new("alice", "alice", "presence.winfo").send(&mut server).expect("answered");
        server.sent.clear();
        server.allow("alice", "bob", after.0, after.1);
        let resource = server.resource("alice", PRESENCE);
        judgement::authorizations(&mut server, &resource).expect("judged again");
        let body = server.sent_to("alice")[0].body.clone().expect("the watchers");
        let status = std::str::from_utf8(after.0.word()).expect("a word");
        assert!(body.contains(&format!("event=\"{event}\"")), "{before:?} {after:?}: {body}");
        assert!(body.contains(&format!("status=\"{status}\"")), "{before:?} {after:?}: {body}");
    }
}

#[test]
fn a_fetch_while_a_change_is_judged_is_answered_with_the_state() {
    let mut server = server();
    server.allow("alice", "bob", ACTIVE.0, ACTIVE.1);
    Publish::new("alice", PRESENCE, &pidf("open")).send(&mut server).expect("stored");
    let resource = server.resource("alice", PRESENCE);
    assert!(server.shut(&resource));
    let fetch = Subscribe { expires: Some(0), ..Subscribe::new("bob", "alice", "presence") };
    fetch.send(&mut server).expect("answered");
    assert_eq!(server.sent.iter().map(|sent| sent.body.is_some()).collect::<Vec<_>>(), [true]);
}

#[test]
fn each_watcher_is_listed_once_and_while_it_watches() {
    for ignore_case in [false, true] {
        let mut server = server();
        server.config.ignore_case = ignore_case;
        server.allow("alice", "bob", PENDING.0, PENDING.1);
        Subscribe::new("bob", "alice", "presence").send(&mut server).expect("answered");
        let waits = |name: &str| Watcher {
            uri: format!("sip:{name}@example.org").into_bytes(),
            id: name.as_bytes().to_vec(),
            status: Status::Waiting,
            event: WatcherEvent::Subscribe,
            times: WatcherTimes::default(),
        };
        server.waiting = vec![waits("bob"), waits("Bob"), waits("carol")];
        let listed = |server: &mut MemoryPorts| {
            server.sent.clear();
            Subscribe::new("alice", "alice", "presence.winfo").send(server).expect("answered");
            let body = server.sent.pop().and_then(|sent| sent.body).expect("a list");
            let count = |text: &str| body.matches(text).count();
            ["pending", "waiting", ">sip:bob@", ">sip:Bob@", ">sip:carol@"].map(count)
        };
        let other = usize::from(!ignore_case);
        assert_eq!(listed(&mut server), [1, 1 + other, 1, other, 1]);
        // His subscription has expired, and no timer has come by.
        server.now += Seconds(601);
        assert_eq!(listed(&mut server), [0, 3, 1, 1, 1]);
    }
}

/// Other processes begin to judge the same watchers each time: after some judgements the last one stands.
#[test]
fn judgements_that_are_always_overtaken_end() {
    // The first judgement asks the rules twice: about what is remembered of the watcher, and about its subscription.
    for (others, judgements) in [(0, 1), (1, 2), (3, 3), (4, 4), (5, 4), (100, 4)] {
        let mut server = server();
        server.allow("alice", "bob", ACTIVE.0, ACTIVE.1);
        Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
        for _ in 0..others {
            server.while_judging.push_back(Box::new(|server: &mut MemoryPorts| server.judgements += 1));
        }
        let resource = server.resource("alice", PRESENCE);
        server.allow("alice", "bob", BLOCKED.0, BLOCKED.1);
        let before = server.judgements;
        judgement::authorizations(&mut server, &resource).expect("judged");
        let by_others = others - server.while_judging.len();
        assert_eq!(server.judgements - before - by_others as u32, judgements, "{others}");
        assert!(server.sent_to("bob").last().expect("notified").state.starts_with("terminated"), "{others}");
    }
}
