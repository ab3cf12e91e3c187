//! A wall clock that was set: intervals go on, so the times of day at which they end are others.
use crate::host::clock;
use crate::limited;
use crate::server::context::{Context, Process};
use crate::time::Seconds;
use std::sync::atomic::Ordering;

/// A wall clock that was set by less than this changes no row.
const LEAST_STEP: Seconds = Seconds(2);

/// By how much a wall clock was set since rows were made to follow it; `None`: by too little.
fn step_of(before: Seconds, set_by: Seconds) -> Option<Seconds> {
    let step = set_by - before;
    (step.abs() >= LEAST_STEP).then_some(step)
}

/// Lets rows follow a wall clock that was set. What could not be written is written in the next second.
pub(super) fn follow(process: &'static Process) {
    let (context, set_by) = (Context::new(process), clock::set_by());
    context.shared.clock_steps.look(clock::now(), set_by);
    let before = Seconds(context.shared.clock_set_by.load(Ordering::Relaxed));
    let Some(step) = step_of(before, set_by) else { return };
    limited!(Warn, "the wall clock was set by {} s: subscriptions and publications end when they would have", step.0);
    context.storage.subscriptions.clock_was_set();
    match context.storage.publications.clock_was_set(before) {
        Ok(()) => context.shared.clock_set_by.store(set_by.0, Ordering::Relaxed),
        Err(error) => limited!(Error, "not all rows have the times of the new wall clock yet: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_counts_as_set_from_two_seconds_on() {
        let steps = [-3, -2, -1, 0, 1, 2, 3].map(|by| step_of(Seconds(10), Seconds(10 + by)));
        assert_eq!(steps, [Some(-3), Some(-2), None, None, None, Some(2), Some(3)].map(|step| step.map(Seconds)));
    }
}
