//! What is counted (groups `presence` and `pua` of the host's statistics).
use crate::host::counters::{self, AtomicHandle};
use std::ffi::CStr;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => ($group:expr, $text:expr, $help:expr),)*) => {
        /// A counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name),* }

        const ALL: &[(Counter, &CStr, &CStr, &CStr)] = &[$((Counter::$name, $group, $text, $help)),*];
    };
}

counters! {
    /// PUBLISH requests answered 2xx.
    Publish2xx => (c"presence", c"publish_2xx", c"PUBLISH requests answered 2xx"),
    /// PUBLISH requests answered 400.
    Publish400 => (c"presence", c"publish_400", c"PUBLISH requests answered 400"),
    /// PUBLISH requests answered 412.
    Publish412 => (c"presence", c"publish_412", c"PUBLISH requests answered 412"),
    /// PUBLISH requests answered 415.
    Publish415 => (c"presence", c"publish_415", c"PUBLISH requests answered 415"),
    /// PUBLISH requests answered 423.
    Publish423 => (c"presence", c"publish_423", c"PUBLISH requests answered 423"),
    /// PUBLISH requests answered 489.
    Publish489 => (c"presence", c"publish_489", c"PUBLISH requests answered 489"),
    /// PUBLISH requests answered with another 4xx.
    Publish4xx => (c"presence", c"publish_4xx", c"PUBLISH requests answered with another 4xx"),
    /// PUBLISH requests answered 5xx.
    Publish5xx => (c"presence", c"publish_5xx", c"PUBLISH requests answered 5xx"),
    /// SUBSCRIBE requests answered 2xx.
    Subscribe2xx => (c"presence", c"subscribe_2xx", c"SUBSCRIBE requests answered 2xx"),
    /// SUBSCRIBE requests answered 400.
    Subscribe400 => (c"presence", c"subscribe_400", c"SUBSCRIBE requests answered 400"),
    /// SUBSCRIBE requests answered 423.
    Subscribe423 => (c"presence", c"subscribe_423", c"SUBSCRIBE requests answered 423"),
    /// SUBSCRIBE requests answered 481.
    Subscribe481 => (c"presence", c"subscribe_481", c"SUBSCRIBE requests answered 481"),
    /// SUBSCRIBE requests answered 489.
    Subscribe489 => (c"presence", c"subscribe_489", c"SUBSCRIBE requests answered 489"),
    /// SUBSCRIBE requests answered with another 4xx.
    Subscribe4xx => (c"presence", c"subscribe_4xx", c"SUBSCRIBE requests answered with another 4xx"),
    /// SUBSCRIBE requests answered 5xx.
    Subscribe5xx => (c"presence", c"subscribe_5xx", c"SUBSCRIBE requests answered 5xx"),
    /// NOTIFY requests sent.
    NotifySent => (c"presence", c"notify_sent", c"NOTIFY requests sent"),
    /// NOTIFY requests that could not be sent.
    NotifyUnsent => (c"presence", c"notify_unsent", c"NOTIFY requests that could not be sent"),
    /// NOTIFY requests answered 2xx.
    Notify2xx => (c"presence", c"notify_2xx", c"NOTIFY requests answered 2xx"),
    /// NOTIFY requests answered 3xx.
    Notify3xx => (c"presence", c"notify_3xx", c"NOTIFY requests answered 3xx"),
    /// NOTIFY requests answered 4xx.
    Notify4xx => (c"presence", c"notify_4xx", c"NOTIFY requests answered 4xx"),
    /// NOTIFY requests answered 5xx.
    Notify5xx => (c"presence", c"notify_5xx", c"NOTIFY requests answered 5xx"),
    /// NOTIFY requests answered 6xx.
    Notify6xx => (c"presence", c"notify_6xx", c"NOTIFY requests answered 6xx"),
    /// NOTIFY requests without an answer.
    NotifyTimeout => (c"presence", c"notify_timeout", c"NOTIFY requests without an answer"),
    /// NOTIFY requests sent without tm.
    NotifyDirect => (c"presence", c"notify_direct", c"NOTIFY requests sent without tm"),
    /// NOTIFY requests sent through tm.
    NotifyByTm => (c"presence", c"notify_by_tm", c"NOTIFY requests sent through tm"),
    /// NOTIFY requests that tm was given because all slots were taken.
    NotifySlotsFull => (c"presence", c"notify_slots_full",
        c"NOTIFY requests that went through tm because notify_slots were under way"),
    /// NOTIFY requests sent again.
    NotifyResent => (c"presence", c"notify_retransmissions", c"NOTIFY requests sent again, without tm"),
    /// NOTIFY requests that the host could not send.
    NotifyTransportErrors => (c"presence", c"notify_transport_errors",
        c"NOTIFY requests that the network did not take, without tm"),
    /// Writes to a connection with several NOTIFYs.
    NotifyJoinedWrites => (c"presence", c"notify_joined_writes",
        c"writes to a connection that carried several NOTIFY requests, without tm"),
    /// Answers that came again or too late.
    NotifyAnswersLate => (c"presence", c"notify_answers_late", c"answers to NOTIFY requests that came again or \
        too late"),
    /// Answers that look like those to NOTIFYs of ours, and are not.
    NotifyAnswersForeign => (c"presence", c"notify_answers_foreign",
        c"answers that look like those to NOTIFY requests of ours, and are not"),
    /// Answers that were taken before a message was made of them.
    NotifyAnswersEarly => (c"presence", c"notify_answers_early",
        c"answers to NOTIFY requests that were taken before a message was made of them"),
    /// Answers from another address.
    NotifyAnswersElsewhere => (c"presence", c"notify_answers_elsewhere",
        c"answers to NOTIFY requests that came from another address than the request went to"),
    /// Changes that went out together with a newer one.
    Collapsed => (c"presence", c"changes_collapsed", c"changes that were notified together with a newer one"),
    /// Changes of which not all watchers could be notified at once.
    ChangesMissed =>
        (c"presence", c"changes_missed", c"changes of which not all watchers could be notified at once"),
    /// Changes handed to sender processes.
    HandedOver => (c"presence", c"fanouts_handed_over", c"changes handed to sender processes"),
    /// Changes handed to sender processes because too many NOTIFYs waited for their answer.
    HandedOverForPace => (c"presence", c"fanouts_paced",
        c"changes handed to sender processes because too many NOTIFY requests waited for their answer"),
    /// Subscriptions that ran out.
    SubscriptionsExpired => (c"presence", c"subscriptions_expired", c"subscriptions that ran out"),
    /// Publications that ran out.
    PublicationsExpired => (c"presence", c"publications_expired", c"publications that ran out"),
    /// Stored documents that their package cannot read.
    DocumentsUnreadable =>
        (c"presence", c"documents_unreadable", c"stored documents that their package cannot read and are \
            passed over"),
    /// Statements and transactions that wrote to the database.
    DbWrites => (c"presence", c"db_writes", c"statements and transactions that wrote to the database"),
    /// Transactions of several rows.
    DbGroups => (c"presence", c"db_groups", c"transactions of several rows"),
    /// Rows written in such transactions.
    DbGroupRows => (c"presence", c"db_group_rows", c"rows written in transactions of several rows"),
    /// Statements that another process has written with its own.
    DbSharedCommits => (c"presence", c"db_shared_commits",
        c"statements that another process has written with its own, in one transaction"),
    /// Statements and transactions that failed.
    DbErrors => (c"presence", c"db_errors", c"statements and transactions that failed"),
    /// Bodies of event packages that were not as expected.
    Mispredicted => (c"presence", c"bodies_unexpected", c"bodies of event packages that were not as expected"),
    /// Bodies that were made here in place of an event package.
    Predicted => (c"presence", c"bodies_predicted", c"bodies that were made in place of an event package"),
    /// Checks of presence_xml that were left out.
    ChecksOmitted => (c"presence", c"checks_omitted", c"checks of presence_xml that were left out"),
    /// Documents that presence_xml refused against expectation.
    ChecksUnexpected =>
        (c"presence", c"checks_unexpected", c"documents that presence_xml refused against expectation"),
    /// Rows that the database refused; others were written all the same.
    DbRowsRefused => (c"presence", c"db_rows_refused", c"rows that the database refused"),
    /// Messages to other nodes.
    DmqSent => (c"presence", c"dmq_sent", c"messages to other nodes"),
    /// Messages of other nodes.
    DmqReceived => (c"presence", c"dmq_received", c"messages of other nodes"),
    /// Messages of other nodes that were refused.
    DmqRejected => (c"presence", c"dmq_rejected", c"messages of other nodes that were refused"),
    /// Messages to other nodes that these refused.
    DmqRefused => (c"presence", c"dmq_refused", c"messages to other nodes that these refused"),
    /// Messages of other nodes and of strangers beyond what one address may send in a second.
    DmqLimited =>
        (c"presence", c"dmq_limited", c"messages to the cluster beyond what one address may send in a second"),
    /// Records that another node holds differently, however often they are exchanged.
    DifferencesUnsettled => (c"presence", c"dmq_differences_unsettled",
        c"records that another node holds differently, however often they are exchanged"),
    /// Requests that were sent on to the nodes that serve them.
    RequestsRelayed => (c"presence", c"requests_relayed", c"requests that were sent on to the nodes that serve them"),
    /// Subscriptions of other nodes that this one went on with.
    TakenOver => (c"presence", c"subscriptions_taken_over", c"subscriptions of other nodes that this one went on with"),
    /// Beats of the lease of this node.
    LeaseBeats => (c"presence", c"lease_renewals", c"times that this node has renewed its lease"),
    /// Leases of this node that another one has taken over.
    LeasesLost => (c"presence", c"leases_lost", c"leases of this node that another one has taken over"),
    /// Leases of other nodes that this one has taken over.
    LeasesTakenOver => (c"presence", c"leases_taken_over", c"leases of other nodes that this one has taken over"),
    /// Seconds in which the table of leases could not be used.
    LeaseFailures => (c"presence", c"lease_failures", c"times that the table of leases could not be used"),
    /// PUBLISH requests sent.
    PuaPublish => (c"pua", c"publish_sent", c"PUBLISH requests sent"),
    /// SUBSCRIBE requests sent.
    PuaSubscribe => (c"pua", c"subscribe_sent", c"SUBSCRIBE requests sent"),
    /// Requests that could not be sent, or were dropped by the script.
    PuaUnsent => (c"pua", c"unsent", c"requests that could not be sent, or were dropped by the script"),
    /// Requests answered 2xx.
    PuaGranted => (c"pua", c"answers_2xx", c"requests answered 2xx"),
    /// Requests answered otherwise.
    PuaFailed => (c"pua", c"answers_failed", c"requests answered otherwise"),
    /// Requests without an answer.
    PuaSilence => (c"pua", c"timeouts", c"requests without an answer"),
    /// Requests that waited for an answer to an earlier one.
    PuaQueued => (c"pua", c"queued", c"requests that waited for an answer to an earlier one"),
    /// Requests tried again after a wait.
    PuaRetried => (c"pua", c"retries", c"requests tried again after a wait"),
}

/// The handles of the counters, which are set once, before the processes fork.
static HANDLES: [AtomicHandle; ALL.len()] = [const { AtomicHandle::new() }; ALL.len()];

/// The counters of a group: name, and what it counts.
#[cfg(test)]
pub fn described(group: &CStr) -> impl Iterator<Item = (&'static CStr, &'static CStr)> {
    ALL.iter().filter(move |(_, of, ..)| *of == group).map(|(_, _, name, help)| (*name, *help))
}

/// Registers the counters of a group; call in `mod_init`.
pub fn register(group: &CStr) {
    for (counter, of, name, doc) in ALL.iter().filter(|(_, of, ..)| *of == group) {
        if let Some(handle) = counters::register(of, name, doc) {
            HANDLES[*counter as usize].set(handle);
        }
    }
}

/// Counts one; nothing before [`register`].
pub fn count(counter: Counter) {
    count_many(counter, 1);
}

/// Counts several; nothing before [`register`].
pub fn count_many(counter: Counter, many: usize) {
    if let Some(handle) = HANDLES[counter as usize].get() {
        handle.add(i32::try_from(many).unwrap_or(i32::MAX));
    }
}

/// What was counted in all processes; 0 before [`register`].
pub fn value(counter: Counter) -> u64 {
    let handle = HANDLES[counter as usize].get();
    handle.map_or(0, |handle| u64::try_from(handle.value()).unwrap_or(0))
}

/// The counter of an answer to a PUBLISH.
pub fn of_publish(code: u16) -> Counter {
    match code {
        ..300 => Counter::Publish2xx,
        400 => Counter::Publish400,
        412 => Counter::Publish412,
        415 => Counter::Publish415,
        423 => Counter::Publish423,
        489 => Counter::Publish489,
        300..500 => Counter::Publish4xx,
        _ => Counter::Publish5xx,
    }
}

/// The counter of an answer to a SUBSCRIBE.
pub fn of_subscribe(code: u16) -> Counter {
    match code {
        ..300 => Counter::Subscribe2xx,
        400 => Counter::Subscribe400,
        423 => Counter::Subscribe423,
        481 => Counter::Subscribe481,
        489 => Counter::Subscribe489,
        300..500 => Counter::Subscribe4xx,
        _ => Counter::Subscribe5xx,
    }
}

/// The counter of an answer to a NOTIFY; `None`: there was none.
pub fn of_notify(code: Option<u16>) -> Counter {
    let Some(code) = code else { return Counter::NotifyTimeout };
    match code {
        ..300 => Counter::Notify2xx,
        300..400 => Counter::Notify3xx,
        400..500 => Counter::Notify4xx,
        500..600 => Counter::Notify5xx,
        _ => Counter::Notify6xx,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_place() {
        for (place, (counter, ..)) in ALL.iter().enumerate() {
            assert_eq!(*counter as usize, place);
        }
        count(Counter::DbWrites);
    }
}
