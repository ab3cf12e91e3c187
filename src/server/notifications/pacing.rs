//! How a process that sends many NOTIFYs keeps near the answers, and what it spends on that. It waits for answers, and
//! not for watchers: waiting in silence is paid out of a [`WaitBudget`] that only answers fill, so that a site that is
//! gone costs the others a tenth of a second, once.
use crate::host::{clock, process};
use crate::server::notifications::senders::{FanOutSize, Senders, wait_for_memory};
use crate::time::Millis;
use std::cell::Cell;
use std::sync::atomic::Ordering;

/// How far a process is ahead of the answers. Only NOTIFYs over UDP count: answers on a connection are not lost.
pub struct Pacing {
    sent: u64,
    answered: u64,
    /// What a sender process has in its hand; `None` in other processes.
    fan_out: Option<FanOutSize>,
}

/// How a NOTIFY went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentBy {
    /// By tm, which keeps it for seconds.
    pub by_tm: bool,
    /// Over UDP.
    pub is_udp: bool,
}

impl Pacing {
    /// Starts before the first NOTIFY; `fan_out`: what a sender process has in its hand.
    pub fn new(senders: &Senders, fan_out: Option<FanOutSize>) -> Pacing {
        Pacing { sent: 0, answered: senders.answered.load(Ordering::Relaxed), fan_out }
    }

    /// Whether this is a sender process: what is handed over to those ends here.
    pub fn is_of_a_sender(&self) -> bool {
        self.fan_out.is_some()
    }

    /// Counts a NOTIFY that went out, and waits where too many are out. A sender with a large fan-out waits where
    /// memory is short, too.
    pub fn step(&mut self, senders: &Senders, way: SentBy) {
        if way.is_udp {
            self.sent += 1;
            let mut budget = WAIT_BUDGET.get();
            self.wait_for_answers(senders, &mut budget);
            WAIT_BUDGET.set(budget);
        }
        if way.by_tm && self.is_of_a_sender() {
            senders.note_sent();
        }
        if self.fan_out == Some(FanOutSize::Large) {
            wait_for_memory(senders);
        }
    }

    fn wait_for_answers(&mut self, senders: &Senders, budget: &mut WaitBudget) {
        let (mut silent, mut seen) = (Millis::ZERO, self.answers(senders, budget));
        while self.sent.saturating_sub(seen) > WINDOW {
            if silent == SILENCE || !budget.has_some() {
                // What has not been answered by now is not waited for.
                self.sent = seen;
                break;
            }
            process::sleep(A_MILLI);
            let now = self.answers(senders, budget);
            silent = if now > seen { Millis::ZERO } else { silent + A_MILLI };
            if now == seen {
                budget.spend();
            }
            seen = now;
        }
        // The window of all processes is looked at after that of this one: so a single fan-out goes its old pace.
        while self.is_of_a_sender() && senders.outstanding.are_many(clock::micro_tick) && budget.has_some() {
            process::sleep(A_MILLI);
            budget.spend();
            self.answers(senders, budget);
        }
    }

    fn answers(&self, senders: &Senders, budget: &mut WaitBudget) -> u64 {
        let answered = senders.answered.load(Ordering::Relaxed);
        budget.gain(answered);
        answered.wrapping_sub(self.answered)
    }
}

/// How many NOTIFYs over UDP may wait for their answer before a process that sends many pauses.
const WINDOW: u64 = 96;

/// How long it waits in silence before it takes the answers that are missing for lost.
const SILENCE: Millis = Millis(20);

/// What a process may yet wait, counted in the answers that earn it.
#[derive(Debug, Clone, Copy)]
struct WaitBudget {
    left: u64,
    answered: u64,
}

/// The step of such a wait.
const A_MILLI: Millis = Millis(1);

/// A millisecond of waiting is paid for with this many answers.
const ANSWERS_PER_MILLI: u64 = 20;

/// No budget is larger than this: 100 milliseconds.
const MOST_ANSWERS: u64 = 100 * ANSWERS_PER_MILLI;

impl WaitBudget {
    const FULL: WaitBudget = WaitBudget { left: MOST_ANSWERS, answered: 0 };

    /// How many NOTIFYs of all processes have been answered up to now.
    fn gain(&mut self, answered: u64) {
        self.left = self.left.saturating_add(answered.wrapping_sub(self.answered)).min(MOST_ANSWERS);
        self.answered = answered;
    }

    /// A millisecond was waited.
    fn spend(&mut self) {
        self.left = self.left.saturating_sub(ANSWERS_PER_MILLI);
    }

    /// Whether a millisecond may be waited.
    fn has_some(self) -> bool {
        self.left >= ANSWERS_PER_MILLI
    }
}

thread_local! {
    /// The budget of this process: one for all that it sends.
    static WAIT_BUDGET: Cell<WaitBudget> = const { Cell::new(WaitBudget::FULL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MicroTick;

    /// For how many of `millis` milliseconds a process waits that always would, with `answers` in each.
    fn waited(millis: u64, answers: impl Fn(u64) -> u64) -> u64 {
        let (mut budget, mut answered, mut waited) = (WaitBudget::FULL, 0, 0);
        for milli in 0..millis {
            answered += answers(milli);
            budget.gain(answered);
            if budget.has_some() {
                budget.spend();
                waited += 1;
            }
        }
        waited
    }

    #[test]
    fn silence_costs_a_tenth_of_a_second_once() {
        assert_eq!(waited(60_000, |_| 0), 100);
    }

    #[test]
    fn answers_that_trickle_in_earn_a_twentieth_of_a_millisecond_each() {
        for each in [20, 7, 1_000] {
            let trickle = |milli: u64| u64::from(milli % each == 0);
            let answers = 60_000 / each;
            let waited = waited(60_000, trickle);
            assert!(
                waited >= 100 + answers / ANSWERS_PER_MILLI - 10 && waited <= 101 + answers / ANSWERS_PER_MILLI,
                "{each}: {waited}"
            );
        }
    }

    #[test]
    fn whoever_is_answered_may_wait_on() {
        assert_eq!(waited(60_000, |_| ANSWERS_PER_MILLI), 60_000);
        // A crowd of answers earns no more than the whole.
        assert_eq!(waited(60_000, |milli| if milli == 500 { 1 << 40 } else { 0 }), 200);
    }

    #[test]
    fn a_process_waits_for_answers_and_not_for_silence() {
        let (senders, way) = (Senders::new().unwrap(), SentBy { by_tm: false, is_udp: true });
        let mut pacing = Pacing::new(&senders, None);
        // What is left to wait with after this many NOTIFYs, in milliseconds.
        let mut left_after = |notifies: u64| {
            (0..notifies).for_each(|_| pacing.step(&senders, way));
            WAIT_BUDGET.get().left / ANSWERS_PER_MILLI
        };
        let (all, silence) = (MOST_ANSWERS / ANSWERS_PER_MILLI, SILENCE.0);
        assert_eq!(left_after(WINDOW), all, "so many may wait for their answer");
        assert_eq!(left_after(1), all - silence, "one more is waited for");
        // What has been silent until now is not waited for any more.
        assert_eq!([WINDOW, 1].map(&mut left_after), [all - silence, all - 2 * silence]);
        // Those that are answered do not wait.
        for _ in 0..10 * WINDOW {
            senders.note_answer(MicroTick::at(0));
            left_after(1);
        }
        assert_eq!(left_after(0), all);
    }
}
