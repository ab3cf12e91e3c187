//! What becomes of a subscription whose NOTIFY was answered, or was not.
use crate::host::log;
use crate::limited;
use crate::presence::history::ended::Cause;
use crate::presence::ports::recorder::Recorder;
use crate::presence::ports::subscriptions::Subscriptions;
use crate::presence::subscription::Status;
use crate::presence::subscription::dialog::DialogId;
use crate::presence::subscription::field::Field;
use crate::presence::winfo::watcher_changes;
use crate::presence::winfo::{Extent, Watcher};
use crate::server::announcing::ownership;
use crate::server::announcing::subscriptions::{self, Ends};
use crate::server::cluster::activation;
use crate::server::context::Context;

/// Ends a subscription where the answer to its NOTIFY says so (RFC 6665 4.2.2), and remembers a failure.
pub fn apply(context: &mut Context<'_>, dialog: DialogId<'_>, cseq: u32, code: u16) {
    if code >= 300 {
        context.shared.tables.record_failure(dialog, cseq, code);
    }
    if code == 500 && context.config.shares_subscriptions {
        activation::go_above_refused(context, dialog, cseq);
    }
    let removed = context.config.notify_failures.end(code) || (code == 408 && context.config.remove_on_timeout);
    // What another node has gone on with meanwhile is not ours to end.
    if removed && ownership::is_served_here(context, dialog) {
        let of_stock = ownership::held_ownership(context, dialog).filter(|ownership| ownership.owner.is_stock());
        match context.drop_subscription(dialog) {
            Ok(Some(subscription)) => {
                if let Some(ownership) = of_stock {
                    subscriptions::announce_end(context, &subscription, ownership, Ends::ForGood);
                }
                let cause = Cause::Notify(code);
                context.note_end(&subscription, cause);
                let package = *context.packages.get(subscription.state.event);
                limited!(
                    Notice,
                    "subscription of {} to {} for {} at {}, Call-ID {}, removed: {}",
                    log::show(&subscription.watcher_uri()),
                    log::show(subscription.get(Field::PresUri)),
                    log::show(package.name),
                    log::show(subscription.get(Field::Contact)),
                    log::show(subscription.get(Field::CallId)),
                    cause.sentence()
                );
                let watcher = || Watcher { status: Status::Terminated, ..Watcher::of_subscription(&subscription) };
                let uri = subscription.get(Field::PresUri).to_vec();
                watcher_changes::notify(context, &package, &uri, watcher, Extent::Full);
            }
            Ok(None) => {}
            Err(error) => limited!(Error, "cannot remove a subscription whose NOTIFY was answered {code}: {error}"),
        }
    }
}
