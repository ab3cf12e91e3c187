//! Any order of requests, in one process or in several at once, ends with every authorised watcher knowing the last
//! state.
use super::actors::{Publish, Subscribe, pidf};
use super::{MemoryPorts, PRESENCE};
use crate::presence::authorization::judgement;
use crate::presence::expiry;
use crate::presence::subscription::Status;
use crate::time::Seconds;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Publish { word: u8 },
    Refresh,
    Remove,
    Subscribe { watcher: usize },
    Renew { watcher: usize },
    Unsubscribe { watcher: usize },
    Rules { watcher: usize, allow: bool },
    Pass { seconds: i64 },
    Expire,
}

const WATCHERS: [&str; 3] = ["bob", "carol", "dave"];

fn step() -> impl Strategy<Value = Step> {
    let watcher = 0..WATCHERS.len();
    prop_oneof![
        4 => any::<u8>().prop_map(|word| Step::Publish { word }),
        1 => Just(Step::Refresh),
        1 => Just(Step::Remove),
        3 => watcher.clone().prop_map(|watcher| Step::Subscribe { watcher }),
        2 => watcher.clone().prop_map(|watcher| Step::Renew { watcher }),
        1 => watcher.clone().prop_map(|watcher| Step::Unsubscribe { watcher }),
        2 => (watcher, any::<bool>()).prop_map(|(watcher, allow)| Step::Rules { watcher, allow }),
        1 => (1i64..400).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Expire),
    ]
}

/// The publisher's side: its entity tag and the last body that was accepted.
#[derive(Debug, Default)]
struct Publisher {
    etag: Option<String>,
    cseq: u32,
}

impl Publisher {
    fn carry_out(&mut self, server: &mut MemoryPorts, step: &Step) {
        self.cseq += 1;
        let resource = server.resource("alice", PRESENCE);
        match step {
            Step::Publish { word } => {
                let body = pidf(&word.to_string());
                let publish = Publish { etag: self.etag.as_deref(), ..Publish::new("alice", PRESENCE, &body) };
                // 412 after the document has run out: the phone publishes anew (RFC 3903 4.1).
                self.etag = publish.send(server).or_else(|_| Publish { etag: None, ..publish }.send(server)).ok();
            }
            Step::Refresh | Step::Remove => {
                let Some(etag) = self.etag.take() else { return };
                let expires = if matches!(step, Step::Remove) { 0 } else { 600 };
                let request = Publish::new("alice", PRESENCE, "");
                let request = Publish { etag: Some(&etag), body: None, expires: Some(expires), ..request };
                self.etag = request.send(server).ok().filter(|_| expires > 0);
            }
            Step::Subscribe { watcher } if server.stored(WATCHERS[*watcher]).is_none() => {
                let subscribe = Subscribe::new(WATCHERS[*watcher], "alice", "presence");
                Subscribe { cseq: self.cseq, ..subscribe }.send(server).expect("subscribed");
            }
            Step::Renew { watcher } | Step::Unsubscribe { watcher } if server.stored(WATCHERS[*watcher]).is_some() => {
                let expires = if matches!(step, Step::Renew { .. }) { 600 } else { 0 };
                let request =
                    Subscribe::new(WATCHERS[*watcher], "alice", "presence").in_dialog(server, self.cseq + 1_000);
                let _ = Subscribe { expires: Some(expires), ..request }.send(server);
            }
            Step::Rules { watcher, allow } => {
                let status = if *allow { Status::Active } else { Status::Pending };
                server.allow("alice", WATCHERS[*watcher], status, "");
                judgement::authorizations(server, &resource).expect("judged again");
            }
            Step::Pass { seconds } => server.now += Seconds(*seconds),
            Step::Expire => {
                expiry::publications(server).expect("ended");
                expiry::subscriptions(server).expect("ended");
            }
            _ => {}
        }
    }
}

/// What must hold when all is quiet.
fn check(server: &mut MemoryPorts) -> Result<(), TestCaseError> {
    server.interruptions.clear();
    // What runs out in this very second is no longer shown and is collected in the next.
    while server.has_document_ending_now() {
        server.now += Seconds(1);
    }
    expiry::publications(server).expect("ended");
    expiry::subscriptions(server).expect("ended");
    prop_assert!(!server.has_forgotten_work(), "a queue was left with work");
    let resource = server.resource("alice", PRESENCE);
    let state = crate::presence::notification::notifier::current_body(server, &resource)
        .map(|b| String::from_utf8_lossy(&b).into_owned());
    for name in WATCHERS {
        let Some(stored) = server.stored(name) else { continue };
        let (active, local_cseq) = (stored.state.status == Status::Active, stored.state.local_cseq);
        let to_tag = String::from_utf8_lossy(stored.dialog().to_tag).into_owned();
        // The last NOTIFY of the dialog before it may go out after the first one of this.
        let sent = server.sent_to(name);
        let last = sent.iter().rfind(|sent| sent.to_tag == to_tag).expect("a subscription is followed by a NOTIFY");
        prop_assert_eq!(last.cseq, local_cseq + 1);
        if active {
            // A document that was removed is shown once as closed.
            let shown = last.body.clone().filter(|body| !body.starts_with("closed "));
            prop_assert_eq!(&shown, &state, "{} knows another state", name);
        } else {
            prop_assert!(last.body.is_none());
        }
    }
    let mut last = std::collections::BTreeMap::new();
    for sent in &server.sent {
        let before = last.insert(&sent.to_tag, sent.cseq);
        prop_assert!(before.is_none_or(|before| sent.cseq > before), "the CSeq went back");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn one_process(steps in prop::collection::vec(step(), 1..40)) {
        let mut server = MemoryPorts::default();
        server.config.force_active = false;
        let mut publisher = Publisher::default();
        for step in &steps {
            publisher.carry_out(&mut server, step);
        }
        check(&mut server)?;
    }

    #[test]
    fn several_processes(
        steps in prop::collection::vec(step(), 1..25),
        others in prop::collection::vec(step(), 1..25),
    ) {
        let mut server = MemoryPorts::default();
        server.config.force_active = false;
        for name in WATCHERS {
            server.allow("alice", name, Status::Active, "");
        }
        let publisher = std::rc::Rc::new(std::cell::RefCell::new(Publisher::default()));
        for step in others {
            // A step of another process falls between the sending of two NOTIFYs; a phone has one request under way.
            let publisher = publisher.clone();
            server.interruptions.push_back(Box::new(move |server: &mut MemoryPorts| {
                if let Ok(mut publisher) = publisher.try_borrow_mut() {
                    publisher.carry_out(server, &step);
                } else if !matches!(step, Step::Publish { .. } | Step::Refresh | Step::Remove) {
                    Publisher { etag: None, cseq: 50_000 }.carry_out(server, &step);
                }
            }));
        }
        for step in &steps {
            publisher.borrow_mut().carry_out(&mut server, step);
        }
        check(&mut server)?;
    }
}
