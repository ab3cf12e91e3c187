//! Large fan-outs leave the worker: a resource with many watchers is handed over to a sender process, with its queue.
//! Sender processes keep to a bound on NOTIFYs that wait for their answer, so that the answers are read in between, and
//! wait while shared memory is short, so that the number of watchers does not matter.
use crate::presence::notification::notifier;
use crate::server::context::Context;
use crate::server::notifications::pacing::Pacing;
use crate::server::notifications::senders::Senders;

/// Sends for what has been handed over, then sleeps until there is more: one turn of a sender process.
pub fn serve(senders: &Senders, context: impl Fn() -> Option<Context<'static>>) {
    while let Some(mut context) = context() {
        let Some(turn) = senders.next(|hash| context.work.held.hold(hash)) else { break };
        context.work.pace = Some(Pacing::new(context.shared.senders, Some(turn.size)));
        notifier::run(&mut context, &turn.resource);
    }
    senders.wait();
}
