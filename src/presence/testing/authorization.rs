//! Authorization of watchers (RFC 3856 6.6, RFC 5025 3.2.1): who gets a body, and what a change of the rules does.
use super::actors::{Publish, Subscribe, pidf};
use super::{MemoryPorts, PRESENCE};
use crate::presence::refresh;
use crate::presence::subscription::Status;

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
        refresh::documents(&mut server, &resource);
        refresh::authorizations(&mut server, &resource).expect("judged again");
        let remove = Publish { etag: Some(&etag), body: None, expires: Some(0), ..Publish::new("alice", PRESENCE, "") };
        remove.send(&mut server).expect("removed");
        assert!(server.sent.iter().all(|sent| sent.body.is_none()), "{status:?} {reason}: {:?}", server.sent);
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
    refresh::authorizations(&mut server, &resource).expect("judged again");
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
    let _ = refresh::authorizations(&mut server, &resource);
    server.stores_left = None;
    refresh::authorizations(&mut server, &resource).expect("judged again");
    assert_eq!(server.subscription_count(), 0, "a second run ends those that the first could not");
}
