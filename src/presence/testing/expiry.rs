//! The end of subscriptions (RFC 6665 4.4.1): one NOTIFY each, whatever their number.
use super::actors::{Publish, Subscribe};
use super::{MemoryPorts, PRESENCE};
use crate::presence::authorization::judgement;
use crate::presence::expiry;
use crate::presence::subscription::Status;
use crate::time::Seconds;

fn each_subscription_that_ran_out_is_notified_once(count: usize) {
    let mut server = MemoryPorts::default();
    let names: Vec<String> = (0..count).map(|n| format!("watcher{n}")).collect();
    for name in &names {
        Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
    }
    server.sent.clear();
    server.now += Seconds(601);
    assert_eq!(expiry::subscriptions(&mut server).expect("ended"), count);
    assert_eq!(server.sent.len(), count);
    assert!(server.sent.iter().all(|sent| sent.state == "terminated;reason=timeout" && sent.body.is_none()));
    assert_eq!(expiry::subscriptions(&mut server).expect("ended"), 0);
    assert!(!server.has_forgotten_work());
}

table! { each_subscription_that_ran_out_is_notified_once:
    one => 1;
    two => 2;
    one_less_than_a_batch => 255;
    a_batch => 256;
    one_more_than_a_batch => 257;
    several_batches => 600;
}

#[test]
fn those_that_were_refreshed_go_on() {
    let mut server = MemoryPorts::default();
    for name in ["bob", "carol"] {
        Subscribe::new(name, "alice", "presence").send(&mut server).expect("subscribed");
    }
    server.now += Seconds(500);
    Subscribe::new("bob", "alice", "presence").in_dialog(&server, 2).send(&mut server).expect("refreshed");
    server.now += Seconds(101);
    assert_eq!(expiry::subscriptions(&mut server).expect("ended"), 1);
    assert!(server.stored("bob").is_some() && server.stored("carol").is_none());
}

#[test]
fn who_was_rejected_is_not_notified_again() {
    let mut server = MemoryPorts::default();
    server.config.force_active = false;
    server.allow("alice", "bob", Status::Terminated, "rejected");
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("answered");
    server.now += Seconds(601);
    assert_eq!(expiry::subscriptions(&mut server).expect("ended"), 1);
    assert_eq!(server.sent.len(), 1);
}

fn an_operator_ends_a_subscription_with_a_reason((reason, state): (&str, &str)) {
    let mut server = MemoryPorts::default();
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let subscription = server.stored("bob").expect("stored").clone();
    assert!(expiry::end(&mut server, &subscription, reason.as_bytes()).expect("ended"));
    assert!(!expiry::end(&mut server, &subscription, reason.as_bytes()).expect("it is gone"));
    assert_eq!(server.sent.last().map(|sent| sent.state.as_str()), Some(state));
}

table! { an_operator_ends_a_subscription_with_a_reason:
    deactivated => ("deactivated", "terminated;reason=deactivated");
    probation => ("probation;retry-after=60", "terminated;reason=probation;retry-after=60");
    noresource => ("noresource", "terminated;reason=noresource");
    timeout => ("timeout", "terminated;reason=timeout");
    rejected => ("rejected", "terminated;reason=rejected");
    giveup => ("giveup", "terminated;reason=giveup");
}

fn force_delete_removes_publications_in_silence((silent, notified): (bool, usize)) {
    let mut server = MemoryPorts::default();
    server.config.force_delete = silent;
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    let publish = Publish { expires: Some(10), ..Publish::new("alice", PRESENCE, "<a/>") };
    publish.send(&mut server).expect("stored");
    server.now += Seconds(11);
    assert_eq!(expiry::publications(&mut server).expect("ended"), 1);
    assert_eq!(server.sent.len(), notified);
}

table! { force_delete_removes_publications_in_silence:
    without => (false, 3);
    with => (true, 2);
}

/// After the NOTIFY that says `terminated` there is no subscription that another could belong to (RFC 6665 4.4.1).
fn the_end_is_said_once((seconds, happens, states): (i64, &str, &[&str])) {
    let mut server = MemoryPorts::default();
    server.config.force_active = false;
    server.allow("alice", "bob", Status::Active, "");
    Subscribe::new("bob", "alice", "presence").send(&mut server).expect("subscribed");
    server.sent.clear();
    server.now += Seconds(seconds);
    match happens {
        "a change" => {
            Publish::new("alice", PRESENCE, "<presence/>").send(&mut server).expect("stored");
        }
        _ => {
            server.allow("alice", "bob", Status::Terminated, "rejected");
            let resource = server.resource("alice", PRESENCE);
            judgement::authorizations(&mut server, &resource).expect("judged");
        }
    }
    server.now += Seconds(3);
    expiry::subscriptions(&mut server).expect("ended");
    let sent: Vec<_> = server.sent.iter().map(|sent| sent.state.as_str()).collect();
    assert_eq!(sent, states);
    assert!(!server.has_forgotten_work());
}

table! { the_end_is_said_once:
    a_change_before_the_last_second => (599, "a change", &["active;expires=1", "terminated;reason=timeout"]);
    a_change_in_the_last_second => (600, "a change", &["terminated;reason=timeout"]);
    a_change_after_it => (601, "a change", &["terminated;reason=timeout"]);
    a_block_before_the_last_second => (599, "a block", &["terminated;reason=rejected"]);
    a_block_in_the_last_second => (600, "a block", &["terminated;reason=rejected"]);
    a_block_after_it => (601, "a block", &["terminated;reason=rejected"]);
}

#[test]
fn while_memory_is_short_a_batch_ends_in_each_step() {
    let mut server = MemoryPorts { memory_is_short: true, ..MemoryPorts::default() };
    for n in 0..600 {
        Subscribe::new(&format!("watcher{n}"), "alice", "presence").send(&mut server).expect("subscribed");
    }
    server.sent.clear();
    server.now += Seconds(601);
    let ended: Vec<usize> = (0..4).map(|_| expiry::subscriptions(&mut server).expect("ended")).collect();
    assert_eq!(ended, [256, 256, 88, 0]);
    assert_eq!(server.sent.len(), 600);
}
