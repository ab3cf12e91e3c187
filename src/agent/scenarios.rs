//! What becomes of requests when servers are slow, forgetful, busy, hostile or gone, and callers impatient.
mod panics;

use crate::agent::records::RecordCounts;
use crate::agent::testing::{Bench, SendingFails, code, granted, publication, subscription};
use crate::pua::error::RequestError;
use crate::pua::flags::SourceFlags;
use crate::pua::request::{RequestField, RequestKind, RequestOptions, Start};
use crate::pua::response::Challenger;
use crate::pua::response::{Challenge, FinalResponse};
use crate::time::Seconds;

fn busy(seconds: i64) -> FinalResponse {
    FinalResponse { retry_after: Some(Seconds(seconds)), ..code(503) }
}

fn bodies(bench: &Bench) -> Vec<&str> {
    bench.wire.iter().map(|wire| wire.body.as_deref().unwrap_or("-")).collect()
}

fn words(bench: &Bench) -> Vec<usize> {
    bench.answered_callers.iter().map(|(word, _)| *word).collect()
}

#[test]
fn a_refresh_does_not_throw_away_the_document_that_waits() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), 600, 1).unwrap();
    bench.answer(&busy(5));
    bench.publish("i", None, 600, 2).unwrap();
    bench.pass(6);
    bench.answer(&granted("t1", 600));
    assert_eq!((bodies(&bench), words(&bench)), (vec!["one", "one"], vec![1, 2]));
}

#[test]
fn what_cannot_go_takes_no_place_in_the_queue() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), 600, 1).unwrap();
    bench.publish("i", Some("two"), 600, 2).unwrap();
    bench.publish("i", None, 600, 3).unwrap();
    assert!(matches!(bench.publish("i", Some("broken"), 600, 4), Err(RequestError::BadBody(_))));
    let tag = [(RequestField::Etag, b"nobody's".as_slice())];
    let stranger = publication("i", Some("three"), 600, 5).with(&tag);
    assert_eq!(bench.submit(&stranger), Err(RequestError::UnknownEtag));
    bench.answer(&granted("t1", 600));
    bench.answer(&granted("t2", 600));
    assert_eq!((bodies(&bench), words(&bench)), (vec!["one", "two"], vec![1, 2, 3]));
}

#[test]
fn a_request_that_names_the_tag_of_the_one_before_it_goes_on_with_the_new_one() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), 600, 1).unwrap();
    bench.answer(&granted("t1", 600));
    let named = |body, expires, word| publication("i", body, expires, word).with(&[(RequestField::Etag, b"t1")]);
    bench.submit(&named(Some("two"), 600, 2)).unwrap();
    bench.submit(&named(Some("three"), 600, 3)).unwrap();
    bench.answer(&granted("t2", 600));
    assert_eq!(bench.wire[2].header("SIP-If-Match"), "t2");
    bench.submit(&publication("i", None, 0, 4)).unwrap();
    bench.submit(&publication("i", None, 0, 5)).unwrap();
    bench.answer(&granted("t3", 600));
    bench.answer(&granted("t4", 0));
    assert_eq!(words(&bench), [1, 2, 3, 4, 5]);
    assert_eq!(bench.pending_requests.count(), 0);
}

fn a_caller_is_answered_once_when_a_try_is_superseded(kind: RequestKind) {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, expires, word| match kind {
        RequestKind::Subscription => bench.subscribe(expires, word).unwrap(),
        RequestKind::Publication => bench.publish("i", Some("x"), expires, word).unwrap(),
    };
    ask(&mut bench, 600, 1);
    bench.answer(&busy(5));
    ask(&mut bench, 900, 2);
    ask(&mut bench, 1200, 3);
    bench.pass(6);
    bench.answer(&busy(5));
    ask(&mut bench, 1500, 4);
    bench.pass(6);
    bench.answer(&granted("t", 1500));
    assert_eq!(words(&bench), [1, 2, 3, 4]);
}

table! { a_caller_is_answered_once_when_a_try_is_superseded:
    publication => RequestKind::Publication;
    subscription => RequestKind::Subscription;
}

#[test]
fn the_end_of_what_is_not_there_is_answered() {
    let mut bench = Bench::new();
    bench.publish("i", None, 0, 1).unwrap();
    bench.subscribe(0, 2).unwrap();
    assert_eq!(bench.answered_callers, [(1, true), (2, true)]);
    bench.publish("i", Some("one"), 600, 3).unwrap();
    bench.answer(&busy(1000));
    // Nothing is with the server: the end need not wait.
    bench.publish("i", None, 0, 4).unwrap();
    assert_eq!(bench.answered_callers[2..], [(3, false), (4, true)]);
    assert_eq!((bench.wire.len(), bench.pending_requests.count()), (1, 0));
}

fn what_is_never_sent_is_answered(kind: RequestKind) {
    let mut bench = Bench::new();
    let request =
        if kind == RequestKind::Subscription { subscription(600, 1) } else { publication("i", Some("x"), 600, 1) };
    bench.sending_fails = Some(SendingFails::Silently);
    bench.submit(&request).unwrap();
    assert_eq!(bench.answered_callers, [(1, true)]);
    bench.sending_fails = Some(SendingFails::AtOnce);
    let refused = bench.submit(&request).is_err();
    assert_eq!(bench.answered_callers.len(), 1 + usize::from(!refused));
    assert_eq!(bench.pending_requests.count(), 0);
}

table! { what_is_never_sent_is_answered:
    publication => RequestKind::Publication;
    subscription => RequestKind::Subscription;
}

#[test]
fn a_longer_subscription_is_asked_for_after_the_first() {
    let mut bench = Bench::new();
    bench.subscribe(600, 1).unwrap();
    bench.subscribe(605, 2).unwrap();
    bench.subscribe(3600, 3).unwrap();
    bench.answer(&granted("t", 610));
    assert_eq!(words(&bench), [1, 2]);
    assert_eq!((bench.wire[1].header("Expires"), bench.wire[1].cseq), ("3610", 11));
    bench.answer(&granted("t", 3610));
    assert_eq!(words(&bench), [1, 2, 3]);
}

fn no_sequence_number_is_used_twice(failure: FinalResponse) {
    let mut bench = Bench::new();
    bench.subscribe(-1, 0).unwrap();
    bench.answer(&granted("t", 30));
    for _ in 0..4 {
        bench.pass(25);
        for _ in 0..3 {
            if bench.open().is_some() {
                bench.answer(&failure);
            }
            bench.pass(5);
        }
    }
    let mut used: Vec<_> = bench.wire.iter().map(|wire| (wire.call_id.clone(), wire.cseq)).collect();
    let all = used.len();
    used.sort();
    used.dedup();
    assert!(used.len() == all && all > 3);
}

table! { no_sequence_number_is_used_twice:
    overloaded => busy(1);
    failing => code(500);
    silent => code(0);
}

#[test]
fn a_dialog_moves_on_though_its_refresh_waits() {
    let mut bench = Bench::new();
    bench.subscribe(-1, 0).unwrap();
    bench.answer(&granted("t", 30));
    bench.pass(25);
    bench.answer(&busy(3));
    assert!(bench.notify(0, "t", "sip:moved@server", "active;expires=30"));
    bench.pass(4);
    let last = bench.wire.last().unwrap();
    assert_eq!((last.target.as_str(), &last.call_id), ("sip:moved@server", &bench.wire[0].call_id));
}

fn terminated_never_makes_a_storm(state: &str) {
    let mut bench = Bench::new();
    bench.subscribe(-1, 0).unwrap();
    for _ in 0..600 {
        if let Some(index) = bench.open() {
            bench.answer(&granted("t", 3600));
            assert!(bench.notify(index, "t", "sip:x@server", state));
        }
        bench.pass(1);
    }
    let times: Vec<i64> = bench.wire.iter().map(|wire| (wire.at - bench.wire[0].at).0).collect();
    assert!((5..=10).contains(&times.len()) && times[1] == 0, "{state}: {times:?}");
    // It was not given up: the wait is only longer.
    assert_eq!(bench.pending_requests.count(), 1);
}

table! { terminated_never_makes_a_storm:
    without_a_reason => "terminated";
    deactivated => "terminated;reason=deactivated";
    timeout => "terminated;reason=timeout";
    an_unknown_reason => "terminated;reason=new";
}

fn terminated_says_when_to_come_back((state, wait): (&str, Option<i64>)) {
    for early in [false, true] {
        let mut bench = Bench::new();
        bench.subscribe(3600, 1).unwrap();
        if !early {
            bench.answer(&granted("t", 3600));
        }
        assert!(bench.notify(0, "t", "sip:x@server", state));
        if early {
            bench.answer(&granted("t", 3600));
        }
        bench.pass(100);
        let second = bench.wire.get(1).map(|wire| wire.at - bench.wire[0].at);
        assert_eq!(second, wait.map(Seconds), "{state}, early: {early}");
        assert_eq!(words(&bench), [1], "{state}, early: {early}");
    }
}

table! { terminated_says_when_to_come_back:
    deactivated => ("terminated;reason=deactivated", Some(0));
    in_a_minute => ("terminated;retry-after=60", Some(60));
    probation => ("terminated;reason=probation;retry-after=7", Some(7));
    in_any_case_and_spacing => ("terminated; Reason = GIVEUP ; Retry-After = 7", Some(7));
    giveup => ("terminated;reason=giveup", Some(10));
    rejected => ("terminated; Reason = rejected", None);
    noresource => ("Terminated;reason=NoResource;retry-after=1", None);
    invariant => ("terminated;reason=invariant", None);
}

#[test]
fn what_is_being_ended_is_not_begun_anew() {
    let mut bench = Bench::new();
    bench.subscribe(3600, 1).unwrap();
    bench.answer(&granted("t", 3600));
    bench.subscribe(0, 2).unwrap();
    assert!(bench.notify(0, "t", "sip:x@server", "terminated;reason=timeout"));
    bench.answer(&granted("t", 0));
    bench.pass(30);
    assert_eq!((bench.wire.len(), bench.pending_requests.count()), (2, 0));
}

#[test]
fn one_dialog_has_the_tag_and_the_target_of_one_branch() {
    let mut bench = Bench::new();
    bench.subscribe(-1, 1).unwrap();
    assert!(bench.notify(0, "one", "sip:one@server", "active;expires=60"));
    assert!(!bench.notify(0, "two", "sip:two@server", "active;expires=60"));
    bench.answer(&granted("two", 30));
    bench.pass(25);
    let refresh = &bench.wire[1];
    assert_eq!(refresh.target, "sip:one@server");
}

fn an_answer_that_lacks_something_keeps_the_dialog(answer: FinalResponse) {
    let mut bench = Bench::new();
    bench.subscribe(-1, 1).unwrap();
    let (begun, interval) = (bench.wire[0].target.clone(), bench.wire[0].header("Expires").to_owned());
    bench.answer(&answer);
    bench.pass(interval.parse().unwrap());
    assert_eq!(bench.wire.len(), 2, "it is refreshed");
    bench.answer(&FinalResponse { expires: None, ..granted("t", 0) });
    bench.subscribe(0, 2).unwrap();
    let target = if answer.contact.is_empty() { &begun } else { "sip:t@server" };
    assert_eq!((bench.wire[1].target.as_str(), bench.wire[2].target.as_str()), (target, "sip:t@server"));
    assert_eq!((bench.wire[1].header("Expires"), bench.wire[2].header("Expires")), (interval.as_str(), "0"));
    assert!(bench.wire[1..].iter().all(|sent| sent.call_id == bench.wire[0].call_id));
    bench.answer(&FinalResponse { expires: None, ..granted("t", 0) });
    bench.pass(2 * interval.parse::<i64>().unwrap());
    assert_eq!((bench.wire.len(), bench.pending_requests.count()), (3, 0));
}

table! { an_answer_that_lacks_something_keeps_the_dialog:
    expires => FinalResponse { expires: None, ..granted("t", 0) };
    contact => FinalResponse { contact: Vec::new(), ..granted("t", 3600) };
    both => FinalResponse { expires: None, contact: Vec::new(), ..granted("t", 0) };
}

fn a_step_of_the_wall_clock_forgets_no_request(step: i64) {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), -1, 1).unwrap();
    bench.wall += Seconds(step);
    bench.pass(2);
    bench.publish("i", Some("two"), -1, 2).unwrap();
    assert_eq!(bench.wire.len(), 1);
    bench.answer(&granted("t1", 3600));
    assert_eq!(bench.wire[1].header("SIP-If-Match"), "t1");
}

table! { a_step_of_the_wall_clock_forgets_no_request:
    forward => 700;
    back => -700;
}

#[test]
fn what_was_granted_is_remembered_once_the_store_is_back() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), -1, 1).unwrap();
    bench.store_away = true;
    bench.answer(&granted("t1", 3600));
    bench.publish("i", None, 0, 2).unwrap();
    bench.pass(20);
    assert_eq!((bench.wire.len(), words(&bench)), (1, vec![1]));
    bench.store_away = false;
    bench.pass(20);
    assert_eq!((bench.wire[1].header("SIP-If-Match"), bench.wire[1].header("Expires")), ("t1", "0"));
    bench.answer(&granted("t2", 0));
    assert_eq!((words(&bench), bench.records.count()), (vec![1, 2], RecordCounts::default()));
}

#[test]
fn nothing_new_is_published_while_it_cannot_be_remembered() {
    let mut bench = Bench::new();
    bench.store_away = true;
    bench.publish("i", Some("one"), -1, 1).unwrap();
    bench.pass(10);
    assert_eq!((bench.wire.len(), bench.answered_callers.len()), (0, 0));
    bench.store_away = false;
    bench.pass(20);
    bench.answer(&granted("t1", 3600));
    assert_eq!((bodies(&bench), words(&bench)), (vec!["one"], vec![1]));
    // A caller that decides about another try itself is answered at once.
    bench.store_away = true;
    let request = publication("j", Some("one"), 60, 2);
    let waits = request.with_options(RequestOptions { flag: SourceFlags::from_word(1 << 7), ..request.options });
    assert!(matches!(bench.submit(&waits), Err(RequestError::Store(_))));
}

#[test]
fn a_refused_change_keeps_the_tag_of_the_document_there_is() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), -1, 1).unwrap();
    bench.answer(&granted("t1", 3600));
    bench.publish("i", Some("two"), -1, 2).unwrap();
    bench.answer(&code(403));
    bench.publish("i", Some("three"), -1, 3).unwrap();
    assert_eq!(bench.wire[2].header("SIP-If-Match"), "t1");
}

#[test]
fn a_silent_server_gets_few_new_documents() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), -1, 1).unwrap();
    for _ in 0..44 {
        if bench.open().is_some() {
            bench.answer(&code(0));
        }
        bench.pass(1);
    }
    assert!(bench.wire.len() <= 2);
}

#[test]
fn a_repair_makes_a_publication_of_its_own() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), -1, 1).unwrap();
    bench.answer(&granted("t1", 3600));
    let second = publication("i", Some("sibling"), -1, 2);
    bench.submit(&second.with_options(RequestOptions { start: Start::Anew, ..second.options })).unwrap();
    bench.answer(&granted("t2", 3600));
    bench.submit(&publication("i", Some("two"), -1, 3).with(&[(RequestField::Etag, b"t1")])).unwrap();
    bench.answer(&code(412));
    let repair = bench.wire.last().unwrap();
    assert_eq!((repair.header("SIP-If-Match"), repair.body.as_deref()), ("", Some("two")));
}

fn an_end_asks_for_nothing_more_and_a_minimum_is_bounded(kind: RequestKind) {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, expires, word| match kind {
        RequestKind::Subscription => bench.subscribe(expires, word).unwrap(),
        RequestKind::Publication => bench.publish("i", Some("x"), expires, word).unwrap(),
    };
    ask(&mut bench, 60, 1);
    bench.answer(&FinalResponse { min_expires: Some(Seconds::MAX), ..code(423) });
    assert_eq!((bench.wire.len(), words(&bench)), (1, vec![1]));
    ask(&mut bench, 60, 2);
    bench.answer(&FinalResponse { min_expires: Some(Seconds(1800)), ..code(423) });
    assert!(bench.wire[2].header("Expires").parse::<i64>().unwrap() >= 1800);
    bench.answer(&granted("t", 1800));
    ask(&mut bench, 0, 3);
    assert_eq!(bench.wire[3].header("Expires"), "0");
}

table! { an_end_asks_for_nothing_more_and_a_minimum_is_bounded:
    publication => RequestKind::Publication;
    subscription => RequestKind::Subscription;
}

fn the_first_request_is_sent_elsewhere_and_tried_again_from_the_start(kind: RequestKind) {
    let mut bench = Bench::new();
    match kind {
        RequestKind::Subscription => bench.subscribe(600, 1).unwrap(),
        RequestKind::Publication => bench.publish("i", Some("x"), 600, 1).unwrap(),
    }
    bench.answer(&FinalResponse { contact: b"sip:there@c".to_vec(), ..code(302) });
    assert_eq!(bench.wire[1].target, "sip:there@c");
    assert!(bench.answered_callers.is_empty());
    bench.answer(&busy(3));
    bench.pass(4);
    assert!(bench.wire[2].target != "sip:there@c");
    bench.answer(&code(403));
    bench.pass(30);
    assert_eq!((bench.wire.len(), words(&bench), bench.pending_requests.count()), (3, vec![1], 0));
}

table! { the_first_request_is_sent_elsewhere_and_tried_again_from_the_start:
    publication => RequestKind::Publication;
    subscription => RequestKind::Subscription;
}

fn redirects_do_not_go_round_and_round(kind: RequestKind) {
    let mut bench = Bench::new();
    match kind {
        RequestKind::Subscription => bench.subscribe(600, 1).unwrap(),
        RequestKind::Publication => bench.publish("i", Some("x"), 600, 1).unwrap(),
    }
    while bench.open().is_some() {
        bench.answer(&FinalResponse { contact: b"sip:there@c".to_vec(), ..code(302) });
    }
    assert_eq!((bench.wire.len(), words(&bench)), (4, vec![1]));
}

table! { redirects_do_not_go_round_and_round:
    publication => RequestKind::Publication;
    subscription => RequestKind::Subscription;
}

#[test]
fn a_publication_whose_new_tag_is_not_stored_yet_is_published_once_at_a_time() {
    let mut bench = Bench::new();
    bench.publish("i", Some("one"), -1, 1).unwrap();
    bench.publish("i", None, -1, 2).unwrap();
    bench.answer(&granted("t1", 600));
    bench.store_away = true;
    bench.answer(&granted("t2", 3600));
    // The tries to store the second tag are minutes apart by now, and the record, whose time comes, has the first one.
    bench.pass(520);
    bench.store_away = false;
    bench.pass(100);
    assert_eq!(bench.wire.len(), 2);
    let named =
        |tag: &'static str, word| publication("i", Some("two"), -1, word).with(&[(RequestField::Etag, tag.as_bytes())]);
    for (tag, word) in [("t1", 3), ("t2", 4)] {
        bench.submit(&named(tag, word)).unwrap();
    }
    bench.pass(200);
    assert_eq!((bench.wire.len(), bench.wire[2].header("SIP-If-Match")), (3, "t2"));
    bench.answer(&granted("t3", 600));
    assert_eq!((words(&bench), bench.pending_requests.count()), (vec![1, 2, 3, 4], 0));
}

fn challenge(code: u16, realm: &str, nonce: &str) -> FinalResponse {
    let text = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\"").into_bytes();
    FinalResponse {
        challenges: vec![Challenge { of: if code == 407 { Challenger::Proxy } else { Challenger::Server }, text }],
        ..crate::agent::testing::code(code)
    }
}

fn a_challenge_is_answered_and_the_caller_gets_the_last_answer(kind: RequestKind) {
    let mut bench = Bench::new();
    match kind {
        RequestKind::Subscription => bench.subscribe(600, 1).unwrap(),
        RequestKind::Publication => bench.publish("i", Some("x"), 600, 1).unwrap(),
    }
    bench.answer(&challenge(407, "a", "1"));
    bench.answer(&challenge(401, "b", "2"));
    assert!(bench.answered_callers.is_empty());
    let third = bench.wire[2].clone();
    assert!(third.header("Proxy-Authorization").contains("nonce=\"1\""), "{}", third.headers);
    assert!(third.header("Authorization").contains("realm=\"b\""), "{}", third.headers);
    bench.answer(&granted("t1", 600));
    assert_eq!((words(&bench), bench.pending_requests.count()), (vec![1], 0));
    // A refresh answers what both have asked before; a new nonce takes the place of its own.
    match kind {
        RequestKind::Subscription => bench.subscribe(900, 2).unwrap(),
        RequestKind::Publication => bench.publish("i", None, 900, 2).unwrap(),
    }
    let counted = |text: &str, nonce, count| {
        text.contains(&format!("nonce=\"{nonce}\"")) && text.contains(&format!("nc=0000000{count}"))
    };
    let unasked = &bench.wire[3];
    assert!(counted(unasked.header("Authorization"), 2, 2), "{}", unasked.headers);
    assert!(counted(unasked.header("Proxy-Authorization"), 1, 3), "{}", unasked.headers);
    bench.answer(&challenge(401, "b", "3"));
    let (asked, again) = (&bench.wire[3], &bench.wire[4]);
    assert!(counted(again.header("Authorization"), 3, 1), "{}", again.headers);
    assert!(counted(again.header("Proxy-Authorization"), 1, 4), "{}", again.headers);
    match kind {
        RequestKind::Subscription => assert_eq!((&again.call_id, again.cseq), (&asked.call_id, asked.cseq + 1)),
        RequestKind::Publication => assert_eq!(again.header("SIP-If-Match"), "t1"),
    }
    // Refused: the password is wrong.
    bench.answer(&challenge(401, "b", "4"));
    assert_eq!((bench.wire.len(), words(&bench)), (if kind == RequestKind::Subscription { 6 } else { 5 }, vec![1, 2]));
}

table! { a_challenge_is_answered_and_the_caller_gets_the_last_answer:
    publication => RequestKind::Publication;
    subscription => RequestKind::Subscription;
}
