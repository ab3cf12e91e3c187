//! Every metric: its name, kind, unit, labels and one sentence. docs/metrics.md describes the same, and a test compares
//! the two.

/// What Prometheus calls the type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// The number only rises, and begins at 0 with the server.
    Counter,
    /// The number rises and falls.
    Gauge,
    /// Durations by class.
    Histogram,
}

impl MetricType {
    /// The word in the exposition format.
    pub fn word(self) -> &'static str {
        match self {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// The metric's name, as Prometheus stores it.
    pub name: &'static str,
    /// The metric's type.
    pub kind: MetricType,
    /// What is counted or measured.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
}

macro_rules! families {
    ($($name:ident => $kind:ident $metric:literal $unit:literal [$($label:literal)*] $help:literal;)*) => {
        /// The name of a metric in the code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names say it")]
        pub enum Family { $($name),* }

        /// All of them, in the order of the page.
        pub const ALL: &[(Family, Definition)] = &[$((Family::$name, Definition {
            name: $metric, kind: MetricType::$kind, unit: $unit, labels: &[$($label),*], help: $help,
        })),*];
    };
}

families! {
    BuildInfo => Gauge "presence_build_info" "1"
        ["name" "version" "commit" "kamailio" "subscriptions" "publications"]
        "Which module runs, for which Kamailio it was built, and where it keeps subscriptions and publications.";
    StartTime => Gauge "presence_start_time_seconds" "seconds" [] "When the server started, in seconds since 1970.";
    PublishResponses => Counter "presence_publish_responses_total" "requests" ["event" "code"]
        "PUBLISH requests by the status code of their answer.";
    SubscribeResponses => Counter "presence_subscribe_responses_total" "requests" ["event" "code"]
        "SUBSCRIBE requests by the status code of their answer.";
    NotifySent => Counter "presence_notify_sent_total" "requests" ["event" "reason"]
        "NOTIFY requests sent, by what made them due.";
    NotifyUnsent => Counter "presence_notify_unsent_total" "requests" ["event"]
        "NOTIFY requests that could not be sent.";
    NotifyResponses => Counter "presence_notify_responses_total" "requests" ["event" "code"]
        "NOTIFY requests by the status code of their answer; timeout where none came.";
    NotifyRoundTrip => Histogram "presence_notify_round_trip_seconds" "seconds" ["event"]
        "Time from a NOTIFY to its answer, of those that were answered.";
    ChangeNotified => Histogram "presence_change_notified_seconds" "seconds" ["event"]
        "Time from a PUBLISH, or another change of the documents, until the last watcher's NOTIFY was sent.";
    Subscriptions => Gauge "presence_subscriptions" "subscriptions" ["event" "status"]
        "Subscriptions that this node serves.";
    Replicas => Gauge "presence_subscription_replicas" "subscriptions" ["event"]
        "Copies of subscriptions that other nodes serve.";
    Ended => Counter "presence_subscriptions_ended_total" "subscriptions" ["event" "reason"]
        "Subscriptions that have ended, by what ended them.";
    TakenOver => Counter "presence_subscriptions_taken_over_total" "subscriptions" []
        "Subscriptions of lost nodes that this one went on with.";
    Publications => Gauge "presence_publications" "publications" ["event"] "Publications that are stored.";
    Presentities => Gauge "presence_presentities" "presentities" ["event"]
        "Presentities with at least one publication.";
    PublicationsExpired => Counter "presence_publications_expired_total" "publications" []
        "Publications that ran out because nobody refreshed them.";
    DocumentsUnreadable => Counter "presence_documents_unreadable_total" "documents" []
        "Stored documents that their event package cannot read and that are passed over.";
    BodiesUnexpected => Counter "presence_bodies_unexpected_total" "documents" []
        "Bodies of event packages that were not as predicted.";
    ChangesCollapsed => Counter "presence_changes_collapsed_total" "changes" []
        "Changes that watchers are notified of together with a newer one.";
    FanoutsHandedOver => Counter "presence_fanouts_handed_over_total" "changes" []
        "Changes with many watchers that were handed to the sender processes.";
    FanoutsWaiting => Gauge "presence_fanouts_waiting" "changes" [] "Changes that wait for a sender process.";
    FanoutOldestAge => Gauge "presence_fanout_oldest_age_seconds" "seconds" []
        "How long the oldest change has waited for a sender process.";
    LockWait => Histogram "presence_lock_wait_seconds" "seconds" ["lock"]
        "Waits for locks that another process held; a lock that is free at once is not counted.";
    Database => Histogram "presence_database_seconds" "seconds" ["operation"]
        "Time that statements and transactions of presence took in the database.";
    DatabaseErrors => Counter "presence_database_errors_total" "statements" []
        "Statements and transactions of presence that failed.";
    RowGroups => Counter "presence_database_row_groups_total" "transactions" []
        "Transactions that wrote several rows.";
    RowGroupRows => Counter "presence_database_row_group_rows_total" "rows" []
        "Rows that were written in transactions of several rows.";
    RowsRefused => Counter "presence_database_rows_refused_total" "rows" []
        "Rows that the database does not take; others are written all the same.";
    RowsWaiting => Gauge "presence_database_rows_waiting" "rows" [] "Rows that wait to be written back.";
    DmqSent => Counter "presence_dmq_messages_sent_total" "messages" [] "Messages to other nodes.";
    DmqReceived => Counter "presence_dmq_messages_received_total" "messages" [] "Messages of other nodes.";
    DmqRejected => Counter "presence_dmq_messages_rejected_total" "messages" []
        "Messages of other nodes that were refused.";
    DmqLimited => Counter "presence_dmq_messages_limited_total" "messages" []
        "Messages to the cluster beyond what one address may send in a second.";
    RequestsRelayed => Counter "presence_requests_relayed_total" "requests" []
        "Requests that were sent on to the nodes that serve them.";
    NodeUp => Gauge "presence_node_up" "1" ["node"]
        "Other nodes that run this module: 1 where the node answers, 0 where it does not.";
    LeaseHeld => Gauge "presence_lease_held" "1" []
        "Whether this node holds a lease of the arbiter, and may send NOTIFYs; 0 without an arbiter.";
    LeaseRenewals => Counter "presence_lease_renewals_total" "statements" []
        "Times that this node has renewed its lease.";
    LeasesLost => Counter "presence_leases_lost_total" "leases" []
        "Leases of this node that another one has taken over.";
    LeasesTakenOver => Counter "presence_leases_taken_over_total" "leases" []
        "Leases of other nodes that this one has taken over.";
    LeaseFailures => Counter "presence_lease_failures_total" "statements" []
        "Times that the table of leases could not be used.";
    SharedMemorySize => Gauge "presence_shared_memory_size_bytes" "bytes" []
        "Shared memory of the whole server, as the option -m grants it.";
    SharedMemoryFree => Gauge "presence_shared_memory_free_bytes" "bytes" []
        "Shared memory of the whole server that is free.";
    LogLinesLeftOut => Counter "presence_log_lines_left_out_total" "lines" []
        "Lines that were left out of the log because there were many of one cause.";
    PuaBuildInfo => Gauge "pua_build_info" "1" ["name" "version"] "Which module runs.";
    PuaSent => Counter "pua_requests_sent_total" "requests" ["method"] "Requests that pua has sent.";
    PuaUnsent => Counter "pua_requests_unsent_total" "requests" []
        "Requests of pua that could not be sent, or were dropped by the script.";
    PuaResponses => Counter "pua_responses_total" "requests" ["method" "code"]
        "Requests of pua by the status code of their answer; timeout where none came.";
    PuaQueued => Counter "pua_requests_queued_total" "requests" []
        "Requests of pua that waited for the answer to an earlier one.";
    PuaRetried => Counter "pua_requests_retried_total" "requests" [] "Requests of pua that were tried again.";
    PuaPending => Gauge "pua_requests_pending" "requests" []
        "Requests of pua that are under way or wait for another try.";
    PuaPublications => Gauge "pua_publications" "publications" [] "Publications that pua keeps alive, in memory.";
    PuaSubscriptions => Gauge "pua_subscriptions" "subscriptions" [] "Subscriptions that pua keeps alive, in memory.";
    PuaDatabase => Histogram "pua_database_seconds" "seconds" ["operation"]
        "Time that statements and transactions of pua took in the database.";
    PuaDatabaseErrors => Counter "pua_database_errors_total" "statements" []
        "Statements and transactions of pua that failed.";
}

impl Family {
    /// What the table says of it.
    pub fn definition(self) -> &'static Definition {
        &ALL[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for (place, (family, of)) in ALL.iter().enumerate() {
            assert_eq!(*family as usize, place);
            assert_eq!(of.kind == MetricType::Counter, of.name.ends_with("_total"), "{}", of.name);
            assert_eq!(of.unit == "seconds", of.name.ends_with("_seconds"), "{}", of.name);
            assert_eq!(of.unit == "bytes", of.name.ends_with("_bytes"), "{}", of.name);
            assert!(of.help.ends_with('.') && !of.help.contains(['\\', '\n']), "{}", of.name);
        }
    }

    /// The sections of docs/metrics.md: name and text.
    fn sections() -> Vec<(&'static str, &'static str)> {
        let parts = DOCUMENT.split("\n### `").skip(1);
        parts
            .filter_map(|part| part.split_once("`\n"))
            .map(|(name, text)| (name, text.split("\n## ").next().unwrap_or(text)))
            .collect()
    }

    #[test]
    fn the_document_describes_each_metric_as_the_table_does() {
        let sections = sections();
        let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ALL.iter().map(|(_, of)| of.name).collect::<Vec<_>>(), "in the order of the page");
        for ((_, of), (_, text)) in ALL.iter().zip(sections) {
            let labels: Vec<String> = of.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "none".into() } else { labels.join(", ") };
            let first = format!("\n{}, unit: {}, labels: {labels}\n\n{}", of.kind.word(), of.unit, of.help);
            assert!(text.starts_with(&first), "{}: wanted{first}", of.name);
            assert!(text.contains("\n**What to do:** "), "{}: what to do is missing", of.name);
        }
    }
}
