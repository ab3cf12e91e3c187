//! Sends once more for a resource whose watchers could not be notified: a panic had broken it off, or its state could
//! not be read.
use crate::presence::error::StoreError;
use crate::presence::notification::notifier;
use crate::presence::resource::Resource;
use crate::server::context::Context;
use crate::server::judging;
use crate::server::tables::resource_entry::DueNotify;

/// Sends once more for a resource whose sending was broken off by a panic.
pub fn send_again(mut context: Context<'_>, hash: u64) {
    context.work.held.trying_again();
    send_what_is_due(&mut context, hash);
}

/// Sends for a resource whose state could not be read, if it can be read now. `false`: not for each watcher, and it
/// is tried again.
///
/// # Errors
///
/// Fails when the state still cannot be read: it is tried again.
pub fn send_if_readable(mut context: Context<'_>, hash: u64) -> Result<bool, StoreError> {
    let resource = context.shared.tables.shard(hash).entry_by_hash(hash).map(|entry| entry.resource());
    resource.map_or(Ok(()), |resource| check_readable(&mut context, &resource))?;
    context.shared.unread.is_read(hash);
    send_what_is_due(&mut context, hash);
    Ok(!context.shared.unread.waits(hash))
}

/// Whether the watchers of a resource can be notified of its state: it can be read, and it is known who may see it.
///
/// # Errors
///
/// Fails with what is in the way.
pub fn check_readable(context: &mut Context<'_>, resource: &Resource) -> Result<(), StoreError> {
    judging::judge_outstanding(context, resource)?;
    notifier::can_be_read(context, resource)
}

fn send_what_is_due(context: &mut Context<'_>, hash: u64) {
    let resource = {
        let mut shard = context.shared.tables.shard(hash);
        let Some(entry) =
            shard.entry_by_hash(hash).filter(|entry| entry.due.contains(DueNotify::Something) && !entry.busy)
        else {
            return;
        };
        entry.busy = true;
        entry.resource()
    };
    context.work.held.hold(hash);
    notifier::run(context, &resource);
}
