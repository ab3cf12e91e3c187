//! What becomes of requests when work on them is broken off by a panic.
use super::{bodies, busy, words};
use crate::agent::testing::{Bench, code, granted};

#[test]
fn a_panic_over_one_request_holds_up_no_other_and_is_tried_once_more() {
    for (panics, expected) in [(1, vec!["a", "c", "fragile"]), (2, vec!["a", "c"])] {
        let mut bench = Bench::new();
        for (body, word) in [("a", 1), ("fragile", 2), ("c", 3)] {
            bench.publish(body, Some(body), 600, word).unwrap();
            bench.answer(&busy(5));
        }
        bench.fragile = panics;
        bench.pass(10);
        let mut sent: Vec<&str> = bodies(&bench)[3..].to_vec();
        sent.sort_unstable();
        assert_eq!((sent, bench.pending_requests.count()), (expected, 4 - panics), "{panics} panics");
        // What comes after it goes in any case.
        bench.publish("fragile", Some("later"), 600, 4).unwrap();
        assert!(panics == 1 || bodies(&bench).last() == Some(&"later"));
    }
}

#[test]
fn a_panic_while_a_request_is_sent_is_taken_for_silence() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), 600, 1).unwrap();
    bench.answer(&busy(5));
    bench.panics = 1;
    bench.pass(20);
    assert_eq!(bodies(&bench), ["one"], "the server may have it");
    bench.pass(60);
    assert_eq!(bodies(&bench), ["one", "one"]);
}

#[test]
fn an_answer_that_is_broken_off_keeps_the_publication_for_no_time() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), 600, 1).unwrap();
    bench.publish("i", Some("two"), 600, 2).unwrap();
    bench.panics = 1;
    bench.answer(&granted("t1", 600));
    assert_eq!(bodies(&bench), ["one"], "the record was not stored");
    bench.pass(2);
    assert_eq!(words(&bench), [1], "as if nobody had answered");
    bench.pass(60);
    assert_eq!(bodies(&bench)[1..], ["two"], "what waited goes");
    bench.answer(&granted("t2", 600));
    assert_eq!((words(&bench), bench.pending_requests.count()), (vec![1, 2], 0));
}

#[test]
fn an_answer_that_was_settled_is_not_settled_again() {
    let mut bench = Bench::new();
    bench.publish("i", Some("fragile"), 600, 1).unwrap();
    bench.answer(&granted("t1", 600));
    bench.publish("i", None, 600, 2).unwrap();
    // The record is gone with this answer; making the whole document ready panics.
    bench.fragile = 1;
    bench.answer(&code(412));
    assert_eq!((bench.wire.len(), bench.records.count().publications), (2, 0));
    bench.pass(2);
    assert_eq!((bench.wire.len(), bench.wire[2].header("SIP-If-Match")), (3, ""));
    bench.answer(&granted("t2", 3600));
    bench.pass(100);
    assert_eq!((bench.wire.len(), bench.records.count().publications, words(&bench)), (3, 1, vec![1, 2]));
}

#[test]
fn an_answer_over_which_each_try_panics_ends_in_time() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), -1, 1).unwrap();
    for _ in 0..5 {
        if bench.open().is_none() {
            break;
        }
        bench.panics = 1;
        bench.answer(&granted("t", 600));
        bench.panics = 0;
        bench.pass(100);
    }
    assert_eq!((bodies(&bench).len(), bench.pending_requests.count()), (2, 0));
}

#[test]
fn a_caller_whose_call_panics_is_not_called_and_nothing_is_sent_for_it() {
    for fragile in [0, 1] {
        let mut bench = Bench::new();
        (bench.fragile, bench.panics) = (fragile, 1 - fragile);
        assert!(bench.publish("i", Some("fragile"), 600, 1).is_err());
        bench.publish("i", Some("two"), 600, 2).unwrap();
        bench.pass(100);
        assert_eq!(bodies(&bench), ["two"]);
        bench.answer(&granted("t1", 600));
        assert_eq!((bench.answered_callers, bench.pending_requests.count()), (vec![(2, false)], 0));
    }
}

#[test]
fn those_who_wait_for_what_is_given_up_are_answered() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), 600, 1).unwrap();
    bench.publish("i", Some("fragile"), 600, 2).unwrap();
    bench.fragile = 2;
    bench.answer(&granted("t1", 600));
    assert_eq!(bench.answered_callers, [(1, false)]);
    bench.pass(4);
    assert_eq!((bench.answered_callers, bench.pending_requests.count()), (vec![(1, false), (2, true)], 0));
}
