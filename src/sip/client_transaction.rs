//! The client transaction of a request that is no INVITE (RFC 3261 17.1.2). It knows neither the network nor a clock:
//! it is given the time, and says what is to be done.
//!
//! `Completed` and timer K need no state here: a transaction that has its final answer is given up at once, and an
//! answer that comes again is known by its branch (`sip::branch`), for as long as the server runs.
use crate::shm_safe::shm_safe;
use crate::time::{MilliTick, Millis};

/// The host's settings of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// T1: how long the first answer may take before the request is sent again (`retr_timer1`).
    pub t1: Millis,
    /// T2: the longest pause between two sendings (`retr_timer2`).
    pub t2: Millis,
    /// Timer F: how long the final answer may take (`fr_timer`, at most `max_noninv_lifetime`).
    pub timeout: Millis,
}

/// Whether the transport delivers what it was given, or says that it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reliability {
    /// UDP: a request is sent again until it is answered.
    Unreliable,
    /// TCP and what runs over it: a request is sent once.
    Reliable,
}

/// A transaction that waits for its final answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTransaction {
    /// When the request was sent first.
    started: MilliTick,
    /// Timer E: when it is sent again; `None` on reliable transports.
    resend_at: Option<MilliTick>,
    /// Timer F: when the wait ends.
    ends_at: MilliTick,
    /// The next value of timer E.
    interval: Millis,
    t2: Millis,
    is_proceeding: bool,
    failed: Option<TransportError>,
}

shm_safe!(ClientTransaction { started, resend_at, ends_at, interval, t2, is_proceeding, failed });

/// A failure of this machine to send a request: the system's number that says why; below 0 where none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportError(pub i32);

shm_safe!(TransportError(errno));

/// What a transaction wants when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerAction {
    /// No step yet.
    Nothing,
    /// The request is sent again.
    Resend,
    /// No answer has come: that counts as a 408 (RFC 3261 8.1.3.1).
    Timeout,
}

impl ClientTransaction {
    /// The request is sent now: state `Trying`.
    pub fn start(now: MilliTick, timers: Timers, reliability: Reliability) -> ClientTransaction {
        // A pause of nothing would be a flood.
        let t1 = timers.t1.max(SHORTEST_PAUSE);
        ClientTransaction {
            started: now,
            resend_at: match reliability {
                Reliability::Unreliable => Some(now + t1),
                Reliability::Reliable => None,
            },
            ends_at: now + timers.timeout,
            interval: t1,
            t2: timers.t2.max(SHORTEST_PAUSE),
            is_proceeding: false,
            failed: None,
        }
    }

    /// When it wants to be looked at.
    pub fn wakes_at(&self) -> MilliTick {
        self.resend_at.map_or(self.ends_at, |resend_at| resend_at.min(self.ends_at))
    }

    /// For how long it has waited at `now`.
    pub fn age(&self, now: MilliTick) -> Millis {
        now.since(self.started)
    }

    /// A provisional answer has come: state `Proceeding`. Timer E that runs goes on, and is T2 from then on.
    pub fn provisional(&mut self) {
        self.is_proceeding = true;
    }

    /// The request could not be sent again: the transaction ends, and that counts as a 503 (RFC 3261 17.1.4, 8.1.3.1).
    /// The first sending may fail: timer E makes a second try.
    pub fn fail(&mut self, why: TransportError) {
        self.failed = Some(why);
    }

    /// Why the request could not be sent again.
    pub fn failed(&self) -> Option<TransportError> {
        self.failed
    }

    /// Whether timer F has fired at `now`, or the transport has failed.
    pub fn is_over(&self, now: MilliTick) -> bool {
        now >= self.ends_at || self.failed.is_some()
    }

    /// Timers E and F. A clock that has jumped makes for one sending, not for all that were missed.
    pub fn due(&mut self, now: MilliTick) -> TimerAction {
        if self.is_over(now) {
            return TimerAction::Timeout;
        }
        if self.resend_at.is_none_or(|resend_at| now < resend_at) {
            return TimerAction::Nothing;
        }
        self.interval = match self.is_proceeding {
            true => self.t2,
            false => (self.interval + self.interval).min(self.t2),
        };
        self.resend_at = Some(now + self.interval);
        TimerAction::Resend
    }
}

/// The shortest pause between two sendings: what the host's timer can distinguish.
const SHORTEST_PAUSE: Millis = Millis(64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    const TIMERS: Timers = Timers { t1: Millis(500), t2: Millis(4_000), timeout: Millis(30_000) };

    /// The tick `millis` after a test has begun.
    fn at(millis: u64) -> MilliTick {
        MilliTick::at(1_000_000 + millis)
    }

    /// When the request is sent again and when the wait ends, looked at every 10 ms; a provisional answer comes at
    /// `provisional`.
    fn life(timers: Timers, reliability: Reliability, provisional: Option<u64>) -> (Vec<u64>, u64) {
        let mut transaction = ClientTransaction::start(at(0), timers, reliability);
        let mut resent = Vec::new();
        for now in (0..).step_by(10) {
            if provisional == Some(now) {
                transaction.provisional();
            }
            assert!(transaction.wakes_at() + Millis(10) > at(now), "nothing that is due is passed over");
            match transaction.due(at(now)) {
                TimerAction::Nothing => {}
                TimerAction::Resend => resent.push(now),
                TimerAction::Timeout => return (resent, now),
            }
        }
        unreachable!()
    }

    #[test]
    fn timer_e_doubles_up_to_t2_until_timer_f() {
        let (resent, end) = life(TIMERS, Reliability::Unreliable, None);
        assert_eq!(resent, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500]);
        assert_eq!(end, 30_000);
    }

    #[test]
    fn a_provisional_answer_makes_the_pauses_t2() {
        // Timer E was set to 1 s at 500 ms; it goes on, and is T2 from then on (RFC 3261 17.1.2.2).
        let (resent, end) = life(TIMERS, Reliability::Unreliable, Some(600));
        assert_eq!(resent, [500, 1_500, 5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500]);
        assert_eq!(end, 30_000);
    }

    #[test]
    fn a_reliable_transport_is_given_the_request_once() {
        for provisional in [None, Some(100)] {
            assert_eq!(life(TIMERS, Reliability::Reliable, provisional), (vec![], 30_000));
        }
    }

    #[test]
    fn an_error_of_the_transport_ends_the_wait() {
        let mut transaction = ClientTransaction::start(at(0), TIMERS, Reliability::Unreliable);
        assert_eq!(transaction.due(at(500)), TimerAction::Resend);
        assert!(!transaction.is_over(at(500)) && transaction.failed().is_none());
        transaction.fail(TransportError(90));
        assert!(transaction.is_over(at(500)));
        assert_eq!(transaction.failed(), Some(TransportError(90)));
        assert_eq!(transaction.due(at(1_500)), TimerAction::Timeout, "it is not sent once more");
    }

    #[test]
    fn the_timers_are_the_hosts() {
        let short = Timers { t1: Millis(100), t2: Millis(200), timeout: Millis(1_000) };
        assert_eq!(life(short, Reliability::Unreliable, None), (vec![100, 300, 500, 700, 900], 1_000));
        // What would be a flood, or an overflow, is neither.
        let none = Timers { t1: Millis::ZERO, t2: Millis::ZERO, timeout: Millis(300) };
        assert_eq!(life(none, Reliability::Unreliable, None).0.len(), 4);
        let long = Timers { t1: Millis(u64::MAX), t2: Millis(u64::MAX), timeout: Millis(1_000) };
        assert_eq!(life(long, Reliability::Unreliable, None), (vec![], 1_000));
    }

    #[test]
    fn a_jump_of_the_clock_is_no_flood() {
        let mut transaction = ClientTransaction::start(at(1_000), TIMERS, Reliability::Unreliable);
        assert_eq!(transaction.due(at(20_000)), TimerAction::Resend);
        assert_eq!(transaction.due(at(20_000)), TimerAction::Nothing);
        assert_eq!(transaction.due(at(21_000)), TimerAction::Resend);
        assert_eq!(transaction.due(at(31_000)), TimerAction::Timeout);
        assert_eq!(transaction.due(at(31_000)), TimerAction::Timeout);
        assert_eq!(transaction.age(at(500)), Millis::ZERO);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::with_cases(500)
        })]
        /// Whatever the timers are, and however late they are looked at: pauses are never below the shortest one, never
        /// above T2 plus the delay, and the end comes at timer F, once it is looked at.
        #[test]
        fn pauses_stay_within_their_bounds(
            t1 in 0u64..2_000, t2 in 0u64..8_000, timeout in 1u64..40_000,
            delays in proptest::collection::vec(0u64..300, 1..200), provisional in 0usize..200,
        ) {
            let timers = Timers { t1: Millis(t1), t2: Millis(t2), timeout: Millis(timeout) };
            let mut transaction = ClientTransaction::start(at(0), timers, Reliability::Unreliable);
            let mut last = at(0);
            for (turn, delay) in delays.into_iter().enumerate() {
                if turn == provisional {
                    transaction.provisional();
                }
                let now = transaction.wakes_at() + Millis(delay);
                match transaction.due(now) {
                    TimerAction::Nothing => prop_assert!(false, "it was due"),
                    TimerAction::Timeout => {
                        prop_assert!(now >= at(timeout));
                        break;
                    }
                    TimerAction::Resend => {
                        prop_assert!(now < at(timeout));
                        prop_assert!(now.since(last) >= SHORTEST_PAUSE);
                        prop_assert!(now.since(last) <= timers.t1.max(timers.t2).max(SHORTEST_PAUSE) + Millis(delay));
                        last = now;
                    }
                }
            }
        }
    }
}
