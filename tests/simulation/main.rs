//! The cluster's protocol in a simulated network: three to seven nodes, phones that subscribe, refresh, publish and
//! keep RFC 3261 by the letter, and cuts, losses, freezes, crashes and clocks that are wrong. One seed is one life, and
//! always the same one. `make simulate` goes on where `make test` ends.
#![allow(
    unreachable_pub,
    reason = "the sources of the library are compiled into it, and what they offer is not all used"
)]
#[path = "../../src"]
#[allow(dead_code, unused_imports, reason = "not all of it is simulated")]
mod layers {
    pub mod cluster;
    pub mod time;
}
mod arbitration;
mod faults;
mod growth;
mod node;
#[path = "../../src/shm_safe.rs"]
#[allow(dead_code, reason = "not all of it is simulated")]
mod shm_safe;
mod simulation;
mod wire;

use faults::Arbitration;
use layers::time;
use simulation::Simulation;

/// Seeds that have failed once.
const REGRESSIONS: &[u64] = &[1, 2, 4, 5, 10, 19, 49, 56, 77, 117, 122, 171, 238, 863, 1392, 1731, 3535];

/// Seeds that have failed once with an arbiter.
const ARBITRATED_REGRESSIONS: &[u64] = &[1336];

/// Seeds that have failed once with records on two nodes, on three, and on four.
const PLACED_REGRESSIONS: [&[u64]; 3] = [
    &[32, 76, 144, 738, 1046, 1416, 1515, 2013, 5080, 7050, 20913, 30068, 30107],
    &[2, 14, 136, 322, 347, 5080],
    &[5080, 7128],
];

/// Seeds that have failed once where as many nodes were lost as there are copies.
const LOSS_REGRESSIONS: &[u64] = &[10, 747, 5001, 5188];

/// Seeds that have failed once while nodes were upgraded.
const UPGRADED_REGRESSIONS: &[u64] = &[484, 657, 229];

/// `make test` runs so many lives.
const LIVES: u64 = 200;

fn live(seed: u64) -> (u64, u64) {
    live_in(Simulation::new(seed, Arbitration::None))
}

fn live_with_arbiter(seed: u64) -> (u64, u64) {
    live_in(Simulation::new(seed, Arbitration::Table))
}

fn live_on_two_nodes(seed: u64) -> (u64, u64) {
    live_in(Simulation::with_replicas(seed, 1))
}

fn live_on_three_nodes(seed: u64) -> (u64, u64) {
    live_in(Simulation::with_replicas(seed, 2))
}

fn live_on_four_nodes(seed: u64) -> (u64, u64) {
    live_in(Simulation::with_replicas(seed, 3))
}

/// On all nodes, on two, and on three.
fn live_with_phones_that_roam(seed: u64) -> (u64, u64) {
    live_in(Simulation::roaming(seed, [None, Some(1), Some(2)][(seed % 3) as usize]))
}

/// Half of them with an arbiter.
fn live_while_upgraded(seed: u64) -> (u64, u64) {
    let arbitration = if seed % 2 == 0 { Arbitration::Table } else { Arbitration::None };
    live_in(Simulation::upgraded(seed, arbitration))
}

fn live_in(mut simulation: Simulation) -> (u64, u64) {
    simulation.run();
    (simulation.messages, simulation.notifies)
}

#[test]
fn lives_that_have_failed_once() {
    REGRESSIONS.iter().for_each(|seed| _ = live(*seed));
    ARBITRATED_REGRESSIONS.iter().for_each(|seed| _ = live_with_arbiter(*seed));
    PLACED_REGRESSIONS[0].iter().for_each(|seed| _ = live_on_two_nodes(*seed));
    PLACED_REGRESSIONS[1].iter().for_each(|seed| _ = live_on_three_nodes(*seed));
    PLACED_REGRESSIONS[2].iter().for_each(|seed| _ = live_on_four_nodes(*seed));
    for replicas in [1, 2] {
        let lose = |seed: &u64| live_and_forget_nothing(Simulation::that_loses(*seed, replicas));
        LOSS_REGRESSIONS.iter().for_each(|seed| _ = lose(seed));
    }
    UPGRADED_REGRESSIONS.iter().for_each(|seed| _ = live_while_upgraded(*seed));
}

#[test]
fn whatever_happens_every_lamp_shows_what_is() {
    live_many(live, LIVES);
}

/// With leases in a table there is never more than one node that would send a NOTIFY for a dialog.
#[test]
fn with_an_arbiter_one_node_speaks_whatever_happens() {
    live_many(live_with_arbiter, LIVES / 2);
}

/// Without one there is never more than one either, as long as nodes receive what the others say within the length of
/// a lease: however phones change from node to node, and however long nodes are frozen.
#[test]
fn without_an_arbiter_one_node_speaks_while_nothing_is_cut() {
    live_many(live_with_phones_that_roam, LIVES / 2);
}

/// Each record is on two, three or four nodes alone, and requests go to the one that serves them.
#[test]
fn with_part_of_everything_on_each_node_every_lamp_shows_what_is() {
    live_many(live_on_two_nodes, LIVES / 2);
    live_many(live_on_three_nodes, LIVES / 4);
    live_many(live_on_four_nodes, LIVES / 8);
}

/// As many nodes as there are copies are killed at the same instant: no phone meets a node that has forgotten it.
#[test]
fn the_loss_of_as_many_nodes_as_there_are_copies_loses_nothing() {
    live_many(|seed| live_and_forget_nothing(Simulation::that_loses(seed, 1)), LIVES / 5);
    live_many(|seed| live_and_forget_nothing(Simulation::that_loses(seed, 2)), LIVES / 5);
}

fn live_and_forget_nothing(mut simulation: Simulation) -> (u64, u64) {
    simulation.run();
    assert_eq!(simulation.forgotten, 0, "seed {}: a phone had to begin anew", simulation.seed);
    (simulation.messages, simulation.notifies)
}

/// What has run out is remembered: an older document of the same dialog, which nodes beyond a cut hold still, is not
/// shown after it.
#[test]
fn no_older_document_comes_back_after_one_that_has_run_out() {
    live_many(|seed| live_in(Simulation::running_out(seed, None)), LIVES / 2);
    live_many(|seed| live_in(Simulation::running_out(seed, Some(1))), LIVES / 4);
    live_many(|seed| live_in(Simulation::running_out(seed, Some(2))), LIVES / 4);
}

/// Nodes with two versions of the messages hold the same, whatever else happens, while they are upgraded one after the
/// other.
#[test]
fn nodes_are_upgraded_one_after_the_other() {
    live_many(live_while_upgraded, LIVES / 4);
}

/// The lives of some seeds, on all cores.
fn live_many(live: fn(u64) -> (u64, u64), usual: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, lives) = (number("SEED").unwrap_or(1), number("LIVES").unwrap_or(usual));
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
    let threads: Vec<_> = (0..cores)
        .map(|core| {
            std::thread::spawn(move || {
                (first + core..first + lives)
                    .step_by(cores as usize)
                    .map(live)
                    .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
            })
        })
        .collect();
    let done: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    let total = done.iter().flatten().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(done.iter().all(Result::is_ok), "a life has failed: SEED and LIVES=1 live it again");
    println!("{lives} lives from seed {first}: {} messages among nodes, {} NOTIFYs", total.0, total.1);
    assert!(total.1 > lives * 10);
}
