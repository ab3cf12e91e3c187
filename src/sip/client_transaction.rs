//! The client transaction of a request that is no INVITE (RFC 3261 17.1.2). It knows neither the network nor a clock:
//! it is given the time in milliseconds, and says what is to be done.
//!
//! `Completed` and timer K need no state here: a transaction that has its final answer is given up at once, and an
//! answer that comes again is known by its branch (`sip::branch`), for as long as the server runs.
use crate::shm_safe::shm_safe;

/// The host's settings of its transactions, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// T1: how long the first answer may take before the request is sent again (`retr_timer1`).
    pub t1: u32,
    /// T2: the longest pause between two sendings (`retr_timer2`).
    pub t2: u32,
    /// Timer F: how long the final answer may take (`fr_timer`, at most `max_noninv_lifetime`).
    pub timeout: u32,
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
    started: u64,
    /// Timer E: when it is sent again; `u64::MAX` on reliable transports.
    resend_at: u64,
    /// Timer F: when the wait ends.
    ends_at: u64,
    /// The next value of timer E.
    interval: u32,
    t2: u32,
    is_proceeding: bool,
    failed: Option<TransportError>,
}

shm_safe!(ClientTransaction { started, resend_at, ends_at, interval, t2, is_proceeding, failed });

/// This machine could not send a request: the system's number that says why; below 0 where none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportError(pub i32);

shm_safe!(TransportError(errno));

/// What a transaction wants when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerAction {
    /// Nothing yet.
    Nothing,
    /// The request is sent again.
    Resend,
    /// No answer has come: that counts as a 408 (RFC 3261 8.1.3.1).
    Timeout,
}

impl ClientTransaction {
    /// The request is sent now: state `Trying`.
    pub fn start(now: u64, timers: Timers, reliability: Reliability) -> ClientTransaction {
        // A pause of nothing would be a flood.
        let t1 = timers.t1.max(SHORTEST_PAUSE);
        ClientTransaction {
            started: now,
            resend_at: match reliability {
                Reliability::Unreliable => now + u64::from(t1),
                Reliability::Reliable => u64::MAX,
            },
            ends_at: now + u64::from(timers.timeout),
            interval: t1,
            t2: timers.t2.max(SHORTEST_PAUSE),
            is_proceeding: false,
            failed: None,
        }
    }

    /// When it wants to be looked at.
    pub fn wakes_at(&self) -> u64 {
        self.resend_at.min(self.ends_at)
    }

    /// For how long it has waited at `now`, in milliseconds.
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.started)
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
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.ends_at || self.failed.is_some()
    }

    /// Timers E and F. A clock that has jumped makes for one sending, not for all that were missed.
    pub fn due(&mut self, now: u64) -> TimerAction {
        if self.is_over(now) {
            return TimerAction::Timeout;
        }
        if now < self.resend_at {
            return TimerAction::Nothing;
        }
        self.interval = match self.is_proceeding {
            true => self.t2,
            false => self.interval.saturating_mul(2).min(self.t2),
        };
        self.resend_at = now + u64::from(self.interval);
        TimerAction::Resend
    }
}

/// The shortest pause between two sendings, in milliseconds: what the host's timer can distinguish.
const SHORTEST_PAUSE: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    const TIMERS: Timers = Timers { t1: 500, t2: 4_000, timeout: 30_000 };

    /// When the request is sent again and when the wait ends, looked at every 10 ms; a provisional answer comes at
    /// `provisional`.
    fn life(timers: Timers, reliability: Reliability, provisional: Option<u64>) -> (Vec<u64>, u64) {
        let mut transaction = ClientTransaction::start(0, timers, reliability);
        let mut resent = Vec::new();
        for now in (0..).step_by(10) {
            if provisional == Some(now) {
                transaction.provisional();
            }
            assert!(transaction.wakes_at() + 10 > now, "nothing that is due is passed over");
            match transaction.due(now) {
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
        let mut transaction = ClientTransaction::start(0, TIMERS, Reliability::Unreliable);
        assert_eq!(transaction.due(500), TimerAction::Resend);
        assert!(!transaction.is_over(500) && transaction.failed().is_none());
        transaction.fail(TransportError(90));
        assert!(transaction.is_over(500));
        assert_eq!(transaction.failed(), Some(TransportError(90)));
        assert_eq!(transaction.due(1_500), TimerAction::Timeout, "it is not sent once more");
    }

    #[test]
    fn the_timers_are_the_hosts() {
        let short = Timers { t1: 100, t2: 200, timeout: 1_000 };
        assert_eq!(life(short, Reliability::Unreliable, None), (vec![100, 300, 500, 700, 900], 1_000));
        // What would be a flood, or an overflow, is neither.
        let none = Timers { t1: 0, t2: 0, timeout: 300 };
        assert_eq!(life(none, Reliability::Unreliable, None).0.len(), 4);
        let long = Timers { t1: u32::MAX, t2: u32::MAX, timeout: 1_000 };
        assert_eq!(life(long, Reliability::Unreliable, None), (vec![], 1_000));
    }

    #[test]
    fn a_jump_of_the_clock_is_no_flood() {
        let mut transaction = ClientTransaction::start(1_000, TIMERS, Reliability::Unreliable);
        assert_eq!(transaction.due(20_000), TimerAction::Resend);
        assert_eq!(transaction.due(20_000), TimerAction::Nothing);
        assert_eq!(transaction.due(21_000), TimerAction::Resend);
        assert_eq!(transaction.due(31_000), TimerAction::Timeout);
        assert_eq!(transaction.due(31_000), TimerAction::Timeout);
        assert_eq!(transaction.age(500), 0);
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
            t1 in 0u32..2_000, t2 in 0u32..8_000, timeout in 1u32..40_000,
            delays in proptest::collection::vec(0u64..300, 1..200), provisional in 0usize..200,
        ) {
            let timers = Timers { t1, t2, timeout };
            let mut transaction = ClientTransaction::start(0, timers, Reliability::Unreliable);
            let mut last = 0;
            for (turn, delay) in delays.into_iter().enumerate() {
                if turn == provisional {
                    transaction.provisional();
                }
                let now = transaction.wakes_at() + delay;
                match transaction.due(now) {
                    TimerAction::Nothing => prop_assert!(false, "it was due"),
                    TimerAction::Timeout => {
                        prop_assert!(now >= u64::from(timeout));
                        break;
                    }
                    TimerAction::Resend => {
                        prop_assert!(now < u64::from(timeout));
                        prop_assert!(now - last >= u64::from(SHORTEST_PAUSE));
                        prop_assert!(now - last <= u64::from(t1.max(t2).max(SHORTEST_PAUSE)) + delay);
                        last = now;
                    }
                }
            }
        }
    }
}
