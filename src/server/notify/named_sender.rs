//! The process that sends to targets with names, see [`crate::server::notifications::named_targets`].
use crate::caught::caught;
use crate::common::metrics;
use crate::host::clock;
use crate::host::log;
use crate::limited;
use crate::presence::history::remembered::BodyDigest;
use crate::presence::notification::{Notify, NotifyAttempt};
use crate::server::context::Context;
use crate::server::notifications::named_targets::{MOST_NAMED, NamedTargets, ReadyNotify};
use crate::server::notify::sending;
use crate::time::Millis;
use crate::time::{Moment, Seconds};
use std::cell::RefCell;

/// A look-up that failed and took longer, in milliseconds, lets the name rest.
const SLOW: Millis = Millis(500);
/// A name that rests is sent nothing for this long.
const REST: Seconds = Seconds(30);
/// How many names may rest; then all are tried again.
const MOST_RESTING: usize = 256;

/// Names that have kept the process waiting for nothing, and until when they rest.
#[derive(Default)]
struct Resting(Vec<(Vec<u8>, Moment)>);

impl Resting {
    fn contains(&mut self, name: &[u8], now: Moment) -> bool {
        self.0.retain(|(_, until)| *until > now);
        self.0.iter().any(|(resting, _)| resting == name)
    }

    fn add(&mut self, name: &[u8], now: Moment) {
        if self.0.len() >= MOST_RESTING {
            self.0.clear();
        }
        self.0.push((name.to_vec(), now + REST));
    }
}

thread_local! {
    static RESTING: RefCell<Resting> = RefCell::default();
}

/// Sends what waits, then sleeps until there is more: one turn of the process. What a panic breaks off is due again.
pub fn serve(targets: &NamedTargets, new_context: impl Fn() -> Option<Context<'static>>) {
    while let Some(mut context) = new_context() {
        let Some(waiting) = targets.next() else { break };
        context.work.looks_names_up = true;
        let Err(why) = caught(|| send_to_name(&mut context, &waiting)) else { continue };
        let made_due = caught(|| new_context().map(|mut context| note_broken_off(&mut context, &waiting, &why)));
        if let Err(why) = made_due {
            limited!(Error, "panic while a NOTIFY that was not sent is made due again: {why}");
        }
    }
    targets.waker.wait();
}

/// Leaves a NOTIFY to the process that looks names up, where its target has one. `false`: this process sends it.
pub(crate) fn takes_over(
    context: &Context<'_>,
    notify: &Notify,
    headers: &[u8],
    body: Option<&[u8]>,
    digest: BodyDigest,
) -> bool {
    let is_named = !context.work.looks_names_up && notify.subscription.name_to_look_up().is_some();
    if !is_named || !context.config.looks_names_up {
        return false;
    }
    let is_left = context.shared.named_targets.take_over(notify, (headers, body), digest, context.work.attempt());
    if !is_left {
        limited!(
            Warn,
            "more than {MOST_NAMED} NOTIFYs wait for the names of their targets: further ones make others wait"
        );
    }
    is_left
}

/// A panic has kept a NOTIFY from being sent: its watcher is notified once more, by the timer.
fn note_broken_off(context: &mut Context<'_>, waiting: &ReadyNotify, why: &str) {
    let notify = waiting.notify();
    let then = if waiting.attempt == NotifyAttempt::Second { "the next change is sent to it" } else { "tried again" };
    let watcher = notify.subscription.watcher_uri();
    let watcher = log::show(&watcher);
    limited!(Error, "panic while a NOTIFY was sent to the name of {watcher} ({then}): {why}");
    metrics::notify_unsent(notify.subscription.state.event, 1);
    if waiting.attempt == NotifyAttempt::First {
        let resource = context.shared.tables.resource_of(&notify.subscription);
        context.storage.queue.make_one_due(&mut context.work, &resource, &notify);
    }
}

fn send_to_name(context: &mut Context<'_>, waiting: &ReadyNotify) {
    let notify = waiting.notify();
    let (name, began) = (notify.subscription.name_to_look_up().unwrap_or_default(), clock::instant());
    if RESTING.with_borrow_mut(|resting| resting.contains(name, clock::now())) {
        return sending::note_unsent(context, &notify);
    }
    let hop = notify.subscription.hop();
    let is_sent = sending::send(context, &notify, hop, &waiting.headers, waiting.body.as_deref(), waiting.digest);
    if !is_sent && clock::instant().since(began) > SLOW {
        RESTING.with_borrow_mut(|resting| resting.add(name, clock::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_rests_for_a_while() {
        let mut resting = Resting::default();
        resting.add(b"slow.example", Moment::at(100));
        assert!(
            resting.contains(b"slow.example", Moment::at(129)) && !resting.contains(b"other.example", Moment::at(129))
        );
        assert!(!resting.contains(b"slow.example", Moment::at(130)));
    }

    #[test]
    fn a_bounded_number_of_names_rests() {
        let mut resting = Resting::default();
        (0..1000).for_each(|n| resting.add(format!("{n}.example").as_bytes(), Moment::at(100)));
        assert!(resting.0.len() <= MOST_RESTING);
    }
}
