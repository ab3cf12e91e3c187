//! Before maintenance: all subscriptions are ended, spread over a time, so that phones subscribe elsewhere.
use crate::host::clock;
use crate::host::log::show;
use crate::log;
use crate::presence::error::StoreError;
use crate::presence::expiry;
use crate::server::announcing::ownership;
use crate::server::context::Context;
use crate::server::operator::statistics;
use crate::server::operator::subscription_lists;
use std::sync::atomic::Ordering;

/// At most this many subscriptions are ended in one second.
const LARGEST_STEP: usize = 2000;

/// One second of a drain; returns how many subscriptions were ended.
///
/// # Errors
///
/// Fails when the subscriptions cannot be read. One that cannot be ended is passed over and tried again.
pub fn step(context: &mut Context<'_>) -> Result<usize, StoreError> {
    let drain = context.shared.drain;
    let Some(until) = drain.until.get() else { return Ok(0) };
    let left = (until - clock::now()).0.max(0) as usize;
    let counted =
        statistics::count(&context.inventory()).iter().map(|counts| counts.subscriptions).sum::<i64>() as usize;
    let share = share(counted, left);
    let passed_over = drain.passed_over.load(Ordering::Relaxed);
    let page = subscription_lists::page_of_subscriptions(&context.inventory(), passed_over, share, |subscription| {
        ownership::is_owned(context, subscription.dialog())
    })?;
    let mut failed = 0;
    for subscription in &page {
        if let Err(error) = expiry::end(context, subscription, b"deactivated") {
            failed += 1;
            log!(Error, "{} cannot be sent elsewhere now: {error}", show(&subscription.watcher_uri()));
        }
    }
    drain.passed_over.store(if page.is_empty() { 0 } else { passed_over + failed }, Ordering::Relaxed);
    if passed_over + failed == 0 && (page.is_empty() || page.len() == counted) {
        drain.until.replace(None);
    }
    Ok(page.len())
}

/// How many of `counted` subscriptions are ended now, where `left` seconds are left. Where the driver cannot count,
/// they go page by page.
fn share(counted: usize, left: usize) -> usize {
    let all = if counted == 0 { LARGEST_STEP } else { counted };
    all.div_ceil(left + 1).min(LARGEST_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_a_bounded_number() {
        for (counted, left, ended) in [
            (40, 4, 8),
            (2_000, 0, 2_000),
            (2_001, 0, LARGEST_STEP),
            (100_000, 9, LARGEST_STEP),
            (100_000, 99, 1_000),
            (0, 0, LARGEST_STEP),
            (0, 9, 200),
        ] {
            assert_eq!(share(counted, left), ended, "{counted} in {left} s");
        }
    }
}
