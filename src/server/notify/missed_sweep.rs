//! Notifies watchers again of what they have missed where subscriptions are rows (database-only mode): those of one
//! resource, or portion by portion all there are.
use crate::common::paging::{self, Page};
use crate::host::clock;
use crate::host::db::Connection;
use crate::presence::error::StoreError;
use crate::presence::event_package::Trait;
use crate::presence::notification::notifier;
use crate::presence::notification::{NotifyAttempt, NotifyReason, StateChange};
use crate::presence::ports::notifications::Notifications;
use crate::presence::ports::publications::Publications;
use crate::presence::resource::Resource;
use crate::presence::subscription::field::Field;
use crate::presence::subscription::{Status, Subscription};
use crate::server::context::Context;
use crate::server::notifications::missed_changes::{Missed, MissedWatchers, SweepScope, tries_after};
use crate::server::notifications::row_run::RowNotifyRun;
use crate::server::notify::retries;
use crate::server::subscriptions::active_watchers_table;
use std::collections::BTreeSet;

/// How many rows of subscriptions are gone through in one second.
const SWEPT_ROWS: usize = 256;

/// Notifies the watchers of a resource of its state as it is. While that cannot be read nobody is counted up for
/// it: the resource waits on.
fn notify_of_state(context: &mut Context<'_>, resource: &Resource) {
    if let Err(why) = retries::check_readable(context, resource) {
        context.work.rows.miss(&Missed::new(resource, MissedWatchers::All, tries_after(why, 1)));
    } else if context.enqueue(resource, StateChange::State { sender: b"", transient_body: None }) {
        notifier::run(context, resource);
    }
}

/// Notifies a watcher of what its subscription is.
fn notify_of_subscription(context: &mut Context<'_>, row: &Subscription) {
    let resource = context.shared.tables.resource_of(row);
    if context.enqueue(&resource, StateChange::Subscription(row.dialog(), NotifyReason::Subscribe)) {
        notifier::run(context, &resource);
    }
}

/// Tries again to notify whom something could not be sent. While the state cannot be read nobody is counted up for
/// a change: it waits on.
pub fn notify(context: &mut Context<'_>, missed: Missed) {
    let tries = missed.tries.saturating_add(1);
    context.work.rows.tries = tries;
    context.work.rows.attempt = if missed.is_broken_off { NotifyAttempt::Second } else { NotifyAttempt::First };
    if missed.whom.is_of_a_change() {
        if let Err(why) = retries::check_readable(context, &missed.resource) {
            return context.work.rows.miss(&Missed { tries: tries_after(why, tries), ..missed });
        }
    }
    let transient_body = missed.transient_body.as_ref().filter(|_| !has_newer_document(context, &missed)).cloned();
    let Missed { resource, whom, sender, came_in, .. } = missed;
    let only = match whom {
        MissedWatchers::Asking(dialog) => {
            // There is no queue to take: what is due is sent here.
            let _ = context.mark(&resource, StateChange::Subscription(dialog.id(), NotifyReason::Subscribe));
            return notifier::run(context, &resource);
        }
        MissedWatchers::Ended(mut notify) => {
            if is_authorized_again(context, &resource) {
                // The row is gone, and nobody asks the rules about the watcher any more.
                notify.notify_reason = NotifyReason::Ended;
            }
            context.work.rows.own.push((resource.clone(), *notify));
            return notifier::run(context, &resource);
        }
        MissedWatchers::All => None,
        MissedWatchers::One(dialog) => Some(dialog),
    };
    let is_winfo = context.packages.get(resource.event).is_winfo();
    context.work.rows.notify_runs.push(RowNotifyRun {
        resource: resource.clone(),
        transient_body,
        sender,
        came_in,
        change: None,
        only,
        is_of_documents: false,
        is_left_to_notifiers: context.config.notifier_processes > 0 && !is_winfo,
    });
    notifier::run(context, &resource);
}

/// Whether rules may have changed what the watchers of a resource may see.
fn is_authorized_again(context: &Context<'_>, resource: &Resource) -> bool {
    !context.config.force_active && context.packages.get(resource.event).has_trait(Trait::NeedsAuthorization)
}

/// Whether the presentity has published since: what was shown only once must not be the last that watchers see.
fn has_newer_document(context: &mut Context<'_>, missed: &Missed) -> bool {
    if missed.transient_body.is_none() {
        return false;
    }
    if missed.came_in.number.is_some_and(|number| !context.shared.change_counts.is_latest(number)) {
        return true;
    }
    // Another server may have changed them.
    let documents = context.documents(&missed.resource).unwrap_or_default();
    documents.iter().any(|document| document.received_at.is_some_and(|at| at >= missed.came_in.at))
}

/// Where too many changes were missed to be named: notifies the watchers of one portion of all that are watched.
///
/// # Errors
///
/// Fails when the rows cannot be read: the portion is tried again.
pub fn step(context: &mut Context<'_>) -> Result<(), StoreError> {
    let missed = context.shared.missed_changes;
    let Some(portion) = missed.next_portion() else { return Ok(()) };
    let (table, packages) = (context.config.active_watchers_table, context.packages);
    let read = |db: &Connection, page: &Page<'_>| active_watchers_table::select_page(db, table, packages, page);
    let (watching, next) = paging::portion_of(context.database, SWEPT_ROWS, &[], portion.after, read)?;
    // A panic does not keep the sweep at this portion.
    missed.is_swept_up_to(next);
    let (mut seen, now) = (BTreeSet::new(), clock::now());
    for row in watching {
        let is_not_notified = row.state.status != Status::Terminated && !row.is_notified_of_changes(now);
        if portion.reach == SweepScope::Asking && is_not_notified && row.state.expires_at > now {
            notify_of_subscription(context, &row);
        }
        if !seen.insert((row.get(Field::PresUri).to_vec(), row.state.event.0)) {
            continue;
        }
        let resource = context.shared.tables.resource_of(&row);
        notify_of_state(context, &resource);
        if context.work.rows.is_database_away {
            missed.sweep_again_from(portion);
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::database::Database;
    use crate::common::metrics::Owner;
    use crate::host::db::row_columns;

    row_columns! {
        #[allow(dead_code, reason = "rows are only counted")]
        enum Counted {
            Status = "status",
        }
    }

    #[test]
    fn a_second_goes_through_a_bounded_number_of_rows() {
        let portions = |count: usize| {
            let database = Database::in_memory(Owner::Presence);
            for n in 0..count {
                database.carry_out(&format!("insert into watchers values ({n}, 'sip:a@b', {n}, 'b', 'e', 1, '', 0)"));
            }
            let (mut after, mut found) = (None, Vec::new());
            loop {
                let portion = paging::portion_of(&database, SWEPT_ROWS, &[], after, |db, page| {
                    let rows = db.select_with_keys::<Counted>(b"watchers", &page.conditions, page.order)?;
                    Ok((rows.len(), paging::BatchEnd::of_rows(&rows)))
                });
                let (rows, next) = portion.expect("it can be read");
                found.push(rows);
                after = next;
                if after.is_none() {
                    return found;
                }
            }
        };
        assert_eq!((portions(255), portions(256), portions(257)), (vec![255], vec![256, 0], vec![256, 1]));
    }
}
