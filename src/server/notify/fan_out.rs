//! Large fan-outs leave the worker: a resource with many watchers is handed over to a sender process, with its queue.
//! Sender processes keep to a bound on NOTIFYs that wait for their answer, so that the answers are read in between, and
//! wait while shared memory is short, so that the number of watchers does not matter.
use crate::presence::error::StoreError;
use crate::presence::notifier;
use crate::presence::resource::Resource;
use crate::server::authorizations::judging;
use crate::server::context::Context;
use crate::server::notify::pacing::Pacing;
use crate::server::notify::senders::{FanOutSize, Senders};
use crate::server::tables::resource_entry::DueNotify;

/// Sends for what has been handed over, then sleeps until there is more: one turn of a sender process.
pub fn serve(senders: &Senders, context: impl Fn() -> Option<Context<'static>>) {
    while let Some(mut context) = context() {
        let Some(turn) = senders.next(|hash| context.work.held.hold(hash)) else { break };
        notifier::run(&mut context.with_pace(Some(turn.size)), &turn.resource);
    }
    senders.wait();
}

impl Context<'_> {
    /// The same context for a timer, which has many NOTIFYs to send: it does not run far ahead of the answers.
    pub fn paced(self) -> Self {
        self.with_pace(None)
    }

    fn with_pace(mut self, fan_out: Option<FanOutSize>) -> Self {
        self.work.pace = Some(Pacing::new(self.shared.senders, fan_out));
        self
    }

    /// Sends once more for a resource whose sending was broken off by a panic.
    pub fn try_again(mut self, hash: u64) {
        self.work.held.trying_again();
        self.send_what_is_due(hash);
    }

    /// Sends for a resource whose state could not be read, if it can be read now. `false`: not for each watcher, and it
    /// is tried again.
    ///
    /// # Errors
    ///
    /// Fails when the state still cannot be read: it is tried again.
    pub fn try_to_read(mut self, hash: u64) -> Result<bool, StoreError> {
        let resource = self.shared.tables.shard(hash).entry_by_hash(hash).map(|entry| entry.resource());
        resource.map_or(Ok(()), |resource| self.may_be_notified(&resource))?;
        self.shared.unread.is_read(hash);
        self.send_what_is_due(hash);
        Ok(!self.shared.unread.waits(hash))
    }

    /// Whether the watchers of a resource can be notified of its state: it can be read, and it is known who may see it.
    ///
    /// # Errors
    ///
    /// Fails with what is in the way.
    pub fn may_be_notified(&mut self, resource: &Resource) -> Result<(), StoreError> {
        judging::judge_outstanding(self, resource)?;
        notifier::can_be_read(self, resource)
    }

    fn send_what_is_due(&mut self, hash: u64) {
        let resource = {
            let mut shard = self.shared.tables.shard(hash);
            let Some(entry) =
                shard.entry_by_hash(hash).filter(|entry| entry.due.has(DueNotify::Something) && !entry.busy)
            else {
                return;
            };
            entry.busy = true;
            entry.resource()
        };
        self.work.held.hold(hash);
        notifier::run(self, &resource);
    }
}
