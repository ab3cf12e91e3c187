//! Any order of requests, answers, NOTIFYs, time and crashes: what holds in all of them.
use crate::agent::request_queue::ANSWER_TIMEOUT;
use crate::agent::testing::{Bench, Wire, code, granted};
use crate::pua::response::FinalResponse;
use crate::time::Seconds;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum AgentStep {
    Publish {
        id: usize,
        body: Option<u8>,
        expires: i64,
    },
    Subscribe {
        expires: i64,
    },
    /// An answer to one of the open requests; 200 is what the server says by itself.
    Answer {
        which: usize,
        code: u16,
        retry_after: Option<i64>,
    },
    /// A NOTIFY in the dialog of one of the SUBSCRIBEs.
    Notify {
        which: usize,
        state: &'static str,
    },
    /// The server forgets everything.
    Forget,
    Pass(i64),
    Write,
    Crash,
    Store(bool),
}

fn step() -> impl Strategy<Value = AgentStep> {
    let expires = prop_oneof![3 => Just(-1i64), 2 => Just(100_000), 1 => Just(0)];
    let codes =
        prop_oneof![8 => Just(200u16), 2 => Just(503), 1 => Just(500), 1 => Just(0), 1 => Just(423), 1 => Just(481)];
    let states = prop_oneof![
        Just("active;expires=600"),
        Just("terminated"),
        Just("terminated;reason=deactivated"),
        Just("terminated;reason=rejected"),
        Just("terminated;reason=giveup;retry-after=20"),
    ];
    prop_oneof![
        6 => (0..2usize, proptest::option::weighted(0.7, 0..8u8), expires.clone())
            .prop_map(|(id, body, expires)| AgentStep::Publish { id, body, expires }),
        3 => expires.prop_map(|expires| AgentStep::Subscribe { expires }),
        8 => (0..4usize, codes, proptest::option::of(0..90i64))
            .prop_map(|(which, code, retry_after)| AgentStep::Answer { which, code, retry_after }),
        3 => (0..4usize, states).prop_map(|(which, state)| AgentStep::Notify { which, state }),
        1 => Just(AgentStep::Forget),
        6 => (1..40i64).prop_map(AgentStep::Pass),
        2 => Just(AgentStep::Write),
        1 => Just(AgentStep::Crash),
        1 => any::<bool>().prop_map(AgentStep::Store),
    ]
}

/// A presence server and a caller, who both remember what they know.
struct Peers {
    bench: Bench,
    words: usize,
    /// Callers that were promised a callback.
    promised: BTreeSet<usize>,
    /// What the server has: entity tag to document.
    documents: BTreeMap<String, String>,
    tags: usize,
    /// What each publication is to be in the end; `None` inside: nothing; no entry: nobody can say.
    wanted: BTreeMap<usize, Option<String>>,
}

/// The shortest interval of a server that has one, in seconds.
const MINIMUM: i64 = 5_000;

const IDS: [&str; 2] = ["one", "two"];

impl Peers {
    fn new() -> Peers {
        Peers {
            bench: Bench::new(),
            words: 0,
            promised: BTreeSet::new(),
            documents: BTreeMap::new(),
            tags: 0,
            wanted: (0..IDS.len()).map(|id| (id, None)).collect(),
        }
    }

    fn word(&mut self) -> usize {
        self.words += 1;
        self.words
    }

    fn run(&mut self, step: &AgentStep) {
        match step {
            AgentStep::Publish { id, body, expires } => self.publish(*id, *body, *expires),
            AgentStep::Subscribe { expires } => {
                let word = self.word();
                if self.bench.subscribe(*expires, word).is_ok() {
                    self.promised.insert(word);
                }
            }
            AgentStep::Answer { which, code, retry_after } => {
                let open: Vec<usize> = (0..self.bench.wire.len()).filter(|n| !self.bench.wire[*n].answered).collect();
                if let Some(index) = open.get(*which % open.len().max(1)) {
                    self.answer(*index, *code, *retry_after);
                }
            }
            AgentStep::Notify { which, state } => {
                let dialogs: Vec<usize> =
                    (0..self.bench.wire.len()).filter(|n| self.bench.wire[*n].method == "SUBSCRIBE").collect();
                if let (Some(index), false) = (dialogs.iter().rev().nth(*which), self.bench.store_away) {
                    self.bench.notify(*index, "t", "sip:moved@server", state);
                }
            }
            AgentStep::Forget => self.documents.clear(),
            AgentStep::Pass(seconds) => self.bench.pass(*seconds),
            AgentStep::Write => self.bench.write(),
            AgentStep::Crash => {
                self.bench.crash(1000);
                self.promised.clear();
                // What was not written, and documents for repairs, are lost with the memory.
                self.wanted.clear();
                self.documents.clear();
            }
            AgentStep::Store(away) => self.bench.store_away = *away,
        }
        self.check();
    }

    fn publish(&mut self, id: usize, body: Option<u8>, expires: i64) {
        let word = self.word();
        let body = body.map(|number| format!("document {number}"));
        if self.bench.publish(IDS[id], body.as_deref(), expires, word).is_err() {
            return;
        }
        self.promised.insert(word);
        match (expires, body) {
            (0, _) => drop(self.wanted.insert(id, None)),
            (_, Some(body)) => drop(self.wanted.insert(id, Some(body))),
            // A refresh of what may or may not be there by then.
            (_, None) => {}
        }
    }

    fn answer(&mut self, index: usize, status: u16, retry_after: Option<i64>) {
        let wire = self.bench.wire[index].clone();
        let (retry_after, minimum) = (retry_after.map(Seconds), Seconds(MINIMUM));
        let mut answer = FinalResponse { retry_after, min_expires: (status == 423).then_some(minimum), ..code(status) };
        let asked: i64 = wire.header("Expires").parse().unwrap();
        if status == 423 && (asked == 0 || asked >= MINIMUM) {
            // Long enough already: such a server would be wrong.
            answer = code(503);
        }
        if status == 481 && wire.method == "PUBLISH" {
            answer = code(503);
        }
        if status == 200 {
            answer = match wire.method {
                "PUBLISH" => self.take(&wire),
                _ if wire.header("Expires") == "0" => granted("t", 0),
                _ => granted("t", 600),
            };
        }
        self.bench.answer_to(index, &answer);
    }

    /// What RFC 3903 has a server do.
    fn take(&mut self, wire: &Wire) -> FinalResponse {
        let tag = wire.header("SIP-If-Match");
        let known = self.documents.remove(tag);
        if known.is_none() && !tag.is_empty() {
            return code(412);
        }
        self.tags += 1;
        let fresh = format!("tag{}", self.tags);
        let ends = wire.header("Expires") == "0";
        if !ends {
            let body = wire.body.clone().or(known).expect("a document");
            self.documents.insert(fresh.clone(), body);
        }
        granted(&fresh, if ends { 0 } else { 600 })
    }

    fn check(&self) {
        let mut answered = BTreeSet::new();
        for (word, _) in &self.bench.answered_callers {
            assert!(answered.insert(*word), "caller {word} was answered twice");
        }
        let mut used = BTreeSet::new();
        for wire in self.bench.wire.iter().filter(|wire| wire.method == "SUBSCRIBE") {
            assert!(used.insert((&wire.call_id, wire.cseq)), "CSeq {} was used twice", wire.cseq);
        }
        // What nobody has answered by now is given up, and tried again.
        let is_open = |wire: &&Wire| !wire.answered && self.bench.ticks - wire.at <= ANSWER_TIMEOUT;
        let mut under_way = BTreeSet::new();
        for wire in self.bench.wire.iter().filter(is_open) {
            assert!(under_way.insert((wire.method, &wire.id)), "two of one {} under way", wire.method);
        }
    }

    /// The server answers everything from here on, until nothing is under way and nothing waits.
    fn settle(&mut self) {
        self.bench.store_away = false;
        for _ in 0..2_000 {
            while let Some(index) = self.bench.open() {
                self.answer(index, 200, None);
                self.check();
            }
            if self.bench.pending_requests.count() == 0 {
                return;
            }
            self.bench.pass(1);
        }
        panic!("{} requests are never done", self.bench.pending_requests.count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        rng_seed: RngSeed::Fixed(1),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_caller_is_answered_once_and_the_last_request_is_with_the_server(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut peers = Peers::new();
        for step in &steps {
            peers.run(step);
        }
        peers.settle();
        let answered: BTreeSet<usize> = peers.bench.answered_callers.iter().map(|(word, _)| *word).collect();
        let unanswered: Vec<_> = peers.promised.difference(&answered).collect();
        prop_assert!(unanswered.is_empty(), "callers {:?} were never answered", unanswered);
        // A document that was forgotten comes back with the refresh that finds out.
        let before = peers.bench.wire.len();
        peers.bench.pass(700);
        peers.settle();
        prop_assert!(peers.bench.wire.len() - before < 40, "{} requests in 700 s", peers.bench.wire.len() - before);
        let has: BTreeSet<&String> = peers.documents.values().collect();
        let known = peers.wanted.len() == IDS.len();
        let wants: BTreeSet<&String> = peers.wanted.values().flatten().collect();
        prop_assert!(!known || has == wants, "the server has {has:?}, wanted is {wants:?}");
    }
}
