//! The steps forward of the wall clock that rows with times of day have lived through: what such a step ended has ended
//! when it was made, and not at the time of day that its row says. What was written later has its times by the new
//! clock.
use crate::host::lock::Lock;
use crate::shm_safe::shm_safe;
use crate::time::{Moment, Seconds};

/// At most this many steps are known; for an older one rows end by the time of day that they say.
const MOST_STEPS: usize = 8;

/// A clock that was set by less than this has made no step.
const LEAST: Seconds = Seconds(2);

/// A step forward: the clock skipped these times of day.
#[derive(Debug, Clone, Copy)]
struct ForwardStep {
    /// The time of day before it.
    from: Seconds,
    /// The time of day after it.
    to: Seconds,
    at: Moment,
}

shm_safe!(ForwardStep { from, to, at });

#[derive(Debug, Default)]
struct ClockSeen {
    /// By how much the clock was set when it was looked at last.
    set_by: Seconds,
    /// The time of day then; none before the first look.
    time_of_day: Option<Seconds>,
    steps: [Option<ForwardStep>; MOST_STEPS],
    /// Where the next step goes.
    next: usize,
}

shm_safe!(ClockSeen { set_by, time_of_day, steps, next });

/// The last steps forward of the wall clock, in shared memory.
pub struct ClockSteps(Lock<ClockSeen>);

shm_safe!(ClockSteps(seen));

impl Default for ClockSteps {
    fn default() -> ClockSteps {
        ClockSteps(Lock::new(ClockSeen::default()))
    }
}

impl ClockSteps {
    /// Looks at the clock: it is `now`, and the clock was set by `set_by` since the start.
    pub fn look(&self, now: Moment, set_by: Seconds) {
        let mut seen = self.0.lock();
        let (step, time_of_day) = (set_by - seen.set_by, time_of_day(now, set_by));
        if step >= LEAST {
            let from = seen.time_of_day.unwrap_or(time_of_day - step);
            let next = seen.next;
            seen.steps[next] = Some(ForwardStep { from, to: time_of_day, at: now });
            seen.next = (next + 1) % MOST_STEPS;
        } else if step <= -LEAST {
            // The times of day that were skipped come again, and rows are written with them.
            seen.steps = Default::default();
        }
        if step.abs() >= LEAST {
            seen.set_by = set_by;
        }
        seen.time_of_day = Some(time_of_day);
    }

    /// When that has ended whose row says that it ends at `expires_at`, and that is ended `offset` later.
    pub fn ended_at(&self, expires_at: Moment, offset: Seconds) -> Moment {
        let seen = self.0.lock();
        let said = time_of_day(expires_at, seen.set_by);
        let skipped = |step: &&ForwardStep| step.from - offset < said && said <= step.to;
        let skipping = seen.steps.iter().flatten().filter(skipped);
        skipping.map(|step| step.at).max().map_or(expires_at, |at| at.max(expires_at))
    }
}

fn time_of_day(at: Moment, set_by: Seconds) -> Seconds {
    Seconds(at.seconds()) + set_by
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at the clock each second from one second of the server's own time to another.
    fn look(steps: &ClockSteps, seconds: std::ops::RangeInclusive<i64>, set_by: i64) {
        seconds.for_each(|second| steps.look(Moment::at(second), Seconds(set_by)));
    }

    /// When a row has ended that says this time of day, for a clock that was set by `set_by`.
    fn ended(steps: &ClockSteps, time_of_day: i64, set_by: i64) -> i64 {
        steps.ended_at(Moment::at(time_of_day - set_by), Seconds::ZERO).seconds()
    }

    #[test]
    fn a_step_counts_for_what_was_there_when_it_was_made() {
        let steps = ClockSteps::default();
        look(&steps, 1_000..=2_000, 0);
        assert_eq!(ended(&steps, 1_500, 0), 1_500);
        // At 2000 the clock is set forward by a day.
        let day = 86_400;
        look(&steps, 2_001..=2_010, day);
        for said in [2_001, 2_600, 2_000 + day] {
            assert_eq!(ended(&steps, said, day), 2_001, "{said} was skipped");
        }
        assert_eq!(ended(&steps, 1_500, day), 1_500 - day, "it was over before");
        // What is written afterwards ends when it says, however long the server lives.
        look(&steps, 2_011..=9_000, day);
        for own in [2_002, 2_600, 8_999] {
            assert_eq!(ended(&steps, own + day, day), own);
        }
    }

    #[test]
    fn several_steps_are_known_and_a_bounded_number() {
        let steps = ClockSteps::default();
        steps.look(Moment::at(0), Seconds::ZERO);
        for n in 1..=20 {
            look(&steps, n * 100..=n * 100 + 50, n * 1_000);
        }
        for n in 13..=20 {
            assert_eq!(ended(&steps, n * 100 + n * 1_000 - 10, 20_000), n * 100, "step {n}");
        }
        let forgotten = 100 * 12 + 12_000 - 10;
        assert_eq!(ended(&steps, forgotten, 20_000), forgotten - 20_000);
    }

    #[test]
    fn times_that_come_again_are_no_longer_skipped() {
        let steps = ClockSteps::default();
        look(&steps, 0..=100, 0);
        look(&steps, 101..=200, 5_000);
        assert_eq!(ended(&steps, 3_000, 5_000), 101);
        look(&steps, 201..=300, 0);
        assert_eq!(ended(&steps, 250, 0), 250);
        // A second that is rounded is no step.
        look(&steps, 301..=400, 1);
        assert_eq!(ended(&steps, 350, 1), 349);
    }

    #[test]
    fn an_offset_lets_what_was_skipped_end_later() {
        let steps = ClockSteps::default();
        look(&steps, 0..=100, 0);
        look(&steps, 101..=200, 5_000);
        let at = |offset| steps.ended_at(Moment::at(90 - 5_000), Seconds(offset)).seconds();
        assert_eq!((at(0), at(30)), (90 - 5_000, 101));
    }
}
